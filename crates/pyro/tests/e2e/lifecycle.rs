use std::process::Stdio;

use crate::harness::{Host, fill};

#[test]
fn a_workspace_keeps_its_disk_across_stop_and_start() {
    let host = Host::new();
    let id = host.create(["--name", "demo", "--label", "team=core"]);
    host.sh("demo", "echo kept > file; echo also > /root/other; sleep 600 & echo $! > /tmp/pid");
    let status = host.status("demo");
    assert_eq!(status["state"], "started");
    assert_eq!(status["id"], *id);
    assert_eq!(status["labels"]["team"], "core");
    assert!(status["kernel_release"].as_str().unwrap().contains("cloud"));
    assert!(["emulated_vm", "hardware_vm"].contains(&status["isolation"].as_str().unwrap()));

    let stopped = host.json(["workspace", "stop", "demo"]);
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(stopped["error"], serde_json::Value::Null, "{stopped}");
    host.wait_until_quiet();
    let error = host.error(["workspace", "exec", "demo", "--", "true"], 125);
    assert_eq!(error["code"], "wrong_state");
    assert!(error["hint"].as_str().unwrap().contains("workspace start"));
    // Reading works at rest too.
    assert_eq!(host.ok(["workspace", "diff", "demo", "--name-only"]), "file\n");

    assert_eq!(host.json(["workspace", "start", &id])["state"], "started");
    assert_eq!(host.sh("demo", "cat file /root/other"), "kept\nalso\n");
    assert_eq!(host.json(["workspace", "start", &id])["state"], "started", "again is no error");
    host.ok(["workspace", "delete", "demo"]);
    assert_eq!(host.error(["workspace", "status", &id], 1)["code"], "not_found");
}

#[test]
fn the_list_is_ordered_by_last_activity() {
    let host = Host::new();
    let first = host.create(["--name", "first"]);
    let second = host.create(["--name", "second"]);
    let ids = |host: &Host| -> Vec<String> {
        let list = host.json(["workspace", "list"]);
        list.as_array().unwrap().iter().map(|w| w["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&host), [second.clone(), first.clone()]);
    host.sh("first", "true");
    assert_eq!(ids(&host), [first, second]);
    let table = host.ok(["workspace", "list"]);
    assert!(table.starts_with("ID") && table.contains("first") && table.contains("started"));
}

#[test]
fn a_name_is_taken_once_even_by_two_at_once() {
    let host = Host::new();
    let spawn = || {
        host.command(["workspace", "create", "debian:12", "--name", "same", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let outputs: Vec<_> =
        [spawn(), spawn()].into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let won = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(won, 1, "{outputs:?}");
    let lost = outputs.iter().find(|output| !output.status.success()).unwrap();
    assert!(String::from_utf8_lossy(&lost.stdout).contains("already_exists"), "{lost:?}");
    assert_eq!(host.leftovers().len(), 1);
}

#[test]
fn a_machine_that_switches_itself_off_is_stopped_not_failed() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "echo x > file; sync");
    // The agent is PID 1; the kernel's own switch is what a hostile guest has.
    let _ = host.output([
        "workspace",
        "exec",
        &id,
        "--",
        "sh",
        "-c",
        "echo o > /proc/sysrq-trigger; sleep 60",
    ]);
    host.wait_until_quiet();
    let state = host.status(&id)["state"].as_str().unwrap().to_owned();
    assert!(state == "stopped" || state == "failed", "{state}");
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "cat file"), "x\n");
}

#[test]
fn a_workspace_whose_time_is_up_is_stopped_and_keeps_everything() {
    let host = Host::new();
    let seed = host.path("seed");
    fill(&seed, &[("a", "a")]);
    let id = host.create(["--ttl-seconds", "3", "--seed-path", seed.to_str().unwrap()]);
    host.sh(&id, "echo b > b");
    host.wait_until_quiet();
    let status = host.status(&id);
    assert_eq!(status["state"], "stopped");
    assert_eq!(status["error"]["code"], "timeout");
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]), "b\n");
}

#[test]
fn machines_are_different_from_each_other() {
    let host = Host::new();
    let ids: Vec<_> = (0..2).map(|_| host.create([] as [&str; 0])).collect();
    let facts = "cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname; head -c 16 /dev/urandom | od -An -tx1";
    let of = |id: &String| host.sh(id, facts);
    let (one, two) = (of(&ids[0]), of(&ids[1]));
    for (left, right) in one.lines().zip(two.lines()) {
        assert_ne!(left, right);
    }
    let clock: i64 = host.sh(&ids[0], "date +%s").trim().parse().unwrap();
    let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((clock - i64::try_from(own).unwrap()).abs() <= 2, "{clock} against {own}");
}

#[test]
fn two_can_work_in_one_workspace_at_once() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let children: Vec<_> = (0..8)
        .map(|number| {
            host.command(["workspace", "exec", &id, "--", "sh", "-c"])
                .arg(format!("for i in $(seq 50); do echo {number} $i; done; echo e{number} >&2"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let lines = String::from_utf8(output.stdout).unwrap();
        assert_eq!(lines.lines().count(), 50);
        assert!(lines.lines().all(|line| line.starts_with(&format!("{number} "))));
    }
    let log = host.json(["workspace", "logs", &id]);
    assert_eq!(log.as_array().unwrap().len(), 8);
}
