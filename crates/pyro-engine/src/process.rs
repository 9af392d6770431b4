//! The process that carries a machine.
//!
//! The kernel ends it with the *thread* that started it (PR_SET_PDEATHSIG), not with the process.
//! So each machine has a thread of its own that starts it, waits for it, and lives as long.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

use crate::Usage;
use crate::guard::Guard;
use crate::jail::Jail;

/// What a process does before it becomes a program.
pub(crate) enum Confinement {
    /// Gives up what the program shall not have.
    Jail(Box<Jail>),
    /// Stays behind to watch a program that confines itself.
    Guard(Guard),
}

impl Confinement {
    fn enter(&self) -> io::Result<()> {
        match self {
            Self::Jail(jail) => jail.enter(),
            Self::Guard(guard) => guard.enter(),
        }
    }
}

/// A started process. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The process that does the work: this one, or one that it watches.
    worker: u32,
    /// Field 22 of `/proc/PID/stat`: with it the pid is unique until the next boot.
    pub(crate) start_time: u64,
    /// What to kill: all else ends with it.
    handle: OwnedFd,
}

/// How a process ended.
pub(crate) type Ending = oneshot::Receiver<io::Result<ExitStatus>>;

impl Process {
    /// Starts `command`, confined. `held` is closed on this side once the process has it.
    pub(crate) async fn start(
        mut command: Command,
        confinement: Confinement,
        held: Vec<OwnedFd>,
    ) -> io::Result<(Self, Ending)> {
        let guarded = matches!(confinement, Confinement::Guard(_));
        // SAFETY: `Jail::enter` and `Guard::enter` are written to be called between fork and exec:
        // they neither allocate nor lock.
        unsafe { command.pre_exec(move || confinement.enter()) };
        let (tell_started, started) = oneshot::channel();
        let (tell_ended, ended) = oneshot::channel();
        std::thread::Builder::new().name("machine".into()).stack_size(128 * 1024).spawn(
            move || {
                let spawned = command.spawn();
                // The command holds its stdio, and so the other ends of its pipes.
                drop((command, held));
                let mut child = match spawned {
                    Ok(child) => child,
                    Err(error) => return drop(tell_started.send(Err(error))),
                };
                let begun = match guarded {
                    true => Self::guarded(child.id()),
                    false => Self::of(child.id()),
                };
                let lost = tell_started.send(begun).is_err();
                if lost {
                    // Nobody waits for it any more.
                    let _ = child.kill();
                }
                let _ = tell_ended.send(child.wait());
            },
        )?;
        let process = started.await.map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok((process, ended))
    }

    /// A child that nobody has waited for yet, whose pid is therefore still its own.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Self::carrying(pid, pid, pid)
    }

    /// The same for one that watches another, which watches the program: `pid` is what is named,
    /// `killed` what is ended, `worker` what is measured.
    fn carrying(pid: u32, killed: u32, worker: u32) -> io::Result<Self> {
        let raw =
            i32::try_from(killed).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        let handle = pidfd_open(raw, PidfdFlags::empty())?;
        let start_time = start_time_of(pid).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, worker, start_time, handle })
    }

    /// When spawning is over the guard and what it watches have their final numbers, and wait for
    /// nothing.
    fn guarded(pid: u32) -> io::Result<Self> {
        let first = only_child(pid)?;
        Self::carrying(pid, first, only_child(first)?)
    }

    /// What it takes from the host.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        usage_of(self.worker)
    }

    /// Another handle on it, which is readable once it has ended.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        self.handle.try_clone()
    }

    /// SIGKILL. Ending twice does no harm: the handle never means another process.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// See proc_tid_children(5).
fn only_child(pid: u32) -> io::Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    children.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::NotFound))
}

/// Field 22 of `/proc/PID/stat`: when the process started, in clock ticks since boot.
pub(crate) fn start_time_of(pid: u32) -> Option<u64> {
    start_time(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// What a process takes from the host. See proc_pid_stat(5).
pub(crate) fn usage_of(pid: u32) -> io::Result<Usage> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage {
        cpu: Duration::from_millis(ticks * 1000 / per_second.max(1)),
        memory_bytes: memory_share(pid)?,
    })
}

/// A process's share of the host's memory, in bytes. See proc_pid_smaps_rollup(5).
pub(crate) fn memory_share(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = share.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? << 10)
}

/// Time in user mode and in the kernel, fields 14 and 15, and that of children that have ended,
/// fields 16 and 17.
fn cpu_ticks(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    let fields = fields.split_ascii_whitespace().skip(14 - 3).take(4);
    fields.map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// See proc_pid_stat(5): the program's name, in parentheses, may hold anything.
fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    // The first field after the name is number 3.
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let stat = b"12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 100 1 18";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time(b"12 (a"), None);
        let own = fs::read("/proc/self/stat").unwrap();
        assert!(start_time(&own).unwrap() > 0);
    }
}
