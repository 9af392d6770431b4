//! `workspace.json`: what a workspace is, kept so that a power cut leaves the old or the new text.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use pyro_contract::environment::{Digest, EnvironmentRef};
use pyro_contract::limits::WorkspaceLimits;
use pyro_contract::name::{EnvVar, Name, WorkspaceId, WorkspaceName};
use pyro_contract::workspace::{EngineKind, Isolation, SeedStatus, Shape, WorkspaceState};
use pyro_contract::{Error, ErrorCode, Result};
use serde::{Deserialize, Serialize};

use crate::home::{WorkspaceDir, sync_dir};

/// The version that this build writes. A newer one is refused, an older one migrated on reading.
const VERSION: u32 = 1;

/// A stored file larger than this is not a record.
const MAX_BYTES: u64 = 4 << 20;

/// The persisted form of a workspace, apart from the live objects and from the public status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: WorkspaceId,
    pub(crate) name: Option<WorkspaceName>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<Name, String>,
    pub(crate) environment: EnvironmentRef,
    pub(crate) environment_digest: Digest,
    pub(crate) kernel_digest: Digest,
    pub(crate) engine: EngineKind,
    pub(crate) shape: Shape,
    #[serde(default)]
    pub(crate) limits: WorkspaceLimits,
    pub(crate) seed: SeedStatus,
    #[serde(default)]
    pub(crate) env: Vec<EnvVar>,
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) created_at: Timestamp,
    pub(crate) state: WorkspaceState,
    /// Why it is failed, or what stopped it.
    pub(crate) error: Option<Error>,
    /// The present run; absent unless a supervisor has it.
    pub(crate) run: Option<Run>,
}

/// What is known of a workspace only while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The supervisor.
    pub(crate) supervisor: ProcessId,
    /// The machine, if it is a process of this host.
    pub(crate) machine: Option<ProcessId>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) kernel_release: Option<String>,
    pub(crate) stops_at: Option<Timestamp>,
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Record {
    pub(crate) fn new(
        id: WorkspaceId,
        environment: EnvironmentRef,
        digests: (Digest, Digest),
        engine: EngineKind,
    ) -> Self {
        let (environment_digest, kernel_digest) = digests;
        Self {
            version: VERSION,
            id,
            name: None,
            labels: BTreeMap::new(),
            environment,
            environment_digest,
            kernel_digest,
            engine,
            shape: Shape::default(),
            limits: WorkspaceLimits::default(),
            seed: SeedStatus {
                source: pyro_contract::workspace::Seed::Empty,
                commit: None,
                entries: 0,
                bytes: 0,
                skipped: Vec::new(),
                skipped_count: 0,
            },
            env: Vec::new(),
            ttl_seconds: None,
            created_at: Timestamp::now(),
            state: WorkspaceState::Creating,
            error: None,
            run: None,
        }
    }

    /// A record for tests.
    #[cfg(test)]
    pub(crate) fn sample(id: WorkspaceId) -> Self {
        let digest = || Digest::from_bytes([0; 32]);
        Self::new(id, "debian:12".parse().unwrap(), (digest(), digest()), EngineKind::Qemu)
    }

    /// Reads the record of a workspace. `NotFound` if there is no such workspace.
    pub(crate) fn load(dir: &WorkspaceDir) -> Result<Self> {
        let path = dir.record_file();
        let damaged = |cause: String| {
            let name = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            Error::new(ErrorCode::Damaged, format!("{} is damaged", path.display()))
                .with_cause(cause)
                .with_hint(format!(
                    "its disk is untouched beside it; restore the file, or give the workspace up \
                     with `pyro workspace delete {name}`"
                ))
        };
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.exists() => {
                return Err(dir.gone());
            }
            Err(error) => return Err(damaged(error.to_string())),
        };
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version > u64::from(VERSION) {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("{} was written by a newer pyro (version {version})", path.display()),
            )
            .with_hint("use that newer pyro for this workspace"));
        }
        serde_json::from_value(value).map_err(|error| damaged(error.to_string()))
    }

    /// Writes the record in one step that survives a power cut. Of a workspace that is being created
    /// nothing needs to survive one; once it is, this makes all of it durable. On a full disk it takes the space
    /// that was [reserved](reserve) for it, so that a workspace can always tell what became of it.
    pub(crate) fn save(&self, dir: &WorkspaceDir) -> Result<()> {
        let path = dir.record_file();
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        text.push(b'\n');
        let creating = self.state == WorkspaceState::Creating;
        let born = !creating && dir.unborn_file().exists();
        if born {
            sync_contents(dir)?;
        }
        let replace = || replace(dir, &path, &text, !creating);
        let written = match replace() {
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull
                    && fs::remove_file(dir.reserve_file()).is_ok() =>
            {
                replace()
            }
            written => written,
        };
        written.map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))?;
        if creating {
            return Ok(());
        }
        if born {
            let unborn = dir.unborn_file();
            fs::remove_file(&unborn).map_err(|error| {
                Error::io(format!("cannot remove {}", unborn.display()), &error)
            })?;
        }
        sync_dir(dir.path())?;
        match dir.path().parent().filter(|_| born) {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }
}

