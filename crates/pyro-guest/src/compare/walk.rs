//! All names below a directory, without recursion and through no link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, SeekFrom};
use rustix::io::Errno;
use tonic::Status;

use super::{OPEN_DIRECTORY, status};

/// Each level holds a descriptor open. What is nested deeper is told as a directory, not what is in it.
const DEPTH_MAX: usize = 256;

/// Hears a path, and whether it is a directory.
pub(super) type Tell<'a> = &'a mut dyn FnMut(&[u8], bool) -> Result<(), Status>;

/// Tells of each name of `top` that is `wanted`, and of everything below it, directories first.
pub(super) fn walk(
    top: BorrowedFd<'_>,
    path: &[u8],
    wanted: &dyn Fn(&[u8]) -> bool,
    tell: Tell<'_>,
) -> Result<(), Status> {
    // One of our own, for it is read to its end.
    let own = rustix::fs::openat(top, c".", OPEN_DIRECTORY, Mode::empty())
        .map_err(|error| status(path, error))?;
    let mut levels = vec![Level::list(own, path.to_vec())?];
    levels[0].names.retain(|(name, _)| wanted(name));
    while let Some(level) = levels.last_mut() {
        let Some((name, kind)) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = join(&level.path, &name);
        let is_directory = match kind {
            FileType::Unknown => rustix::fs::statat(&level.fd, &*name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            kind => kind == FileType::Directory,
        };
        tell(&path, is_directory)?;
        if !is_directory || levels.len() == DEPTH_MAX {
            continue;
        }
        let Some(level) = levels.last() else { break };
        match rustix::fs::openat(&level.fd, &*name, OPEN_DIRECTORY, Mode::empty()) {
            Ok(inner) => levels.push(Level::list(inner, path)?),
            // It went away, or became something else.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(status(&path, error)),
        }
    }
    Ok(())
}

struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    names: Vec<(Vec<u8>, FileType)>,
}

impl Level {
    fn list(fd: OwnedFd, path: Vec<u8>) -> Result<Self, Status> {
        let failed = |error| status(&path, error);
        let mut names = Vec::new();
        let _ = rustix::fs::seek(&fd, SeekFrom::Start(0));
        for entry in Dir::read_from(fd.as_fd()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(Self { fd, path, names })
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
