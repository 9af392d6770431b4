//! A member's content: what is stored, and the holes between.

use std::io::Read;

use super::damaged;
use super::reader::{Member, Reader};
use crate::erofs::Source;
use crate::layer::Result;

/// Stored bytes and where they belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// See [`Reader::content`].
pub(super) struct MemberContent<'a, R> {
    reader: &'a mut Reader<R>,
    size: u64,
    position: u64,
    /// Those that are not behind the position.
    segments: &'a [Segment],
}

impl<'a, R: Read> MemberContent<'a, R> {
    pub(super) fn new(reader: &'a mut Reader<R>, member: &'a Member) -> Self {
        Self { reader, size: member.size, position: 0, segments: &member.segments }
    }

    /// Bytes of the hole at the position, and bytes of data if there is none.
    fn here(&mut self) -> (u64, u64) {
        while let [first, rest @ ..] = self.segments {
            if self.position < first.start {
                return (first.start - self.position, 0);
            }
            let end = first.start + first.len;
            if self.position < end {
                return (0, end - self.position);
            }
            self.segments = rest;
        }
        (self.size - self.position, 0)
    }
}

impl<R: Read> Source for MemberContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (hole, data) = self.here();
        let len = hole.max(data).min(buffer.len() as u64) as usize;
        if hole > 0 {
            buffer[..len].fill(0);
        } else {
            self.reader.read(&mut buffer[..len]).map_err(damaged)?;
        }
        self.position += len as u64;
        Ok(len)
    }

    fn skip_hole(&mut self, limit: u64) -> Result<u64> {
        let (hole, _) = self.here();
        let whole_blocks = hole.min(limit) / 4096 * 4096;
        self.position += whole_blocks;
        Ok(whole_blocks)
    }
}
