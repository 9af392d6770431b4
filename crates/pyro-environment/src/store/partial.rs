//! Objects in the making.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use pyro_contract::environment::Digest;
use pyro_contract::progress::Progress;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk;
use super::lock::{Hold, Locks};
use super::manifest::{self, Manifest};
use super::shelf::{MANIFEST, Object, STAMPS, Shelf, disk_usage};
use crate::{EnvironmentError, Result};

const SUFFIX: &str = ".partial";
/// Where whoever builds may leave what does not belong to the object.
const SCRATCH: &str = "scratch";
/// Held while a partial is made or looked for, so that nobody takes a directory that was just made
/// and is about to be locked for one whose builder has died.
const LOCK: &str = "partials";

/// A directory that is becoming an object. Its builder holds a lock on it; without being published
/// it is removed, at once or, if the builder is killed, by whoever comes next.
#[derive(Debug)]
pub(super) struct Partial {
    dir: PathBuf,
    lock: Option<File>,
}

impl Partial {
    pub(super) fn create(shelf: &Path, locks: &Locks) -> Result<Self> {
        disk::create_dir(shelf)?;
        let _brief = locks.brief(LOCK)?;
        let dir = tempfile::Builder::new()
            .prefix(".")
            .suffix(SUFFIX)
            .tempdir_in(shelf)
            .map_err(EnvironmentError::at("create a directory in", shelf))?
            .keep();
        let make = || -> io::Result<File> {
            fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
            fs::create_dir(dir.join(SCRATCH))?;
            let lock = File::open(&dir)?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = Some(make().map_err(EnvironmentError::at("create", &dir))?);
        Ok(Self { dir, lock })
    }

    /// The path of a file of the object.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The directory itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory for leftovers, gone when the object is published.
    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    /// Removes the partial now and says if that fails.
    pub(super) fn discard(self) -> Result<()> {
        fs::remove_dir_all(&self.dir).map_err(EnvironmentError::at("remove", &self.dir))
    }

    /// Makes it an object: files are hashed, synced, described by a manifest, and appear under
    /// their final name in one step. `inputs` names it on a shelf that is named so.
    ///
    /// If the very same object is there already, that one is returned.
    pub(super) fn publish<D: Serialize + DeserializeOwned>(
        mut self,
        shelf: &Shelf,
        inputs: Option<Digest>,
        details: D,
        progress: &dyn Progress,
    ) -> Result<Object<D>> {
        let scratch = self.scratch();
        fs::remove_dir_all(&scratch).map_err(EnvironmentError::at("remove", &scratch))?;
        let mut paths = Vec::new();
        seal(&self.dir, "", &mut paths)?;
        let mut files = BTreeMap::new();
        let stage = format!("hashing the {}", shelf.kind);
        for path in paths {
            let record = manifest::hash(&self.dir.join(&path), &stage, progress)?;
            files.insert(path, record);
        }
        let manifest = Manifest { created_at: Timestamp::now(), details, files };
        let digest = inputs.unwrap_or_else(|| manifest.content_digest());
        if let Some(same) = shelf.open(&digest).ok().flatten() {
            return Ok(same);
        }
        if let Some(stamps) = manifest::stamps(&self.dir, manifest.files.keys())? {
            disk::write_json(&self.path(STAMPS), &stamps)?;
        }
        disk::write_json(&self.path(MANIFEST), &manifest)?;
        let dir = shelf.path(&digest);
        if dir.exists() {
            // Not sound, or it would have been opened above.
            shelf.remove(&digest)?;
        }
        fs::rename(&self.dir, &dir)
            .and_then(|()| disk::sync(&shelf.dir))
            .map_err(EnvironmentError::at("publish", &dir))?;
        // The lock moves along with the directory: it now keeps the object from being pruned before
        // anything refers to it. Shared, because others may use the object from now on.
        let file = self.lock.take().ok_or_else(|| {
            EnvironmentError::at("lock", &dir)(io::Error::from(io::ErrorKind::NotFound))
        })?;
        file.lock_shared().map_err(EnvironmentError::at("lock", &dir))?;
        let hold = Hold { _file: Arc::new(file) };
        Ok(Object { digest, dir, manifest, hold })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What cannot be removed now is swept later.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Lists the files below `dir`, makes them readable for everyone, and waits until they are on the
/// disk.
fn seal(dir: &Path, prefix: &str, paths: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(EnvironmentError::at("read", dir))?;
    for entry in entries {
        let entry = entry.map_err(EnvironmentError::at("read", dir))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let is_dir = path.is_dir();
        let mode = if is_dir { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(EnvironmentError::at("set the mode of", &path))?;
        if is_dir {
            seal(&path, &format!("{name}/"), paths)?;
        } else {
            disk::sync(&path).map_err(EnvironmentError::at("sync", &path))?;
            paths.push(name);
        }
    }
    disk::sync(dir).map_err(EnvironmentError::at("sync", dir))
}

/// Removes what builders that are gone have left on a shelf. Returns how many partials and bytes.
pub(super) fn sweep(shelf: &Path, locks: &Locks) -> Result<(usize, u64)> {
    let mut abandoned = Vec::new();
    {
        let _brief = locks.brief(LOCK)?;
        let Ok(entries) = fs::read_dir(shelf) else { return Ok((0, 0)) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !path.to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => abandoned.push((path, file)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(EnvironmentError::at("lock", &path)(error));
                }
            }
        }
    }
    let mut bytes = 0;
    for (path, _locked) in &abandoned {
        bytes += disk_usage(path);
        fs::remove_dir_all(path).map_err(EnvironmentError::at("remove", path))?;
    }
    Ok((abandoned.len(), bytes))
}
