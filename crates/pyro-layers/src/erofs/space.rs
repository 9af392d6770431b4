//! The image file, and what of it is taken.
//!
//! Two kinds of things go in: runs of whole blocks (data) and records (an inode, its attributes
//! and the tail of its data) that are packed into blocks of their own. Both are taken from the
//! same end, so inodes lie between the data that was written with them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::format::{BLOCK, BLOCK_LEN, DataLayout, NID_UNIT};
use crate::layer::{LayerError, Result};

pub(super) struct Space {
    file: File,
    /// The first block that nothing has taken.
    next_block: u32,
    /// The first free byte of the block that records go to; a block's start if there is none.
    record_end: u64,
    /// The block of records being filled, not yet in the file.
    pending: Option<(u64, Box<[u8; BLOCK_LEN]>)>,
}

impl Space {
    /// Starts an image in an empty file. Block 0 is kept for the superblock and the root.
    pub(super) fn new(file: File) -> Self {
        Self { file, next_block: 1, record_end: 0, pending: None }
    }

    /// Takes consecutive blocks and gives the first.
    pub(super) fn take_blocks(&mut self, count: u64) -> Result<u32> {
        let start = self.next_block;
        let end = u64::from(start).checked_add(count).and_then(|end| u32::try_from(end).ok());
        self.next_block = end.ok_or_else(|| {
            LayerError::TooLarge("the tree is larger than the 16 TiB an image can hold".to_owned())
        })?;
        Ok(start)
    }

    /// Takes room for a record and gives its offset. A record that fits a block lies in one, as
    /// the kernel demands of data behind an inode.
    pub(super) fn take_record(&mut self, len: usize) -> Result<u64> {
        let start = self.record_end.next_multiple_of(NID_UNIT);
        let room = start.next_multiple_of(BLOCK) - start;
        if len as u64 <= room {
            self.record_end = start + len as u64;
            return Ok(start);
        }
        let start = u64::from(self.take_blocks((len as u64).div_ceil(BLOCK))?) * BLOCK;
        // Nothing joins a record of several blocks: it is not kept in memory.
        self.record_end = if len <= BLOCK_LEN { start + len as u64 } else { start };
        Ok(start)
    }

    /// The next record starts a new block.
    pub(super) fn close_records(&mut self) -> Result<()> {
        self.record_end = 0;
        self.flush()
    }

    /// Writes a record. Those of one block must come one after another.
    pub(super) fn write_record(&mut self, at: u64, record: &[u8]) -> Result<()> {
        let block = at / BLOCK;
        let offset = (at % BLOCK) as usize;
        if self.pending.as_ref().is_none_or(|(pending, _)| *pending != block) {
            self.flush()?;
        }
        if offset + record.len() > BLOCK_LEN {
            return self.write(at, record);
        }
        let (_, bytes) = self.pending.get_or_insert_with(|| (block, Box::new([0; BLOCK_LEN])));
        bytes[offset..offset + record.len()].copy_from_slice(record);
        Ok(())
    }

    /// Writes data, leaving blocks of zeros as holes.
    pub(super) fn write_data(&self, at: u64, data: &[u8]) -> Result<()> {
        let mut at = at;
        for run in data.chunk_by_blocks() {
            if !run.zero {
                self.write(at, run.bytes)?;
            }
            at += run.bytes.len() as u64;
        }
        Ok(())
    }

    /// Writes bytes as they are, now.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(LayerError::io("cannot write the image"))
    }

    /// How many blocks the image has.
    pub(super) fn blocks(&self) -> u32 {
        self.next_block
    }

    /// Brings the file to its full length: the last bytes may be a hole.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        let len = u64::from(self.next_block) * BLOCK;
        self.file.set_len(len).map_err(LayerError::io("cannot write the image"))
    }

    fn flush(&mut self) -> Result<()> {
        match self.pending.take() {
            Some((block, bytes)) => self.write(block * BLOCK, bytes.as_slice()),
            None => Ok(()),
        }
    }
}

/// How content is divided between blocks of its own and the inode's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) layout: DataLayout,
    pub(super) blocks: u64,
    /// Bytes behind the inode.
    pub(super) tail: usize,
}

impl Shape {
    /// For `size` bytes of content behind `head` bytes of inode, in at most `room` bytes.
    pub(super) fn of(size: u64, head: usize, room: usize) -> Self {
        let tail = (size % BLOCK) as usize;
        if tail > 0 && head + tail <= room {
            Self { layout: DataLayout::Inline, blocks: size / BLOCK, tail }
        } else {
            Self { layout: DataLayout::Plain, blocks: size.div_ceil(BLOCK), tail: 0 }
        }
    }
}

/// Blocks that follow each other and are all zero, or all not.
struct Run<'a> {
    bytes: &'a [u8],
    zero: bool,
}

trait Runs {
    fn chunk_by_blocks(&self) -> impl Iterator<Item = Run<'_>>;
}

impl Runs for [u8] {
    fn chunk_by_blocks(&self) -> impl Iterator<Item = Run<'_>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let zero = is_zero(rest.chunks(BLOCK_LEN).next()?);
            let same = rest.chunks(BLOCK_LEN).take_while(|block| is_zero(block) == zero).count();
            let (bytes, after) = rest.split_at((same * BLOCK_LEN).min(rest.len()));
            rest = after;
            Some(Run { bytes, zero })
        })
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_blocks_are_told_from_others() {
        let mut data = vec![0; 5 * BLOCK_LEN + 10];
        data[BLOCK_LEN + 7] = 1;
        let runs: Vec<_> = data.chunk_by_blocks().map(|run| (run.bytes.len(), run.zero)).collect();
        assert_eq!(runs, [(BLOCK_LEN, true), (BLOCK_LEN, false), (3 * BLOCK_LEN + 10, true)]);
    }
}
