use super::*;
use pyro_contract::diff::Change;

const OPTIONS: ApplyOptions = ApplyOptions { fuzz: 0, max_bytes: 1 << 20 };

fn blob(content: &str) -> Before {
    Before::Blob(Blob { is_link: false, mode: 0o644, content: content.as_bytes().to_vec() })
}

fn tree(files: &[(&str, &str)]) -> BTreeMap<Vec<u8>, Before> {
    files.iter().map(|(path, content)| (path.as_bytes().to_vec(), blob(content))).collect()
}

fn apply(patch: &str, files: &[(&str, &str)], fuzz: u32) -> Result<Vec<Patched>, Vec<Misfit>> {
    let patch = parse(patch.as_bytes(), None).unwrap();
    patch.apply(&tree(files), &ApplyOptions { fuzz, ..OPTIONS }).unwrap()
}

fn content(patched: &[Patched], path: &str) -> Option<String> {
    let file = patched.iter().find(|file| file.path == path.as_bytes())?;
    Some(String::from_utf8(file.after.clone()?.content).unwrap())
}

#[test]
fn a_plain_diff_needs_no_prefixes() {
    let patch = "--- f.orig\t2020-01-01\n+++ f\t2020-01-02\n@@ -1 +1 @@\n-a\n+b\n";
    let patched = apply(patch, &[("f", "a\n")], 0).unwrap();
    assert_eq!(content(&patched, "f").unwrap(), "b\n");
}

#[test]
fn ends_of_lines_and_of_files_are_kept() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\r\n-two\n\\ No newline at end of file\n\
                 +2\n\\ No newline at end of file\n";
    let patched = apply(patch, &[("f", "one\r\ntwo")], 0).unwrap();
    assert_eq!(content(&patched, "f").unwrap(), "one\r\n2");
    let misfit = apply(patch, &[("f", "one\ntwo")], 0).unwrap_err();
    let MisfitReason::Hunk { near: Some(near), .. } = &misfit[0].reason else { panic!() };
    assert!(near.only_white_space, "{near}");
}

#[test]
fn two_files_can_take_each_others_name() {
    let patch = "diff --git a/one b/two\nsimilarity index 100%\nrename from one\nrename to two\n\
                 diff --git a/two b/one\nsimilarity index 100%\nrename from two\nrename to one\n";
    let patched = apply(patch, &[("one", "1"), ("two", "2")], 0).unwrap();
    assert_eq!(content(&patched, "one").unwrap(), "2");
    assert_eq!(content(&patched, "two").unwrap(), "1");
}

#[test]
fn a_file_may_be_changed_twice_by_one_patch() {
    let patch = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-b\n+c\n";
    assert_eq!(content(&apply(patch, &[("f", "a\n")], 0).unwrap(), "f").unwrap(), "c\n");
}

#[test]
fn what_is_in_the_way_is_said_for_each_file() {
    let patch = "--- a/gone\n+++ b/gone\n@@ -1 +1 @@\n-a\n+b\n\
                 --- /dev/null\n+++ b/there\n@@ -0,0 +1 @@\n+x\n\
                 --- a/more\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n\
                 --- a/other\n+++ b/other\n@@ -7,3 +7,3 @@\n same\n-old\n+new\n same\n";
    let files = [("there", "y\n"), ("more", "a\nb\n"), ("other", "x\n")];
    let misfits = apply(patch, &files, 0).unwrap_err();
    let told: Vec<String> = misfits.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "there is no gone",
            "there exists already",
            "hunk 1 of more does not apply at line 1",
            "hunk 1 of other does not apply at line 7",
        ]
    );
}

#[test]
fn a_hunk_that_applies_elsewhere_says_where() {
    let patch = "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
    let shifted = [("f", "x\ny\na\nb\nc\n")];
    // At the beginning of a file is where the first line belongs.
    assert!(apply(patch, &shifted, 0).is_err());
    let patched = apply(patch, &shifted, 1).unwrap();
    assert_eq!(patched[0].moved_hunks[0].line, 3);
    let patch = patch.replace("-1,3 +1,3", "-2,3 +2,3");
    let patched = apply(&patch, &[("f", "x\ny\nz\na\nb\nc\nd\n")], 0).unwrap();
    assert_eq!(content(&patched, "f").unwrap(), "x\ny\nz\na\nB\nc\nd\n");
    let moved = &patched[0].moved_hunks[0];
    assert_eq!((moved.hunk, moved.expected_line, moved.line, moved.fuzz), (1, 2, 4, 0));
}

