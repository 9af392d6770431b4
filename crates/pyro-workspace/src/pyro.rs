//! The facade: everything that a door can ask for.

mod birth;
mod create;
mod disk;
mod environments;
pub(crate) mod files;
mod follow;
mod journal;
mod keeper;
mod patch;
mod prepare;
mod shell;
mod summary;
mod update;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pyro_contract::exec::ExecRequest;
use pyro_contract::journal::ClientName;
use pyro_contract::name::{WorkspaceId, WorkspaceRef};
use pyro_contract::operation::InstalledProgram;
use pyro_contract::workspace::{Deleted, WorkspaceState, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::storage;
use pyro_environment::{Environment, Store};

use crate::client::{self, ExecSession};
use crate::home::{Home, WorkspaceDir};
use crate::lock::{ASK_AGAIN, Lock, busy};
use crate::possession::{self, For, Possession};
use crate::protocol::{Hold, StopMode};
use crate::record::{Record, not_found, paused};
use crate::review::Review;
use crate::settings::Settings;
use crate::watch::Watch;
use crate::{reconcile, setup};

pub use create::Ephemeral;
pub use follow::{FollowFrom, Followed, Follower};

/// An orderly stop takes at most this, and then the supervisor uses force.
const STOP_PATIENCE: Duration = Duration::from_secs(75);
/// A supervisor that was told to drop everything has this long before it is killed.
const DISCARD_PATIENCE: Duration = Duration::from_secs(10);
/// All of a deletion's waiting together.
const DELETE_PATIENCE: Duration = Duration::from_secs(60);

/// A client of everything under one `PYRO_HOME`. Cheap to clone.
///
/// ```no_run
/// # async fn example() -> Result<(), pyro_contract::Error> {
/// use pyro_contract::{exec::ExecRequest, workspace::CreateRequest};
/// use pyro_workspace::{ExecEvent, Pyro, Watch};
///
/// let pyro = Pyro::from_environment("/usr/local/bin/pyro".into())?;
/// let request = CreateRequest::new("debian:12".parse()?);
/// let workspace = pyro.create(request, &Watch::default()).await?;
/// let reference = workspace.id.as_str().parse()?;
/// let mut command = pyro.exec(&reference, &ExecRequest::new(["git", "--version"])).await?;
/// while let Some(event) = command.output.next().await? {
///     if let ExecEvent::Output(_, bytes) = event {
///         print!("{}", String::from_utf8_lossy(&bytes));
///     }
/// }
/// pyro.delete(&reference).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pyro {
    home: Home,
    store: Arc<Store>,
    settings: Arc<Settings>,
    /// The program whose `supervise` subcommand is [`crate::supervisor::supervise`].
    supervisor: PathBuf,
}

impl std::fmt::Debug for Pyro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pyro").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Every workspace, and what was found instead of some.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The workspaces, the most recently active first.
    pub workspaces: Vec<WorkspaceStatus>,
    /// Directories that hold a workspace which cannot be read; the others are not affected.
    pub damaged: Vec<Error>,
}

impl Pyro {
    /// State and settings where the environment variables say; `supervisor` is the path of the
    /// `pyro` program.
    pub fn from_environment(supervisor: PathBuf) -> Result<Self> {
        Self::at(Home::from_environment()?, Settings::from_environment()?, supervisor)
    }

    /// State under `home`.
    pub fn at(home: Home, settings: Settings, supervisor: PathBuf) -> Result<Self> {
        let store = Arc::new(Store::open(home.root())?);
        let settings = settings.with_installed(&home);
        Ok(Self { home, store, settings: Arc::new(settings), supervisor })
    }

    /// The same, of somebody whom the journals shall know by this name.
    #[must_use]
    pub fn for_client(mut self, name: Option<ClientName>) -> Self {
        self.home = self.home.for_client(name);
        self
    }

    /// What holds where a request says nothing.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the state lies.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Fetches the release of Firecracker that pyro works with, unless it is here.
    pub async fn setup_firecracker(&self, watch: &Watch) -> Result<InstalledProgram> {
        setup::firecracker(&self.home.programs(), watch).await
    }

