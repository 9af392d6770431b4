//! From a patch's text to what it asks for.

use diffy::patch_set::{FileMode, FileOperation, ParseOptions, PatchKind, PatchSet};

use pyro_contract::path::BytePath;

use super::binary::Binary;
use super::{Patch, PatchError};
use crate::patch::quote::refused_by_git;

/// Files of one patch.
const FILES_MAX: usize = 100_000;

/// What a patch asks of one file.
#[derive(Debug)]
pub(in crate::patch) struct FilePatch {
    /// The file that it is for; none if it makes one.
    pub(super) old: Option<Vec<u8>>,
    /// Where what comes of it goes; nowhere if it deletes it.
    pub(super) new: Option<Vec<u8>>,
    /// What is renamed or copied is as it was before the whole patch.
    pub(super) takes_original: bool,
    /// The old file stays.
    copies: bool,
    pub(super) old_is_link: Option<bool>,
    pub(super) new_is_link: Option<bool>,
    executable: Option<bool>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Nothing,
    Hunks(Vec<Hunk>),
    Binary(Binary),
}

/// Some lines that take the place of some others.
#[derive(Debug)]
pub(super) struct Hunk {
    /// Where the old and the new ones begin, counted from 1; 0 if there are none.
    pub(super) old_start: u64,
    pub(super) new_start: u64,
    pub(super) lines: Vec<(Kind, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Context,
    Delete,
    Insert,
}

impl Hunk {
    fn side(&self, without: Kind) -> Vec<&[u8]> {
        self.lines.iter().filter(|(kind, _)| *kind != without).map(|(_, line)| &line[..]).collect()
    }

    pub(super) fn old_lines(&self) -> Vec<&[u8]> {
        self.side(Kind::Insert)
    }
}

impl FilePatch {
    pub(super) fn removes_old(&self) -> bool {
        !self.copies && self.old.is_some() && self.old != self.new
    }

    /// Whether it is a link then, and its mode. `old`: the same before.
    pub(super) fn kind_after(&self, old: Option<(bool, u32)>) -> (bool, u32) {
        let is_link = self.new_is_link.unwrap_or(old.is_some_and(|(is_link, _)| is_link));
        let mode = old.map_or(0o644, |(_, mode)| mode);
        let mode = match self.executable {
            // For whoever may read it.
            Some(true) => mode | (mode & 0o444) >> 2,
            Some(false) => mode & !0o111,
            None => mode,
        };
        (is_link, mode)
    }
}

/// Parses a patch in git's format, or a plain unified diff. `strip`: how many names to take from the
/// front of each path; without it, one if the paths begin with `a/` and `b/`, else none.
///
/// # Errors
/// [`PatchError`].
pub fn parse(text: &[u8], strip: Option<u32>) -> Result<Patch, PatchError> {
    let is_git = text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"diff --git "));
    let options = if is_git { ParseOptions::gitdiff() } else { ParseOptions::unidiff() };
    let mut parsed = Vec::new();
    for file in PatchSet::parse_bytes(text, options) {
        parsed.push(file.map_err(|error| PatchError::Malformed(error.to_string()))?);
        if parsed.len() > FILES_MAX {
            return Err(PatchError::TooLarge(format!("it changes over {FILES_MAX} files")));
        }
    }
    let strip = strip.unwrap_or_else(|| {
        let prefixed = parsed.iter().all(|file| has_prefixes(file.operation()));
        u32::from(prefixed)
    });
    let mut indexes = if is_git { Indexes::of(text) } else { Indexes(Vec::new()) };
    if indexes.0.len() != parsed.len() {
        indexes.0.clear();
    }
    let mut files = Vec::new();
    for (number, file) in parsed.into_iter().enumerate() {
        let index = indexes.0.get(number).cloned().flatten();
        files.push(file_patch(file, strip as usize, index)?);
    }
    Ok(Patch { files })
}

/// Extended headers name the paths of renames and copies without prefixes.
fn has_prefixes(operation: &FileOperation<'_, [u8]>) -> bool {
    match operation {
        FileOperation::Delete(old) => old.starts_with(b"a/"),
        FileOperation::Create(new) => new.starts_with(b"b/"),
        FileOperation::Modify { original, modified } => {
            // One of them may be all that there is.
            let prefixed = |path: &[u8]| path.starts_with(b"a/") || path.starts_with(b"b/");
            prefixed(original) && prefixed(modified)
        }
        FileOperation::Rename { .. } | FileOperation::Copy { .. } => true,
    }
}

