//! The only files that an OCI runtime sees while it makes a container.
//!
//! A runtime is root on the host and deals with a hostile root filesystem; more than once one was
//! led to open, run or leave open what is the host's (CVE-2019-5736, CVE-2024-21626,
//! CVE-2025-31133). So it runs in a root of its own that holds system libraries, the container's
//! layers and nothing else: a way out of the container leads there.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Paths on the stage.
pub(super) const BUNDLE: &str = "/bundle";
pub(super) const ROOTFS: &str = "/bundle/rootfs";
pub(super) const AGENT: &str = "/agent";
pub(super) const RUNTIME_STATE: &str = "/state/oci";
pub(super) const PID_FILE: &CStr = c"/state/pid";

/// What programs and their libraries need, read-only. Where one is a link (merged `/usr`), the link
/// is made again.
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/lib32",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
];

/// Devices that runtimes bind into containers, where nobody can make devices.
const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

const PLAIN: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Large enough for the agent and the configuration, and small, for it is memory.
const SIZE: &CStr = c"mode=0755,size=16m";
const STATE_SIZE: &CStr = c"mode=0700,size=4m";

/// How to build the stage: made before the fork, where memory may still be allocated, carried out
/// after it. Paths are relative to the new root.
pub(super) struct Stage {
    /// Any directory; what is in it is covered.
    over: CString,
    steps: Vec<Step>,
    /// Kept open until the stage stands.
    held: Vec<OwnedFd>,
}

enum Step {
    Directory(CString),
    File(CString),
    Link { target: CString, path: CString },
    Bind { source: CString, path: CString },
    Mount { kind: &'static CStr, path: CString, flags: libc::c_ulong, options: &'static CStr },
    Attach { tree: RawFd, path: CString },
    Copy { from: RawFd, length: usize, path: CString, mode: libc::mode_t },
}

impl Stage {
    /// A stage for `runtime` in the place of the directory `over`.
    pub(super) fn new(over: &Path, runtime: &Path) -> io::Result<Self> {
        let mut stage = Self { over: c_string(over)?, steps: Vec::new(), held: Vec::new() };
        let mut parts: Vec<PathBuf> = SYSTEM.iter().chain(DEVICES).map(PathBuf::from).collect();
        if !SYSTEM.iter().any(|part| runtime.starts_with(part)) {
            parts.push(runtime.to_owned());
        }
        for part in parts {
            stage.add(&part)?;
        }
        for path in ["proc", "sys", "state", "bundle", "bundle/rootfs"] {
            stage.steps.push(Step::Directory(CString::new(path)?));
        }
        stage.mount(c"proc", "proc", PLAIN, c"");
        stage.mount(c"sysfs", "sys", PLAIN, c"");
        stage.mount(c"tmpfs", "state", libc::MS_NOSUID | libc::MS_NODEV, STATE_SIZE);
        Ok(stage)
    }

    /// Shows the hierarchy of cgroups v2 where runtimes look for it, and nothing of v1: they then
    /// take this host for one that has v2 alone.
    pub(super) fn with_cgroups(mut self) -> Self {
        self.mount(c"cgroup2", "sys/fs/cgroup", PLAIN, c"");
        self
    }

    /// Attaches a detached tree.
    pub(super) fn attach(mut self, tree: OwnedFd, path: &str) -> io::Result<Self> {
        self.steps.push(Step::Attach { tree: tree.as_raw_fd(), path: inner(path)? });
        self.held.push(tree);
        Ok(self)
    }

    /// Puts a copy of an open file there, which nothing can write to any more once all stands.
    pub(super) fn copy(mut self, from: OwnedFd, path: &str, mode: u32) -> io::Result<Self> {
        let length = rustix::fs::fstat(&from)?.st_size;
        self.steps.push(Step::Copy {
            from: from.as_raw_fd(),
            length: usize::try_from(length).unwrap_or(0),
            path: inner(path)?,
            mode,
        });
        self.held.push(from);
        Ok(self)
    }

    /// The descriptors that must stay open until [`Self::enter`].
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.held.iter().map(AsRawFd::as_raw_fd)
    }

    fn mount(
        &mut self,
        kind: &'static CStr,
        path: &str,
        flags: libc::c_ulong,
        options: &'static CStr,
    ) {
        if let Ok(path) = CString::new(path) {
            self.steps.push(Step::Mount { kind, path, flags, options });
        }
    }

    fn add(&mut self, part: &Path) -> io::Result<()> {
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
        self.steps.push(Step::Bind { source: c_string(part)?, path });
        Ok(())
    }

    /// Builds the stage and makes it the only root there is. For a forked child with a mount
    /// namespace of its own: only system calls on memory made before the fork.
    pub(super) fn enter(&self) -> io::Result<()> {
        let none = std::ptr::null::<libc::c_char>();
        // SAFETY: here and below all pointers are null where that is allowed, or come from strings
        // that are live and end in NUL.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()))?;
            let tmpfs = c"tmpfs".as_ptr();
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            check(libc::mount(tmpfs, self.over.as_ptr(), tmpfs, flags, SIZE.as_ptr().cast()))?;
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
        // SAFETY: all pointers come from strings that are live and end in NUL, or are null where
        // mount(2) allows it; descriptors are those of the stage, which holds them.
        unsafe {
            match self {
                Self::Directory(path) => exists_too(libc::mkdir(path.as_ptr(), 0o755)),
                Self::File(path) => {
                    let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_CLOEXEC, 0o444);
                    check(fd)?;
                    check(libc::close(fd))
                }
                Self::Link { target, path } => check(libc::symlink(target.as_ptr(), path.as_ptr())),
                Self::Bind { source, path } => {
                    let none = std::ptr::null();
                    let bind = libc::MS_BIND | libc::MS_REC;
                    check(libc::mount(source.as_ptr(), path.as_ptr(), none, bind, none.cast()))?;
                    let seal = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID;
                    check(libc::mount(none, path.as_ptr(), none, seal, none.cast()))
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

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn exists_too(result: libc::c_int) -> io::Result<()> {
    check(result).or_else(|error| match error.raw_os_error() {
        Some(libc::EEXIST) => Ok(()),
        _ => Err(error),
    })
}
