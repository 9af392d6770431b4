use pyro_contract::{
    diff::{Diff, FileKind},
    progress::Silent,
};

use super::write_patch;
use crate::{diff::DiffOptions, mem::MemLayer};

fn patch(upper: &MemLayer, lower: &MemLayer) -> (String, Diff) {
    let mut out = Vec::new();
    let diff = write_patch(upper, lower, &DiffOptions::default(), &Silent, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), diff)
}

fn not_in_patch(upper: &MemLayer, lower: &MemLayer) -> Vec<String> {
    patch(upper, lower).1.not_in_patch.iter().map(ToString::to_string).collect()
}

#[test]
fn a_patch_looks_as_git_would_write_it() {
    let lower = MemLayer::new()
        .file("edited", "one\ntwo\n")
        .file("gone", "")
        .file("link", "text\n")
        .file("tool", "#!\n");
    let upper = MemLayer::new()
        .file("edited", "one\n2\n")
        .whiteout("gone")
        .link("link", "edited")
        .with("tool", FileKind::File, 0o755, "#!\n")
        .file("two words", "x");
    let (patch, diff) = patch(&upper, &lower);
    // What `git diff --full-index --no-renames` prints of the same change.
    assert_eq!(
        patch,
        "\
diff --git a/edited b/edited
index 814f4a422927b82f5f8a43f8fab6d3839e3983f2..99b356dcd03dde0755c749bcd4cae4b2b73a8fa8 100644
--- a/edited
+++ b/edited
@@ -1,2 +1,2 @@
 one
-two
+2
diff --git a/gone b/gone
deleted file mode 100644
index e69de29bb2d1d6434b8b29ae775ad8c2e48c5391..0000000000000000000000000000000000000000
diff --git a/link b/link
deleted file mode 100644
index 8e27be7d6154a1f68ea9160ef0e18691d20560dc..0000000000000000000000000000000000000000
--- a/link
+++ /dev/null
@@ -1 +0,0 @@
-text
diff --git a/link b/link
new file mode 120000
index 0000000000000000000000000000000000000000..deb1bc2c60dc0eed5edb7e42cea94c7cb03c0050
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+edited
\\ No newline at end of file
diff --git a/tool b/tool
old mode 100644
new mode 100755
diff --git a/two words b/two words
new file mode 100644
index 0000000000000000000000000000000000000000..c1b0730e0133447badcfd47fd144e254807b06e1
--- /dev/null
+++ b/two words	
@@ -0,0 +1 @@
+x
\\ No newline at end of file
"
    );
    assert_eq!((diff.insertions, diff.deletions), (3, 2));
}

#[test]
fn what_git_cannot_carry_is_named() {
    let lower = MemLayer::new()
        .file("mode", "")
        .file("emptied/f", "")
        .dir("was-empty", 0o755)
        .dir("chmodded", 0o755);
    let upper = MemLayer::new()
        .file(".git/config", "")
        .file(".git/HEAD", "")
        .file("sub/.GIT/x", "")
        .with("fifo", FileKind::Fifo, 0o644, "")
        .with("in/fifo", FileKind::Fifo, 0o644, "")
        .with("mode", FileKind::File, 0o600, "")
        .with("setuid", FileKind::File, 0o4755, "x")
        .whiteout("emptied/f")
        .whiteout("was-empty")
        .dir("chmodded", 0o700)
        .dir("empty/inner", 0o755)
        .dir("carried", 0o755)
        .file("carried/f", "");
    assert_eq!(
        not_in_patch(&upper, &lower),
        [
            ".git",
            "chmodded",
            "emptied",
            "empty/inner",
            "fifo",
            "in/fifo",
            "mode",
            "setuid",
            "sub/.GIT",
            "was-empty",
        ]
    );
}

#[test]
fn a_directory_that_git_cannot_empty_is_not_replaced() {
    let lower = MemLayer::new().file("lib/.git/HEAD", "x\n").file("lib/code", "c\n");
    let upper = MemLayer::new().link("lib", "elsewhere");
    let (text, diff) = patch(&upper, &lower);
    assert!(!text.contains("new file mode"), "{text}");
    let left: Vec<_> = diff.not_in_patch.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["lib", "lib/.git"]);
}

#[test]
fn nothing_takes_the_place_of_what_git_cannot_remove() {
    let lower = MemLayer::new().with("fifo", FileKind::Fifo, 0o644, "");
    for upper in [MemLayer::new().file("fifo", "f"), MemLayer::new().file("fifo/inner", "f")] {
        let (text, diff) = patch(&upper, &lower);
        assert_eq!(text, "");
        assert_eq!(diff.not_in_patch[0].as_bytes(), b"fifo");
    }
}

#[test]
fn no_change_is_an_empty_patch() {
    let (text, diff) = patch(&MemLayer::new().file("f", "x"), &MemLayer::new().file("f", "x"));
    assert!(text.is_empty() && diff == Diff::default());
}
