//! A command's output on its way into the journal: cut into blocks, in bounded memory.

use std::collections::VecDeque;

use pyro_contract::exec::Stream;

/// A block is closed once it costs so much; closed blocks are compressed and go to files.
pub(super) const BLOCK_BYTES: usize = 128 << 10;
/// A whole output of at most so many bytes stays in the database.
const INLINE_BYTES: usize = 16 << 10;
/// Neighbouring output of one stream is joined up to this size: a guest that writes byte by byte
/// must not cost a row, or an allocation, for each.
const PIECE_BYTES: usize = 16 << 10;
/// What a piece costs besides its bytes.
const PIECE_OVERHEAD: usize = 32;

/// A piece of output in memory of its own, so that it does not pin the message it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins: so many bytes came before it, of both streams together.
    pub(crate) start: u64,
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
}

/// Takes output as it comes and hands it over for keeping.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Closed blocks that were not handed over yet: at most those of one message.
    closed: VecDeque<Vec<Piece>>,
    /// The block that is being filled.
    open: Vec<Piece>,
    cost: usize,
    /// How many pieces of it are in the database already.
    handed: usize,
    total: u64,
    blocks: u64,
}

/// What the database lacks.
#[derive(Debug)]
pub(crate) enum Flush {
    /// Pieces of a block that is not closed yet.
    Pieces(Vec<Piece>),
    /// A whole block, in place of such of its pieces as were handed over before.
    Block(Vec<Piece>),
}

impl Recorder {
    /// Takes a piece of output, of any size. Closed blocks are then to be [taken](Self::closed).
    pub(crate) fn push(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES.saturating_sub(self.cost).clamp(1, PIECE_BYTES);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.add(stream, now);
            if self.cost >= BLOCK_BYTES {
                self.close();
            }
            bytes = later;
        }
    }

    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        let start = self.total;
        self.total += bytes.len() as u64;
        self.cost += bytes.len();
        let own = self.open.len() > self.handed;
        match self.open.last_mut() {
            Some(last)
                if own
                    && last.stream == stream
                    && last.bytes.len() + bytes.len() <= PIECE_BYTES =>
            {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                self.cost += PIECE_OVERHEAD;
                self.open.push(Piece { start, stream, bytes: bytes.to_vec() });
            }
        }
    }

    fn close(&mut self) {
        self.closed.push_back(std::mem::take(&mut self.open));
        (self.cost, self.handed) = (0, 0);
        self.blocks += 1;
    }

    /// The next block that is full.
    pub(crate) fn closed(&mut self) -> Option<Flush> {
        self.closed.pop_front().map(Flush::Block)
    }

    /// True if there is something that was not handed over yet.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.closed.is_empty() || self.open.len() > self.handed
    }

    /// What came since the last time and fills no block yet.
    pub(crate) fn flush(&mut self) -> Option<Flush> {
        let new = self.open.get(self.handed..).filter(|new| !new.is_empty())?.to_vec();
        self.handed = self.open.len();
        Some(Flush::Pieces(new))
    }

    /// What is left when the output has ended: rows for a short one, else its last block.
    pub(crate) fn finish(&mut self) -> Option<Flush> {
        if self.blocks == 0 && self.total <= INLINE_BYTES as u64 {
            return self.flush();
        }
        let last = std::mem::take(&mut self.open);
        (!last.is_empty()).then_some(Flush::Block(last))
    }

    /// How many bytes came.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader would find after all was kept.
    fn kept(flushes: Vec<Flush>) -> Vec<Piece> {
        let mut rows: Vec<Piece> = Vec::new();
        let mut blocks: Vec<Piece> = Vec::new();
        for flush in flushes {
            match flush {
                Flush::Pieces(pieces) => rows.extend(pieces),
                Flush::Block(pieces) => {
                    rows.retain(|row| row.start < pieces[0].start);
                    blocks.extend(pieces);
                }
            }
        }
        blocks.extend(rows);
        blocks
    }

    #[test]
    fn output_in_single_bytes_costs_no_more_than_in_blocks() {
        let mut recorder = Recorder::default();
        let mut pieces = 0;
        for round in 0..2_000_000u32 {
            let stream = if round % 1000 == 0 { Stream::Stderr } else { Stream::Stdout };
            recorder.push(stream, b"x");
            while let Some(Flush::Block(block)) = recorder.closed() {
                pieces += block.len();
            }
        }
        assert!(pieces < 5000, "{pieces} pieces");
        assert!(recorder.open.len() <= BLOCK_BYTES / PIECE_OVERHEAD);
        assert_eq!(recorder.total(), 2_000_000);
    }

    #[test]
    fn streams_that_take_turns_are_bounded_too() {
        let mut recorder = Recorder::default();
        for _ in 0..1_000_000 {
            recorder.push(Stream::Stdout, b"o");
            recorder.push(Stream::Stderr, b"e");
            assert!(recorder.open.len() <= BLOCK_BYTES / PIECE_OVERHEAD);
            while recorder.closed().is_some() {}
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_repeated_or_reordered(
            writes in prop::collection::vec((any::<bool>(), 0usize..100_000, any::<bool>()), 0..40),
        ) {
            let mut recorder = Recorder::default();
            let mut flushes = Vec::new();
            let mut expected: Vec<(Stream, u8)> = Vec::new();
            for (round, (error, length, flush)) in writes.into_iter().enumerate() {
                let stream = if error { Stream::Stderr } else { Stream::Stdout };
                let byte = u8::try_from(round).unwrap();
                recorder.push(stream, &vec![byte; length]);
                expected.extend(std::iter::repeat_n((stream, byte), length));
                while let Some(block) = recorder.closed() {
                    flushes.push(block);
                }
                if flush {
                    flushes.extend(recorder.flush());
                }
            }
            flushes.extend(recorder.finish());
            prop_assert!(!recorder.is_dirty() || recorder.blocks == 0);
            let pieces = kept(flushes);
            let mut at = 0;
            let mut got = Vec::new();
            for piece in &pieces {
                prop_assert_eq!(piece.start, at);
                at += piece.bytes.len() as u64;
                got.extend(piece.bytes.iter().map(|byte| (piece.stream, *byte)));
            }
            prop_assert_eq!(at, recorder.total());
            prop_assert!(got == expected);
        }
    }
}
