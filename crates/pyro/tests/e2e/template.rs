//! Machines that start from a frozen one.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Host, PYRO, skip};

/// A small machine, which is soon made.
const SMALL: [&str; 4] = ["--mem-mib", "256", "--disk-mib", "512"];

fn prepare(host: &Host) -> serde_json::Value {
    host.json(["prepare"].into_iter().chain(SMALL))
}

/// Waits until something is so, a minute at most.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_template_is_made_once_and_used_by_those_that_fit() {
    let host = Host::new().without_templates();
    let first = prepare(&host);
    assert_eq!(first["template"], "made", "{first}");
    assert!(first["size_bytes"].as_u64().unwrap() > 10 << 20, "{first}");
    assert_eq!(prepare(&host)["template"], "present");
    let id = host.create(SMALL);
    assert_eq!(host.sh(&id, "free -m | awk '/Mem/ {print ($2 < 256)}'"), "1\n");
    // What it came from shows in its log alone.
    let log = host.home().join("workspaces").join(&id).join("supervisor.log");
    assert!(!fs::read_to_string(log).unwrap().contains("boots instead"));
    host.ok(["workspace", "stop", &id]);
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "echo up"), "up\n");
    assert_eq!(host.templates().len(), 1);
}

#[test]
fn switched_off_no_template_is_made_or_used() {
    let host = Host::new().without_templates();
    let mut command = host.command(["--json", "prepare"]);
    let output = command.env("PYRO_TEMPLATES", "off").output().unwrap();
    let prepared: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(prepared["template"], "disabled");
    let mut command = host.command(["run", "debian:12", "--", "true"]);
    assert!(command.env("PYRO_TEMPLATES", "off").status().unwrap().success());
    assert!(host.templates().is_empty());
}

#[test]
fn the_first_create_leaves_a_template_for_the_next() {
    let host = Host::new().without_templates();
    host.create(SMALL);
    until("a template is made in the background", || !host.templates().is_empty());
    assert_eq!(prepare(&host)["template"], "present");
}

