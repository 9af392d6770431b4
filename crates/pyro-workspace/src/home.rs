//! Where everything lies: `PYRO_HOME` and the directories of the workspaces in it.
//!
//! ```text
//! PYRO_HOME/
//!   environments/ images/ kernels/ boot/     the environment cache (crate pyro-environment)
//!   programs/firecracker-…/                  what `pyro setup` fetched
//!   derived/                                 what engines keep to use again: compiled filters, empty
//!                                            disks, environments unpacked for an ordinary user
//!   workspaces/
//!     .lock                                  held while a name is being taken or leftovers are swept
//!     .new-ws-…/                             a workspace before it exists
//!     .removed-ws-…/                         a workspace after it existed
//!     ws-…/                                  a workspace, one directory that explains itself
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_contract::env_vars::{PYRO_HOME, XDG_DATA_HOME};
use pyro_contract::journal::ClientName;
use pyro_contract::name::{WorkspaceId, WorkspaceName};
use pyro_contract::workspace::WorkspaceState;
use pyro_contract::{Error, ErrorCode, Result};

use pyro_engine::{derived, storage};

use crate::caller::Caller;
use crate::lock::Lock;
use crate::record::{Record, not_found};

/// The root of pyro's state.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
    caller: Caller,
}

impl Home {
    /// `$PYRO_HOME`, else `$XDG_DATA_HOME/pyro`, else `~/.local/share/pyro`.
    pub fn from_environment() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = set(PYRO_HOME)
            .map(PathBuf::from)
            .or_else(|| set(XDG_DATA_HOME).map(|dir| PathBuf::from(dir).join("pyro")))
            .or_else(|| set("HOME").map(|dir| PathBuf::from(dir).join(".local/share/pyro")))
            .ok_or_else(|| {
                Error::new(ErrorCode::InvalidArgument, "there is nowhere to keep pyro's state")
                    .with_hint("set PYRO_HOME to a directory")
            })?;
        Self::at(&root)
    }

    /// State under `root`, which is made if need be.
    pub fn at(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)
            .map_err(|error| Error::io(format!("cannot use {}", root.display()), &error))?;
        let home = Self { root, caller: Caller::default() };
        // The cache may be read by machines' own users; the workspaces by nobody else.
        for (dir, mode) in [(home.root.clone(), 0o755), (home.workspaces(), 0o700)] {
            fs::DirBuilder::new().recursive(true).mode(mode).create(&dir).map_err(|error| {
                Error::io(format!("cannot create {}", dir.display()), &error)
                    .with_hint("set PYRO_HOME to a directory that you can write to")
            })?;
        }
        Ok(home)
    }

    /// The same, of somebody whom the journals shall know by this name.
    #[must_use]
    pub fn for_client(mut self, name: Option<ClientName>) -> Self {
        self.caller = Caller::new(name);
        self
    }

    /// The name, if there is one.
    #[must_use]
    pub fn client(&self) -> Option<&ClientName> {
        self.caller.client()
    }

    /// The root itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of all workspaces.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// The directory of the programs that pyro fetched for itself.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// The directory of what engines make of images and of their programs, to use it again.
    #[must_use]
    pub fn derived(&self) -> PathBuf {
        self.root.join("derived")
    }

    /// The directory of one workspace.
    #[must_use]
    pub fn workspace(&self, id: &WorkspaceId) -> WorkspaceDir {
        WorkspaceDir { path: self.workspaces().join(id.as_str()), caller: self.caller.clone() }
    }

    /// Serialises the taking of names and the sweeping of leftovers.
    pub(crate) fn lock_names(&self) -> Result<Lock> {
        Lock::wait(&self.workspaces().join(".lock"))
    }

    /// Every workspace whose record can be read, as it was last written down; for completion, which
    /// must be quick and mends nothing.
    #[must_use]
    pub fn names(&self) -> Vec<(WorkspaceId, Option<WorkspaceName>, WorkspaceState)> {
        let ids = self.ids().unwrap_or_default().into_iter();
        let records = ids.filter_map(|id| Record::load(&self.workspace(&id)).ok());
        records.map(|record| (record.id, record.name, record.state)).collect()
    }

    /// The ids of all directories that are workspaces, whatever their condition.
    pub(crate) fn ids(&self) -> Result<Vec<WorkspaceId>> {
        let dir = self.workspaces();
        let failed = |error: io::Error| Error::io(format!("cannot list {}", dir.display()), &error);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(Ok(id)) = entry.file_name().to_str().map(str::parse) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Makes the directory of a workspace that nobody else can see yet, locked by the caller.
    /// [`NewWorkspaceDir::publish`] gives it its place. The caller holds [`Self::lock_names`].
    pub(crate) fn new_workspace(&self, id: &WorkspaceId) -> Result<NewWorkspaceDir> {
        let path = self.workspaces().join(format!(".new-{id}"));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::io(format!("cannot create {}", path.display()), &error))?;
        let dir = WorkspaceDir { path, caller: self.caller.clone() };
        let unborn = dir.unborn_file();
        File::create(&unborn)
            .map_err(|error| Error::io(format!("cannot create {}", unborn.display()), &error))?;
        let lock = dir.try_take()?.ok_or_else(|| {
            Error::new(ErrorCode::Internal, "a workspace directory just made is locked")
        })?;
        Ok(NewWorkspaceDir { dir, place: self.workspace(id), lock })
    }

    /// Removes what engines made of images that are gone, and with `all` what is quickly made again;
    /// the bytes that were freed. The caller has pruned the images.
    pub(crate) fn prune_derived(&self, all: bool) -> u64 {
        derived::prune(&self.derived(), &self.root.join("images"), all)
    }

    /// Removes what interrupted creations and deletions left. The caller holds [`Self::lock_names`],
    /// so a `.new-` directory cannot be one that is just being made.
    pub(crate) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.workspaces()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(".new-") || name.starts_with(".removed-") {
                // Two may sweep the same leftover: what one no longer finds, the other removed.
                let _ = storage::remove(&entry.path());
            }
        }
    }
}

