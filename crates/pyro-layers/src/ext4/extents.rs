//! Where a file's blocks are.
//!
//! Our own descent of the extent tree, because it must also say how far a mapping or a hole goes:
//! a file of some terabytes that is one hole would otherwise be asked for block by block.

use fs_ext4::extent::{EXT4_EXT_MAX_DEPTH, EXT4_EXT_NODE_SIZE, Extent, ExtentHeader, ExtentIdx};
use fs_ext4::indirect::{self, IndirectCache};
use fs_ext4::inode::Inode;
use fs_ext4::{Error, Filesystem, Result};

/// Consecutive blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first of them is on the disk; `None` if all of them are zeros.
    pub(super) physical: Option<u64>,
    /// How many, at least one.
    pub(super) blocks: u64,
}

/// The blocks from `logical` on.
pub(super) fn run_at(
    filesystem: &Filesystem,
    number: u32,
    inode: &Inode,
    logical: u64,
) -> Result<Run> {
    if !inode.has_extents() {
        // As ext3 had it. A guest can still make such files, but none of many gigabytes.
        let size = filesystem.sb.block_size();
        let mut cache = IndirectCache::new();
        let device = filesystem.dev.as_ref();
        let physical = indirect::lookup(&inode.block, device, size, logical, &mut cache)?;
        return Ok(Run { physical, blocks: 1 });
    }
    let mut node = inode.block.to_vec();
    let mut header = ExtentHeader::parse(&node)?;
    if header.depth > EXT4_EXT_MAX_DEPTH {
        return Err(Error::CorruptExtentTree("it is too deep"));
    }
    // What follows in the parents: a hole ends there.
    let mut next = u64::MAX;
    while !header.is_leaf() {
        let index = index_for(&node, &header, logical, &mut next)?;
        node = filesystem.read_block(index.leaf_block)?;
        let sound = filesystem.csum.verify_extent_tail(number, inode.generation, &node);
        if !sound {
            return Err(Error::BadChecksum { what: "extent block" });
        }
        let below = ExtentHeader::parse(&node)?;
        // The kernel demands the same: so the descent ends.
        if below.depth + 1 != header.depth {
            return Err(Error::CorruptExtentTree("its depth is not what its parent says"));
        }
        header = below;
    }
    in_leaf(&node, &header, logical, next)
}

/// The entry of an index node that leads to `logical`; `next` becomes the start of the one after.
fn index_for(
    node: &[u8],
    header: &ExtentHeader,
    logical: u64,
    next: &mut u64,
) -> Result<ExtentIdx> {
    let mut chosen = None;
    for raw in entries(node, header)? {
        let index = ExtentIdx::parse(raw)?;
        // The first one also stands for what comes before it, which is a hole.
        if chosen.is_some() && u64::from(index.logical_block) > logical {
            *next = u64::from(index.logical_block).min(*next);
            break;
        }
        chosen = Some(index);
    }
    chosen.ok_or(Error::CorruptExtentTree("an index node is empty"))
}

fn in_leaf(node: &[u8], header: &ExtentHeader, logical: u64, mut next: u64) -> Result<Run> {
    for raw in entries(node, header)? {
        let extent = Extent::parse(raw)?;
        let start = u64::from(extent.logical_block);
        if extent.contains(logical) {
            let into = logical - start;
            let physical = (!extent.uninitialized).then(|| extent.physical_block + into);
            return Ok(Run { physical, blocks: u64::from(extent.length) - into });
        }
        if start > logical {
            next = start.min(next);
            break;
        }
    }
    // An index that lies about what is below it must not stop the reader.
    Ok(Run { physical: None, blocks: next.saturating_sub(logical).max(1) })
}

fn entries<'a>(node: &'a [u8], header: &ExtentHeader) -> Result<impl Iterator<Item = &'a [u8]>> {
    let end = EXT4_EXT_NODE_SIZE * (1 + usize::from(header.entries));
    let table = node.get(EXT4_EXT_NODE_SIZE..end);
    let table = table.ok_or(Error::CorruptExtentTree("a node has more entries than room"))?;
    Ok(table.chunks_exact(EXT4_EXT_NODE_SIZE))
}
