use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Host, fill, git};

const ENGINE: &str = "qemu";

fn seeded(host: &Host, files: &[(&str, &str)]) -> (PathBuf, String) {
    let seed = host.path("seed ü");
    fs::create_dir_all(&seed).unwrap();
    fill(&seed, files);
    let id = host.create(["--engine", ENGINE, "--seed-path", seed.to_str().unwrap()]);
    (seed, id)
}

/// Every path with its mode, kind and content.
fn tree(top: &Path) -> Vec<String> {
    let script =
        "find . -printf '%P %y %m %l\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let output = Command::new("sh").args(["-c", script]).current_dir(top).output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn actions(applied: &serde_json::Value) -> Vec<(String, String)> {
    let changes = applied["changes"].as_array().unwrap().iter();
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    changes.map(|change| (word(&change["path"]), word(&change["action"]))).collect()
}

const WORK: &str = r#"
echo new > 'a b'; echo more >> kept; rm gone; rm -rf dir; mkdir -p n/m; echo x > n/m/x; mkdir empty
rm swap; mkdir swap; echo in > swap/in; rm -rf paws; echo now > paws; ln -s kept link
chmod 755 script; printf '\000\377' > binary; mkfifo pipe"#;

const SEED: &[(&str, &str)] = &[
    ("kept", "1\n2\n3\n"),
    ("gone", "gone\n"),
    ("dir/deep/file", "x\n"),
    ("swap", "a file\n"),
    ("paws/inside", "y\n"),
    ("script", "#!/bin/sh\n"),
    ("other", "other\n"),
];

#[test]
fn an_apply_makes_the_seed_directory_like_the_workspace_and_is_taken_back_once() {
    let host = Host::new();
    let (seed, id) = seeded(&host, SEED);
    host.sh(&id, WORK);
    let before = tree(&seed);
    let planned = host.json(["workspace", "apply", &id, "--dry-run"]);
    assert_eq!(tree(&seed), before, "a dry run changes nothing");
    let applied = host.json(["workspace", "apply", &id]);
    assert_eq!(actions(&applied), actions(&planned));
    assert!(actions(&applied).contains(&("script".into(), "mode_changed".into())), "{applied}");
    assert_eq!(applied["skipped"][0]["path"], "pipe");
    host.sh(&id, "rm pipe");
    let exported = host.path("exported");
    host.ok(["workspace", "export", &id, ".", "--output", exported.to_str().unwrap()]);
    assert_eq!(tree(&seed)[1..], tree(&exported)[1..]);
    // What is there already is no change, and cannot hide what can be taken back.
    let again = host.json(["workspace", "apply", &id]);
    assert_eq!(actions(&again), []);
    assert!(again["already"].as_u64().unwrap() > 5);
    let undone = host.json(["workspace", "apply", &id, "--undo"]);
    assert_eq!(actions(&undone).len(), actions(&applied).len());
    assert_eq!(tree(&seed), before);
    let error = host.error(["workspace", "apply", &id, "--undo"], 1);
    assert_eq!(error["code"], "not_found");
}

