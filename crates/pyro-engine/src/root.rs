//! A root filesystem for one process: an empty one in memory, filled with parts of the old one.
//!
//! Described before a fork, where memory may still be allocated; built after it, by system calls
//! alone. Paths in it are relative to the new root.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What programs and their libraries need, read-only. Where one is a link (merged `/usr`), the link
/// is made again.
pub(crate) const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/lib32",
    "/libx32",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
];

/// The root in the making.
pub(crate) struct Root {
    /// Any directory; what is in it is covered.
    over: CString,
    /// Of the memory that it is made in; see tmpfs(5).
    options: &'static CStr,
    steps: Vec<Step>,
    /// Kept open until the root stands.
    held: Vec<OwnedFd>,
    seal: Seal,
}

/// What happens if a part of the old root cannot be made read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// There is no new root.
    Demanded,
    /// Nothing. In a user namespace some flags of a mount are locked and the kernel refuses to set
    /// others; its owner could not write there in the first place.
    Tried,
}

enum Step {
    Directory(CString),
    File(CString),
    Link { target: CString, path: CString },
    Bind { source: CString, path: CString, seal: Seal },
    BindOwn { source: CString, path: CString },
    Mount { kind: &'static CStr, path: CString, flags: libc::c_ulong, options: &'static CStr },
    Attach { tree: RawFd, path: CString },
    Copy { from: RawFd, length: usize, path: CString, mode: libc::mode_t },
}

impl Root {
    /// An empty root in the place of the directory `over`.
    pub(crate) fn new(over: &Path, options: &'static CStr, seal: Seal) -> io::Result<Self> {
        Ok(Self { over: c_string(over)?, options, steps: Vec::new(), held: Vec::new(), seal })
    }

    /// Shows a part of the old root under its own name, read-only. One that is not there is left
    /// out.
    pub(crate) fn show(&mut self, part: &Path) -> io::Result<()> {
        let Ok(meta) = fs::symlink_metadata(part) else { return Ok(()) };
        let inner = part.strip_prefix("/").unwrap_or(part);
        let ancestors: Vec<&Path> = inner.ancestors().skip(1).collect();
        for parent in ancestors.into_iter().rev().filter(|p| !p.as_os_str().is_empty()) {
            self.steps.push(Step::Directory(c_string(parent)?));
        }
        let path = c_string(inner)?;
        if meta.is_symlink() {
            let target = c_string(&fs::read_link(part)?)?;
            self.steps.push(Step::Link { target, path });
            return Ok(());
        }
        self.steps.push(if meta.is_dir() {
            Step::Directory(path.clone())
        } else {
            Step::File(path.clone())
        });
        self.steps.push(Step::Bind { source: c_string(part)?, path, seal: self.seal });
        Ok(())
    }

    /// An empty directory.
    pub(crate) fn directory(&mut self, path: &CStr) {
        self.steps.push(Step::Directory(path.into()));
    }

    /// A directory of the old root, looked up by whoever builds, in the place of an empty one.
    pub(crate) fn bind(&mut self, source: &CStr, path: &CStr) {
        self.steps.push(Step::Bind { source: source.into(), path: path.into(), seal: self.seal });
    }

    /// The same, to be written to; nothing in it can be run or opened as a device.
    pub(crate) fn bind_own(&mut self, source: &CStr, path: &CStr) {
        self.steps.push(Step::BindOwn { source: source.into(), path: path.into() });
    }

    /// A filesystem of its own in the place of an empty directory.
    pub(crate) fn mount(
        &mut self,
        kind: &'static CStr,
        path: &CStr,
        flags: libc::c_ulong,
        options: &'static CStr,
    ) {
        self.steps.push(Step::Mount { kind, path: path.into(), flags, options });
    }

    /// A detached tree in the place of an empty directory.
    pub(crate) fn attach(&mut self, tree: OwnedFd, path: &str) -> io::Result<()> {
        self.steps.push(Step::Attach { tree: tree.as_raw_fd(), path: inner(path)? });
        self.held.push(tree);
        Ok(())
    }

    /// A copy of an open file, which nothing can write to any more once all stands.
    pub(crate) fn copy(&mut self, from: OwnedFd, path: &str, mode: u32) -> io::Result<()> {
        let length = rustix::fs::fstat(&from)?.st_size;
        self.steps.push(Step::Copy {
            from: from.as_raw_fd(),
            length: usize::try_from(length).unwrap_or(0),
            path: inner(path)?,
            mode,
        });
        self.held.push(from);
        Ok(())
    }

