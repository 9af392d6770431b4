//! The writable disk of a machine: an ext4 filesystem that a hostile guest has written to.
//!
//! The image is only read. If the machine did not unmount it, its journal is replayed into memory,
//! as far as that goes within a bound, and the replayed blocks are seen instead of the image's.
//!
//! The guest is root on this filesystem and may have put anything there. So: features that pyro's
//! disks never have are refused at the door; sizes are checked before they are believed; every
//! directory has one parent, so that a walk ends; and a panic in the parser is an error.

mod device;
mod extents;
pub mod image;
mod journal;
mod xattr;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fs_ext4::block_io::BlockDevice;
use fs_ext4::dir::{DirEntry, DirEntryType, parse_block, parse_block_verified};
use fs_ext4::features::Incompat;
use fs_ext4::inode::{Inode, InodeFlags};
use fs_ext4::{Filesystem, Superblock};
use pyro_contract::diff::FileKind;

use self::device::ReplayDevice;
use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

const ROOT: u32 = 2;
/// What one directory may take on the disk: a million of the longest names.
const DIRECTORY_MAX: u64 = 256 << 20;
/// The most names one directory may have.
const ENTRIES_MAX: usize = 1 << 20;
const LINK_MAX: u64 = 4096;

/// Features of disks that pyro makes, or that do not change where things are found.
const KNOWN_FEATURES: Incompat = Incompat::FILETYPE
    .union(Incompat::RECOVER)
    .union(Incompat::META_BG)
    .union(Incompat::EXTENTS)
    .union(Incompat::BIT64)
    .union(Incompat::FLEX_BG)
    .union(Incompat::CSUM_SEED)
    .union(Incompat::LARGEDIR);

/// A tree in an ext4 image, read without mounting it.
pub struct Ext4Layer {
    filesystem: Filesystem,
    /// File data is read from here directly, in long runs.
    device: Arc<ReplayDevice>,
    replayed: bool,
    /// The parent of every directory that was listed.
    parents: Mutex<HashMap<u32, u32>>,
    /// The directory listed last: lookups come in bunches.
    listing: Mutex<Option<(u32, Arc<[Entry]>)>>,
}

impl Ext4Layer {
    /// Opens the image at a path.
    ///
    /// # Errors
    /// [`LayerError::Io`] if the file cannot be read, [`LayerError::Damaged`] if it is not a
    /// filesystem that pyro made, [`LayerError::TooLarge`] if its journal is.
    pub fn open(path: &Path) -> Result<Self> {
        let attempt = || format!("cannot open the disk {}", path.display());
        Self::from_file(File::open(path).map_err(LayerError::io(attempt()))?)
    }

    /// Reads the image in an open file.
    ///
    /// # Errors
    /// As [`Ext4Layer::open`].
    pub fn from_file(file: File) -> Result<Self> {
        let device = Arc::new(ReplayDevice::new(file)?);
        let superblock = guarded(|| Superblock::read(device.as_ref()))?;
        let unknown = superblock.feature_incompat & !KNOWN_FEATURES.bits();
        if unknown != 0 {
            return Err(damaged(format!("it has unknown features ({unknown:#x})")));
        }
        if superblock.feature_incompat & Incompat::FILETYPE.bits() == 0 {
            return Err(damaged("its directories do not tell what their entries are"));
        }
        guarded(|| superblock.check_fits_device(device.size_bytes()))?;
        let dirty = superblock.feature_incompat & Incompat::RECOVER.bits() != 0;
        let filesystem = journal::mount(&device, dirty)?;
        Ok(Self {
            filesystem,
            device,
            replayed: dirty,
            parents: Mutex::new(HashMap::new()),
            listing: Mutex::new(None),
        })
    }

    /// True if the machine had not unmounted the filesystem, and its journal was replayed.
    #[must_use]
    pub fn was_replayed(&self) -> bool {
        self.replayed
    }

