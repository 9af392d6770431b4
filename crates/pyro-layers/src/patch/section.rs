//! One file's part of a patch.

use std::{io::Write, ops::ControlFlow};

use pyro_contract::{diff::FileKind, progress::Progress};
use sha1::{Digest, Sha1};

use super::{
    base85::Literal,
    quote::{quoted, terminator},
};
use crate::{
    content::Content,
    layer::{LayerError, Result},
    lines::LineDiff,
};

/// What git calls the content of a file that is not there.
const NO_ID: &str = "0000000000000000000000000000000000000000";

/// A file or link as git knows it.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    content: Content<'a>,
    mode: GitMode,
}

/// The only modes that git keeps of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GitMode {
    Plain,
    Executable,
    Link,
}

impl GitMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
        }
    }
}

impl<'a> Blob<'a> {
    /// `None` for what git cannot carry: directories and special files.
    pub(super) fn new(content: Content<'a>) -> Option<Self> {
        let mode = match content.meta().kind {
            FileKind::Symlink => GitMode::Link,
            // Git looks at the owner's bit alone (`ce_permissions`).
            FileKind::File if content.meta().mode & 0o100 != 0 => GitMode::Executable,
            FileKind::File => GitMode::Plain,
            _ => return None,
        };
        Some(Self { content, mode })
    }

    /// True if they cannot be sides of one section.
    pub(super) fn differs_in_type(&self, other: &Self) -> bool {
        (self.mode == GitMode::Link) != (other.mode == GitMode::Link)
    }

