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

use pyro_wire::v1::CommandLimits;

use crate::log;

/// How long it may take until all commands stand still; one that hangs in the kernel never does.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// Threads that user code may not take: a fork bomb shall leave the agent some.
const SPARE_THREADS: u64 = 128;

/// Where commands get their cgroups.
#[derive(Clone)]
pub(crate) struct Cgroups(Arc<Shared>);

struct Shared {
    /// All of them.
    parent: PathBuf,
    /// Where those of commands without limits of their own are. Each controller costs every start
    /// some time, so these have few.
    plain: PathBuf,
    /// Where the others are.
    limited: PathBuf,
    /// What can be limited.
    controllers: Vec<&'static str>,
    /// What the whole machine knows of deaths for lack of memory, where a command's own cgroup does
    /// not: in a container on a host whose memory is counted elsewhere (cgroups v1).
    machine_events: Option<File>,
    /// The next number, and the cgroups of ended commands that may still have processes.
    state: Mutex<(u64, Vec<PathBuf>)>,
}

/// Why a command gets no cgroup.
#[derive(Debug)]
pub(crate) enum CannotCreate {
    /// This machine has no control of what was to be limited.
    Unsupported(&'static str),
    /// The kernel did not make one.
    Failed(std::io::Error),
}

impl From<std::io::Error> for CannotCreate {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Cgroups {
    /// Prepares the cgroup2 mount. A kernel without it is no reason not to run: process groups are
    /// then all there is to end commands by.
    pub(crate) fn set_up(mount: &Path) -> Option<Self> {
        let parent = mount.join("pyro");
        if let Err(error) = fs::create_dir_all(&parent) {
            log::line(&format!("commands have no cgroups: {error}"));
            return None;
        }
        let controllers = enable(mount, &["memory", "pids", "cpu"]);
        let threads = fs::read_to_string("/proc/sys/kernel/threads-max");
        if let Some(most) = threads.ok().and_then(|text| text.trim().parse::<u64>().ok()) {
            let most = most.saturating_sub(SPARE_THREADS).max(SPARE_THREADS);
            let _ = fs::write(parent.join("pids.max"), most.to_string());
        }
        Self::at(parent, controllers, None)
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
        let offered = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        let controllers = if offered.split_whitespace().any(|name| name == "memory") {
            let agent = mount.join("agent");
            let moved = fs::create_dir_all(&agent)
                .and_then(|()| fs::write(agent.join("cgroup.procs"), "0"));
            moved.map(|()| enable(mount, &["memory", "pids", "cpu"])).unwrap_or_default()
        } else {
            // Moving would take some milliseconds, for nothing.
            Vec::new()
        };
        if !controllers.contains(&"memory") && machine_events.is_none() {
            log::line("a command that dies for lack of memory will not be known as such");
        }
        Self::at(parent, controllers, machine_events)
    }

    fn at(
        parent: PathBuf,
        controllers: Vec<&'static str>,
        machine_events: Option<File>,
    ) -> Option<Self> {
        let (plain, limited) = (parent.join("plain"), parent.join("limited"));
        if let Err(error) = fs::create_dir_all(&plain).and_then(|()| fs::create_dir_all(&limited)) {
            log::line(&format!("commands have no cgroups: {error}"));
            return None;
        }
        enable(&parent, &controllers);
        let few: Vec<_> = controllers.iter().copied().filter(|name| *name != "cpu").collect();
        enable(&plain, &few);
        let controllers = enable(&limited, &controllers);
        let state = Mutex::new((0, Vec::new()));
        Some(Self(Arc::new(Shared { parent, plain, limited, controllers, machine_events, state })))
    }

    /// The most processes and threads of all commands together.
    pub(crate) fn limit_processes(&self, most: u32) -> std::io::Result<()> {
        fs::write(self.0.parent.join("pids.max"), most.to_string())
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
        count(&String::from_utf8_lossy(&text[..length]), "oom_kill")
    }

