//! Applying a patch to files that are at hand, all of it or nothing.
//!
//! The rules are those of `git apply`: a hunk applies where its lines stand, nearest to where it
//! says; one without context before or after a change must be at the file's beginning or end; no
//! two hunks may meet the same line; what is renamed or copied is taken from the file as it was
//! before the whole patch. The format is parsed by diffy; binary content is unpacked here, for diffy
//! sets no bounds to it.

mod binary;
mod hunks;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pyro_contract::diff::Change;
use pyro_contract::patch::MovedHunk;
use pyro_contract::path::BytePath;

pub(crate) use hunks::lines;
pub use parse::parse;

use super::nearest::{Near, nearest};
use parse::Body;

/// What is wrong with a patch, or with the files for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchError {
    /// It is no patch.
    Malformed(String),
    /// It names something that no patch may touch.
    Forbidden {
        /// What it names.
        path: BytePath,
        /// Why not.
        reason: &'static str,
    },
    /// It is more than can be taken.
    TooLarge(String),
    /// It cannot be carried out by anybody.
    Unsupported {
        /// For which file.
        path: BytePath,
        /// Why.
        reason: &'static str,
    },
}

/// Why a patch does not fit one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which file.
    pub path: BytePath,
    /// Why.
    pub reason: MisfitReason,
}

/// Why a patch does not fit a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MisfitReason {
    /// There is no such file.
    Missing,
    /// There is one already.
    Exists,
    /// It is a directory, a device or the like.
    NoFile,
    /// It is a link, and the patch is for a file, or the other way round.
    OtherKind,
    /// It is not the file that the patch was made from.
    OtherContent,
    /// Something is left of a file that is to be deleted.
    NotEmptied,
    /// The lines of a hunk do not stand in it.
    Hunk {
        /// Which, counted from 1.
        hunk: u32,
        /// At which line it should apply.
        line: u64,
        /// What is most like it.
        near: Option<Near>,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.reason {
            MisfitReason::Missing => write!(f, "there is no {path}"),
            MisfitReason::Exists => write!(f, "{path} exists already"),
            MisfitReason::NoFile => write!(f, "{path} is no file"),
            MisfitReason::OtherKind => write!(f, "{path} is of another kind than in the patch"),
            MisfitReason::OtherContent => {
                write!(f, "{path} is not what the patch was made from")
            }
            MisfitReason::NotEmptied => {
                write!(f, "{path} has more in it than the patch deletes")
            }
            MisfitReason::Hunk { hunk, line, .. } => {
                write!(f, "hunk {hunk} of {path} does not apply at line {line}")
            }
        }
    }
}

/// A file or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// A link, whose target is the content.
    pub is_link: bool,
    /// Permission bits of a file.
    pub mode: u32,
    /// All of it.
    pub content: Vec<u8>,
}

/// What is at a path before the patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// A file or link.
    Blob(Blob),
    /// A directory: it goes if the patch empties it.
    Directory,
    /// A device or the like.
    Other,
}

/// What a patch does to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// Which.
    pub path: Vec<u8>,
    /// How it differs then.
    pub change: Change,
    /// What was renamed or copied to there.
    pub from: Option<Vec<u8>>,
    /// What is there then; nothing, if it is deleted.
    pub after: Option<Blob>,
    /// Hunks that applied elsewhere than they said.
    pub moved_hunks: Vec<MovedHunk>,
}

/// How to apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// How many lines of context at either end of a hunk may differ.
    pub fuzz: u32,
    /// The most bytes of all results together.
    pub max_bytes: u64,
}

/// A patch that was parsed.
#[derive(Debug)]
pub struct Patch {
    files: Vec<parse::FilePatch>,
}

impl Patch {
    /// All paths that it reads or writes.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<&[u8]> {
        self.files
            .iter()
            .flat_map(|file| [&file.old, &file.new])
            .flatten()
            .map(|p| &p[..])
            .collect()
    }

    /// Paths of files that must be there.
    pub fn sources(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().filter_map(|file| file.old.as_deref())
    }

    /// What comes of it. `before` has an entry for each of [`Patch::paths`].
    ///
    /// # Errors
    /// All that is in the way, by file.
    pub fn apply(
        &self,
        before: &BTreeMap<Vec<u8>, Before>,
        options: &ApplyOptions,
    ) -> Result<Result<Vec<Patched>, Vec<Misfit>>, PatchError> {
        let mut apply = Apply { before, options, results: BTreeMap::new(), bytes: 0 };
        let going: BTreeSet<&[u8]> = self
            .files
            .iter()
            .filter(|file| file.removes_old())
            .filter_map(|f| f.old.as_deref())
            .collect();
        let mut misfits = Vec::new();
        for file in &self.files {
            if let Err(problem) = apply.file(file, &going) {
                match problem {
                    Problem::Misfit(misfit) => misfits.push(misfit),
                    Problem::Error(error) => return Err(error),
                }
            }
        }
        Ok(if misfits.is_empty() { Ok(apply.finish()) } else { Err(misfits) })
    }
}

enum Problem {
    Misfit(Misfit),
    Error(PatchError),
}

impl From<PatchError> for Problem {
    fn from(error: PatchError) -> Self {
        Self::Error(error)
    }
}

fn misfit(path: &[u8], reason: MisfitReason) -> Problem {
    Problem::Misfit(Misfit { path: BytePath::new(path), reason })
}

/// What has come of a path so far.
struct Outcome {
    after: Option<Blob>,
    from: Option<Vec<u8>>,
    moved_hunks: Vec<MovedHunk>,
}

struct Apply<'a> {
    before: &'a BTreeMap<Vec<u8>, Before>,
    options: &'a ApplyOptions,
    results: BTreeMap<Vec<u8>, Outcome>,
    bytes: u64,
}

