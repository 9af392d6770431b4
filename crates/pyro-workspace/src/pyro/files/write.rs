//! Changing files, each in a transaction of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_contract::diff::FileKind;
use pyro_contract::file::{
    EDIT_BYTES_MAX, Encoding, FileMode, FileMoveRequest, FileMoved, FileRemoveRequest, FileRemoved,
    FileWriteRequest, FileWritten, Sha256,
};
use pyro_contract::journal::EventKind;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::expected::State;
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{Expected, TreeMove, TreePut, TreeRemove};
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{look, missing};
use crate::client::tree::TreeTransaction;
use crate::files;
use crate::home::WorkspaceDir;
use crate::protocol::Found;
use crate::pyro::Pyro;

/// How a file is to be written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Permission bits: those of the file that is replaced, or 644, if not given.
    pub mode: Option<FileMode>,
    /// Write only if the file's content has this checksum.
    pub expected_sha256: Option<Sha256>,
    /// Write only if there is nothing yet.
    pub create_only: bool,
}

impl Pyro {
    /// Writes a file, whole or not at all.
    pub async fn write_file(&self, request: &FileWriteRequest) -> Result<FileWritten> {
        let content = match request.encoding {
            Encoding::Text => request.content.clone().into_bytes(),
            Encoding::Base64 => STANDARD.decode(request.content.trim()).map_err(|error| {
                Error::new(ErrorCode::InvalidArgument, "the content is not base64")
                    .with_cause(error.to_string())
                    .with_hint("leave `encoding` out for plain text")
            })?,
        };
        if content.len() as u64 > EDIT_BYTES_MAX {
            return Err(Error::new(
                ErrorCode::TooLarge,
                "the content is too large for one request",
            )
            .with_hint("`pyro workspace file write WS PATH < FILE` takes any size"));
        }
        let options = WriteOptions {
            mode: request.mode,
            expected_sha256: request.expected_sha256,
            create_only: request.create_only,
        };
        self.write_file_from(&request.workspace, &request.path, &options, &content[..]).await
    }

    /// The same with content of any size.
    pub async fn write_file_from(
        &self,
        workspace: &WorkspaceRef,
        path: &BytePath,
        options: &WriteOptions,
        content: impl AsyncRead + Unpin,
    ) -> Result<FileWritten> {
        let dir = self.open(workspace).await?;
        let found = look(&dir, path, true, 0).await?;
        write(&dir, path, &found, options, content).await
    }

    /// Removes a file or tree.
    pub async fn remove_file(&self, request: &FileRemoveRequest) -> Result<FileRemoved> {
        let dir = self.open(&request.workspace).await?;
        let found = look(&dir, &request.path, false, 0).await?;
        let path = found.resolved.clone();
        if found.kind.is_none() {
            return match request.missing_ok {
                true => Ok(FileRemoved { path, removed: false }),
                false => Err(missing(&request.path)),
            };
        }
        let (directory, name) = files::split(path.as_bytes()).ok_or_else(|| fixed(&path))?;
        let mut transaction = TreeTransaction::begin(&dir, &BytePath::new(directory)).await?;
        transaction
            .change(Change::Remove(TreeRemove {
                path: name.to_vec().into(),
                expected: expected(request.expected_sha256.as_ref(), false),
                recursive: request.recursive,
                missing_ok: request.missing_ok,
                prune_parents: false,
            }))
            .await?;
        transaction.note(&EventKind::FileRemoved { path: path.clone() }).await?;
        transaction.commit(false).await?.done()?;
        Ok(FileRemoved { path, removed: true })
    }

