//! Containers of an ordinary user.
//!
//! He may mount neither erofs nor ext4, and own files under no name but his own. What he may do is
//! make a user namespace, and, if the administrator gave him ids for it (subuid(5)), files of all
//! owners in there. So environment and baseline are unpacked ([`unpack`]), what a container writes
//! goes to a directory, both are stacked by the keeper inside its namespace ([`stack`]), and the
//! host reads what was written through a [`helper`] ([`reader`]).
//!
//! Such a directory has no limit of its own, unlike the disk of a virtual machine.

mod helper;
pub(super) mod host;
pub(super) mod mapping;
mod measure;
mod reader;
pub(super) mod stack;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{EngineError, Result, Storage};
use mapping::Mapping;

/// How often to ask whether a storage is free that is somebody's still.
const LOOK: Duration = Duration::from_millis(2);

/// True if this process has to do without root's rights.
pub(super) fn applies() -> bool {
    !rustix::process::geteuid().is_root()
}

/// The directory that a container writes to, held by this process and its children.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    mapping: Mapping,
    _lock: File,
}

/// Makes the storage of a new container: a directory that is the user's alone.
pub(super) fn create(storage: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .create(storage)
        .and_then(|()| {
            std::fs::set_permissions(storage, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        })
        .map_err(EngineError::io(format!("cannot create {}", storage.display())))
}

/// Reads the storage of a container that is off, or stands still.
pub(super) fn open(storage: &Path) -> Result<Storage> {
    reader::open(&Mapping::find(), storage)
        .map_err(EngineError::io(format!("cannot read {}", storage.display())))
}

/// What the files of a storage take on the host, in bytes; holes take nothing.
pub(crate) fn measure(storage: &Path) -> u64 {
    measure::bytes(storage)
}

/// Removes a file or a tree, whoever of the user's ids it belongs to.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    unpack::remove(path)
}

/// Does something to files of all ids that this user's containers have.
pub(super) fn with_all_ids(work: impl FnOnce()) -> io::Result<()> {
    let work = || {
        work();
        Ok(Vec::new())
    };
    helper::perform(&Mapping::find(), work).map(drop)
}

/// Makes a directory that is the user's alone, unless it is there.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    unpack::private_directory(path)
}

/// True if the tree of this name was unpacked from an image in a directory of that name.
pub(crate) fn is_tree_of(tree: &OsStr, image: &OsStr) -> bool {
    unpack::is_tree_of(tree, image)
}

/// The environment `image` as a directory.
pub(super) fn environment(mapping: &Mapping, cache: &Path, image: &Path) -> io::Result<PathBuf> {
    unpack::environment(mapping, cache, image)
}

impl Directory {
    /// Takes the storage as soon as nobody else has it.
    pub(super) fn take(storage: &Path, mapping: Mapping, patience: Duration) -> io::Result<Self> {
        let lock = File::open(storage)?;
        let deadline = Instant::now() + patience;
        while let Err(error) = lock.try_lock() {
            match error {
                std::fs::TryLockError::Error(error) => return Err(error),
                std::fs::TryLockError::WouldBlock if Instant::now() < deadline => {
                    std::thread::sleep(LOOK);
                }
                std::fs::TryLockError::WouldBlock => return Err(io::ErrorKind::ResourceBusy.into()),
            }
        }
        Ok(Self { path: storage.to_owned(), mapping, _lock: lock })
    }

    /// Unpacks the baseline, unless that was done for an earlier run: it is the same for good.
    pub(super) fn insert(&self, baseline: &Path) -> io::Result<()> {
        let place = self.path.join(stack::BASELINE);
        if place.is_dir() { Ok(()) } else { unpack::unpack(&self.mapping, baseline, &place) }
    }
}
