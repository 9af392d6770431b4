//! What this host offers, and how to mend what is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pyro_contract::operation::{Check, CheckStatus};
use pyro_contract::workspace::{EngineKind, Isolation};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::Probe;
use pyro_engine::container::{self, Finding, Verdict};
use pyro_engine::kvm::{self, Kvm};

use crate::engines;
use crate::pyro::{Pyro, blocking};
use crate::settings::Settings;

/// Less free space than this is worth a warning.
const COMFORTABLE_BYTES: u64 = 5 << 30;

/// Runs every check. Takes some hundred milliseconds, and never hangs.
pub async fn checks(pyro: &Pyro) -> Vec<Check> {
    let (root, settings) = (pyro.home().root().to_owned(), pyro.settings().clone());
    let mut checks = blocking(move || Ok(host_checks(&root, &settings))).await.unwrap_or_default();
    checks.push(workspaces(pyro).await);
    checks
}

/// Runs the command of every failed check, and then every check again. `before` hears of each
/// command, whose own output goes to stderr.
pub async fn mend(pyro: &Pyro, before: impl Fn(&str) + Send + 'static) -> Result<Vec<Check>> {
    let found = checks(pyro).await;
    let broken = found.iter().filter(|check| check.status == CheckStatus::Failed);
    let fixes: Vec<String> = broken.filter_map(|check| check.fix.clone()).collect();
    if fixes.is_empty() {
        return Ok(found);
    }
    blocking(move || {
        fixes.iter().try_for_each(|fix| {
            before(fix);
            run_fix(fix)
        })
    })
    .await?;
    Ok(checks(pyro).await)
}

fn run_fix(fix: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", fix])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| Error::io(format!("cannot run {fix:?}"), &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::MissingDependency, format!("{fix:?} failed with {status}"))
        .with_hint("run it by hand to see more"))
}

fn host_checks(root: &Path, settings: &Settings) -> Vec<Check> {
    let mut checks = vec![home(root), configuration(settings)];
    checks.extend(engine_checks(settings));
    checks.extend(container::ordinary_user(root).into_iter().map(finding));
    checks.extend(quick_machines());
    checks.extend(pyro_environment::requirements().into_iter().map(requirement));
    checks.push(program(
        "mkfs.ext4",
        "makes the disks of new workspaces",
        "sudo apt-get install e2fsprogs",
        CheckStatus::Failed,
    ));
    checks.push(program(
        "git",
        "seeds workspaces from repositories, and applies patches",
        "sudo apt-get install git",
        CheckStatus::Warning,
    ));
    checks
}

fn home(root: &Path) -> Check {
    let why = "environments and workspaces live there".to_owned();
    let name = "PYRO_HOME".to_owned();
    let probe = root.join(".doctor");
    if let Err(error) = std::fs::write(&probe, b"") {
        return Check {
            name,
            status: CheckStatus::Failed,
            found: format!("{} cannot be written to: {error}", root.display()),
            why,
            fix: Some("export PYRO_HOME=/a/directory/of/yours".into()),
        };
    }
    let _ = std::fs::remove_file(&probe);
    let free = rustix::fs::statvfs(root).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let free = free.unwrap_or(0);
    let plenty = free >= COMFORTABLE_BYTES;
    Check {
        name,
        status: if plenty { CheckStatus::Ok } else { CheckStatus::Warning },
        found: format!("{}, {} MiB free", root.display(), free >> 20),
        why,
        fix: (!plenty).then(|| "pyro env prune".into()),
    }
}

/// It was read on the way here; one that cannot be read or has a mistake stops every command.
fn configuration(settings: &Settings) -> Check {
    Check {
        name: "configuration".into(),
        status: CheckStatus::Ok,
        found: match &settings.file {
            Some(file) => format!("{}; engine {}", file.display(), settings.engine),
            None => format!("no file; engine {}", settings.engine),
        },
        why: "defaults of this host's owner".into(),
        fix: None,
    }
}

/// One check for each engine. That one cannot run here is a failure only if none can that has a
/// machine of its own for every workspace.
fn engine_checks(settings: &Settings) -> Vec<Check> {
    let probes: Vec<_> = EngineKind::ALL
        .iter()
        .map(|kind| (*kind, engines::of(*kind, &settings.programs).probe()))
        .collect();
    let isolates = |isolation| matches!(isolation, Isolation::HardwareVm | Isolation::EmulatedVm);
    let has_machines = probes.iter().any(|(_, probe)| probe.isolation.is_some_and(isolates));
    probes.into_iter().map(|(kind, probe)| engine(kind, probe, has_machines)).collect()
}

fn engine(kind: EngineKind, probe: Probe, has_machines: bool) -> Check {
    let status = match probe.isolation {
        Some(Isolation::EmulatedVm) => CheckStatus::Warning,
        // Of a container the reason is what it cannot bound here.
        Some(_) if kind == EngineKind::Container && probe.reason.is_some() => CheckStatus::Warning,
        Some(_) => CheckStatus::Ok,
        None if has_machines => CheckStatus::Unavailable,
        None => CheckStatus::Failed,
    };
    Check {
        name: format!("engine {kind}"),
        status,
        found: match probe.isolation {
            Some(isolation) => format!("{}; {}", probe.found, isolation.describe()),
            None => probe.found,
        },
        why: probe.reason.unwrap_or_else(|| "runs the machines".into()),
        fix: probe.fix,
    }
}

