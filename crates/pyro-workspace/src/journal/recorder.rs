//! What of a command's output is worth keeping while it flows.

use std::collections::VecDeque;

use pyro_contract::exec::Stream;

use super::{HEAD_BYTES, TAIL_BYTES};

/// Neighbouring output of one stream is joined up to this size: a guest that writes byte by byte
/// must not cost a row, or an allocation, for each.
const PIECE_BYTES: usize = 8 << 10;
/// What a piece costs besides its bytes.
const PIECE_OVERHEAD: usize = 64;

/// A piece of output in memory of its own, so that it does not pin the message it came in.
type Piece = (Stream, Vec<u8>);

/// Keeps the head and the tail of an endless stream in bounded memory.
#[derive(Default)]
pub(crate) struct Recorder {
    /// The part of the head that the database does not have yet.
    head: Vec<Piece>,
    head_cost: usize,
    /// How many pieces of the head are in the database.
    head_flushed: u64,
    tail: VecDeque<Piece>,
    tail_cost: usize,
    total: u64,
    omitted: u64,
    dirty: bool,
}

/// Replaces everything from `first_position` on in the database.
pub(crate) struct Flush {
    pub(super) first_position: u64,
    pub(super) pieces: Vec<Piece>,
    pub(super) total: u64,
    pub(super) omitted: u64,
}

impl Recorder {
    /// Takes a piece of output, of any size.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        self.dirty = true;
        self.total += bytes.len() as u64;
        if self.head_cost < HEAD_BYTES && self.tail.is_empty() {
            self.head_cost += bytes.len() + PIECE_OVERHEAD;
            match self.head.last_mut() {
                Some(last) if joins(last, stream, bytes) => {
                    last.1.extend_from_slice(bytes);
                    self.head_cost -= PIECE_OVERHEAD;
                }
                _ => self.head.push((stream, bytes.to_vec())),
            }
            return;
        }
        self.tail_cost += bytes.len() + PIECE_OVERHEAD;
        match self.tail.back_mut() {
            Some(last) if joins(last, stream, bytes) => {
                last.1.extend_from_slice(bytes);
                self.tail_cost -= PIECE_OVERHEAD;
            }
            _ => self.tail.push_back((stream, bytes.to_vec())),
        }
        while self.tail_cost > TAIL_BYTES && self.tail.len() > 1 {
            if let Some((_, dropped)) = self.tail.pop_front() {
                self.tail_cost -= dropped.len() + PIECE_OVERHEAD;
                self.omitted += dropped.len() as u64;
            }
        }
    }

    /// True if there is something that the database does not have.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What the database lacks. The head is handed over once; the tail, which is small, each time.
    pub(crate) fn flush(&mut self) -> Option<Flush> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let first_position = self.head_flushed;
        self.head_flushed += self.head.len() as u64;
        let mut pieces = std::mem::take(&mut self.head);
        pieces.extend(self.tail.iter().cloned());
        Some(Flush { first_position, pieces, total: self.total, omitted: self.omitted })
    }
}

fn joins(last: &Piece, stream: Stream, bytes: &[u8]) -> bool {
    last.0 == stream && last.1.len() + bytes.len() <= PIECE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_in_single_bytes_costs_no_more_than_in_blocks() {
        let mut recorder = Recorder::default();
        for round in 0..2_000_000u32 {
            let stream = if round % 1000 == 0 { Stream::Stderr } else { Stream::Stdout };
            recorder.push(stream, b"x");
        }
        let flush = recorder.flush().unwrap();
        assert!(flush.pieces.len() < 1000, "{} pieces", flush.pieces.len());
        let kept: usize = flush.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(kept as u64 + flush.omitted, 2_000_000);
        assert!(kept <= HEAD_BYTES + TAIL_BYTES);
    }

    #[test]
    fn streams_that_take_turns_are_bounded_too() {
        let mut recorder = Recorder::default();
        for _ in 0..1_000_000 {
            recorder.push(Stream::Stdout, b"o");
            recorder.push(Stream::Stderr, b"e");
        }
        let pieces = recorder.flush().unwrap().pieces.len();
        assert!(pieces <= (HEAD_BYTES + TAIL_BYTES) / PIECE_OVERHEAD, "{pieces} pieces");
    }
}