fn file_patch(
    file: diffy::patch_set::FilePatch<'_, [u8]>,
    strip: usize,
    index: Option<(Vec<u8>, Vec<u8>)>,
) -> Result<FilePatch, PatchError> {
    let path = |bytes: &[u8]| checked(bytes, strip).map(Some);
    let bare = |bytes: &[u8]| checked(bytes, strip.saturating_sub(1)).map(Some);
    let (old, new, takes_original, copies) = match file.operation() {
        FileOperation::Delete(old) => (path(old)?, None, false, false),
        FileOperation::Create(new) => (None, path(new)?, false, false),
        FileOperation::Modify { original, modified } => {
            let name = path(common_name(original, modified, strip))?;
            (name.clone(), name, false, false)
        }
        FileOperation::Rename { from, to } => (bare(from)?, bare(to)?, true, false),
        FileOperation::Copy { from, to } => (bare(from)?, bare(to)?, true, true),
    };
    let shown = new.as_ref().or(old.as_ref()).cloned().unwrap_or_default();
    let modes = [file.old_mode(), file.new_mode()];
    if modes.contains(&Some(&FileMode::Gitlink)) {
        return Err(PatchError::Unsupported {
            path: BytePath::new(shown),
            reason: "it is a submodule",
        });
    }
    let is_link = |mode: Option<&FileMode>| mode.map(|mode| *mode == FileMode::Symlink);
    let executable = match file.new_mode() {
        Some(FileMode::Executable) => Some(true),
        Some(FileMode::Regular) => Some(false),
        _ => None,
    };
    let (old_is_link, new_is_link) = (is_link(file.old_mode()), is_link(file.new_mode()));
    let body = match file.into_patch() {
        PatchKind::Text(patch) => {
            let hunks: Vec<Hunk> = patch.hunks().iter().map(hunk).collect();
            if hunks.is_empty() { Body::Nothing } else { Body::Hunks(hunks) }
        }
        PatchKind::Binary(binary) => Body::Binary(Binary::of(&binary, index, &shown)?),
    };
    Ok(FilePatch { old, new, takes_original, copies, old_is_link, new_is_link, executable, body })
}

/// Of `x` and `x.orig` it is `x` that is meant, whichever comes first.
fn common_name<'a>(original: &'a [u8], modified: &'a [u8], strip: usize) -> &'a [u8] {
    let longer = stripped(modified, strip);
    match stripped(original, strip) {
        shorter if longer.len() > shorter.len() && longer.starts_with(shorter) => original,
        _ => modified,
    }
}

fn stripped(path: &[u8], strip: usize) -> &[u8] {
    let mut rest = path;
    for _ in 0..strip {
        match rest.iter().position(|byte| *byte == b'/') {
            Some(slash) => rest = &rest[slash + 1..],
            None => return b"",
        }
    }
    rest
}

fn checked(path: &[u8], strip: usize) -> Result<Vec<u8>, PatchError> {
    let rest = stripped(path, strip);
    let forbidden = |reason| PatchError::Forbidden { path: BytePath::new(path), reason };
    if rest.is_empty() {
        return Err(forbidden("it has fewer names than are to be taken from its front"));
    }
    if rest.starts_with(b"/") {
        return Err(forbidden("it is absolute"));
    }
    for name in rest.split(|byte| *byte == b'/') {
        match name {
            b".." => return Err(forbidden("it leads upwards")),
            b"" | b"." => return Err(forbidden("it is not a plain path")),
            name if name.contains(&0) => return Err(forbidden("it holds a NUL")),
            _ => {}
        }
    }
    if refused_by_git(rest, false).is_some() {
        return Err(forbidden("it is git's own, which no patch changes"));
    }
    Ok(rest.to_vec())
}

fn hunk(hunk: &diffy::Hunk<'_, [u8]>) -> Hunk {
    let lines = hunk.lines().iter().map(|line| match line {
        diffy::Line::Context(line) => (Kind::Context, line.to_vec()),
        diffy::Line::Delete(line) => (Kind::Delete, line.to_vec()),
        diffy::Line::Insert(line) => (Kind::Insert, line.to_vec()),
    });
    Hunk {
        old_start: hunk.old_range().start() as u64,
        new_start: hunk.new_range().start() as u64,
        lines: lines.collect(),
    }
}

/// The checksums of old and new content that each part of a git patch may state.
struct Indexes(Vec<Option<(Vec<u8>, Vec<u8>)>>);

impl Indexes {
    fn of(text: &[u8]) -> Self {
        let mut all = Vec::new();
        let mut in_header = false;
        for line in text.split(|byte| *byte == b'\n') {
            if line.starts_with(b"diff --git ") {
                all.push(None);
                in_header = true;
            } else if in_header && let Some(index) = line.strip_prefix(b"index ") {
                if let (Some(last), Some(found)) = (all.last_mut(), full_index(index)) {
                    *last = Some(found);
                }
            } else if line.starts_with(b"@@ ") || line.starts_with(b"GIT binary patch") {
                in_header = false;
            }
        }
        Self(all)
    }
}

/// `0123…..4567…`, both with all their digits.
fn full_index(index: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let sums = index.split(|byte| *byte == b' ').next()?;
    let dots = sums.windows(2).position(|two| two == b"..")?;
    let (old, new) = (&sums[..dots], &sums[dots + 2..]);
    let full = |sum: &[u8]| sum.len() == 40 && sum.iter().all(u8::is_ascii_hexdigit);
    (full(old) && full(new)).then(|| (old.to_ascii_lowercase(), new.to_ascii_lowercase()))
}