/// The directory of one workspace and the names of the files in it.
#[derive(Debug, Clone)]
pub struct WorkspaceDir {
    path: PathBuf,
    caller: Caller,
}

impl WorkspaceDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose directory it is.
    pub(crate) fn id(&self) -> Result<WorkspaceId> {
        self.path.file_name().unwrap_or_default().to_string_lossy().parse()
    }

    /// Who is using it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn record_file(&self) -> PathBuf {
        self.path.join("workspace.json")
    }

    pub(crate) fn journal_file(&self) -> PathBuf {
        self.path.join("journal.db")
    }

    /// The shells of the present run, or of the last one.
    pub(crate) fn shells_file(&self) -> PathBuf {
        self.path.join("shells.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    pub(crate) fn baseline_file(&self) -> PathBuf {
        self.path.join("baseline.erofs")
    }

    /// Stands there until all of the workspace is durable: before that a loss of power may have taken
    /// anything, and nobody was told of the workspace.
    pub(crate) fn unborn_file(&self) -> PathBuf {
        self.path.join("unborn")
    }

    /// What belongs to a workspace besides its record, as far as it is files.
    pub(crate) fn contents(&self) -> [PathBuf; 4] {
        let journal = self.journal_file();
        let mut log = journal.clone().into_os_string();
        log.push("-wal");
        [self.baseline_file(), self.storage(), journal, log.into()]
    }

    /// The engine's own storage; a file or a directory, as the engine likes.
    pub(crate) fn storage(&self) -> PathBuf {
        self.path.join("disk")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// Space set aside for writing the record on a full disk.
    pub(crate) fn reserve_file(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Its modification time is when something last happened in the workspace.
    pub(crate) fn activity_file(&self) -> PathBuf {
        self.path.join("activity")
    }

    pub(crate) const SOCKET: &str = "control.sock";

    pub(crate) fn socket_file(&self) -> PathBuf {
        self.path.join(Self::SOCKET)
    }

    /// The lock, alone. `Ok(None)` while somebody else has it; `NotFound` if the workspace was
    /// removed, be it just now.
    pub(crate) fn try_take(&self) -> Result<Option<Lock>> {
        Lock::try_take(&self.lock_file()).map_err(|error| self.gone_or(error))
    }

    /// The lock, as one of several readers; else as [`Self::try_take`].
    pub(crate) fn try_share(&self) -> Result<Option<Lock>> {
        Lock::try_share(&self.lock_file()).map_err(|error| self.gone_or(error))
    }

    /// Waits for the lock, alone, at most `patience`; else as [`Self::try_take`].
    pub(crate) async fn take(&self, patience: Duration) -> Result<Lock> {
        Lock::wait_at_most(self.lock_file(), patience).await.map_err(|error| self.gone_or(error))
    }

    /// What a failure to lock means: a file cannot be made in a directory that is gone.
    fn gone_or(&self, error: Error) -> Error {
        if self.exists() { error } else { self.gone() }
    }

    /// That there is no such workspace.
    pub(crate) fn gone(&self) -> Error {
        not_found(&self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Takes the directory out of sight in one step, then removes it. Interrupted anywhere, the
    /// rest is swept later. The caller holds the workspace's lock.
    pub(crate) fn remove(&self) -> Result<()> {
        let failed =
            |error: io::Error| Error::io(format!("cannot remove {}", self.path.display()), &error);
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(Error::new(ErrorCode::Internal, "a workspace directory has no name"));
        };
        let name = name.to_string_lossy();
        let trash = parent.join(format!(".removed-{}", name.trim_start_matches(".new-")));
        match fs::rename(&self.path, &trash) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        storage::remove(&trash).map_err(failed)
    }
}

/// A workspace's directory before anybody can see it.
pub(crate) struct NewWorkspaceDir {
    pub(crate) dir: WorkspaceDir,
    place: WorkspaceDir,
    lock: Lock,
}

impl NewWorkspaceDir {
    /// Moves the directory to its place, in one step. The lock stays taken.
    pub(crate) fn publish(self) -> Result<(WorkspaceDir, Lock)> {
        fs::rename(&self.dir.path, &self.place.path).map_err(|error| {
            Error::io(format!("cannot create {}", self.place.path.display()), &error)
        })?;
        if !self.place.unborn_file().exists() {
            sync_dir(self.place.path.parent().unwrap_or(Path::new("/")))?;
        }
        Ok((self.place, self.lock))
    }
}

/// Makes renames and creations in a directory survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io(format!("cannot flush {}", dir.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_appears_whole_and_disappears_whole() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let id = WorkspaceId::random();
        let new = home.new_workspace(&id).unwrap();
        assert!(home.ids().unwrap().is_empty(), "not visible before it is published");
        let (dir, lock) = new.publish().unwrap();
        assert_eq!(home.ids().unwrap(), [id]);
        assert!(dir.try_take().unwrap().is_none(), "the lock moved with it");
        dir.remove().unwrap();
        // Whoever still has its name in mind hears that it is gone, not that a file is missing.
        assert_eq!(dir.try_take().unwrap_err().code, ErrorCode::NotFound);
        drop(lock);
        assert!(home.ids().unwrap().is_empty());
        assert_eq!(fs::read_dir(home.workspaces()).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_are_swept() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        fs::create_dir(home.workspaces().join(".removed-ws-aaaaaaaaaa")).unwrap();
        drop(home.new_workspace(&WorkspaceId::random()).unwrap());
        let _names = home.lock_names().unwrap();
        home.sweep();
        let left: Vec<_> = fs::read_dir(home.workspaces()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the lock of the names is left: {left:?}");
    }
}
