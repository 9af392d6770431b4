//! What a workspace is seeded with when nobody says, and what of the host a call may reach.

use serde_json::json;

use super::wire::{OverStdio, host};
use crate::harness::{fill, git, is_root, skip};

#[test]
fn a_messy_checkout_is_told_and_how_to_go_on() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, project) = host();
    let place = project.to_str().unwrap();
    let mut server = OverStdio::start(&host, &["--project-path", place]);
    let create = json!({"environment": "debian:12", "name": "messy"});

    fill(&project, &[("notes/a", "untracked"), ("notes/b", "untracked"), ("scratch", "untracked")]);
    let made = server.ok("workspace_create", create.clone());
    let note = made["note"].as_str().unwrap();
    assert!(note.contains("2 untracked files or directories: notes/, scratch"), "{note}");
    assert!(note.contains(r#""kind":"path""#), "{note}");
    let listed = server.ok("workspace_exec", json!({"workspace": "messy", "command": "ls"}));
    assert_eq!(listed["stdout"], "greeting\n");
    server.ok("workspace_delete", json!({"workspace": "messy"}));

    fill(&project, &[("greeting", "changed\n")]);
    git(&project, &["add", "scratch"]);
    let error = server.error("workspace_create", create.clone());
    assert_eq!(error["code"], "invalid_seed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("2 uncommitted changes") && message.contains("greeting"), "{message}");
    assert!(message.contains("1 untracked"), "{message}");

    // The hint's own words do it.
    let mut taken = create.clone();
    taken["seed"] = json!({"kind": "path", "path": place});
    server.ok("workspace_create", taken);
    let read = server
        .ok("workspace_exec", json!({"workspace": "messy", "command": "cat greeting notes/a"}));
    assert_eq!(read["stdout"], "changed\nuntracked");
    server.ok("workspace_delete", json!({"workspace": "messy"}));
    let mut committed = create;
    committed["seed"] = json!({"kind": "git", "repository": place});
    server.ok("workspace_create", committed);
    let read =
        server.ok("workspace_exec", json!({"workspace": "messy", "command": "cat greeting"}));
    assert_eq!(read["stdout"], "hello\n");
}

#[test]
fn a_project_without_git_is_told_and_how_to_go_on() {
    let (host, _) = host();
    let plain = host.path("plain");
    fill(&plain, &[("a", "b")]);
    let mut server = OverStdio::start(&host, &["--project-path", plain.to_str().unwrap()]);
    let error = server.error("workspace_create", json!({"environment": "debian:12"}));
    assert_eq!(error["code"], "invalid_seed");
    assert!(error["hint"].as_str().unwrap().contains(r#""kind":"path""#), "{error}");
}

#[test]
fn calls_reach_the_project_and_nothing_else_of_the_host() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, project) = host();
    let (secret, allowed) = (host.path("secret"), host.path("allowed"));
    fill(&secret, &[("key", "s3cret")]);
    fill(&allowed, &[("data", "fine")]);
    std::os::unix::fs::symlink(&secret, project.join("way-out")).unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-qm", "link"]);
    let args =
        ["--project-path", project.to_str().unwrap(), "--allow-path", allowed.to_str().unwrap()];
    let mut server = OverStdio::start(&host, &args);
    for seed in [
        json!({"kind": "path", "path": secret}),
        json!({"kind": "path", "path": "way-out"}),
        json!({"kind": "path", "path": "../secret"}),
        json!({"kind": "git", "repository": secret}),
    ] {
        let error =
            server.error("workspace_create", json!({"environment": "debian:12", "seed": seed}));
        assert_eq!(error["code"], "permission_denied", "{seed}");
    }
    let seed = json!({"kind": "path", "path": allowed});
    server.ok("workspace_create", json!({"environment": "debian:12", "name": "w", "seed": seed}));
    let export =
        |output: &str| json!({"workspace": "w", "path": "data", "output": output, "force": true});
    for output in ["/etc/passwd", "../out", "way-out/key"] {
        assert_eq!(server.error("workspace_export", export(output))["code"], "permission_denied");
    }
    assert_eq!(std::fs::read_to_string(secret.join("key")).unwrap(), "s3cret");
    server.ok("workspace_export", export("out"));
    assert_eq!(std::fs::read_to_string(project.join("out")).unwrap(), "fine");
}

#[test]
fn without_a_project_nothing_of_the_host_is_reached() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, project) = host();
    let mut server = OverStdio::start(&host, &[]);
    let made = server.ok("workspace_create", json!({"environment": "debian:12", "name": "empty"}));
    assert_eq!(made["seed"]["kind"], "empty");
    assert!(made["note"].as_str().unwrap().contains("empty"));
    let seed = json!({"kind": "path", "path": project});
    let error = server.error("workspace_create", json!({"environment": "debian:12", "seed": seed}));
    assert_eq!(error["code"], "permission_denied");
    assert!(error["hint"].as_str().unwrap().contains("--project-path"), "{error}");
}
