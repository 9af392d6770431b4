//! Locks that a dead process cannot keep: `flock(2)` on a file beside what it protects.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_contract::{Error, ErrorCode, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How often a lock that somebody else holds is asked for.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A held lock. It belongs to the open file: a child that inherits the descriptor holds it too,
/// and it is free once the last of them is closed, however the processes end.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock if it is free.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        Self::try_with(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn try_with(path: &Path, operation: FlockOperation) -> Result<Option<Self>> {
        let file = open(path)?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Some(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Waits for the lock as long as it takes. For locks that are held for milliseconds.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(path, error)),
            }
        }
    }

    /// Takes the lock together with other readers, if nobody has it for himself.
    pub(crate) fn try_share(path: &Path) -> Result<Option<Self>> {
        Self::try_with(path, FlockOperation::NonBlockingLockShared)
    }

    /// Waits for the lock at most `patience`.
    ///
    /// flock(2) cannot be waited for with a limit, and a thread that is left behind in it would
    /// take the lock later, for nobody. So this asks again and again; it only ever does so while
    /// somebody else works on the same workspace.
    pub(crate) async fn wait_at_most(path: PathBuf, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::try_take(&path)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(busy());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Takes over a lock that the parent process held and passed on.
    pub(crate) fn inherited(fd: OwnedFd) -> Result<Self> {
        // Not for our own children: a machine that outlived us must not seem to be us.
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| Error::io("cannot take over the lock", &error.into()))?;
        Ok(Self { file: File::from(fd) })
    }

    /// A second descriptor of the same lock, for a child to inherit.
    pub(crate) fn share(&self) -> Result<OwnedFd> {
        self.file
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::io("cannot pass on the lock", &error))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(crate) fn busy() -> Error {
    Error::new(ErrorCode::Busy, "another pyro process is working on this workspace")
        .with_hint("wait for it, or end it, then try again")
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io(format!("cannot open {}", path.display()), &error))
}

fn failed(path: &Path, error: Errno) -> Error {
    Error::io(format!("cannot lock {}", path.display()), &error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_exclusive_and_free_once_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        let busy = Lock::wait_at_most(path.clone(), Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(busy.code, ErrorCode::Busy);
        let shared = held.share().unwrap();
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_none(), "the shared descriptor still holds it");
        drop(shared);
        let readers = [Lock::try_share(&path).unwrap(), Lock::try_share(&path).unwrap()];
        assert!(readers.iter().all(Option::is_some));
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(readers);
        assert!(Lock::wait_at_most(path, Duration::from_secs(5)).await.is_ok());
    }
}
