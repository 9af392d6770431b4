//! Writing an image in one pass.
//!
//! A file's data and inode go to the image the moment it is added. What stays in memory is the
//! names, until [`ErofsWriter::finish`] writes the directories, the root among them at a place
//! kept for it in the first block (the superblock can only point so far).

use std::fs::File;

use pyro_contract::diff::FileKind;

use super::format::{
    self, BLOCK, BLOCK_LEN, DataLayout, INODE_LEN, Inode, NID_UNIT, NLINK_AT, SUPERBLOCK_AT,
    SUPERBLOCK_LEN, Superblock,
};
use super::node::{Content, NewNode, Source, encode_xattrs};
use super::space::{Shape, Space};
use super::tree::{Node, ROOT, Tree, shown};
use crate::layer::{LayerError, Result};

/// Data is moved in pieces of this many bytes, a multiple of the block.
const PIECE: usize = 1 << 20;

/// The root's inode follows the superblock.
pub(super) const ROOT_AT: u64 = SUPERBLOCK_AT + SUPERBLOCK_LEN as u64;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageStats {
    /// Files, directories and links, the top directory included.
    pub entries: u64,
    /// Bytes of content of regular files.
    pub content_bytes: u64,
    /// Length of the image. Zeros in it are holes where the filesystem below can have them.
    pub image_bytes: u64,
}

/// Builds one image. Paths are relative to its top directory; a leading slash means nothing.
///
/// ```
/// use pyro_layers::erofs::{Content, ErofsWriter, NewNode, ReadSource};
/// # fn main() -> Result<(), pyro_layers::LayerError> {
/// # let file = tempfile::tempfile().unwrap();
/// let mut writer = ErofsWriter::create(file)?;
/// let mut source = ReadSource(&b"hello\n"[..]);
/// let content = Content::File { size: 6, source: &mut source };
/// writer.add(b"docs/greeting", NewNode::of_root(0o644, 0), content)?;
/// writer.link(b"docs/again", b"docs/greeting")?;
/// let stats = writer.finish()?;
/// assert_eq!(stats.entries, 3);
/// # Ok(())
/// # }
/// ```
pub struct ErofsWriter {
    pub(super) space: Space,
    pub(super) tree: Tree,
    content_bytes: u64,
    /// Inode numbers count up; only 32-bit programs ever see them.
    next_number: u32,
    piece: Box<[u8]>,
}

impl ErofsWriter {
    /// Starts an image in a file opened for writing; what was in it is lost.
    ///
    /// # Errors
    /// If the file cannot be emptied.
    pub fn create(file: File) -> Result<Self> {
        file.set_len(0).map_err(LayerError::io("cannot start the image"))?;
        Ok(Self {
            space: Space::new(file),
            tree: Tree::new(),
            content_bytes: 0,
            next_number: 1,
            piece: vec![0; PIECE].into_boxed_slice(),
        })
    }

    /// Says what parent directories are like that are missing when something is added below them;
    /// `0755`, root's, from 1970 unless it is said.
    pub fn missing_parents_as(&mut self, attributes: NewNode) {
        self.tree.missing_parents = attributes;
    }

