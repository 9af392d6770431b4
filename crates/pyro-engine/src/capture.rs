//! Captures: what a machine was at one moment, kept beside it.
//!
//! ```text
//! capture.json   what it is, with a checksum of each part; written last
//! disk           the machine's writable disk: a sparse file that shares blocks where it can
//! memory, …      with memory: the engine's own affair
//! ```
//!
//! A capture is made in a directory of another name and published by a rename, so there is never half
//! of one. Its parts are never written to again; whatever uses one copies it, and compares checksums
//! while it does.

mod manifest;
mod pages;
mod partial;
mod sum;
mod twin;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_contract::workspace::EngineKind;

use crate::{EngineError, Result};

pub(crate) use manifest::{Manifest, MemoryPart};
pub(crate) use pages::PageSet;
pub(crate) use partial::Partial;
pub use partial::sweep_captures;
pub(crate) use sum::{Sum, Summing, copy_verified};
pub(crate) use twin::{Extent, Original, PAGE, correct, draft, overlay};

/// The disk in a capture.
pub(crate) const DISK: &str = "disk";

/// How much of a running machine is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What it wrote to its disk.
    Disk,
    /// That, and its memory with all that runs in it.
    DiskAndMemory,
}

/// What a capture took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// For how long the machine was held still; zero if it was at rest.
    pub pause: Duration,
    /// Content of its disk, bytes. Less is taken where the filesystem shares blocks.
    pub disk_bytes: u64,
    /// Content of its memory that was kept, bytes: of a machine from a template what differs from that.
    pub memory_bytes: u64,
    /// The stream to the agent broke: [`crate::Machine::connect`] gives another, over which the
    /// machine has to be adopted again, by its old name.
    pub stream_lost: bool,
}

/// Keeps the disk of a machine that is off.
pub(crate) fn at_rest(engine: EngineKind, storage: &Path, capture: &Path) -> Result<Captured> {
    let partial = Partial::begin(capture)?;
    let original = open(storage)?;
    let disk = Disk::draft(original, &partial).map_err(unwritten())?;
    publish(partial, engine, &disk, None, Duration::ZERO)
}

/// Sums up what was written and makes it a capture.
pub(crate) fn publish(
    partial: Partial,
    engine: EngineKind,
    disk: &Disk,
    memory: Option<MemoryPart>,
    pause: Duration,
) -> Result<Captured> {
    let disk = Sum::of(&disk.copy).map_err(unwritten())?;
    let captured = Captured {
        pause,
        disk_bytes: disk.bytes,
        memory_bytes: memory.as_ref().map_or(0, |memory| memory.content.bytes),
        stream_lost: false,
    };
    let manifest = Manifest::new(engine, disk, memory);
    partial.publish(&manifest).map_err(unwritten())?;
    Ok(captured)
}

/// Makes `storage` the captured disk, whatever it was: it is the old one or the new one, and nothing
/// between.
pub(crate) fn recover_storage(engine: EngineKind, capture: &Path, storage: &Path) -> Result<()> {
    let manifest = Manifest::read(capture, engine)?;
    let from = part(capture, DISK)?;
    let failed = || EngineError::io(format!("cannot make {}", storage.display()));
    let beside = partial::beside(storage).map_err(failed())?;
    let made = || -> io::Result<()> {
        let _ = fs::remove_file(&beside);
        let to =
            File::options().read(true).write(true).create_new(true).mode(0o600).open(&beside)?;
        copy_verified(&from, &to, &manifest.disk)?;
        if storage.exists() {
            // Or a power cut could leave neither.
            to.sync_all()?;
        }
        fs::rename(&beside, storage)
    };
    made().map_err(|error| {
        let _ = fs::remove_file(&beside);
        unusable(DISK, error, failed())
    })
}

/// Where the disk of a capture can be read; it must not be written to.
pub(crate) fn disk_of(capture: &Path) -> PathBuf {
    capture.join(DISK)
}

/// A machine's disk and its copy.
pub(crate) struct Disk {
    original: File,
    copy: File,
    /// The filesystem lets both share their blocks.
    shared: bool,
}

impl Disk {
    /// Copies it; while its machine writes on, that is but a draft.
    pub(crate) fn draft(original: File, partial: &Partial) -> io::Result<Self> {
        let copy = partial.create(DISK)?;
        let shared = rustix::fs::ioctl_ficlone(&copy, &original).is_ok();
        if !shared {
            copy.set_len(original.length()?)?;
            draft(&original, &copy)?;
        }
        Ok(Self { original, copy, shared })
    }

    /// Makes the copy right while nothing is written.
    pub(crate) fn correct(&self) -> io::Result<()> {
        if self.shared {
            return Ok(rustix::fs::ioctl_ficlone(&self.copy, &self.original)?);
        }
        correct(&self.original, &self.copy)
    }
}

/// Opens a machine's storage for reading.
fn open(storage: &Path) -> Result<File> {
    File::open(storage).map_err(EngineError::io(format!("cannot open {}", storage.display())))
}

/// A part that a capture must have.
pub(crate) fn part(capture: &Path, name: &str) -> Result<File> {
    File::open(capture.join(name)).map_err(|error| {
        unusable(name, error, EngineError::io(format!("cannot open {}", capture.display())))
    })
}

/// A host without space or memory is not the capture's fault.
pub(crate) fn unusable(
    part: &str,
    error: io::Error,
    otherwise: impl FnOnce(io::Error) -> EngineError,
) -> EngineError {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error.kind() {
        InvalidData | NotFound | UnexpectedEof => {
            EngineError::Capture { said: format!("its {part}: {error}") }
        }
        _ => otherwise(error),
    }
}

/// The failure of writing a capture.
pub(crate) fn unwritten<E: Into<io::Error>>() -> impl FnOnce(E) -> EngineError {
    EngineError::io("cannot write the capture")
}

/// Runs what may block beside the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(unwritten()(io::Error::other(error))))
}

#[cfg(test)]
#[path = "capture/tests.rs"]
mod tests;
