use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Host, shared_home};

#[test]
fn environments_are_listed_and_shown() {
    let host = Host::new();
    let list = host.json(["env", "list"]);
    let debian = list.as_array().unwrap().iter().find(|e| e["name"] == "debian:12").unwrap();
    assert_eq!(debian["cached"], true);
    let details = host.json(["env", "inspect", "debian:12", "--verify"]);
    let packages = details["packages"].as_array().unwrap();
    for name in ["bash", "coreutils", "git", "python3", "ca-certificates"] {
        assert!(packages.iter().any(|package| package["name"] == name), "{name}");
    }
    assert!(host.ok(["env", "list"]).contains("debian:12-build"));
}

/// A home with the cache in it, by hard links: what is removed there stays in the shared one.
fn home_with_own_cache() -> (TempDir, std::path::PathBuf) {
    let shared = shared_home();
    let parent = shared.parent().unwrap();
    let temp = tempfile::Builder::new().prefix(".pyro-e2e-").tempdir_in(parent).unwrap();
    let home = temp.path().join("home");
    std::fs::create_dir(&home).unwrap();
    for part in ["environments", "images", "kernels", "boot"] {
        if shared.join(part).exists() {
            let copied = Command::new("cp")
                .arg("-al")
                .arg(shared.join(part))
                .arg(home.join(part))
                .status()
                .unwrap();
            assert!(copied.success());
        }
    }
    (temp, home)
}

#[test]
fn prune_keeps_what_a_workspace_stands_on() {
    let (temp, home) = home_with_own_cache();
    let pyro = |args: &[&str]| {
        let output =
            Command::new(crate::harness::PYRO).args(args).env("PYRO_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{args:?} {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let id = pyro(&["workspace", "create", "debian:12", "--id-only"]);
    let id = id.trim();
    pyro(&["workspace", "stop", id]);
    pyro(&["env", "prune"]);
    pyro(&["workspace", "start", id]);
    assert_eq!(pyro(&["workspace", "exec", id, "--", "echo", "up"]), "up\n");
    pyro(&["workspace", "delete", id]);
    pyro(&["env", "prune"]);
    let list: serde_json::Value = serde_json::from_str(&pyro(&["env", "list", "--json"])).unwrap();
    assert!(list.as_array().unwrap().iter().all(|e| e["cached"] == false), "{list}");
    drop(temp);
}