    /// Adds a file. Missing parent directories are made. A path that is there
    /// already is replaced, with all below it; but a directory added again keeps what is in it.
    ///
    /// # Errors
    /// [`LayerError::Seed`] if the path leads out of the tree or through something that is not a
    /// directory, or if the source has fewer bytes than it promised; whatever the source says;
    /// [`LayerError::Io`] if the image cannot be written.
    pub fn add(&mut self, path: &[u8], attributes: NewNode, content: Content<'_>) -> Result<()> {
        let place = self.tree.parent_of(path)?;
        if matches!(content, Content::Directory) {
            // Checked now, while it is known which path is at fault.
            encode_xattrs(&attributes.xattrs)?;
            self.tree.put_directory(place, attributes);
            return Ok(());
        }
        let place = place.ok_or_else(|| LayerError::Seed {
            path: "/".to_owned(),
            reason: "the top of a tree must be a directory".to_owned(),
            hint: "give a directory, or an archive of one",
        })?;
        let (kind, at) = match content {
            Content::Directory => return Ok(()),
            Content::File { size, source } => {
                self.content_bytes += size;
                (FileKind::File, self.write_file(path, &attributes, size, source)?)
            }
            Content::Symlink(target) => {
                (FileKind::Symlink, self.write_symlink(path, &attributes, target)?)
            }
            Content::CharDevice(major, minor) => {
                let device = device_number(path, major, minor)?;
                (FileKind::CharDevice, self.write_bare(&attributes, FileKind::CharDevice, device)?)
            }
            Content::BlockDevice(major, minor) => {
                let device = device_number(path, major, minor)?;
                let kind = FileKind::BlockDevice;
                (kind, self.write_bare(&attributes, kind, device)?)
            }
            Content::Fifo => (FileKind::Fifo, self.write_bare(&attributes, FileKind::Fifo, 0)?),
        };
        self.tree.put_leaf(place, at, kind);
        Ok(())
    }

