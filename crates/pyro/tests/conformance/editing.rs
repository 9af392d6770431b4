//! Files and patches: what a coding agent does all day.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use serde_json::Value;

use crate::Bench;
use crate::harness::{fill, git};

/// `pyro workspace file VERB WS …`, as JSON.
fn file(bench: &Bench, verb: &str, id: &str, args: &[&str]) -> Value {
    bench.json([&["workspace", "file", verb, id], args].concat())
}

fn refused(bench: &Bench, verb: &str, id: &str, args: &[&str]) -> Value {
    bench.error([&["workspace", "file", verb, id], args].concat(), 1)
}

pub(crate) fn a_file_is_written_read_edited_moved_and_removed(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let written = file(bench, "write", &id, &["src/a.txt", "--content", "one\ntwo\nthree\n"]);
    assert_eq!(written["path"], "/workspace/src/a.txt");
    assert_eq!((&written["created"], &written["size"]), (&true.into(), &14.into()));
    assert_eq!(
        bench.sh(&id, "stat -c '%a %U' src/a.txt; cat src/a.txt"),
        "644 root\none\ntwo\nthree\n"
    );

    let read = file(bench, "read", &id, &["src/a.txt", "--lines", "2:3"]);
    assert_eq!(read["content"], "two\nthree\n");
    assert_eq!((&read["offset"], &read["total_lines"]), (&4.into(), &3.into()));
    assert_eq!(read["sha256"], written["sha256"]);
    assert_eq!(bench.ok(["workspace", "file", "read", &id, "src/a.txt", "--lines", "2"]), "two\n");
    let cut = file(bench, "read", &id, &["src/a.txt", "--max-bytes", "5"]);
    assert_eq!((&cut["content"], &cut["next_offset"]), (&"one\nt".into(), &5.into()));
    let lines = file(bench, "read", &id, &["src/a.txt", "--lines", "1:3", "--max-bytes", "9"]);
    assert_eq!((&lines["content"], &lines["next_line"]), (&"one\ntwo\n".into(), &3.into()));

    bench.sh(&id, "chmod 750 src/a.txt; chown 5:6 src/a.txt");
    let edited = file(bench, "edit", &id, &["src/a.txt", "--old", "two", "--new", "2"]);
    assert_eq!((&edited["line"], &edited["replacements"]), (&2.into(), &1.into()));
    assert_eq!(
        bench.sh(&id, "stat -c '%a %u %g' src/a.txt; cat src/a.txt"),
        "750 5 6\none\n2\nthree\n"
    );
    let absent = refused(bench, "edit", &id, &["src/a.txt", "--old", "o ne\n2", "--new", ""]);
    assert_eq!(absent["code"], "conflict");
    assert!(absent["cause"].as_str().unwrap().contains("line 1"), "{absent}");

    file(bench, "move", &id, &["src/a.txt", "deep/er/b.txt"]);
    assert_eq!(refused(bench, "stat", &id, &["src/a.txt"])["code"], "not_found");
    file(bench, "write", &id, &["c.txt", "--content", "c"]);
    assert_eq!(refused(bench, "move", &id, &["c.txt", "deep/er/b.txt"])["code"], "conflict");
    file(bench, "move", &id, &["c.txt", "deep/er/b.txt", "--force"]);
    file(bench, "move", &id, &["deep", "moved"]);
    assert_eq!(bench.sh(&id, "cat moved/er/b.txt; ls"), "cmoved\nsrc\n");
    assert_eq!(refused(bench, "remove", &id, &["moved"])["code"], "conflict");
    file(bench, "remove", &id, &["moved", "--recursive"]);
    assert_eq!(file(bench, "remove", &id, &["moved", "--missing-ok"])["removed"], false);
    assert_eq!(bench.sh(&id, "ls -A"), "src\n");

    // The same in a directory that came with the seed, which overlayfs cannot rename.
    let seed = bench.path("seed");
    fill(&seed, &[("dir/a", "a"), ("dir/sub/b", "b")]);
    let id = bench.create(["--seed-path", seed.to_str().unwrap()]);
    file(bench, "move", &id, &["dir", "other/place"]);
    assert_eq!(
        bench.sh(&id, "find . -type f | sort; cat other/place/sub/b"),
        "./other/place/a\n./other/place/sub/b\nb"
    );
    let diff = bench.ok(["workspace", "diff", &id, "--name-only"]);
    assert!(!diff.contains("pyro"), "{diff}");
}

