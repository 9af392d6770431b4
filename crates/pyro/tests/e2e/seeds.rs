use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::harness::{Host, PYRO, fill, git, is_root, shared_home, skip};

#[test]
fn a_directory_arrives_with_links_modes_odd_names_and_holes() {
    let host = Host::new();
    let seed = host.path("seed dir");
    fill(&seed, &[("a", "a"), ("dir/sub/b", "b"), ("new\nline", "n"), ("empty", "")]);
    use std::os::unix::ffi::OsStrExt as _;
    fs::write(seed.join(std::ffi::OsStr::from_bytes(b"not\xffutf8")), "x").unwrap();
    symlink("dir/sub", seed.join("link")).unwrap();
    symlink("/nowhere", seed.join("dangling")).unwrap();
    fs::set_permissions(seed.join("a"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::create_dir(seed.join("empty dir")).unwrap();
    fs::File::create(seed.join("sparse")).unwrap().set_len(1 << 32).unwrap();
    fs::write(seed.join("large"), vec![7; 20 << 20]).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(seed.join("socket")).unwrap();

    let created =
        host.json(["workspace", "create", "debian:12", "--seed-path", seed.to_str().unwrap()]);
    drop(socket);
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["seed"]["skipped_count"], 1, "{created}");
    assert!(created["seed"]["skipped"][0].as_str().unwrap().contains("socket"));
    let got = host.sh(
        id,
        "stat -c '%n %F %a %s %U' a empty link sparse large 'empty dir'; readlink link dangling; \
         cat dir/sub/b; ls -b | grep -e '^not' -e '^new'; du -k sparse | cut -f1; sha256sum large",
    );
    let lines: Vec<_> = got.lines().collect();
    assert_eq!(lines[0], "a regular file 751 1 root");
    assert_eq!(lines[1], "empty regular empty file 644 0 root");
    assert!(lines[2].starts_with("link symbolic link"));
    assert!(lines[3].ends_with("4294967296 root"));
    assert_eq!(lines[4], "large regular file 644 20971520 root");
    assert!(lines[5].starts_with("empty dir directory 755"));
    assert_eq!(&lines[6..9], ["dir/sub", "/nowhere", "bnew\\nline"]);
    assert_eq!(lines[9], "not\\377utf8");
    let sum = Command::new("sha256sum").arg(seed.join("large")).output().unwrap();
    assert_eq!(lines[11].as_bytes()[..64], sum.stdout[..64]);
    assert_eq!(host.ok(["workspace", "diff", id]), "", "nothing has changed yet");
}

#[test]
fn archives_of_all_three_kinds_are_seeds() {
    let host = Host::new();
    let tree = host.path("tree");
    fill(&tree, &[("one/a.txt", "alpha\n"), ("b.txt", "beta\n")]);
    for (flag, name) in [("-cf", "seed.tar"), ("-czf", "seed.tgz"), ("--zstd -cf", "seed.bin")] {
        let archive = host.path(name);
        let script = format!("tar {flag} '{}' -C '{}' .", archive.display(), tree.display());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let out = host.ok([
            "run",
            "debian:12",
            "--seed-path",
            archive.to_str().unwrap(),
            "--",
            "cat",
            "one/a.txt",
            "b.txt",
        ]);
        assert_eq!(out, "alpha\nbeta\n", "{name}");
    }
}

#[test]
fn a_git_seed_is_the_tracked_files_of_a_commit() {
    let host = Host::new();
    let repository = host.path("repo sitory");
    fill(
        &repository,
        &[
            ("kept", "v1\n"),
            (".gitignore", "ignored\n"),
            (".gitattributes", "hidden export-ignore\n"),
            ("hidden", "h\n"),
        ],
    );
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "one"]);
    git(&repository, &["tag", "v1"]);
    fill(&repository, &[("kept", "v2\n"), ("untracked", "u"), ("ignored", "i")]);
    git(&repository, &["commit", "-qam", "two"]);
    fill(&repository, &[("kept", "not committed\n")]);
    let path = repository.to_str().unwrap();

    let created = host.json(["workspace", "create", "debian:12", "--seed-git", path]);
    let id = created["id"].as_str().unwrap();
    assert_eq!(
        created["seed"]["commit"].as_str().unwrap(),
        git(&repository, &["rev-parse", "HEAD"]).trim()
    );
    assert_eq!(host.sh(id, "cat kept; ls -A"), "v2\n.gitattributes\n.gitignore\nhidden\nkept\n");
    let tagged =
        host.ok(["run", "debian:12", "--seed-git", &format!("{path}#v1"), "--", "cat", "kept"]);
    assert_eq!(tagged, "v1\n");
    // The same through git's own transport, as from a server.
    let url = format!("file://{}#main", path.replace(' ', "%20"));
    let url = if path.contains(' ') { format!("file://{path}#main") } else { url };
    assert_eq!(host.ok(["run", "debian:12", "--seed-git", &url, "--", "cat", "kept"]), "v2\n");

    for (source, word) in [
        (format!("{path}#no-such-branch"), "no-such-branch"),
        (host.path("nowhere").to_str().unwrap().to_owned(), "nowhere"),
        ("--upload-pack=touch /tmp/x".to_owned(), "upload-pack"),
    ] {
        let error =
            host.error(["workspace", "create", "debian:12", &format!("--seed-git={source}")], 1);
        assert_eq!(error["code"], "invalid_seed", "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(host.leftovers(), [id]);
}

#[test]
fn a_seed_of_fifty_thousand_files_is_taken() {
    let host = Host::new();
    let seed = host.path("many");
    for dir in 0..50 {
        let dir = seed.join(format!("dir{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..1000 {
            fs::write(dir.join(format!("file{file}")), format!("{file}\n")).unwrap();
        }
    }
    let created =
        host.json(["workspace", "create", "debian:12", "--seed-path", seed.to_str().unwrap()]);
    assert_eq!(created["seed"]["entries"], 50_051);
    let id = created["id"].as_str().unwrap();
    assert_eq!(host.sh(id, "cat dir49/file999; ls dir7 | wc -l"), "999\n1000\n");
    host.sh(id, "echo changed > dir3/file3; rm -r dir4");
    let names = host.ok(["workspace", "diff", id, "--name-only"]);
    assert_eq!(names.lines().count(), 1002);
}

#[test]
fn one_unreadable_file_is_named_and_nothing_is_left() {
    if !is_root() {
        skip("needs root to become another user");
        return;
    }
    let host = Host::new();
    let top = host.path("for nobody");
    let seed = top.join("seed");
    fill(&seed, &[("fine", "f"), ("sub/secret", "s")]);
    fs::set_permissions(seed.join("sub/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    // An ordinary user, with a home and a copy of the environment of its own: the way to the
    // shared one may lead through directories that are closed to others, as root's home is.
    let home = top.join("home");
    fs::create_dir(&home).unwrap();
    for part in ["environments", "images", "kernels", "boot"] {
        let copied = Command::new("cp")
            .args(["-r", "--reflink=auto", "--sparse=always"])
            .args([shared_home().join(part), home.join(part)])
            .status()
            .unwrap();
        assert!(copied.success(), "{part} is copied");
    }
    let script = "chown -R 65534:65534 \"$1\" && chmod 0711 \"$2\" && chown 0:0 \"$3\"";
    let prepared = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([&top, &top.parent().unwrap().to_path_buf(), &seed.join("sub/secret")])
        .status()
        .unwrap();
    assert!(prepared.success());
    let program = top.join("pyro");
    fs::copy(PYRO, &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["workspace", "create", "debian:12", "--json", "--seed-path"])
        .arg(&seed)
        .env("PYRO_HOME", &home)
        .env("HOME", &top)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("sub/secret"), "the path is named: {text} {output:?}");
    let left: Vec<_> = fs::read_dir(home.join("workspaces")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "{left:?}");
}
