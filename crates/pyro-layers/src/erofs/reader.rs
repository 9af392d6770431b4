//! Reading an image that pyro wrote.
//!
//! Images are only ever written by the host, so damage means a broken disk, not an attack; still
//! every offset is checked, and damage is an error, never a panic.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pyro_contract::diff::FileKind;

use super::dirents::{Block, Dirent};
use super::format::{
    BLOCK, BLOCK_LEN, DataLayout, INODE_LEN, Inode, NID_UNIT, Superblock, decode_device,
    dirent_type,
};
use super::node::{Xattr, find_xattr};
use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// A tree in an erofs image, read without mounting it.
///
/// Holds nothing in memory: the image is in the page cache anyway. A lookup reads about
/// log2(directory blocks) blocks.
#[derive(Debug)]
pub struct ErofsLayer {
    file: File,
    len: u64,
    root: Node,
}

impl ErofsLayer {
    /// Opens the image at a path.
    ///
    /// # Errors
    /// [`LayerError::Io`] if the file cannot be read, [`LayerError::Damaged`] if it is not an
    /// image that pyro wrote.
    pub fn open(path: &Path) -> Result<Self> {
        let attempt = || format!("cannot open the image {}", path.display());
        Self::from_file(File::open(path).map_err(LayerError::io(attempt()))?)
    }

    /// Reads the image in an open file.
    ///
    /// # Errors
    /// As [`ErofsLayer::open`].
    pub fn from_file(file: File) -> Result<Self> {
        let len = file.metadata().map_err(LayerError::io("cannot read the image"))?.len();
        let mut first_block = [0; BLOCK_LEN];
        if len < BLOCK {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut first_block, 0).map_err(LayerError::io("cannot read the image"))?;
        let superblock = Superblock::decode(&first_block).map_err(damaged)?;
        if u64::from(superblock.blocks) * BLOCK > len {
            return Err(damaged("it is cut off"));
        }
        Ok(Self { file, len, root: Node(u64::from(superblock.root_nid)) })
    }

    fn read_exact(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(damaged("something in it points behind its end"));
        }
        self.file.read_exact_at(buffer, at).map_err(LayerError::io("cannot read the image"))
    }

    fn inode(&self, node: Node) -> Result<(u64, Inode)> {
        let at = node.0.checked_mul(NID_UNIT).ok_or_else(|| damaged("an inode is out of range"))?;
        let mut raw = [0; INODE_LEN];
        self.read_exact(at, &mut raw)?;
        let inode = Inode::decode(&raw).ok_or_else(|| damaged("an inode makes no sense"))?;
        Ok((at, inode))
    }

    fn inode_of(&self, node: Node, kind: FileKind) -> Result<(u64, Inode)> {
        let (at, inode) = self.inode(node)?;
        if inode.kind != kind {
            return Err(damaged("an entry is of another kind than expected"));
        }
        Ok((at, inode))
    }

    /// Reads content; fewer bytes than asked only at its end.
    fn read_content(
        &self,
        (at, inode): (u64, &Inode),
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        let wanted = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..wanted];
        // Content from here on lies behind the inode.
        let tail_from = match inode.layout {
            DataLayout::Plain => u64::MAX,
            DataLayout::Inline => (inode.size - 1) / BLOCK * BLOCK,
        };
        let in_blocks = tail_from.saturating_sub(offset).min(wanted as u64) as usize;
        let (blocks, tail) = buffer.split_at_mut(in_blocks);
        if !blocks.is_empty() {
            let data_at = (u64::from(inode.start) * BLOCK).checked_add(offset);
            self.read_exact(data_at.ok_or_else(|| damaged("a file is out of range"))?, blocks)?;
        }
        if !tail.is_empty() {
            let tail_at = at + (INODE_LEN + inode.xattr_len) as u64;
            self.read_exact(tail_at + (offset + in_blocks as u64 - tail_from), tail)?;
        }
        Ok(wanted)
    }

    /// One block of a directory; shorter if it is the last.
    fn directory_block(&self, directory: (u64, &Inode), index: u64) -> Result<Vec<u8>> {
        let mut raw = vec![0; BLOCK_LEN];
        let len = self.read_content(directory, index * BLOCK, &mut raw)?;
        raw.truncate(len);
        Ok(raw)
    }
}

impl Layer for ErofsLayer {
    fn root(&self) -> Node {
        self.root
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        let (_, inode) = self.inode(node)?;
        let device = matches!(inode.kind, FileKind::CharDevice | FileKind::BlockDevice);
        Ok(Meta {
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: match inode.kind {
                FileKind::File | FileKind::Symlink => inode.size,
                _ => 0,
            },
            mtime: inode.mtime,
            rdev: if device { decode_device(inode.start) } else { (0, 0) },
        })
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let (at, inode) = self.inode_of(dir, FileKind::Directory)?;
        let mut entries = Vec::new();
        for index in 0..inode.size.div_ceil(BLOCK) {
            let raw = self.directory_block((at, &inode), index)?;
            let block = parse(&raw)?;
            for index in 0..block.len() {
                let Dirent { name, nid, .. } = entry(&block, index)?;
                if !matches!(name, b"." | b"..") {
                    entries.push(Entry { name: name.to_vec(), node: Node(nid) });
                }
            }
        }
        Ok(entries)
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        let (at, inode) = self.inode_of(dir, FileKind::Directory)?;
        // The name is in the last block whose first name does not come after it.
        let (mut low, mut high) = (0, inode.size.div_ceil(BLOCK));
        while low < high {
            let middle = low + (high - low) / 2;
            let raw = self.directory_block((at, &inode), middle)?;
            let block = parse(&raw)?;
            if name < entry(&block, 0)?.name {
                high = middle;
            } else if name > entry(&block, block.len() - 1)?.name {
                low = middle + 1;
            } else {
                return find(&block, name);
            }
        }
        Ok(None)
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (at, inode) = self.inode_of(file, FileKind::File)?;
        self.read_content((at, &inode), offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        let (at, inode) = self.inode_of(link, FileKind::Symlink)?;
        if inode.size >= BLOCK {
            return Err(damaged("a symbolic link is too long"));
        }
        let mut target = vec![0; inode.size as usize];
        self.read_content((at, &inode), 0, &mut target)?;
        Ok(target)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        let (at, inode) = self.inode_of(dir, FileKind::Directory)?;
        let mut raw = vec![0; inode.xattr_len];
        self.read_exact(at + INODE_LEN as u64, &mut raw)?;
        let names: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];
        let mut wanted = names.iter().filter_map(|name| Xattr::new(name, b""));
        Ok(wanted.any(|wanted| find_xattr(&raw, &wanted) == Some(b"y")))
    }
}

fn find(block: &Block<'_>, name: &[u8]) -> Result<Option<Node>> {
    let (mut low, mut high) = (0, block.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let found = entry(block, middle)?;
        match found.name.cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Ok(Some(Node(found.nid))),
        }
    }
    Ok(None)
}

fn parse(raw: &[u8]) -> Result<Block<'_>> {
    Block::parse(raw).ok_or_else(|| damaged("a directory makes no sense"))
}

fn entry<'a>(block: &Block<'a>, index: usize) -> Result<Dirent<'a>> {
    let entry = block.get(index).filter(|entry| entry.kind <= dirent_type(FileKind::Symlink));
    entry.ok_or_else(|| damaged("a directory entry makes no sense"))
}

fn damaged(detail: &str) -> LayerError {
    LayerError::Damaged { what: "erofs image", detail: detail.to_owned() }
}
