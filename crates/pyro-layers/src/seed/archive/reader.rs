//! The members of a tar stream.
//!
//! Headers are read with the `tar` crate, the stream is not: that crate takes the records of a PAX
//! header for lines, and so loses names with a newline and attributes whose value has such a byte.
//! The formats: POSIX `pax(1)`, and the manual of GNU tar, "Basic Tar Format".

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::content::{MemberContent, Segment};
use super::extras::Extras;

pub(super) const BLOCK: usize = 512;
/// The most that is taken of a header's extension: names, and attributes of 64 KiB each.
const EXTENSION_MAX: u64 = 8 << 20;
/// The most pieces of data between holes.
const SEGMENTS_MAX: usize = 1 << 20;

/// One file of an archive, its content still to be read.
pub(super) struct Member {
    pub(super) header: Header,
    pub(super) path: Vec<u8>,
    /// What a link points at.
    pub(super) target: Vec<u8>,
    /// Bytes of content once its holes are there.
    pub(super) size: u64,
    pub(super) extras: Extras,
    /// Where in the content the stored bytes belong.
    pub(super) segments: Vec<Segment>,
}

impl Member {
    pub(super) fn device(&self) -> io::Result<(u32, u32)> {
        let (major, minor) = (self.header.device_major()?, self.header.device_minor()?);
        Ok((major.unwrap_or(0), minor.unwrap_or(0)))
    }
}

/// Reads one member after another.
pub(super) struct Reader<R> {
    input: R,
    /// Bytes until the next header, padding included.
    pub(super) left: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0 }
    }

    pub(super) fn into_inner(self) -> R {
        self.input
    }

    /// The next member; whatever was left of the one before is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extras = Extras::default();
        let (mut long_name, mut long_target) = (None, None);
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            use EntryType::{GNULongLink, GNULongName, Link, XGlobalHeader, XHeader};
            let stored = match (header.entry_type(), extras.size) {
                // Some writers give the target's size, and nothing follows.
                (Link, _) => 0,
                (GNULongLink | GNULongName | XGlobalHeader | XHeader, _) | (_, None) => {
                    header.entry_size()?
                }
                (_, Some(size)) => size,
            };
            self.left = stored.checked_next_multiple_of(BLOCK as u64).ok_or_else(senseless)?;
            match header.entry_type() {
                XHeader => extras = Extras::parse(&self.extension(stored)?)?,
                GNULongName => long_name = Some(self.extension(stored)?),
                GNULongLink => long_target = Some(self.extension(stored)?),
                // A comment, usually: git puts the commit there.
                XGlobalHeader => {}
                _ => {
                    let long = [long_name, long_target].map(|name| name.map(until_nul));
                    return self.member(header, extras, long, stored).map(Some);
                }
            }
        }
    }

    fn member(
        &mut self,
        header: Header,
        mut extras: Extras,
        [long_name, long_target]: [Option<Vec<u8>>; 2],
        stored: u64,
    ) -> io::Result<Member> {
        let in_header = || header.path_bytes().into_owned();
        let path = extras.path.take().or(long_name).unwrap_or_else(in_header);
        let target = extras.target.take().or(long_target);
        let target = target.or_else(|| Some(header.link_name_bytes()?.into_owned()));
        let (size, segments) = if let Some(size) = extras.sparse_size {
            (size, self.sparse_map()?)
        } else if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().ok_or_else(senseless)?;
            (gnu.real_size()?, self.old_sparse_map(&header)?)
        } else {
            (stored, vec![Segment { start: 0, len: stored }])
        };
        let mut end = 0;
        for segment in &segments {
            if segment.start < end {
                return Err(senseless());
            }
            end = segment.start.checked_add(segment.len).ok_or_else(senseless)?;
        }
        let data = segments.iter().map(|segment| segment.len).sum::<u64>();
        if end > size || data > self.left {
            return Err(senseless());
        }
        let target = target.unwrap_or_default();
        Ok(Member { header, path, target, size, extras, segments })
    }

    /// The content of the member that was read last.
    pub(super) fn content<'a>(&'a mut self, member: &'a Member) -> MemberContent<'a, R> {
        MemberContent::new(self, member)
    }

    /// Reads bytes of the present member.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.left = self.left.checked_sub(buffer.len() as u64).ok_or_else(senseless)?;
        self.input.read_exact(buffer)
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let left = std::mem::take(&mut self.left);
        match io::copy(&mut (&mut self.input).take(left), &mut io::sink())? {
            passed if passed == left => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// `None` at the end: a block of zeros, or, as some writers leave it, nothing.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.input).take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() || (block.len() == BLOCK && block.iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        if block.len() < BLOCK {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        // Its own field counts as eight spaces.
        let others = block[..148].iter().chain(&block[156..]);
        let sum = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        if header.cksum()? != sum {
            return Err(io::Error::other("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, len: u64) -> io::Result<Vec<u8>> {
        if len > EXTENSION_MAX {
            return Err(io::Error::other("a header is too large"));
        }
        let mut raw = vec![0; len as usize];
        self.read(&mut raw)?;
        Ok(raw)
    }

    /// The map in a GNU header, and in the blocks that may follow it, which count as no content.
    fn old_sparse_map(&mut self, header: &Header) -> io::Result<Vec<Segment>> {
        let gnu = header.as_gnu().ok_or_else(senseless)?;
        let mut segments = Vec::new();
        let mut take = |entries: &[tar::GnuSparseHeader]| {
            for entry in entries.iter().filter(|entry| !entry.is_empty()) {
                segments.push(Segment { start: entry.offset()?, len: entry.length()? });
            }
            if segments.len() > SEGMENTS_MAX { Err(senseless()) } else { Ok(()) }
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes())?;
            take(block.sparse())?;
            more = block.is_extended();
        }
        Ok(segments)
    }

    /// The map before the content: numbers on lines, padded to a block. First how many there are.
    fn sparse_map(&mut self) -> io::Result<Vec<Segment>> {
        let mut lines = Lines { reader: self, block: [0; BLOCK], at: BLOCK };
        let count = usize::try_from(lines.number()?).map_err(|_| senseless())?;
        if count > SEGMENTS_MAX {
            return Err(senseless());
        }
        (0..count).map(|_| Ok(Segment { start: lines.number()?, len: lines.number()? })).collect()
    }
}

/// Decimal numbers, each on its line, read by whole blocks.
struct Lines<'a, R> {
    reader: &'a mut Reader<R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0u64;
        loop {
            if self.at == BLOCK {
                self.reader.read(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return Ok(number),
                b'0'..=b'9' => {
                    let shifted =
                        number.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    number = shifted.ok_or_else(senseless)?;
                }
                _ => return Err(senseless()),
            }
        }
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(len);
    name
}

pub(super) fn senseless() -> io::Error {
    io::Error::other("a header makes no sense")
}
