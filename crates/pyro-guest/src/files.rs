//! Reading and writing files of the machine. All of it blocks, on threads of its own.

pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod stat;

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pyro_wire::v1::write_file_input::Input;
use pyro_wire::v1::{WriteFileInput, WriteFileReply, WriteFileStart};
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Opens a regular file for reading. What would wait for somebody (a FIFO), or do something by being
/// opened (a device), is not opened; that it did not take the file's place since is looked at again.
fn open_regular(path: &Path) -> Result<File, Status> {
    let failed = |error| status(path, error);
    let check = |meta: &fs::Metadata| match () {
        () if meta.is_file() => Ok(()),
        () if meta.is_dir() => {
            Err(Status::invalid_argument(format!("{} is a directory", path.display())))
        }
        () => Err(Status::invalid_argument(format!("{} is no regular file", path.display()))),
    };
    check(&fs::metadata(path).map_err(failed)?)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    check(&file.metadata().map_err(failed)?)?;
    Ok(file)
}

/// Takes a file piece by piece; it is there whole or not at all.
pub(crate) async fn write(mut input: Streaming<WriteFileInput>) -> Result<WriteFileReply, Status> {
    let Some(Input::Start(start)) = input.message().await?.and_then(|message| message.input) else {
        return Err(Status::invalid_argument("the first message must name the file"));
    };
    let (pieces, mut received) = mpsc::channel::<tonic::codegen::Bytes>(1);
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = Incoming::create(&start)?;
        let mut complete = false;
        while let Some(piece) = received.blocking_recv() {
            complete = piece.is_empty();
            file.append(&piece)?;
        }
        // The end of the channel alone may also mean that the call was dropped.
        if complete {
            file.publish()
        } else {
            Err(Status::cancelled("the file did not come whole"))
        }
    });
    let passed_on = pass_on(&mut input, &pieces).await;
    drop(pieces);
    let written = writer.await.map_err(|error| Status::internal(error.to_string()))?;
    passed_on.and(written)
}

/// An empty piece marks the end.
async fn pass_on(
    input: &mut Streaming<WriteFileInput>,
    pieces: &mpsc::Sender<tonic::codegen::Bytes>,
) -> Result<(), Status> {
    loop {
        let piece = match input.message().await? {
            None => tonic::codegen::Bytes::new(),
            Some(WriteFileInput { input: Some(Input::Data(data)) }) if data.is_empty() => continue,
            Some(WriteFileInput { input: Some(Input::Data(data)) }) => data,
            Some(_) => return Err(Status::invalid_argument("only data may follow")),
        };
        let last = piece.is_empty();
        // The writer has given up; its own error says why.
        if pieces.send(piece).await.is_err() || last {
            return Ok(());
        }
    }
}

/// A file being written beside its target. Dropped unpublished, it leaves nothing.
struct Incoming {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    bytes: u64,
    published: bool,
}

impl Incoming {
    fn create(start: &WriteFileStart) -> Result<Self, Status> {
        let asked = absolute(&start.path)?;
        // A link is written through, as a shell's redirection would.
        let target = fs::canonicalize(&asked).unwrap_or_else(|_| asked.clone());
        let failed = |error| status(&asked, error);
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Status::invalid_argument("the path names no file"));
        };
        if start.create_parents {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let before = fs::metadata(&target).ok();
        if before.as_ref().is_some_and(|meta| !meta.is_file()) {
            return Err(Status::invalid_argument(format!(
                "{} is no regular file",
                asked.display()
            )));
        }
        let temporary = parent.join(temporary_name(name));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed)?;
        let this = Self { target, temporary, file, bytes: 0, published: false };
        let kept = before.as_ref().map_or(0o644, |meta| meta.mode() & 0o7777);
        let mode = if start.mode == 0 { kept } else { start.mode & 0o7777 };
        if let Some(before) = &before {
            fchown(&this.file, Some(before.uid()), Some(before.gid())).map_err(failed)?;
        }
        this.file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(this)
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Status> {
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).map_err(|error| status(&self.target, error))
    }

    fn publish(mut self) -> Result<WriteFileReply, Status> {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.temporary, &self.target))
            .map_err(|error| status(&self.target, error))?;
        self.published = true;
        // The new name, too, shall outlive a power cut.
        if let Some(parent) = self.target.parent() {
            let _ = File::open(parent).and_then(|directory| directory.sync_all());
        }
        Ok(WriteFileReply { bytes: self.bytes })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Hidden, unique, and never longer than a name may be.
fn temporary_name(name: &OsStr) -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let kept = OsStr::from_bytes(&name.as_bytes()[..name.len().min(200)]);
    let mut made = OsString::from(".");
    made.push(kept);
    made.push(format!(".pyro-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    made
}

fn absolute(path: &[u8]) -> Result<PathBuf, Status> {
    if !path.starts_with(b"/") || CString::new(path).is_err() {
        return Err(Status::invalid_argument("a path must be absolute and free of NUL bytes"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// The nearest gRPC code, with the system's own words.
pub(crate) fn status(path: &Path, error: io::Error) -> Status {
    use io::ErrorKind as Kind;
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        Kind::NotFound => Status::not_found(message),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Status::permission_denied(message),
        Kind::StorageFull | Kind::QuotaExceeded => Status::resource_exhausted(message),
        Kind::IsADirectory | Kind::NotADirectory | Kind::InvalidFilename | Kind::AlreadyExists => {
            Status::invalid_argument(message)
        }
        _ => Status::internal(message),
    }
}
