use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Host, fill};

#[test]
fn run_prints_what_the_command_prints_and_exits_as_it_exits() {
    let host = Host::new();
    let output = host.output(["run", "debian:12", "--", "git", "--version"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"git version 2."), "{output:?}");
    let output =
        host.output(["run", "debian:12", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err\n"));
}

#[test]
fn inside_is_another_machine_without_a_network() {
    let host = Host::new();
    let inside = host.ok([
        "run",
        "debian:12",
        "--",
        "sh",
        "-c",
        "uname -r; cat /proc/sys/kernel/random/boot_id; ls /sys/class/net; ps -e -o comm=",
    ]);
    let mut lines = inside.lines();
    let own = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = lines.next().unwrap();
    assert_ne!(release, own.trim());
    assert!(release.contains("cloud-amd64"), "{release}");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(lines.next().unwrap(), boot_id.trim());
    assert_eq!(lines.next().unwrap(), "lo");
    let processes: Vec<_> = lines.collect();
    assert!(!processes.contains(&"lo") && processes.contains(&"ps"), "{processes:?}");
    assert!(!processes.iter().any(|name| name.starts_with("pyro e2e") || *name == "cargo"));
}

#[test]
fn run_takes_a_seed_stdin_variables_a_user_and_a_directory() {
    let host = Host::new();
    let seed = host.path("seed");
    fill(&seed, &[("sub dir/data.txt", "seeded\n")]);
    let mut child = host
        .command(["run", "debian:12", "--seed-path"])
        .arg(&seed)
        .args(["--env", "GREETING=hällo wörld", "--cwd", "sub dir", "--user", "nobody", "--"])
        .args(["sh", "-c", "cat data.txt -; echo $GREETING; id -un; pwd"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "seeded\nfrom stdin\nhällo wörld\nnobody\n/workspace/sub dir\n"
    );
}

#[test]
fn a_command_that_cannot_run_ends_as_in_a_shell() {
    let host = Host::new();
    let output = host.output(["run", "debian:12", "--", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-command"), "{output:?}");
}

#[test]
fn run_as_json_is_one_document() {
    let host = Host::new();
    let output = host.output([
        "run",
        "debian:12",
        "--json",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 3",
    ]);
    assert_eq!(output.status.code(), Some(3));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["exit_code"], 3);
    assert_eq!(document["stdout"], "out\n");
    assert_eq!(document["stderr"], "err\n");
    assert_eq!(document["truncated"], false);
}
