//! One cgroup per command, so that its whole tree can be ended at once, whatever sessions and
//! process groups it made, and so that a death for lack of memory is known as one. See the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log;

/// How long it may take until all commands stand still; one that hangs in the kernel never does.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// Threads that user code may not take: a fork bomb shall leave the agent some.
const SPARE_THREADS: u64 = 128;

/// Where commands get their cgroups.
#[derive(Clone)]
pub(crate) struct Cgroups(Arc<Shared>);

struct Shared {
    parent: PathBuf,
    /// What the whole machine knows of deaths for lack of memory, where a command's own cgroup does
    /// not: in a container on a host whose memory is counted elsewhere (cgroups v1).
    machine_events: Option<File>,
    /// The next number, and the cgroups of ended commands that may still have processes.
    state: Mutex<(u64, Vec<PathBuf>)>,
}

impl Cgroups {
    /// Prepares the cgroup2 mount. A kernel without it is no reason not to run: process groups are
    /// then all there is to end commands by.
    pub(crate) fn set_up(mount: &Path) -> Option<Self> {
        let parent = mount.join("pyro");
        let made = fs::create_dir_all(&parent)
            .and_then(|()| fs::write(mount.join("cgroup.subtree_control"), "+memory +pids"))
            .and_then(|()| fs::write(parent.join("cgroup.subtree_control"), "+memory"));
        if let Err(error) = made {
            log::line(&format!("commands have no cgroups: {error}"));
            return None;
        }
        let threads = fs::read_to_string("/proc/sys/kernel/threads-max");
        if let Some(most) = threads.ok().and_then(|text| text.trim().parse::<u64>().ok()) {
            let most = most.saturating_sub(SPARE_THREADS).max(SPARE_THREADS);
            let _ = fs::write(parent.join("pids.max"), most.to_string());
        }
        Some(Self::at(parent, None))
    }

    /// Prepares a mount whose top is a container's own cgroup. PID 1 must leave the top, for a
    /// cgroup that has both processes and controlled children is refused. What is controlled is
    /// the host's choice: without memory control `machine_events` has to tell who died of it.
    pub(crate) fn set_up_in_container(mount: &Path, machine_events: Option<File>) -> Option<Self> {
        let parent = mount.join("pyro");
        if let Err(error) = fs::create_dir_all(&parent) {
            log::line(&format!("commands have no cgroups: {error}"));
            return None;
        }
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let controlled = if controllers.split_whitespace().any(|name| name == "memory") {
            let agent = mount.join("agent");
            fs::create_dir_all(&agent)
                .and_then(|()| fs::write(agent.join("cgroup.procs"), "0"))
                .and_then(|()| fs::write(mount.join("cgroup.subtree_control"), "+memory"))
                .and_then(|()| fs::write(parent.join("cgroup.subtree_control"), "+memory"))
        } else {
            // Moving would take some milliseconds, for nothing.
            Err(std::io::ErrorKind::Unsupported.into())
        };
        if controlled.is_err() && machine_events.is_none() {
            log::line("a command that dies for lack of memory will not be known as such");
        }
        Some(Self::at(parent, machine_events))
    }

    fn at(parent: PathBuf, machine_events: Option<File>) -> Self {
        Self(Arc::new(Shared { parent, machine_events, state: Mutex::new((0, Vec::new())) }))
    }

    /// Holds all commands still, and those that start meanwhile. Blocks until that is so. One that left
    /// its cgroup, which only root can do, is not held.
    pub(crate) fn freeze(&self) -> std::io::Result<()> {
        fs::write(self.0.parent.join("cgroup.freeze"), "1")?;
        let events = File::open(self.0.parent.join("cgroup.events"))?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        loop {
            let mut text = [0; 256];
            let length = events.read_at(&mut text, 0)?;
            let text = String::from_utf8_lossy(&text[..length]);
            if text.lines().any(|line| line == "frozen 1") {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            let left =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            // The kernel reports a change of the file as an exception.
            poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left))?;
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> std::io::Result<()> {
        fs::write(self.0.parent.join("cgroup.freeze"), "0")
    }

    fn machine_oom_kills(&self) -> u64 {
        let mut text = [0; 1024];
        let events = self.0.machine_events.as_ref();
        let length = events.and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        oom_kills(&String::from_utf8_lossy(&text[..length]))
    }

    /// A new empty cgroup.
    pub(crate) fn create(&self) -> std::io::Result<Cgroup> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        // EBUSY: a command's daemon still lives there.
        state.1.retain(|left| fs::remove_dir(left).is_err() && left.exists());
        let path = self.0.parent.join(state.0.to_string());
        fs::create_dir(&path)?;
        Ok(Cgroup { path, machine_before: self.machine_oom_kills(), all: self.clone() })
    }
}

/// The cgroup of one command. Dropping it lets go of it; daemons in it live on.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// How many of the machine had died for lack of memory when this was made.
    machine_before: u64,
    all: Cgroups,
}

impl Cgroup {
    /// Its directory, for a process to be born in it. Moving one waits for a grace period of RCU,
    /// about 10 ms, unless the hierarchy is mounted with `favordynmods`, which is the host's to say.
    pub(crate) fn birthplace(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }

    /// Writing `0` to this moves the writer in.
    pub(crate) fn entrance(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Kills every process in it, also those being forked (Linux 5.14).
    pub(crate) fn kill(&self) {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.kill"));
        if let Err(error) = file.and_then(|mut file| file.write_all(b"1")) {
            log::line(&format!("cannot kill a command's cgroup: {error}"));
        }
    }

    /// True if the kernel killed some process of it because memory ran out. Where only the machine
    /// as a whole is counted, one of another command may be meant.
    pub(crate) fn was_oom_killed(&self) -> bool {
        match fs::read_to_string(self.path.join("memory.events")) {
            Ok(events) => oom_kills(&events) > 0,
            Err(_) => self.all.machine_oom_kills() > self.machine_before,
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err() {
            let mut state = self.all.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.1.push(self.path.clone());
        }
    }
}

fn oom_kills(events: &str) -> u64 {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_read_from_memory_events() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(oom_kills("oom_kill_disable 1\n"), 0);
        assert_eq!(oom_kills(""), 0);
    }
}
