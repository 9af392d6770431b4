use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Host, fill, is_root, skip};

/// Changes the project and the machine in ways that an image must carry.
const CHANGE: &str = r#"
echo new > "/workspace/a b"; ln /workspace/kept /workspace/hard; ln -s /etc/nowhere /workspace/link
rm /workspace/gone; truncate -s 300M /workspace/sparse; printf end >> /workspace/sparse
printf '\377\000\376' > "$(printf '/workspace/\376name')"; mkfifo /workspace/fifo
mkdir -p /opt/deep; echo y > /opt/deep/y; chown 1000:33 /opt/deep/y; chmod 4755 /opt/deep/y
rm -rf /usr/share/doc; echo secret > /run/in-memory"#;

fn stopped(host: &Host, engine: &str) -> String {
    let seed = host.path("seed");
    fill(&seed, &[("kept", "kept\n"), ("gone", "gone\n"), ("sub/deeper/file", "x\n")]);
    let seed = seed.to_str().unwrap().to_owned();
    let id = host.create(["--engine", engine, "--seed-path", &seed]);
    host.sh(&id, CHANGE);
    host.ok(["workspace", "stop", &id]);
    id
}

fn paths(host: &Host, args: &[&str]) -> Vec<String> {
    let listing = host.json([&["workspace", "disk", "list"], args].concat());
    let entries = listing["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_stopped_disk_is_listed_and_read_as_the_machine_would_see_it() {
    for engine in ["qemu", "container"].into_iter().filter(|e| *e == "qemu" || is_root()) {
        let host = Host::new();
        let id = stopped(&host, engine);
        let project = paths(&host, &[&id]);
        assert!(project.contains(&"/workspace/a b".to_owned()), "{project:?}");
        assert!(!project.contains(&"/workspace/gone".to_owned()));
        let all = paths(&host, &[&id, "/", "--recursive"]);
        for path in ["/opt/deep/y", "/workspace/sub/deeper/file", "/usr/bin/git"] {
            assert!(all.contains(&path.to_owned()), "{path}");
        }
        for gone in ["/usr/share/doc", "/run/in-memory"] {
            assert!(!all.contains(&gone.to_owned()), "{gone}");
        }
        let few = host.json(["workspace", "disk", "list", &id, "/usr", "-r", "--max-entries", "3"]);
        assert_eq!(
            (few["entries"].as_array().unwrap().len(), &few["truncated"]),
            (3, &true.into())
        );

        let content = host.ok(["workspace", "disk", "read", &id, "a b", "--content-only"]);
        assert_eq!(content, "new\n");
        let end = ["--offset", &(300u64 << 20).to_string(), "--max-bytes", "2"].map(str::to_owned);
        let mut args = ["workspace", "disk", "read", &id, "sparse"].map(str::to_owned).to_vec();
        args.extend(end);
        let file = host.json(&args);
        assert_eq!(
            (&file["content"], &file["next_offset"]),
            (&"en".into(), &((300u64 << 20) + 2).into())
        );
        let owned = host.json(["workspace", "disk", "read", &id, "/opt/deep/y"]);
        assert_eq!((&owned["uid"], &owned["mode"]), (&1000.into(), &0o4755.into()));
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(b"\xfename");
        let words = ["--json", "workspace", "disk", "read", &id].map(std::ffi::OsStr::new);
        let raw = host.output(words.into_iter().chain([name]));
        let raw: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
        assert_eq!(raw["content_base64"], "/wD+");
    }
}

#[test]
fn an_exported_disk_is_a_clean_filesystem_that_holds_the_merged_tree() {
    let host = Host::new();
    let id = stopped(&host, "qemu");
    let image = host.path("ünï image.ext4");
    let shown = image.to_str().unwrap();
    let report = host.json(["workspace", "disk", "export", &id, "--output", shown]);
    assert!(report["disk_bytes"].as_u64().unwrap() < 600 << 20, "{report}");
    let check = Command::new("/sbin/e2fsck").arg("-fn").arg(&image).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    // Once more it is refused, and with --force it is the same again.
    let error = host.error(["workspace", "disk", "export", &id, "--output", shown], 1);
    assert_eq!(error["code"], "unsafe_target");
    host.ok(["workspace", "disk", "export", &id, "--output", shown, "--force"]);
    if !is_root() {
        return skip("only root can mount the image");
    }
    let mount = Mount::new(&image, host.path("mount"));
    let inside = |path: &str| mount.path.join(path);
    assert_eq!(fs::read(inside("workspace/a b")).unwrap(), b"new\n");
    assert!(!inside("workspace/gone").exists() && !inside("usr/share/doc").exists());
    assert_eq!(fs::read_link(inside("workspace/link")).unwrap(), Path::new("/etc/nowhere"));
    use std::os::unix::fs::MetadataExt as _;
    let meta = |path: &str| fs::metadata(inside(path)).unwrap();
    assert_eq!(
        (meta("workspace/hard").nlink(), meta("workspace/hard").ino()),
        (2, meta("workspace/kept").ino())
    );
    assert_eq!((meta("opt/deep/y").uid(), meta("opt/deep/y").gid()), (1000, 33));
    assert_eq!(meta("opt/deep/y").mode() & 0o7777, 0o4755);
    let sparse = meta("workspace/sparse");
    assert!(sparse.len() == (300 << 20) + 3 && sparse.blocks() * 512 < 1 << 20);
    assert!(inside("usr/bin/git").exists());
    let left: Vec<_> = fs::read_dir(host.path("")).unwrap().flatten().collect();
    assert!(!left.iter().any(|f| f.file_name().to_string_lossy().starts_with(".pyro-disk")));
}

#[test]
fn a_disk_in_use_and_what_is_not_on_it_are_named() {
    let host = Host::new();
    let id = host.create(["--engine", "qemu"]);
    let out = host.path("x.ext4");
    for args in [
        vec!["workspace", "disk", "list", &id],
        vec!["workspace", "disk", "read", &id, "/etc/passwd"],
        vec!["workspace", "disk", "export", &id, "--output", out.to_str().unwrap()],
    ] {
        let error = host.error(&args, 1);
        assert_eq!(error["code"], "wrong_state");
        assert!(error["hint"].as_str().unwrap().contains("pyro workspace stop"));
    }
    host.ok(["workspace", "stop", &id]);
    let missing = host.error(["workspace", "disk", "read", &id, "/no/such"], 1);
    assert_eq!(missing["code"], "not_found");
    let climbing = host.error(["workspace", "disk", "list", &id, "../.."], 1);
    assert_eq!(climbing["code"], "invalid_argument");
    let directory = host.error(["workspace", "disk", "read", &id, "/etc"], 1);
    assert_eq!(directory["code"], "invalid_argument");
    let nowhere = host.path("no/such/dir/x");
    let nowhere = nowhere.to_str().unwrap();
    let error = host.error(["workspace", "disk", "export", &id, "--output", nowhere], 1);
    assert_eq!(error["code"], "not_found");
    // What was only looked at starts as before.
    host.ok(["workspace", "start", &id]);
    host.sh(&id, "test -e /etc/passwd");
}

struct Mount {
    path: std::path::PathBuf,
}

impl Mount {
    fn new(image: &Path, path: std::path::PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", "loop,ro"]).arg(image).arg(&path).status().unwrap();
        assert!(mounted.success());
        Self { path }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}
