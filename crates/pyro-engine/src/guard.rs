//! Keeps a program that changes its own user tied to its supervisor.
//!
//! A process asks the kernel to die with its parent (PR_SET_PDEATHSIG), but loses that wish when it
//! changes its user, as Firecracker's jailer does. So the program is run in a pid namespace whose
//! first process does nothing but keep that wish: when it dies, the kernel ends everything in the
//! namespace (pid_namespaces(7)).
//!
//! ```text
//! supervisor ── watcher ── first process of the namespace ── the program
//! ```
#![allow(unsafe_code)]

use std::io;

/// Set up before the fork, carried out after it.
pub(crate) struct Guard {
    parent: libc::pid_t,
}

impl Guard {
    /// For a program that this process will start.
    pub(crate) fn new() -> Self {
        Self { parent: std::process::id() as libc::pid_t }
    }

    /// In the forked child, which becomes the watcher and does not return; its grandchild does, and
    /// goes on to be the program. Only system calls: nothing here may allocate or take a lock
    /// (signal-safety(7)).
    pub(crate) fn enter(&self) -> io::Result<()> {
        let mut life = [-1; 2];
        // SAFETY: no memory is passed but `life` and `limit`, which live through their calls.
        unsafe {
            check(libc::setsid())?;
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            check(libc::setrlimit(libc::RLIMIT_CORE, &raw const limit))?;
            let apart = libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
            check(libc::unshare(apart | libc::CLONE_NEWUTS))?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            if libc::getppid() != self.parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            check(libc::pipe2(life.as_mut_ptr(), libc::O_CLOEXEC))?;
        }
        let [watched, held] = life;
        match fork()? {
            0 => {}
            first => watch(first, Some(held)),
        }
        // SAFETY: as above; the descriptors are this process's own.
        unsafe {
            libc::close(held);
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            // Its parent is in another namespace, so its number says nothing; but it holds the other
            // end of this, until it dies.
            let mut poll = libc::pollfd { fd: watched, events: libc::POLLIN, revents: 0 };
            if libc::poll(&raw mut poll, 1, 0) != 0 {
                libc::_exit(libc::EXIT_FAILURE);
            }
        }
        match fork()? {
            0 => {}
            program => watch(program, None),
        }
        // SAFETY: no memory is passed. Older kernels lack the call; then O_CLOEXEC, which the
        // standard library sets on all it opens, has to be enough.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Ok(())
    }
}

fn fork() -> io::Result<libc::pid_t> {
    // SAFETY: the forked child has one thread, and so will its own have.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    Ok(pid)
}

/// Lets go of everything but `held`, waits for `child`, and ends as it did.
fn watch(child: libc::pid_t, held: Option<libc::c_int>) -> ! {
    // SAFETY: no memory is passed but `all` and `status`, which live through their calls. Nothing
    // that ran before the fork is used again.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        // Whoever started the program waits for these to be closed, and for its last words.
        close_all_but(held);
        let mut status = 0;
        loop {
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == child || (ended == -1 && *libc::__errno_location() != libc::EINTR) {
                break;
            }
        }
        libc::_exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// # Safety
/// Whatever owns the other descriptors must not be used again.
unsafe fn close_all_but(held: Option<libc::c_int>) {
    let close = |first: libc::c_int, last: libc::c_uint| {
        // SAFETY: no memory is passed; see the function.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }
    };
    let closed = match held {
        Some(held) => {
            if held > 0 {
                close(0, held as libc::c_uint - 1);
            }
            close(held + 1, libc::c_uint::MAX)
        }
        None => close(0, libc::c_uint::MAX),
    };
    if closed == -1 {
        for fd in (0..65_536).filter(|fd| Some(*fd) != held) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
