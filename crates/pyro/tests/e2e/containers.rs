//! What is particular to containers: the OCI runtimes, and what may be left when all is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Host, is_root, skip, wait_for_cgroups};

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Creates a workspace with the OCI runtime, works in it, looks at it, and deletes it.
fn works_with(host: &Host, runtime: &Path, isolation: &str) {
    let pyro = |args: &[&str]| {
        let output = host.command(args).env("PYRO_OCI_RUNTIME", runtime).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", runtime.display());
        String::from_utf8(output.stdout).unwrap()
    };
    let create = ["workspace", "create", "debian:12", "--engine", "container", "--id-only"];
    let id = pyro(&create);
    let id = id.trim();
    pyro(&["workspace", "exec", id, "--", "sh", "-c", "echo it > file"]);
    assert_eq!(pyro(&["workspace", "diff", id, "--name-only"]), "file\n");
    let status = pyro(&["--json", "workspace", "status", id]);
    assert!(status.contains(&format!("\"isolation\":\"{isolation}\"")), "{status}");
    pyro(&["workspace", "stop", id]);
    pyro(&["workspace", "start", id]);
    assert_eq!(pyro(&["workspace", "exec", id, "--", "cat", "file"]), "it\n");
    pyro(&["workspace", "delete", id]);
}

#[test]
fn each_installed_runtime_runs_containers() {
    if !is_root() {
        return skip("containers need root");
    }
    let host = Host::new();
    for runtime in ["crun", "runc", "runsc"] {
        if installed(runtime) {
            let isolation = if runtime == "runsc" { "user_kernel" } else { "shared_kernel" };
            works_with(&host, Path::new(runtime), isolation);
        } else {
            skip(&format!("{runtime} is not installed"));
        }
    }
}

/// gVisor is given the project before it starts, and other arguments. A program of its name that
/// has `crun` carry them out shows that all of it is there; it does not show that gVisor likes it.
#[test]
fn a_runtime_with_gvisors_command_line_gets_all_that_it_needs() {
    if !is_root() || !installed("crun") {
        return skip("this needs root and crun");
    }
    let host = Host::new();
    let script: PathBuf = host.path("runsc");
    let lines = [
        "#!/bin/sh",
        "fds=0 args=",
        "for word; do case $word in",
        "  --network=none|--overlay2=none) ;;",
        "  --pass-fd=*) fds=$((fds+1)) ;;",
        "  *) args=\"$args $word\" ;;",
        "esac; done",
        "exec crun $(echo \"$args\" | sed \"s/ run / run --preserve-fds $fds /\")",
    ];
    fs::write(&script, lines.join("\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    works_with(&host, &script, "user_kernel");
}

/// The keeper cleans up when its owner is killed, the owner when the keeper is; if both are killed
/// at once, empty cgroups are left, and the next container takes them away.
#[test]
fn what_is_left_of_a_container_that_was_killed_with_all_its_keepers_is_swept() {
    if !is_root() {
        return skip("containers need root");
    }
    let host = Host::new();
    let id = host.create(["--engine", "container"]);
    let record = host.home().join("workspaces").join(&id).join("workspace.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let pid = |who: &str| record["run"][who]["pid"].as_u64().unwrap().to_string();
    let victims = [pid("machine"), pid("supervisor")];
    // Stopped first, so that neither has time to do anything for the other.
    for signal in ["-STOP", "-KILL"] {
        let killed = Command::new("kill").arg(signal).args(&victims).status().unwrap();
        assert!(killed.success());
    }
    host.wait_until_quiet();
    assert_eq!(host.status(&id)["state"], "failed");
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.sh(&id, "echo up"), "up\n");
    wait_for_cgroups(&[record["run"]["supervisor"]["pid"].as_u64().unwrap()]);
}