#[test]
fn uncommitted_edits_of_a_repository_are_conflicts_or_are_merged_as_git_would() {
    let host = Host::new();
    let seed = host.path("repository");
    let lines: String = (1..=40).map(|n| format!("line {n}\n")).collect();
    fill(&seed, &[("both", &lines), ("clash", "a\nb\nc\n"), ("only-host", "h\n"), ("mine", "m\n")]);
    git(&seed, &["init", "-q"]);
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "seed"]);
    let id = host.create(["--engine", ENGINE, "--seed-git", seed.to_str().unwrap()]);
    host.sh(&id, "sed -i 's/line 40/workspace 40/' both; sed -i s/b/B/ clash; echo w >> mine");
    let host_edit = lines.replace("line 1\n", "host 1\n");
    fs::write(seed.join("both"), &host_edit).unwrap();
    fs::write(seed.join("only-host"), "edited\n").unwrap();
    fs::write(seed.join("clash"), "a\nbeta\nc\n").unwrap();
    let before = tree(&seed);

    let error = host.error(["workspace", "apply", &id], 1);
    assert_eq!(error["code"], "conflict");
    let cause = error["cause"].as_str().unwrap();
    assert!(cause.contains("both: ") && cause.contains("clash: "), "{cause}");
    assert!(!cause.contains("only-host") && !cause.contains("mine"), "{cause}");
    assert_eq!(tree(&seed), before);
    // With --merge the one that cannot be merged still keeps all from being written.
    let error = host.error(["workspace", "apply", &id, "--merge"], 1);
    let cause = error["cause"].as_str().unwrap();
    assert!(cause.contains("clash: ") && !cause.contains("both: "), "{cause}");
    assert_eq!(tree(&seed), before);
    let merge =
        ["workspace", "apply", &id, "--merge", "--path", "both", "--path", "/workspace/mine"];
    let applied = host.json(merge);
    let expected = [("both".into(), "merged".into()), ("mine".into(), "modified".into())];
    assert_eq!(actions(&applied), expected);

    // What git itself makes of the three.
    for (name, text) in
        [("h", &host_edit), ("o", &lines), ("w", &lines.replace("line 40", "workspace 40"))]
    {
        fs::write(host.path(name), text).unwrap();
    }
    let merged = Command::new("git")
        .args(["merge-file", "-p", "h", "o", "w"])
        .current_dir(host.path(""))
        .output()
        .unwrap();
    assert_eq!(fs::read(seed.join("both")).unwrap(), merged.stdout);
    assert_eq!(fs::read_to_string(seed.join("mine")).unwrap(), "m\nw\n");
    // Work on a file that was applied is not lost by taking the apply back.
    fs::write(seed.join("mine"), "later\n").unwrap();
    let error = host.error(["workspace", "apply", &id, "--undo"], 1);
    assert!(error["cause"].as_str().unwrap().contains("mine"), "{error}");
    fs::write(seed.join("mine"), "m\nw\n").unwrap();
    host.ok(["workspace", "apply", &id, "--undo"]);
    assert_eq!(tree(&seed), before);
}

#[test]
fn an_apply_reaches_nothing_outside_of_its_directory_and_not_gits_own() {
    let host = Host::new();
    let (seed, id) = seeded(&host, &[("dir/file", "x\n"), ("plain", "p\n")]);
    let outside = host.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "x\n").unwrap();
    host.sh(&id, "echo evil > dir/file; mkdir -p .git/hooks .GIT; echo evil > .git/hooks/post-checkout; echo y > .GIT/config");
    fs::remove_dir_all(seed.join("dir")).unwrap();
    std::os::unix::fs::symlink(&outside, seed.join("dir")).unwrap();
    let error = host.error(["workspace", "apply", &id], 1);
    assert_eq!(error["code"], "conflict");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x\n");
    fs::remove_file(seed.join("dir")).unwrap();
    fill(&seed, &[("dir/file", "x\n")]);
    let applied = host.json(["workspace", "apply", &id]);
    assert!(!seed.join(".git").exists() && !seed.join(".GIT").exists());
    assert!(applied["skipped"].as_array().unwrap().len() >= 4, "{applied}");
    let error = host.error(["workspace", "apply", &id, "--path", "../x"], 1);
    assert_eq!(error["code"], "invalid_argument");
    let error = host.error(["workspace", "apply", &id, "--path", "nothing-here"], 1);
    assert_eq!(error["code"], "not_found");
}

#[test]
fn a_directory_with_files_of_the_hosts_own_stays_and_an_empty_seed_needs_a_target() {
    let host = Host::new();
    let (seed, id) = seeded(&host, &[("dir/old", "x\n")]);
    host.sh(&id, "rm -rf dir; echo '#!/bin/sh' > tool; chmod 700 tool");
    fs::write(seed.join("dir/mine"), "precious\n").unwrap();
    let applied = host.json(["workspace", "apply", &id]);
    assert_eq!(applied["skipped"][0]["path"], "dir");
    assert!(seed.join("dir/mine").exists() && !seed.join("dir/old").exists());
    assert_eq!(fs::metadata(seed.join("tool")).unwrap().permissions().mode() & 0o777, 0o700);

    let empty = host.create(["--engine", ENGINE]);
    host.sh(&empty, "echo made > made");
    let error = host.error(["workspace", "apply", &empty], 1);
    assert_eq!(error["code"], "invalid_argument");
    let to = host.path("target");
    fs::create_dir(&to).unwrap();
    host.ok(["workspace", "stop", &empty]);
    host.ok(["workspace", "apply", &empty, "--to", to.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(to.join("made")).unwrap(), "made\n");
}
