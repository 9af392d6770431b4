//! Bad input and bad hosts: a clear error with its hint, nothing lost, nothing half-made.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Host, fill, is_root, skip};

#[test]
fn what_does_not_exist_or_makes_no_sense_is_refused_before_anything_is_made() {
    let host = Host::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["workspace", "status", "nobody"], 1, "not_found"),
        (&["workspace", "delete", "ws-aaaaaaaaaa"], 1, "not_found"),
        (&["workspace", "exec", "nobody", "--", "true"], 125, "not_found"),
        (&["workspace", "diff", "nobody"], 1, "not_found"),
        (&["workspace", "create", "debian:12", "--seed-path", "/no/such/place"], 1, "invalid_seed"),
        (&["workspace", "create", "debian:12", "--seed-path", "/etc/passwd"], 1, "invalid_seed"),
        (&["workspace", "create", "debian:12", "--seed-path", "/dev/null"], 1, "invalid_seed"),
        (&["workspace", "create", "debian:12", "--mem-mib", "1"], 1, "invalid_argument"),
        (&["workspace", "create", "debian:12", "--vcpu-count", "0"], 1, "invalid_argument"),
        (&["run", "debian:12", "--disk-mib", "1", "--", "true"], 125, "invalid_argument"),
    ];
    for (args, exit, code) in cases {
        assert_eq!(host.error(*args, *exit)["code"], *code, "{args:?}");
        assert!(host.leftovers().is_empty(), "{args:?} left something");
    }
    // What the parser refuses, it explains on stderr, with the usual exit code 2.
    for (args, word) in [
        (&["workspace", "create", "debian:99"][..], "debian:12"),
        (&["workspace", "create", "docker.io/library/alpine"][..], "OCI"),
        (&["workspace", "create", "debian:12", "--name", "../etc"][..], "name"),
        (&["workspace", "create", "debian:12", "--name", "ws-aaaaaaaaaa"][..], "id"),
        (&["workspace", "create", "debian:12", "--label", "novalue"][..], "KEY=VALUE"),
        (&["workspace", "create", "debian:12", "--engine", "docker"][..], "qemu"),
        (&["workspace", "exec", "x"][..], "--"),
    ] {
        let output = host.output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(word), "{args:?}: {text}");
    }
}

#[test]
fn a_damaged_workspace_harms_no_other_and_keeps_its_disk() {
    let host = Host::new();
    let good = host.create(["--name", "good"]);
    let bad = host.create(["--name", "bad"]);
    host.sh(&bad, "echo precious > file");
    host.ok(["workspace", "stop", &bad]);
    let dir = host.home().join("workspaces").join(&bad);
    let record = fs::read(dir.join("workspace.json")).unwrap();
    let disk = fs::metadata(dir.join("disk")).unwrap().len();

    for text in [&b""[..], b"{\"version\":", b"\0\0\0\0", b"{}"] {
        fs::write(dir.join("workspace.json"), text).unwrap();
        let output = host.output(["workspace", "list"]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(&good));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&bad), "{output:?}");
        let error = host.error(["workspace", "status", &bad], 1);
        assert_eq!(error["code"], "damaged");
        assert!(error["message"].as_str().unwrap().contains("workspace.json"));
        assert_eq!(host.sh("good", "echo fine"), "fine\n");
    }
    fs::write(dir.join("workspace.json"), record).unwrap();
    assert_eq!(fs::metadata(dir.join("disk")).unwrap().len(), disk);
    host.ok(["workspace", "start", &bad]);
    assert_eq!(host.sh("bad", "cat file"), "precious\n");
    host.ok(["workspace", "stop", &bad]);
    fs::write(dir.join("workspace.json"), b"garbage").unwrap();
    host.ok(["workspace", "delete", &bad]);
    assert_eq!(host.leftovers(), [good]);
}

#[test]
fn a_lock_that_nobody_holds_is_no_obstacle() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.ok(["workspace", "stop", &id]);
    let dir = host.home().join("workspaces").join(&id);
    // Files that look like locks and sockets, but belong to nobody.
    fs::write(dir.join("lock"), "12345\n").unwrap();
    fs::write(dir.join("control.sock"), "").unwrap();
    fs::write(host.home().join("workspaces/.lock"), "stale").unwrap();
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "echo up"), "up\n");
}

