//! What this host offers, and how to mend what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use pyro_contract::operation::{Check, CheckStatus};
use pyro_contract::workspace::{EngineKind, Isolation};

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

fn host_checks(root: &Path, settings: &Settings) -> Vec<Check> {
    let mut checks = vec![home(root), configuration(settings)];
    checks.extend(EngineKind::ALL.iter().map(|kind| engine(*kind, settings)));
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

fn engine(kind: EngineKind, settings: &Settings) -> Check {
    let probe = engines::of(kind, &settings.programs).probe();
    let status = match probe.isolation {
        Some(Isolation::EmulatedVm) => CheckStatus::Warning,
        Some(_) => CheckStatus::Ok,
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
