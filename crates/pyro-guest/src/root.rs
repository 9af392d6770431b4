//! The root that user code sees: an overlay and the usual kernel filesystems; a second overlay, the
//! project, comes later (`project.rs`).
//!
//! The disks are mounted in the kernel's initial root, which is then covered by the overlay
//! (`MS_MOVE` onto `/`, chroot): they stay mounted there, out of reach of any path, while
//! `current_chrooted()` of the kernel sees a true root, so that user namespaces work in it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_move};

use crate::boot::{Attempt, Result};
use crate::disks::{self, Disk};
use crate::freeze;
use crate::uevent::Uevents;

/// Where the disks are mounted. Paths below it are relative, for later it is known by a descriptor.
const MOUNTS: &str = "/mnt";
const ENV: &str = "env";
pub(crate) const BASE: &str = "base";
const RW: &str = "rw";
const ROOT: &str = "/mnt/root";

/// `redirect_dir`, `metacopy` and `index` would put more into the upper directory than plain files,
/// whiteouts and opaque marks, which is all that the host's reader of it understands.
const OVERLAY: &str = "redirect_dir=off,metacopy=off,index=off,xino=off,nfs_export=off";

/// `noinit_itable`: mkfs left the inode tables unwritten; filling them in would make the sparse
/// file grow by 1.5 % for nothing. `discard` gives deleted space back to the host.
const EXT4: &str = "errors=remount-ro,noinit_itable,discard";

/// Device nodes that programs expect: name, mode, major, minor. The disks are left out: user code
/// is root and could make them, but shall not find them by accident.
const NODES: &[(&str, u32, u32, u32)] = &[
    ("null", 0o666, 1, 3),
    ("zero", 0o666, 1, 5),
    ("full", 0o666, 1, 7),
    ("random", 0o666, 1, 8),
    ("urandom", 0o666, 1, 9),
    ("tty", 0o666, 5, 0),
    ("console", 0o600, 5, 1),
    ("fuse", 0o666, 10, 229),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What the agent itself needs to find modules and disks.
pub(crate) fn mount_early() -> Result<()> {
    kernel_fs("proc", "/proc", MountFlags::empty(), "")?;
    kernel_fs("sysfs", "/sys", MountFlags::empty(), "")?;
    kernel_fs("devtmpfs", "/dev", MountFlags::empty(), "")
}

/// What [`enter`] leaves outside of the new root.
pub(crate) struct Outside {
    pub(crate) mounts: OwnedFd,
    pub(crate) devices: OwnedFd,
}

/// Mounts environment and writable disk and stacks them, not yet as the root.
pub(crate) fn mount_disks(uevents: &Uevents) -> Result<freeze::Disk> {
    std::env::set_current_dir(MOUNTS).attempt(|| format!("cannot enter {MOUNTS}"))?;
    let read_only = MountFlags::RDONLY | MountFlags::NODEV;
    let node = |disk| -> Result<String> {
        let node =
            disks::attach(uevents, disk).attempt(|| format!("cannot find the disk {disk:?}"))?;
        Ok(format!("/dev/{node}"))
    };
    mount_disk(&node(Disk::Environment)?, ENV, "erofs", read_only, "")?;
    mount_disk(&node(Disk::Writable)?, RW, "ext4", MountFlags::NOATIME, EXT4)?;
    overlay(ENV, "machine", ROOT)?;
    Ok(freeze::Disk::new(open_dir(RW)?))
}

/// Makes the overlay the root of this process, hence of all others.
pub(crate) fn enter() -> Result<Outside> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    kernel_fs("proc", &at("proc"), plain, "")?;
    kernel_fs("sysfs", &at("sys"), plain, "")?;
    kernel_fs("tmpfs", &at("dev"), MountFlags::NOSUID, "mode=0755,size=1m")?;
    kernel_fs(
        "devpts",
        &at("dev/pts"),
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "gid=5,mode=620,ptmxmode=666",
    )?;
    kernel_fs("tmpfs", &at("dev/shm"), MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    kernel_fs("tmpfs", &at("run"), MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    // Without `favordynmods` (Linux 6.0) moving a command into its cgroup waits for an RCU grace
    // period; older kernels refuse the option.
    if kernel_fs("cgroup2", &at("sys/fs/cgroup"), plain, "favordynmods").is_err() {
        kernel_fs("cgroup2", &at("sys/fs/cgroup"), plain, "")?;
    }
    for &(name, mode, major, minor) in NODES {
        let path = at(&format!("dev/{name}"));
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(mode),
            makedev(major, minor),
        )
        .attempt(|| format!("cannot make {path}"))?;
        // mknod(2) obeys the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .attempt(|| format!("cannot set the mode of {path}"))?;
    }
    for (name, target) in LINKS {
        symlink(target, at(&format!("dev/{name}")))
            .attempt(|| format!("cannot link /dev/{name}"))?;
    }
    if !Path::new(&at("tmp")).exists() {
        make_dir(&at("tmp"))?;
        fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777))
            .attempt(|| "cannot set the mode of /tmp".into())?;
    }
    let outside = Outside { mounts: open_dir(MOUNTS)?, devices: open_dir("/dev")? };
    std::env::set_current_dir(ROOT).attempt(|| format!("cannot enter {ROOT}"))?;
    mount_move(".", "/").attempt(|| "cannot move the root into place".into())?;
    rustix::process::chroot(".").attempt(|| "cannot change the root".into())?;
    std::env::set_current_dir("/").attempt(|| "cannot enter the new root".into())?;
    Ok(outside)
}

fn at(path: &str) -> String {
    format!("{ROOT}/{path}")
}

fn open_dir(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("cannot open {path}"))
}

fn make_dir(path: &str) -> Result<()> {
    fs::create_dir_all(path).attempt(|| format!("cannot make {path}"))
}

fn kernel_fs(kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<()> {
    make_dir(target)?;
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount(kind, target, kind, flags, options.as_c_str())
        .attempt(|| format!("cannot mount {kind} at {target}"))
}

/// Mounts a disk at a directory relative to [`MOUNTS`], the current one.
pub(crate) fn mount_disk(
    node: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<()> {
    make_dir(target)?;
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount(node, target, kind, flags, options.as_c_str())
        .attempt(|| format!("cannot mount the disk {target:?} as {kind}"))
}

/// Removes the writable layer `name`. In [`MOUNTS`].
pub(crate) fn forget(name: &str) -> Result<()> {
    let layer = format!("{RW}/{name}");
    fs::remove_dir_all(&layer).attempt(|| format!("cannot remove {layer}"))
}

/// Mounts `lower` with the writable layer `name` at `target`. In [`MOUNTS`].
pub(crate) fn overlay(lower: &str, name: &str, target: &str) -> Result<()> {
    let upper = format!("{RW}/{name}/upper");
    let work = format!("{RW}/{name}/work");
    if !Path::new(&upper).exists() {
        make_dir(&work)?;
        make_dir(&upper)?;
        // The merged top directory shows the upper one's owner and mode.
        let like = fs::metadata(lower).attempt(|| format!("cannot inspect {lower}"))?;
        chown(&upper, Some(like.uid()), Some(like.gid()))
            .and_then(|()| fs::set_permissions(&upper, like.permissions()))
            .attempt(|| format!("cannot set the owner of {upper}"))?;
    }
    make_dir(target)?;
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},{OVERLAY}");
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount("overlay", target, "overlay", MountFlags::NOATIME, options.as_c_str())
        .attempt(|| format!("cannot stack {name} over {lower}"))
}
