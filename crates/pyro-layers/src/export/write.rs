//! Files written onto the host's disk.

use std::{
    ffi::OsStr,
    fs::File,
    ops::ControlFlow,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
};

use pyro_contract::{diff::FileKind, path::BytePath, progress::Progress};
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, ftruncate, futimens, mkdirat, mkfifoat,
    openat, symlinkat, utimensat,
};

use super::{
    Exported,
    plan::{Plan, Sink},
    target::failed,
};
use crate::{
    content::Content,
    layer::{Layer, LayerError, Meta, Node, Result},
};

/// Runs of zeros of at least this size become holes. Usual filesystems' block size.
const HOLE: usize = 4096;

/// Writes a tree under one name of a directory.
pub(super) struct Writer<'a> {
    layer: &'a dyn Layer,
    progress: &'a dyn Progress,
}

impl<'a> Writer<'a> {
    pub(super) fn new(layer: &'a dyn Layer, progress: &'a dyn Progress) -> Self {
        Self { layer, progress }
    }

    pub(super) fn write(&self, node: Node, dir: BorrowedFd<'_>, name: &OsStr) -> Result<Exported> {
        let mut open = OpenDirs { root: dir, open: Vec::new(), progress: self.progress };
        Plan::new(self.layer, self.progress).run(name.as_bytes(), node, &mut open)
    }
}

/// The directories that are being filled, from the outside in.
struct OpenDirs<'a> {
    root: BorrowedFd<'a>,
    open: Vec<OwnedFd>,
    progress: &'a dyn Progress,
}

impl OpenDirs<'_> {
    fn last(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |fd| fd.as_fd())
    }
}

impl Sink for OpenDirs<'_> {
    fn enter(&mut self, name: &[u8], _: &Content<'_>) -> Result<()> {
        let failed = |error| failed(attempt("make the directory", name), error);
        let os_name = OsStr::from_bytes(name);
        // Nobody else gets in, and we do, until it is complete.
        mkdirat(self.last(), os_name, Mode::RWXU).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.last(), os_name, flags, Mode::empty()).map_err(failed)?;
        self.open.push(fd);
        Ok(())
    }

    fn leave(&mut self, dir: &Content<'_>) -> Result<()> {
        match self.open.pop() {
            Some(fd) => finish(fd.as_fd(), dir.meta(), b"."),
            None => Ok(()),
        }
    }

    fn put(&mut self, name: &[u8], file: &Content<'_>) -> Result<()> {
        let failed = |error| failed(attempt("write", name), error);
        let os_name = OsStr::from_bytes(name);
        match file.meta().kind {
            FileKind::Symlink => {
                let target = file.target()?.unwrap_or_else(|| BytePath::new(&b""[..]));
                symlinkat(target.as_bytes(), self.last(), os_name).map_err(failed)?;
                let times = times(file.meta());
                utimensat(self.last(), os_name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            FileKind::Fifo => mkfifoat(self.last(), os_name, mode(file.meta())).map_err(failed),
            _ => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd =
                    openat(self.last(), os_name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let out = File::from(fd);
                copy(file, &out, name, self.progress)?;
                finish(out.as_fd(), file.meta(), name)
            }
        }
    }
}

/// Copies content, leaving holes where there are only zeros.
fn copy(file: &Content<'_>, out: &File, name: &[u8], progress: &dyn Progress) -> Result<()> {
    let mut offset = 0;
    file.read_blocks(progress, |block| {
        for piece in block.chunks(HOLE) {
            if piece.iter().any(|&byte| byte != 0) {
                out.write_all_at(piece, offset).map_err(LayerError::io(attempt("write", name)))?;
            }
            offset += piece.len() as u64;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    ftruncate(out, offset).map_err(|error| failed(attempt("write", name), error))
}

/// Sets times and mode last: writing changes the one, and the other may forbid writing.
fn finish(fd: BorrowedFd<'_>, meta: &Meta, name: &[u8]) -> Result<()> {
    futimens(fd, &times(meta))
        .and_then(|()| fchmod(fd, mode(meta)))
        .map_err(|error| failed(attempt("set mode and time of", name), error))
}

/// Without setuid and setgid, which would lend the caller's rights to the guest's code.
fn mode(meta: &Meta) -> Mode {
    Mode::from_raw_mode(u32::from(meta.mode & 0o1777))
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn attempt(what: &str, name: &[u8]) -> String {
    format!("cannot {what} {}", BytePath::new(name))
}
