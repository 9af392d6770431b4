use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::harness::{Host, fill};

#[test]
fn a_file_a_tree_and_a_system_file_come_out() {
    let host = Host::new();
    let seed = host.path("seed");
    fill(&seed, &[("dist/a", "a"), ("dist/sub/b", "b")]);
    let id = host.create(["--seed-path", seed.to_str().unwrap()]);
    host.sh(&id, "echo c > dist/sub/c; rm dist/a; chmod 4755 dist/sub/c; ln -s /etc/passwd dist/link; mkfifo dist/pipe");
    let out = host.path("out dir");
    host.ok(["workspace", "export", &id, "dist", "--output", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(out.join("sub/b")).unwrap(), "b");
    let exported = fs::metadata(out.join("sub/c")).unwrap();
    assert_eq!(exported.permissions().mode() & 0o7777, 0o755, "setuid stays inside");
    assert!(!out.join("a").exists());
    assert_eq!(fs::read_link(out.join("link")).unwrap().to_str(), Some("/etc/passwd"));

    let file = host.path("os-release");
    host.ok(["workspace", "export", &id, "/etc/os-release", "--output", file.to_str().unwrap()]);
    // /etc/os-release is a link in Debian, and comes out as one.
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    let absolute = host.path("b");
    host.ok([
        "workspace",
        "export",
        &id,
        "/workspace/dist/sub/b",
        "--output",
        absolute.to_str().unwrap(),
    ]);
    assert_eq!(fs::read(&absolute).unwrap(), b"b");

    let tar = host.output(["workspace", "export", &id, "dist/sub", "--output", "-"]);
    let list = host.path("sub.tar");
    fs::write(&list, tar.stdout).unwrap();
    let listed = Command::new("tar").arg("tf").arg(&list).output().unwrap();
    let mut names: Vec<_> = std::str::from_utf8(&listed.stdout).unwrap().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["sub/", "sub/b", "sub/c"]);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "mkdir d; echo new > d/file");
    let out = host.path("out");
    fill(&out, &[("mine", "precious")]);
    let error = host.error(["workspace", "export", &id, "d", "--output", out.to_str().unwrap()], 1);
    assert_eq!(error["code"], "unsafe_target");
    assert!(error["hint"].as_str().unwrap().contains("--force"));
    assert_eq!(fs::read_to_string(out.join("mine")).unwrap(), "precious");
    host.ok(["workspace", "export", &id, "d", "--output", out.to_str().unwrap(), "--force"]);
    assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "new\n");
    assert!(!out.join("mine").exists());
}

#[test]
fn a_link_never_leads_an_export_outside() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let outside = host.path("outside");
    fill(&outside, &[("victim", "safe")]);
    // In the workspace: a directory that becomes a link to the host's path, and a link on the way.
    host.sh(
        &id,
        &format!("mkdir t; ln -s '{}' t/escape; ln -s ../../../../../../etc up", outside.display()),
    );
    let out = host.path("out");
    host.ok(["workspace", "export", &id, "t", "--output", out.to_str().unwrap()]);
    assert!(fs::symlink_metadata(out.join("escape")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "safe");
    for path in
        ["up/passwd", "t/escape/victim", "../etc/passwd", "/workspace/../etc/passwd", "no/such"]
    {
        let error = host.error(
            ["workspace", "export", &id, path, "--output", host.path("x").to_str().unwrap()],
            1,
        );
        assert!(
            ["not_found", "invalid_argument"].contains(&error["code"].as_str().unwrap()),
            "{path}: {error}"
        );
    }
    // On the host: the target is a link; with force the link itself is replaced.
    let link = host.path("link");
    symlink(&outside, &link).unwrap();
    let error =
        host.error(["workspace", "export", &id, "t", "--output", link.to_str().unwrap()], 1);
    assert_eq!(error["code"], "unsafe_target");
    host.ok(["workspace", "export", &id, "t", "--output", link.to_str().unwrap(), "--force"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_dir());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "truncate -s 3G holes; printf end >> holes");
    let out = host.path("holes");
    host.ok(["workspace", "export", &id, "holes", "--output", out.to_str().unwrap()]);
    let meta = fs::metadata(&out).unwrap();
    assert_eq!(meta.len(), (3 << 30) + 3);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}
