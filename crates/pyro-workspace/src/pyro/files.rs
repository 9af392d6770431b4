//! Files of a workspace that runs.

mod edit;
pub(super) mod write;

pub use write::WriteOptions;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use pyro_contract::file::{
    Encoding, EncodingChoice, FileContent, FileList, FileListRequest, FileMode, FileReadRequest,
    FileStat, FileStatRequest, LIST_LIMIT_MAX, LineRange, READ_BYTES_MAX,
};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};

use super::{Pyro, ready};
use crate::client::files as client;
use crate::files::{self, Located};
use crate::home::WorkspaceDir;
use crate::protocol::{Found, ListQuery, ReadQuery, StatQuery};

/// A file that has no more bytes gets a checksum with every read, and one with every look.
const EXAMINED_BY_READ: u64 = 4 << 20;
const EXAMINED_BY_STAT: u64 = 64 << 20;

impl Pyro {
    /// Lists a directory.
    pub async fn list_files(&self, request: &FileListRequest) -> Result<FileList> {
        if request.limit == 0 || request.limit > LIST_LIMIT_MAX {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("the limit is {}", request.limit),
            )
            .with_hint(format!("it may be 1 to {LIST_LIMIT_MAX}; a continuation tells the rest")));
        }
        let Located { absolute, confined } = files::locate(&request.directory())?;
        let after = request.continuation.as_deref().map(continued).transpose()?;
        let dir = self.open(&request.workspace).await?;
        let listed = client::list(
            &dir,
            ListQuery {
                path: absolute,
                confined,
                recursive: request.recursive,
                glob: request.glob.clone(),
                gitignore: request.gitignore,
                limit: request.limit,
                after,
            },
        )
        .await?;
        let continuation = listed.next.map(|next| URL_SAFE_NO_PAD.encode(next.as_bytes()));
        Ok(FileList { entries: listed.entries, continuation })
    }

    /// Looks at a file.
    pub async fn stat_file(&self, request: &FileStatRequest) -> Result<FileStat> {
        let dir = self.open(&request.workspace).await?;
        let found = look(&dir, &request.path, request.follow, EXAMINED_BY_STAT).await?;
        let kind = found.kind.ok_or_else(|| missing(&request.path))?;
        Ok(FileStat {
            path: found.resolved,
            kind,
            size: found.size,
            mode: FileMode::new(found.mode),
            uid: found.uid,
            gid: found.gid,
            modified_at: time(found.mtime_ns),
            target: found.target,
            sha256: found.sha256.map(|sum| sum.to_string()),
        })
    }

    /// Reads a file, or a part of it, as text.
    pub async fn read_file(&self, request: &FileReadRequest) -> Result<FileContent> {
        let part = self.read_file_bytes(request).await?;
        let FilePart { found, offset, bytes, mut more } = part;
        let (mut bytes, encoding) = encoded(bytes, request.encoding, more);
        let mut next_line = None;
        if let (true, Some(lines)) = (more, request.lines) {
            // Whole lines, unless not even one has room.
            if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
                bytes.truncate(end + 1);
            }
            let whole = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            next_line = (whole > 0).then(|| lines.first() + whole);
        }
        let end = offset + bytes.len() as u64;
        // Beyond the lines that were asked for there is more of the file, but nothing was cut.
        more = more && !bytes.is_empty();
        Ok(FileContent {
            path: found.resolved,
            bytes: bytes.len() as u64,
            content: match encoding {
                Encoding::Text => String::from_utf8_lossy(&bytes).into_owned(),
                Encoding::Base64 => STANDARD.encode(&bytes),
            },
            encoding,
            offset,
            size: found.size,
            total_lines: found.lines,
            mode: FileMode::new(found.mode),
            modified_at: time(found.mtime_ns),
            sha256: found.sha256.map(|sum| sum.to_string()),
            truncated: more,
            next_offset: more.then_some(end),
            next_line,
        })
    }

    /// The same as bytes.
    pub async fn read_file_bytes(&self, request: &FileReadRequest) -> Result<FilePart> {
        if request.max_bytes == 0 || request.max_bytes > READ_BYTES_MAX {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{} bytes cannot be read at once", request.max_bytes),
            )
            .with_hint(format!("it may be 1 to {READ_BYTES_MAX}; read on from `next_offset`")));
        }
        if request.offset > 0 && request.lines.is_some() {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "a file is read from an offset or by lines, not both",
            )
            .with_hint("leave one of them out"));
        }
        let dir = self.open(&request.workspace).await?;
        let located = files::locate(&request.path)?;
        let part = Part {
            offset: request.offset,
            lines: request.lines,
            max_bytes: request.max_bytes,
            examine_up_to: EXAMINED_BY_READ,
        };
        read(&dir, &located, part).await
    }

    /// A workspace in which something can be done now.
    pub(super) async fn open(&self, workspace: &WorkspaceRef) -> Result<WorkspaceDir> {
        let (dir, record) = self.find(workspace).await?;
        ready(workspace, &record)?;
        Ok(dir)
    }
}

