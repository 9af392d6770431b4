//! A file that is mostly holes or zeroes (a machine's memory, its disk), kept without them.
//!
//! ```text
//! content of the extents, one after the other
//! for each extent: offset, length           8 bytes each, little-endian
//! length of the file, number of extents, CRC-32C of all before this, b"PYROPAK1"
//! ```
//!
//! The checksum is verified while the content is copied, which costs nothing beside the copying.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

const MAGIC: &[u8; 8] = b"PYROPAK1";
const FOOTER: u64 = 8 + 8 + 4 + 8;
const EXTENT: u64 = 16;

/// What is looked at to tell zeroes from content.
const PAGE: usize = 4096;

/// Small enough for a processor's cache.
const BUFFER: usize = 256 * 1024;

/// Writes `from` without its zeroes to `to`, an empty file; how many bytes remain.
pub(crate) fn pack(from: &File, to: &File) -> io::Result<u64> {
    let length = from.metadata()?.len();
    let mut out = Summed { out: BufWriter::with_capacity(BUFFER, to), sum: 0, written: 0 };
    let mut extents: Vec<(u64, u64)> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while let Some((mut start, end)) = next_data(from, at, length)? {
        while start < end {
            let piece = usize::try_from(end - start).unwrap_or(BUFFER).min(BUFFER);
            from.read_exact_at(&mut buffer[..piece], start)?;
            for page in buffer[..piece].chunks(PAGE) {
                if page.iter().any(|byte| *byte != 0) {
                    match extents.last_mut() {
                        Some((offset, length)) if *offset + *length == start => {
                            *length += page.len() as u64;
                        }
                        _ => extents.push((start, page.len() as u64)),
                    }
                    out.write_all(page)?;
                }
                start += page.len() as u64;
            }
        }
        at = end;
    }
    let content = out.written;
    for (offset, length) in &extents {
        out.write_all(&offset.to_le_bytes())?;
        out.write_all(&length.to_le_bytes())?;
    }
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&(extents.len() as u64).to_le_bytes())?;
    let sum = out.sum;
    out.out.write_all(&sum.to_le_bytes())?;
    out.out.write_all(MAGIC)?;
    out.out.flush()?;
    Ok(content)
}

/// Makes `to`, an empty file, what was packed into `from`.
///
/// # Errors
/// `InvalidData` if `from` is damaged; `to` then holds anything.
pub(crate) fn unpack(from: &File, to: &File) -> io::Result<()> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let size = from.metadata()?.len();
    let table_end = size.checked_sub(FOOTER).ok_or_else(|| damaged("it is too short"))?;
    let mut footer = [0; FOOTER as usize];
    from.read_exact_at(&mut footer, table_end)?;
    if &footer[20..] != MAGIC {
        return Err(damaged("it does not end as it should"));
    }
    let (length, count) = (number(&footer[..8]), number(&footer[8..16]));
    let table_size = count.checked_mul(EXTENT).filter(|table| *table <= table_end);
    let content = table_end - table_size.ok_or_else(|| damaged("its table is too long"))?;
    let mut table = vec![0; usize::try_from(table_end - content).unwrap_or(usize::MAX)];
    from.read_exact_at(&mut table, content)?;
    // Checked before anything of that size is made.
    let mut taken = 0_u64;
    let mut extents = Vec::with_capacity(table.len() / EXTENT as usize);
    for extent in table.chunks_exact(EXTENT as usize) {
        let (offset, bytes) = (number(&extent[..8]), number(&extent[8..]));
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= length);
        taken = taken.saturating_add(bytes);
        if !fits || taken > content {
            return Err(damaged("its table makes no sense"));
        }
        extents.push((offset, bytes));
    }
    if taken != content {
        return Err(damaged("its table makes no sense"));
    }
    to.set_len(length)?;
    let mut content = from;
    content.rewind()?;
    let mut sum = 0;
    let mut buffer = vec![0; BUFFER];
    for (mut offset, mut left) in extents {
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            content.read_exact(&mut buffer[..piece])?;
            sum = crc32c::crc32c_append(sum, &buffer[..piece]);
            to.write_all_at(&buffer[..piece], offset)?;
            (offset, left) = (offset + piece as u64, left - piece as u64);
        }
    }
    sum = crc32c::crc32c_append(sum, &table);
    sum = crc32c::crc32c_append(sum, &footer[..16]);
    if sum.to_le_bytes() != footer[16..20] {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The next range of `file` from `at` on that is no hole.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < length => {
            let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
            Ok(Some((start, end.min(length))))
        }
        Ok(_) | Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sums up what it writes.
struct Summed<W> {
    out: W,
    sum: u32,
    written: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    fn temp() -> File {
        tempfile::tempfile().unwrap()
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn unpacking_gives_back_what_was_packed(
            pieces in prop::collection::vec((0_u64..200_000, 0_u8..3, 1_usize..20_000), 0..8),
            tail in 0_u64..9000,
        ) {
            let (from, packed, to) = (temp(), temp(), temp());
            for (offset, byte, length) in pieces {
                from.write_all_at(&vec![byte; length], offset).unwrap();
            }
            from.set_len(from.metadata().unwrap().len() + tail).unwrap();
            pack(&from, &packed).unwrap();
            unpack(&packed, &to).unwrap();
            prop_assert!(content(&to) == content(&from));
        }

        #[test]
        fn no_change_goes_unnoticed_and_no_garbage_panics(
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
            cut in any::<prop::sample::Index>(),
        ) {
            let (from, packed) = (temp(), temp());
            from.write_all_at(b"head", 0).unwrap();
            from.write_all_at(&[7; 9000], 50_000).unwrap();
            from.set_len(80_000).unwrap();
            pack(&from, &packed).unwrap();
            let mut bytes = content(&packed);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let changed = temp();
            changed.write_all_at(&bytes, 0).unwrap();
            prop_assert!(unpack(&changed, &temp()).is_err());
            packed.set_len(cut.index(bytes.len()) as u64).unwrap();
            prop_assert!(unpack(&packed, &temp()).is_err());
        }
    }

    #[test]
    fn zeroes_take_no_space_packed_or_unpacked() {
        let (from, packed, to) = (temp(), temp(), temp());
        from.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        from.write_all_at(b"x", 5 << 20).unwrap();
        from.set_len(1 << 30).unwrap();
        assert_eq!(pack(&from, &packed).unwrap(), PAGE as u64);
        assert!(packed.metadata().unwrap().len() < 8192);
        unpack(&packed, &to).unwrap();
        assert_eq!(to.metadata().unwrap().len(), 1 << 30);
        assert!(to.metadata().unwrap().blocks() * 512 < 64 << 10);
    }
}
