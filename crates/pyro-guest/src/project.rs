//! `/workspace`, stacked when the machine is adopted: only then does it have a baseline.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::mount::MountFlags;

use crate::boot::{Attempt, Result};
use crate::disks::{self, Disk};
use crate::root;
use crate::uevent::Uevents;

/// Where the project is.
const WORKSPACE: &str = "/workspace";

/// What is needed to stack it.
pub(crate) struct Project(Mutex<Option<Parts>>);

struct Parts {
    /// The directory of the disks' mounts, and that of the device nodes; no path leads to either.
    mounts: OwnedFd,
    devices: OwnedFd,
    uevents: Uevents,
}

impl Project {
    pub(crate) fn new(mounts: OwnedFd, devices: OwnedFd, uevents: Uevents) -> Self {
        Self(Mutex::new(Some(Parts { mounts, devices, uevents })))
    }

    /// Mounts the baseline and stacks the project over it; once. Blocking.
    pub(crate) fn open(&self) -> Result<()> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = parts.as_ref() {
            parts.stack()?;
        }
        *parts = None;
        Ok(())
    }
}

impl Parts {
    fn stack(&self) -> Result<()> {
        let node = disks::attach(&self.uevents, Disk::Baseline)
            .attempt(|| "cannot find the disk of the baseline".into())?;
        let source = format!("/proc/self/fd/{}/{node}", self.devices.as_raw_fd());
        // Nothing else of this process looks up relative paths.
        rustix::process::fchdir(&self.mounts).attempt(|| "cannot enter the mounts".into())?;
        let stacked = root::mount_disk(
            &source,
            root::BASE,
            "erofs",
            MountFlags::RDONLY | MountFlags::NODEV,
            "",
        )
        .and_then(|()| root::overlay(root::BASE, "workspace", WORKSPACE));
        std::env::set_current_dir("/").attempt(|| "cannot leave the mounts".into())?;
        stacked
    }
}
