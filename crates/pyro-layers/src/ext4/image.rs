//! Trees written into an ext4 image: a machine's merged disk, for other machines and for mounting.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use fs_ext4::block_io::BlockDevice;
use fs_ext4::{Error, Filesystem};
use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;

use super::{ROOT, guarded};
use crate::content::Content;
use crate::export::{Exported, Plan, Sink};
use crate::layer::{Layer, LayerError, Node, Result};

/// Blocks of an image, and pieces of a file that are left out if they are all zero.
const BLOCK: u64 = 4096;
/// How much of a file is written at once.
const PIECE: usize = 1 << 20;

/// What a tree takes in an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of its files, links and directories, in whole blocks.
    pub bytes: u64,
    /// Things that need an inode.
    pub inodes: u64,
}

/// Finds out what [`fill`] would write, without reading the content of any file.
///
/// # Errors
/// As [`fill`], but for those of writing.
pub fn measure(layer: &dyn Layer, root: Node, progress: &dyn Progress) -> Result<Footprint> {
    let mut measured = Measure(Footprint::default());
    Plan::new(layer, progress).run(b"", root, &mut measured)?;
    Ok(measured.0)
}

struct Measure(Footprint);

impl Measure {
    fn count(&mut self, content: &Content<'_>) {
        let size = content.meta().size.max(1);
        self.0.bytes = self.0.bytes.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        self.0.inodes += 1;
    }
}

impl Sink for Measure {
    fn enter(&mut self, _: &[u8], dir: &Content<'_>) -> Result<()> {
        self.count(dir);
        Ok(())
    }

    fn leave(&mut self, _: &Content<'_>) -> Result<()> {
        Ok(())
    }

    fn put(&mut self, _: &[u8], file: &Content<'_>) -> Result<()> {
        self.count(file);
        Ok(())
    }
}

/// Writes a directory and all that is in it into the root of an empty ext4 filesystem without a
/// journal. Owners, all mode bits, times, links and holes are kept; a file of several names stays
/// one file. Devices and sockets are left behind and named in the result.
///
/// # Errors
/// `Io` if the image cannot be written (a full disk stays recognizable in its source) or is too
/// small, `TooLarge` for a tree beyond bounds, or `Cancelled`. The image is then of no use.
pub fn fill(
    layer: &dyn Layer,
    root: Node,
    image: File,
    progress: &dyn Progress,
) -> Result<Exported> {
    let device = Arc::new(ImageDevice::new(image)?);
    let filesystem = write(|| Filesystem::mount(Arc::clone(&device) as Arc<dyn BlockDevice>))?;
    let mut image = Image { filesystem, inside: Vec::new(), written: HashMap::new(), progress };
    let exported = Plan::new(layer, progress).run(b"", root, &mut image)?;
    write(|| image.filesystem.finish())?;
    device.file.sync_all().map_err(LayerError::io("cannot write the image"))?;
    Ok(exported)
}

struct Image<'p> {
    filesystem: Filesystem,
    /// The directories that were entered, by their inodes.
    inside: Vec<u32>,
    /// What was written, so that a second name becomes a link to it.
    written: HashMap<Node, u32>,
    progress: &'p dyn Progress,
}

impl Image<'_> {
    fn here(&self) -> u32 {
        self.inside.last().copied().unwrap_or(ROOT)
    }

    /// Owner, mode and time of something that was just made.
    fn dress(&self, inode: u32, content: &Content<'_>) -> Result<()> {
        let meta = content.meta();
        let filesystem = &self.filesystem;
        if (meta.uid, meta.gid) != (0, 0) {
            write(|| filesystem.apply_chown_ino(inode, meta.uid, meta.gid))?;
        }
        if meta.kind != FileKind::Symlink {
            // After the owner, whose change drops setuid bits.
            write(|| filesystem.apply_chmod_ino(inode, meta.mode))?;
        }
        write(|| filesystem.apply_utimens_ino(inode, meta.mtime, 0, meta.mtime, 0))
    }

    fn copy(&self, inode: u32, file: &Content<'_>) -> Result<()> {
        let mut buffer = vec![0; PIECE.min(usize::try_from(file.meta().size).unwrap_or(PIECE))];
        let mut offset = 0;
        while offset < file.meta().size {
            if self.progress.cancelled() {
                return Err(LayerError::Cancelled);
            }
            let count = file.fill(offset, &mut buffer)?;
            for (at, run) in runs(&buffer[..count]) {
                let at = offset + at as u64;
                write(|| self.filesystem.apply_pwrite_ino(inode, at, run))?;
            }
            offset += count as u64;
        }
        // A hole at the end has nothing that would make the file so long.
        let ends_in_hole = write(|| self.filesystem.stat_ino(inode))?.size < file.meta().size;
        if ends_in_hole {
            write(|| self.filesystem.apply_truncate_ino(inode, file.meta().size))?;
        }
        Ok(())
    }
}

