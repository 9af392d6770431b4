//! What goes in, what comes out, and what changed in between.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::Bench;
use crate::harness::{fill, git, is_root, skip};

pub(crate) fn a_seed_arrives_and_the_patch_gives_it_back_changed(bench: &Bench) {
    let seed = bench.path("seed");
    fill(
        &seed,
        &[("kept", "k\n"), ("changed", "one\ntwo\nthree\n"), ("dir/gone", "g"), ("dir/stays", "s")],
    );
    fs::write(seed.join("binary"), [0, 1, 2, 255]).unwrap();
    fs::set_permissions(seed.join("kept"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("kept", seed.join("link")).unwrap();
    let id = bench.create(["--seed-path", seed.to_str().unwrap()]);
    assert_eq!(bench.sh(&id, "readlink link; stat -c %a kept; ls dir"), "kept\n755\ngone\nstays\n");
    bench.sh(
        &id,
        "sed -i s/two/2/ changed; rm dir/gone; mkdir new; printf 'n\\nm' > 'new/ä b'; \
         ln -sfn changed link; chmod 644 kept; printf '\\377\\0' > binary; \
         rm -r dir; mkdir dir; echo other > dir/other; cp -a changed same; rm same",
    );
    let patch = bench.ok(["workspace", "diff", &id]);
    let copy = bench.path("copy");
    assert!(Command::new("cp").arg("-a").args([&seed, &copy]).status().unwrap().success());
    git(&copy, &["init", "-q"]);
    fs::write(bench.path("patch"), patch).unwrap();
    git(&copy, &["apply", bench.path("patch").to_str().unwrap()]);
    fs::remove_dir_all(copy.join(".git")).unwrap();
    let tree = bench.path("tree");
    bench.ok(["workspace", "export", &id, ".", "--output", tree.to_str().unwrap()]);
    let same = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([&copy, &tree])
        .output()
        .unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    assert_eq!(fs::metadata(copy.join("kept")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::read_link(copy.join("link")).unwrap().to_str(), Some("changed"));
}

pub(crate) fn owners_links_and_odd_names_survive_an_export(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    bench.sh(
        &id,
        "mkdir -p out/sub; echo x > \"out/$(printf 'new\\nline')\"; ln out/sub/../new* out/hard; \
         chown 1234:4321 out/hard; chmod 4711 out/hard; ln -s /etc/passwd out/absolute; mkfifo out/pipe",
    );
    let tar = bench.output(["workspace", "export", &id, "out", "--output", "-"]).stdout;
    fs::write(bench.path("out.tar"), tar).unwrap();
    let listing = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(bench.path("out.tar"))
        .output()
        .unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert!(listing.contains("1234/4321"), "the guest's own numbers: {listing}");
    assert!(listing.contains("new\\nline") && listing.contains("-> /etc/passwd"), "{listing}");
    let tree = bench.path("tree");
    bench.ok(["workspace", "export", &id, "out", "--output", tree.to_str().unwrap()]);
    assert_eq!(fs::read_link(tree.join("absolute")).unwrap().to_str(), Some("/etc/passwd"));
    let hard = fs::metadata(tree.join("hard")).unwrap();
    assert_eq!(hard.mode() & 0o4000, 0, "a file that a guest made never runs as another user here");
}

/// A package manager chowns, makes users, runs scripts as root and renames over what is there.
pub(crate) fn packages_can_be_installed(bench: &Bench) {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        skip("there is no dpkg-deb on this host to make a package with");
        return;
    }
    let package = bench.path("package");
    fill(
        &package,
        &[
            (
                "DEBIAN/control",
                "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: d\nDescription: d\n",
            ),
            (
                "DEBIAN/postinst",
                "#!/bin/sh\nset -e\nuseradd --system demo-user\nchown demo-user /opt/demo/data\n",
            ),
            ("opt/demo/data", "data\n"),
        ],
    );
    fs::set_permissions(package.join("DEBIAN/postinst"), fs::Permissions::from_mode(0o755))
        .unwrap();
    let seed = bench.path("seed");
    fs::create_dir_all(&seed).unwrap();
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&package, &seed.join("demo.deb")])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let id = bench.create(["--seed-path", seed.to_str().unwrap()]);
    bench.sh(&id, "dpkg -i demo.deb >&2");
    assert_eq!(
        bench.sh(&id, "stat -c %U /opt/demo/data; su -s /bin/sh demo-user -c 'id -un'"),
        "demo-user\ndemo-user\n"
    );
    bench.sh(&id, "apt-get remove -y demo >&2; test ! -e /opt/demo/data");
    let _ = is_root();
}
