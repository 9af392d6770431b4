//! `workspace file list | stat | read | write | edit | remove | move`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use pyro_contract::Result;
use pyro_contract::file::{
    FileEditRequest, FileListRequest, FileMoveRequest, FileReadRequest, FileRemoveRequest,
    FileStatRequest, FileWriteRequest, LIST_LIMIT_MAX, READ_BYTES, READ_BYTES_MAX,
};
use pyro_contract::path::BytePath;
use pyro_workspace::{Pyro, WriteOptions};

use crate::cli::FileCommand;
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: FileCommand, ui: &Ui) -> Result<u8> {
    match command {
        FileCommand::List { workspace, path, recursive, glob, gitignore, limit, continuation } => {
            let (path, path_base64) = parts(path);
            let request = FileListRequest {
                workspace,
                path,
                path_base64,
                recursive,
                glob,
                gitignore,
                limit,
                continuation,
            };
            list(pyro, request, ui).await?;
        }
        FileCommand::Stat { workspace, path, follow } => {
            let request = FileStatRequest { workspace, path: bytes(path), follow };
            let stat = pyro.stat_file(&request).await?;
            if ui.json() {
                ui.print_json(&stat)?;
            } else {
                write_stdout(show::file(&stat).as_bytes())?;
            }
        }
        FileCommand::Read { workspace, path, offset, lines, max_bytes, encoding } => {
            let request = FileReadRequest {
                workspace,
                path: bytes(path),
                offset,
                lines,
                max_bytes: max_bytes.unwrap_or(READ_BYTES),
                encoding,
            };
            if ui.json() {
                ui.print_json(&pyro.read_file(&request).await?)?;
            } else {
                stream(pyro, request, max_bytes).await?;
            }
        }
        FileCommand::Write {
            workspace,
            path,
            content,
            encoding,
            mode,
            expected_sha256,
            create_only,
        } => {
            let path = bytes(path);
            let written = match content {
                Some(content) => {
                    let request = FileWriteRequest {
                        workspace,
                        path,
                        content,
                        encoding,
                        mode,
                        expected_sha256,
                        create_only,
                    };
                    pyro.write_file(&request).await?
                }
                None => {
                    let options = WriteOptions { mode, expected_sha256, create_only };
                    let stdin = tokio::io::stdin();
                    pyro.write_file_from(&workspace, &path, &options, stdin).await?
                }
            };
            done(ui, &written, || {
                let made = if written.created { "made" } else { "written" };
                format!("{} is {made}, {} bytes", written.path, written.size)
            })?;
        }
        FileCommand::Edit { workspace, path, old, new, all, expected_sha256 } => {
            let path = bytes(path);
            let request = FileEditRequest { workspace, path, old, new, all, expected_sha256 };
            let edited = pyro.edit_file(&request).await?;
            done(ui, &edited, || match edited.replacements {
                1 => format!("{} is edited at line {}", edited.path, edited.line),
                count => format!("{} is edited in {count} places", edited.path),
            })?;
        }
        FileCommand::Remove { workspace, path, recursive, missing_ok, expected_sha256 } => {
            let path = bytes(path);
            let request =
                FileRemoveRequest { workspace, path, recursive, missing_ok, expected_sha256 };
            let removed = pyro.remove_file(&request).await?;
            done(ui, &removed, || match removed.removed {
                true => format!("{} is removed", removed.path),
                false => format!("there was no {}", removed.path),
            })?;
        }
        FileCommand::Move { workspace, from, to, force } => {
            let ((from, from_base64), (to, to_base64)) = (parts(from), parts(to));
            let request = FileMoveRequest { workspace, from, from_base64, to, to_base64, force };
            let moved = pyro.move_file(&request).await?;
            done(ui, &moved, || format!("{} is {} now", moved.from, moved.to))?;
        }
    }
    Ok(0)
}

fn bytes(path: OsString) -> BytePath {
    BytePath::new(path.into_vec())
}

/// A path as text, and its bytes in base64 if that loses some.
fn parts(path: OsString) -> (String, Option<String>) {
    use base64::Engine as _;
    match path.into_string() {
        Ok(text) => (text, None),
        Err(path) => {
            let exact = base64::engine::general_purpose::STANDARD.encode(path.as_bytes());
            (path.to_string_lossy().into_owned(), Some(exact))
        }
    }
}

fn done(ui: &Ui, result: &impl serde::Serialize, said: impl FnOnce() -> String) -> Result<()> {
    if ui.json() {
        ui.print_json(result)
    } else {
        ui.note(&said());
        Ok(())
    }
}

/// With --json one page; for a person all of them.
async fn list(pyro: &Pyro, mut request: FileListRequest, ui: &Ui) -> Result<()> {
    if ui.json() {
        return ui.print_json(&pyro.list_files(&request).await?);
    }
    request.limit = LIST_LIMIT_MAX;
    loop {
        let list = pyro.list_files(&request).await?;
        write_stdout(show::files(&list.entries).as_bytes())?;
        match list.continuation {
            Some(next) => request.continuation = Some(next),
            None => return Ok(()),
        }
    }
}

/// Piece by piece to stdout.
async fn stream(pyro: &Pyro, mut request: FileReadRequest, max_bytes: Option<u64>) -> Result<()> {
    let mut bytes_left = max_bytes.unwrap_or(u64::MAX);
    let mut lines_left = request
        .lines
        .and_then(|lines| Some((lines.last()? + 1).saturating_sub(lines.first())))
        .unwrap_or(u64::MAX);
    while bytes_left > 0 && lines_left > 0 {
        request.max_bytes = bytes_left.min(READ_BYTES_MAX);
        let part = pyro.read_file_bytes(&request).await?;
        let wanted = first_lines(&part.bytes, &mut lines_left);
        write_stdout(wanted)?;
        bytes_left -= wanted.len() as u64;
        if !part.more || part.bytes.is_empty() {
            break;
        }
        // Where the lines begin is known by now; how many are left is counted here.
        request.lines = None;
        request.offset = part.offset + part.bytes.len() as u64;
    }
    Ok(())
}

/// So many lines of it, at most.
fn first_lines<'a>(bytes: &'a [u8], left: &mut u64) -> &'a [u8] {
    if *left == u64::MAX {
        return bytes;
    }
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            *left -= 1;
            if *left == 0 {
                return &bytes[..=at];
            }
        }
    }
    bytes
}
