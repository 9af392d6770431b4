//! Which changes a git patch does not carry.

use std::collections::BTreeSet;

use pyro_contract::{
    diff::{Change, DiffEntry, FileKind, Side},
    path::BytePath,
};

/// Collects the paths whose change is not, or not wholly, in the patch.
///
/// Directories are the difficult part. Git makes and removes them as files come and go, so a new
/// directory is carried if any file in it is, and so is the removal of one. They wait here until a
/// file within shows up.
#[derive(Default)]
pub(super) struct NotCarried {
    paths: BTreeSet<Vec<u8>>,
    waiting: BTreeSet<Vec<u8>>,
    blocked: BTreeSet<Vec<u8>>,
}

impl NotCarried {
    /// This path cannot be in a patch at all.
    pub(super) fn left_out(&mut self, path: &[u8]) {
        // To name it is to name the directories that lead to it.
        self.release_parents(path);
        self.paths.insert(path.to_vec());
    }

    /// The patch carries as much of this entry as git can; `anything` if that is more than nothing.
    pub(super) fn wrote(&mut self, entry: &DiffEntry, anything: bool) {
        let path = entry.path.as_bytes();
        if anything {
            self.release_parents(path);
        }
        let is_dir = |side: &Option<Side>| {
            side.as_ref().is_some_and(|side| side.kind == FileKind::Directory)
        };
        let waits = match entry.change {
            Change::Added | Change::Deleted => is_dir(&entry.old) || is_dir(&entry.new),
            // A directory in the place of a file comes with the files in it; a file that takes the
            // place of a directory removes it.
            Change::TypeChanged => is_dir(&entry.new),
            Change::Modified | Change::ModeChanged => false,
        };
        if waits {
            self.release_parents(path);
            self.waiting.insert(path.to_vec());
        }
        if (!anything && !waits) || !mode_is_carried(entry) {
            self.left_out(path);
        }
    }

    /// True if some change beneath this path is not carried.
    pub(super) fn has_any_below(&self, path: &[u8]) -> bool {
        let inside = [path, b"/"].concat();
        let first = |set: &BTreeSet<Vec<u8>>| {
            set.range(inside.clone()..).next().is_some_and(|found| found.starts_with(&inside))
        };
        first(&self.paths) || first(&self.waiting)
    }

    /// Something that is not a directory stays at this path, so nothing can be put beneath it.
    pub(super) fn block(&mut self, path: &[u8]) {
        self.blocked.insert(path.to_vec());
    }

    /// The directory above this path that nothing can be put into, if there is one.
    pub(super) fn blocked_above<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        if self.blocked.is_empty() {
            return None;
        }
        parents(path).find(|parent| self.blocked.contains(*parent))
    }

    fn release_parents(&mut self, path: &[u8]) {
        for parent in parents(path) {
            self.waiting.remove(parent);
        }
    }

    /// All that is not carried, ordered by path bytes.
    pub(super) fn finish(mut self) -> Vec<BytePath> {
        self.paths.append(&mut self.waiting);
        self.paths.into_iter().map(BytePath::new).collect()
    }
}

/// The directories that lead to a path, the innermost first, without the root.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(path), |path| parent(path))
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|&byte| byte == b'/').map(|slash| &path[..slash])
}

/// True if the new side has the mode that git gives it. Git makes each file anew that it patches,
/// so even an unusual mode that did not change is lost.
fn mode_is_carried(entry: &DiffEntry) -> bool {
    entry.new.as_ref().is_none_or(|new| match new.kind {
        FileKind::Symlink => true,
        FileKind::Directory if entry.change == Change::ModeChanged => false,
        FileKind::Directory | FileKind::File => is_usual(new),
        _ => false,
    })
}

/// The modes that an umask of 022 or 002 leaves. Other umasks' modes look like intent.
fn is_usual(side: &Side) -> bool {
    match side.kind {
        FileKind::Directory => matches!(side.mode, 0o755 | 0o775),
        _ => matches!(side.mode, 0o644 | 0o664 | 0o755 | 0o775),
    }
}
