//! Work that needs the rights of the namespace around an ordinary user's containers: to make, read
//! and remove files of all their owners.
//!
//! It is done by a fork of this process in a user namespace of its own, for nobody can enter one
//! who has several threads (setns(2), unshare(2)).
#![allow(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::mapping::Mapping;

/// A forked process that is collected when this is dropped. It has to end by itself by then.
pub(super) struct Helper {
    pid: libc::pid_t,
    /// Carries the outcome, and tells the helper if this process is gone.
    link: UnixStream,
}

/// Whether a helper may live longer than the thread that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It ends with that thread at the latest.
    Bound,
    /// It ends when it no longer hears of this process.
    Free,
}

/// Does `work` with the rights of root over all ids of `mapping`, and waits for what it comes to.
pub(super) fn perform(
    mapping: &Mapping,
    work: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    Helper::start(mapping, Life::Bound, &[], work)?.outcome()
}

impl Helper {
    /// Starts `work`, which finds the descriptors of `keep` open and must not use others of this
    /// process. It must not print, log, or take a lock that another thread may hold.
    pub(super) fn start(
        mapping: &Mapping,
        life: Life,
        keep: &[RawFd],
        work: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Self> {
        let (link, theirs) = UnixStream::pair()?;
        let parent = std::process::id();
        // SAFETY: the child has one thread, and the C library leaves its allocator usable there. It
        // touches no other lock: what `work` may do is said above. It never returns.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                let theirs = AssertUnwindSafe(OwnedFd::from(theirs));
                let work = AssertUnwindSafe(work);
                let _ = catch_unwind(move || become_helper(theirs, life, parent, keep, work));
                // SAFETY: ends the process without running anything of its owner's.
                unsafe { libc::_exit(libc::EXIT_FAILURE) }
            }
            _ => {}
        }
        drop(theirs);
        let mut helper = Self { pid, link };
        helper.settle(mapping)?;
        Ok(helper)
    }

    /// Gives it its ids once it has made its namespace.
    fn settle(&mut self, mapping: &Mapping) -> io::Result<()> {
        let mut byte = [0; 1];
        self.link.read_exact(&mut byte).map_err(|_| io::ErrorKind::BrokenPipe)?;
        if byte[0] != READY {
            return Err(self.failure());
        }
        mapping.apply(self.pid.unsigned_abs())?;
        self.link.write_all(&[READY])
    }

    /// Waits until its work is done.
    fn outcome(mut self) -> io::Result<Vec<u8>> {
        let mut byte = [0; 1];
        match self.link.read_exact(&mut byte) {
            Ok(()) if byte[0] == READY => {
                let mut outcome = Vec::new();
                self.link.read_to_end(&mut outcome)?;
                Ok(outcome)
            }
            Ok(()) => Err(self.failure()),
            Err(_) => Err(io::Error::other("the helper for containers died")),
        }
    }

    /// What it says of its failure: the number of the error, if there is one, and words.
    fn failure(&mut self) -> io::Error {
        let mut number = [0; 4];
        let mut words = String::new();
        if self.link.read_exact(&mut number).is_err()
            || self.link.read_to_string(&mut words).is_err()
        {
            return io::ErrorKind::BrokenPipe.into();
        }
        match i32::from_le_bytes(number) {
            0 => io::Error::other(words),
            number => {
                let kind = io::Error::from_raw_os_error(number).kind();
                io::Error::new(kind, words)
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // SAFETY: the child was not waited for, so the number is still its own; the status may be
        // null. What it works on was made to be left in the middle.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

const READY: u8 = 1;
const FAILED: u8 = 2;

fn become_helper(
    link: AssertUnwindSafe<OwnedFd>,
    life: Life,
    parent: u32,
    keep: &[RawFd],
    AssertUnwindSafe(work): AssertUnwindSafe<impl FnOnce() -> io::Result<Vec<u8>>>,
) {
    let mut link = UnixStream::from(link.0);
    let prepared = prepare(&mut link, life, parent, keep);
    let done = prepared.and_then(|()| work());
    let _ = match done {
        Ok(outcome) => link.write_all(&[&[READY], &outcome[..]].concat()),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(0).to_le_bytes();
            let words = error.to_string();
            link.write_all(&[&[FAILED], &number[..], words.as_bytes()].concat())
        }
    };
}

fn prepare(link: &mut UnixStream, life: Life, parent: u32, keep: &[RawFd]) -> io::Result<()> {
    // SAFETY: no memory is passed but a signal set and a limit, which live through their calls.
    unsafe {
        // Its owner's terminal and signal handlers are not its own.
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        libc::umask(0o022);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for stream in 0..3 {
            libc::dup2(null, stream);
        }
        if life == Life::Bound {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            if libc::getppid().unsigned_abs() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let mut files: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) == 0 {
            files.rlim_cur = files.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
        }
    }
    let mut kept: Vec<RawFd> = keep.iter().copied().chain([link.as_raw_fd()]).collect();
    kept.sort_unstable();
    super::super::keeper::close_all_but(&kept);
    // SAFETY: no memory is passed; this process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } == -1 {
        return Err(io::Error::last_os_error());
    }
    link.write_all(&[READY])?;
    link.read_exact(&mut [0; 1]).map_err(|_| io::ErrorKind::BrokenPipe)?;
    // SAFETY: no memory is passed. The calls that drop groups fail where nobody may drop any.
    unsafe {
        libc::setgroups(0, std::ptr::null());
        // A change of user may have taken it away.
        if life == Life::Bound {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        }
    }
    Ok(())
}
