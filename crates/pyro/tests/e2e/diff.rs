use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Host, fill, git};

/// Changes a tree in every way that a diff must carry. Runs in the machine.
const MUTATE: &str = r#"
import os, random, shutil, stat, sys
random.seed(int(sys.argv[1]))
NAMES = [b"plain", b"with space", b"tab\there", b"new\nline", b"quote\"d", b"back\\slash",
         "ünïcödé".encode(), b"\xff\xfe bytes", b"-dash", b".dot", b"a", b"z" * 200]
def content():
    kind = random.randrange(7)
    if kind == 0: return b""
    if kind == 1: return random.randbytes(random.randrange(1, 3000))
    if kind == 2: return b"\n" * random.randrange(1, 20)
    if kind == 3: return b"no newline at the end"
    if kind == 4: return b"crlf\r\n" * random.randrange(1, 50)
    return b"".join(b"line %d\n" % random.randrange(30) for _ in range(random.randrange(1, 200)))
def everything(top):
    found = []
    for dirpath, dirs, files in os.walk(top):
        found += [os.path.join(dirpath, name) for name in dirs + files]
    return sorted(found)
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path): shutil.rmtree(path)
    else: os.remove(path)
def make(path):
    kind = random.randrange(6)
    # No link leads to another: git refuses its own patches, too, where a link that loops became a
    # directory (`error: …: Too many levels of symbolic links`).
    if kind == 0: os.symlink(random.choice([b"nowhere/" + random.choice(NAMES), b"/etc/hosts"]), path)
    elif kind == 1:
        os.mkdir(path)
        open(os.path.join(path, b"inside"), "wb").write(content())
    else:
        open(path, "wb").write(content())
        os.chmod(path, random.choice([0o644, 0o755]))
def step(top):
    paths = everything(top)
    path = random.choice(paths) if paths else None
    kind = random.randrange(10)
    if path is None or kind < 3:
        dirs = [top] + [p for p in paths if os.path.isdir(p) and not os.path.islink(p)]
        new = os.path.join(random.choice(dirs), random.choice(NAMES))
        if not os.path.lexists(new): make(new)
    elif kind == 3: remove(path)
    elif kind == 4: remove(path); make(path)
    elif kind == 5:
        new = os.path.join(top, random.choice(NAMES))
        # Not os.rename: overlayfs cannot rename a directory of the lower layer in place, and says
        # EXDEV, upon which mv(1) and this copy and remove.
        if not os.path.lexists(new) and not new.startswith(path + b"/"): shutil.move(os.fsdecode(path), os.fsdecode(new))
    elif os.path.islink(path): pass
    elif kind == 6: os.chmod(path, os.stat(path).st_mode ^ (0 if os.path.isdir(path) else 0o111))
    elif os.path.isdir(path): pass
    elif kind == 7: open(path, "wb").write(content())
    elif kind == 8:
        data = open(path, "rb").read(); open(path, "wb").write(data)
    else:
        lines = open(path, "rb").read().splitlines(True)
        if lines: lines[random.randrange(len(lines))] = b"edited\n"
        open(path, "wb").write(b"".join(lines))
for case in sorted(os.listdir(b".")):
    if case.startswith(b"case"):
        for _ in range(random.randrange(1, 12)): step(case)
"#;

/// The tree as the machine itself sees it, which owes nothing to how the host reads disks.
fn seen_by_the_guest(host: &Host, id: &str, into: &Path) {
    let archive = host.command(["workspace", "exec", id, "--", "tar", "c", "."]).output().unwrap();
    assert!(archive.status.success());
    unpack(&archive.stdout, into);
}

fn unpack(archive: &[u8], into: &Path) {
    use std::io::Write as _;
    fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar")
        .arg("x")
        .arg("-C")
        .arg(into)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
}

