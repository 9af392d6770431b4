//! The newest output of a shell, in bounded memory.

use std::collections::VecDeque;

/// What is kept of each shell's output.
pub(super) const KEPT: usize = 8 << 20;

/// Counts all bytes that ever came, and keeps the last [`KEPT`].
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: VecDeque<u8>,
    /// How many came before those.
    dropped: u64,
}

impl Ring {
    /// The number of the oldest byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.dropped
    }

    /// The number that the next byte will have.
    pub(super) fn end(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (forgotten, bytes) = bytes.split_at(bytes.len().saturating_sub(KEPT));
        let excess = (self.kept.len() + bytes.len()).saturating_sub(KEPT);
        self.kept.drain(..excess);
        self.dropped += (excess + forgotten.len()) as u64;
        let needed = self.kept.len() + bytes.len();
        if needed > self.kept.capacity() {
            // Doubling would overshoot the bound.
            let capacity = needed.max(self.kept.capacity() * 2).min(KEPT);
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend(bytes);
    }

    /// The bytes from a number on, which is [`Self::start`] at least.
    pub(super) fn since(&self, from: u64) -> impl Iterator<Item = u8> + '_ {
        let skipped = usize::try_from(from.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.kept.range(skipped.min(self.kept.len())..).copied()
    }

    /// The same, at most `most` of them.
    pub(super) fn copy(&self, from: u64, most: usize) -> Vec<u8> {
        self.since(from).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_kept_and_the_rest_counted() {
        let mut ring = Ring::default();
        let chunk: Vec<u8> = (0..100_003_u32).map(|n| (n % 251) as u8).collect();
        let mut total = 0_u64;
        for _ in 0..1000 {
            ring.push(&chunk);
            total += chunk.len() as u64;
            assert!(ring.kept.capacity() <= KEPT + 8, "{}", ring.kept.capacity());
        }
        assert_eq!((ring.start(), ring.end()), (total - KEPT as u64, total));
        let last = ring.copy(total - 3, 10);
        assert_eq!(last, chunk[chunk.len() - 3..]);
        assert_eq!(ring.copy(total, 10), b"");
        // More at once than is kept.
        ring.push(&vec![7; KEPT + 5]);
        assert_eq!(ring.end() - ring.start(), KEPT as u64);
        assert_eq!(ring.end(), total + KEPT as u64 + 5);
    }
}