    /// Moves a file or tree.
    pub async fn move_file(&self, request: &FileMoveRequest) -> Result<FileMoved> {
        let dir = self.open(&request.workspace).await?;
        let asked = BytePath::of(&request.from, request.from_base64.as_deref());
        let from = look(&dir, &asked, false, 0).await?;
        if from.kind.is_none() {
            return Err(missing(&asked));
        }
        let asked = BytePath::of(&request.to, request.to_base64.as_deref());
        let to = look(&dir, &asked, false, 0).await?;
        let (from, to) = (from.resolved, to.resolved);
        if from == to {
            return Ok(FileMoved { from, to });
        }
        let (Some((from_dir, _)), Some((to_dir, _))) =
            (files::split(from.as_bytes()), files::split(to.as_bytes()))
        else {
            return Err(fixed(&BytePath::new(&b"/"[..])));
        };
        // Both must be of one filesystem, whose top the agent finds from here.
        let root = files::common(from_dir, to_dir);
        let inner = |path: &BytePath| files::below(&root, path.as_bytes()).unwrap_or(b"").to_vec();
        let mut transaction = TreeTransaction::begin(&dir, &BytePath::new(root.clone())).await?;
        transaction
            .change(Change::Move(TreeMove {
                from: inner(&from).into(),
                to: inner(&to).into(),
                expected: None,
                expected_at_target: expected(None, !request.force),
                create_parents: true,
            }))
            .await?;
        transaction.note(&EventKind::FileMoved { from: from.clone(), to: to.clone() }).await?;
        transaction.commit(false).await?.done()?;
        Ok(FileMoved { from, to })
    }
}

/// Writes to where a path was found to lead.
pub(super) async fn write(
    dir: &WorkspaceDir,
    asked: &BytePath,
    found: &Found,
    options: &WriteOptions,
    mut content: impl AsyncRead + Unpin,
) -> Result<FileWritten> {
    match found.kind {
        None | Some(FileKind::File) => {}
        Some(FileKind::Directory) => {
            return Err(Error::new(ErrorCode::Conflict, format!("{asked} is a directory"))
                .with_hint("name a file in it, or remove it first"));
        }
        Some(_) => {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{asked} is no regular file"),
            )
            .with_hint("`pyro workspace file stat` shows what it is"));
        }
    }
    let path = found.resolved.clone();
    let (parent, _) = files::split(path.as_bytes()).ok_or_else(|| fixed(&path))?;
    let root = if found.kind.is_some() { parent } else { found.existing.as_bytes() };
    let inner = files::below(root, path.as_bytes()).ok_or_else(|| fixed(&path))?;
    let mut transaction = TreeTransaction::begin(dir, &BytePath::new(root)).await?;
    transaction
        .change(Change::Put(TreePut {
            path: inner.to_vec().into(),
            mode: options.mode.map(FileMode::bits),
            expected: expected(options.expected_sha256.as_ref(), options.create_only),
            create_parents: true,
            ..TreePut::default()
        }))
        .await?;
    let mut hash = sha2::Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; pyro_wire::CHUNK];
    loop {
        let read = content.read(&mut buffer).await;
        let length =
            read.map_err(|error| Error::io("cannot read what is to be written", &error))?;
        if length == 0 {
            break;
        }
        size += length as u64;
        hash.update(&buffer[..length]);
        transaction.change(Change::Data(buffer[..length].to_vec().into())).await?;
    }
    transaction.note(&EventKind::FileWritten { path: path.clone(), bytes: size }).await?;
    transaction.commit(false).await?.done()?;
    let sha256 = Sha256::new(hash.finalize().into()).to_string();
    Ok(FileWritten { path, size, sha256, created: found.kind.is_none() })
}

pub(in crate::pyro) fn expected(sha256: Option<&Sha256>, absent: bool) -> Option<Expected> {
    match (sha256, absent) {
        (_, true) => Some(Expected { state: State::Absent.into(), ..Expected::default() }),
        (Some(sum), false) => Some(Expected {
            state: State::File.into(),
            sha256: sum.as_bytes().to_vec().into(),
            ctime_ns: 0,
        }),
        (None, false) => None,
    }
}

fn fixed(path: &BytePath) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("{path} cannot be replaced, moved or removed"))
        .with_hint("name something in it")
}
