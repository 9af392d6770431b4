//! A capture in the making.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::manifest::{MANIFEST, Manifest};
use crate::{EngineError, Result};

const SUFFIX: &str = ".partial";

/// Gone when dropped, unless it was published.
pub(crate) struct Partial {
    path: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// One that will be published as `capture`, where nothing is yet. Who makes captures there makes
    /// one of that name at a time: what another attempt left behind is removed.
    pub(crate) fn begin(capture: &Path) -> Result<Self> {
        let failed = || EngineError::io(format!("cannot make {}", capture.display()));
        let begun = || {
            if capture.symlink_metadata().is_ok() {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let path = beside(capture)?;
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            DirBuilder::new().mode(0o700).create(&path)?;
            Ok(Self { path, target: capture.to_owned() })
        };
        begun().map_err(failed())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new part of it.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    /// Makes it a capture that outlasts a power cut.
    pub(super) fn publish(self, manifest: &Manifest) -> io::Result<()> {
        manifest.write(&self.create(MANIFEST)?)?;
        for entry in fs::read_dir(&self.path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&self.path)?.sync_all()?;
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            // Not every filesystem can refuse to replace; who makes captures makes one at a time.
            Err(Errno::INVAL) => fs::rename(&self.path, &self.target)?,
            renamed => renamed?,
        }
        match self.target.parent().map(File::open) {
            Some(parent) => parent?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once published there is nothing of this name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where what will be `path` is made.
pub(super) fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(SUFFIX);
    Ok(path.with_file_name(beside))
}

/// Removes what a capture left in `directory` that did not come to its end. Nobody may be making one
/// there.
///
/// # Errors
/// If something cannot be read or removed.
pub fn sweep_captures(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes()) {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}
