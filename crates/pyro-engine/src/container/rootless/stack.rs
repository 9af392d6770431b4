//! Stacks an ordinary user's layers, in the keeper: system calls alone.
//!
//! The kernel lets the owner of a user namespace mount overlayfs (Linux 5.11), with attributes of
//! the name `user.overlay.` where root's mounts have `trusted.overlay.`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

use crate::root::check;

/// Where the stage shows the layers until they are stacked.
pub(in super::super) const ENVIRONMENT: &CStr = c"/layers/environment";
pub(in super::super) const STORAGE: &CStr = c"/layers/storage";
pub(in super::super) const PROJECT: &CStr = c"/layers/project";

/// The baseline in the storage, unpacked.
pub(super) const BASELINE: &str = "baseline";

/// The options are those of root's mounts, see `mounts.rs`: `userxattr` implies those that are missing,
/// and contradicts them on some kernels.
const ROOT: Layer = Layer {
    lower: ENVIRONMENT,
    directory: c"/layers/storage/machine",
    upper: c"/layers/storage/machine/upper",
    work: c"/layers/storage/machine/work",
    options: c"userxattr,index=off,xino=off,nfs_export=off,\
        lowerdir=/layers/environment,upperdir=/layers/storage/machine/upper,\
        workdir=/layers/storage/machine/work",
};
const WORKSPACE: Layer = Layer {
    lower: c"/layers/storage/baseline",
    directory: c"/layers/storage/workspace",
    upper: c"/layers/storage/workspace/upper",
    work: c"/layers/storage/workspace/work",
    options: c"userxattr,index=off,xino=off,nfs_export=off,\
        lowerdir=/layers/storage/baseline,upperdir=/layers/storage/workspace/upper,\
        workdir=/layers/storage/workspace/work",
};

struct Layer {
    lower: &'static CStr,
    directory: &'static CStr,
    upper: &'static CStr,
    work: &'static CStr,
    options: &'static CStr,
}

/// Mounts the container's root where the runtime looks for it.
pub(in super::super) fn mount_root() -> io::Result<()> {
    ROOT.mount(c"/bundle/rootfs")
}

/// Mounts the project at `place` and takes the layers out of sight.
pub(in super::super) fn mount_project(place: &CStr) -> io::Result<()> {
    WORKSPACE.mount(PROJECT)?;
    // Not through a link, which an earlier run of this container may have left there.
    // SAFETY: both strings live through the call and end in NUL.
    let moved = unsafe {
        let here = libc::AT_FDCWD;
        libc::syscall(libc::SYS_move_mount, here, PROJECT.as_ptr(), here, place.as_ptr(), 0)
    };
    check(moved as libc::c_int)?;
    for layer in [ENVIRONMENT, STORAGE] {
        // SAFETY: the string lives through the call and ends in NUL.
        check(unsafe { libc::umount2(layer.as_ptr(), libc::MNT_DETACH) })?;
    }
    Ok(())
}

impl Layer {
    fn mount(&self, place: &CStr) -> io::Result<()> {
        self.make()?;
        let overlay = c"overlay".as_ptr();
        let flags = libc::MS_NOATIME | libc::MS_NODEV;
        // SAFETY: all strings live through the call and end in NUL.
        check(unsafe {
            libc::mount(overlay, place.as_ptr(), overlay, flags, self.options.as_ptr().cast())
        })
    }

    /// Makes the directories of a layer that is new.
    fn make(&self) -> io::Result<()> {
        make_directory(self.directory)?;
        make_directory(self.work)?;
        if !make_directory(self.upper)? {
            return Ok(());
        }
        // The merged top directory shows the upper one's owner and mode.
        let mut like = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the strings end in NUL and live through the calls; `stat` was filled in once the
        // first call succeeded.
        unsafe {
            check(libc::lstat(self.lower.as_ptr(), like.as_mut_ptr()))?;
            let like = like.assume_init();
            check(libc::lchown(self.upper.as_ptr(), like.st_uid, like.st_gid))?;
            check(libc::chmod(self.upper.as_ptr(), like.st_mode & 0o7777))
        }
    }
}

/// False if it was there.
fn make_directory(path: &CStr) -> io::Result<bool> {
    // SAFETY: the string lives through the call and ends in NUL.
    match check(unsafe { libc::mkdir(path.as_ptr(), 0o755) }) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_is_mounted_from_the_directories_that_it_makes() {
        for layer in [ROOT, WORKSPACE] {
            let options = layer.options.to_str().unwrap();
            let has = |name: &str, path: &CStr| {
                options.contains(&format!(",{name}={}", path.to_str().unwrap()))
            };
            assert!(has("lowerdir", layer.lower), "{options}");
            assert!(has("upperdir", layer.upper) && has("workdir", layer.work), "{options}");
        }
        assert!(WORKSPACE.lower.to_str().unwrap().ends_with(&format!("/{BASELINE}")));
    }
}
