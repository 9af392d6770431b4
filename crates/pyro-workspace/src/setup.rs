//! Programs that pyro fetches for itself, because no package has them.
//!
//! One release of Firecracker is pinned here by version and digest. Its archive is downloaded into a
//! directory that nobody looks into, compared with the digest, unpacked there, and given its place by
//! a rename: whatever interrupts this leaves either nothing or the whole.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_contract::env_vars::PYRO_FIRECRACKER_MIRROR;
use pyro_contract::operation::InstalledProgram;
use pyro_contract::progress::{Progress, Report, Unit};
use pyro_contract::{Error, ErrorCode, Result};
use sha2::{Digest as _, Sha256};

use crate::lock::Lock;
use crate::pyro::blocking;
use crate::watch::{Watch, interrupted};

/// A release of Firecracker for x86_64.
#[derive(Debug, Clone, Copy)]
struct Release {
    version: &'static str,
    /// Of the archive, in hex.
    sha256: &'static str,
}

/// 1.15.1 (March 2026): 1.16 loses the agent's connection when a machine is paused; see the engine.
/// The digest is that of the file that GitHub serves for the release, as several public projects that
/// use it have pinned it, independently of each other.
const FIRECRACKER: Release = Release {
    version: "1.15.1",
    sha256: "d4a32ab2322d887ca1bc4a4e7afa9cc35393e6362dfc2b3becb389d362e4275a",
};

const GITHUB: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";

/// What is unpacked; the archive has more.
const PROGRAMS: [&str; 2] = ["firecracker", "jailer"];

const PARTIAL: &str = ".partial-";

/// An archive has some 20 MiB, a program some 3.
const SIZE_MAX: u64 = 512 << 20;

/// From the first word of the conversation to the last byte.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// Another `pyro setup` may be at it.
const LOCK_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The pinned release, if it was fetched.
pub(crate) fn installed_firecracker(programs: &Path) -> Option<PathBuf> {
    let path = programs.join(FIRECRACKER.directory()).join("firecracker");
    path.is_file().then_some(path)
}

/// Fetches Firecracker into `programs`, unless it is there.
pub(crate) async fn firecracker(programs: &Path, watch: &Watch) -> Result<InstalledProgram> {
    let mirror = std::env::var(PYRO_FIRECRACKER_MIRROR).ok().filter(|mirror| !mirror.is_empty());
    fetch(FIRECRACKER, programs, mirror.as_deref().unwrap_or(GITHUB), watch).await
}

impl Release {
    fn directory(self) -> String {
        format!("firecracker-{}", self.version)
    }

    fn url(self, mirror: &str) -> String {
        let (mirror, version) = (mirror.trim_end_matches('/'), self.version);
        format!("{mirror}/v{version}/firecracker-v{version}-x86_64.tgz")
    }

    fn at(self, place: &Path, already_installed: bool) -> InstalledProgram {
        InstalledProgram {
            name: "firecracker".to_owned(),
            version: self.version.to_owned(),
            path: place.join("firecracker").display().to_string(),
            sha256: self.sha256.to_owned(),
            already_installed,
        }
    }
}

async fn fetch(
    release: Release,
    programs: &Path,
    mirror: &str,
    watch: &Watch,
) -> Result<InstalledProgram> {
    let place = programs.join(release.directory());
    let complete = |place: &Path| PROGRAMS.iter().all(|name| place.join(name).is_file());
    if complete(&place) {
        return Ok(release.at(&place, true));
    }
    fs::create_dir_all(programs).map_err(|error| failed("create", programs, &error))?;
    let lock = tokio::select! {
        lock = Lock::wait_at_most(programs.join(".lock"), LOCK_PATIENCE) => lock?,
        () = watch.interrupt().triggered() => return Err(interrupted()),
    };
    if complete(&place) {
        return Ok(release.at(&place, true));
    }
    sweep(programs);
    let partial = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempdir_in(programs)
        .map_err(|error| failed("create a directory in", programs, &error))?;
    let (url, directory) = (release.url(mirror), partial.path().to_owned());
    let progress = watch.clone();
    let work = blocking(move || {
        let archive = download(release, &url, &directory.join("archive"), &progress)?;
        progress.stage("unpacking firecracker");
        unpack(release, archive, &directory)
    });
    // A transfer that stands still is not waited for: what it may still write has no name any more.
    tokio::select! {
        done = work => done?,
        () = watch.interrupt().triggered() => return Err(interrupted()),
    }
    fs::remove_file(partial.path().join("archive"))
        .and_then(|()| fs::set_permissions(partial.path(), PermissionsExt::from_mode(0o755)))
        .and_then(|()| {
            // What is there is not complete: somebody has removed a part of it.
            if place.exists() { fs::remove_dir_all(&place) } else { Ok(()) }
        })
        .and_then(|()| fs::rename(partial.keep(), &place))
        .map_err(|error| failed("install", &place, &error))?;
    drop(lock);
    Ok(release.at(&place, false))
}

