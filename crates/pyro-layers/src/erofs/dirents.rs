//! Directories as bytes.
//!
//! A directory is a row of blocks. Each starts with a table of 12-byte entries (node, offset of
//! the name, type), and the names follow; the first name's offset tells how many entries there
//! are. Names are ordered by bytes over the whole directory, `.` and `..` among them, so that the
//! kernel can search by halves.

use super::format::{BLOCK_LEN, NAME_MAX, u16_at, u64_at};

const ENTRY_LEN: usize = 12;

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// Bytes that [`pack`] will need. Depends on the names alone, which are known before the nodes.
pub(super) fn packed_len(entries: &[Dirent<'_>]) -> usize {
    let mut whole_blocks = 0;
    let mut last = 0;
    for group in blocks(entries) {
        whole_blocks += usize::from(last > 0);
        last = group.iter().map(|entry| ENTRY_LEN + entry.name.len()).sum();
    }
    whole_blocks * BLOCK_LEN + last
}

/// The directory's bytes. The entries must be ordered, and there are at least `.` and `..`.
pub(super) fn pack(entries: &[Dirent<'_>]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(packed_len(entries));
    for group in blocks(entries) {
        // The block before is padded with zeros: its last name ends at the first of them.
        raw.resize(raw.len().next_multiple_of(BLOCK_LEN), 0);
        let mut name_at = group.len() * ENTRY_LEN;
        for entry in group {
            raw.extend(entry.nid.to_le_bytes());
            raw.extend((name_at as u16).to_le_bytes());
            raw.extend([entry.kind, 0]);
            name_at += entry.name.len();
        }
        group.iter().for_each(|entry| raw.extend(entry.name));
    }
    raw
}

/// Cuts the entries into what fits one block each.
fn blocks<'a, 'b>(mut rest: &'a [Dirent<'b>]) -> impl Iterator<Item = &'a [Dirent<'b>]> {
    std::iter::from_fn(move || {
        let mut room = BLOCK_LEN;
        let fitting = rest.iter().take_while(|entry| {
            let needed = ENTRY_LEN + entry.name.len();
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        });
        let (block, after) = rest.split_at(fitting.count());
        rest = after;
        (!block.is_empty()).then_some(block)
    })
}

/// One block of a directory that was read; only as many bytes of it as belong to the directory.
pub(super) struct Block<'a> {
    raw: &'a [u8],
    count: usize,
}

impl<'a> Block<'a> {
    /// `None` if the table makes no sense.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        if raw.len() < ENTRY_LEN {
            return None;
        }
        let table = usize::from(u16_at(raw, 8));
        let count = table / ENTRY_LEN;
        (count > 0 && table % ENTRY_LEN == 0 && table <= raw.len()).then_some(Self { raw, count })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The entry at an index below [`Block::len`]; `None` if it is damaged.
    pub(super) fn get(&self, index: usize) -> Option<Dirent<'a>> {
        let entry = index * ENTRY_LEN;
        let start = usize::from(u16_at(self.raw, entry + 8));
        let last = index + 1 == self.count;
        let end = if last { self.raw.len() } else { usize::from(u16_at(self.raw, entry + 20)) };
        let mut name = self.raw.get(start..end)?;
        if last {
            name = name.split(|byte| *byte == 0).next()?;
        }
        let sound = !name.is_empty()
            && name.len() <= NAME_MAX
            && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        sound.then(|| Dirent { name, nid: u64_at(self.raw, entry), kind: self.raw[entry + 10] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_names_come_back_in_order_over_many_blocks() {
        let names: Vec<String> =
            (0..2000).map(|n| format!("{n:0width$}", width = n % 200 + 4)).collect();
        let mut entries: Vec<Dirent<'_>> = names
            .iter()
            .enumerate()
            .map(|(n, name)| Dirent { name: name.as_bytes(), nid: n as u64, kind: 1 })
            .collect();
        entries.sort_by_key(|entry| entry.name);
        let raw = pack(&entries);
        assert_eq!(raw.len(), packed_len(&entries));
        let mut back = Vec::new();
        for chunk in raw.chunks(BLOCK_LEN) {
            let block = Block::parse(chunk).unwrap();
            back.extend((0..block.len()).map(|index| block.get(index).unwrap()));
        }
        assert_eq!(back, entries);
    }
}
