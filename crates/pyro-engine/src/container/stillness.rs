//! Holding a container still where no cgroup can: by stopping each of its processes.
//!
//! Parents first, so that few new ones appear; over and over, until none is left that runs. They go
//! on in the opposite order, so that no shell sees its job stopped. A process that had stopped by
//! itself before stays so. Root inside can set a timer that lets one of its processes go on; what it
//! gains is a review of its own files that mixes two moments, as root in a virtual machine can have.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at processes that were told to stop: there is no event to wait for.
const LOOK: Duration = Duration::from_millis(1);

/// The processes that were stopped, in the order in which they were.
#[derive(Debug, Default)]
pub(super) struct Stopped(Vec<u32>);

/// What a process does, as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// In the kernel, and not to be interrupted: a write, or a parent's wait for its vfork(2).
    Busy,
    Stopped,
    Gone,
}

impl Stopped {
    /// Stops all descendants of `keeper`.
    pub(super) fn stop(keeper: u32, patience: Duration) -> io::Result<Self> {
        let mut stopped = Self::default();
        let mut told = BTreeSet::new();
        let mut before = BTreeSet::new();
        let deadline = Instant::now() + patience;
        loop {
            let processes = descendants(keeper);
            let mut running = false;
            for pid in &processes {
                match state(*pid) {
                    State::Gone => continue,
                    State::Stopped if !told.contains(pid) => {
                        before.insert(*pid);
                        continue;
                    }
                    State::Stopped => continue,
                    // Waits for a child that is stopped, and writes nothing.
                    State::Busy if told.contains(pid) && has_stopped_child(*pid) => continue,
                    State::Running | State::Busy => running = true,
                }
                if !before.contains(pid) && told.insert(*pid) {
                    stopped.0.push(*pid);
                    signal(*pid, Signal::STOP);
                }
            }
            if !running {
                return Ok(stopped);
            }
            if Instant::now() >= deadline {
                stopped.go_on();
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "one of its processes hangs in the kernel",
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Lets them go on.
    pub(super) fn go_on(self) {
        for pid in self.0.into_iter().rev() {
            // None can have ended meanwhile, unless all did; then the number is, at worst, that of
            // a process that runs, to which this means nothing.
            if state(pid) == State::Stopped {
                signal(pid, Signal::CONT);
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// All of them, each after its parent. See proc_tid_children(5).
pub(super) fn descendants(of: u32) -> Vec<u32> {
    let mut found = children(of);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn children(of: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn has_stopped_child(pid: u32) -> bool {
    children(pid).into_iter().any(|child| state(child) == State::Stopped)
}

/// That of the thread that has furthest to go.
fn state(pid: u32) -> State {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| fs::read(thread.path().join("stat")).ok());
    let mut worst = State::Gone;
    for state in states.filter_map(|stat| letter(&stat)) {
        worst = match (state, worst) {
            ('Z' | 'X', worst) => worst,
            ('T' | 't', State::Gone | State::Stopped) => State::Stopped,
            ('T' | 't', worst) => worst,
            ('D', State::Running) => State::Running,
            ('D', _) => State::Busy,
            _ => State::Running,
        };
    }
    worst
}

/// The field behind the program's name, which is in parentheses and may hold anything.
fn letter(stat: &[u8]) -> Option<char> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).map(|byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stdin(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn descendants_stop_and_go_on_but_for_those_that_had_stopped_themselves() {
        // A stand-in for a keeper, whose children are a busy one and one that stopped itself.
        let script =
            "sh -c 'kill -STOP $$' & (while :; do :; done) & read line; kill -9 %1 %2; wait";
        let mut keeper = shell(script);
        let pid = keeper.id();
        let stopped = |pid: u32| {
            let all = descendants(pid);
            all.iter().filter(|pid| state(**pid) == State::Stopped).count()
        };
        while descendants(pid).len() < 2 || stopped(pid) < 1 {
            std::thread::yield_now();
        }
        let held = Stopped::stop(pid, Duration::from_secs(5)).unwrap();
        assert_eq!(held.0.len(), 1);
        assert_eq!(stopped(pid), 2);
        held.go_on();
        while stopped(pid) != 1 {
            std::thread::yield_now();
        }
        for child in descendants(pid) {
            signal(child, Signal::KILL);
        }
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    #[test]
    fn a_program_may_have_any_name() {
        assert_eq!(letter(b"12 (a) R (b)) S 1 2"), Some('S'));
        assert_eq!(letter(b"12 (a"), None);
        assert_eq!(letter(b"12 (a)"), None);
    }
}