#[test]
fn without_qemu_or_mkfs_the_error_names_what_to_install() {
    let host = Host::new();
    let bin = host.path("bin");
    fs::create_dir(&bin).unwrap();
    let without = |args: &[&str]| {
        let output = host
            .command(args)
            .env("PATH", &bin)
            .env("PYRO_QEMU", bin.join("none"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = without(&["workspace", "create", "debian:12", "--json"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing_dependency") && text.contains("apt-get install qemu"), "{text}");
    let (code, text) = without(&["doctor", "--json"]);
    assert_eq!(code, Some(1));
    let checks: serde_json::Value = serde_json::from_str(&text).unwrap();
    let qemu = checks.as_array().unwrap().iter().find(|c| c["name"] == "engine qemu").unwrap();
    assert_eq!(qemu["status"], "failed");
    assert!(qemu["fix"].as_str().unwrap().contains("apt-get install"));
    assert!(host.leftovers().is_empty());
}

/// A filesystem of its own for a home, unmounted when dropped.
struct SmallDisk {
    temp: TempDir,
}

impl SmallDisk {
    fn new(mib: u64) -> Self {
        let temp = TempDir::with_prefix("pyro e2e disk ").unwrap();
        let image = temp.path().join("image");
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        fs::create_dir(temp.path().join("mnt")).unwrap();
        let script =
            "PATH=$PATH:/usr/sbin:/sbin; mkfs.ext4 -q -m 0 \"$1\" && mount -o loop \"$1\" \"$2\"";
        let mounted = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&image, &temp.path().join("mnt")])
            .status()
            .unwrap();
        assert!(mounted.success());
        Self { temp }
    }

    fn path(&self) -> &Path {
        self.temp.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path().join("mnt")).status();
    }
}

#[test]
fn a_full_disk_is_said_plainly_and_leaves_nothing_half_made() {
    if !is_root() {
        skip("needs root to mount a small disk");
        return;
    }
    let disk = SmallDisk::new(48);
    let host =
        Host::at(TempDir::with_prefix("pyro e2e full ").unwrap(), disk.path().join("mnt/home"));
    let seed = host.path("seed");
    fill(&seed, &[("small", "s")]);
    fs::write(seed.join("large"), vec![1; 64 << 20]).unwrap();
    let error =
        host.error(["workspace", "create", "debian:12", "--seed-path", seed.to_str().unwrap()], 1);
    assert_eq!(error["code"], "no_space", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("space"));
    assert!(host.leftovers().is_empty());

    // A workspace that fits, whose machine then writes more than the host has.
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "echo precious > file; sync");
    let _ = host.output([
        "workspace",
        "exec",
        &id,
        "--timeout-seconds",
        "60",
        "--",
        "sh",
        "-c",
        "head -c 100M /dev/urandom > big; sync",
    ]);
    host.wait_until_quiet();
    let status = host.status(&id);
    assert_eq!(status["state"], "failed");
    assert!(
        status["error"]["cause"].as_str().unwrap_or_default().contains("no space left"),
        "{status}"
    );
    // What was synced is there to take out, on a disk that has room.
    let out = host.path("out");
    host.ok(["workspace", "export", &id, "file", "--output", out.to_str().unwrap()]);
    assert_eq!(fs::read(out).unwrap(), b"precious\n");
    host.ok(["workspace", "delete", &id]);
    assert!(host.leftovers().is_empty());
    let again = host.create([] as [&str; 0]);
    assert_eq!(host.sh(&again, "echo works"), "works\n");
    host.ok(["workspace", "delete", &again]);
    drop(host);
    drop(disk);
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let host = Host::new();
    let output = host
        .command(["workspace", "list", "--json"])
        .env("PYRO_HOME", "/proc/no-home")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/proc/no-home") && text.contains("PYRO_HOME"), "{text}");
}

#[test]
fn a_disk_that_is_full_inside_is_the_guests_own_affair() {
    let host = Host::new();
    let id = host.create(["--disk-mib", "64"]);
    let output =
        host.output(["workspace", "exec", &id, "--", "sh", "-c", "head -c 200M /dev/zero > big"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"), "{output:?}");
    host.sh(&id, "rm big; echo fine > file");
    assert_eq!(host.ok(["workspace", "diff", &id, "--name-only"]), "file\n");
}
