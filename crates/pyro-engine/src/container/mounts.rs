//! The layers of a container as mounts that no path leads to.
//!
//! Everything is mounted *detached* (fsmount(2)) and handed around as descriptors: what is not
//! attached somewhere vanishes with its last descriptor, so nothing is left behind by a process
//! that is killed. Environment, baseline and disk are the very files that virtual machines have;
//! an ID-mapped mount (mount_setattr(2)) shows their owners as ids of the container's own range,
//! so nothing is copied and what lies on the disk is the same whatever isolates.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, move_mount, open_tree,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::loop_device;

/// As in the virtual machines: nothing but plain files, whiteouts and opaque marks in the upper
/// directory, which is all that the host's reader of it understands.
const OVERLAY: &str = "redirect_dir=off,metacopy=off,index=off,xino=off,nfs_export=off";

/// As in the virtual machines; see there.
const EXT4: &[(&str, Option<&str>)] =
    &[("errors", Some("remount-ro")), ("noinit_itable", None), ("discard", None)];

/// `MOUNT_ATTR_IDMAP` of `linux/mount.h`.
const IDMAP: u64 = 0x0010_0000;

/// A read-only image, its owners mapped by the user namespace `ids`.
pub(super) fn image(path: &Path, ids: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let tree = match erofs(path) {
        // Before Linux 6.12 erofs takes block devices only.
        Err(error) if error.raw_os_error() == Some(libc::ENOTBLK) => {
            let device = loop_device::attach(&File::open(path)?, true)?;
            erofs(&device.path)?
        }
        mounted => mounted?,
    };
    map_ids(tree.as_fd(), ids)?;
    Ok(tree)
}

fn erofs(path: &Path) -> io::Result<OwnedFd> {
    let filesystem = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(filesystem.as_fd(), "source", path)?;
    fsconfig_set_flag(filesystem.as_fd(), "ro")?;
    fsconfig_create(filesystem.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The machine's disk, an ext4 image. The limit of what may be written is the image's size.
pub(super) fn disk(storage: &File, ids: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let device = loop_device::attach(storage, false)?;
    let filesystem = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(filesystem.as_fd(), "source", &device.path)?;
    for (name, value) in EXT4 {
        match value {
            Some(value) => fsconfig_set_string(filesystem.as_fd(), *name, *value)?,
            None => fsconfig_set_flag(filesystem.as_fd(), *name)?,
        }
    }
    fsconfig_create(filesystem.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let tree = fsmount(filesystem.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    map_ids(tree.as_fd(), ids)?;
    Ok(tree)
}

/// Makes the directories of a layer that is new: where the machine writes over `lower`, and where
/// overlayfs works.
fn make_layer(disk: BorrowedFd<'_>, name: &str, lower: BorrowedFd<'_>) -> io::Result<()> {
    let make = |path: &str| match rustix::fs::mkdirat(disk, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    };
    make(name)?;
    make(&format!("{name}/work"))?;
    let upper = format!("{name}/upper");
    if make(&upper)? {
        // The merged top directory shows the upper one's owner and mode.
        let like = rustix::fs::fstat(lower)?;
        let (owner, group) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(disk, &upper, Some(owner), Some(group), nofollow)?;
        let mode = Mode::from_raw_mode(like.st_mode & 0o7777);
        rustix::fs::chmodat(disk, &upper, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn map_ids(tree: BorrowedFd<'_>, ids: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: ids.as_raw_fd() as u64,
    };
    // SAFETY: the path is a static string; the kernel reads one `mount_attr` of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Stacks the disk's layer `name` over `lower`.
///
/// A lower layer must be attached in the mounter's own namespace, so this happens in one that is
/// made for it and ends with the thread. `scratch` is any directory.
pub(super) fn overlay(
    lower: BorrowedFd<'_>,
    disk: BorrowedFd<'_>,
    name: &str,
    scratch: &Path,
) -> io::Result<OwnedFd> {
    make_layer(disk, name, lower)?;
    in_own_namespace(|| {
        mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), None)?;
        std::env::set_current_dir(scratch)?;
        for (tree, path) in [(lower, "lower"), (disk, "disk")] {
            fs::create_dir(path)?;
            let copy = open_tree(
                tree,
                "",
                OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH,
            )?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(copy.as_fd(), "", CWD, path, flags)?;
        }
        fs::create_dir("merged")?;
        let options =
            format!("lowerdir=lower,upperdir=disk/{name}/upper,workdir=disk/{name}/work,{OVERLAY}");
        let options = std::ffi::CString::new(options)?;
        let flags = MountFlags::NOATIME | MountFlags::NODEV;
        mount("overlay", "merged", "overlay", flags, options.as_c_str())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(open_tree(CWD, "merged", flags)?)
    })
}

/// Attaches a detached tree at a path as a process sees it, by a descriptor of that process.
pub(super) fn attach_in(
    process: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    path: &str,
) -> io::Result<()> {
    in_own_namespace(|| {
        // SAFETY: no memory is passed; this thread shares its root and its namespace with no other.
        if unsafe { libc::setns(process.as_raw_fd(), libc::CLONE_NEWNS) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    })
}

/// Runs `work` on a thread with a mount namespace, a root and a working directory of its own.
fn in_own_namespace<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("mounts".into()).spawn_scoped(scope, || {
                // SAFETY: neither descriptors nor memory are unshared.
                unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private)?;
                work()
            })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that mounts died")))
    })
}
