use std::os::unix::fs::{PermissionsExt, symlink};

use pyro_contract::progress::{Report, Silent};

use super::*;
use crate::erofs::ErofsLayer;
use crate::testing::{Tree, survey};

struct Repo {
    temp: tempfile::TempDir,
}

impl Repo {
    fn new() -> Self {
        let repo = Self { temp: tempfile::tempdir().unwrap() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }

    fn git(&self, arguments: &[&str]) {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let safe = ["-c", "protocol.file.allow=always", "-c", "commit.gpgsign=false"];
        let mut command = Git::new(self.path(), String::new()).command(&[who, safe].concat());
        command.env("GIT_COMMITTER_DATE", "1234567890 +0000");
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Two commits; the first is tagged `first`.
    fn filled() -> Self {
        let repo = Self::new();
        let at = |name: &str| repo.path().join(name);
        std::fs::create_dir_all(at("src/deep")).unwrap();
        std::fs::write(at("src/deep/a.rs"), "fn a() {}\n").unwrap();
        std::fs::write(at("run"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink("src/deep", at("link")).unwrap();
        std::fs::write(at("hidden"), "$Format:%H$").unwrap();
        std::fs::write(at(".gitattributes"), "hidden export-ignore export-subst\n").unwrap();
        std::fs::write(at("odd \n\u{fc}"), vec![0; 300_000]).unwrap();
        std::fs::write(at("untracked"), "").unwrap();
        std::fs::write(at(".gitignore"), "untracked\n").unwrap();
        repo.git(&["add", "."]);
        repo.git(&["commit", "-q", "-m", "one"]);
        repo.git(&["tag", "-a", "first", "-m", "first"]);
        std::fs::write(at("second"), "2").unwrap();
        repo.git(&["add", "."]);
        repo.git(&["commit", "-q", "-m", "two"]);
        repo
    }
}

fn pack_text(text: &str) -> Result<(PackedCommit, Tree)> {
    let scratch = tempfile::tempdir().unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut writer = ErofsWriter::create(file.try_clone().unwrap())?;
    let packed = pack_git(&GitSeed::parse(text)?, scratch.path(), &mut writer, &Silent)?;
    writer.finish()?;
    Ok((packed, survey(&ErofsLayer::from_file(file)?)))
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

const FIRST: [&str; 9] = [
    "",
    ".gitattributes",
    ".gitignore",
    "hidden",
    "link",
    "odd \n\u{fc}",
    "run",
    "src",
    "src/deep",
];

#[test]
fn tracked_files_are_packed_as_they_were_committed() {
    let repo = Repo::filled();
    std::fs::write(repo.path().join("run"), "changed since").unwrap();
    let inside = repo.path().join("src");
    let here = repo.path().display();
    for text in
        [format!("{here}#first"), format!("{here}#HEAD~1"), format!("{}#first", inside.display())]
    {
        let (packed, tree) = pack_text(&text).unwrap();
        let expected = [&FIRST[..], &["src/deep/a.rs"]].concat();
        assert_eq!(paths(&tree), expected);
        assert_eq!(tree[&b"run"[..]].content, b"#!/bin/sh\n");
        assert_eq!((tree[&b"run"[..]].meta.mode, tree[&b"hidden"[..]].meta.mode), (0o755, 0o644));
        assert_eq!(tree[&b"hidden"[..]].content, b"$Format:%H$");
        assert_eq!(tree[&b"link"[..]].content, b"src/deep");
        assert!(tree.values().all(|seen| seen.meta.mtime == 1_234_567_890));
        assert_eq!((packed.commit.len(), packed.report.entries), (40, 7));
    }
    let (_, tree) = pack_text(&here.to_string()).unwrap();
    assert!(tree.contains_key(&b"second"[..]));
}

#[test]
fn a_remote_repository_is_fetched_without_its_history() {
    let repo = Repo::filled();
    let url = format!("file://{}", repo.path().display());
    let (_, tree) = pack_text(&url).unwrap();
    assert!(tree.contains_key(&b"second"[..]));
    let (tagged, tree) = pack_text(&format!("{url}#first")).unwrap();
    assert!(!tree.contains_key(&b"second"[..]));
    assert_eq!(tagged, pack_text(&format!("{}#first", repo.path().display())).unwrap().0);
}

#[test]
fn submodules_are_left_empty_and_told() {
    let (inner, outer) = (Repo::filled(), Repo::filled());
    let url = inner.path().display().to_string();
    outer.git(&["submodule", "--quiet", "add", &url, "sub"]);
    outer.git(&["commit", "-q", "-m", "sub"]);
    let (packed, tree) = pack_text(&outer.path().display().to_string()).unwrap();
    assert!(tree.contains_key(&b"sub"[..]) && !tree.contains_key(&b"sub/run"[..]));
    assert_eq!(packed.report.skipped[0].path.as_bytes(), b"sub");
}

#[test]
fn what_git_refuses_is_said_with_a_hint() {
    let (filled, empty, none) = (Repo::filled(), Repo::new(), tempfile::tempdir().unwrap());
    let at = |path: &Path, rest: &str| format!("{}{rest}", path.display());
    for (text, wanted, hinted) in [
        (at(none.path(), ""), "not a git repository", "--seed-path"),
        (at(none.path(), "/missing"), "No such file", "--seed-path"),
        (at(empty.path(), ""), "no commit yet", "commit something"),
        (at(filled.path(), "#nothing"), "no commit named nothing", "git branch -a"),
        (at(filled.path(), "#--output=x"), "not the name of a commit", "#BRANCH"),
        (at(filled.path(), "#"), "not the name of a commit", "#BRANCH"),
        ("--upload-pack=x://y".to_owned(), "does not name a repository", "URL"),
        (format!("file://{}#nothing", filled.path().display()), "remote ref nothing", "ls-remote"),
        (format!("file://{}#a:b", filled.path().display()), "not a branch", "#BRANCH"),
        (format!("file://{}", none.path().display()), "", "git"),
        (String::new(), "does not name", "PATH"),
    ] {
        match pack_text(&text) {
            Err(LayerError::Seed { reason, hint, .. }) => {
                assert!(
                    reason.contains(wanted) && hint.contains(hinted),
                    "{text}: {reason}; {hint}"
                );
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// Cancelled from the start.
struct Impatient;

impl Progress for Impatient {
    fn report(&self, _: Report) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn packing_ends_when_the_user_has_had_enough() {
    let repo = Repo::filled();
    for text in [repo.path().display().to_string(), format!("file://{}", repo.path().display())] {
        let scratch = tempfile::tempdir().unwrap();
        let mut writer = ErofsWriter::create(tempfile::tempfile().unwrap()).unwrap();
        let seed = GitSeed::parse(&text).unwrap();
        let result = pack_git(&seed, scratch.path(), &mut writer, &Impatient);
        assert!(matches!(result, Err(LayerError::Cancelled)), "{result:?}");
    }
}

#[test]
fn urls_and_paths_are_told_apart() {
    let remote =
        |text: &str| matches!(GitSeed::parse(text).unwrap().repository, Repository::Remote(_));
    assert!(remote("https://example.org/x.git#v1"));
    assert!(remote("git@example.org:x.git"));
    assert!(!remote("./a:b") && !remote("/srv/x.git#main") && !remote("."));
    let shown = GitSeed::parse("https://me:secret@example.org/x").unwrap().shown();
    assert_eq!(shown, "https://example.org/x");
}

#[test]
fn lines_that_make_no_sense_are_not_taken() {
    let id = "a".repeat(40);
    let line = format!("100644 blob {id}\tname with\ttab");
    let tracked = Tracked::parse(line.as_bytes()).unwrap();
    assert_eq!(tracked.path, b"name with\ttab");
    assert_eq!(Tracked::parse(b"100644 blob --option\tx"), None);
    assert_eq!(Tracked::parse(b"040000 tree aaaa\tx"), None);
    assert_eq!(Tracked::parse(b"100644 blob"), None);
}