/// A part of a file.
#[derive(Debug)]
pub struct FilePart {
    found: Found,
    /// Where it begins.
    pub offset: u64,
    /// What was read.
    pub bytes: Vec<u8>,
    /// There is more of what was asked for.
    pub more: bool,
}

/// Which part.
struct Part {
    offset: u64,
    lines: Option<LineRange>,
    max_bytes: u64,
    examine_up_to: u64,
}

async fn read(dir: &WorkspaceDir, located: &Located, part: Part) -> Result<FilePart> {
    let query = ReadQuery {
        path: located.absolute.clone(),
        offset: part.offset,
        lines: part.lines,
        max_bytes: part.max_bytes,
        examine_up_to: part.examine_up_to,
    };
    let (content, bytes) = client::read(dir, query).await?;
    if located.confined {
        files::outside(&located.absolute, &content.of.resolved)?;
    }
    Ok(FilePart { found: content.of, offset: content.offset, bytes, more: content.more })
}

/// All of a regular file that has at most so many bytes.
pub(super) async fn read_whole(
    dir: &WorkspaceDir,
    located: &Located,
    most: u64,
) -> Result<(Found, Vec<u8>)> {
    let mut whole = Vec::new();
    loop {
        let offset = whole.len() as u64;
        let part = Part { offset, lines: None, max_bytes: READ_BYTES_MAX, examine_up_to: 0 };
        let part = read(dir, located, part).await?;
        let is_first = whole.is_empty();
        whole.extend_from_slice(&part.bytes);
        if whole.len() as u64 > most || (is_first && part.found.size > most) {
            return Err(Error::new(
                ErrorCode::TooLarge,
                format!("{} has more than {most} bytes", located.absolute),
            )
            .with_hint("change it with a program in the workspace: `pyro workspace exec`"));
        }
        if !part.more {
            return Ok((part.found, whole));
        }
    }
}

/// What is at a path, or nothing.
pub(super) async fn look(
    dir: &WorkspaceDir,
    path: &BytePath,
    follow: bool,
    examine_up_to: u64,
) -> Result<Found> {
    let Located { absolute, confined } = files::locate(path)?;
    let query = StatQuery { path: absolute.clone(), follow, may_be_absent: true, examine_up_to };
    let found = client::stat(dir, query).await?;
    if confined {
        files::outside(&absolute, &found.resolved)?;
    }
    Ok(found)
}

pub(super) fn missing(path: &BytePath) -> Error {
    Error::new(ErrorCode::NotFound, format!("there is no {path} in the workspace")).with_hint(
        "paths are relative to /workspace; `pyro workspace file list` shows what there is",
    )
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default()
}

fn continued(token: &str) -> Result<BytePath> {
    URL_SAFE_NO_PAD.decode(token).map(BytePath::new).map_err(|_| {
        Error::new(ErrorCode::InvalidArgument, "this is no continuation of a list")
            .with_hint("pass on the `continuation` of the list before, unchanged")
    })
}

/// How the bytes are to be written. A character that was cut at the end is left for the next read.
fn encoded(mut bytes: Vec<u8>, choice: EncodingChoice, cut: bool) -> (Vec<u8>, Encoding) {
    let valid = match std::str::from_utf8(&bytes) {
        Ok(_) => true,
        // `error_len` is absent if the end came too early.
        Err(error) if cut && error.error_len().is_none() && error.valid_up_to() > 0 => {
            if choice != EncodingChoice::Base64 {
                bytes.truncate(error.valid_up_to());
            }
            true
        }
        Err(_) => false,
    };
    let encoding = match choice {
        EncodingChoice::Auto if valid => Encoding::Text,
        EncodingChoice::Text => Encoding::Text,
        EncodingChoice::Auto | EncodingChoice::Base64 => Encoding::Base64,
    };
    (bytes, encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut_in_two() {
        let cut = "aü".as_bytes()[..2].to_vec();
        let (bytes, encoding) = encoded(cut.clone(), EncodingChoice::Auto, true);
        assert_eq!((&*bytes, encoding), (&b"a"[..], Encoding::Text));
        assert_eq!(encoded(cut.clone(), EncodingChoice::Auto, false).1, Encoding::Base64);
        assert_eq!(encoded(cut, EncodingChoice::Base64, true).0.len(), 2);
        assert_eq!(encoded(vec![0xff, b'a'], EncodingChoice::Auto, true).1, Encoding::Base64);
        assert_eq!(encoded(vec![0xff], EncodingChoice::Text, true).1, Encoding::Text);
    }
}