    /// The name of the content in git's object store.
    fn id(&self, progress: &dyn Progress) -> Result<String> {
        let mut hash = Sha1::new();
        if let Some(target) = self.content.target()? {
            hash.update(format!("blob {}\0", target.as_bytes().len()));
            hash.update(target.as_bytes());
        } else {
            hash.update(format!("blob {}\0", self.content.meta().size));
            self.content.read_blocks(progress, |block| {
                hash.update(block);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What a section came to.
#[derive(Default)]
pub(super) struct Written {
    /// False if there was nothing that git could express.
    pub(super) anything: bool,
    /// True if the content was carried as binary.
    pub(super) binary: bool,
    /// Lines added and removed, for text.
    pub(super) lines: Option<(u64, u64)>,
}

impl Written {
    /// Two sections for one path.
    pub(super) fn and(&self, other: &Self) -> Self {
        let lines = match (self.lines, other.lines) {
            (Some((a, b)), Some((c, d))) => Some((a + c, b + d)),
            _ => None,
        };
        let binary = self.binary || other.binary;
        Self { anything: self.anything || other.anything, binary, lines }
    }
}

/// Writes the section for one path; at least one of the sides is there.
pub(super) fn write_section(
    path: &[u8],
    old: Option<Blob<'_>>,
    new: Option<Blob<'_>>,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Written> {
    let id = |side: &Option<Blob<'_>>| match side {
        Some(blob) => blob.id(progress),
        None => Ok(NO_ID.to_owned()),
    };
    let (old_id, new_id) = (id(&old)?, id(&new)?);
    let (was, is) = (old.map(|blob| blob.mode), new.map(|blob| blob.mode));
    if old_id == new_id && was == is {
        return Ok(Written::default());
    }
    let failed = LayerError::io("cannot write the patch");
    let header = header(path, was, is, &old_id, &new_id);
    out.write_all(&header).map_err(failed)?;
    if old_id == new_id {
        return Ok(Written { anything: true, binary: false, lines: None });
    }
    let mut section = Section { path, old, new, progress, out };
    section.body().map(|(binary, lines)| Written { anything: true, binary, lines })
}

/// The lines from `diff --git` to `index`.
fn header(
    path: &[u8],
    was: Option<GitMode>,
    is: Option<GitMode>,
    old_id: &str,
    new_id: &str,
) -> Vec<u8> {
    let (a, b) = (quoted("a/", path), quoted("b/", path));
    let mut header = [&b"diff --git "[..], &a, b" ", &b, b"\n"].concat();
    let mut line = |text: String| {
        header.extend_from_slice(text.as_bytes());
        header.push(b'\n');
    };
    match (was, is) {
        (None, Some(is)) => line(format!("new file mode {}", is.as_str())),
        (Some(was), None) => line(format!("deleted file mode {}", was.as_str())),
        (Some(was), Some(is)) if was != is => {
            line(format!("old mode {}", was.as_str()));
            line(format!("new mode {}", is.as_str()));
        }
        _ => {}
    }
    if old_id != new_id {
        match (was, is) {
            // The mode stands here only if no other line has told it.
            (Some(was), Some(is)) if was == is => {
                line(format!("index {old_id}..{new_id} {}", is.as_str()));
            }
            _ => line(format!("index {old_id}..{new_id}")),
        }
    }
    header
}

struct Section<'s, 'a> {
    path: &'s [u8],
    old: Option<Blob<'a>>,
    new: Option<Blob<'a>>,
    progress: &'s dyn Progress,
    out: &'s mut dyn Write,
}

impl Section<'_, '_> {
    fn body(&mut self) -> Result<(bool, Option<(u64, u64)>)> {
        let (Some(old), Some(new)) = (self.text(self.old)?, self.text(self.new)?) else {
            self.binary()?;
            return Ok((true, None));
        };
        let diff = LineDiff::new(&old, &new)?;
        // Creating or deleting an empty file has no lines to show, and then git shows no names.
        if diff.counts() != (0, 0) {
            self.names().and_then(|()| diff.write_hunks(self.out)).map_err(write_failed())?;
        }
        Ok((false, Some(diff.counts())))
    }

    fn text(&self, side: Option<Blob<'_>>) -> Result<Option<Vec<u8>>> {
        match side {
            Some(blob) => blob.content.text(self.progress),
            None => Ok(Some(Vec::new())),
        }
    }

    fn names(&mut self) -> std::io::Result<()> {
        for (sign, prefix, side) in [("---", "a/", self.old), ("+++", "b/", self.new)] {
            let (name, end) = match side {
                Some(_) => (quoted(prefix, self.path), terminator(self.path)),
                None => (b"/dev/null".to_vec(), "\n"),
            };
            self.out.write_all(&[sign.as_bytes(), b" ", &name, end.as_bytes()].concat())?;
        }
        Ok(())
    }

    /// Both sides whole: the new one to apply, the old one to reverse.
    fn binary(&mut self) -> Result<()> {
        self.out.write_all(b"GIT binary patch\n").map_err(write_failed())?;
        self.literal(self.new)?;
        self.literal(self.old)
    }

    fn literal(&mut self, side: Option<Blob<'_>>) -> Result<()> {
        // A link is binary only beside a NUL in its target, which Linux does not allow; still it
        // must not be read as a file.
        let target = side.map(|blob| blob.content.target()).transpose()?.flatten();
        let size = match (&target, side) {
            (Some(target), _) => target.as_bytes().len() as u64,
            (None, Some(blob)) => blob.content.meta().size,
            (None, None) => 0,
        };
        writeln!(self.out, "literal {size}").map_err(write_failed())?;
        let mut literal = Literal::new(&mut *self.out);
        match (&target, side) {
            (Some(target), _) => literal.write_all(target.as_bytes()).map_err(write_failed())?,
            (None, Some(blob)) => blob.content.read_blocks(self.progress, |block| {
                literal.write_all(block).map_err(write_failed())?;
                Ok(ControlFlow::Continue(()))
            })?,
            (None, None) => {}
        }
        literal.finish().map_err(write_failed())
    }
}

fn write_failed() -> impl FnOnce(std::io::Error) -> LayerError {
    LayerError::io("cannot write the patch")
}
