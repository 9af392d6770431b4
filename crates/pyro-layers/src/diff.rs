//! What changed between a lower layer and the upper that lies over it.
//!
//! The cost is that of the change, not that of the tree: only names that stand in an upper layer
//! are visited, each with one lookup in the layers below. Lower subtrees are walked only where
//! they were deleted or replaced whole, for then each of their files is a change.
//!
//! A file that was rewritten with the same bytes is no change, nor is one whose times or owner
//! alone differ, nor is the root directory itself, whatever its mode.

mod walk;

use pyro_contract::{
    diff::{Change, Diff, DiffEntry, FileKind, Side},
    path::BytePath,
    progress::Progress,
};

use crate::{
    content::Content,
    layer::{Layer, Result},
    lines::LineDiff,
    overlay::Stack,
};
use walk::Walk;

/// How much to find out about each changed file. Each step reads more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// Only what is needed to know that it changed. `binary` is always false.
    Names,
    /// Also whether it is binary, from its first bytes.
    #[default]
    Kind,
    /// Also how many lines came and went.
    Lines,
}

/// How to compare, and how far to go.
#[derive(Debug, Clone, Copy)]
pub struct DiffOptions {
    /// How much to find out.
    pub detail: Detail,
    /// Stop with `TooLarge` after visiting this many names.
    pub max_names: u64,
    /// Stop with `TooLarge` at directories nested deeper than this.
    pub max_depth: usize,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self { detail: Detail::default(), max_names: 1_000_000, max_depth: 1024 }
    }
}

/// A changed path with both sides' content at hand. Special files have content without bytes.
pub struct Changed<'a> {
    /// What the contract says of it.
    pub entry: DiffEntry,
    /// What it was; absent if it was added.
    pub old: Option<Content<'a>>,
    /// What it is; absent if it was deleted.
    pub new: Option<Content<'a>>,
}

/// Takes what a comparison finds, in the order of path bytes.
pub trait Visitor {
    /// One path differs.
    ///
    /// # Errors
    /// Ends the comparison with this error.
    fn changed(&mut self, changed: Changed<'_>) -> Result<()>;

    /// A directory that is otherwise unchanged has lost all it had in it. It comes after its
    /// former contents. Only patches care: git knows no empty directories.
    ///
    /// # Errors
    /// Ends the comparison with this error.
    fn emptied(&mut self, _directory: BytePath) -> Result<()> {
        Ok(())
    }

    /// Something else has taken a directory's place, and all that was in the directory has been
    /// told by now. The same change was told by [`Visitor::changed`], before them.
    ///
    /// # Errors
    /// Ends the comparison with this error.
    fn replaced(&mut self, _changed: Changed<'_>) -> Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Changed<'_>) -> Result<()>> Visitor for F {
    fn changed(&mut self, changed: Changed<'_>) -> Result<()> {
        self(changed)
    }
}

/// Finds what `upper`, an overlayfs upper directory, changes of `lower`.
///
/// # Errors
/// `Damaged` for a layer that contradicts itself (also a directory inside of itself), `TooLarge`
/// beyond the limits of `options`, `Cancelled`, or what the visitor failed with.
pub fn diff(
    upper: &dyn Layer,
    lower: &dyn Layer,
    options: &DiffOptions,
    progress: &dyn Progress,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let stack = Stack::new(vec![upper, lower]);
    let (old, new) = (stack.root(&[1])?, stack.root(&[0, 1])?);
    Walk::new(&stack, options, progress).run(old, new, visitor)
}

/// Finds what differs between two uppers over the same `lower`: a snapshot and now, or two forks.
/// The cost is that of both uppers together.
///
/// # Errors
/// As [`diff`].
pub fn diff_between(
    old_upper: &dyn Layer,
    new_upper: &dyn Layer,
    lower: &dyn Layer,
    options: &DiffOptions,
    progress: &dyn Progress,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let stack = Stack::new(vec![old_upper, new_upper, lower]);
    let (old, new) = (stack.root(&[0, 2])?, stack.root(&[1, 2])?);
    Walk::new(&stack, options, progress).run(old, new, visitor)
}

/// [`diff`] as one value, for those who need no content. `not_in_patch` is left empty: only
/// writing the patch tells.
///
/// # Errors
/// As [`diff`].
pub fn summarize(
    upper: &dyn Layer,
    lower: &dyn Layer,
    options: &DiffOptions,
    progress: &dyn Progress,
) -> Result<Diff> {
    let mut summary = Diff::default();
    diff(upper, lower, options, progress, &mut |changed: Changed<'_>| {
        summary.insertions += changed.entry.insertions.unwrap_or(0);
        summary.deletions += changed.entry.deletions.unwrap_or(0);
        summary.entries.push(changed.entry);
        Ok(())
    })?;
    Ok(summary)
}

/// Compares two things of one path; `None` if nothing that counts differs.
fn compare<'a>(
    path: &[u8],
    old: Option<Content<'a>>,
    new: Option<Content<'a>>,
    detail: Detail,
    progress: &dyn Progress,
) -> Result<Option<Changed<'a>>> {
    let Some(change) = kind_of_change(old.as_ref(), new.as_ref(), progress)? else {
        return Ok(None);
    };
    let mut entry = DiffEntry {
        path: BytePath::new(path),
        change,
        old: old.as_ref().map(side).transpose()?,
        new: new.as_ref().map(side).transpose()?,
        insertions: None,
        deletions: None,
        binary: false,
    };
    measure(&mut entry, old.as_ref(), new.as_ref(), detail, progress)?;
    Ok(Some(Changed { entry, old, new }))
}

