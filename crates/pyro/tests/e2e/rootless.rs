//! Containers of an ordinary user, who has nothing of root's: no mounts, no cgroups, no loop devices.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::harness::{Host, fill, git, is_root, skip};

/// A host and its ordinary user, unless there can be none.
fn host() -> Option<Host> {
    if !is_root() {
        skip("it takes root to become somebody else");
        return None;
    }
    let host = Host::of_a_user();
    let doctor = host.output(["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let mut checks = checks.as_array().unwrap().iter();
    let engine = checks.find(|check| check["name"] == "engine container").unwrap();
    if engine["status"] == "unavailable" || engine["status"] == "failed" {
        skip(&format!("{}: {}", engine["found"], engine["why"]));
        return None;
    }
    Some(host)
}

fn create(host: &Host, args: &[&str]) -> String {
    host.create(["--engine", "container"].iter().chain(args))
}

#[test]
fn what_several_users_of_a_container_wrote_is_reviewed_and_removed_by_one_who_is_none_of_them() {
    let Some(host) = host() else { return };
    let seed = host.path("seed");
    fill(&seed, &[("kept", "kept\n"), ("changed", "old\n"), ("dir/gone", "gone\n")]);
    let id = create(&host, &["--seed-path", seed.to_str().unwrap()]);
    host.sh(
        &id,
        "useradd --create-home bob; echo new > changed; rm -r dir; mkdir dir; echo in > dir/new; \
         mkdir -m 700 private; echo secret > private/file; chmod 600 private/file; \
         chown -R bob private; chmod 000 kept",
    );
    let names = "changed\ndir/gone\ndir/new\nkept\nprivate/file\n";
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]).replace("private\n", ""), names);
    // The owners on disk are neither the user's nor root's.
    let upper = host.home().join("workspaces").join(&id).join("disk/workspace/upper");
    let (user, root, bob) = (
        fs::metadata(host.home().join("workspaces")).unwrap().uid(),
        fs::metadata(upper.join("changed")).unwrap().uid(),
        fs::metadata(upper.join("private/file")).unwrap().uid(),
    );
    assert!(root != 0 && root != user && bob == root + 1000, "{user} {root} {bob}");

    host.ok(["workspace", "stop", &id]);
    let patch = host.path("patch");
    fs::write(&patch, host.output(["workspace", "diff", &id]).stdout).unwrap();
    git(&seed, &["init", "-q"]);
    git(&seed, &["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(seed.join("private/file")).unwrap(), "secret\n");
    let out = host.path("out");
    host.ok(["workspace", "export", &id, ".", "--output", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(out.join("private/file")).unwrap(), "secret\n");
    assert_eq!(fs::metadata(out.join("private/file")).unwrap().uid(), user);
    assert!(host.status(&id)["disk_used_bytes"].as_u64().unwrap() > 4096);
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "stat -c %U private/file; cat dir/new"), "bob\nin\n");
    host.ok(["workspace", "delete", &id]);
    assert!(host.leftovers().is_empty());
}

#[test]
fn a_container_without_cgroups_is_held_still_while_it_is_paused_or_read() {
    let Some(host) = host() else { return };
    let id = create(&host, &[]);
    let work = "i=0; while :; do i=$((i+1)); echo $i > a; echo $i > b; done";
    host.ok(["workspace", "exec", &id, "--detach", "--", "sh", "-c", work]);
    host.sh(&id, "while ! test -s b; do :; done");
    for _ in 0..5 {
        let patch = host.ok(["workspace", "diff", &id]);
        let numbers: Vec<i64> =
            patch.lines().filter_map(|line| line.strip_prefix('+')?.parse().ok()).collect();
        // Emptied, but not yet written: then there is one number less.
        assert!(numbers.len() < 2 || (0..2).contains(&(numbers[0] - numbers[1])), "{patch}");
    }
    host.ok(["workspace", "pause", &id]);
    let upper = host.home().join("workspaces").join(&id).join("disk/workspace/upper/a");
    let read = || fs::read_to_string(&upper).unwrap();
    let before = read();
    host.ok(["workspace", "status", &id]);
    assert_eq!(read(), before);
    host.ok(["workspace", "resume", &id]);
    host.sh(&id, "cp a c; while cmp -s a c; do :; done");
}

#[test]
fn killing_all_that_holds_a_container_of_a_user_leaves_nothing_that_runs() {
    let Some(host) = host() else { return };
    let id = create(&host, &[]);
    host.sh(&id, "echo kept > file");
    let record = host.home().join("workspaces").join(&id).join("workspace.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let pids = ["supervisor", "machine"].map(|who| record["run"][who]["pid"].to_string());
    assert!(Command::new("kill").arg("-9").args(&pids).status().unwrap().success());
    host.wait_until_quiet();
    assert_eq!(host.status(&id)["state"], "failed");
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "cat file"), "kept\n");
}

#[test]
fn a_virtual_machine_runs_for_an_ordinary_user_too() {
    let Some(host) = host() else { return };
    let output = host
        .command(["run", "debian:12", "--engine", "qemu", "--", "id", "-u"])
        .env("PYRO_TEMPLATES", "off")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n", "{}", String::from_utf8_lossy(&output.stderr));
}
