//! `/workspace`, stacked when the machine is adopted: only then does it have a baseline. A machine
//! that is adopted again, before anybody used it, has another.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::boot::{Attempt, Result};
use crate::disks::{self, Disk};
use crate::root;
use crate::uevent::Uevents;

/// Where the project is.
const WORKSPACE: &str = "/workspace";

/// Its layer of the writable disk.
const LAYER: &str = "workspace";

/// What is needed to stack it.
pub(crate) struct Project(Mutex<Parts>);

struct Parts {
    is_stacked: bool,
    /// The directory of the disks' mounts, and that of the device nodes; no path leads to either.
    mounts: OwnedFd,
    devices: OwnedFd,
    uevents: Uevents,
}

impl Project {
    pub(crate) fn new(mounts: OwnedFd, devices: OwnedFd, uevents: Uevents) -> Self {
        Self(Mutex::new(Parts { is_stacked: false, mounts, devices, uevents }))
    }

    /// Mounts the baseline and stacks the project over it, anew if it was before. Blocking.
    pub(crate) fn open(&self) -> Result<()> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing else of this process looks up relative paths.
        rustix::process::fchdir(&parts.mounts).attempt(|| "cannot enter the mounts".into())?;
        let opened = parts.open();
        parts.is_stacked = opened.is_ok();
        std::env::set_current_dir("/").attempt(|| "cannot leave the mounts".into())?;
        opened
    }
}

impl Parts {
    /// In the directory of the mounts.
    fn open(&self) -> Result<()> {
        if self.is_stacked {
            let none = UnmountFlags::empty();
            unmount(WORKSPACE, none).attempt(|| format!("cannot unmount {WORKSPACE}"))?;
            unmount(root::BASE, none).attempt(|| "cannot unmount the baseline".into())?;
            // It was made for the other baseline, and nobody has written to it.
            root::forget(LAYER)?;
        }
        let node = disks::attach(&self.uevents, Disk::Baseline)
            .attempt(|| "cannot find the disk of the baseline".into())?;
        let source = format!("/proc/self/fd/{}/{node}", self.devices.as_raw_fd());
        let read_only = MountFlags::RDONLY | MountFlags::NODEV;
        root::mount_disk(&source, root::BASE, "erofs", read_only, "")?;
        root::overlay(root::BASE, LAYER, WORKSPACE)
    }
}
