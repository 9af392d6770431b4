//! Holding the writable disk still while the host reads it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pyro_wire::v1::FreezeReply;
use rustix::mount::MountFlags;
use tonic::Status;

use crate::{log, sys};

/// The machine's writable filesystem, by a handle on its top directory.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Shared>);

struct Shared {
    top: OwnedFd,
    /// The filesystem is the host's to freeze and to unmount, for it mounted it.
    hosts: bool,
    /// How many freezes are held; the first freezes, the last thaws.
    holders: Mutex<u32>,
}

impl Disk {
    pub(crate) fn new(top: OwnedFd) -> Self {
        Self(Arc::new(Shared { top, hosts: false, holders: Mutex::new(0) }))
    }

    /// A filesystem that the host mounted, in a container. The host holds the whole machine still
    /// when it wants to read the disk, and takes it away when the machine has ended.
    pub(crate) fn of_host(top: OwnedFd) -> Self {
        Self(Arc::new(Shared { top, hosts: true, holders: Mutex::new(0) }))
    }

    fn holders(&self) -> MutexGuard<'_, u32> {
        self.0.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes and freezes. Blocks as long as the flush takes.
    pub(crate) fn freeze(&self) -> io::Result<Frozen> {
        if self.0.hosts {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut holders = self.holders();
        if *holders == 0 {
            sys::freeze(self.0.top.as_fd())?;
        }
        *holders += 1;
        Ok(Frozen(self.clone()))
    }

    fn release(&self) {
        let mut holders = self.holders();
        *holders = holders.saturating_sub(1);
        if *holders == 0
            && let Err(error) = sys::thaw(self.0.top.as_fd())
            // EINVAL: user code, root as it is, has thawed it already.
            && error.raw_os_error() != Some(libc::EINVAL)
        {
            log::line(&format!("cannot thaw the disk: {error}"));
        }
    }

    /// Thaws whoever holds it, flushes, and makes it read-only for good, its journal empty. Should
    /// something still write to it, it is frozen instead, which empties the journal as well.
    pub(crate) fn retire(&self) -> io::Result<()> {
        if *self.holders() > 0 {
            let _ = sys::thaw(self.0.top.as_fd());
        }
        rustix::fs::syncfs(&self.0.top)?;
        if self.0.hosts {
            return Ok(());
        }
        // "." is the mount's top, which no path leads to any more.
        rustix::process::fchdir(&self.0.top)?;
        let remounted = rustix::mount::mount_remount(".", MountFlags::RDONLY, c"");
        let _ = rustix::process::chdir("/");
        match remounted {
            Ok(()) => Ok(()),
            Err(error) => {
                log::line(&format!("the disk is still in use ({error}); freezing it"));
                sys::freeze(self.0.top.as_fd())
            }
        }
    }
}

/// The disk is still while this lives.
pub(crate) struct Frozen(Disk);

impl Drop for Frozen {
    fn drop(&mut self) {
        // FITHAW waits for whoever holds the superblock; the agent's only thread must not.
        let disk = self.0.clone();
        let spawned = std::thread::Builder::new().spawn({
            let disk = disk.clone();
            move || disk.release()
        });
        if spawned.is_err() {
            disk.release();
        }
    }
}

/// One reply, and then silence: the call lasts until the host drops it, and the freeze with it.
pub(crate) struct FreezeStream {
    answered: bool,
    _frozen: Frozen,
}

impl FreezeStream {
    pub(crate) async fn begin(disk: Disk) -> Result<Self, Status> {
        // Should the call be dropped meanwhile, the result is dropped where it is made, and thaws.
        match tokio::task::spawn_blocking(move || disk.freeze()).await {
            Ok(Ok(frozen)) => Ok(Self { answered: false, _frozen: frozen }),
            Ok(Err(error)) => Err(Status::internal(format!("cannot freeze the disk: {error}"))),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

impl futures_util::Stream for FreezeStream {
    type Item = Result<FreezeReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.answered {
            return Poll::Pending;
        }
        self.answered = true;
        Poll::Ready(Some(Ok(FreezeReply {})))
    }
}