#[test]
fn context_that_differs_is_overlooked_only_if_that_is_asked() {
    let patch = "--- a/f\n+++ b/f\n@@ -2,5 +2,5 @@\n one\n two\n-x\n+y\n three\n four\n";
    let files = [("f", "0\nONE\ntwo\nx\nthree\nFOUR\n9\n")];
    assert!(apply(patch, &files, 0).is_err());
    let patched = apply(patch, &files, 1).unwrap();
    assert_eq!(content(&patched, "f").unwrap(), "0\nONE\ntwo\ny\nthree\nFOUR\n9\n");
    assert_eq!(patched[0].moved_hunks[0].fuzz, 1);
}

#[test]
fn no_path_leads_out_or_to_gits_own() {
    for path in
        ["../x", "/etc/passwd", "a/../../x", ".git/hooks/pre-commit", "sub/.GIT/config", "./x"]
    {
        let patch = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n");
        let error = parse(patch.as_bytes(), None).unwrap_err();
        assert!(matches!(error, PatchError::Forbidden { .. }), "{path}: {error:?}");
        let plain = patch.replace("+++ b/", "+++ ");
        assert!(parse(plain.as_bytes(), None).is_err(), "{path}");
    }
    let patch = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
    assert!(parse(patch, Some(2)).is_err(), "nothing is left of the path");
}

#[test]
fn a_mode_changes_for_those_who_may_read() {
    let patch = "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n";
    let patched = apply(patch, &[("f", "x")], 0).unwrap();
    assert_eq!(patched[0].change, Change::ModeChanged);
    assert_eq!(patched[0].after.as_ref().unwrap().mode, 0o755);
}

#[test]
fn what_no_patch_can_do_is_refused() {
    let binary = "diff --git a/f b/f\nindex 123..456 100644\nBinary files a/f and b/f differ\n";
    assert!(matches!(parse(binary.as_bytes(), None), Err(PatchError::Unsupported { .. })));
    let module = "diff --git a/m b/m\nnew file mode 160000\nindex 0000000..1234567\n--- /dev/null\n\
                  +++ b/m\n@@ -0,0 +1 @@\n+Subproject commit 1\n";
    assert!(matches!(parse(module.as_bytes(), None), Err(PatchError::Unsupported { .. })));
    for garbage in ["", "hello\n", "--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n a\n", "diff --git \n"] {
        assert!(parse(garbage.as_bytes(), None).is_err(), "{garbage:?}");
    }
}

/// 8 KiB of patch that would make 1 GiB.
#[test]
fn a_bomb_does_not_go_off() {
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write as _;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let deflated = encoder.finish().unwrap();
    let lines = crate::patch::base85::encode_for_test(&deflated);
    for size in [64 << 20, 100] {
        let patch = format!(
            "diff --git a/f b/f\nnew file mode 100644\nindex 0000000..1234567\nGIT binary patch\n\
             literal {size}\n{lines}\n\nliteral 0\nHcmV?d00001\n\n"
        );
        let parsed = parse(patch.as_bytes(), None).unwrap();
        assert!(parsed.apply(&BTreeMap::new(), &OPTIONS).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_parser_fall_over(text in "(diff --git a/[a-c] b/[a-c]\n|--- a/[a-c]\n|\\+\\+\\+ b/[a-c]\n|@@ -[0-9],[0-9] \\+[0-9] @@\n|[-+ ][a-c]\n|GIT binary patch\n|literal [0-9]\n|[A-Za-z][!-~]{0,10}\n|index [0-9a-f]{40}\\.\\.[0-9a-f]{40}\n|(old|new) mode 100(644|755)\n|rename (from|to) [a-c]\n|\n){0,20}") {
        if let Ok(patch) = parse(text.as_bytes(), None) {
            let _ = patch.apply(&tree(&[("a", "a\nb\nc\n"), ("b", "")]), &OPTIONS);
        }
    }
}
