use pyro_contract::{
    diff::{Change, DiffEntry, FileKind},
    progress::{Progress, Report, Silent},
};

use super::{Changed, Detail, DiffOptions, Visitor, diff, diff_between, summarize};
use crate::{
    layer::{LayerError, Node, Result},
    mem::MemLayer,
};

fn options() -> DiffOptions {
    DiffOptions { detail: Detail::Lines, ..DiffOptions::default() }
}

fn entries(upper: &MemLayer, lower: &MemLayer) -> Vec<DiffEntry> {
    summarize(upper, lower, &options(), &Silent).unwrap().entries
}

/// `A d/f` for each change.
fn short(entries: &[DiffEntry]) -> Vec<String> {
    let letter = |change| match change {
        Change::Added => 'A',
        Change::Modified => 'M',
        Change::Deleted => 'D',
        Change::TypeChanged => 'T',
        Change::ModeChanged => 'm',
    };
    entries.iter().map(|entry| format!("{} {}", letter(entry.change), entry.path)).collect()
}

#[test]
fn every_kind_of_change_is_told() {
    let lower = MemLayer::new()
        .file("d/same", "same")
        .file("d/edited", "one\ntwo\n")
        .file("d/mode", "m")
        .file("gone/a/b", "b\n")
        .file("gone/c", "")
        .file("became-link", "x\n")
        .link("link", "old")
        .dir("chmodded", 0o755);
    let upper = MemLayer::new()
        .file("d/same", "same")
        .file("d/edited", "one\n2\n")
        .with("d/mode", FileKind::File, 0o755, "m")
        .whiteout("gone")
        .link("became-link", "x")
        .link("link", "new")
        .file("new/f", "f\n")
        .dir("chmodded", 0o700);
    let found = entries(&upper, &lower);
    assert_eq!(
        short(&found),
        [
            "T became-link",
            "m chmodded",
            "M d/edited",
            "m d/mode",
            "D gone",
            "D gone/a",
            "D gone/a/b",
            "D gone/c",
            "M link",
            "A new",
            "A new/f",
        ]
    );
    let edited = &found[2];
    assert_eq!((edited.insertions, edited.deletions, edited.binary), (Some(1), Some(1), false));
    let link = &found[8];
    assert_eq!(link.new.as_ref().unwrap().target.as_ref().unwrap().as_bytes(), b"new");
}

#[test]
fn rewriting_touching_or_chowning_is_no_change() {
    let lower = MemLayer::new().file("d/f", "same").link("l", "t");
    let mut upper = MemLayer::new().file("d/f", "same").link("l", "t");
    let node = upper.node("d/f");
    upper.meta_mut(node).mtime = 99;
    upper.meta_mut(node).uid = 99;
    let root = upper.node("");
    upper.meta_mut(root).mode = 0o700;
    assert!(entries(&upper, &lower).is_empty());
}

#[test]
fn paths_come_in_the_order_of_their_bytes() {
    let mut upper = MemLayer::new();
    for path in ["a/x", "a.b", "a-b/y", "a0", "a/x.y", "b", "a/x-/z"] {
        upper = upper.file(path, "");
    }
    let found = entries(&upper, &MemLayer::new());
    let paths: Vec<_> = found.iter().map(|entry| entry.path.clone()).collect();
    assert!(paths.is_sorted(), "{paths:?}");
    assert_eq!(paths.len(), 10);
}

#[test]
fn an_opaque_directory_is_compared_with_what_it_hides() {
    let lower = MemLayer::new().file("d/kept", "k").file("d/gone", "g").file("d/sub/x", "");
    let upper = MemLayer::new().opaque("d").file("d/kept", "k").file("d/new", "n");
    assert_eq!(short(&entries(&upper, &lower)), ["D d/gone", "A d/new", "D d/sub", "D d/sub/x"]);
}

#[test]
fn a_directory_and_a_file_may_take_each_others_place() {
    let lower = MemLayer::new().file("was-dir/f", "f").file("was-file", "x");
    let upper = MemLayer::new().file("was-dir", "now a file").file("was-file/g", "g");
    let found = entries(&upper, &lower);
    assert_eq!(short(&found), ["T was-dir", "D was-dir/f", "T was-file", "A was-file/g"]);
}

#[test]
fn a_hostile_upper_that_changes_nothing_is_no_change() {
    let lower = MemLayer::new().file("f", "f");
    let upper = MemLayer::new().whiteout("nothing").whiteout("d/e/nothing").opaque("o/p");
    assert_eq!(short(&entries(&upper, &lower)), ["A d", "A d/e", "A o", "A o/p"]);
}

#[test]
fn special_files_are_told_and_not_read() {
    let mut upper = MemLayer::new()
        .with("fifo", FileKind::Fifo, 0o644, "")
        .with("socket", FileKind::Socket, 0o755, "")
        .with("disk", FileKind::BlockDevice, 0o600, "")
        .with("tty", FileKind::CharDevice, 0o600, "");
    for path in ["disk", "tty"] {
        let node = upper.node(path);
        upper.meta_mut(node).rdev = (8, 1);
    }
    let found = entries(&upper, &MemLayer::new().file("fifo", "was a file"));
    assert_eq!(short(&found), ["A disk", "T fifo", "A socket", "A tty"]);
}