    fn inode(&self, node: Node) -> Result<(u32, Inode, Vec<u8>)> {
        let number = node.0 as u32;
        if number != ROOT && number < self.filesystem.sb.first_inode {
            return Err(damaged("an entry names a reserved inode"));
        }
        let (inode, raw) = guarded(|| self.filesystem.read_inode_verified(number))?;
        if inode.links_count == 0 {
            return Err(damaged("an entry names a deleted file"));
        }
        if inode.flags & (InodeFlags::INLINE_DATA | InodeFlags::ENCRYPT).bits() != 0 {
            return Err(damaged("a file has its content where pyro's disks have none"));
        }
        // Block numbers in a file have 32 bits: nothing larger can exist.
        if inode.size > u64::from(self.filesystem.sb.block_size()) << 32 {
            return Err(damaged("a file claims an impossible size"));
        }
        if node != node_of(number, kind_of(inode.mode)? == FileKind::Directory) {
            return Err(damaged("an entry says of a directory that it is none, or the reverse"));
        }
        Ok((number, inode, raw))
    }

    fn inode_of(&self, node: Node, kind: FileKind) -> Result<(u32, Inode, Vec<u8>)> {
        let (number, inode, raw) = self.inode(node)?;
        if kind_of(inode.mode)? != kind {
            return Err(damaged("an entry is of another kind than expected"));
        }
        Ok((number, inode, raw))
    }

    /// Reads content; the rest of the buffer if the content ends first.
    fn read_content(
        &self,
        number: u32,
        inode: &Inode,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let block_size = u64::from(self.filesystem.sb.block_size());
        let wanted = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut rest = &mut buffer[..wanted];
        let mut at = offset;
        while !rest.is_empty() {
            let run =
                guarded(|| extents::run_at(&self.filesystem, number, inode, at / block_size))?;
            let in_run = run.blocks.saturating_mul(block_size) - at % block_size;
            let (piece, after) = rest.split_at_mut(in_run.min(rest.len() as u64) as usize);
            match run.physical {
                None => piece.fill(0),
                Some(block) => {
                    let start = block.checked_mul(block_size).ok_or_else(|| {
                        damaged("a file's content lies behind the end of the disk")
                    })?;
                    guarded(|| self.device.read_at(start + at % block_size, piece))?;
                }
            }
            at += piece.len() as u64;
            rest = after;
        }
        Ok(wanted)
    }

    fn listing(&self, dir: Node) -> Result<Arc<[Entry]>> {
        let (number, inode, _) = self.inode_of(dir, FileKind::Directory)?;
        if let Some((last, entries)) = &*self.last_listing()
            && *last == number
        {
            return Ok(Arc::clone(entries));
        }
        let entries: Arc<[Entry]> = self.list(number, &inode)?.into();
        *self.last_listing() = Some((number, Arc::clone(&entries)));
        Ok(entries)
    }

    fn last_listing(&self) -> std::sync::MutexGuard<'_, Option<(u32, Arc<[Entry]>)>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, number: u32, inode: &Inode) -> Result<Vec<Entry>> {
        if inode.size > DIRECTORY_MAX {
            return Err(LayerError::TooLarge(format!(
                "a directory on the disk takes {} MiB; {} are the limit",
                inode.size >> 20,
                DIRECTORY_MAX >> 20
            )));
        }
        let filesystem = &self.filesystem;
        let block_size = u64::from(filesystem.sb.block_size());
        let mut found = Vec::new();
        let mut logical = 0;
        while logical < inode.size.div_ceil(block_size) {
            let run = guarded(|| extents::run_at(filesystem, number, inode, logical))?;
            if let Some(physical) = run.physical {
                found.extend(guarded(|| {
                    let block = filesystem.read_block(physical)?;
                    if is_index(inode, logical, &block) {
                        return parse_block(&block, true);
                    }
                    parse_block_verified(&block, true, number, inode.generation, &filesystem.csum)
                })?);
            }
            logical += if run.physical.is_some() { 1 } else { run.blocks };
            if found.len() > ENTRIES_MAX {
                return Err(LayerError::TooLarge(format!(
                    "a directory on the disk has more than {ENTRIES_MAX} entries"
                )));
            }
        }
        self.check_parents(number, &found)?;
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter(|entry| !is_dot(entry))
            .map(|entry| Entry {
                node: node_of(entry.inode, is_directory(&entry)),
                name: entry.name,
            })
            .collect();
        entries.sort_unstable();
        let odd = |name: &[u8]| name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'/'));
        if entries.iter().any(|entry| odd(&entry.name))
            || entries.windows(2).any(|pair| pair[0].name == pair[1].name)
        {
            return Err(damaged("a directory has an impossible name, or one name twice"));
        }
        Ok(entries)
    }

    /// Makes sure that the directories form a tree. The guest could hang one into itself, and
    /// whoever walks the tree would never come back.
    fn check_parents(&self, number: u32, found: &[DirEntry]) -> Result<()> {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        let up = found.iter().find(|entry| entry.name == b"..").map(|entry| entry.inode);
        let expected = if number == ROOT { Some(ROOT) } else { parents.get(&number).copied() };
        if up != expected {
            return Err(damaged("a directory is not where it says it is"));
        }
        let mut here = HashSet::new();
        for entry in found.iter().filter(|entry| is_directory(entry) && !is_dot(entry)) {
            let known = parents.insert(entry.inode, number);
            let elsewhere = known.is_some_and(|known| known != number);
            if entry.inode == ROOT || elsewhere || !here.insert(entry.inode) {
                return Err(damaged("a directory is in two places"));
            }
        }
        Ok(())
    }
}