    /// The descriptors that must stay open until [`Self::enter`].
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.held.iter().map(AsRawFd::as_raw_fd)
    }

    /// Builds it and makes it the only root there is; see pivot_root(2), "pivot_root(\".\", \".\")".
    /// For a forked child with a mount namespace of its own: only system calls on memory made
    /// before the fork.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let none = std::ptr::null::<libc::c_char>();
        // SAFETY: here and below all pointers are null where that is allowed, or come from strings
        // that are live and end in NUL.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()))?;
            let (tmpfs, options) = (c"tmpfs".as_ptr(), self.options.as_ptr().cast());
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            check(libc::mount(tmpfs, self.over.as_ptr(), tmpfs, flags, options))?;
            check(libc::chdir(self.over.as_ptr()))?;
        }
        for step in &self.steps {
            step.carry_out()?;
        }
        // SAFETY: as above.
        unsafe {
            let here = c".".as_ptr();
            let seal = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID;
            check(libc::mount(none, here, none, seal | libc::MS_NODEV, std::ptr::null()))?;
            check(libc::syscall(libc::SYS_pivot_root, here, here) as libc::c_int)?;
            check(libc::umount2(here, libc::MNT_DETACH))?;
            check(libc::chdir(c"/".as_ptr()))
        }
    }
}

impl Step {
    fn carry_out(&self) -> io::Result<()> {
        let none = std::ptr::null::<libc::c_char>();
        // SAFETY: all pointers come from strings that are live and end in NUL, or are null where
        // mount(2) allows it; descriptors are those of the root, which holds them.
        unsafe {
            match self {
                Self::Directory(path) => exists_too(libc::mkdir(path.as_ptr(), 0o755)),
                Self::File(path) => {
                    let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o444);
                    check(fd)?;
                    check(libc::close(fd))
                }
                Self::Link { target, path } => check(libc::symlink(target.as_ptr(), path.as_ptr())),
                Self::Bind { source, path, seal } => {
                    let bind = libc::MS_BIND | libc::MS_REC;
                    check(libc::mount(source.as_ptr(), path.as_ptr(), none, bind, none.cast()))?;
                    let flags =
                        libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID;
                    let sealed = check(libc::mount(none, path.as_ptr(), none, flags, none.cast()));
                    if *seal == Seal::Tried { Ok(()) } else { sealed }
                }
                Self::BindOwn { source, path } => {
                    let bind = libc::MS_BIND;
                    check(libc::mount(source.as_ptr(), path.as_ptr(), none, bind, none.cast()))?;
                    // Refused in a user namespace if it would loosen what is locked.
                    let tame = libc::MS_REMOUNT
                        | libc::MS_BIND
                        | libc::MS_NOSUID
                        | libc::MS_NODEV
                        | libc::MS_NOEXEC;
                    libc::mount(none, path.as_ptr(), none, tame, none.cast());
                    Ok(())
                }
                Self::Mount { kind, path, flags, options } => check(libc::mount(
                    kind.as_ptr(),
                    path.as_ptr(),
                    kind.as_ptr(),
                    *flags,
                    options.as_ptr().cast(),
                )),
                Self::Attach { tree, path } => check(libc::syscall(
                    libc::SYS_move_mount,
                    *tree,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    path.as_ptr(),
                    libc::MOVE_MOUNT_F_EMPTY_PATH,
                ) as libc::c_int),
                Self::Copy { from, length, path, mode } => {
                    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
                    let to = libc::open(path.as_ptr(), flags, *mode);
                    check(to)?;
                    let mut at: libc::off_t = 0;
                    while (at as usize) < *length {
                        let sent = libc::sendfile(to, *from, &raw mut at, *length - at as usize);
                        check(sent as libc::c_int)?;
                        if sent == 0 {
                            return Err(io::Error::from_raw_os_error(libc::EIO));
                        }
                    }
                    check(libc::fchmod(to, *mode))?;
                    check(libc::close(to))
                }
            }
        }
    }
}

fn inner(path: &str) -> io::Result<CString> {
    Ok(CString::new(path.trim_start_matches('/'))?)
}

pub(crate) fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// What a system call of the C library came to.
pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn exists_too(result: libc::c_int) -> io::Result<()> {
    check(result).or_else(|error| match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(()),
        _ => Err(error),
    })
}
