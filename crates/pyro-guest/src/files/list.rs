//! Listing directories.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use pyro_wire::v1::{DirectoryEntries, DirectoryEntry, ListDirectoryRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::stat::describe;
use super::{absolute, open_regular, status};
use crate::tree::STAGES;

/// Entries of one message.
const BATCH: usize = 512;

/// As many at once, if no other limit is asked for.
const LIMIT: usize = 10_000;

/// The largest file that is sent along.
const FILE_MAX: u64 = 256 * 1024;

pub(crate) fn answer(
    request: ListDirectoryRequest,
) -> ReceiverStream<Result<DirectoryEntries, Status>> {
    let (batches, stream) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let result = list(&request, |batch| batches.blocking_send(Ok(batch)).is_ok());
        if let Err(status) = result {
            let _ = batches.blocking_send(Err(status));
        }
    });
    ReceiverStream::new(stream)
}

fn list(
    request: &ListDirectoryRequest,
    send: impl Fn(DirectoryEntries) -> bool,
) -> Result<(), Status> {
    let asked = absolute(&request.path)?;
    let failed = |error| status(&asked, error);
    let path = fs::canonicalize(&asked).map_err(failed)?;
    let limit = match request.limit as usize {
        0 => LIMIT,
        limit => limit.min(LIMIT),
    };
    let (names, more) = names(&path, &request.after, limit).map_err(failed)?;
    let mut batch = DirectoryEntries {
        file: small_file(&path, &request.with_file).unwrap_or_default().into(),
        resolved: path.as_os_str().as_bytes().to_vec().into(),
        more,
        ..DirectoryEntries::default()
    };
    for name in names {
        let inner = path.join(&name);
        // It may be gone by now.
        let Ok(meta) = fs::symlink_metadata(&inner) else { continue };
        let mut stat = describe(&meta);
        if meta.is_symlink()
            && let Ok(target) = fs::read_link(&inner)
        {
            stat.target = target.into_os_string().into_vec().into();
        }
        batch.entries.push(DirectoryEntry { name: name.into_vec().into(), stat: Some(stat) });
        if batch.entries.len() >= BATCH && !send(std::mem::take(&mut batch)) {
            return Ok(());
        }
    }
    send(batch);
    Ok(())
}

/// The first names after one, in order, and whether there are more. Memory is bounded by the limit,
/// however many there are.
fn names(path: &Path, after: &[u8], limit: usize) -> io::Result<(Vec<OsString>, bool)> {
    let mut first: BinaryHeap<OsString> = BinaryHeap::new();
    let mut more = false;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.as_bytes() <= after && !after.is_empty() || name == STAGES {
            continue;
        }
        first.push(name);
        if first.len() > limit {
            first.pop();
            more = true;
        }
    }
    Ok((first.into_sorted_vec(), more))
}

fn small_file(directory: &Path, name: &[u8]) -> Option<Vec<u8>> {
    if name.is_empty() || name.contains(&b'/') {
        return None;
    }
    let path = directory.join(OsStr::from_bytes(name));
    // Rules that lie elsewhere are not this directory's.
    if !fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    let file = open_regular(&path).ok()?;
    file.take(FILE_MAX).read_to_end(&mut content).ok()?;
    Some(content)
}
