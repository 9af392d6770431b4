//! What the host must have, for `pyro doctor`.

use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

/// How to install the one program that is needed.
pub(crate) const INSTALL_MMDEBSTRAP: &str =
    "sudo apt-get install mmdebstrap debian-archive-keyring";

/// Where Debian's archive keys lie; `mmdebstrap` verifies the mirror with them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Something on this host that making environments depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// What is needed.
    pub name: &'static str,
    /// What for.
    pub why: &'static str,
    /// What is there; `None` if it is missing.
    pub found: Option<Found>,
    /// The command that mends it.
    pub fix: &'static str,
}

/// A requirement that is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of its version, if it says anything.
    pub version: Option<String>,
}

/// Everything that making environments needs of this host, met or not. Using environments that are
/// in the store already needs none of it. Takes some tens of milliseconds.
#[must_use]
pub fn requirements() -> Vec<Requirement> {
    let mut requirements = vec![
        program(
            "mmdebstrap",
            "makes root filesystems and fetches the guest kernel",
            INSTALL_MMDEBSTRAP,
        ),
        Requirement {
            name: "debian-archive-keyring",
            why: "verifies that packages come from Debian",
            found: file(KEYRING),
            fix: "sudo apt-get install debian-archive-keyring",
        },
    ];
    if !rustix::process::geteuid().is_root() {
        requirements.push(program(
            "newuidmap",
            "lets an ordinary user make root filesystems with all their owners",
            "sudo apt-get install uidmap",
        ));
    }
    requirements
}

/// The path of a program, from `PATH` or the directories that ordinary users' `PATH`s lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| {
            candidate.is_absolute()
                && candidate.is_file()
                && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
        })
}

fn program(name: &'static str, why: &'static str, fix: &'static str) -> Requirement {
    let found = find(name).map(|path| {
        let version = Command::new(&path)
            .arg("--version")
            .output()
            .ok()
            .filter(|output| output.status.success())
            .and_then(|output| {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.lines().next().map(str::to_owned)
            });
        Found { path, version }
    });
    Requirement { name, why, found, fix }
}

fn file(path: &str) -> Option<Found> {
    let path = PathBuf::from(path);
    path.is_file().then_some(Found { path, version: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_exists_is_found_and_one_that_does_not_is_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn every_requirement_says_how_to_meet_it() {
        for requirement in requirements() {
            assert!(!requirement.why.is_empty() && requirement.fix.starts_with("sudo apt-get"));
        }
    }
}