    /// A new empty cgroup, with these limits.
    pub(crate) fn create(&self, limits: &CommandLimits) -> Result<Cgroup, CannotCreate> {
        let shared = &self.0;
        let values = [
            ("memory", "memory.max", limits.memory_bytes.to_string(), limits.memory_bytes > 0),
            ("cpu", "cpu.max", cpu_max(limits.cpu_percent), limits.cpu_percent > 0),
            ("pids", "pids.max", limits.process_count.to_string(), limits.process_count > 0),
        ];
        let limited = values.iter().any(|(.., wanted)| *wanted);
        let missing = values
            .iter()
            .find(|(controller, .., wanted)| *wanted && !shared.controllers.contains(controller));
        if let Some((controller, ..)) = missing {
            return Err(CannotCreate::Unsupported(controller));
        }
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        // EBUSY: a command's daemon still lives there.
        state.1.retain(|left| fs::remove_dir(left).is_err() && left.exists());
        let parent = if limited { &shared.limited } else { &shared.plain };
        let path = parent.join(state.0.to_string());
        drop(state);
        fs::create_dir(&path)?;
        let machine_before = self.machine_oom_kills();
        let cgroup = Cgroup {
            path,
            own_memory: limits.memory_bytes > 0,
            own_processes: limits.process_count > 0,
            limited,
            machine_before,
            all: self.clone(),
        };
        for (_, file, value, _) in values.iter().filter(|(.., wanted)| *wanted) {
            fs::write(cgroup.path.join(file), value)?;
        }
        Ok(cgroup)
    }
}

/// Gives the children of a cgroup these controllers; those that they have then.
fn enable(directory: &Path, controllers: &[&'static str]) -> Vec<&'static str> {
    let file = directory.join("cgroup.subtree_control");
    let on = |name: &&&str| fs::write(&file, format!("+{name}")).is_ok();
    controllers.iter().filter(on).copied().collect()
}

/// Time in each tenth of a second.
fn cpu_max(percent: u32) -> String {
    format!("{} 100000", u64::from(percent) * 1000)
}

/// Limits that a command ran into.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The kernel killed some process of it because memory ran out. Where only the machine as a
    /// whole is counted, one of another command may be meant.
    pub(crate) oom_killed: bool,
    /// What ran out was its own limit.
    pub(crate) own_memory: bool,
    /// A fork failed at its own limit of processes.
    pub(crate) own_processes: bool,
    /// A fork failed at that of the machine.
    pub(crate) machine_processes: bool,
}

/// The cgroup of one command. Dropping it lets go of it; daemons in it live on.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// It has a limit of memory of its own, and one of processes.
    own_memory: bool,
    own_processes: bool,
    limited: bool,
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

    /// What a command that has ended, well or not, ran into.
    pub(crate) fn verdict(&self, failed: bool) -> Verdict {
        let mut verdict = Verdict::default();
        match fs::read_to_string(self.path.join("memory.events")) {
            Ok(events) => {
                verdict.oom_killed = count(&events, "oom_kill") > 0;
                verdict.own_memory =
                    self.own_memory && verdict.oom_killed && count(&events, "oom") > 0;
            }
            Err(_) => verdict.oom_killed = self.all.machine_oom_kills() > self.machine_before,
        }
        // A command that did well did not need what it could not have; looking costs time.
        if failed || self.limited {
            let events = fs::read_to_string(self.path.join("pids.events")).unwrap_or_default();
            let refused = count(&events, "max") > 0;
            verdict.own_processes = refused && self.own_processes;
            verdict.machine_processes = refused && !self.own_processes;
        }
        verdict
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

/// A number of an `events` file.
fn count(events: &str, name: &str) -> u64 {
    events
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .find_map(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(
            (count(events, "oom_kill"), count(events, "oom"), count(events, "max")),
            (2, 3, 9)
        );
        assert_eq!(count("oom_kill_disable 1\n", "oom_kill"), 0);
        assert_eq!(count("", "max"), 0);
    }

    #[test]
    fn processor_time_is_given_out_in_tenths_of_a_second() {
        assert_eq!(cpu_max(150), "150000 100000");
    }
}