/// Fills in what `detail` asks to be found out of the content.
pub(crate) fn measure(
    entry: &mut DiffEntry,
    old: Option<&Content<'_>>,
    new: Option<&Content<'_>>,
    detail: Detail,
    progress: &dyn Progress,
) -> Result<()> {
    if detail >= Detail::Kind {
        for content in [old, new].into_iter().flatten() {
            entry.binary = entry.binary || content.looks_binary()?;
        }
    }
    if detail == Detail::Lines && !entry.binary {
        count_lines(entry, old, new, progress)?;
    }
    Ok(())
}

fn kind_of_change(
    old: Option<&Content<'_>>,
    new: Option<&Content<'_>>,
    progress: &dyn Progress,
) -> Result<Option<Change>> {
    let (old, new) = match (old, new) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Ok(Some(Change::Added)),
        (Some(_), None) => return Ok(Some(Change::Deleted)),
        (Some(old), Some(new)) => (old, new),
    };
    let (was, is) = (old.meta(), new.meta());
    if was.kind != is.kind {
        return Ok(Some(Change::TypeChanged));
    }
    let same = match is.kind {
        FileKind::File | FileKind::Symlink => old.same_bytes(new, progress)?,
        FileKind::CharDevice | FileKind::BlockDevice => was.rdev == is.rdev,
        FileKind::Directory | FileKind::Fifo | FileKind::Socket => true,
    };
    Ok(match same {
        false => Some(Change::Modified),
        // A link has no mode of its own: Linux shows 0777 and ignores it.
        true if was.mode != is.mode && is.kind != FileKind::Symlink => Some(Change::ModeChanged),
        true => None,
    })
}

fn side(content: &Content<'_>) -> Result<Side> {
    let meta = content.meta();
    let size = if meta.kind == FileKind::File { meta.size } else { 0 };
    Ok(Side { kind: meta.kind, mode: meta.mode, size, target: content.target()? })
}

/// Counts lines as git does: what is no file or link has none, a text that is too long to compare
/// counts as binary.
fn count_lines(
    entry: &mut DiffEntry,
    old: Option<&Content<'_>>,
    new: Option<&Content<'_>>,
    progress: &dyn Progress,
) -> Result<()> {
    let has_text = |it: &&Content<'_>| matches!(it.meta().kind, FileKind::File | FileKind::Symlink);
    let (old, new) = (old.filter(has_text), new.filter(has_text));
    if old.is_none() && new.is_none() || entry.change == Change::ModeChanged {
        return Ok(());
    }
    let text = |side: Option<&Content<'_>>| match side {
        Some(content) => content.text(progress),
        None => Ok(Some(Vec::new())),
    };
    let (Some(old), Some(new)) = (text(old)?, text(new)?) else {
        entry.binary = true;
        return Ok(());
    };
    // Git writes a change of type as a deletion and a creation, and counts it so.
    let (added, removed) = if entry.change == Change::TypeChanged {
        (LineDiff::new(&[], &new)?.counts().0, LineDiff::new(&old, &[])?.counts().1)
    } else {
        LineDiff::new(&old, &new)?.counts()
    };
    (entry.insertions, entry.deletions) = (Some(added), Some(removed));
    Ok(())
}

#[cfg(test)]
mod tests;
