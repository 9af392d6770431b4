//! Copying what changes: a draft is made while its owner goes on, and made right while he is held
//! still. Then only comparing takes his time, and what he wrote meanwhile. No help of the kernel is
//! needed to know what that was.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// What is looked at to tell zeroes from content, and old from new.
pub(crate) const PAGE: usize = 4096;

/// Small enough for a processor's cache.
const BUFFER: usize = 256 * 1024;

/// Bytes from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What is copied.
pub(crate) trait Original {
    fn length(&self) -> io::Result<u64>;

    /// The first extent from `at` on that may hold something.
    fn next(&self, at: u64) -> io::Result<Option<Extent>>;

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

impl Original for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn next(&self, at: u64) -> io::Result<Option<Extent>> {
        let length = self.length()?;
        if at >= length {
            return Ok(None);
        }
        match seek(self, SeekFrom::Data(at)) {
            Ok(start) if start < length => {
                let end = seek(self, SeekFrom::Hole(start))?;
                let start = (start - start % PAGE as u64).max(at);
                let end = end.next_multiple_of(PAGE as u64).min(length);
                Ok(Some(Extent { start, end }))
            }
            Ok(_) | Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

/// Calls `work` with each piece that may hold something, and where it is.
pub(crate) fn each_piece(
    original: &impl Original,
    mut work: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while let Some(Extent { mut start, end }) = original.next(at)? {
        while start < end {
            let piece = &mut buffer[..piece(start, end)];
            original.read(piece, start)?;
            work(start, piece)?;
            start += piece.len() as u64;
        }
        at = end;
    }
    Ok(())
}

/// Copies what is not zero into `copy`, which is empty and of the original's length.
pub(crate) fn draft(original: &impl Original, copy: &File) -> io::Result<()> {
    each_piece(original, |at, piece| {
        each_run(piece, |page, _| is_content(page), |from, run| copy.write_all_at(run, at + from))
    })
}

/// Writes every page that the original may have over that of `copy`, be it zero or not.
pub(crate) fn overlay(original: &impl Original, copy: &File) -> io::Result<()> {
    each_piece(original, |at, piece| copy.write_all_at(piece, at))
}

/// Makes `copy`, a draft of the original, what the original is.
pub(crate) fn correct(original: &impl Original, copy: &File) -> io::Result<()> {
    let mut before = vec![0; BUFFER];
    let mut next = 0;
    each_piece(original, |at, piece| {
        clear(copy, next, at)?;
        next = at + piece.len() as u64;
        let before = &mut before[..piece.len()];
        copy.read_exact_at(before, at)?;
        each_run(
            piece,
            |page, from| page != &before[from..from + page.len()],
            |from, run| copy.write_all_at(run, at + from),
        )
    })?;
    clear(copy, next, original.length()?)
}

/// What was there when the draft was made and is a hole by now.
fn clear(copy: &File, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    while let Some(data) = copy.next(at)?.filter(|data| data.start < end) {
        let (from, to) = (data.start, data.end.min(end));
        fallocate(copy, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, to - from)?;
        at = to;
    }
    Ok(())
}

/// Calls `write` for each run of pages that are `wanted`, with its place in the piece.
pub(crate) fn each_run(
    piece: &[u8],
    wanted: impl Fn(&[u8], usize) -> bool,
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut run: Option<usize> = None;
    for from in (0..piece.len()).step_by(PAGE) {
        let page = &piece[from..(from + PAGE).min(piece.len())];
        match (run, wanted(page, from)) {
            (None, true) => run = Some(from),
            (Some(start), false) => {
                write(start as u64, &piece[start..from])?;
                run = None;
            }
            _ => {}
        }
    }
    match run {
        Some(start) => write(start as u64, &piece[start..]),
        None => Ok(()),
    }
}

pub(crate) fn is_content(page: &[u8]) -> bool {
    page.iter().any(|byte| *byte != 0)
}

fn piece(start: u64, end: u64) -> usize {
    usize::try_from(end - start).unwrap_or(BUFFER).min(BUFFER)
}
