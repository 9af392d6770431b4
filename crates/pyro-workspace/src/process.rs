//! Processes of this host that a record names, which may be long gone.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::record::ProcessId;

impl ProcessId {
    /// The calling process.
    pub(crate) fn own() -> Option<Self> {
        let pid = u32::try_from(getpid().as_raw_nonzero().get()).ok()?;
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// Sends SIGKILL, unless it is gone or its number belongs to another by now, and waits at most
    /// `patience` for its end.
    pub(crate) fn kill(self, patience: Duration) {
        let Some(handle) = self.handle() else { return };
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        wait(&handle, patience);
    }

    /// The same for a machine whose supervisor is dead: it ends by itself, and may still be busy
    /// taking away what it had on this host, which is why it is not killed at once.
    pub(crate) fn outlive(self, patience: Duration) {
        if let Some(handle) = self.handle()
            && !wait(&handle, OWN_END)
        {
            self.kill(patience);
        }
    }

    /// A descriptor of it, unless it is gone or its number belongs to another by now.
    fn handle(self) -> Option<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        // The descriptor pins the process first; only then is it worth asking who it is.
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        (start_time(self.pid) == Some(self.start_time)).then_some(handle)
    }
}

/// How long a machine may take to end by itself; some milliseconds on an idle host.
const OWN_END: Duration = Duration::from_secs(2);

/// Waits for the end of a process; false if it takes longer than `patience`.
fn wait(handle: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)).is_ok_and(|ended| ended > 0)
}

/// Field 22 of `/proc/PID/stat` (proc(5)). The second field, the name, may hold anything but ends
/// at the last parenthesis.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_killed_only_if_it_is_the_one_that_was_meant() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = ProcessId { pid: child.id(), start_time: start_time(child.id()).unwrap() };
        let namesake = ProcessId { start_time: identity.start_time + 1, ..identity };
        namesake.kill(Duration::from_secs(1));
        assert!(child.try_wait().unwrap().is_none());
        identity.kill(Duration::from_secs(5));
        assert!(!child.wait().unwrap().success());
        identity.kill(Duration::from_secs(5));
    }
}
