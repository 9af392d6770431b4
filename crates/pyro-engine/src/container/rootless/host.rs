//! What a host must allow so that an ordinary user can run containers.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::super::ids;
use super::helper;
use super::mapping::{self, Mapping, Narrow};

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is called.
    pub name: &'static str,
    /// How it is.
    pub found: String,
    /// Whether containers work in spite of it, work with less, or do not work.
    pub verdict: Verdict,
    /// What it is for, or what does not work without it.
    pub why: &'static str,
    /// The command that mends it.
    pub fix: Option<String>,
}

/// What a [`Finding`] means for containers of an ordinary user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing.
    Good,
    /// Something will not work.
    Lacking,
    /// They do not run.
    Bad,
}

/// Overlayfs can be mounted in user namespaces.
const KERNEL: (u32, u32) = (5, 11);

const PROGRAMS: &str = "sudo apt-get install uidmap";
const SINGLE: &str = "without it a container has one user, root, who is you: no other user in it, no \
                      change of owners, so most packages cannot be installed";

/// Settings of the kernel that forbid ordinary users their own namespaces: the file, what it says
/// then, and the name that sysctl(8) knows it by with the value that allows them.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=65536"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// Only looks at files: whether containers cannot run at all.
pub(in super::super) fn obstacle() -> Option<Finding> {
    [namespaces(), kernel()].into_iter().find(|finding| finding.verdict == Verdict::Bad)
}

/// What an ordinary user's containers cannot have here, in words.
pub(in super::super) fn shortcomings() -> Vec<String> {
    let mut found = vec!["the disk is limited by the host's own alone".to_owned()];
    if let Some(narrow) = Mapping::narrowness() {
        let missing = match narrow {
            Narrow::NoPrograms => "newuidmap and newgidmap are missing",
            Narrow::NoRange => "you have no range of ids in /etc/subuid and /etc/subgid",
        };
        found.insert(0, format!("{missing}: {SINGLE}"));
    }
    found
}

/// Looks at everything, and tries the last of it. `scratch` is a directory that can be written to.
pub(in super::super) fn findings(scratch: &Path) -> Vec<Finding> {
    vec![namespaces(), kernel(), programs(), ranges(), overlay(scratch)]
}

fn namespaces() -> Finding {
    let refused = SETTINGS.iter().find(|(file, refusal, _)| {
        fs::read_to_string(file).is_ok_and(|value| value.trim() == *refusal)
    });
    Finding {
        name: "user namespaces",
        found: match refused {
            Some((file, value, _)) => format!("{file} is {value}"),
            None => "allowed to ordinary users".into(),
        },
        verdict: if refused.is_some() { Verdict::Bad } else { Verdict::Good },
        why: "an ordinary user's containers are made in one of his own",
        fix: refused.map(|(_, _, setting)| format!("sudo sysctl -w {setting}")),
    }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let old = version(&release).is_some_and(|version| version < KERNEL);
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let lacks = !filesystems.split_whitespace().any(|word| word == "overlay");
    let fix = lacks.then(|| "sudo modprobe overlay".to_owned());
    Finding {
        name: "overlayfs",
        found: match (old, lacks) {
            (true, _) => format!("Linux {release}, which lets only root mount it"),
            (_, true) => "the kernel has none yet".into(),
            _ => format!("Linux {release}"),
        },
        verdict: if old || lacks { Verdict::Bad } else { Verdict::Good },
        why: "stacks what a container writes on its environment; for ordinary users since Linux 5.11",
        fix: fix.filter(|_| !old),
    }
}

fn programs() -> Finding {
    let missing = Mapping::narrowness() == Some(Narrow::NoPrograms);
    Finding {
        name: "newuidmap, newgidmap",
        found: if missing { "missing" } else { "installed" }.into(),
        verdict: if missing { Verdict::Lacking } else { Verdict::Good },
        why: if missing { SINGLE } else { "give a container of yours more ids than your own" },
        fix: missing.then(|| PROGRAMS.into()),
    }
}

fn ranges() -> Finding {
    let missing = Mapping::narrowness() == Some(Narrow::NoRange);
    let count = Mapping::find().inner().1;
    let user = std::env::var("USER").unwrap_or_else(|_| "$USER".into());
    Finding {
        name: "/etc/subuid, /etc/subgid",
        found: match count {
            1 => "no range of yours is known".into(),
            count => format!("{count} ids"),
        },
        verdict: if count == 1 { Verdict::Lacking } else { Verdict::Good },
        why: if count == 1 { SINGLE } else { "the ids of those who live in your containers" },
        fix: missing.then(|| {
            let first = mapping::first_free();
            let range = format!("{first}-{}", first.saturating_add(ids::COUNT - 1));
            format!("sudo usermod --add-subuids {range} --add-subgids {range} {user}")
        }),
    }
}

/// Does it once.
fn overlay(scratch: &Path) -> Finding {
    let tried = helper::perform(&Mapping::find(), || try_overlay(scratch));
    Finding {
        name: "containers without root",
        found: match &tried {
            Ok(_) => "a namespace was made, and layers stacked in it".into(),
            Err(error) => format!("refused: {error}"),
        },
        verdict: if tried.is_ok() { Verdict::Good } else { Verdict::Bad },
        why: "what each container of an ordinary user needs, tried once",
        fix: None,
    }
}

#[allow(unsafe_code)]
fn try_overlay(scratch: &Path) -> io::Result<Vec<u8>> {
    // SAFETY: neither descriptors nor memory are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), None)?;
    std::env::set_current_dir(scratch)?;
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir(directory)?;
    }
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    mount("overlay", "merged", "overlay", MountFlags::empty(), options)?;
    Ok(Vec::new())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), Some((6, 1)));
        assert!(version("5.4.0").unwrap() < KERNEL);
        assert!(version("5.11").unwrap() >= KERNEL);
        assert_eq!(version("odd"), None);
    }
}
