//! Trees of the host in a workspace, and back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::Bench;
use crate::harness::{fill, is_root};

/// All of a tree that a sync carries: kind, mode, and content or target.
fn tree(at: &Path) -> BTreeMap<Vec<u8>, (char, u32, Vec<u8>)> {
    fn walk(at: &Path, prefix: &[u8], all: &mut BTreeMap<Vec<u8>, (char, u32, Vec<u8>)>) {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let name = [prefix, entry.file_name().as_bytes()].concat();
            let meta = entry.metadata().unwrap();
            let mode = meta.permissions().mode() & 0o1777;
            let kind = meta.file_type();
            if kind.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap().into_os_string().into_vec();
                all.insert(name, ('l', 0, target));
            } else if kind.is_dir() {
                walk(&entry.path(), &[&name[..], b"/"].concat(), all);
                all.insert(name, ('d', mode, Vec::new()));
            } else if kind.is_file() {
                all.insert(name, ('f', mode, fs::read(entry.path()).unwrap()));
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(at, b"", &mut all);
    all
}

fn odd_tree(at: &Path) {
    fill(at, &[("src/main.rs", "fn main() {}\n"), ("a b/ü\n", "odd"), ("deep/er/est/f", "x")]);
    fs::write(at.join(OsStr::from_bytes(b"\xff\xfe")), "bytes").unwrap();
    fs::create_dir_all(at.join("empty/inside")).unwrap();
    symlink("../nowhere", at.join("dangling")).unwrap();
    symlink("src", at.join("link")).unwrap();
    fs::write(at.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at.join("secret"), "s").unwrap();
    fs::set_permissions(at.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(at.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(at.join("tool"), at.join("same")).unwrap();
    fs::write(at.join("big"), (0..1_500_000_u32).map(|n| n as u8).collect::<Vec<_>>()).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::write(at.join("none"), "").unwrap();
}

pub(crate) fn a_tree_arrives_and_comes_back_the_same(bench: &Bench) {
    let host = bench.path("tree");
    odd_tree(&host);
    let output = std::process::Command::new("mkfifo").arg(host.join("pipe")).output().unwrap();
    assert!(output.status.success());
    bench.hand_over(&host);
    let id = bench.create(Vec::<&str>::new());
    let source = host.to_str().unwrap();
    let push = ["workspace", "sync", "push", &id, source];

    let dry = bench.json(push.iter().chain(&["--dry-run"]));
    assert_eq!((dry["dry_run"].as_bool(), bench.sh(&id, "ls -A").as_str()), (Some(true), ""));
    let first = bench.json(push);
    assert_eq!(first["sent"], dry["sent"]);
    assert_eq!(first["changes"], dry["changes"]);
    assert_eq!(first["skipped"][0]["path"], "pipe");
    let again = bench.json(push);
    assert_eq!((again["sent"].as_u64(), again["made"].as_u64()), (Some(0), Some(0)), "{again}");
    assert_eq!(
        again["unchanged"],
        first["sent"].as_u64().unwrap() + first["made"].as_u64().unwrap()
    );
    let owners =
        bench.sh(&id, "find . ! -user root -o ! -group root | wc -l; stat -c %a tool secret");
    assert_eq!(owners, "0\n755\n600\n");

    let back = bench.path("back");
    bench.ok(["workspace", "sync", "pull", &id, ".", back.to_str().unwrap()]);
    assert_eq!(tree(&back), tree(&host));
    if is_root() {
        assert!(fs::metadata(back.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
    }
    let nothing = bench.json(["workspace", "sync", "pull", &id, ".", back.to_str().unwrap()]);
    assert_eq!(
        (nothing["sent"].as_u64(), nothing["modes"].as_u64()),
        (Some(0), Some(0)),
        "{nothing}"
    );
    bench.ok(["workspace", "stop", &id]);
    let third = bench.path("third");
    bench.ok(["workspace", "sync", "pull", &id, "deep", third.to_str().unwrap()]);
    assert_eq!(fs::read(third.join("er/est/f")).unwrap(), b"x");
}

pub(crate) fn only_what_changed_is_sent_and_what_is_excluded_stays(bench: &Bench) {
    let host = bench.path("tree");
    fill(&host, &[("a", "1"), ("b", "2"), ("c/d", "3"), ("c/e.log", "l"), (".git/HEAD", "x")]);
    fill(&host, &[(".pyroignore", "/local\n"), ("c/.pyroignore", "*.log\n"), ("local", "mine")]);
    let id = bench.create(Vec::<&str>::new());
    let push = |more: &[&str]| {
        let fixed = ["workspace", "sync", "push", &id, host.to_str().unwrap(), "--dest", "in/here"];
        bench.json(fixed.iter().chain(more))
    };
    push(&[]);
    assert_eq!(
        bench.sh(&id, "cd in/here; find . -type f | sort"),
        "./.pyroignore\n./a\n./b\n./c/.pyroignore\n./c/d\n"
    );
    bench.sh(
        &id,
        "cd in/here; echo own > own; echo x > c/x.log; mkdir -p keep/me .git; echo g > .git/g; \
         echo o > keep/x.o; echo p > keep/me/p; echo gone > local",
    );
    fs::write(host.join("a"), "changed").unwrap();
    fs::remove_file(host.join("b")).unwrap();
    // The same size: only its bytes tell.
    fs::write(host.join("c/d"), "4").unwrap();
    let kept = push(&["--exclude", "*.o"]);
    assert_eq!((kept["sent"].as_u64(), kept["removed"].as_u64()), (Some(2), Some(0)), "{kept}");
    let dry = push(&["--exclude", "*.o", "--delete", "--dry-run"]);
    let cut = push(&["--exclude", "*.o", "--delete"]);
    assert_eq!(cut["changes"], dry["changes"]);
    assert_eq!(
        bench.sh(&id, "cd in/here; find . -type f | sort; cat a c/d"),
        "./.git/g\n./.pyroignore\n./a\n./c/.pyroignore\n./c/d\n./c/x.log\n./keep/x.o\n./local\nchanged4"
    );
    // Three files and a directory: b, own, keep/me and what is in it.
    assert_eq!(cut["removed"], 4, "{cut}");
}

pub(crate) fn an_edit_in_the_workspace_is_never_taken_for_unchanged(bench: &Bench) {
    let host = bench.path("tree");
    fill(&host, &[("quiet", "same"), ("sly", "1234"), ("mode", "m"), ("kind", "k"), ("gone", "g")]);
    fill(&host, &[("dir/f", "f")]);
    let id = bench.create(["--seed-path", host.to_str().unwrap()]);
    let push = ["workspace", "sync", "push", &id, host.to_str().unwrap()];
    let seeded = bench.json(push);
    assert_eq!(seeded["sent"], 0, "what the workspace was seeded with is not sent again: {seeded}");
    bench.sh(
        &id,
        "touch -r sly stamp; echo -n 4321 > sly; touch -r stamp sly; rm stamp; chmod 600 mode; \
         rm kind; ln -s quiet kind; rm gone; rm -r dir; echo file > dir",
    );
    let pushed = bench.json(push);
    assert_eq!(pushed["sent"], 4, "{pushed}");
    assert_eq!((pushed["modes"].as_u64(), pushed["made"].as_u64()), (Some(1), Some(1)), "{pushed}");
    let back = bench.path("back");
    bench.ok(["workspace", "sync", "pull", &id, ".", back.to_str().unwrap()]);
    assert_eq!(tree(&back), tree(&host));
    // A directory in the way of a file is more than a file: it goes only if that was asked for.
    bench.sh(&id, "rm quiet; mkdir quiet; echo own > quiet/own");
    let error = bench.error(push, 1);
    assert_eq!(error["code"], "unsafe_target", "{error}");
    bench.ok(push.iter().chain(&["--delete"]));
    assert_eq!(bench.sh(&id, "cat quiet"), "same");
}

pub(crate) fn a_pull_loses_nothing_of_the_hosts_unasked(bench: &Bench) {
    let host = bench.path("tree");
    fill(&host, &[("both", "1"), ("ours", "1"), ("theirs", "1"), ("gone", "1"), ("kept.o", "1")]);
    symlink("both", host.join("link")).unwrap();
    bench.hand_over(&host);
    let source = host.to_str().unwrap();
    let id = bench.create(Vec::<&str>::new());
    bench.ok(["workspace", "sync", "push", &id, source]);
    bench.sh(
        &id,
        "echo 2 > both; echo 2 > theirs; rm gone kept.o; ln -sf theirs link; echo n > new",
    );
    let before = tree(&host);
    fs::write(host.join("both"), "local edit").unwrap();
    fs::write(host.join("ours"), "local edit").unwrap();
    let pull = ["workspace", "sync", "pull", &id, ".", source];
    let edited = tree(&host);
    let error = bench.error(pull, 1);
    assert_eq!(error["code"], "conflict");
    let cause = error["cause"].as_str().unwrap();
    assert!(
        cause.contains("both") && cause.contains("ours") && !cause.contains("theirs"),
        "{cause}"
    );
    assert_eq!(tree(&host), edited, "nothing was written");

    // What was only changed in the workspace comes without a word.
    let kept = [&pull[..], &["--exclude", "both", "--exclude", "ours"]].concat();
    bench.ok(&kept);
    assert_eq!(fs::read_to_string(host.join("theirs")).unwrap(), "2\n");
    assert_eq!(fs::read_link(host.join("link")).unwrap(), Path::new("theirs"));
    assert!(host.join("gone").exists(), "without --delete");
    fs::write(host.join("never-synced"), "mine").unwrap();
    bench.hand_over(&host);
    let delete = [&kept[..], &["--delete", "--exclude", "*.o"]].concat();
    let error = bench.error(&delete, 1);
    assert!(error["cause"].as_str().unwrap().starts_with("never-synced"), "{error}");
    bench.ok([&delete[..], &["--force"]].concat());
    assert!(!host.join("gone").exists() && !host.join("never-synced").exists());
    assert!(host.join("kept.o").exists(), "what is excluded stays");
    bench.ok([&pull[..], &["--force"]].concat());
    assert_eq!(fs::read_to_string(host.join("both")).unwrap(), "2\n");
    assert_ne!(tree(&host), before);

    // A link of the host is not written through.
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    bench.sh(&id, "mkdir trap; echo x > trap/x");
    symlink(&outside, host.join("trap")).unwrap();
    assert_eq!(bench.error(pull, 1)["code"], "conflict");
    bench.ok([&pull[..], &["--force"]].concat());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(host.join("trap").symlink_metadata().unwrap().is_dir());
}