pub(crate) fn what_has_changed_since_it_was_read_is_not_overwritten(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let sum = file(bench, "write", &id, &["f", "--content", "mine"])["sha256"].clone();
    let sum = sum.as_str().unwrap();
    bench.sh(&id, "echo theirs > f");
    for (verb, args) in [
        ("write", &["f", "--content", "new", "--expected-sha256", sum][..]),
        ("edit", &["f", "--old", "theirs", "--new", "new", "--expected-sha256", sum]),
        ("remove", &["f", "--expected-sha256", sum]),
        ("write", &["f", "--content", "new", "--create-only"]),
    ] {
        let error = refused(bench, verb, &id, args);
        assert_eq!(error["code"], "conflict", "{error}");
        assert!(error["hint"].as_str().unwrap().contains("read"), "{error}");
    }
    assert_eq!(bench.sh(&id, "cat f"), "theirs\n");
    let now = file(bench, "stat", &id, &["f"])["sha256"].clone();
    file(
        bench,
        "write",
        &id,
        &["f", "--content", "new", "--expected-sha256", now.as_str().unwrap()],
    );
    assert_eq!(bench.sh(&id, "cat f; ls -A"), "newf\n");
}

pub(crate) fn names_and_content_of_any_bytes_come_back(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let names: [&[u8]; 5] =
        ["ünï cödé".as_bytes(), b"two  words", b"new\nline", b"\xff\xfe", b"-dash"];
    let content: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    fs::write(bench.path("content"), &content).unwrap();
    for name in names {
        let args = ["workspace", "file", "write", &id, "--"].map(OsStr::new);
        let status = bench
            .command(args.into_iter().chain([OsStr::from_bytes(name)]))
            .stdin(fs::File::open(bench.path("content")).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
        let args = ["workspace", "file", "read", &id, "--"].map(OsStr::new);
        let output = bench.output(args.into_iter().chain([OsStr::from_bytes(name)]));
        assert!(output.stdout == content, "{}", name.escape_ascii());
    }
    let list = file(bench, "list", &id, &[]);
    let entries = list["entries"].as_array().unwrap();
    assert_eq!(entries.len(), names.len());
    assert!(entries.iter().any(|entry| entry["path_base64"] == "//4="), "{entries:?}");
    assert!(entries.iter().all(|entry| entry["size"] == 70_000));
    let read = file(bench, "read", &id, &["two  words"]);
    assert_eq!(read["encoding"], "base64");
    file(bench, "write", &id, &["b", "--content", "AP8=", "--encoding", "base64"]);
    assert_eq!(bench.sh(&id, "od -An -tx1 b"), " 00 ff\n");
}

pub(crate) fn links_and_special_files_lead_nowhere(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(
        &id,
        "ln -s /etc out; ln -s /etc/passwd passwd; ln -s loop loop; mkdir real; ln -s real inside; \
         mkfifo pipe; echo in > real/f; mkdir -p /other; echo x > /other/f; ln -s nowhere dangling; \
         ln -s /proc/self/root/etc/hostname magic",
    );
    for path in ["passwd", "out/passwd", "magic"] {
        let error = refused(bench, "read", &id, &[path]);
        assert_eq!(error["code"], "unsafe_target", "{path}: {error}");
        let error = refused(bench, "write", &id, &[path, "--content", "x"]);
        assert_eq!(error["code"], "unsafe_target", "{path}: {error}");
    }
    for path in ["../etc/passwd", "real/../../etc/passwd", "/workspace/../etc/passwd"] {
        assert_eq!(refused(bench, "read", &id, &[path])["code"], "invalid_argument");
    }
    assert_eq!(refused(bench, "list", &id, &["out"])["code"], "unsafe_target");
    assert_eq!(file(bench, "read", &id, &["inside/f"])["content"], "in\n");
    assert!(bench.ok(["workspace", "file", "read", &id, "/etc/passwd"]).contains("root:"));
    // None of these waits for anybody, or for ever.
    for path in ["pipe", "/dev/zero", "/dev/console", "real", "loop", "dangling"] {
        let error = refused(bench, "read", &id, &[path]);
        assert!(error["code"] != "timeout" && error["code"] != "internal", "{path}: {error}");
    }
    assert_eq!(file(bench, "stat", &id, &["pipe"])["type"], "fifo");
    assert_eq!(
        refused(bench, "write", &id, &["pipe", "--content", "x"])["code"],
        "invalid_argument"
    );
    assert_eq!(file(bench, "stat", &id, &["passwd"])["target"]["path"], "/etc/passwd");
    // The link is removed, not what it leads to; and nothing is removed through one.
    file(bench, "remove", &id, &["passwd"]);
    assert_eq!(refused(bench, "remove", &id, &["out/passwd"])["code"], "unsafe_target");
    bench.sh(&id, "test -s /etc/passwd");
    for path in ["/", "/workspace", "/proc", "."] {
        let error = refused(bench, "remove", &id, &[path, "--recursive"]);
        assert!(
            error["code"] == "permission_denied" || error["code"] == "invalid_argument",
            "{error}"
        );
    }
    // What user code puts where transactions are made ready is neither followed nor shown.
    bench.sh(&id, "mkdir -p .pyro-transaction/1; printf '\\005\\012\\001x\\020\\001' > .pyro-transaction/1/commit; echo x > x");
    file(bench, "write", &id, &["y", "--content", "y"]);
    assert_eq!(bench.sh(&id, "cat x y; ls -A | grep pyro || true"), "x\ny");
}

pub(crate) fn a_giant_sparse_file_is_read_in_parts(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(&id, "truncate -s 1G big; printf end >> big");
    let part = file(bench, "read", &id, &["big", "--offset", "1073741822", "--max-bytes", "100"]);
    assert_eq!((&part["content"], &part["bytes"]), (&"\0\0end".into(), &5.into()));
    assert_eq!((&part["size"], &part["truncated"]), (&1_073_741_827_u64.into(), &false.into()));
    assert!(part["sha256"].is_null());
    let first = file(bench, "read", &id, &["big", "--max-bytes", "4194304"]);
    assert_eq!((&first["bytes"], &first["next_offset"]), (&4_194_304.into(), &4_194_304.into()));
    assert_eq!(
        refused(bench, "read", &id, &["big", "--max-bytes", "4194305"])["code"],
        "invalid_argument"
    );
    assert_eq!(
        refused(bench, "edit", &id, &["big", "--old", "end", "--new", "x"])["code"],
        "too_large"
    );
}

pub(crate) fn lists_are_filtered_bounded_and_continued(bench: &Bench) {
    let seed = bench.path("seed");
    fill(
        &seed,
        &[
            (".gitignore", "target/\n*.log\n!keep.log\n"),
            ("src/main.rs", ""),
            ("src/deep/lib.rs", ""),
            ("src/.gitignore", "*.tmp\n"),
            ("src/x.tmp", ""),
            ("target/out.rs", ""),
            ("a.log", ""),
            ("keep.log", ""),
            ("src.txt", ""),
        ],
    );
    let id = bench.create(["--seed-path", seed.to_str().unwrap()]);
    let paths = |args: &[&str]| -> Vec<String> {
        let mut args = args.to_vec();
        let mut found = Vec::new();
        let mut token: String;
        loop {
            let page = file(bench, "list", &id, &args);
            let entries = page["entries"].as_array().unwrap();
            found.extend(entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()));
            let Some(next) = page["continuation"].as_str() else { return found };
            token = next.to_owned();
            args.truncate(
                args.iter().position(|arg| *arg == "--continuation").unwrap_or(args.len()),
            );
            args.push("--continuation");
            args.push(Box::leak(token.into_boxed_str()));
        }
    };
    assert_eq!(
        paths(&["--recursive", "--glob", "*.rs"]),
        ["src/deep/lib.rs", "src/main.rs", "target/out.rs"]
    );
    let all = [
        ".gitignore",
        "keep.log",
        "src",
        "src/.gitignore",
        "src/deep",
        "src/deep/lib.rs",
        "src/main.rs",
        "src.txt",
    ];
    assert_eq!(paths(&["--recursive", "--gitignore"]), all);
    for limit in ["1", "2", "3", "5"] {
        assert_eq!(paths(&["--recursive", "--gitignore", "--limit", limit]), all, "{limit}");
    }
    assert_eq!(
        paths(&["src", "--recursive", "--gitignore", "--limit", "1"]),
        [".gitignore", "deep", "deep/lib.rs", "main.rs"]
    );
    assert_eq!(paths(&["--glob", "src/**"]), Vec::<String>::new(), "not recursive");
    bench.sh(&id, "mkdir many; cd many; seq 1500 | xargs touch");
    assert_eq!(file(bench, "list", &id, &["many"])["entries"].as_array().unwrap().len(), 1000);
    assert_eq!(paths(&["many", "--limit", "700"]).len(), 1500);
    assert_eq!(refused(bench, "list", &id, &["src/main.rs"])["code"], "invalid_argument");
    assert_eq!(refused(bench, "list", &id, &["--glob", "["])["code"], "invalid_argument");
}

