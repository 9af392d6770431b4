//! Syncs that are hard: killed, raced, out of space, watched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Host, fill, is_root, skip};

/// A small generator of its own, so that a failing run can be repeated from its printed seed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("PYRO_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
        eprintln!("PYRO_TEST_SEED={seed}");
        Self(seed)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

type Tree = BTreeMap<PathBuf, (char, u32, Vec<u8>)>;

fn tree(at: &Path) -> Tree {
    fn walk(at: &Path, top: &Path, all: &mut Tree) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(top).unwrap().to_owned();
            let mode = meta.permissions().mode() & 0o1777;
            if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                all.insert(name, ('l', 0, target));
            } else if meta.is_dir() {
                walk(&path, top, all);
                all.insert(name, ('d', mode, Vec::new()));
            } else {
                all.insert(name, ('f', mode, fs::read(&path).unwrap()));
            }
        }
    }
    let mut all = Tree::new();
    walk(at, at, &mut all);
    all
}

/// Changes a tree at random: makes, edits, removes, changes the kind of things.
fn shuffle(dice: &mut Dice, at: &Path, steps: u64) {
    for _ in 0..steps {
        let names = ["a", "b", "ü c", "d\n", "e"];
        let depth = 1 + dice.roll(3);
        let mut path = at.to_owned();
        for _ in 1..depth {
            path.push(names[dice.roll(5) as usize]);
        }
        // A file or link is on the way.
        let on_the_way = path.ancestors().take_while(|above| above.starts_with(at));
        let is_no_directory = |above: &Path| above.symlink_metadata().is_ok_and(|it| !it.is_dir());
        if on_the_way.into_iter().any(is_no_directory) {
            continue;
        }
        fs::create_dir_all(&path).unwrap();
        path.push(names[dice.roll(5) as usize]);
        let remove = |path: &Path| match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        };
        match dice.roll(6) {
            0 => remove(&path),
            1 => {
                remove(&path);
                symlink(names[dice.roll(5) as usize], &path).unwrap();
            }
            2 => {
                remove(&path);
                fs::create_dir(&path).unwrap();
                let mode = [0o755, 0o700, 0o777][dice.roll(3) as usize];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            _ => {
                remove(&path);
                let size = [0, 1, 100, 5000, 300_000][dice.roll(5) as usize];
                let byte = dice.roll(256) as u8;
                fs::write(&path, vec![byte; size]).unwrap();
                let mode = [0o644, 0o755, 0o600][dice.roll(3) as usize];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// A container where that can run, for its speed; else whatever there is.
fn create(host: &Host) -> String {
    let engine: &[&str] = if is_root() { &["--engine", "container"] } else { &[] };
    host.create(engine)
}

fn kill(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// The machine's tree by another way than a sync.
fn exported(host: &Host, id: &str, round: u64) -> Tree {
    let to = host.path(format!("export{round}"));
    host.ok(["workspace", "export", id, ".", "--output", to.to_str().unwrap()]);
    let found = tree(&to);
    fs::remove_dir_all(&to).unwrap();
    found
}

#[test]
fn whatever_is_pushed_is_what_comes_back() {
    let (host, mut dice) = (Host::new(), Dice::new());
    let id = create(&host);
    let (here, back) = (host.path("here"), host.path("back"));
    fs::create_dir(&here).unwrap();
    for round in 0..25 {
        shuffle(&mut dice, &here, 12);
        host.ok(["workspace", "sync", "push", &id, here.to_str().unwrap(), "--delete"]);
        assert_eq!(exported(&host, &id, round), tree(&here), "round {round}: pushed");
        host.ok(["workspace", "sync", "pull", &id, ".", back.to_str().unwrap(), "--delete"]);
        assert_eq!(tree(&back), tree(&here), "round {round}: pulled");
    }
}

fn spawn(host: &Host, args: &[&str]) -> Child {
    host.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn supervisor(host: &Host, id: &str) -> u32 {
    let record = host.home().join("workspaces").join(id).join("workspace.json");
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    u32::try_from(record["run"]["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

fn wait_until_gone(pid: u32) {
    while Path::new("/proc").join(pid.to_string()).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_push_that_is_killed_has_happened_or_not() {
    if !is_root() {
        return skip("a hundred rounds take a container, which needs root");
    }
    let (host, mut dice) = (Host::new(), Dice::new());
    let id = create(&host);
    let here = host.path("here");
    fs::create_dir(&here).unwrap();
    shuffle(&mut dice, &here, 60);
    let push = ["workspace", "sync", "push", &id, here.to_str().unwrap(), "--delete"];
    host.ok(push);
    let mut old = tree(&here);
    let (mut happened, mut not) = (0, 0);
    for round in 0..60 {
        shuffle(&mut dice, &here, 40);
        let new = tree(&here);
        let victim = dice.roll(3);
        let mut client = spawn(&host, &push);
        std::thread::sleep(Duration::from_micros(dice.roll(90_000)));
        match victim {
            0 => kill(client.id(), "-KILL"),
            1 => {
                let supervisor = supervisor(&host, &id);
                kill(supervisor, "-KILL");
                wait_until_gone(supervisor);
            }
            _ => kill(client.id(), "-INT"),
        }
        client.wait().unwrap();
        host.ok(["workspace", "start", &id]);
        // A commit that was under way when its client died is completed before this is read.
        let found = exported(&host, &id, round);
        if found == new {
            happened += 1;
            old = new;
        } else {
            assert!(found == old, "round {round}, victim {victim}: neither old nor new");
            not += 1;
        }
    }
    eprintln!("{happened} happened, {not} did not");
    host.ok(push);
    assert_eq!(exported(&host, &id, 1000), tree(&here));
    assert_eq!(host.sh(&id, "ls -A | grep pyro || true"), "", "nothing is left");
}

#[test]
fn a_pull_that_is_killed_has_happened_or_not() {
    let (host, mut dice) = (Host::new(), Dice::new());
    let id = create(&host);
    let (here, back) = (host.path("here"), host.path("back"));
    fs::create_dir(&here).unwrap();
    let pull = ["workspace", "sync", "pull", &id, ".", back.to_str().unwrap(), "--delete"];
    let mut old = Tree::new();
    for round in 0..40 {
        shuffle(&mut dice, &here, 30);
        host.ok(["workspace", "sync", "push", &id, here.to_str().unwrap(), "--delete"]);
        let new = tree(&here);
        let mut client = spawn(&host, &pull);
        std::thread::sleep(Duration::from_micros(dice.roll(80_000)));
        kill(client.id(), "-KILL");
        client.wait().unwrap();
        // Whoever syncs that directory next finishes what was begun.
        if back.exists() {
            let back = back.to_str().unwrap();
            host.ok(["workspace", "sync", "push", &id, back, "--dest", "/srv/x", "--dry-run"]);
        }
        let found = if back.exists() { tree(&back) } else { Tree::new() };
        let found: Tree =
            found.into_iter().filter(|(path, _)| !path.starts_with(".pyro-sync")).collect();
        assert!(found == old || found == new, "round {round}: neither old nor new");
        host.ok(pull);
        assert_eq!(tree(&back), new);
        old = new;
    }
}

#[test]
fn without_space_nothing_has_happened() {
    let host = Host::new();
    let engine: &[&str] = if is_root() { &["--engine", "container"] } else { &[] };
    let id = host.create(engine.iter().chain(&["--disk-mib", "64"]));
    let here = host.path("here");
    fill(&here, &[("a", "old"), ("b/c", "old")]);
    let push = ["workspace", "sync", "push", &id, here.to_str().unwrap(), "--delete"];
    host.ok(push);
    let before = exported(&host, &id, 0);
    fs::write(here.join("a"), "new").unwrap();
    fs::remove_dir_all(here.join("b")).unwrap();
    for number in 0..8 {
        fs::write(here.join(format!("large{number}")), vec![number; 16 << 20]).unwrap();
    }
    let error = host.error(push, 1);
    assert_eq!(error["code"], "no_space", "{error}");
    assert_eq!(exported(&host, &id, 1), before);
    let free = host.sh(&id, "df --output=avail -m . | tail -1");
    assert!(free.trim().parse::<u64>().unwrap() > 20, "what was begun is gone: {free}");
}

#[test]
fn a_pull_onto_a_full_disk_has_not_happened() {
    if !is_root() {
        return skip("only root can mount a small disk");
    }
    let host = Host::new();
    let id = create(&host);
    let small = host.path("small");
    fs::create_dir(&small).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=2m", "none", small.to_str().unwrap()];
    assert!(Command::new("mount").args(mount).status().unwrap().success());
    fill(&small, &[("a", "old"), ("b", "old")]);
    let push = ["workspace", "sync", "push", &id, small.to_str().unwrap()];
    host.ok(push);
    host.sh(&id, "echo new > a; rm b; head -c 8000000 /dev/urandom > large");
    let pull = ["workspace", "sync", "pull", &id, ".", small.to_str().unwrap(), "--delete"];
    let outcome = std::panic::catch_unwind(|| {
        let error = host.error(pull, 1);
        assert_eq!(error["code"], "no_space", "{error}");
        let left = tree(&small);
        assert_eq!(left.keys().collect::<Vec<_>>(), [Path::new("a"), Path::new("b")]);
        assert_eq!(fs::read(small.join("a")).unwrap(), b"old");
        host.sh(&id, "rm large");
        host.ok(pull);
        assert_eq!(fs::read(small.join("a")).unwrap(), b"new\n");
        assert!(!small.join("b").exists());
    });
    assert!(Command::new("umount").arg("-l").arg(&small).status().unwrap().success());
    outcome.unwrap();
}

#[test]
fn a_file_that_does_not_keep_still_stops_the_push_and_is_named() {
    let host = Host::new();
    let id = create(&host);
    let here = host.path("here");
    fill(&here, &[("still", "s")]);
    // Larger than what is read at once, and never the same for long.
    fs::write(here.join("restless"), vec![0; 64 << 20]).unwrap();
    let mut writer = Command::new("sh")
        .arg("-c")
        .arg("while :; do printf x | dd of=restless bs=1 seek=5000000 conv=notrunc 2>/dev/null; done")
        .current_dir(&here)
        .spawn()
        .unwrap();
    let push = ["workspace", "sync", "push", &id, here.to_str().unwrap()];
    let error = host.error(push, 1);
    let _ = writer.kill();
    writer.wait().unwrap();
    assert_eq!(error["code"], "busy", "{error}");
    assert!(error["message"].as_str().unwrap().contains("restless"), "{error}");
    assert_eq!(host.sh(&id, "ls -A"), "");
    host.ok(push);
}

#[test]
fn an_archive_is_pushed_like_the_tree_that_it_holds() {
    let host = Host::new();
    let id = create(&host);
    let here = host.path("here");
    fill(&here, &[("a", "1"), ("d/b", "2"), ("skip.o", "o")]);
    symlink("a", here.join("l")).unwrap();
    for (name, flag) in [("t.tar", "-c"), ("t.tgz", "-cz"), ("t.tar.zst", "--zstd -c")] {
        let archive = host.path(name);
        let status = Command::new("tar")
            .args(flag.split(' '))
            .arg("-f")
            .arg(&archive)
            .arg("-C")
            .arg(&here)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        let archive = archive.to_str().unwrap();
        let push = ["workspace", "sync", "push", &id, archive, "--dest", name, "--exclude", "*.o"];
        assert_eq!(host.json(push)["sent"], 3);
        assert_eq!(host.json(push)["sent"], 0, "again, nothing is sent");
        let found = host.sh(&id, &format!("cd {name}; cat a d/b; readlink l; ls -A"));
        assert_eq!(found, "12a\na\nd\nl\n");
    }
    let error = host.error(["workspace", "sync", "push", &id, here.join("a").to_str().unwrap()], 1);
    assert_eq!(error["code"], "invalid_argument");
}

#[test]
fn pushes_at_the_same_time_follow_one_another() {
    let host = Host::new();
    let id = create(&host);
    let mut clients = Vec::new();
    for number in 0..6 {
        let here = host.path(format!("here{number}"));
        let files: Vec<(String, String)> =
            (0..100).map(|file| (format!("f{file}"), format!("{number}"))).collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        fill(&here, &files);
        clients.push(spawn(&host, &["workspace", "sync", "push", &id, here.to_str().unwrap()]));
    }
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
    let contents = host.sh(&id, "sort -u f*");
    assert_eq!(contents.lines().count(), 1, "one of them, whole: {contents:?}");
}

/// Follows a `--watch` until a push has brought this.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watching {
    fn until(&mut self, wanted: impl Fn() -> bool) {
        while !wanted() {
            let line = self.lines.next().expect("it still watches").unwrap();
            let pushed: Value = serde_json::from_str(&line).unwrap();
            assert!(pushed["unchanged"].is_u64(), "{pushed}");
        }
    }
}

#[test]
fn a_watched_tree_is_pushed_whenever_it_changes_until_ctrl_c() {
    let host = Host::new();
    let id = create(&host);
    let here = host.path("here");
    fill(&here, &[("a", "1"), ("d/b", "1")]);
    let mut child = host
        .command(["--json", "workspace", "sync", "push", &id, here.to_str().unwrap()])
        .args(["--watch", "--delete", "--exclude", "*.swp"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut watching = Watching { child, lines };
    let shows = |script: &str, wanted: &str| {
        let output = host.output(["workspace", "exec", &id, "--", "sh", "-c", script]);
        String::from_utf8_lossy(&output.stdout).trim() == wanted
    };
    watching.until(|| shows("cat a d/b", "11"));
    fs::write(here.join("a"), "2").unwrap();
    watching.until(|| shows("cat a", "2"));
    fs::create_dir_all(here.join("new/deep")).unwrap();
    fs::write(here.join("new/deep/f"), "3").unwrap();
    watching.until(|| shows("cat new/deep/f", "3"));
    fs::write(here.join("new/deep/f"), "4").unwrap();
    watching.until(|| shows("cat new/deep/f", "4"));
    fs::rename(here.join("new"), here.join("renamed")).unwrap();
    watching.until(|| shows("cat renamed/deep/f; ls new 2>/dev/null", "4"));
    fs::remove_file(here.join("d/b")).unwrap();
    watching.until(|| shows("ls d", ""));
    fs::set_permissions(here.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    watching.until(|| shows("stat -c %a a", "600"));
    symlink("a", here.join("l")).unwrap();
    watching.until(|| shows("readlink l", "a"));
    kill(watching.child.id(), "-INT");
    assert_eq!(watching.child.wait().unwrap().code(), Some(0));
}
