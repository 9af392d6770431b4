use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::Host;

#[test]
fn arguments_arrive_exactly() {
    let host = Host::new();
    let id = host.create(["--env", "FROM=workspace", "--env", "BOTH=workspace"]);
    let odd = ["a b", "", "'\"$x`", "ü\n\t", "-n", "--", "\\"];
    let output = host
        .command(["workspace", "exec", &id, "--env", "BOTH=call", "--"])
        .args(["python3", "-c", "import sys,os,json; print(json.dumps([sys.argv[1:], os.environ['FROM'], os.environ['BOTH'], os.getcwd()]))"])
        .args(odd)
        .output()
        .unwrap();
    let got: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got, serde_json::json!([odd, "workspace", "call", "/workspace"]));
}

#[test]
fn exit_codes_signals_and_refusals_are_told_apart() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let code = |script: &str| {
        host.output(["workspace", "exec", &id, "--", "sh", "-c", script]).status.code()
    };
    assert_eq!(code("exit 0"), Some(0));
    assert_eq!(code("exit 255"), Some(255));
    assert_eq!(code("kill -9 $$"), Some(137));
    assert_eq!(code("kill -TERM $$"), Some(143));
    assert_eq!(
        host.output(["workspace", "exec", &id, "--", "/etc/passwd"]).status.code(),
        Some(126)
    );
    let error = host.error(["workspace", "exec", &id, "--cwd", "no/such", "--", "true"], 125);
    assert_eq!(error["code"], "not_found");
    let error = host.error(["workspace", "exec", &id, "--user", "nobody-here", "--", "true"], 125);
    assert_eq!(error["code"], "not_found");
    let result = host.json(["workspace", "exec", &id, "--", "true"]);
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["timed_out"], false);
}

#[test]
fn a_timeout_ends_the_whole_tree_and_nothing_else() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "sleep 601 > /dev/null 2>&1 & true");
    let output = host.output([
        "workspace",
        "exec",
        &id,
        "--timeout-seconds",
        "1",
        "--",
        "sh",
        "-c",
        "setsid sleep 602 & sleep 603 & sleep 604",
    ]);
    assert_eq!(output.status.code(), Some(124));
    let left = host.sh(&id, "ps -eo args= | grep '^sleep' || true");
    assert_eq!(left.trim(), "sleep 601", "a background process of an earlier command lives on");
    let log = host.json(["workspace", "logs", &id]);
    assert_eq!(log[1]["outcome"]["timed_out"], true);
}

#[test]
fn a_background_process_does_not_hold_up_its_command() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let started = Instant::now();
    assert_eq!(host.sh(&id, "(sleep 300; echo late) & echo early"), "early\n");
    assert!(started.elapsed() < Duration::from_secs(100));
    assert_eq!(host.sh(&id, "pgrep -c sleep"), "1\n");
}

#[test]
fn ctrl_c_reaches_the_command_and_a_second_one_ends_it() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let interrupt = |child: &std::process::Child| {
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
    };
    let spawn = |script: &str| {
        let mut child = host
            .command(["workspace", "exec", &id, "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        assert_eq!(&first, b"ready\n");
        child
    };
    let polite = spawn("trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.1; done");
    interrupt(&polite);
    let output = polite.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(5), &b"got it\n"[..]));

    let stubborn = spawn("trap '' INT; echo ready; while :; do sleep 0.1; done");
    interrupt(&stubborn);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&stubborn);
    assert_eq!(stubborn.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(host.sh(&id, "pgrep -fc '[t]rap .. INT' || true"), "0\n");
}

#[test]
fn a_client_that_dies_takes_its_command_along() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let mut child = host.command(["workspace", "exec", &id, "--", "sleep", "605"]).spawn().unwrap();
    let running = || host.status(&id)["running_commands"] == 1;
    while !running() {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while running() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(host.sh(&id, "pgrep -fc '[s]leep 605' || true"), "0\n");
}

#[test]
fn a_detached_command_needs_no_client() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let started = host.json([
        "workspace",
        "exec",
        &id,
        "--detach",
        "--",
        "sh",
        "-c",
        "echo one; sleep 1; echo two",
    ]);
    assert_eq!(started["sequence"], 1);
    let log = loop {
        let log = host.json(["workspace", "logs", &id]);
        if log[0]["outcome"].is_object() {
            break log;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(log[0]["output"][0]["text"], "one\ntwo\n");
    assert_eq!(log[0]["outcome"]["exit_code"], 0);
}

#[test]
fn stdin_is_passed_on_whole_and_its_end_too() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let data: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut child = host
        .command(["workspace", "exec", &id, "--", "sh", "-c", "sha256sum"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let path = host.path("data");
    std::fs::write(&path, &data).unwrap();
    let own = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    assert_eq!(output.stdout[..64], own.stdout[..64]);
}

#[test]
fn a_command_that_reads_no_stdin_can_still_be_ended() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let mut child = host
        .command(["workspace", "exec", &id, "--timeout-seconds", "2", "--", "sleep", "606"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&vec![0; 16 << 20]));
    assert_eq!(child.wait().unwrap().code(), Some(124));
    // The pipe breaks, or all of it went into buffers; neither hangs.
    let _ = writer.join().unwrap();
}

#[test]
fn the_log_shows_each_command_with_its_output() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "echo hello; echo oops >&2");
    let _ = host.output(["workspace", "exec", &id, "--", "sh", "-c", "printf '\\033[2J'; exit 4"]);
    let text = host.ok(["workspace", "logs", &id]);
    assert!(
        text.contains("hello") && text.contains("! oops") && text.contains("[exit 4"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "the guest's escapes do not reach the terminal");
    let last = host.json(["workspace", "logs", &id, "--tail", "1"]);
    assert_eq!(last.as_array().unwrap().len(), 1);
    assert_eq!(last[0]["sequence"], 2);
    // The journal is there when the machine is not.
    host.ok(["workspace", "stop", &id]);
    assert_eq!(host.ok(["workspace", "logs", &id]), text);
}