impl Layer for Ext4Layer {
    fn root(&self) -> Node {
        node_of(ROOT, true)
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        let (_, inode, _) = self.inode(node)?;
        let kind = kind_of(inode.mode)?;
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        Ok(Meta {
            kind,
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            size: match kind {
                FileKind::File | FileKind::Symlink => inode.size,
                _ => 0,
            },
            mtime: inode.mtime,
            rdev: if device { device_number(&inode.block) } else { (0, 0) },
        })
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        Ok(self.listing(dir)?.to_vec())
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        let entries = self.listing(dir)?;
        let found = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name));
        Ok(found.ok().map(|at| entries[at].node))
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (number, inode, _) = self.inode_of(file, FileKind::File)?;
        self.read_content(number, &inode, offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        let (number, inode, _) = self.inode_of(link, FileKind::Symlink)?;
        if inode.size == 0 || inode.size > LINK_MAX {
            return Err(damaged("a symbolic link has an impossible length"));
        }
        let mut target = vec![0; inode.size as usize];
        // A target that fits is held where others have their block numbers.
        match inode.block.get(..target.len()) {
            Some(held) if target.len() < inode.block.len() => target.copy_from_slice(held),
            _ => {
                self.read_content(number, &inode, 0, &mut target)?;
            }
        }
        if target.contains(&0) {
            return Err(damaged("the target of a symbolic link holds a NUL byte"));
        }
        Ok(target)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        let (_, inode, raw) = self.inode_of(dir, FileKind::Directory)?;
        guarded(|| xattr::is_opaque(&self.filesystem, &inode, &raw))
    }
}

/// True if a directory's block is part of its hash tree. Such a block has a checksum of its own
/// form, but may still carry the mark of the common one from when it held names.
fn is_index(inode: &Inode, logical: u64, block: &[u8]) -> bool {
    let is_node = || {
        // One empty entry over the whole block hides the tree from those that do not know it.
        block[..4] == [0; 4]
            && u32::from(u16::from_le_bytes([block[4], block[5]])) == block.len() as u32
    };
    inode.flags & InodeFlags::INDEX.bits() != 0 && (logical == 0 || is_node())
}

/// A node also holds what its entry said: that a directory has one parent is known only of
/// entries that say they are directories, and no other may lead to one.
fn node_of(number: u32, directory: bool) -> Node {
    Node(u64::from(number) | u64::from(directory) << 32)
}

fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type == DirEntryType::Directory
}

fn is_dot(entry: &DirEntry) -> bool {
    matches!(entry.name.as_slice(), b"." | b"..")
}

fn kind_of(mode: u16) -> Result<FileKind> {
    Ok(match mode & 0o170_000 {
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Symlink,
        0o020_000 => FileKind::CharDevice,
        0o060_000 => FileKind::BlockDevice,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        _ => return Err(damaged("a file is of no known kind")),
    })
}

/// The device number: the old 16-bit form in the first word, or else the new one in the second.
fn device_number(block: &[u8; 60]) -> (u32, u32) {
    let word =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    match (word(0), word(4)) {
        (0, new) => ((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xfff00)),
        (old, _) => ((old >> 8) & 0xff, old & 0xff),
    }
}

/// Calls into the parser, which was not written by us: its panics become damage.
fn guarded<T>(call: impl FnOnce() -> fs_ext4::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fs_ext4::Error::Io(source))) => {
            Err(LayerError::Io { attempt: "cannot read the disk".to_owned(), source })
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its structures contradict each other")),
    }
}

fn damaged(detail: impl Into<String>) -> LayerError {
    LayerError::Damaged { what: "writable disk", detail: detail.into() }
}