/// Every path with its kind, executable bit and content; directories only if `directories`.
fn listing(top: &Path, directories: bool) -> String {
    let kinds = if directories { "" } else { "! -type d" };
    let script = format!(
        "cd \"$1\" && find . -mindepth 1 {kinds} \\( -type f -printf '%p %y ' -perm -100 -printf 'x' -o -printf '%p %y %l' \\) -print0 | sort -z | sha256sum; \
         find . -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum; find . -type f -perm -100 -print0 | sort -z | sha256sum; \
         find . -type l -printf '%p -> %l\\0' | sort -z | sha256sum; find . {kinds} -print0 | sort -z | sha256sum"
    );
    let output = Command::new("bash").args(["-c", &script, "bash"]).arg(top).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn apply(patch: &Path, tree: &Path) {
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(patch)
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_patch_on_the_seed_gives_the_workspace_for_200_random_trees() {
    let host = Host::new();
    let seed = host.path("seed");
    for case in 0..200 {
        let dir = seed.join(format!("case{case:03}"));
        let script = "import sys; exec(sys.argv[2].replace('for case in sorted', 'for case in [] and sorted')); \
                      os.makedirs(sys.argv[3]); [step(os.fsencode(sys.argv[3])) for _ in range(12)]";
        let made = Command::new("python3")
            .args(["-c", script, &case.to_string(), MUTATE])
            .arg(&dir)
            .status()
            .unwrap();
        assert!(made.success());
    }
    let id = host.create(["--seed-path", seed.to_str().unwrap()]);
    host.ok(["workspace", "exec", &id, "--", "python3", "-c", MUTATE, "20261122"]);

    let patch = host.path("changes.patch");
    host.ok(["workspace", "diff", &id, "--output", patch.to_str().unwrap()]);
    let exported = host.path("exported");
    host.ok(["workspace", "export", &id, ".", "--output", exported.to_str().unwrap()]);
    let guest = host.path("guest");
    seen_by_the_guest(&host, &id, &guest);
    assert_eq!(listing(&exported, true), listing(&guest, true), "export is what the guest sees");

    let fresh = host.path("fresh");
    assert!(Command::new("cp").arg("-a").arg(&seed).arg(&fresh).status().unwrap().success());
    apply(&patch, &fresh);
    assert_eq!(listing(&fresh, false), listing(&guest, false), "the patch gives the workspace");

    // A stopped workspace says the same.
    host.ok(["workspace", "stop", &id]);
    let again = host.path("again.patch");
    host.ok(["workspace", "diff", &id, "--output", again.to_str().unwrap()]);
    assert_eq!(fs::read(&patch).unwrap(), fs::read(&again).unwrap());
}

#[test]
fn each_kind_of_change_is_named() {
    let host = Host::new();
    let seed = host.path("seed");
    fill(
        &seed,
        &[
            ("same", "s\n"),
            ("edit", "one\ntwo\n"),
            ("gone", "g\n"),
            ("mode", "m\n"),
            ("kind", "k\n"),
            ("dir/deep", "d\n"),
        ],
    );
    let id = host.create(["--seed-path", seed.to_str().unwrap()]);
    host.sh(&id, "cat same > x; cat x > same; rm x; touch edit; echo three >> edit; rm gone; chmod +x mode; \
                  rm kind; ln -s edit kind; rm -r dir; mkdir dir; echo n > dir/new; mkdir empty; chmod 600 same");
    let diff = host.json(["workspace", "diff", &id]);
    let entries: Vec<(String, String)> = diff["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["path"].as_str().unwrap().to_owned(), e["change"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        ("dir/deep", "deleted"),
        ("dir/new", "added"),
        ("edit", "modified"),
        ("empty", "added"),
        ("gone", "deleted"),
        ("kind", "type_changed"),
        ("mode", "mode_changed"),
        ("same", "mode_changed"),
    ];
    assert_eq!(entries, expected.map(|(path, change)| (path.to_owned(), change.to_owned())));
    let not_in_patch: Vec<_> = diff["not_in_patch"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["path"].as_str().unwrap())
        .collect();
    assert_eq!(not_in_patch, ["empty", "same"]);
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]).lines().count(), 8);
    let stat = host.ok(["workspace", "diff", &id, "--stat"]);
    assert!(stat.contains("edit") && stat.contains("files changed"), "{stat}");
    let patch = host.ok(["workspace", "diff", &id]);
    assert!(
        patch.contains("+three\n") && patch.contains("old mode 100644\nnew mode 100755\n"),
        "{patch}"
    );
}

#[test]
fn the_diff_of_a_running_machine_has_what_was_written_just_now() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    for round in 0..5 {
        host.sh(
            &id,
            &format!("echo {round} > file; head -c 200000 /dev/zero | tr '\\0' {round} > big"),
        );
        let patch = host.ok(["workspace", "diff", &id]);
        assert!(patch.contains(&format!("+{round}\n")), "{patch}");
        let out = host.path(format!("big{round}"));
        host.ok(["workspace", "export", &id, "big", "--output", out.to_str().unwrap()]);
        assert_eq!(fs::read(out).unwrap(), format!("{round}").repeat(200_000).into_bytes());
    }
    // The disk is not left frozen.
    host.sh(&id, "echo on > file; sync");
}

#[test]
fn work_in_a_git_repository_inside_does_not_spoil_the_patch() {
    let host = Host::new();
    let seed = host.path("seed");
    fill(&seed, &[("a.txt", "a\n")]);
    git(&seed, &["init", "-q"]);
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "one"]);
    let id = host.create(["--seed-path", seed.to_str().unwrap()]);
    host.sh(&id, "echo b >> a.txt; git -c user.name=t -c user.email=t@example.org commit -qam two");
    let patch = host.path("p");
    host.ok(["workspace", "diff", &id, "--output", patch.to_str().unwrap()]);
    let text = fs::read_to_string(&patch).unwrap();
    assert!(text.contains("+b\n") && !text.contains(".git/"), "{text}");
    apply(&patch, &seed);
    assert_eq!(fs::read_to_string(seed.join("a.txt")).unwrap(), "a\nb\n");
}