fn apply(bench: &Bench, id: &str, patch: &[u8], args: &[&str]) -> std::process::Output {
    fs::write(bench.path("patch"), patch).unwrap();
    let path = bench.path("patch");
    let fixed =
        ["--json", "workspace", "patch", "apply", id, "--patch-file", path.to_str().unwrap()];
    bench.output([&fixed[..], args].concat())
}

pub(crate) fn a_patch_of_everything_applies_or_nothing_of_it(bench: &Bench) {
    let seed = bench.path("seed");
    fill(
        &seed,
        &[
            ("edit", "1\n2\n3\n4\n5\n"),
            ("dir/gone", "g"),
            ("dir/name", "name\n"),
            ("mode", "m"),
            ("crlf", "a\r\nb\r\n"),
        ],
    );
    fs::write(seed.join("binary"), [0, 1, 2, 255]).unwrap();
    std::os::unix::fs::symlink("edit", seed.join("link")).unwrap();
    let id = bench.create(["--seed-path", seed.to_str().unwrap()]);
    let changed = bench.path("changed");
    assert!(Command::new("cp").arg("-a").args([&seed, &changed]).status().unwrap().success());
    git(&changed, &["init", "-q"]);
    git(&changed, &["add", "."]);
    git(&changed, &["commit", "-qm", "seed"]);
    let script = "sed -i s/3/three/ edit; rm dir/gone; git mv dir/name 'nä me'; chmod 755 mode; \
                  printf '\\0\\377\\0' > binary; ln -sfn mode link; printf 'a\\r\\nB' > crlf; \
                  rmdir dir; mkdir -p new/dir; echo n > new/dir/file; git add -A";
    assert!(
        Command::new("sh").args(["-ec", script]).current_dir(&changed).status().unwrap().success()
    );
    let patch = git(&changed, &["diff", "--cached", "--binary", "-M"]).into_bytes();

    let output = apply(bench, &id, &patch, &["--dry-run"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(bench.ok(["workspace", "diff", &id]), "", "only checked");

    // One file that has drifted keeps the whole patch out.
    bench.sh(&id, "sed -i s/2/two/ edit");
    let output = apply(bench, &id, &patch, &[]);
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "conflict", "{error}");
    let told = error["error"].to_string();
    assert!(told.contains("hunk 1 of edit") && told.contains("`two` instead of `2`"), "{told}");
    assert_eq!(bench.ok(["workspace", "diff", &id, "--name-only"]), "edit\n");
    bench.sh(&id, "sed -i s/two/2/ edit");

    let output = apply(bench, &id, &patch, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    fs::remove_dir_all(changed.join(".git")).unwrap();
    let tree = bench.path("tree");
    bench.ok(["workspace", "export", &id, ".", "--output", tree.to_str().unwrap()]);
    let same = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([&changed, &tree])
        .output()
        .unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    assert_eq!(bench.sh(&id, "stat -c %a mode; test -e dir || echo no dir"), "755\nno dir\n");
    let output = apply(bench, &id, &patch, &[]);
    assert!(!output.status.success(), "a patch does not apply twice");
}

pub(crate) fn a_patch_stays_in_its_directory(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(&id, "mkdir sub; echo a > sub/f; ln -s /etc out; ln -s sub inner; echo a > /etc/f");
    let edit =
        |path: &str| format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n").into_bytes();
    for path in ["../etc/f", "/etc/f", "out/f", "inner/f", ".git/config"] {
        let output = apply(bench, &id, &edit(path), &[]);
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["code"], "unsafe_target", "{path}: {error}");
    }
    assert_eq!(bench.sh(&id, "cat /etc/f sub/f"), "a\na\n");
    for (patch, args) in [
        (edit("f"), &["--directory", "sub"][..]),
        (edit("f"), &["--directory", "/workspace/sub"]),
        (edit("very/deep/sub/f"), &[]),
        (edit("x/sub/f"), &["-p", "2"]),
    ] {
        bench.sh(&id, "echo a > sub/f");
        let output = apply(bench, &id, &patch, args);
        assert!(output.status.success(), "{args:?} {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(bench.sh(&id, "cat sub/f"), "b\n");
    }
}

pub(crate) fn what_is_protected_or_mounted_is_not_changed(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let protect = "echo x > fixed; echo y > free; mkdir d; echo z > d/f; chattr +i fixed d/f 2>/dev/null && echo done || true";
    if bench.sh(&id, protect) != "done\n" {
        return;
    }
    assert_eq!(
        refused(bench, "write", &id, &["fixed", "--content", "n"])["code"],
        "permission_denied"
    );
    assert_eq!(refused(bench, "remove", &id, &["d", "--recursive"])["code"], "permission_denied");
    let patch = b"--- a/free\n+++ b/free\n@@ -1 +1 @@\n-y\n+n\n--- a/fixed\n+++ b/fixed\n@@ -1 +1 @@\n-x\n+n\n";
    assert!(!apply(bench, &id, patch, &[]).status.success());
    assert_eq!(bench.sh(&id, "cat fixed free d/f"), "x\ny\nz\n");
}
