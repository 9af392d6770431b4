//! What is left when something is killed at any moment: nothing that should not be.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::Host;

/// A small generator of its own, so that a failing run can be repeated from its printed seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn spawn_create(host: &Host, name: &str) -> Child {
    host.command(["workspace", "create", "debian:12", "--name", name, "--id-only"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// `list` must tell the truth: whatever it calls started can run a command, everything else can be
/// started or deleted.
fn check_the_list(host: &Host, round: u64) {
    let list = host.json(["workspace", "list"]);
    for workspace in list.as_array().unwrap() {
        let id = workspace["id"].as_str().unwrap();
        match workspace["state"].as_str().unwrap() {
            "started" => {
                let output = host.output(["workspace", "exec", id, "--", "true"]);
                let state = host.status(id)["state"].as_str().unwrap().to_owned();
                // It may have died between the two questions.
                assert!(output.status.success() || state != "started", "round {round}: {output:?}");
            }
            "stopped" | "failed" => {}
            // A supervisor whose client was killed is still undoing its creation.
            "creating" => {}
            other => panic!("round {round}: {id} is {other}"),
        }
    }
}

#[test]
fn a_hundred_rounds_of_killing_leave_nothing_behind() {
    let seed = std::process::id().into();
    eprintln!("dice seed {seed}");
    let mut dice = Dice(seed);
    let host = Host::new();
    for round in 0..100 {
        let mut client = spawn_create(&host, &format!("round{round}"));
        // Somewhere between the first instruction and a machine that runs.
        std::thread::sleep(Duration::from_millis(dice.roll(4500)));
        match dice.roll(4) {
            0 => kill(client.id()),
            1 => host.processes().into_iter().for_each(kill),
            2 => {
                let processes = host.processes();
                if !processes.is_empty() {
                    let index = usize::try_from(dice.roll(processes.len() as u64)).unwrap();
                    kill(processes[index]);
                }
            }
            _ => {
                // An orderly interrupt, as by Ctrl-C.
                let _ = Command::new("kill").args(["-INT", &client.id().to_string()]).status();
            }
        }
        client.wait().unwrap();
        if round % 10 == 9 {
            check_the_list(&host, round);
        }
        for name in host.leftovers() {
            if name.starts_with("ws-") {
                let output = host.output(["workspace", "delete", &name]);
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success() || text.contains("there is no"),
                    "round {round}: {text}"
                );
            }
        }
        host.ok(["workspace", "list"]);
        host.wait_until_quiet();
        assert_eq!(host.leftovers(), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn a_machine_that_is_killed_is_failed_with_a_reason_and_starts_again() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "echo kept > file; sync");
    let mut busy = host.command(["workspace", "exec", &id, "--", "sleep", "600"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let machine = process_named(&host, "qemu-system");
    kill(machine);
    assert_eq!(busy.wait().unwrap().code(), Some(125));
    host.wait_until_quiet();
    let status = host.status(&id);
    assert_eq!(status["state"], "failed");
    assert_eq!(status["error"]["code"], "machine_failed");
    // What was synced is there, read from a disk that was never unmounted.
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]), "file\n");
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "cat file"), "kept\n");
    let log = host.json(["workspace", "logs", &id]);
    assert!(log[1]["error"].is_string(), "the lost command is closed: {log}");
}

#[test]
fn a_supervisor_that_is_killed_takes_its_machine_along() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let supervisor = process_named(&host, "supervise");
    kill(supervisor);
    host.wait_until_quiet();
    let status = host.status(&id);
    assert_eq!(status["state"], "failed");
    assert!(status["error"]["hint"].as_str().unwrap().contains("workspace start"));
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "echo up"), "up\n");
}

#[test]
fn a_killed_run_leaves_nothing() {
    let host = Host::new();
    let mut client = host
        .command(["run", "debian:12", "--", "sh", "-c", "echo up; sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 3];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut first).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    host.wait_until_quiet();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[test]
fn a_supervisor_that_hangs_can_still_be_deleted() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let supervisor = process_named(&host, "supervise");
    assert!(
        Command::new("kill").args(["-STOP", &supervisor.to_string()]).status().unwrap().success()
    );
    host.ok(["workspace", "delete", &id]);
    host.wait_until_quiet();
    assert!(host.leftovers().is_empty());
}

fn process_named(host: &Host, word: &str) -> u32 {
    let is = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    host.processes().into_iter().find(is).unwrap_or_else(|| panic!("no process {word:?}"))
}

/// All files of one content: the old one or the new one, never some of each.
#[test]
fn a_patch_that_is_killed_at_any_moment_is_applied_whole_or_not_at_all() {
    const FILES: usize = 150;
    let seed = std::process::id().into();
    eprintln!("dice seed {seed}");
    let mut dice = Dice(seed);
    let host = Host::new();
    let content = |round: u64| format!("round {round}\n");
    let source = host.path("seed");
    for number in 0..FILES {
        crate::harness::fill(&source, &[(&format!("d{}/f{number}", number % 7), &content(0))]);
    }
    let id = host.create(["--engine", "container", "--seed-path", source.to_str().unwrap()]);
    let (mut now, mut old, mut new, mut between) = (0, 0, 0, 0);
    for round in 1..=60 {
        let mut patch = String::new();
        for number in 0..FILES {
            // Each other file is removed and made under another name.
            let from = format!("d{}/f{number}", (number as u64 + now) % 7);
            let to = format!("d{}/f{number}", (number as u64 + round) % 7);
            patch += &format!(
                "diff --git a/{from} b/{to}\nrename from {from}\nrename to {to}\n--- a/{from}\n+++ b/{to}\n\
                 @@ -1 +1 @@\n-{}+{}",
                content(now),
                content(round)
            );
        }
        let file = host.path("patch");
        std::fs::write(&file, patch).unwrap();
        let mut client = host
            .command(["workspace", "patch", "apply", &id, "--patch-file", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(dice.roll(700)));
        match dice.roll(3) {
            0 => {
                kill(client.id());
                let _ = client.wait();
                // What was committed is still being made; a stop waits for that.
                host.ok(["workspace", "stop", &id]);
            }
            _ => {
                host.processes().into_iter().for_each(kill);
                let _ = client.wait();
                host.wait_until_quiet();
                // A process that is on its way out holds its lock a moment longer than its files.
                let deadline = Instant::now() + Duration::from_secs(20);
                while host.status(&id)["state"] == "started" {
                    assert!(Instant::now() < deadline, "round {round}: its death goes unnoticed");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        // At rest the disk is whole, or the host says that it is not.
        if host.status(&id)["state"] == "failed" {
            let output = host.output(["workspace", "diff", &id, "--name-only"]);
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr);
                assert!(words.contains("in the middle of a change"), "{words}");
                between += 1;
            }
        }
        host.ok(["workspace", "start", &id]);
        let found = host.sh(&id, "find . -type f | sort | xargs cat | sort | uniq -c; ls -A");
        let is = |round: u64| found.contains(&format!("{FILES} round {round}\n"));
        assert!(!found.contains(".pyro"), "{found}");
        match (is(now), is(round)) {
            (true, false) => old += 1,
            (false, true) => {
                new += 1;
                now = round;
            }
            _ => panic!("round {round}: {found}"),
        }
    }
    eprintln!("{old} times old, {new} times new, {between} times seen in between");
    assert!(old > 0 && new > 0, "{old} times old, {new} times new");
}
