//! A directory of immutable objects of one kind, each a directory named by a digest.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::environment::Digest;
use pyro_contract::progress::{Progress, Silent};
use serde::de::DeserializeOwned;

use super::disk;
use super::lock::{Hold, Locks};
use super::manifest::{self, Manifest, Stamps};
use super::partial::Partial;
use crate::{EnvironmentError, Result};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const STAMPS: &str = "stamps.json";

/// What the name of an object's directory is the digest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Of the content itself.
    Content,
    /// Of what the content was made from.
    Inputs,
}

/// The objects of one kind.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    /// What one of them is called in messages: `image`.
    pub(super) kind: &'static str,
    pub(super) dir: PathBuf,
    pub(super) naming: Naming,
    pub(super) locks: Locks,
}

/// An object that is there and is what it should be. It cannot be pruned while this lives.
#[derive(Debug, Clone)]
pub(super) struct Object<D> {
    pub(super) digest: Digest,
    pub(super) dir: PathBuf,
    pub(super) manifest: Manifest<D>,
    pub(super) hold: Hold,
}

impl Shelf {
    /// The object with this digest. A few `stat`s if nothing has touched it since it was last
    /// known to be right; otherwise its files are hashed again.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] if its files are not what they were.
    pub(super) fn open<D: DeserializeOwned>(&self, digest: &Digest) -> Result<Option<Object<D>>> {
        let Some(object) = self.load(digest)? else { return Ok(None) };
        let now = manifest::stamps(&object.dir, object.manifest.files.keys())?;
        let Some(now) = now else { return Err(self.damaged(digest, "a file is missing")) };
        let known: Option<Stamps> = disk::read_json(&object.dir.join(STAMPS))?;
        if known.is_none_or(|known| known != now) {
            // Copied, restored from a backup, or changed: only the content can tell.
            self.check(&object, &Silent)?;
        }
        Ok(Some(object))
    }

    /// Hashes everything in the object again.
    pub(super) fn verify<D: DeserializeOwned>(
        &self,
        digest: &Digest,
        progress: &dyn Progress,
    ) -> Result<Option<Object<D>>> {
        let Some(object) = self.load(digest)? else { return Ok(None) };
        self.check(&object, progress)?;
        Ok(Some(object))
    }

    /// The object by its manifest alone. A manifest that makes no sense is as good as none.
    fn load<D: DeserializeOwned>(&self, digest: &Digest) -> Result<Option<Object<D>>> {
        let dir = self.path(digest);
        let Some(hold) = hold(&dir)? else { return Ok(None) };
        let manifest: Option<Manifest<D>> = disk::read_json(&dir.join(MANIFEST))?;
        Ok(manifest
            .filter(|manifest| {
                manifest.is_sane()
                    && (self.naming == Naming::Inputs || manifest.content_digest() == *digest)
            })
            .map(|manifest| Object { digest: digest.clone(), dir, manifest, hold }))
    }

    fn check<D>(&self, object: &Object<D>, progress: &dyn Progress) -> Result<()> {
        let damaged = |detail: &str| self.damaged(&object.digest, detail);
        let missing = || damaged("a file is missing");
        // Stamped first: if a file changes while it is hashed, the stamp will not fit.
        let files = &object.manifest.files;
        let stamps = manifest::stamps(&object.dir, files.keys())?.ok_or_else(missing)?;
        let stage = format!("checking the {}", self.kind);
        for (path, expected) in files {
            if manifest::hash(&object.dir.join(path), &stage, progress)? != *expected {
                return Err(damaged(&format!("{path} has changed")));
            }
        }
        // On a read-only store every start hashes again, which is slow and right.
        let _ = disk::write_json(&object.dir.join(STAMPS), &stamps);
        Ok(())
    }

    /// Starts a new object.
    pub(super) fn begin(&self) -> Result<Partial> {
        Partial::create(&self.dir, &self.locks)
    }

    /// Every object's digest.
    pub(super) fn digests(&self) -> Result<Vec<Digest>> {
        let names = match fs::read_dir(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(EnvironmentError::at("read", &self.dir)(error)),
        };
        let mut digests = Vec::new();
        for name in names {
            let name = name.map_err(EnvironmentError::at("read", &self.dir))?.file_name();
            let digest = name.to_string_lossy().replacen('-', ":", 1).parse();
            digests.extend(digest.ok());
        }
        digests.sort();
        Ok(digests)
    }

    /// Removes an object unless someone holds it. Returns the bytes that it took.
    pub(super) fn remove_unless_held(&self, digest: &Digest) -> Result<Option<u64>> {
        let dir = self.path(digest);
        let Ok(file) = File::open(&dir) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => self.remove(digest).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(EnvironmentError::at("lock", &dir)(error)),
        }
    }

    /// Removes an object, whoever holds it. Returns the bytes that it took.
    pub(super) fn remove(&self, digest: &Digest) -> Result<u64> {
        let dir = self.path(digest);
        let bytes = disk_usage(&dir);
        // Renamed first: the name never stands for half an object. The trash is a partial without
        // a builder, so that a crash here leaves nothing for good.
        let trash = Partial::create(&self.dir, &self.locks)?;
        fs::rename(&dir, trash.path("trash")).map_err(EnvironmentError::at("remove", &dir))?;
        trash.discard()?;
        Ok(bytes)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("sha256-{}", digest.hex()))
    }

    fn damaged(&self, digest: &Digest, detail: &str) -> EnvironmentError {
        EnvironmentError::Damaged {
            what: format!("{} {}", self.kind, &digest.as_str()[..19]),
            detail: detail.to_owned(),
        }
    }
}

/// Takes a shared lock on a directory, if it is there and still is once it is locked.
pub(super) fn hold(dir: &Path) -> Result<Option<Hold>> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EnvironmentError::at("open", dir)(error)),
    };
    // Only a removal excludes this, and it is soon over.
    file.lock_shared().map_err(EnvironmentError::at("lock", dir))?;
    let locked = file.metadata().map_err(EnvironmentError::at("look at", dir))?;
    let same = fs::metadata(dir)
        .is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino()));
    Ok(same.then(|| Hold { _file: Arc::new(file) }))
}

/// Bytes that a tree takes on the disk; what cannot be read counts nothing.
pub(super) fn disk_usage(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = match fs::read_dir(path) {
        Ok(entries) if meta.is_dir() => {
            entries.flatten().map(|entry| disk_usage(&entry.path())).sum()
        }
        _ => 0,
    };
    meta.blocks() * 512 + below
}
