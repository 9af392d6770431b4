//! From creation to deletion.

use std::process::Stdio;

use crate::Bench;
use crate::harness::{fill, wait_for_cgroups};

pub(crate) fn it_is_created_used_stopped_started_and_deleted(bench: &Bench) {
    let id = bench.create(["--name", "demo"]);
    let status = bench.status("demo");
    assert_eq!(status["state"], "started");
    assert_eq!(status["engine"], bench.engine);
    bench.sh("demo", "echo kept > file; echo also > /root/other; echo gone > /run/volatile");
    let stopped = bench.json(["workspace", "stop", "demo"]);
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert_eq!(stopped["error"], serde_json::Value::Null, "{stopped}");
    bench.wait_until_quiet();
    assert_eq!(bench.ok(["workspace", "diff", "demo", "--name-only"]), "file\n");
    assert_eq!(bench.json(["workspace", "start", "demo"])["state"], "started");
    assert_eq!(bench.sh("demo", "cat file /root/other; ls /run/volatile || true"), "kept\nalso\n");
    bench.ok(["workspace", "delete", &id]);
    assert_eq!(bench.error(["workspace", "status", "demo"], 1)["code"], "not_found");
    assert!(bench.leftovers().is_empty());
}

pub(crate) fn a_supervisor_that_is_killed_takes_its_machine_along_and_keeps_the_disk(
    bench: &Bench,
) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(&id, "echo kept > file; sync");
    let record = bench.home().join("workspaces").join(&id).join("workspace.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let supervisor = record["run"]["supervisor"]["pid"].as_u64().unwrap();
    let killed =
        std::process::Command::new("kill").args(["-9", &supervisor.to_string()]).status().unwrap();
    assert!(killed.success());
    bench.wait_until_quiet();
    assert_eq!(bench.status(&id)["state"], "failed");
    wait_for_cgroups(&[supervisor]);
    assert_eq!(bench.json(["workspace", "start", &id])["state"], "started");
    assert_eq!(bench.sh(&id, "cat file"), "kept\n");
}

pub(crate) fn several_are_created_at_once(bench: &Bench) {
    let seed = bench.path("seed");
    fill(&seed, &[("a", "a\n")]);
    let children: Vec<_> = (0..5)
        .map(|_| {
            bench
                .command(["workspace", "create", "debian:12", "--id-only", "--seed-path"])
                .arg(&seed)
                .args(["--engine", bench.engine])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let id = String::from_utf8(output.stdout).unwrap();
        assert_eq!(bench.sh(id.trim(), "cat a"), "a\n");
    }
}
