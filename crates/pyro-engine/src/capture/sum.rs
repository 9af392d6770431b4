//! What a part of a capture must be: its length, and a checksum of its content.
//!
//! Pages of zeroes count for nothing, so a file has the same sum wherever its holes are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::ioctl_ficlone;
use serde::{Deserialize, Serialize};

use super::twin::{PAGE, each_piece, each_run, is_content};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) length: u64,
    /// Bytes in pages that are not all zeroes.
    pub(crate) bytes: u64,
    crc32c: u32,
}

impl Sum {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let mut summing = Summing::default();
        each_piece(file, |at, piece| {
            summing.add(at, piece);
            Ok(())
        })?;
        Ok(summing.done(file.metadata()?.len()))
    }

    /// # Errors
    /// `InvalidData` if that is not what was summed up.
    pub(crate) fn check(&self, seen: Self) -> io::Result<()> {
        if *self == seen {
            return Ok(());
        }
        let why = if self.length == seen.length {
            "its checksum is wrong"
        } else {
            "its length is wrong"
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

/// A sum in the making.
#[derive(Default)]
pub(crate) struct Summing {
    bytes: u64,
    crc32c: u32,
}

impl Summing {
    /// Counts a piece at `at`, a whole number of pages.
    pub(crate) fn add(&mut self, at: u64, piece: &[u8]) {
        for (number, page) in piece.chunks(PAGE).enumerate() {
            if is_content(page) {
                let at = at + (number * PAGE) as u64;
                self.crc32c = crc32c::crc32c_append(self.crc32c, &at.to_le_bytes());
                self.crc32c = crc32c::crc32c_append(self.crc32c, page);
                self.bytes += page.len() as u64;
            }
        }
    }

    pub(crate) fn done(self, length: u64) -> Sum {
        Sum { length, bytes: self.bytes, crc32c: self.crc32c }
    }
}

/// Makes `to`, an empty file, the same as `from`, which must be what `sum` says. Blocks are shared
/// where the filesystem can.
///
/// # Errors
/// `InvalidData` if `from` is damaged; `to` then holds anything.
pub(crate) fn copy_verified(from: &File, to: &File, sum: &Sum) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return sum.check(Sum::of(to)?);
    }
    let length = from.metadata()?.len();
    if length != sum.length {
        return sum.check(Summing::default().done(length));
    }
    to.set_len(length)?;
    let mut summing = Summing::default();
    each_piece(from, |at, piece| {
        summing.add(at, piece);
        each_run(piece, |page, _| is_content(page), |from, run| to.write_all_at(run, at + from))
    })?;
    sum.check(summing.done(length))
}
