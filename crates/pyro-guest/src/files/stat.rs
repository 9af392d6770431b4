//! Looking at what is at a path.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use pyro_wire::v1::file_stat::Kind;
use pyro_wire::v1::{FileStat, StatFileRequest};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::{absolute, open_regular, status};

/// Nothing larger is examined, whatever is asked.
const EXAMINED_MAX: u64 = 1 << 30;

pub(crate) async fn answer(request: StatFileRequest) -> Result<FileStat, Status> {
    tokio::task::spawn_blocking(move || stat(&request))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
}

fn stat(request: &StatFileRequest) -> Result<FileStat, Status> {
    let path = absolute(&request.path)?;
    let failed = |error| status(&path, error);
    let found = if request.follow { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
    let meta = match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound && request.may_be_absent => {
            // A link to nothing leads to where nobody can say what may be made.
            if request.follow && fs::symlink_metadata(&path).is_ok() {
                return Err(Status::not_found(format!(
                    "{} is a link to something that is not there",
                    path.display()
                )));
            }
            let (resolved, existing) = resolve_absent(&path).map_err(failed)?;
            let bytes = |path: PathBuf| path.into_os_string().into_vec().into();
            return Ok(FileStat {
                kind: Kind::Absent.into(),
                resolved: bytes(resolved),
                existing: bytes(existing),
                ..FileStat::default()
            });
        }
        found => found.map_err(failed)?,
    };
    let resolved = resolve(&path, request.follow).map_err(failed)?;
    let mut stat = describe(&meta);
    if meta.is_symlink() {
        let target = fs::read_link(&path).map_err(failed)?;
        stat.target = target.as_os_str().as_bytes().to_vec().into();
    }
    if meta.is_file() && meta.len() <= request.examine_up_to.min(EXAMINED_MAX) {
        let mut file = open_regular(&resolved)?;
        examine(&mut file, &mut stat).map_err(failed)?;
    }
    stat.resolved = resolved.as_os_str().as_bytes().to_vec().into();
    Ok(stat)
}

/// The path with the links on the way resolved, and the last name too if that is wanted.
pub(super) fn resolve(path: &Path, last: bool) -> io::Result<PathBuf> {
    if last {
        return fs::canonicalize(path);
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => fs::canonicalize(path),
    }
}

/// The same for something that is not there, nor perhaps some of the directories above it; and the
/// nearest of those that are.
fn resolve_absent(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let mut missing: Vec<&OsStr> = Vec::new();
    for above in path.ancestors() {
        match fs::canonicalize(above) {
            Ok(real) => {
                let resolved =
                    missing.iter().rev().fold(real.clone(), |path, name| path.join(name));
                return Ok((resolved, real));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // `..` of something that is not there is nowhere.
                missing.push(above.file_name().ok_or(error)?);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

pub(super) fn describe(meta: &Metadata) -> FileStat {
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Symlink,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () if kind.is_char_device() => Kind::CharDevice,
        () => Kind::BlockDevice,
    };
    FileStat {
        kind: kind.into(),
        size: meta.len(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        ..FileStat::default()
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Checksum and lines of all that can be read.
pub(super) fn examine(file: &mut File, stat: &mut FileStat) -> io::Result<()> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let (mut lines, mut last) = (0, b'\n');
    // A file may grow faster than it is read.
    let mut file = file.take(EXAMINED_MAX);
    loop {
        let length = file.read(&mut buffer)?;
        let Some(end) = buffer[..length].last() else { break };
        last = *end;
        hash.update(&buffer[..length]);
        lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    stat.sha256 = hash.finalize().to_vec().into();
    stat.lines = Some(lines + u64::from(last != b'\n'));
    Ok(())
}
