//! The user ids of a container: a range of its own.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

/// How many ids a container has: as many as a Debian system uses.
pub(super) const COUNT: u32 = 65_536;

/// Where the ranges begin and how many there are: above what accounts and `/etc/subuid` have, below
/// the ids of virtual machines' processes.
const FIRST: u32 = 0x1000_0000;
const RANGES: u32 = 0x5000;

/// On a disk, what the host itself has to own while it works there: overlayfs makes its whiteouts
/// as whoever mounted it, which is the host's root, and root is in no container's range.
const HOSTS_ROOT_ON_DISK: u32 = 0xffff_0000;

/// The first of a container's ids on the host; for one that was given `run_as`, most likely no
/// other container's.
pub(super) fn base(run_as: Option<u32>) -> u32 {
    FIRST + run_as.map_or(0, |id| id % RANGES) * COUNT
}

/// A user namespace that maps what lies on disk (ids from 0) to the range that begins at `base`.
/// It serves for mounts alone; no process lives in it.
pub(super) fn on_disk(base: u32) -> io::Result<OwnedFd> {
    namespace(&format!("0 {base} {COUNT}\n{HOSTS_ROOT_ON_DISK} 0 1\n"))
}

/// A namespace outlives the process that made it as long as somebody has it open.
fn namespace(map: &str) -> io::Result<OwnedFd> {
    let none = 0_u64;
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as libc::c_long;
    // SAFETY: a fork. The child makes one system call after the other and never returns, so what
    // other threads may have locked does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: no memory is passed.
            unsafe { libc::pause() };
        },
        _ => {}
    }
    let made = fs::write(format!("/proc/{pid}/uid_map"), map)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), map))
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    // SAFETY: the child was not waited for, so the number is still its own; the status may be null.
    unsafe {
        libc::kill(pid as libc::pid_t, libc::SIGKILL);
        libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0);
    }
    made.map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_stay_below_other_ids() {
        assert_eq!(base(None), FIRST);
        assert_eq!(base(Some(1)), FIRST + COUNT);
        let last = u64::from(base(Some(RANGES - 1))) + u64::from(COUNT);
        assert!(last <= 0x6000_0000, "{last:#x}");
    }
}
