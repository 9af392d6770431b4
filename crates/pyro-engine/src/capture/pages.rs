//! A set of pages of a memory.

use std::io;

use super::twin::{Extent, PAGE};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageSet {
    words: Vec<u64>,
    pages: u64,
}

impl PageSet {
    /// No page of a memory of `bytes`.
    pub(crate) fn none(bytes: u64) -> Self {
        let pages = bytes.div_ceil(PAGE as u64);
        Self { words: vec![0; pages.div_ceil(64) as usize], pages }
    }

    pub(crate) fn insert(&mut self, page: u64) {
        if page < self.pages {
            self.words[(page / 64) as usize] |= 1 << (page % 64);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// The first run of pages of the set from the byte `at` on.
    pub(crate) fn next(&self, at: u64) -> Option<Extent> {
        let start = self.find(at.div_ceil(PAGE as u64), false)?;
        let end = self.find(start, true).unwrap_or(self.pages);
        Some(Extent { start: start * PAGE as u64, end: end * PAGE as u64 })
    }

    /// The first page from `page` on that is in the set; or, if `inverted`, that is not.
    fn find(&self, page: u64, inverted: bool) -> Option<u64> {
        let mut index = (page / 64) as usize;
        let mut mask = u64::MAX << (page % 64);
        while index < self.words.len() {
            let word = if inverted { !self.words[index] } else { self.words[index] } & mask;
            if word != 0 {
                let found = index as u64 * 64 + u64::from(word.trailing_zeros());
                return (found < self.pages).then_some(found);
            }
            (index, mask) = (index + 1, u64::MAX);
        }
        None
    }

    /// One bit for each page.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The set of a memory of `bytes` that was written as `text`.
    pub(crate) fn from_bytes(text: &[u8], bytes: u64) -> io::Result<Self> {
        let mut set = Self::none(bytes);
        let (words, rest) = text.as_chunks::<8>();
        if words.len() != set.words.len() || !rest.is_empty() {
            let why = "it is of another length than the memory's";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        set.words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(set: &PageSet) -> Vec<u64> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some(run) = set.next(at) {
            found.extend(run.start / PAGE as u64..run.end / PAGE as u64);
            at = run.end;
        }
        found
    }

    proptest! {
        #[test]
        fn a_set_has_its_pages_and_no_others(
            size in 1_u64..400,
            some in prop::collection::btree_set(0_u64..400, 0..200),
            more in prop::collection::btree_set(0_u64..400, 0..20),
        ) {
            let make = |pages: &std::collections::BTreeSet<u64>| {
                let mut set = PageSet::none(size * PAGE as u64);
                pages.iter().for_each(|page| set.insert(*page));
                set
            };
            let mut set = make(&some);
            set.add(&make(&more));
            let expected: Vec<u64> =
                some.union(&more).copied().filter(|page| *page < size).collect();
            prop_assert_eq!(members(&set), expected);
            let again = PageSet::from_bytes(&set.to_bytes(), size * PAGE as u64).unwrap();
            prop_assert_eq!(again, set);
        }
    }

    #[test]
    fn a_set_of_another_memory_is_refused() {
        let set = PageSet::none(1 << 20);
        assert!(PageSet::from_bytes(&set.to_bytes(), 2 << 20).is_err());
        assert!(PageSet::from_bytes(&set.to_bytes()[1..], 1 << 20).is_err());
    }
}