/// Makes everything but the record durable.
fn sync_contents(dir: &WorkspaceDir) -> Result<()> {
    for path in dir.contents() {
        let synced = match File::open(&path) {
            Ok(file) => file.sync_data(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        synced.map_err(|error| Error::io(format!("cannot flush {}", path.display()), &error))?;
    }
    Ok(())
}

fn replace(dir: &WorkspaceDir, path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    let temporary = dir.path().join(".workspace.json.partial");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Sets space aside for the record, for when the machine has filled the host's disk.
pub(crate) fn reserve(dir: &WorkspaceDir) {
    const BYTES: u64 = 128 << 10;
    let reserved = File::create(dir.reserve_file()).and_then(|file| {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, BYTES).map_err(io::Error::from)
    });
    if let Err(error) = reserved {
        // A filesystem without fallocate(2), or no space even now: then it goes without.
        tracing::debug!(%error, "no space is reserved");
    }
}

/// There is no workspace of this id or name.
pub(crate) fn not_found(reference: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("there is no workspace {reference:?}"))
        .with_hint("`pyro workspace list` shows those that there are")
}

/// The workspace is held still, so nothing in it can answer.
pub(crate) fn paused(reference: &str) -> Error {
    Error::new(
        ErrorCode::WrongState,
        format!("the workspace {reference:?} is paused, so nothing in it can run or be read"),
    )
    .with_hint(format!("`pyro workspace resume {reference}`"))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than any workspace.json"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    fn workspace(home: &Home) -> (WorkspaceDir, Record) {
        let id = WorkspaceId::random();
        let (dir, _lock) = home.new_workspace(&id).unwrap().publish().unwrap();
        let record = Record::sample(id);
        record.save(&dir).unwrap();
        (dir, record)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, record) = workspace(&Home::at(temp.path()).unwrap());
        assert_eq!(Record::load(&dir).unwrap(), record);
    }

    #[test]
    fn a_workspace_is_unborn_until_it_is_more_than_in_the_making() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, mut record) = workspace(&Home::at(temp.path()).unwrap());
        assert_eq!(record.state, WorkspaceState::Creating);
        assert!(dir.unborn_file().exists());
        record.state = WorkspaceState::Started;
        record.save(&dir).unwrap();
        assert!(!dir.unborn_file().exists());
    }

    #[test]
    fn a_record_of_version_1_stays_readable() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let (dir, _) = workspace(&home);
        fs::write(dir.record_file(), include_str!("../tests/fixtures/workspace-v1.json")).unwrap();
        let record = Record::load(&dir).unwrap();
        assert_eq!(record.name.unwrap().as_str(), "demo");
        assert_eq!(record.state, WorkspaceState::Stopped);
        assert_eq!(record.seed.entries, 12);
    }

    #[test]
    fn damage_and_a_newer_version_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let (dir, record) = workspace(&home);
        for text in ["", "{", "[]", "{\"version\": 1}", "\u{0}\u{0}"] {
            fs::write(dir.record_file(), text).unwrap();
            let error = Record::load(&dir).unwrap_err();
            assert_eq!(error.code, ErrorCode::Damaged, "{text:?}");
            assert!(error.hint.unwrap().contains(record.id.as_str()));
        }
        fs::write(dir.record_file(), "{\"version\": 2}").unwrap();
        assert_eq!(Record::load(&dir).unwrap_err().code, ErrorCode::Unsupported);
        fs::remove_file(dir.record_file()).unwrap();
        assert_eq!(Record::load(&dir).unwrap_err().code, ErrorCode::Damaged);
        assert_eq!(
            Record::load(&home.workspace(&WorkspaceId::random())).unwrap_err().code,
            ErrorCode::NotFound
        );
    }
}
