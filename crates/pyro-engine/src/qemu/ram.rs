//! A machine's memory, looked at from outside.
//!
//! A machine that was booted has its memory in a file of its own, which is read like any other. One that
//! was restored maps its origin's memory privately: which pages it has written to, and therefore has
//! to itself, is in `/proc/PID/pagemap`, and their content in `/proc/PID/mem`. See proc(5).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::capture::{Extent, Original, PAGE, PageSet};
use crate::process::start_time_of;

/// Bits of an entry of a pagemap; see the kernel's `Documentation/admin-guide/mm/pagemap.rst`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// What a machine's memory is made of.
pub(crate) enum Ram {
    /// This file, which the machine alone writes to.
    Own(File),
    /// This sealed file, and what the machine has written instead.
    Private(File, Origin),
}

/// Where the memory of a restored machine comes from.
pub(crate) struct Origin {
    /// A template's memory, packed. `None`: nothing but zeroes.
    pub(crate) base: Option<File>,
    /// The pages in which the machine's memory was not that from the beginning.
    pub(crate) differs: PageSet,
}

/// What of a memory differs from its origin's base at one moment, and a way to read it.
pub(crate) struct Look<'a> {
    ram: &'a Ram,
    length: u64,
    /// The process's memory and page map, and where in it the machine's memory is.
    process: Option<(File, File, u64)>,
    changed: PageSet,
}

impl Ram {
    /// How it is now in the process of this id, which started at that time.
    pub(crate) fn look(&self, (pid, start_time): (u32, u64)) -> io::Result<Look<'_>> {
        let process = match self {
            Self::Own(_) => None,
            Self::Private(file, _) => {
                let meta = file.metadata()?;
                let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
                let (memory, pagemap) = (open("mem")?, open("pagemap")?);
                let start = find(&fs::read_to_string(format!("/proc/{pid}/maps"))?, &meta)?;
                // All of these were of that process, then.
                if start_time_of(pid) != Some(start_time) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                Some((memory, pagemap, start))
            }
        };
        let length = self.file().metadata()?.len();
        let mut look = Look { ram: self, length, process, changed: PageSet::none(length) };
        look.again()?;
        Ok(look)
    }

    pub(crate) fn base(&self) -> Option<&File> {
        match self {
            Self::Own(_) => None,
            Self::Private(_, origin) => origin.base.as_ref(),
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Own(file) | Self::Private(file, _) => file,
        }
    }
}

impl Look<'_> {
    /// Sees what has changed since.
    pub(crate) fn again(&mut self) -> io::Result<()> {
        match (self.ram, &self.process) {
            (Ram::Private(_, origin), Some((_, pagemap, start))) => {
                self.changed.add(&origin.differs);
                add_written(&mut self.changed, pagemap, *start, self.length)
            }
            (ram, _) => {
                let mut at = 0;
                while let Some(extent) = ram.file().next(at)? {
                    let pages = extent.start / PAGE as u64..extent.end.div_ceil(PAGE as u64);
                    pages.for_each(|page| self.changed.insert(page));
                    at = extent.end;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn changed(&self) -> &PageSet {
        &self.changed
    }
}

impl Original for Look<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn next(&self, at: u64) -> io::Result<Option<Extent>> {
        Ok(self.changed.next(at))
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        match &self.process {
            Some((memory, _, start)) => memory.read_exact_at(buffer, start + at),
            None => self.ram.file().read_exact_at(buffer, at),
        }
    }
}

/// A page of its own is not the file's: in memory or swapped out, it is anonymous.
fn add_written(changed: &mut PageSet, pagemap: &File, start: u64, length: u64) -> io::Result<()> {
    let mut entries = vec![0; 1 << 16];
    let (mut page, pages) = (0, length / PAGE as u64);
    while page < pages {
        let most = entries.len().min((pages - page) as usize * 8);
        let entries = &mut entries[..most];
        pagemap.read_exact_at(entries, (start / PAGE as u64 + page) * 8)?;
        for entry in entries.as_chunks::<8>().0 {
            let entry = u64::from_ne_bytes(*entry);
            if entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0 {
                changed.insert(page);
            }
            page += 1;
        }
    }
    Ok(())
}

/// Where a file is mapped as a whole, perhaps in several pieces that follow each other.
fn find(maps: &str, file: &fs::Metadata) -> io::Result<u64> {
    let mut found: Option<(u64, u64)> = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, _rights, offset) = (fields.next(), fields.next(), fields.next());
        let (Some((from, to)), Some(offset)) =
            (range.and_then(|range| range.split_once('-')), offset)
        else {
            continue;
        };
        let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (Some(from), Some(to), Some(offset)) = (hex(from), hex(to), hex(offset)) else {
            continue;
        };
        let is_memfd = line.contains(" /memfd:memory");
        if !is_memfd || fields.nth(1).and_then(|inode| inode.parse().ok()) != Some(file.ino()) {
            continue;
        }
        found = match found {
            None if offset == 0 => Some((from, to)),
            Some((start, end)) if end == from && end - start == offset => Some((start, to)),
            // Mapped twice, or in part: that is not how QEMU maps it.
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
    }
    match found {
        Some((start, end)) if end - start == file.len() => Ok(start),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "the machine's memory is not mapped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_found_where_it_is_mapped_as_a_whole() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x3000).unwrap();
        let meta = file.metadata().unwrap();
        let line = |range: &str, offset: &str, inode: u64| {
            format!("{range} rw-p {offset} 00:01 {inode}   /memfd:memory (deleted)\n")
        };
        let other = line("1000-4000", "00000000", meta.ino() + 1);
        let whole = line("7f0000001000-7f0000004000", "00000000", meta.ino());
        assert_eq!(find(&(other.clone() + &whole), &meta).unwrap(), 0x7f00_0000_1000);
        let one = line("7f0000001000-7f0000002000", "00000000", meta.ino());
        let two = line("7f0000002000-7f0000004000", "00001000", meta.ino());
        assert_eq!(find(&(one.clone() + &two), &meta).unwrap(), 0x7f00_0000_1000);
        for odd in [one.clone(), one + &whole, other, String::new()] {
            assert!(find(&odd, &meta).is_err(), "{odd}");
        }
    }
}
