//! Replacing an exact piece of text.

use pyro_contract::file::{EDIT_BYTES_MAX, FileEditRequest, FileEdited, Sha256};
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::patch::nearest;
use sha2::Digest as _;

use super::read_whole;
use super::write::{WriteOptions, write};
use crate::files;
use crate::pyro::Pyro;

/// Lines of places that are named in an error.
const PLACES: usize = 5;

impl Pyro {
    /// Replaces text in a file.
    pub async fn edit_file(&self, request: &FileEditRequest) -> Result<FileEdited> {
        if request.old.is_empty() {
            return Err(Error::new(ErrorCode::InvalidArgument, "there is no text to replace")
                .with_hint("give the text that stands in the file; `file write` makes a new one"));
        }
        let dir = self.open(&request.workspace).await?;
        let located = files::locate(&request.path)?;
        let (found, content) = read_whole(&dir, &located, EDIT_BYTES_MAX).await?;
        let sum = Sha256::new(sha2::Sha256::digest(&content).into());
        if let Some(expected) = request.expected_sha256
            && expected != sum
        {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("nothing was changed: {} has changed", request.path),
            )
            .with_cause(format!("its checksum is {sum} now"))
            .with_hint("read the file again, and base the change on what it is now"));
        }
        let edit = replace(&request.path, &content, request)?;
        // Nobody may have changed it since it was read just now.
        let options = WriteOptions { expected_sha256: Some(sum), ..WriteOptions::default() };
        let written = write(&dir, &request.path, &found, &options, &edit.content[..]).await?;
        Ok(FileEdited {
            path: written.path,
            replacements: edit.replacements,
            line: edit.line,
            size: written.size,
            sha256: written.sha256,
        })
    }
}

struct Edit {
    content: Vec<u8>,
    replacements: u64,
    line: u64,
}

fn replace(path: &BytePath, content: &[u8], request: &FileEditRequest) -> Result<Edit> {
    let (old, new) = (request.old.as_bytes(), request.new.as_bytes());
    let places = places(content, old);
    let line_of = |at: usize| content[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    match places.len() {
        0 => return Err(not_there(path, content, old)),
        1 => {}
        _ if request.all => {}
        count => {
            let lines: Vec<String> =
                places.iter().take(PLACES).map(|at| line_of(*at).to_string()).collect();
            let more = if count > PLACES { ", …" } else { "" };
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("the text stands in {path} {count} times, so nothing was changed"),
            )
            .with_cause(format!("on lines {}{more}", lines.join(", ")))
            .with_hint("give more of the text around it, or replace all of them (`all`)"));
        }
    }
    let grown = places.len().saturating_mul(new.len());
    if content.len().saturating_add(grown) as u64 > 2 * EDIT_BYTES_MAX {
        return Err(Error::new(ErrorCode::TooLarge, format!("{path} would become too large"))
            .with_hint("change it with a program in the workspace: `pyro workspace exec`"));
    }
    let mut edited = Vec::with_capacity(content.len() + grown);
    let mut from = 0;
    for at in &places {
        edited.extend_from_slice(&content[from..*at]);
        edited.extend_from_slice(new);
        from = at + old.len();
    }
    edited.extend_from_slice(&content[from..]);
    let line = places.first().map_or(1, |at| line_of(*at)) as u64;
    Ok(Edit { content: edited, replacements: places.len() as u64, line })
}

/// Where `old` stands, each time after the one before.
fn places(content: &[u8], old: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(content, old).collect()
}

fn not_there(path: &BytePath, content: &[u8], old: &[u8]) -> Error {
    let error = Error::new(
        ErrorCode::Conflict,
        format!("the text does not stand in {path}, so nothing was changed"),
    );
    match nearest(content, old) {
        Some(near) => error.with_cause(near.to_string()).with_hint(
            "read the file again and copy the text exactly, white space and ends of lines included",
        ),
        None => error.with_hint("read the file again; nothing in it looks like the text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::name::WorkspaceRef;

    fn edit(content: &str, old: &str, new: &str, all: bool) -> Result<(String, u64, u64)> {
        let path = BytePath::new("f");
        let request = FileEditRequest {
            workspace: "demo".parse::<WorkspaceRef>()?,
            path: path.clone(),
            old: old.into(),
            new: new.into(),
            all,
            expected_sha256: None,
        };
        let edit = replace(&path, content.as_bytes(), &request)?;
        Ok((String::from_utf8(edit.content).unwrap(), edit.replacements, edit.line))
    }

    #[test]
    fn a_text_is_replaced_where_it_stands_once() {
        assert_eq!(edit("a\nb\nc", "b", "B", false).unwrap(), ("a\nB\nc".into(), 1, 2));
        assert_eq!(edit("aaa", "a", "bb", true).unwrap(), ("bbbbbb".into(), 3, 1));
        assert_eq!(edit("a\n", "a\n", "", false).unwrap().0, "");
    }

    #[test]
    fn a_text_that_stands_twice_or_nowhere_is_refused_with_where() {
        let twice = edit("x\ny\nx\n", "x", "z", false).unwrap_err();
        assert_eq!(twice.code, ErrorCode::Conflict);
        assert_eq!(twice.cause.as_deref(), Some("on lines 1, 3"));
        let nowhere = edit("fn main() {\n\tgo();\n}\n", "fn main() {\n    go();\n}", "", false);
        let cause = nowhere.unwrap_err().cause.unwrap();
        assert!(cause.contains("line 1") && cause.contains("white space"), "{cause}");
    }
}
