//! Writing files so that a crash leaves the old content or the new.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{EnvironmentError, Result};

/// Makes a directory and its parents. The last is readable by everyone whatever the umask is, for
/// the machine's process runs under another user id.
pub(super) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(EnvironmentError::at("create", path))
}

/// Writes a JSON file: to a temporary neighbour, synced, renamed over it.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync(directory)
    };
    write().map_err(EnvironmentError::at("write", path))
}

/// Reads a JSON file. One that does not exist or makes no sense is `None`: whatever it said can be
/// made anew.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EnvironmentError::at("read", path)(error)),
    }
}

/// Waits until a file or directory is on the disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
