//! Copying what changes: a draft is made while its owner goes on, and made right while he is held
//! still. Then only comparing takes his time, and what he wrote meanwhile. No help of the kernel is
//! needed to know what that was.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

/// What is looked at to tell zeroes from content, and old from new.
pub(crate) const PAGE: usize = 4096;

/// Small enough for a processor's cache.
const BUFFER: usize = 256 * 1024;

/// What one processor takes at a time.
const BLOCK: u64 = 8 << 20;

/// More than these only wait for memory.
const WORKERS_MAX: usize = 8;

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
    work: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    each_piece_in(original, Extent { start: 0, end: original.length()? }, work)
}

fn each_piece_in(
    original: &impl Original,
    within: Extent,
    mut work: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut at = within.start;
    while let Some(extent) = original.next(at)?.filter(|extent| extent.start < within.end) {
        let (mut start, end) = (extent.start, extent.end.min(within.end));
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

/// Makes `copy`, a draft of the original, what the original is. Somebody is held still for it, so it
/// takes all the processors that help.
pub(crate) fn correct(original: &(impl Original + Sync), copy: &File) -> io::Result<()> {
    let (length, next) = (original.length()?, AtomicU64::new(0));
    let work = || -> io::Result<()> {
        loop {
            let start = next.fetch_add(BLOCK, Ordering::Relaxed);
            if start >= length {
                return Ok(());
            }
            correct_block(original, copy, Extent { start, end: (start + BLOCK).min(length) })?;
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    std::thread::scope(|scope| {
        let helper = || std::thread::Builder::new().name("capture".into());
        // One that cannot be had is no reason not to go on.
        let helpers: Vec<_> =
            (1..workers).filter_map(|_| helper().spawn_scoped(scope, work).ok()).collect();
        let own = work();
        let died = |_| Err(io::Error::other("a thread died"));
        helpers.into_iter().map(|helper| helper.join().unwrap_or_else(died)).fold(own, Result::and)
    })
}

fn correct_block(original: &impl Original, copy: &File, block: Extent) -> io::Result<()> {
    let mut before = vec![0; BUFFER];
    let mut next = block.start;
    each_piece_in(original, block, |at, piece| {
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
    clear(copy, next, block.end)
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

/// Comparing two memories is faster than looking at each byte of one.
pub(crate) fn is_content(page: &[u8]) -> bool {
    const ZEROES: [u8; PAGE] = [0; PAGE];
    page != &ZEROES[..page.len()]
}

fn piece(start: u64, end: u64) -> usize {
    usize::try_from(end - start).unwrap_or(BUFFER).min(BUFFER)
}