#[test]
fn a_directory_inside_of_itself_is_damage() {
    let mut upper = MemLayer::new().file("a/b/f", "");
    let above = upper.node("a");
    upper.put("a/b/again", above);
    let result = summarize(&upper, &MemLayer::new(), &options(), &Silent);
    assert!(matches!(result, Err(LayerError::Damaged { .. })), "{result:?}");
}

#[test]
fn a_directory_in_many_places_cannot_blow_up_the_walk() {
    // Each level holds the next one twice: 2^40 paths out of 40 directories.
    let mut upper = MemLayer::new().file("leaf/f", "");
    let mut inner = upper.node("leaf");
    for level in 0..40 {
        upper.put(format!("level{level}/x"), inner);
        upper.put(format!("level{level}/y"), inner);
        inner = upper.node(&format!("level{level}"));
    }
    let few = DiffOptions { max_names: 10_000, ..options() };
    let result = summarize(&upper, &MemLayer::new(), &few, &Silent);
    assert!(matches!(result, Err(LayerError::TooLarge(_))), "{result:?}");
}

#[test]
fn depth_is_bounded_without_using_up_the_stack() {
    let deep = |levels: usize| MemLayer::new().file(vec!["d"; levels].join("/") + "/f", "");
    assert!(summarize(&deep(1000), &MemLayer::new(), &options(), &Silent).is_ok());
    let result = summarize(&deep(100_000), &MemLayer::new(), &options(), &Silent);
    assert!(matches!(result, Err(LayerError::TooLarge(_))));
}

#[test]
fn a_file_shorter_than_it_claims_is_damage() {
    let mut upper = MemLayer::new().file("f", "short");
    let node = upper.node("f");
    upper.meta_mut(node).size = 1000;
    let result = summarize(&upper, &MemLayer::new(), &options(), &Silent);
    assert!(matches!(result, Err(LayerError::Damaged { .. })), "{result:?}");
}

#[test]
fn two_uppers_over_one_lower_are_compared_with_each_other() {
    let lower = MemLayer::new().file("base", "b").file("d/x", "x").file("d/y", "y");
    let old = MemLayer::new().file("added", "a").whiteout("d/x").file("base", "changed");
    let new = MemLayer::new().whiteout("d/y").file("base", "changed");
    let mut found = Vec::new();
    diff_between(&old, &new, &lower, &options(), &Silent, &mut |changed: Changed<'_>| {
        found.push(changed.entry);
        Ok(())
    })
    .unwrap();
    assert_eq!(short(&found), ["D added", "A d/x", "D d/y"]);
}

struct Emptied(Vec<String>);

impl Visitor for Emptied {
    fn changed(&mut self, _: Changed<'_>) -> Result<()> {
        Ok(())
    }

    fn emptied(&mut self, directory: pyro_contract::path::BytePath) -> Result<()> {
        self.0.push(directory.to_string());
        Ok(())
    }
}

#[test]
fn a_directory_that_lost_its_last_file_is_reported_emptied() {
    let lower =
        MemLayer::new().file("all/a", "").file("all/b", "").file("some/a", "").file("some/b", "");
    let upper =
        MemLayer::new().whiteout("all/a").whiteout("all/b").whiteout("some/a").whiteout("none/c");
    let mut emptied = Emptied(Vec::new());
    diff(&upper, &lower, &options(), &Silent, &mut emptied).unwrap();
    assert_eq!(emptied.0, ["all"]);
}

struct Impatient;

impl Progress for Impatient {
    fn report(&self, _: Report) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn the_user_can_interrupt() {
    let upper = MemLayer::new().file("f", "");
    let result = summarize(&upper, &MemLayer::new(), &options(), &Impatient);
    assert!(matches!(result, Err(LayerError::Cancelled)));
}

/// A lower layer that counts what is asked of it.
struct Counting<'a>(&'a MemLayer, std::sync::atomic::AtomicUsize);

impl crate::layer::Layer for Counting<'_> {
    fn root(&self) -> Node {
        self.0.root()
    }
    fn meta(&self, node: Node) -> Result<crate::layer::Meta> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.meta(node)
    }
    fn read_dir(&self, dir: Node) -> Result<Vec<crate::layer::Entry>> {
        // To tell whether a deletion emptied a directory, that one has to be listed.
        assert_eq!(dir, self.0.node("d9"), "no other directory of the lower layer is listed");
        self.0.read_dir(dir)
    }
    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.lookup(dir, name)
    }
    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.read_at(file, offset, buffer)
    }
    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        self.0.read_link(link)
    }
    fn is_opaque(&self, dir: Node) -> Result<bool> {
        self.0.is_opaque(dir)
    }
}

#[test]
fn the_cost_is_that_of_the_change_not_of_the_tree() {
    let mut lower = MemLayer::new();
    for n in 0..20_000 {
        lower = lower.file(format!("d{}/f{n}", n % 100), "x");
    }
    let upper = MemLayer::new().file("d7/f7", "y").file("d8/new", "").whiteout("d9/f9");
    let counting = Counting(&lower, std::sync::atomic::AtomicUsize::new(0));
    let found = summarize(&upper, &counting, &options(), &Silent).unwrap().entries;
    assert_eq!(short(&found), ["M d7/f7", "A d8/new", "D d9/f9"]);
    assert!(counting.1.into_inner() < 30);
}