#[test]
fn a_damaged_template_costs_time_and_nothing_else() {
    let host = Host::new().without_templates();
    for part in ["memory", "state", "disk"] {
        prepare(&host);
        let template = host.templates().remove(0);
        let file = template.join(part);
        let mut content = fs::read(&file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
        fs::write(&file, content).unwrap();
        // As if nothing had touched it since it was made: only its own checksums can tell.
        fs::remove_file(template.join("stamps.json")).unwrap();
        let id = host.create(SMALL);
        assert_eq!(host.sh(&id, "echo fine"), "fine\n", "{part}");
        until("a new template is made", || {
            host.templates().first().is_some_and(|template| template.join(part).exists())
                && prepare(&host)["template"] == "present"
        });
    }
}

#[test]
fn twenty_clones_are_twenty_machines() {
    let host = Host::new().without_templates();
    prepare(&host);
    let ids: Vec<String> = (0..20).map(|_| host.create(SMALL)).collect();
    for fact in [
        "cat /etc/machine-id",
        "cat /proc/sys/kernel/random/boot_id",
        "hostname",
        "head -c 16 /dev/urandom | od -An -tx1",
        "python3 -c 'import uuid; print(uuid.uuid4())'",
    ] {
        let seen: BTreeSet<String> = ids.iter().map(|id| host.sh(id, fact)).collect();
        assert_eq!(seen.len(), ids.len(), "{fact}: {seen:?}");
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    for id in &ids {
        // However long the host takes to ask, the answer lies between question and return.
        let before = now();
        let clock: f64 = host.sh(id, "date +%s.%N").trim().parse().unwrap();
        let after = now();
        assert!((before - 0.05..=after + 0.05).contains(&clock), "{before} {clock} {after}");
    }
}

#[test]
fn many_creates_share_one_template_and_none_fails() {
    let host = Host::new().without_templates();
    prepare(&host);
    let create = |number: usize| -> Child {
        host.command(["workspace", "create", "debian:12", "--name", &format!("clone{number}")])
            .args(SMALL)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let creates: Vec<Child> = (0..10).map(create).collect();
    for mut child in creates {
        assert!(child.wait().unwrap().success());
    }
    for number in 0..10 {
        let name = format!("clone{number}");
        assert_eq!(host.sh(&name, "hostname"), format!("{name}\n"));
    }
    assert_eq!(host.templates().len(), 1);
}

/// A process that keeps machines warm.
struct Keeper(Child);

impl Keeper {
    fn start(host: &Host, count: &str) -> Self {
        Self::of(host, count, "auto")
    }

    fn of(host: &Host, count: &str, engine: &str) -> Self {
        let mut command = host.command(["prepare", "--warm", count, "--engine", engine]);
        Self(command.args(SMALL).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn interrupt(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

/// A test that fails leaves no machines to others.
impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The warm machines that wait.
fn waiting(host: &Host) -> usize {
    let Ok(kinds) = fs::read_dir(host.home().join("warm")) else { return 0 };
    let places = kinds.flatten().flat_map(|kind| fs::read_dir(kind.path()).into_iter().flatten());
    places.flatten().filter(|place| place.path().join("claim.sock").exists()).count()
}

#[test]
fn warm_machines_are_taken_replaced_and_end_with_their_keeper() {
    let host = Host::new().without_templates();
    prepare(&host);
    let keeper = Keeper::start(&host, "2");
    until("two are warm", || waiting(&host) == 2);
    let seed = host.path("seed");
    crate::harness::fill(&seed, &[("a file", "content\n")]);
    let seed = seed.to_str().unwrap().to_owned();
    let id = host.create(SMALL.into_iter().chain(["--seed-path", &seed]));
    assert_eq!(host.sh(&id, "cat 'a file'; stat -c %a .; echo new > new"), "content\n755\n");
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]), "new\n");
    let other = host.create(SMALL);
    let machine_id = |id: &str| host.sh(id, "cat /etc/machine-id /proc/sys/kernel/random/boot_id");
    assert_ne!(machine_id(&id), machine_id(&other));
    until("both are replaced", || waiting(&host) == 2);
    // Another size is no machine for this template.
    let large = host.create(["--mem-mib", "300", "--disk-mib", "512"]);
    assert_eq!(waiting(&host), 2);
    host.ok(["workspace", "delete", &large]);
    keeper.interrupt();
    until("none waits", || waiting(&host) == 0);
    // Those that were taken live on without it, like any other.
    assert_eq!(host.sh(&id, "cat new"), "new\n");
    host.ok(["workspace", "stop", &id]);
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "cat 'a file' new"), "content\nnew\n");
}

#[test]
fn containers_wait_warm_too() {
    let host = Host::new().without_templates();
    let mut run = host.command(["run", "debian:12", "--engine", "container"]);
    let output = run.args(SMALL).args(["--", "true"]).output().unwrap();
    if !output.status.success() {
        skip(&String::from_utf8_lossy(&output.stderr));
        return;
    }
    let keeper = Keeper::of(&host, "2", "container");
    until("two are warm", || waiting(&host) == 2);
    let seed = host.path("seed");
    crate::harness::fill(&seed, &[("a file", "content\n")]);
    let container = ["--engine", "container", "--seed-path", seed.to_str().unwrap()];
    let id = host.create(SMALL.into_iter().chain(container));
    assert_eq!(host.sh(&id, "cat 'a file'; echo new > new; hostname"), format!("content\n{id}\n"));
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]), "new\n");
    until("it is replaced", || waiting(&host) == 2);
    host.ok(["workspace", "pause", &id]);
    host.ok(["workspace", "resume", &id]);
    keeper.interrupt();
    until("none waits", || waiting(&host) == 0);
    host.ok(["workspace", "stop", &id]);
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "cat 'a file' new"), "content\nnew\n");
}

#[test]
fn a_keeper_that_is_killed_takes_its_machines_along() {
    let host = Host::new().without_templates();
    prepare(&host);
    let mut keeper = Keeper::start(&host, "1");
    until("one is warm", || waiting(&host) == 1);
    keeper.0.kill().unwrap();
    keeper.0.wait().unwrap();
    until("none waits", || waiting(&host) == 0);
    let mut run = Command::new(PYRO);
    run.args(["run", "debian:12"]).args(SMALL).args(["--", "true"]);
    assert!(run.env("PYRO_HOME", host.home()).stderr(Stdio::null()).status().unwrap().success());
}

#[test]
fn a_warm_machine_that_is_killed_is_no_trouble_to_the_next_create() {
    let host = Host::new().without_templates();
    prepare(&host);
    let keeper = Keeper::start(&host, "1");
    until("one is warm", || waiting(&host) == 1);
    let of_home = host.home().to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(" warm --keeper-fd") && line.contains(&of_home) {
            let pid = entry.file_name();
            assert!(Command::new("kill").arg("-KILL").arg(pid).status().unwrap().success());
        }
    }
    let id = host.create(SMALL);
    assert_eq!(host.sh(&id, "echo up"), "up\n");
    keeper.interrupt();
}
