//! The same work by others, where they are installed: on the same root filesystem, in the same run.

use std::path::Path;
use std::process::Stdio;

use pyro_contract::{Error, ErrorCode, Result};
use serde::Serialize;
use tokio::process::Command;

use super::Times;
use super::engines::{Bench, command_time};
use super::report::Report;

/// What came of a peer.
#[derive(Debug, Serialize)]
pub(crate) struct PeerReport {
    pub(crate) peer: &'static str,
    pub(crate) version: String,
    pub(crate) run: Option<Times>,
    pub(crate) exec: Option<Times>,
}

/// Without these podman does not run on hosts with hybrid cgroups, or with few open files allowed.
const PODMAN: [&str; 3] = ["--runtime", "runc", "--cgroup-manager=cgroupfs"];
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// Measures whoever is installed, and says who is not.
pub(super) async fn measure(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let versions = [("podman", version("podman").await), ("runsc", version("runsc").await)];
    for (peer, version) in &versions {
        if version.is_none() {
            report.skipped.push(format!("{peer}: it is not installed"));
        }
    }
    let [(_, podman), (_, runsc)] = versions;
    if podman.is_none() && runsc.is_none() {
        return Ok(());
    }
    let temp = tempfile::tempdir()
        .map_err(|error| Error::io("cannot make a temporary directory", &error))?;
    let root = temp.path().join("root");
    if let Err(error) = unpack(bench, &root).await {
        report.skipped.push(format!("peers: {}", error.message));
        return Ok(());
    }
    if let Some(version) = podman {
        keep(report, self::podman(bench, &root, version).await, "podman");
    }
    if let Some(version) = runsc {
        keep(report, self::runsc(bench, &root, version).await, "runsc");
    }
    Ok(())
}

/// A peer that does not work here is no reason to lose what was measured.
fn keep(report: &mut Report, measured: Result<PeerReport>, peer: &str) {
    match measured {
        Ok(measured) => report.peers.push(measured),
        Err(error) => report.skipped.push(format!(
            "{peer}: {} {}",
            error.message,
            error.cause.unwrap_or_default()
        )),
    }
}

async fn podman(bench: &Bench<'_>, root: &Path, version: String) -> Result<PeerReport> {
    let command = |words: &[&str]| {
        let mut command = Command::new("podman");
        command.args(PODMAN).args(words);
        command
    };
    let run = |more: &[&str]| {
        let mut command = command(&["run", "--network=none"]);
        command.args(LIMITS).args(more).arg("--rootfs").arg(root);
        command
    };
    let mut runs = Vec::new();
    for _ in 0..bench.rounds.some {
        let mut command = run(&["--rm"]);
        command.arg("true");
        runs.push(command_time(command).await?);
    }
    let name = format!("pyro-bench-{}", std::process::id());
    let mut sleeper = run(&["--detach", "--rm", "--name", &name]);
    sleeper.args(["sleep", "600"]);
    command_time(sleeper).await?;
    let mut execs = Vec::new();
    let mut failed = None;
    for _ in 0..bench.rounds.some {
        match command_time(command(&["exec", &name, "true"])).await {
            Ok(took) => execs.push(took),
            Err(error) => failed = Some(error),
        }
    }
    command_time(command(&["rm", "--force", "--time", "0", &name])).await?;
    match failed {
        Some(error) => Err(error),
        None => {
            Ok(PeerReport { peer: "podman", version, run: Times::of(runs), exec: Times::of(execs) })
        }
    }
}

async fn runsc(bench: &Bench<'_>, root: &Path, version: String) -> Result<PeerReport> {
    let mut runs = Vec::new();
    for _ in 0..bench.rounds.some {
        let mut command = Command::new("runsc");
        command.args(["--network=none", "do", "--root"]).arg(root).args(["--", "/bin/true"]);
        runs.push(command_time(command).await?);
    }
    Ok(PeerReport { peer: "runsc", version, run: Times::of(runs), exec: None })
}

/// The first line of what a program says of itself.
async fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

/// The environment as a directory, taken out of a workspace.
async fn unpack(bench: &Bench<'_>, root: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("cannot unpack the environment", &error);
    std::fs::create_dir(root).map_err(failed)?;
    let mut packing = Command::new(bench.program)
        .args(["--quiet", "run", bench.environment.as_str()])
        .args(["--", "tar", "-C", "/", "--one-file-system", "-c", "."])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let archive: Stdio = match packing.stdout.take() {
        Some(stdout) => stdout.try_into().map_err(failed)?,
        None => Stdio::null(),
    };
    let unpacked = Command::new("tar").arg("-C").arg(root).arg("-x").stdin(archive).status().await;
    let packed = packing.wait().await;
    if unpacked.map_err(failed)?.success() && packed.map_err(failed)?.success() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::MachineFailed, "the environment could not be unpacked"))
}
