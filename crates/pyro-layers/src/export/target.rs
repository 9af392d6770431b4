//! The place that an export goes to, and the step that makes it visible.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, fchmod, openat, renameat_with, statat,
        unlinkat,
    },
    io::Errno,
};

use crate::layer::{LayerError, Result};

/// A destination that does not exist yet, or is to be replaced. Whatever was built under the
/// temporary name is removed again unless it is published.
pub(super) struct Target {
    parent: OwnedFd,
    shown: PathBuf,
    name: OsString,
    temporary: OsString,
    force: bool,
}

impl Target {
    /// Opens the directory that `dest` is to lie in.
    pub(super) fn prepare(dest: &Path, force: bool) -> Result<Self> {
        let shown = dest.to_path_buf();
        // `a/..` and `/` have no name that could be replaced.
        let Some(name) = dest.file_name().map(OsStr::to_owned) else {
            return Err(LayerError::UnsafeTarget(format!(
                "cannot export to {}: name a file or directory to be made",
                dest.display()
            )));
        };
        let above = match dest.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let parent = openat(CWD, above, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => LayerError::NotFound(format!(
                "directory {} to export into; make it first",
                above.display()
            )),
            error => failed(format!("cannot open {}", above.display()), error),
        })?;
        let target = Self { parent, shown, temporary: temporary_name(&name), name, force };
        if !force && target.exists()? {
            return Err(target.refusal());
        }
        Ok(target)
    }

    /// The directory to build in.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// The name to build under.
    pub(super) fn temporary(&self) -> &OsStr {
        &self.temporary
    }

    /// Puts what was built in its place. Dropping the target then removes what was there.
    pub(super) fn publish(self) -> Result<()> {
        let rename =
            |flags| renameat_with(&self.parent, &self.temporary, &self.parent, &self.name, flags);
        // `renameat2` with flags is not known to every filesystem (NFS, some FUSE).
        let result = match rename(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if self.force => rename(RenameFlags::EXCHANGE),
            Err(Errno::INVAL) if self.force || !self.exists()? => {
                if self.exists()? {
                    remove(self.dir(), &self.name)?;
                }
                rename(RenameFlags::empty())
            }
            result => result,
        };
        match result {
            Ok(()) => Ok(()),
            Err(Errno::EXIST | Errno::INVAL) => Err(self.refusal()),
            Err(error) => Err(failed(format!("cannot replace {}", self.shown.display()), error)),
        }
    }

    fn exists(&self) -> Result<bool> {
        match statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failed(format!("cannot look at {}", self.shown.display()), error)),
        }
    }

    fn refusal(&self) -> LayerError {
        LayerError::UnsafeTarget(format!(
            "{} exists already; choose another name, or replace it with --force",
            self.shown.display()
        ))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Nothing is there after a plain rename. After an exchange it is what was replaced, after
        // a failure what was begun; an error here has nobody to go to.
        let _ = remove(self.dir(), &self.temporary);
    }
}

/// Names what is being built after what it will be, so that a person who finds it after a power
/// cut knows what it was.
fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    // A name of full length leaves no room for more.
    let short: String = name.to_string_lossy().chars().take(50).collect();
    temporary.push(short);
    let mut random = [0; 8];
    // Without randomness the name is merely easier to guess; it is never opened if it exists.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
    temporary.push(format!(".pyro-partial-{:016x}", u64::from_ne_bytes(random)));
    temporary
}

/// Removes a file, link or whole directory, never through a link and without recursion.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let failed = |error| failed(format!("cannot remove {}", name.display()), error);
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut above = vec![Emptying::open(parent, name).map_err(failed)?];
    while let Some(dir) = above.last_mut() {
        if let Some(inner) = dir.names.pop() {
            match unlinkat(&dir.fd, &inner, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    let inner = Emptying::open(dir.fd.as_fd(), &inner).map_err(failed)?;
                    above.push(inner);
                }
                Err(error) => return Err(failed(error)),
            }
        } else if let Some(dir) = above.pop() {
            let parent = above.last().map_or(parent, |above| above.fd.as_fd());
            unlinkat(parent, &dir.name, AtFlags::REMOVEDIR).map_err(failed)?;
        }
    }
    Ok(())
}

/// A directory that is being emptied, and what is left in it.
struct Emptying {
    name: OsString,
    fd: OwnedFd,
    names: Vec<OsString>,
}

impl Emptying {
    fn open(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        // Even its owner cannot empty a directory without write permission. If this fails, so
        // will the removal, and that is told.
        let _ = fchmod(&fd, Mode::RWXU);
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(Self { name: name.to_owned(), fd, names })
    }
}

pub(super) fn failed(attempt: String, error: Errno) -> LayerError {
    LayerError::Io { attempt, source: io::Error::from(error) }
}