/// What interrupted runs have left. The caller holds the lock.
fn sweep(programs: &Path) {
    for entry in fs::read_dir(programs).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The archive, whole and the right one.
fn download(release: Release, url: &str, to: &Path, progress: &dyn Progress) -> Result<File> {
    progress.stage("fetching firecracker");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .timeout_connect(Some(CONNECT_PATIENCE))
        .user_agent(concat!("pyro/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let answer = agent.get(url).call().map_err(|error| unreachable(url, &error.to_string()))?;
    let total = answer.headers().get("content-length").and_then(|n| n.to_str().ok()?.parse().ok());
    let mut body = answer.into_body().into_with_config().limit(SIZE_MAX).reader();

    let write_failed = |error: io::Error| failed("write", to, &error);
    let mut file = File::options().read(true).write(true).create_new(true).open(to);
    let file = file.as_mut().map_err(|error| failed("write", to, error))?;
    let (mut hash, mut done) = (Sha256::new(), 0);
    let mut buffer = vec![0; 128 << 10];
    loop {
        if progress.cancelled() {
            return Err(interrupted());
        }
        let length = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreachable(url, &error.to_string())),
        };
        hash.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(write_failed)?;
        done += length as u64;
        let stage = "fetching firecracker".to_owned();
        progress.report(Report { stage, done, total, unit: Unit::Bytes });
    }
    if total.is_some_and(|total| total != done) {
        return Err(unreachable(url, "it ended before its end"));
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != release.sha256 {
        return Err(Error::new(
            ErrorCode::Damaged,
            "what was fetched is not the release of Firecracker that pyro knows",
        )
        .with_cause(format!("{url} has the sha256 {found}, not {}", release.sha256))
        .with_hint(format!(
            "nothing was installed. If {PYRO_FIRECRACKER_MIRROR} is set, look at that server; else \
             something on the way has altered the file"
        )));
    }
    use std::io::Seek as _;
    file.rewind().map_err(write_failed)?;
    file.try_clone().map_err(write_failed)
}

/// The programs alone, as plain files, whatever else the archive has.
fn unpack(release: Release, archive: File, directory: &Path) -> Result<()> {
    let broken = |error: io::Error| failed("unpack the archive in", directory, &error);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut found = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let program = PROGRAMS.into_iter().find(|name| {
            path.file_name() == Some(OsStr::new(&format!("{name}-v{}-x86_64", release.version)))
        });
        let Some(name) = program.filter(|_| entry.header().entry_type().is_file()) else {
            continue;
        };
        let target = directory.join(name);
        let mut file = File::create_new(&target).map_err(|e| failed("write", &target, &e))?;
        io::copy(&mut entry.take(SIZE_MAX), &mut file)
            .and_then(|_| file.set_permissions(PermissionsExt::from_mode(0o755)))
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("write", &target, &error))?;
        found.push(name);
    }
    if found.len() == PROGRAMS.len() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Damaged, "the release of Firecracker lacks its programs")
        .with_cause(format!("it has {found:?}, not {PROGRAMS:?}"))
        .with_hint("nothing was installed; this is a defect in pyro, please report it"))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::io(format!("cannot {what} {}", path.display()), error)
}

fn unreachable(url: &str, why: &str) -> Error {
    Error::new(ErrorCode::MissingDependency, "Firecracker could not be fetched")
        .with_cause(format!("{url}: {why}"))
        .with_hint(format!(
            "nothing was installed. Without a way to GitHub, set {PYRO_FIRECRACKER_MIRROR}, or fetch \
             the program by other means and name it with PYRO_FIRECRACKER"
        ))
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
