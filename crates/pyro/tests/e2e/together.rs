//! Several at once on one workspace, and readers that take their time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::Host;

#[test]
fn two_starts_and_a_diff_at_once_all_succeed() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "echo x > file");
    host.ok(["workspace", "stop", &id]);
    let spawn = |args: &[&str]| {
        host.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let starts = [spawn(&["workspace", "start", &id]), spawn(&["workspace", "start", &id])];
    let diff = spawn(&["workspace", "diff", &id, "--name-only"]);
    for child in starts {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let diff = diff.wait_with_output().unwrap();
    assert_eq!(diff.stdout, b"file\n", "{diff:?}");
    assert_eq!(host.status(&id)["state"], "started");
}

#[test]
fn a_stop_during_a_start_stops_it() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.ok(["workspace", "stop", &id]);
    let mut start =
        host.command(["workspace", "start", &id]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    host.ok(["workspace", "stop", &id]);
    start.wait().unwrap();
    assert_eq!(host.status(&id)["state"], "stopped");
    host.wait_until_quiet();
}

#[test]
fn a_reader_who_takes_his_time_holds_up_nobody() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "seq 300000 > big");
    let mut reader =
        host.command(["workspace", "diff", &id]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let started = Instant::now();
    host.sh(&id, "echo more > another; sync");
    assert!(started.elapsed() < Duration::from_secs(30));
    reader.kill().unwrap();
    reader.wait().unwrap();

    // At rest a reader keeps what it has opened, and deletion does not wait for it.
    host.ok(["workspace", "stop", &id]);
    let mut reader = host
        .command(["workspace", "export", &id, ".", "--output", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    host.ok(["workspace", "delete", &id]);
    assert!(started.elapsed() < Duration::from_secs(30));
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn a_supervisor_holds_nothing_of_its_callers() {
    let host = Host::new();
    let script = "exec 9> \"$1\"; flock 9; \"$2\" -q workspace create debian:12 --name held";
    let lock = host.path("lock");
    let created = Command::new("bash")
        .args(["-c", script, "bash"])
        .args([lock.to_str().unwrap(), crate::harness::PYRO])
        .env("PYRO_HOME", host.home())
        .env("A_SECRET_OF_THE_CALLER", "hunter2")
        .status()
        .unwrap();
    assert!(created.success());
    let free = Command::new("flock").arg("-n").arg(&lock).arg("true").status().unwrap();
    assert!(free.success(), "the caller's lock is still held");
    for pid in host.processes() {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("hunter2"));
    }
}

#[test]
fn ctrl_c_during_a_boot_that_hangs_undoes_it() {
    let host = Host::new();
    let mut create = host
        .command(["workspace", "create", "debian:12"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let machine = loop {
        let is_machine = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("qemu-system")
        };
        if let Some(pid) = host.processes().into_iter().find(is_machine) {
            break pid;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let signal = |name: &str, pid: u32| {
        assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
    };
    signal("-STOP", machine);
    signal("-INT", create.id());
    let started = Instant::now();
    assert_eq!(create.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(15));
    host.wait_until_quiet();
    assert!(host.leftovers().is_empty());
}

/// Neither client nor supervisor holds more than a page of it.
#[test]
fn fifty_thousand_files_are_listed_page_by_page() {
    let host = Host::new();
    let id = host.create(["--engine", "container"]);
    host.sh(&id, "for d in $(seq 50); do mkdir $d; (cd $d; seq 1000 | xargs touch); done");
    let (mut seen, mut pages, mut token) = (0, 0, String::new());
    loop {
        let mut args = vec!["workspace", "file", "list", &id, "--recursive", "--limit", "10000"];
        if !token.is_empty() {
            args.extend(["--continuation", &token]);
        }
        let page = host.json(args);
        let entries = page["entries"].as_array().unwrap().len();
        assert!(entries <= 10_000);
        seen += entries;
        pages += 1;
        match page["continuation"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((seen, pages), (50_050, 6));
    let all = host.ok(["workspace", "file", "list", &id, "--recursive", "--glob", "77"]);
    assert_eq!(all.lines().count(), 50);
}
