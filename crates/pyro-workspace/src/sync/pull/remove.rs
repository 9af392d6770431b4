//! Removing whatever is at a name, through no link and without recursion.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, unlinkat};
use rustix::io::Errno;

use crate::sync::beneath::DIRECTORY;

/// A directory that is being emptied.
struct Emptying {
    fd: OwnedFd,
    name: Vec<u8>,
    names: Vec<Vec<u8>>,
}

impl Emptying {
    fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Self> {
        let fd = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            // Its owner may not even look into it.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?
            }
            other => other?,
        };
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(Self { fd, name: name.to_vec(), names })
    }
}

/// Nothing there is as good.
pub(super) fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let mut above = vec![Emptying::open(parent, name)?];
    while let Some(dir) = above.last_mut() {
        if let Some(inner) = dir.names.pop() {
            match unlinkat(&dir.fd, inner.as_slice(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let inner = Emptying::open(dir.fd.as_fd(), &inner)?;
                    above.push(inner);
                }
                Err(errno) => return Err(errno),
            }
        } else if let Some(dir) = above.pop() {
            let parent = above.last().map_or(parent, |above| above.fd.as_fd());
            unlinkat(parent, dir.name.as_slice(), AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}
