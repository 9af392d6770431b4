//! Held still, and let go on.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Bench;
use crate::harness::skip;

/// Pauses a workspace; false, said loudly, if this engine has no such thing here.
#[track_caller]
fn pause(bench: &Bench, workspace: &str) -> bool {
    let output = bench.output(["--json", "workspace", "pause", workspace]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    if document["error"]["code"] == "unsupported" {
        skip(&format!("{} cannot pause here: {}", bench.engine, document["error"]["message"]));
        return false;
    }
    assert_eq!(document["state"], "paused", "{document}");
    true
}

fn process_of(bench: &Bench, id: &str, which: &str) -> u64 {
    let record = bench.home().join("workspaces").join(id).join("workspace.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    record["run"][which]["pid"].as_u64().unwrap()
}

pub(crate) fn what_runs_is_held_still_and_goes_on(bench: &Bench) {
    let id = bench.create(["--name", "demo"]);
    let count = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.02; done";
    bench.ok(["workspace", "exec", "demo", "--detach", "--", "sh", "-c", count]);
    bench.sh("demo", "until test -s /tmp/count; do sleep 0.02; done");
    if !pause(bench, "demo") {
        return;
    }
    assert_eq!(bench.status("demo")["state"], "paused");
    assert!(bench.ok(["workspace", "list"]).contains("paused"));
    assert_eq!(bench.json(["workspace", "pause", &id])["state"], "paused", "again is no error");
    for refused in [
        &["workspace", "exec", "demo", "--", "true"][..],
        &["workspace", "diff", "demo"],
        &["workspace", "export", "demo", ".", "--output", "never"],
    ] {
        let exit = if refused.contains(&"exec") { 125 } else { 1 };
        let error = bench.error(refused, exit);
        assert_eq!(error["code"], "wrong_state", "{error}");
        assert!(error["hint"].as_str().unwrap().contains("workspace resume"), "{error}");
    }
    // The machine takes no processor time, whatever runs in it.
    let ticks = || {
        let machine = process_of(bench, &id, "machine");
        let stat = std::fs::read_to_string(format!("/proc/{machine}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    assert!(ticks() - before <= 2, "it went on");
    assert_eq!(bench.json(["workspace", "resume", "demo"])["state"], "started");
    assert_eq!(bench.json(["workspace", "resume", "demo"])["state"], "started");
    let first: u64 = bench.sh("demo", "cat /tmp/count").trim().parse().unwrap();
    bench.sh("demo", &format!("until test $(cat /tmp/count) -gt {first}; do sleep 0.02; done"));
    // Its clock is the host's again, although time stood still for it.
    bench.assert_clock("demo");
}

pub(crate) fn a_paused_workspace_stops_starts_and_is_deleted(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(&id, "echo kept > file");
    if !pause(bench, &id) {
        return;
    }
    // What was not yet written out reaches the disk all the same.
    let stopped = bench.json(["workspace", "stop", &id]);
    assert_eq!((&stopped["state"], &stopped["error"]), (&"stopped".into(), &().into()));
    let error = bench.error(["workspace", "resume", &id], 1);
    assert_eq!(error["code"], "wrong_state");
    assert!(error["hint"].as_str().unwrap().contains("workspace start"), "{error}");
    bench.ok(["workspace", "start", &id]);
    assert_eq!(bench.sh(&id, "cat file"), "kept\n");
    assert!(pause(bench, &id));
    assert_eq!(bench.json(["workspace", "start", &id])["state"], "started");
    assert_eq!(bench.sh(&id, "cat file"), "kept\n");
    assert!(pause(bench, &id));
    bench.ok(["workspace", "delete", &id]);
    bench.wait_until_quiet();
    assert!(bench.leftovers().is_empty());
}

pub(crate) fn a_paused_workspace_can_be_killed(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(&id, "echo kept > file; sync");
    for which in ["supervisor", "machine"] {
        if !pause(bench, &id) {
            return;
        }
        let pid = process_of(bench, &id, which).to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        bench.wait_until_quiet();
        assert_eq!(bench.status(&id)["state"], "failed", "{which}");
        bench.ok(["workspace", "start", &id]);
        assert_eq!(bench.sh(&id, "cat file"), "kept\n");
    }
}

pub(crate) fn time_to_live_runs_on_while_paused(bench: &Bench) {
    let id = bench.create(["--ttl-seconds", "3"]);
    bench.sh(&id, "echo kept > file");
    if !pause(bench, &id) {
        return;
    }
    bench.wait_until_quiet();
    let status = bench.status(&id);
    assert_eq!(
        (&status["state"], &status["error"]["code"]),
        (&"stopped".into(), &"timeout".into())
    );
    assert_eq!(bench.ok(["workspace", "diff", &id, "--name-only"]), "file\n");
}

pub(crate) fn pausing_and_resuming_at_once_ends_in_one_state(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    if !pause(bench, &id) {
        return;
    }
    let children: Vec<_> = (0..8)
        .map(|number| {
            let verb = if number % 2 == 0 { "pause" } else { "resume" };
            let mut command = bench.command(["workspace", verb, &id]);
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    bench.ok(["workspace", "resume", &id]);
    assert_eq!(bench.sh(&id, "echo up"), "up\n");
}
