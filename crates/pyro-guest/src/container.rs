//! The start of PID 1 in a container: the host and its OCI runtime have made the root, the kernel
//! filesystems and the limits; what is left is the agent's own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use crate::adopt::Kernel;
use crate::boot::{Attempt, Machine, Result};
use crate::exec::Cgroups;
use crate::freeze::Disk;
use crate::transport::Channel;
use crate::{log, sys};

/// The first argument of an agent that is PID 1 of a container.
pub(crate) const MODE: &str = "container";

/// The socket to the host.
const HOST_FD: i32 = 3;

/// `memory.oom_control` or `memory.events` of the container's cgroup, where the host could open one.
const OOM_FD: i32 = 4;

/// Takes over what the engine made. `arguments`: `PROCESSES` (the most that one user of the
/// container may have), then `oom` if the host passed its counter of deaths for lack of memory.
pub(crate) fn boot(mut arguments: impl Iterator<Item = String>) -> Result<Machine> {
    let processes = arguments.next().and_then(|number| number.parse().ok());
    sys::be_in_container(processes.unwrap_or(u64::MAX));
    let socket = sys::inherited(HOST_FD).attempt(|| "cannot find the host's socket".into())?;
    let oom_events = match arguments.next().as_deref() {
        Some("oom") => {
            let events = sys::inherited(OOM_FD).attempt(|| "cannot find the OOM counter".into())?;
            Some(File::from(events))
        }
        _ => None,
    };
    sys::hide().attempt(|| "cannot hide the agent's memory".into())?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    loopback_up()?;
    let top =
        rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .attempt(|| "cannot open /".into())?;
    Ok(Machine {
        channel: Channel::Socket(socket),
        disk: Disk::of_host(top),
        kernel: Kernel::Hosts,
        project: None,
        cgroups: cgroups(oom_events),
    })
}

fn loopback_up() -> Result<()> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .attempt(|| "cannot open a socket".into())?;
    sys::loopback_up(socket.as_fd()).attempt(|| "cannot bring the loopback interface up".into())
}

/// Cgroups for the commands, if the host gave the container one of its own.
fn cgroups(oom_events: Option<File>) -> Option<Cgroups> {
    match cgroup_tree() {
        // Never closed: it is looked up through `/proc/self/fd` as long as the agent lives.
        Ok(tree) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
            std::mem::forget(tree);
            Cgroups::set_up_in_container(&path, oom_events)
        }
        Err(error) => {
            log::line(&format!("commands have no cgroups: {error}"));
            None
        }
    }
}

/// The container's own part of the cgroup hierarchy: writable for the agent, where no path leads
/// to it, and read-only for everybody at its usual place.
fn cgroup_tree() -> io::Result<OwnedFd> {
    let filesystem = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(filesystem.as_fd())?;
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tree = rustix::mount::fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, plain)?;
    let view = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = rustix::mount::mount("cgroup2", "/sys/fs/cgroup", "cgroup2", view, None) {
        log::line(&format!("there is no view of the cgroups: {error}"));
    }
    Ok(tree)
}
