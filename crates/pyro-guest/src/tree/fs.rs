//! System calls on one filesystem, by paths that lead through no link and into no other filesystem.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, IFlags, Mode, OFlags, ResolveFlags, Stat, StatxAttributes,
    StatxFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::path::TreePath;
use crate::files::status;

/// Directories nested deeper are not removed or moved: each takes some of the thread's stack.
const DEEPEST: usize = 128;

pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The top of a filesystem, and the tree below it that a transaction is about.
pub(super) struct Root {
    pub(super) top: OwnedFd,
    /// Empty, or the path of the tree.
    pub(super) prefix: Vec<u8>,
}

impl Root {
    /// Of a directory given by its absolute path, links followed.
    pub(super) fn find(path: &[u8]) -> Result<Self, Status> {
        if !path.starts_with(b"/") || path.contains(&0) {
            return Err(Status::invalid_argument("the root of a tree is an absolute path"));
        }
        let asked = Path::new(OsStr::from_bytes(path));
        let failed = |error| status(asked, error);
        let real = fs::canonicalize(asked).map_err(failed)?;
        if !real.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let top = real
            .ancestors()
            .find(|path| is_mount(CWD, path.as_os_str()).unwrap_or(false))
            .unwrap_or(Path::new("/"));
        let prefix = real.strip_prefix(top).unwrap_or(Path::new("")).as_os_str().as_bytes();
        let opened = rustix::fs::open(top, DIRECTORY, Mode::empty());
        Ok(Self { top: opened.map_err(|error| failed(error.into()))?, prefix: prefix.to_vec() })
    }

    /// The path below the top that is meant by one below the tree's root.
    pub(super) fn path(&self, bytes: &[u8]) -> Result<TreePath, Status> {
        TreePath::below(&self.prefix, bytes)
    }

    /// The other way round.
    pub(super) fn shown(&self, path: &TreePath) -> Vec<u8> {
        match self.prefix.len() {
            0 => path.as_bytes().to_vec(),
            length => path.as_bytes().get(length + 1..).unwrap_or_default().to_vec(),
        }
    }
}

/// Opens below `top`; without following links, also as the last name.
pub(super) fn open_below(top: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..8 {
        match rustix::fs::openat2(top, path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile (openat2(2)).
            Err(Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// The directory that something is in.
pub(super) fn open_parent(top: BorrowedFd<'_>, path: &TreePath) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match path.parent() {
        Some(parent) => open_below(top, parent.os(), flags),
        None => Ok(top.try_clone_to_owned()?),
    }
}

/// What is at a path, links not followed; nothing also if its directory is missing.
pub(super) fn look(top: BorrowedFd<'_>, path: &TreePath) -> io::Result<Option<Stat>> {
    let stat = open_parent(top, path)
        .and_then(|parent| Ok(rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)?));
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

/// True if something is mounted there.
fn is_mount(dir: impl AsFd, path: &OsStr) -> io::Result<bool> {
    Ok(attributes(dir, path)?.contains(StatxAttributes::MOUNT_ROOT))
}

fn attributes(dir: impl AsFd, path: &OsStr) -> io::Result<StatxAttributes> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let asked = rustix::fs::statx(dir, path, flags, StatxFlags::TYPE)?;
    Ok(asked.stx_attributes)
}

/// True if it can be neither removed nor replaced: a mount point, or one that chattr(1) protects.
pub(super) fn is_fixed(dir: impl AsFd, path: &OsStr) -> io::Result<bool> {
    let attributes = attributes(&dir, path)?;
    if attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(true);
    }
    // Whatever lies in erofs calls itself immutable, though overlayfs copies it up; it has no such
    // flag that could be asked for.
    Ok(attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND)
        && is_protected(dir, path))
}