/// That an ordinary user cannot run containers is a failure only if he asks for some.
fn finding(finding: Finding) -> Check {
    Check {
        name: finding.name.into(),
        status: match finding.verdict {
            Verdict::Good => CheckStatus::Ok,
            Verdict::Lacking => CheckStatus::Warning,
            Verdict::Bad => CheckStatus::Unavailable,
        },
        found: finding.found,
        why: finding.why.into(),
        fix: finding.fix,
    }
}

/// What a host with hardware virtualization may do so that machines start sooner.
fn quick_machines() -> Option<Check> {
    let Kvm::Usable = kvm::probe() else { return None };
    // Either spares each new machine a wait for an RCU grace period.
    let parameter = std::fs::read_to_string("/sys/module/kvm/parameters/nx_huge_pages");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    Some(judge_quickness(parameter.ok().as_deref(), &mounts))
}

fn judge_quickness(nx_huge_pages: Option<&str>, mounts: &str) -> Check {
    let off = matches!(nx_huge_pages.map(str::trim), None | Some("N" | "never"));
    let favored = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(2);
        fields.next() == Some("cgroup2")
            && fields.next().is_some_and(|o| o.split(',').any(|o| o == "favordynmods"))
    });
    let quick = off || favored;
    Check {
        name: "kvm nx_huge_pages".into(),
        status: if quick { CheckStatus::Ok } else { CheckStatus::Warning },
        found: match (off, favored) {
            (true, _) => "off".into(),
            (false, true) => "on, with cgroups mounted favordynmods".into(),
            (false, false) => "on, with cgroups mounted without favordynmods".into(),
        },
        why: "with it, each new machine waits 30 to 150 ms for the kernel, unless cgroups favour \
              frequent changes"
            .into(),
        fix: (!quick).then(|| "sudo mount -o remount,favordynmods /sys/fs/cgroup".into()),
    }
}

fn requirement(requirement: pyro_environment::Requirement) -> Check {
    let found = requirement.found.as_ref().map(|found| match &found.version {
        Some(version) => format!("{} ({version})", found.path.display()),
        None => found.path.display().to_string(),
    });
    Check {
        name: requirement.name.into(),
        status: if found.is_some() { CheckStatus::Ok } else { CheckStatus::Failed },
        fix: found.is_none().then(|| requirement.fix.into()),
        found: found.unwrap_or_else(|| "missing".into()),
        why: requirement.why.into(),
    }
}

fn program(name: &str, why: &str, fix: &str, if_missing: CheckStatus) -> Check {
    let found = find(name);
    Check {
        name: name.into(),
        status: if found.is_some() { CheckStatus::Ok } else { if_missing },
        fix: found.is_none().then(|| fix.into()),
        found: found.map_or("missing".into(), |path| version(&path, name)),
        why: why.into(),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn version(path: &Path, name: &str) -> String {
    let plain = path.display().to_string();
    if name != "git" {
        return plain;
    }
    let output = Command::new(path).arg("--version").output();
    match output.ok().and_then(|output| String::from_utf8(output.stdout).ok()) {
        Some(text) => format!("{plain} ({})", text.trim()),
        None => plain,
    }
}

async fn workspaces(pyro: &Pyro) -> Check {
    let why = "a damaged workspace is kept, but cannot be used".to_owned();
    let name = "workspaces".to_owned();
    match pyro.list().await {
        Ok(listing) if listing.damaged.is_empty() => Check {
            name,
            status: CheckStatus::Ok,
            found: format!("{}, all readable", listing.workspaces.len()),
            why,
            fix: None,
        },
        // No command is offered: all that could be run by itself would lose the workspace.
        Ok(listing) => Check {
            name,
            status: CheckStatus::Warning,
            found: listing.damaged.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            why: listing
                .damaged
                .iter()
                .filter_map(|error| error.hint.clone())
                .next()
                .unwrap_or(why),
            fix: None,
        },
        Err(error) => Check {
            name,
            status: CheckStatus::Failed,
            found: error.message,
            why: error.cause.unwrap_or(why),
            fix: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_cannot_run_is_a_failure_only_where_no_machine_can() {
        let absent = || Probe {
            isolation: None,
            found: "not installed".into(),
            reason: None,
            fix: Some("install it".into()),
        };
        let status = |has_machines| engine(EngineKind::Firecracker, absent(), has_machines).status;
        assert_eq!(status(true), CheckStatus::Unavailable);
        assert_eq!(status(false), CheckStatus::Failed);
    }

    #[test]
    fn slow_starts_of_machines_are_found_and_mended() {
        let plain = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        let favored = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,favordynmods 0 0\n";
        for (parameter, mounts, quick) in [
            (Some("Y\n"), plain, false),
            (Some("Y\n"), favored, true),
            (Some("N\n"), plain, true),
            (Some("never\n"), plain, true),
            (None, plain, true),
        ] {
            let check = judge_quickness(parameter, mounts);
            assert_eq!(check.status == CheckStatus::Ok, quick, "{check:?}");
            assert_eq!(check.fix.is_none(), quick);
        }
    }
}
