//! Pushing whatever changes, by what the kernel tells of it.
//!
//! Each directory is watched before it is listed, so that nothing that changes after the listing goes
//! unnoticed. Every push looks at the whole tree again, which costs little; so events only say that it
//! is time to, and events that the kernel had to drop cost nothing.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pyro_contract::progress::Progress as _;
use pyro_contract::sync::{SyncPushRequest, Synced};
use pyro_contract::{Error, ErrorCode, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::beneath::failed;
use super::push::Push;
use crate::home::{Home, WorkspaceDir};
use crate::pyro::blocking;
use crate::watch::{Watch, interrupted};

/// A change is followed by others more often than not: what comes within this time is pushed together.
const QUIET: Duration = Duration::from_millis(50);

/// However much goes on, the first change waits no longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Everything that changes a tree; reading it does not.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Pushes until it is interrupted.
pub(super) async fn follow(
    home: &Home,
    dir: WorkspaceDir,
    request: &SyncPushRequest,
    watch: &Watch,
    mut tell: impl FnMut(Result<Synced>) -> Result<()>,
) -> Result<()> {
    if !std::path::Path::new(&request.source).is_dir() {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("{} is not a directory, so there is nothing to watch", request.source),
        )
        .with_hint("push an archive once, without --watch"));
    }
    let changes = Changes::new()?;
    let entering = changes.entering();
    let (home, asked, seen) = (home.clone(), request.clone(), watch.clone());
    let mut push = blocking(move || Push::open(&home, dir, &asked, entering, &seen)).await?;
    loop {
        // What came until now is in what is about to be listed.
        changes.drain()?;
        match push.run(watch).await {
            Ok(synced) => tell(Ok(synced))?,
            Err(error) if may_pass(&error) => tell(Err(error))?,
            Err(error) => return Err(error),
        }
        watch.stage("watching");
        tokio::select! {
            changed = changes.settled() => changed?,
            () = watch.interrupt().triggered() => return Err(interrupted()),
        }
    }
}

/// What another state of the host's tree would mend.
fn may_pass(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::Busy
            | ErrorCode::Conflict
            | ErrorCode::UnsafeTarget
            | ErrorCode::NoSpace
            | ErrorCode::PermissionDenied
            | ErrorCode::InvalidArgument
            | ErrorCode::TooLarge
            | ErrorCode::Io
    )
}

/// Readiness of a descriptor.
#[allow(unsafe_code)]
fn told_by_the_runtime(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the `AsyncFd` owns it until it is dropped, so it stays so.
    unsafe { AsyncFd::register(fd) }.map_err(std::io::Error::from)
}

/// What the kernel tells of the watched directories.
struct Changes(Arc<AsyncFd<OwnedFd>>);

impl Changes {
    fn new() -> Result<Self> {
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(told_by_the_runtime);
        let made = made.map_err(|error| {
            Error::io("cannot watch for changes", &error)
                .with_hint("raise fs.inotify.max_user_instances (sysctl)")
        })?;
        Ok(Self(Arc::new(made)))
    }

    /// Watches each directory that is about to be listed. One that is watched already stays so.
    fn entering(&self) -> super::push::Entering {
        let changes = Arc::clone(&self.0);
        Arc::new(move |directory: BorrowedFd<'_>, path: &[u8]| {
            // The very directory that is being listed, whatever its path leads to by now.
            let opened = format!("/proc/self/fd/{}", directory.as_raw_fd());
            match inotify::add_watch(changes.get_ref(), opened, CHANGES) {
                Ok(_) => Ok(()),
                Err(Errno::NOSPC) => Err(Error::new(
                    ErrorCode::TooLarge,
                    "the tree has more directories than may be watched",
                )
                .with_hint("exclude some of it, or raise fs.inotify.max_user_watches (sysctl)")),
                Err(errno) => Err(failed("watch", path, errno)),
            }
        })
    }

    /// Forgets what was told until now; true if there was something.
    fn drain(&self) -> Result<bool> {
        let mut buffer = [0; 16 << 10];
        let mut any = false;
        loop {
            match rustix::io::read(self.0.get_ref(), &mut buffer) {
                Ok(0) | Err(Errno::WOULDBLOCK) => return Ok(any),
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("cannot watch for changes", &errno.into())),
            }
        }
    }

    /// Waits for a change.
    async fn changed(&self) -> Result<()> {
        loop {
            let ready = self.0.readable().await;
            let mut ready = ready.map_err(|error| Error::io("cannot watch for changes", &error))?;
            ready.clear_ready();
            if self.drain()? {
                return Ok(());
            }
        }
    }

    /// Waits for a change, and then until there is some quiet, but not for long.
    async fn settled(&self) -> Result<()> {
        self.changed().await?;
        let quiet = async {
            while let Ok(changed) = tokio::time::timeout(QUIET, self.changed()).await {
                changed?;
            }
            Ok(())
        };
        tokio::time::timeout(LONGEST_WAIT, quiet).await.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::rules::Rules;
    use crate::sync::scan::{Top, scan};

    fn list(changes: &Changes, path: &std::path::Path) -> usize {
        let top = Top::open(path).unwrap();
        let rules = Rules::new(&Default::default()).unwrap();
        let entering = changes.entering();
        let mut count = 0;
        scan(&top, &rules, &*entering, &pyro_contract::progress::Silent, |directory| {
            count += directory.entries.len();
            Ok(())
        })
        .unwrap();
        count
    }

    #[tokio::test]
    async fn every_kind_of_change_is_told_and_reading_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/f"), "1").unwrap();
        let changes = Changes::new().unwrap();
        assert_eq!(list(&changes, temp.path()), 2);
        std::fs::read(at("d/f")).unwrap();
        list(&changes, temp.path());
        assert!(!changes.drain().unwrap(), "reading changes nothing");
        let steps: [&dyn Fn(); 6] = [
            &|| std::fs::write(at("d/f"), "2").unwrap(),
            &|| std::fs::write(at("d/g"), "").unwrap(),
            &|| std::fs::rename(at("d/g"), at("h")).unwrap(),
            &|| std::fs::remove_file(at("h")).unwrap(),
            &|| std::os::unix::fs::symlink("f", at("l")).unwrap(),
            &|| std::fs::create_dir_all(at("new/deep")).unwrap(),
        ];
        for step in steps {
            step();
            changes.settled().await.unwrap();
        }
        // A directory that is new is watched from its first listing on.
        list(&changes, temp.path());
        changes.drain().unwrap();
        std::fs::write(at("new/deep/f"), "x").unwrap();
        changes.settled().await.unwrap();
    }
}
