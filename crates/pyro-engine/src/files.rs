//! Files of the host that a machine's process is given.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::{EngineError, Result};

/// Opens a file that the machine's process will inherit.
pub(crate) fn open(path: &Path, writable: bool) -> Result<File> {
    File::options()
        .read(true)
        .write(writable)
        .open(path)
        .map_err(EngineError::io(format!("cannot open {}", path.display())))
}

/// A file that the process opens again through `/proc/self/fd`, for which its own user needs the
/// right to read it, although not the path to it. Where others may not read it, it gets a copy in
/// memory.
pub(crate) fn open_by_path(path: &Path, run_as: Option<u32>) -> Result<OwnedFd> {
    let mut file = open(path, false)?;
    let failed = |error| EngineError::io(format!("cannot read {}", path.display()))(error);
    if is_readable(&file, run_as).map_err(failed)? {
        return Ok(file.into());
    }
    let mut copy: File =
        memfd_create("boot", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?.into();
    io::copy(&mut file, &mut copy).map_err(failed)?;
    Ok(copy.into())
}

/// Whether the machine's user may open this file again.
pub(crate) fn is_readable(file: &File, run_as: Option<u32>) -> io::Result<bool> {
    let Some(id) = run_as else { return Ok(true) };
    let meta = file.metadata()?;
    Ok(meta.permissions().mode() & 0o004 != 0 || meta.uid() == id)
}
