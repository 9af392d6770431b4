//! Which Firecracker this is, and whether pyro knows how to speak to it.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a program may take to tell its version; Firecracker takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// In words, for messages.
pub(super) const SUPPORTED: &str = "1.14, 1.15, or 1.17 and later 1.x";

/// A version of Firecracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// `1.15.1`, also with a leading `v` and whatever follows a `-`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = text.split('-').next()?.split('.').map(str::parse);
        let (major, minor, patch) =
            (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        numbers.next().is_none().then_some(Self { major, minor, patch })
    }

    /// 1.14 is the first that reports free pages. In 1.16 the agent's connection does not survive
    /// a pause: after it nothing from the host reaches the machine
    /// (<https://github.com/firecracker-microvm/firecracker/pull/6100>). 2.0 may change anything.
    pub(super) fn is_supported(self) -> bool {
        self.major == 1 && self.minor >= 14 && self.minor != 16
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What `program --version` says on its first line, if it says something soon.
pub(super) fn ask(program: &Path) -> Option<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .spawn()
        .ok()?;
    let ended = ended_in_time(child.id());
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    if !ended || !status.success() {
        return None;
    }
    // One read: what it said lies in the pipe, and something that it left behind may hold that open.
    let mut said = [0; 4096];
    let length = child.stdout.take()?.read(&mut said).ok()?;
    let said = String::from_utf8_lossy(&said[..length]);
    said.lines().next().map(|line| line.chars().filter(|c| !c.is_control()).take(80).collect())
}

fn ended_in_time(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(Ok(handle)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    let patience = Timespec::try_from(PATIENCE).ok();
    matches!(poll(&mut [PollFd::new(&handle, PollFlags::IN)], patience.as_ref()), Ok(1..))
}

/// The version in `Firecracker v1.15.1`.
pub(super) fn of(line: &str) -> Option<Version> {
    let (name, version) = line.trim().rsplit_once(' ')?;
    name.eq_ignore_ascii_case("firecracker").then(|| Version::parse(version))?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    #[test]
    fn versions_are_read_and_judged() {
        for (text, supported) in [
            ("1.14.0", true),
            ("v1.15.1", true),
            ("1.17.0-dev", true),
            ("1.16.0", false),
            ("1.16.1", false),
            ("1.13.1", false),
            ("0.25.2", false),
            ("2.0.0", false),
        ] {
            assert_eq!(Version::parse(text).unwrap().is_supported(), supported, "{text}");
        }
        for wrong in ["", "1", "1.2", "1.2.3.4", "one.two.three"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
        assert_eq!(of("Firecracker v1.15.1").unwrap().to_string(), "1.15.1");
        assert_eq!(of("QEMU emulator version 7.2.0"), None);
    }

    #[test]
    fn a_program_that_never_answers_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("firecracker");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let begun = Instant::now();
        assert_eq!(ask(&program), None);
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(ask(Path::new("/bin/false")), None);
        assert_eq!(ask(Path::new("/no/such/program")), None);
    }
}