/// The parts of a piece that are not zero, in whole blocks.
fn runs(piece: &[u8]) -> Vec<(usize, &[u8])> {
    let block = BLOCK as usize;
    let mut runs: Vec<(usize, &[u8])> = Vec::new();
    let mut at = 0;
    for chunk in piece.chunks(block) {
        if chunk.iter().any(|byte| *byte != 0) {
            match runs.last_mut() {
                Some((start, run)) if *start + run.len() == at => {
                    *run = &piece[*start..at + chunk.len()];
                }
                _ => runs.push((at, chunk)),
            }
        }
        at += chunk.len();
    }
    runs
}

impl Sink for Image<'_> {
    fn enter(&mut self, name: &[u8], dir: &Content<'_>) -> Result<()> {
        let made = if self.inside.is_empty() {
            ROOT
        } else {
            let (filesystem, parent) = (&self.filesystem, self.here());
            write(|| filesystem.apply_mkdir_at(parent, name, dir.meta().mode & 0o777))?
        };
        self.inside.push(made);
        Ok(())
    }

    fn leave(&mut self, dir: &Content<'_>) -> Result<()> {
        // Only now does nothing change its time any more.
        let inode = self.here();
        self.dress(inode, dir)?;
        self.inside.pop();
        Ok(())
    }

    fn put(&mut self, name: &[u8], file: &Content<'_>) -> Result<()> {
        let (filesystem, parent) = (&self.filesystem, self.here());
        if let Some(&inode) = self.written.get(&file.node()) {
            return write(|| filesystem.apply_link_at(inode, parent, name));
        }
        let mode = file.meta().mode & 0o777;
        let made = match file.meta().kind {
            FileKind::Symlink => {
                let target = file.target()?.unwrap_or_else(|| BytePath::new(&b""[..]));
                write(|| filesystem.apply_symlink_at(parent, name, target.as_bytes()))?
            }
            FileKind::Fifo => {
                write(|| filesystem.apply_mknod_at(parent, name, S_IFIFO | mode, 0, 0))?
            }
            _ => {
                let made = write(|| filesystem.apply_create_at(parent, name, mode))?;
                self.copy(made, file)?;
                made
            }
        };
        self.dress(made, file)?;
        self.written.insert(file.node(), made);
        Ok(())
    }
}

/// inode(7).
const S_IFIFO: u16 = 0o010_000;

/// What went wrong is the host's affair: the image is ours, and nobody else writes to it.
fn write<T>(call: impl FnOnce() -> fs_ext4::Result<T>) -> Result<T> {
    guarded(call).map_err(|error| match error {
        LayerError::Damaged { detail, .. } => LayerError::Io {
            attempt: "cannot write the image".to_owned(),
            source: std::io::Error::other(detail),
        },
        other => other,
    })
}

/// The image, written to without a wait: it is synced once, at the end.
struct ImageDevice {
    file: File,
    len: u64,
}

impl ImageDevice {
    fn new(file: File) -> Result<Self> {
        let len = file.metadata().map_err(LayerError::io("cannot read the image"))?.len();
        Ok(Self { file, len })
    }

    fn check(&self, offset: u64, len: usize) -> fs_ext4::Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.len) { Ok(()) } else { Err(Error::OutOfBounds) }
    }
}

impl BlockDevice for ImageDevice {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> fs_ext4::Result<()> {
        self.check(offset, buffer.len())?;
        Ok(self.file.read_exact_at(buffer, offset)?)
    }

    fn size_bytes(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> fs_ext4::Result<()> {
        self.check(offset, bytes.len())?;
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    fn is_writable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_left_out_in_whole_blocks() {
        let block = BLOCK as usize;
        let mut piece = vec![0; 4 * block + 10];
        piece[block + 3] = 1;
        piece[2 * block] = 1;
        piece[4 * block + 9] = 1;
        let found: Vec<_> = runs(&piece).into_iter().map(|(at, run)| (at, run.len())).collect();
        assert_eq!(found, [(block, 2 * block), (4 * block, 10)]);
        assert!(runs(&vec![0; 9000]).is_empty());
    }
}
