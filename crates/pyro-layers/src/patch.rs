//! Changes as a patch in git's format.
//!
//! `git apply` of it on a copy of the lower tree gives the merged tree, and `git apply -R` takes
//! it back. It is written file by file; memory is bounded by the largest text that is compared by
//! lines (16 MiB each side), and larger files are carried as binary.
//!
//! Git knows files, links and one executable bit. What it cannot carry is not in the patch, and is
//! returned by name, so that nobody takes the patch for more than it is.

mod apply;
mod base85;
mod carried;
mod nearest;
mod quote;
mod section;

use std::io::Write;

use pyro_contract::{
    diff::{Change, Diff, DiffEntry, FileKind, Side},
    path::BytePath,
    progress::Progress,
};

use crate::{
    content::Content,
    diff::{Changed, Detail, DiffOptions, Visitor, diff, measure},
    layer::{Layer, LayerError, Result},
};
pub use apply::{
    ApplyOptions, Before, Blob as PatchedBlob, Misfit, MisfitReason, Patch, PatchError, Patched,
    parse as parse_patch,
};
pub use nearest::{Near, nearest};

pub(crate) use apply::lines as apply_lines;

use carried::NotCarried;
use quote::refused_by_git;
use section::{Blob, Written, write_section};

/// A file with a larger side is left out of patches: git itself refuses patches over 1 GiB, and a
/// sparse file of a hostile guest costs nothing to make.
const MAX_FILE: u64 = 4 << 30;
/// All files that are read for one patch together. What comes after is left out, and named: a guest
/// makes a thousand sparse files for nothing, and the reader pays for each.
const MAX_TOTAL: u64 = 16 << 30;

/// Writes what `upper` changes of `lower` as a patch, and returns what [`diff`] found, with line
/// counts, and with what the patch does not carry in `not_in_patch`.
///
/// # Errors
/// As [`diff`], or [`LayerError::Io`] if `out` fails.
pub fn write_patch(
    upper: &dyn Layer,
    lower: &dyn Layer,
    options: &DiffOptions,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Diff> {
    let mut writer = PatchWriter::new(out, progress);
    // The writer reads the content anyway and fills in what the walk need not find out.
    let options = DiffOptions { detail: Detail::Names, ..*options };
    diff(upper, lower, &options, progress, &mut writer)?;
    writer.finish()
}

/// Writes a patch from the changes that it is shown; for comparisons other than [`write_patch`]'s.
pub struct PatchWriter<'w> {
    out: &'w mut dyn Write,
    progress: &'w dyn Progress,
    diff: Diff,
    not_carried: NotCarried,
    /// Bytes of the files that were read.
    total: u64,
}

impl<'w> PatchWriter<'w> {
    /// A patch to be written to `out`.
    pub fn new(out: &'w mut dyn Write, progress: &'w dyn Progress) -> Self {
        Self { out, progress, diff: Diff::default(), not_carried: NotCarried::default(), total: 0 }
    }

    /// Ends the patch and tells what was in it, and what was not.
    ///
    /// # Errors
    /// If the last bytes cannot be written.
    pub fn finish(mut self) -> Result<Diff> {
        self.out.flush().map_err(LayerError::io("cannot write the patch"))?;
        self.diff.not_in_patch = self.not_carried.finish();
        Ok(self.diff)
    }

    fn write(&mut self, changed: &Changed<'_>) -> Result<Written> {
        let path = changed.entry.path.as_bytes();
        let blob = |side: Option<_>| side.and_then(Blob::new);
        match (blob(changed.old), blob(changed.new)) {
            (None, None) => Ok(Written::default()),
            // Git's own way to write a change of type. Both must be there even if the content is
            // the same: a link may become a file that holds its target.
            (Some(old), Some(new)) if old.differs_in_type(&new) => {
                let gone = write_section(path, Some(old), None, self.progress, self.out)?;
                let come = write_section(path, None, Some(new), self.progress, self.out)?;
                Ok(gone.and(&come))
            }
            (old, new) => write_section(path, old, new, self.progress, self.out),
        }
    }

    /// What of a changed path must not be in a patch, lest git reject all of it.
    fn refused<'c>(&self, changed: &'c Changed<'_>) -> Option<&'c [u8]> {
        let path = changed.entry.path.as_bytes();
        let sides = || [&changed.old, &changed.new].into_iter().flatten().map(Content::meta);
        let is_link = sides().any(|meta| meta.kind == FileKind::Symlink);
        let sizes = || sides().filter(|meta| meta.kind == FileKind::File).map(|meta| meta.size);
        let too_large = sizes().any(|size| size > MAX_FILE)
            || sizes().fold(self.total, u64::saturating_add) > MAX_TOTAL;
        // A patch cannot remove a fifo or a device, so nothing can take its place.
        let unremovable = changed.entry.change == Change::TypeChanged
            && !replaces_directory(&changed.entry)
            && changed.old.and_then(Blob::new).is_none();
        refused_by_git(path, is_link)
            .or_else(|| self.not_carried.blocked_above(path))
            .or((too_large || unremovable).then_some(path))
    }
}

impl Visitor for PatchWriter<'_> {
    fn changed(&mut self, changed: Changed<'_>) -> Result<()> {
        let written = match self.refused(&changed) {
            Some(refused) => {
                self.not_carried.left_out(refused);
                if changed.entry.change == Change::TypeChanged
                    && !replaces_directory(&changed.entry)
                {
                    self.not_carried.block(changed.entry.path.as_bytes());
                }
                None
            }
            // Whether git can remove what is in it shows only after that was told.
            None if replaces_directory(&changed.entry) => None,
            None => {
                let sides = [&changed.old, &changed.new].into_iter().flatten();
                let sizes = sides.map(|side| side.meta().size);
                self.total = sizes.fold(self.total, u64::saturating_add);
                let written = self.write(&changed)?;
                self.not_carried.wrote(&changed.entry, written.anything);
                Some(written)
            }
        };
        let Changed { mut entry, old, new } = changed;
        match written {
            Some(Written { binary, lines, .. }) if binary || lines.is_some() => {
                entry.binary = binary;
                (entry.insertions, entry.deletions) = lines.unzip();
            }
            // No content was read for the patch, yet a review wants to know what it is.
            _ => measure(&mut entry, old.as_ref(), new.as_ref(), Detail::Lines, self.progress)?,
        }
        self.diff.insertions += entry.insertions.unwrap_or(0);
        self.diff.deletions += entry.deletions.unwrap_or(0);
        self.diff.entries.push(entry);
        Ok(())
    }

    fn emptied(&mut self, directory: BytePath) -> Result<()> {
        if refused_by_git(directory.as_bytes(), false).is_none() {
            self.not_carried.left_out(directory.as_bytes());
        }
        Ok(())
    }

    fn replaced(&mut self, changed: Changed<'_>) -> Result<()> {
        if self.refused(&changed).is_some() {
            return Ok(()); // as told before
        }
        let path = changed.entry.path.as_bytes();
        // Git would fail halfway if the directory did not become empty.
        if self.not_carried.has_any_below(path) {
            self.not_carried.left_out(path);
            return Ok(());
        }
        let written = self.write(&changed)?;
        self.not_carried.wrote(&changed.entry, written.anything);
        Ok(())
    }
}

fn replaces_directory(entry: &DiffEntry) -> bool {
    let is_dir = |side: &Side| side.kind == FileKind::Directory;
    entry.change == Change::TypeChanged && entry.old.as_ref().is_some_and(is_dir)
}

#[cfg(test)]
mod apply_inverse;
#[cfg(test)]
mod tests;