    /// All workspaces.
    pub async fn list(&self) -> Result<Listing> {
        let home = self.home.clone();
        let found = blocking(move || {
            {
                let _names = home.lock_names()?;
                home.sweep();
            }
            let ids = home.ids()?.into_iter();
            Ok(ids
                .map(|id| {
                    let dir = home.workspace(&id);
                    let record = reconcile::load(&dir);
                    (dir, record)
                })
                .collect::<Vec<_>>())
        })
        .await?;
        let mut listing = Listing::default();
        for (dir, record) in found {
            match record {
                Ok(Some(record)) => listing.workspaces.push(status_of(&dir, record).await),
                Ok(None) => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        listing.workspaces.sort_by_key(|status| std::cmp::Reverse(status.last_activity_at));
        Ok(listing)
    }

    /// One workspace.
    pub async fn status(&self, workspace: &WorkspaceRef) -> Result<WorkspaceStatus> {
        let (dir, record) = self.find(workspace).await?;
        let is_running = record.state.is_running();
        let mut status = status_of(&dir, record).await;
        if is_running {
            status.usage = client::usage(&dir).await.ok().flatten();
        }
        Ok(status)
    }

    /// Starts a workspace on its kept disk. One that runs already is left alone; one that is held
    /// still goes on.
    pub async fn start(&self, workspace: &WorkspaceRef, watch: &Watch) -> Result<WorkspaceStatus> {
        let (dir, _) = self.find(workspace).await?;
        let (record, lock) = match possession::take(&dir, For::Change).await? {
            Possession::Running(record) if record.state == WorkspaceState::Paused => {
                client::hold(&dir, Hold::Resume).await?;
                return self.status(&WorkspaceRef::Id(record.id)).await;
            }
            Possession::Running(record) => return Ok(status_of(&dir, record).await),
            Possession::AtRest(record, lock) => (record, lock),
        };
        // Its disk has been written to, and no memory but its own fits it.
        let environment = self.installed(&record).await?;
        let mut origin = self.origin(record.engine, environment, record.shape).await?;
        origin.template = None;
        let boot = origin.boot();
        birth::give(self, &record.id, lock, &boot, false, watch).await?.keep().await?;
        self.status(&WorkspaceRef::Id(record.id)).await
    }

    /// Holds a workspace still, with all that runs in it. One that is held already is left alone.
    /// Its time to live runs on.
    pub async fn pause(&self, workspace: &WorkspaceRef) -> Result<WorkspaceStatus> {
        self.hold(workspace, Hold::Pause).await
    }

    /// Lets a workspace go on that was paused. One that runs is left alone.
    pub async fn resume(&self, workspace: &WorkspaceRef) -> Result<WorkspaceStatus> {
        self.hold(workspace, Hold::Resume).await
    }

    async fn hold(&self, workspace: &WorkspaceRef, hold: Hold) -> Result<WorkspaceStatus> {
        let (dir, _) = self.find(workspace).await?;
        match possession::take(&dir, For::Reading).await? {
            Possession::Running(record) => {
                client::hold(&dir, hold).await?;
                self.status(&WorkspaceRef::Id(record.id)).await
            }
            Possession::AtRest(record, _) => Err(not_running(workspace, &record)),
        }
    }

    /// Ends a workspace's processes, flushes and keeps its disk. One at rest is left alone. What
    /// did not go as it should is in the status's `error`.
    pub async fn stop(&self, workspace: &WorkspaceRef) -> Result<WorkspaceStatus> {
        let (dir, record) = self.find(workspace).await?;
        if let Possession::Running(_) = possession::take(&dir, For::Reading).await? {
            // If nobody answers, it ended by itself; the lock tells.
            let _ = client::stop(&dir, StopMode::Orderly).await;
            drop(dir.take(STOP_PATIENCE).await?);
        }
        self.status(&WorkspaceRef::Id(record.id)).await
    }

    /// Removes a workspace and everything that belongs to it: processes, sockets, files. Works on
    /// a damaged one too, by its id.
    pub async fn delete(&self, workspace: &WorkspaceRef) -> Result<Deleted> {
        let (dir, id) = match workspace {
            WorkspaceRef::Id(id) => (self.home.workspace(id), id.clone()),
            WorkspaceRef::Name(_) => {
                let (dir, record) = self.find(workspace).await?;
                (dir, record.id)
            }
        };
        if !dir.exists() {
            return Err(not_found(workspace.as_str()));
        }
        let lock = take_for_deletion(&dir).await?;
        if !dir.exists() {
            // Somebody else deleted it while this waited.
            return Err(not_found(workspace.as_str()));
        }
        if let Ok(mut record) = Record::load(&dir) {
            if let Some(machine) = record.run.take().and_then(|run| run.machine) {
                blocking(move || {
                    machine.outlive(DISCARD_PATIENCE);
                    Ok(())
                })
                .await?;
            }
            record.state = WorkspaceState::Deleting;
            // On a full disk this fails, and deleting is just what helps.
            let _ = record.save(&dir);
        }
        blocking(move || dir.remove()).await?;
        drop(lock);
        Ok(Deleted { id })
    }

    /// Starts a command in a started workspace.
    pub async fn exec(
        &self,
        workspace: &WorkspaceRef,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        request.validate()?;
        let (dir, record) = self.find(workspace).await?;
        ready(workspace, &record)?;
        client::exec(&dir, request, None).await
    }

    /// Holds a workspace still and opens what it wrote, for diffs and exports.
    pub async fn review(&self, workspace: &WorkspaceRef) -> Result<Review> {
        let (dir, record) = self.find(workspace).await?;
        let environment = self.installed(&record).await?;
        Review::open(dir, environment.image.clone(), Arc::clone(&self.settings)).await
    }

    /// The workspace that a user means, with its record as it truly stands.
    pub(crate) async fn find(&self, workspace: &WorkspaceRef) -> Result<(WorkspaceDir, Record)> {
        let home = self.home.clone();
        let reference = workspace.clone();
        blocking(move || find(&home, &reference)).await
    }

    /// The environment that a workspace stands on, which must still be there.
    async fn installed(&self, record: &Record) -> Result<Environment> {
        let store = Arc::clone(&self.store);
        let (reference, image, kernel) = (
            record.environment.clone(),
            record.environment_digest.clone(),
            record.kernel_digest.clone(),
        );
        blocking(move || store.pinned(&reference, &image, &kernel)?.ok_or_else(|| {
            Error::new(
                ErrorCode::EnvironmentUnavailable,
                format!("the environment {reference} that this workspace stands on is not in the cache any more"),
            )
            .with_cause(format!("it needs the image {image} and the kernel {kernel}"))
            .with_hint("restore the `images` directory of PYRO_HOME, or create a new workspace")
        })).await
    }
}

/// Finds by id in one step, by name among all; a damaged workspace does not hide the others.
fn find(home: &Home, reference: &WorkspaceRef) -> Result<(WorkspaceDir, Record)> {
    let missing = || not_found(reference.as_str());
    match reference {
        WorkspaceRef::Id(id) => {
            let dir = home.workspace(id);
            let record = reconcile::load(&dir)?.ok_or_else(missing)?;
            Ok((dir, record))
        }
        WorkspaceRef::Name(name) => {
            for id in home.ids()? {
                let dir = home.workspace(&id);
                if Record::load(&dir).is_ok_and(|record| record.name.as_ref() == Some(name)) {
                    let record = reconcile::load(&dir)?.ok_or_else(missing)?;
                    return Ok((dir, record));
                }
            }
            Err(missing())
        }
    }
}

/// The lock of a workspace that is to go, with force if its supervisor does not let go.
async fn take_for_deletion(dir: &WorkspaceDir) -> Result<Lock> {
    let deadline = Instant::now() + DELETE_PATIENCE;
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(lock) = dir.try_take()? {
            return Ok(lock);
        }
        match Record::load(dir).map(|record| (record.state, record.run)) {
            Ok((state, _)) if state.is_running() && asked.is_none() => {
                let _ = client::stop(dir, StopMode::Discard).await;
                asked = Some(Instant::now());
            }
            // A supervisor that hangs, or that has not come so far that it could be asked.
            Ok((state, Some(run)))
                if !state.is_running()
                    || asked.is_some_and(|asked| asked.elapsed() >= DISCARD_PATIENCE) =>
            {
                blocking(move || {
                    run.supervisor.kill(DISCARD_PATIENCE);
                    if let Some(machine) = run.machine {
                        machine.outlive(DISCARD_PATIENCE);
                    }
                    Ok(())
                })
                .await?;
            }
            // Readers of a workspace at rest keep what they have opened.
            Ok((WorkspaceState::Stopped | WorkspaceState::Failed, None)) => {
                if let Some(lock) = dir.try_share()? {
                    return Ok(lock);
                }
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(busy());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// The public status of a record.
async fn status_of(dir: &WorkspaceDir, record: Record) -> WorkspaceStatus {
    let live = match record.state {
        state if state.is_running() => client::live_status(dir).await.ok(),
        _ => None,
    };
    let running_commands = live.map_or(0, |live| live.running_commands);
    let run = record.run.as_ref();
    WorkspaceStatus {
        isolation: run.and_then(|run| run.isolation),
        kernel_release: run.and_then(|run| run.kernel_release.clone()),
        stops_at: run.and_then(|run| run.stops_at),
        last_activity_at: last_activity(dir).unwrap_or(record.created_at).max(record.created_at),
        disk_used_bytes: disk_used(dir),
        running_commands,
        usage: None,
        id: record.id,
        name: record.name,
        state: record.state,
        environment: record.environment,
        environment_digest: record.environment_digest,
        engine: record.engine,
        shape: record.shape,
        limits: record.limits,
        seed: record.seed,
        labels: record.labels,
        created_at: record.created_at,
        error: record.error,
    }
}

fn last_activity(dir: &WorkspaceDir) -> Option<Timestamp> {
    let modified = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok();
    let latest = modified(dir.activity_file()).max(modified(dir.record_file()))?;
    Timestamp::try_from(latest).ok()
}

/// What the files of a workspace take on the host; holes take nothing.
fn disk_used(dir: &WorkspaceDir) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(dir.path()) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            let inside = if meta.is_dir() { storage::bytes_in(&entry.path()) } else { 0 };
            Some(meta.blocks() * 512 + inside)
        })
        .sum()
}

/// Whether something can run in the workspace now. Waking one that is held still belongs here.
pub(crate) fn ready(workspace: &WorkspaceRef, record: &Record) -> Result<()> {
    match record.state {
        WorkspaceState::Started => Ok(()),
        WorkspaceState::Paused => Err(paused(workspace.as_str())),
        _ => Err(not_started(workspace, record)),
    }
}

fn not_started(workspace: &WorkspaceRef, record: &Record) -> Error {
    let error = Error::new(
        ErrorCode::WrongState,
        format!(
            "the workspace {:?} is {}, so nothing can run in it",
            workspace.as_str(),
            record.state
        ),
    )
    .with_hint(format!("`pyro workspace start {}`", workspace.as_str()));
    match &record.error {
        Some(reason) => error.with_cause(reason.message.clone()),
        None => error,
    }
}

fn not_running(workspace: &WorkspaceRef, record: &Record) -> Error {
    Error::new(
        ErrorCode::WrongState,
        format!(
            "the workspace {:?} is {}, so there is no machine to hold or to let go on",
            workspace.as_str(),
            record.state
        ),
    )
    .with_hint(format!("`pyro workspace start {}`", workspace.as_str()))
}

/// Runs something that blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorCode::Internal, "a background task of pyro failed")
            .with_cause(error.to_string())
            .with_hint("this is a defect in pyro; please report it"))
    })
}

/// Fails if a living workspace has this name already. The caller holds the names' lock.
fn ensure_free(home: &Home, name: &pyro_contract::name::WorkspaceName) -> Result<()> {
    let taken = |id: &WorkspaceId| {
        Record::load(&home.workspace(id)).is_ok_and(|record| record.name.as_ref() == Some(name))
    };
    match home.ids()?.iter().find(|id| taken(id)) {
        // A creation that died here does not keep its name.
        Some(id) if reconcile::load(&home.workspace(id))?.is_some() => Err(Error::new(
            ErrorCode::AlreadyExists,
            format!("a workspace named {:?} exists already", name.as_str()),
        )
        .with_cause(format!("it is {id}"))
        .with_hint(format!("choose another name, or `pyro workspace delete {name}`"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_workspace_takes_is_counted_once() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let (dir, _lock) = home.new_workspace(&WorkspaceId::random()).unwrap().publish().unwrap();
        let before = disk_used(&dir);
        let inner = dir.path().join("output");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("1"), vec![7; 256 << 10]).unwrap();
        std::fs::File::open(inner.join("1")).unwrap().sync_all().unwrap();
        let grown = disk_used(&dir) - before;
        assert!((256 << 10..384 << 10).contains(&grown), "{grown}");
    }
}