impl Apply<'_> {
    fn file(&mut self, file: &parse::FilePatch, going: &BTreeSet<&[u8]>) -> Result<(), Problem> {
        let mut old = match &file.old {
            Some(path) => Some(self.source(path, file.takes_original)?),
            None => None,
        };
        if let Some(new) = &file.new
            && file.old.as_ref() != Some(new)
        {
            self.check_free(new, going)?;
        }
        let shown = file.new.as_ref().or(file.old.as_ref()).map_or(&b""[..], |path| &path[..]);
        self.check_kind(file, old.as_ref(), shown)?;
        let content = old.as_ref().map_or(&b""[..], |blob| &blob.content[..]);
        let room = self.options.max_bytes.saturating_sub(self.bytes);
        let (content, moved_hunks) = match &file.body {
            Body::Nothing => (content.to_vec(), Vec::new()),
            Body::Hunks(hunks) => {
                hunks::apply(content, hunks, self.options.fuzz).map_err(|(number, hunk)| {
                    let wanted = hunks[number].old_lines().concat();
                    let near = nearest(content, &wanted);
                    let reason = MisfitReason::Hunk { hunk: number as u32 + 1, line: hunk, near };
                    misfit(shown, reason)
                })?
            }
            Body::Binary(binary) => {
                let after = binary.apply(content, room, shown)?;
                (after.ok_or_else(|| misfit(shown, MisfitReason::OtherContent))?, Vec::new())
            }
        };
        self.bytes += content.len() as u64;
        if self.bytes > self.options.max_bytes {
            return Err(PatchError::TooLarge(format!(
                "the files that it makes have over {} bytes",
                self.options.max_bytes
            ))
            .into());
        }
        if let Some(old) = file.old.as_ref().filter(|_| file.removes_old()) {
            if file.new.is_none() && !content.is_empty() {
                return Err(misfit(old, MisfitReason::NotEmptied));
            }
            let gone = Outcome { after: None, from: None, moved_hunks: Vec::new() };
            // A file that took this name before stays.
            let taken = self.results.get(old).is_some_and(|outcome| outcome.after.is_some());
            if !(taken && file.takes_original) {
                self.results.insert(old.clone(), gone);
            }
        }
        if let Some(new) = &file.new {
            let (is_link, mode) =
                file.kind_after(old.as_mut().map(|blob| (blob.is_link, blob.mode)));
            let from = file.old.clone().filter(|old| old != new);
            let after = Some(Blob { is_link, mode, content });
            self.results.insert(new.clone(), Outcome { after, from, moved_hunks });
        }
        Ok(())
    }

    /// The file that a part of the patch is for.
    fn source(&self, path: &[u8], original: bool) -> Result<Blob, Problem> {
        if !original && let Some(outcome) = self.results.get(path) {
            return outcome.after.clone().ok_or_else(|| misfit(path, MisfitReason::Missing));
        }
        match self.before.get(path) {
            Some(Before::Blob(blob)) => Ok(blob.clone()),
            Some(Before::Nothing) | None => Err(misfit(path, MisfitReason::Missing)),
            Some(Before::Directory | Before::Other) => Err(misfit(path, MisfitReason::NoFile)),
        }
    }

    /// Nothing may be where a file is made, unless the patch takes that away.
    fn check_free(&self, path: &[u8], going: &BTreeSet<&[u8]>) -> Result<(), Problem> {
        match (self.results.get(path), self.before.get(path)) {
            (Some(Outcome { after: Some(_), .. }), _) => Err(misfit(path, MisfitReason::Exists)),
            (Some(Outcome { after: None, .. }), _) => Ok(()),
            (None, Some(Before::Blob(_) | Before::Other)) if !going.contains(path) => {
                Err(misfit(path, MisfitReason::Exists))
            }
            (None, Some(Before::Directory)) => {
                // It goes if the patch takes away what is in it; whoever commits it finds out.
                let inside = [path, b"/"].concat();
                let emptied = going.iter().any(|gone| gone.starts_with(&inside));
                if emptied { Ok(()) } else { Err(misfit(path, MisfitReason::Exists)) }
            }
            _ => Ok(()),
        }
    }

    fn check_kind(
        &self,
        file: &parse::FilePatch,
        old: Option<&Blob>,
        path: &[u8],
    ) -> Result<(), Problem> {
        let Some(old) = old else { return Ok(()) };
        // A patch that does not say is for a file.
        let wants_link = match (file.old_is_link, file.new_is_link) {
            (Some(is_link), _) | (None, Some(is_link)) => is_link,
            // Its `index` line may say so, which is not looked at.
            (None, None) => old.is_link,
        };
        if wants_link == old.is_link { Ok(()) } else { Err(misfit(path, MisfitReason::OtherKind)) }
    }

    fn finish(self) -> Vec<Patched> {
        let before = self.before;
        let differs = |(path, outcome): (Vec<u8>, Outcome)| {
            let old = match before.get(&path) {
                Some(Before::Blob(blob)) => Some(blob),
                _ => None,
            };
            let change = match (old, &outcome.after) {
                (None, None) => return None,
                (None, Some(_)) => Change::Added,
                (Some(_), None) => Change::Deleted,
                (Some(old), Some(new)) if old.is_link != new.is_link => Change::TypeChanged,
                (Some(old), Some(new)) if old.content != new.content => Change::Modified,
                (Some(old), Some(new)) if old.mode != new.mode => Change::ModeChanged,
                _ => return None,
            };
            let Outcome { after, from, moved_hunks } = outcome;
            Some(Patched { path, change, from, after, moved_hunks })
        };
        self.results.into_iter().filter_map(differs).collect()
    }
}
