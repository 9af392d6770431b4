//! Trees as plain values, compared without any of the code under test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{
        ffi::OsStringExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
};

use pyro_contract::{
    diff::{Change, Diff, FileKind},
    path::BytePath,
};
use rustix::fs::FileType;

use crate::mem::MemLayer;

/// Everything about a path that a diff may speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thing {
    kind: FileKind,
    mode: u16,
    content: Vec<u8>,
}

/// All paths of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<Vec<u8>, Thing>);

impl Tree {
    pub(super) fn read(root: &Path) -> Self {
        let mut things = BTreeMap::new();
        read_into(root, &[], &mut things);
        Self(things)
    }

    /// As an export leaves it.
    pub(super) fn without_setuid(&self) -> Self {
        let mut things = self.0.clone();
        things.values_mut().for_each(|thing| thing.mode &= 0o1777);
        Self(things)
    }

    /// What a diff must find between this tree and `new`, by looking at every path of both.
    pub(super) fn changes(&self, new: &Self) -> Vec<(BytePath, Change)> {
        let paths: BTreeSet<_> = self.0.keys().chain(new.0.keys()).collect();
        let change = |path: &Vec<u8>| match (self.0.get(path), new.0.get(path)) {
            (None, _) => Some(Change::Added),
            (_, None) => Some(Change::Deleted),
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) if old.kind != new.kind => Some(Change::TypeChanged),
            (Some(old), Some(new)) if old.content != new.content => Some(Change::Modified),
            _ => Some(Change::ModeChanged),
        };
        paths
            .into_iter()
            .filter_map(|path| Some((BytePath::new(path.clone()), change(path)?)))
            .collect()
    }
}

fn read_into(dir: &Path, prefix: &[u8], things: &mut BTreeMap<Vec<u8>, Thing>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, &entry.file_name().into_vec()].concat();
        let stat = entry.path().symlink_metadata().unwrap();
        let kind = kind_of(stat.mode());
        let content = match kind {
            FileKind::File => fs::read(entry.path()).unwrap(),
            FileKind::Symlink => fs::read_link(entry.path()).unwrap().into_os_string().into_vec(),
            FileKind::Directory => {
                read_into(&entry.path(), &[&path[..], b"/"].concat(), things);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let mode = (stat.permissions().mode() & 0o7777) as u16;
        things.insert(path, Thing { kind, mode, content });
    }
}

fn kind_of(mode: u32) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

/// What a diff found, in the words of [`Tree::changes`].
pub(super) fn short(diff: &Diff) -> Vec<(BytePath, Change)> {
    diff.entries.iter().map(|entry| (entry.path.clone(), entry.change)).collect()
}

/// Asserts that both trees are the same but for what is named in `not_in_patch`, and that those
/// names are excuses only for what git really cannot do. On the way back from
/// `reverse_of` fewer modes survive: a file of mode 0600 comes back with 0644, and one that was
/// deleted comes back as a plain file, without its executable bit, and even if it was a link: so
/// git before 2.48 reverses its own patches.
pub(super) fn assert_same(
    got: &Tree,
    want: &Tree,
    not_in_patch: &[BytePath],
    reverse_of: Option<&Tree>,
    told: &dyn Fn() -> String,
) {
    let named: BTreeSet<&[u8]> = not_in_patch.iter().map(BytePath::as_bytes).collect();
    let above: BTreeSet<&[u8]> = named.iter().flat_map(|path| parents(path)).collect();
    for (path, change) in got.changes(want) {
        let path = path.as_bytes();
        let (got, want) = (got.0.get(path), want.0.get(path));
        let kinds = [got, want].map(|side| side.map(|thing| thing.kind));
        let is_special =
            |kind: &Option<FileKind>| matches!(kind, Some(FileKind::Fifo | FileKind::Socket));
        let blocked =
            |path: &[u8]| named.contains(path) && path.windows(11).any(|it| it == b".gitmodules");
        let excused = if parents(path).into_iter().any(blocked) {
            true
        } else if path.split(|&byte| byte == b'/').any(|name| name == b".git") {
            parents_and_self(path).iter().any(|path| named.contains(path))
        } else if kinds.iter().any(is_special)
            || (kinds.contains(&Some(FileKind::Symlink))
                && path.windows(11).any(|it| it == b".gitmodules"))
        {
            // The latter: git has no links at or below that name, and so nothing in their place.
            named.contains(path)
        } else if kinds.iter().flatten().all(|kind| *kind == FileKind::Directory) {
            // An empty directory, or the mode of one.
            let modes = [got, want].map(|side| side.map_or(0, |thing| thing.mode));
            modes == [0o755, 0o775] || named.contains(path) || above.contains(path)
        } else if kinds[0] == Some(FileKind::Directory) && above.contains(path) {
            // Something took the place of a directory, but git cannot empty that.
            named.contains(path)
        } else if let Some(from) = reverse_of
            && from.0.get(path).map(|thing| thing.kind) != kinds[1]
        {
            got.map(|thing| &thing.content) == want.map(|thing| &thing.content)
        } else if change == Change::ModeChanged {
            let (got, want) = (got.unwrap().mode, want.unwrap().mode);
            let same_bit = (got ^ want) & 0o100 == 0;
            let usual = matches!((got, want), (0o644, 0o664) | (0o755, 0o775));
            same_bit && (reverse_of.is_some() || usual || named.contains(path))
        } else {
            false
        };
        let modes = [got, want].map(|side| side.map_or(0, |thing| thing.mode));
        assert!(excused, "{change:?} {} {modes:?}\n{}", BytePath::new(path), told());
    }
}

fn parents(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at]).collect()
}

fn parents_and_self(path: &[u8]) -> Vec<&[u8]> {
    let mut all = parents(path);
    all.push(path);
    all
}

/// Copies files, links and directories with their modes.
pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let stat = from.symlink_metadata().unwrap();
        if stat.is_symlink() {
            symlink(fs::read_link(&from).unwrap(), &to).unwrap();
        } else if stat.is_dir() {
            copy_tree(&from, &to);
            fs::set_permissions(&to, stat.permissions()).unwrap();
        } else if stat.is_file() {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// The upper layer that overlayfs could have left.
pub(super) fn made_up_upper(old: &Tree, new: &Tree) -> MemLayer {
    let mut upper = MemLayer::new();
    for (path, thing) in &new.0 {
        if thing.kind == FileKind::Directory {
            upper = upper.dir(path, thing.mode);
            if old.0.get(path).is_some_and(|old| old.kind != FileKind::Directory) {
                upper = upper.opaque(path);
            }
        } else if old.0.get(path) != Some(thing) {
            upper = upper.with(path, thing.kind, thing.mode, &thing.content);
        }
    }
    for path in old.0.keys().filter(|path| !new.0.contains_key(*path)) {
        let parent = parents(path).pop();
        let is_dir = |path: &[u8]| new.0.get(path).is_some_and(|it| it.kind == FileKind::Directory);
        if parent.is_none_or(is_dir) {
            upper = upper.whiteout(path);
        }
    }
    upper
}
