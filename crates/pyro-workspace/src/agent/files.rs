//! Reading and listing files of the machine.

use std::time::Duration;

use pyro_contract::diff::FileKind;
use pyro_contract::file::Sha256;
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::file_stat::Kind;
use pyro_wire::v1::{FileStat, ListDirectoryRequest, ReadFileRequest, StatFileRequest};

use super::tree::refused;
use super::{Agent, misbehaved};
use crate::protocol::{Content, Found, ReadQuery, StatQuery};

/// How long one answer may take. Checksums of large files take their time in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A path of the machine has no more bytes, nor has a name.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

const NONSENSE: &str = "what the machine says of its files makes no sense";

/// Some names of a directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) entries: Vec<(Vec<u8>, Found)>,
    pub(crate) more: bool,
    pub(crate) resolved: BytePath,
    /// The content of the file that was asked for with it.
    pub(crate) file: Vec<u8>,
}

impl Agent {
    pub(crate) async fn stat_file(&self, query: &StatQuery) -> Result<Found> {
        let request = StatFileRequest {
            path: query.path.as_bytes().to_vec().into(),
            follow: query.follow,
            examine_up_to: query.examine_up_to,
            may_be_absent: query.may_be_absent,
        };
        let mut client = self.client.clone();
        let found = in_time(async {
            Ok(client.stat_file(request).await.map_err(|status| refused(&status))?.into_inner())
        });
        let found = found_of(found.await?)?;
        if found.kind.is_none() && !query.may_be_absent {
            return Err(misbehaved(NONSENSE));
        }
        Ok(found)
    }

    /// Reads no more than was asked for, whatever the machine sends.
    pub(crate) async fn read_file(&self, query: &ReadQuery) -> Result<(Found, u64, Vec<u8>, bool)> {
        let most = usize::try_from(query.max_bytes).unwrap_or(usize::MAX);
        let request = ReadFileRequest {
            path: query.path.as_bytes().to_vec().into(),
            offset: query.offset,
            // One more than asked for tells whether there is more.
            length: query.max_bytes.saturating_add(1),
            first_line: query.lines.map_or(0, |lines| lines.first()),
            last_line: query.lines.and_then(|lines| lines.last()).unwrap_or(0),
            examine_up_to: query.examine_up_to,
        };
        let mut client = self.client.clone();
        in_time(async {
            let mut chunks =
                client.read_file(request).await.map_err(|status| refused(&status))?.into_inner();
            let first = chunks.message().await.map_err(|status| refused(&status))?;
            let first = first.ok_or_else(|| misbehaved(NONSENSE))?;
            let found = found_of(first.stat.ok_or_else(|| misbehaved(NONSENSE))?)?;
            let mut data = first.data.to_vec();
            while data.len() <= most
                && let Some(chunk) = chunks.message().await.map_err(|status| refused(&status))?
            {
                data.extend_from_slice(&chunk.data);
            }
            let more = data.len() > most;
            data.truncate(most);
            Ok((found, first.offset, data, more))
        })
        .await
    }

    pub(crate) async fn read_content(&self, query: &ReadQuery) -> Result<Content> {
        use base64::Engine as _;
        let (of, offset, data, more) = self.read_file(query).await?;
        let data = base64::engine::general_purpose::STANDARD.encode(data);
        Ok(Content { of, offset, data, more })
    }

    /// The names after one, so many at most, in order.
    pub(crate) async fn list_directory(
        &self,
        path: &[u8],
        after: &[u8],
        limit: usize,
        with_file: &str,
    ) -> Result<Directory> {
        let request = ListDirectoryRequest {
            path: path.to_vec().into(),
            after: after.to_vec().into(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            with_file: with_file.as_bytes().to_vec().into(),
        };
        let mut client = self.client.clone();
        in_time(async {
            let mut batches = client
                .list_directory(request)
                .await
                .map_err(|status| refused(&status))?
                .into_inner();
            let mut directory = Directory::default();
            let mut is_first = true;
            let mut last = after.to_vec();
            while let Some(batch) = batches.message().await.map_err(|status| refused(&status))? {
                if is_first {
                    directory.more = batch.more;
                    directory.resolved = absolute(&batch.resolved)?;
                    directory.file = batch.file.to_vec();
                    is_first = false;
                }
                for entry in batch.entries {
                    let name = entry.name.to_vec();
                    let stat = entry.stat.ok_or_else(|| misbehaved(NONSENSE))?;
                    // In order, each once: so whoever asks for the rest comes to an end.
                    if !is_name(&name) || name <= last || directory.entries.len() >= limit {
                        return Err(misbehaved(NONSENSE));
                    }
                    last.clone_from(&name);
                    directory.entries.push((name, found_in_directory(stat)?));
                }
            }
            if is_first {
                return Err(misbehaved(NONSENSE));
            }
            Ok(directory)
        })
        .await
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorCode::Timeout, "the machine does not answer about its files")
            .with_hint("the file may lie on a filesystem that hangs; try `pyro workspace exec`"))
    })
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= NAME_MAX
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn absolute(path: &[u8]) -> Result<BytePath> {
    let plain = path.starts_with(b"/") && path.len() <= 2 * PATH_MAX && !path.contains(&0);
    plain.then(|| BytePath::new(path)).ok_or_else(|| misbehaved(NONSENSE))
}

fn found_of(stat: FileStat) -> Result<Found> {
    let resolved = absolute(&stat.resolved)?;
    let existing =
        if stat.existing.is_empty() { BytePath::default() } else { absolute(&stat.existing)? };
    Ok(Found { resolved, existing, ..found_in_directory(stat)? })
}

fn found_in_directory(stat: FileStat) -> Result<Found> {
    let kind = match stat.kind() {
        Kind::Absent => None,
        Kind::File => Some(FileKind::File),
        Kind::Directory => Some(FileKind::Directory),
        Kind::Symlink => Some(FileKind::Symlink),
        Kind::Fifo => Some(FileKind::Fifo),
        Kind::Socket => Some(FileKind::Socket),
        Kind::CharDevice => Some(FileKind::CharDevice),
        Kind::BlockDevice => Some(FileKind::BlockDevice),
    };
    let sha256 = match stat.sha256.len() {
        0 => None,
        32 => <[u8; 32]>::try_from(&stat.sha256[..]).ok().map(Sha256::new),
        _ => return Err(misbehaved(NONSENSE)),
    };
    if stat.target.len() > PATH_MAX {
        return Err(misbehaved(NONSENSE));
    }
    let is_link = kind == Some(FileKind::Symlink);
    Ok(Found {
        kind,
        size: if kind == Some(FileKind::File) { stat.size } else { 0 },
        mode: stat.mode & 0o7777,
        uid: stat.uid,
        gid: stat.gid,
        mtime_ns: stat.mtime_ns,
        target: is_link.then(|| BytePath::new(stat.target.to_vec())),
        resolved: BytePath::default(),
        existing: BytePath::default(),
        sha256,
        lines: stat.lines,
    })
}