/// True if chattr(1) has made it immutable, or one to be added to only.
fn is_protected(dir: impl AsFd, path: &OsStr) -> bool {
    let protected = IFlags::IMMUTABLE | IFlags::APPEND;
    let known = rustix::fs::statat(&dir, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| matches!(kind(&stat), FileType::RegularFile | FileType::Directory));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    known
        && rustix::fs::openat(dir, path, flags, Mode::empty())
            .and_then(rustix::fs::ioctl_getflags)
            .is_ok_and(|flags| flags.intersects(protected))
}

/// The names in a directory.
pub(super) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn os(name: &std::ffi::CString) -> &OsStr {
    OsStr::from_bytes(name.as_bytes())
}

pub(super) fn open_dir_at(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}

/// True if something in this directory, or below it, is fixed. However wide it is, one descriptor is
/// open at a time.
pub(super) fn holds_fixed(top: BorrowedFd<'_>, path: &TreePath) -> io::Result<bool> {
    let mut todo = vec![(path.as_bytes().to_vec(), 0)];
    while let Some((path, depth)) = todo.pop() {
        if depth > DEEPEST {
            return Ok(true);
        }
        let dir = match open_below(top, OsStr::from_bytes(&path), DIRECTORY) {
            Ok(dir) => dir,
            // Something is mounted on it.
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => return Ok(true),
            Err(error) => return Err(error),
        };
        if is_fixed(&dir, OsStr::new("."))? {
            return Ok(true);
        }
        for name in names(dir.as_fd())? {
            let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if is_directory(&stat) {
                todo.push(([&path, &b"/"[..], name.as_bytes()].concat(), depth + 1));
            } else if is_fixed(&dir, os(&name))? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Removes a name and all below it; one that is not there is no error.
pub(super) fn remove_all(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    remove_below(dir, name, 0)
}

fn remove_below(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) if depth <= DEEPEST => {}
        Err(error) => return Err(error.into()),
    }
    // Somebody may still be writing into it.
    for _ in 0..16 {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let inner = open_dir_at(dir, name)?;
        for name in names(inner.as_fd())? {
            remove_below(inner.as_fd(), os(&name), depth + 1)?;
        }
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Makes `to` in `into` what `from` is in `dir`: files are the same files under another name.
pub(super) fn link_tree(
    (dir, from): (BorrowedFd<'_>, &OsStr),
    (into, to): (BorrowedFd<'_>, &OsStr),
    depth: usize,
) -> io::Result<()> {
    let stat = rustix::fs::statat(dir, from, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_directory(&stat) {
        return Ok(rustix::fs::linkat(dir, from, into, to, AtFlags::empty())?);
    }
    if depth > DEEPEST {
        return Err(Errno::LOOP.into());
    }
    rustix::fs::mkdirat(into, to, Mode::from_raw_mode(0o700))?;
    let (old, new) = (open_dir_at(dir, from)?, open_dir_at(into, to)?);
    for name in names(old.as_fd())? {
        link_tree((old.as_fd(), os(&name)), (new.as_fd(), os(&name)), depth + 1)?;
    }
    own(into, to, stat.st_uid, stat.st_gid)?;
    rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |sec: i64, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(&new, &times)?)
}

/// Gives it to somebody, unless it is his already.
pub(super) fn own(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let is = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (is.st_uid, is.st_gid) == (uid, gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The sha256 of a regular file's content or a link's target; `None` of anything else.
pub(super) fn checksum(top: BorrowedFd<'_>, path: &TreePath) -> io::Result<Option<[u8; 32]>> {
    let Some(stat) = look(top, path)? else { return Ok(None) };
    match kind(&stat) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(open_parent(top, path)?, path.name(), Vec::new())?;
            Ok(Some(Sha256::digest(target.as_bytes()).into()))
        }
        FileType::RegularFile => {
            // It may have become a FIFO since, whose opening would wait.
            let opened = open_below(top, path.os(), OFlags::RDONLY | OFlags::NONBLOCK)?;
            digest(File::from(opened)).map(Some)
        }
        _ => Ok(None),
    }
}

fn digest(mut file: File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}
