//! A program whose standard output is the result, and which never outlives its purpose.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pyro_contract::progress::{Progress, Report, Unit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Sink, diagnosis, stages};
use crate::{EnvironmentError, Result, env_vars};

/// Starts the program after leaving a watchdog beside it, in the same process group.
///
/// The watchdog's standard input is a pipe whose other end only pyro holds. When pyro dies, by
/// whatever signal, the watchdog reads the end of file and ends the whole group: `mmdebstrap`, apt,
/// dpkg and install scripts. (`PR_SET_PDEATHSIG` would reach the first of them only, and bind it to
/// one thread of ours.) `TERM` comes first, so that `mmdebstrap` can remove its directory.
const WATCHDOG: &str = r#"exec 3<&0
(trap '' HUP INT TERM; read -r _; kill -TERM 0; sleep 10; kill -KILL 0) <&3 3<&- >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

/// How long the program may take to tidy up after it was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// How soon a cancellation is noticed.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How many of its last lines explain a failure.
const LAST_LINES: usize = 20;

/// A program about to be run for its output.
pub(crate) struct Child<'a> {
    what: &'a str,
    command: Command,
}

impl<'a> Child<'a> {
    /// Will run `program` to make `what`. Its environment is small and in English; only its
    /// directory, arguments and own variables are taken over.
    pub(crate) fn new(what: &'a str, program: Command) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(WATCHDOG).arg("sh").arg(program.get_program());
        command.args(program.get_args()).env_clear();
        let path = std::env::var("PATH").unwrap_or_default();
        // Ordinary users often lack the sbin directories, where chroot and ldconfig are.
        command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"));
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        for name in env_vars::INHERITED {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        for (name, value) in program.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        Self { what, command }
    }

    /// Runs it, gives its output to `sink`, and returns once it and its descendants are gone.
    pub(crate) fn stream(mut self, sink: Sink<'_>, progress: &dyn Progress) -> Result<()> {
        let attempt = || EnvironmentError::io(format!("cannot start the making of {}", self.what));
        let mut child = self.command.spawn().map_err(attempt())?;
        let group = Group { leader: Pid::from_child(&child) };
        // Taken out, because `Child::wait` closes what it has of standard input before it waits, and
        // the watchdog would end a program that is still tidying up.
        let _lifeline = child.stdin.take();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(attempt()(io::Error::from(io::ErrorKind::BrokenPipe)));
        };
        std::thread::scope(|scope| {
            let listener = scope.spawn(|| listen(stderr, progress));
            let mut output = Output { stdout, progress, taken: 0, told: 0, ended: false };
            let taken = sink(&mut output).and_then(|()| output.drain(self.what));
            let ended = output.ended;
            drop(output);
            let status = if ended { child.wait() } else { group.end(&mut child) };
            group.kill();
            let lines = listener.join().unwrap_or_default();
            if progress.cancelled() {
                return Err(EnvironmentError::Cancelled);
            }
            match (taken, status.map_err(attempt())?) {
                // A program that fails cuts its output short: its own words say more than ours.
                (_, status) if ended && !status.success() => {
                    Err(diagnosis::diagnose(self.what, &lines))
                }
                (taken, _) => taken,
            }
        })
    }
}

/// The program, its descendants, and the watchdog.
struct Group {
    leader: Pid,
}

impl Group {
    /// Asks the group to end, and waits for its leader.
    fn end(&self, child: &mut std::process::Child) -> io::Result<ExitStatus> {
        // An error means that there is nobody left to be told.
        let _ = kill_process_group(self.leader, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = kill_process_group(self.leader, Signal::KILL);
        child.wait()
    }

    /// Ends whatever is left. The watchdog is, so the group's id cannot have been given away.
    fn kill(&self) {
        let _ = kill_process_group(self.leader, Signal::KILL);
    }
}

/// Standard output, which stops being readable once the user interrupts.
struct Output<'a> {
    stdout: ChildStdout,
    progress: &'a dyn Progress,
    taken: u64,
    told: u64,
    ended: bool,
}

impl Output<'_> {
    /// Reads what the sink did not want, so that the program can come to its end.
    fn drain(&mut self, what: &str) -> Result<()> {
        io::copy(self, &mut io::sink())
            .map(drop)
            .map_err(EnvironmentError::io(format!("cannot read the rest of {what}")))
    }

    fn tell(&mut self) {
        const STEP: u64 = 4 << 20;
        if self.taken >= self.told + STEP {
            self.told = self.taken;
            let stage = "writing the image".to_owned();
            self.progress.report(Report {
                stage,
                done: self.taken,
                total: None,
                unit: Unit::Bytes,
            });
        }
    }
}

impl Read for Output<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.progress.cancelled() {
                // Not ErrorKind::Interrupted: readers take that as "try again".
                return Err(io::Error::other("interrupted"));
            }
            let mut waited = [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
            match poll(&mut waited, Some(&TICK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let count = self.stdout.read(buffer)?;
            self.ended |= count == 0 && !buffer.is_empty();
            self.taken += count as u64;
            self.tell();
            return Ok(count);
        }
    }
}

/// Reports stages, and returns the last lines.
fn listen(stderr: ChildStderr, progress: &dyn Progress) -> Vec<String> {
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some((done, stage)) = stages::stage(&text) {
            let total = Some(stages::COUNT);
            progress.report(Report { stage: stage.to_owned(), done, total, unit: Unit::Items });
        }
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
        line.clear();
    }
    last.into()
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
