//! Keeping processes, and threads, from doing the same work twice.
//!
//! All locks are `flock(2)` on open files: the kernel lets go of them when their holder dies, so
//! there is nothing to clean up and no process id to mistake.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyro_contract::progress::Progress;

use super::disk;
use crate::{EnvironmentError, Result};

/// How often to look whether the other is done. `flock` can wait by itself, but a wait in the
/// kernel cannot be cancelled by a flag.
const LOOK: Duration = Duration::from_millis(100);

/// The directory of lock files.
#[derive(Debug, Clone)]
pub(super) struct Locks {
    pub(super) dir: PathBuf,
}

/// A lock; dropping it lets go.
#[derive(Debug)]
pub(super) struct Guard {
    _file: File,
}

/// Keeps something in the store from being pruned while it, or a clone of it, lives.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(super) _file: Arc<File>,
}

impl Locks {
    /// Waits for the lock `name` and tells `progress` if that takes time.
    pub(super) fn wait(&self, name: &str, progress: &dyn Progress) -> Result<Guard> {
        let mut told = false;
        loop {
            if let Some(guard) = self.try_lock(name)? {
                return Ok(guard);
            }
            if progress.cancelled() {
                return Err(EnvironmentError::Cancelled);
            }
            if !told {
                progress.stage(&format!("waiting for another pyro that is making {name}"));
                told = true;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Guard>> {
        let file = self.open(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Guard { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(EnvironmentError::at("lock", &self.dir.join(name))(error))
            }
        }
    }

    /// Takes a lock that nobody holds for longer than a few system calls.
    pub(super) fn brief(&self, name: &str) -> Result<Guard> {
        let file = self.open(name)?;
        file.lock().map_err(EnvironmentError::at("lock", &self.dir.join(name)))?;
        Ok(Guard { _file: file })
    }

    fn open(&self, name: &str) -> Result<File> {
        disk::create_dir(&self.dir)?;
        // Lock files are never removed: another process may wait on the removed one.
        let path = self.dir.join(format!("{}.lock", name.replace([':', '/', ' '], "_")));
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(EnvironmentError::at("open", &path))
    }
}