    /// Gives the file at `target` another name.
    ///
    /// # Errors
    /// [`LayerError::Seed`] if there is no such file, or it is a directory.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let refused = |reason: &str| LayerError::Seed {
            path: shown(path),
            reason: format!("it is a hard link to {}, {reason}", shown(target)),
            hint: "make the archive again from a complete tree",
        };
        let id = self.tree.find(target)?.ok_or_else(|| refused("which does not come before it"))?;
        if let Node::Directory(_) = self.tree.node(id) {
            return Err(refused("which is a directory"));
        }
        let place = self.tree.parent_of(path)?.ok_or_else(|| refused("and the top directory"))?;
        self.tree.put_link(place, id);
        Ok(())
    }

    /// Takes a path away, with all below it, and tells whether it was there. The space of what
    /// was written stays used.
    ///
    /// # Errors
    /// [`LayerError::Seed`] if the path leads out of the tree.
    pub fn remove(&mut self, path: &[u8]) -> Result<bool> {
        self.tree.remove(path)
    }

    /// True if there is something at this path.
    ///
    /// # Errors
    /// [`LayerError::Seed`] if the path leads out of the tree.
    pub fn contains(&self, path: &[u8]) -> Result<bool> {
        Ok(self.tree.find(path)?.is_some())
    }

    /// Writes the directories and the superblock. The file is not synced: whoever renames it into
    /// its place does that.
    ///
    /// # Errors
    /// [`LayerError::Io`] if the image cannot be written.
    pub fn finish(mut self) -> Result<ImageStats> {
        self.space.close_records()?;
        let directories = self.tree.directories();
        let plans = self.plan_directories(&directories)?;
        let mut first_block = [0; BLOCK_LEN];
        for (plan, (id, _)) in plans.iter().zip(&directories) {
            let record = self.write_directory(plan, &plans, *id)?;
            match *id {
                ROOT => first_block[ROOT_AT as usize..][..record.len()].copy_from_slice(&record),
                _ => self.space.write_record(plan.at, &record)?,
            }
        }
        self.space.close_records()?;
        let mut inodes = directories.len() as u64;
        for leaf in self.tree.leaves() {
            inodes += 1;
            if leaf.links > 1 {
                self.space.write(leaf.at + NLINK_AT, &leaf.links.to_le_bytes())?;
            }
        }
        let blocks = self.space.blocks();
        let superblock = Superblock { root_nid: (ROOT_AT / NID_UNIT) as u16, inodes, blocks };
        first_block[SUPERBLOCK_AT as usize..ROOT_AT as usize].copy_from_slice(&superblock.encode());
        format::seal(&mut first_block);
        self.space.write(0, &first_block)?;
        self.space.finish()?;
        Ok(ImageStats {
            entries: inodes,
            content_bytes: self.content_bytes,
            image_bytes: u64::from(blocks) * BLOCK,
        })
    }

    fn write_file(
        &mut self,
        path: &[u8],
        attributes: &NewNode,
        size: u64,
        source: &mut dyn Source,
    ) -> Result<u64> {
        let xattrs = encode_xattrs(&attributes.xattrs)?;
        let shape = Shape::of(size, INODE_LEN + xattrs.len(), BLOCK_LEN);
        let start = self.space.take_blocks(shape.blocks)?;
        self.write_blocks(path, u64::from(start) * BLOCK, size - shape.tail as u64, source)?;
        let mut tail = vec![0; shape.tail];
        fill(path, source, &mut tail)?;
        let inode = self.inode(attributes, FileKind::File, shape.layout, size, start);
        self.write_leaf(inode, &xattrs, &tail)
    }

    /// Copies the part of a file that lies in blocks of its own.
    fn write_blocks(
        &mut self,
        path: &[u8],
        start: u64,
        len: u64,
        source: &mut dyn Source,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let skipped = source.skip_hole(len - done)?;
            done += skipped;
            let piece = (len - done).min(PIECE as u64) as usize;
            if piece > 0 {
                fill(path, source, &mut self.piece[..piece])?;
                self.space.write_data(start + done, &self.piece[..piece])?;
                done += piece as u64;
            }
        }
        Ok(())
    }

    fn write_symlink(&mut self, path: &[u8], attributes: &NewNode, target: &[u8]) -> Result<u64> {
        // The kernel takes neither: see symlink(2), ENOENT and ENAMETOOLONG.
        if target.is_empty() || target.len() >= BLOCK_LEN || target.contains(&0) {
            return Err(LayerError::Seed {
                path: shown(path),
                reason: "it is a symbolic link with an impossible target".to_owned(),
                hint: "remove the link from the source",
            });
        }
        let xattrs = encode_xattrs(&attributes.xattrs)?;
        let size = target.len() as u64;
        let shape = Shape::of(size, INODE_LEN + xattrs.len(), BLOCK_LEN);
        let start = self.space.take_blocks(shape.blocks)?;
        let (in_blocks, tail) = target.split_at(target.len() - shape.tail);
        self.space.write_data(u64::from(start) * BLOCK, in_blocks)?;
        let inode = self.inode(attributes, FileKind::Symlink, shape.layout, size, start);
        self.write_leaf(inode, &xattrs, tail)
    }

    /// Writes the inode of something without content.
    fn write_bare(&mut self, attributes: &NewNode, kind: FileKind, device: u32) -> Result<u64> {
        let xattrs = encode_xattrs(&attributes.xattrs)?;
        let inode = self.inode(attributes, kind, DataLayout::Plain, 0, device);
        self.write_leaf(inode, &xattrs, &[])
    }

    fn write_leaf(&mut self, inode: Inode, xattrs: &[u8], tail: &[u8]) -> Result<u64> {
        let record = record(inode, xattrs, tail);
        let at = self.space.take_record(record.len())?;
        self.space.write_record(at, &record)?;
        Ok(at)
    }

    pub(super) fn inode(
        &mut self,
        attributes: &NewNode,
        kind: FileKind,
        layout: DataLayout,
        size: u64,
        start: u32,
    ) -> Inode {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        Inode {
            layout,
            kind,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            size,
            start,
            number,
            links: 1,
            xattr_len: 0,
        }
    }
}

/// What lies at an inode's place.
pub(super) fn record(inode: Inode, xattrs: &[u8], tail: &[u8]) -> Vec<u8> {
    let inode = Inode { xattr_len: xattrs.len(), ..inode };
    [&inode.encode(), xattrs, tail].concat()
}

fn device_number(path: &[u8], major: u32, minor: u32) -> Result<u32> {
    format::encode_device(major, minor).ok_or_else(|| LayerError::Seed {
        path: shown(path),
        reason: format!("its device number {major}:{minor} is out of range"),
        hint: "remove the device from the source",
    })
}

/// Reads exactly as much as the buffer holds.
fn fill(path: &[u8], source: &mut dyn Source, mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        let got = source.read(buffer)?;
        if got == 0 {
            return Err(LayerError::Seed {
                path: shown(path),
                reason: "it became shorter while it was read".to_owned(),
                hint: "wait until nothing writes to it, and try again",
            });
        }
        buffer = &mut buffer[got..];
    }
    Ok(())
}
