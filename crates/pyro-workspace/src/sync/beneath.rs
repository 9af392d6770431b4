//! The host's files, relative to an open directory and through no link below it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pyro_contract::Error;
use pyro_contract::path::BytePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK`: a pipe that took the file's place must not hang us.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory below another; the empty path is that one itself.
pub(super) fn directory(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let whole: &[u8] = if path.is_empty() { b"." } else { path };
    match rustix::fs::openat2(root, whole, DIRECTORY, Mode::empty(), how) {
        // Longer than a path may be, an old kernel, or a filter that does not know the call.
        Err(Errno::NAMETOOLONG | Errno::NOSYS | Errno::PERM) => step_by_step(root, path),
        other => other,
    }
}

fn step_by_step(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut at = rustix::fs::openat(root, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        at = rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// A regular file of a directory, opened for reading, and what is known of it.
pub(super) fn file(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<(File, Stat)> {
    let file = rustix::fs::openat(directory, name, FILE, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok((File::from(file), stat))
}

/// What a name of a directory is, links not followed; `None` if there is no such name.
pub(super) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The directory and the name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A failed call about a path of the tree.
pub(super) fn failed(attempt: &str, path: &[u8], errno: Errno) -> Error {
    let shown = if path.is_empty() { ".".to_owned() } else { BytePath::new(path).to_string() };
    Error::io(format!("cannot {attempt} {shown}"), &errno.into())
}

/// What lets a file be taken for the one that was seen before: nothing changes its content and
/// leaves this as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) ctime_ns: i64,
    pub(super) size: u64,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            ctime_ns: time(stat.st_ctime, stat.st_ctime_nsec),
            size: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

pub(super) fn time(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or(0))
}

/// The clock that the kernel takes file times from. A file that changed within the same tick as it
/// was looked at can change again and keep its stamp.
pub(super) fn coarse_now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    time(now.tv_sec, now.tv_nsec)
}

/// Which bits of a mode are carried. The setuid and setgid bits would lend the rights of another
/// owner than the one who set them.
pub(super) const MODE: u32 = 0o1777;

/// Bounds a directory tree: each level of some walks holds a descriptor open.
pub(super) const DEPTH_MAX: usize = 512;

/// What `openat` says when the name does not lead to what it is expected to be.
pub(super) fn is_other_kind(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::INVAL)
}
