//! The real thing: Debian from its mirror, with its kernel. Needs `mmdebstrap` and the network, and
//! takes about half a minute.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyro_contract::ErrorCode;
use pyro_contract::environment::EnvironmentRef;
use pyro_contract::progress::{Progress, Report};
use pyro_environment::{GUEST_AGENT, Store};
use pyro_layers::erofs::ErofsLayer;
use pyro_layers::{Layer, Node};

/// Prints each stage once, and cancels when it hears a certain one.
#[derive(Default)]
struct Watch {
    stages: Mutex<Vec<String>>,
    cancel_at: Option<&'static str>,
    cancelled: AtomicBool,
}

impl Progress for Watch {
    fn report(&self, report: Report) {
        let mut stages = self.stages.lock().unwrap();
        if stages.last() != Some(&report.stage) {
            println!("{}", report.stage);
            if self.cancel_at.is_some_and(|stage| report.stage == stage) {
                self.cancelled.store(true, Ordering::SeqCst);
            }
            stages.push(report.stage);
        }
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// The store of the whole test suite, which `PYRO_TEST_HOME` names, or one of our own.
fn home() -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os("PYRO_TEST_HOME") {
        Some(home) => (home.into(), None),
        None => {
            let own = tempfile::tempdir().unwrap();
            (own.path().to_owned(), Some(own))
        }
    }
}

/// Follows a path through an image, symbolic links in it as well (`/bin` is one).
fn find(layer: &dyn Layer, path: &str) -> Option<Node> {
    let mut node = layer.root();
    let mut walked = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let next = layer.lookup(node, name.as_bytes()).unwrap()?;
        if let Ok(target) = layer.read_link(next) {
            let target = String::from_utf8(target).unwrap();
            let base = if target.starts_with('/') { "" } else { walked.as_str() };
            node = find(layer, &format!("{base}/{target}"))?;
        } else {
            node = next;
        }
        walked = format!("{walked}/{name}");
    }
    Some(node)
}

fn text(layer: &dyn Layer, path: &str) -> String {
    let node = find(layer, path).unwrap_or_else(|| panic!("{path} is missing"));
    let mut bytes = vec![0; layer.meta(node).unwrap().size as usize];
    let mut done = 0;
    while done < bytes.len() {
        done += layer.read_at(node, done as u64, &mut bytes[done..]).unwrap();
    }
    String::from_utf8(bytes).unwrap()
}

/// Names of the members of a "newc" archive.
fn members(path: &Path) -> Vec<String> {
    let mut rest = fs::File::open(path).unwrap();
    let mut names = Vec::new();
    loop {
        let reader = cpio::NewcReader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return names;
        }
        names.push(reader.entry().name().to_owned());
        rest = reader.finish().unwrap();
    }
}

#[test]
fn debian_is_bootstrapped_and_bootable() {
    let (home, _own) = home();
    let store = Store::open(&home).unwrap();
    let reference: EnvironmentRef = "debian:12-base".parse().unwrap();
    let watch = Watch::default();
    let started = Instant::now();
    let environment = store.pull(&reference, &watch).unwrap();
    println!("pulled in {:?}, {} bytes", started.elapsed(), environment.size_bytes);

    let started = Instant::now();
    store.get(&reference).unwrap().unwrap();
    println!("looked up in {:?}", started.elapsed());

    the_image_is_clean(&environment.image);

    let details = store.inspect(&reference).unwrap();
    assert!(details.packages.iter().any(|package| package.name == "bash"));
    assert_eq!(details.info.package_count.unwrap() as usize, details.packages.len());

    let kernel = &environment.kernel;
    let mut magic = [0; 4];
    fs::File::open(&kernel.vmlinux).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    assert!(kernel.release.contains("cloud-amd64"), "{}", kernel.release);

    let started = Instant::now();
    let boot = store.boot_image(kernel, GUEST_AGENT).unwrap();
    println!("boot image in {:?}", started.elapsed());
    let members = members(&boot.initramfs);
    assert!(members.contains(&"init".to_owned()));
    let modules: Vec<_> = members.iter().filter_map(|name| name.strip_prefix("modules/")).collect();
    println!("{modules:#?}");
    assert!(modules.is_sorted());
    let place = |name: &str| {
        modules
            .iter()
            .position(|module| module[3..] == format!("{name}.ko"))
            .unwrap_or_else(|| panic!("{name} is missing"))
    };
    for (first, then) in [
        ("virtio_ring", "virtio"),
        ("virtio", "virtio_pci"),
        ("failover", "net_failover"),
        ("net_failover", "virtio_net"),
        ("vsock", "vmw_vsock_virtio_transport"),
        ("libcrc32c", "erofs"),
    ] {
        assert!(place(first) < place(then), "{first} comes after {then}");
    }
    store.verify(&reference, &watch).unwrap();
}

fn the_image_is_clean(image: &Path) {
    let layer = ErofsLayer::open(image).unwrap();
    let there = |path| find(&layer, path).is_some();
    assert!(there("/bin/bash") && there("/usr/bin/apt-get") && there("/workspace"));
    assert!(text(&layer, "/etc/debian_version").starts_with("12."));
    assert_eq!(text(&layer, "/etc/machine-id"), "");
    assert_eq!(text(&layer, "/etc/hostname"), "localhost\n");
    assert!(text(&layer, "/etc/hosts").contains("127.0.0.1\tlocalhost"));
    assert!(text(&layer, "/etc/apt/sources.list").contains("bookworm-security"));
    assert!(!there("/etc/resolv.conf"), "the host's name servers are in the image");
    for dir in ["/var/lib/apt/lists", "/var/cache/apt/archives", "/tmp", "/var/log/apt"] {
        let Some(node) = find(&layer, dir) else { continue };
        for entry in layer.read_dir(node).unwrap() {
            let name = String::from_utf8(entry.name).unwrap();
            assert!(["lock", "partial"].contains(&name.as_str()), "{dir} holds {name}");
        }
    }
    let passwd = layer.meta(find(&layer, "/usr/bin/passwd").unwrap()).unwrap();
    assert_eq!((passwd.mode, passwd.uid), (0o4755, 0), "setuid bits and owners are kept");
    let shadow = layer.meta(find(&layer, "/etc/shadow").unwrap()).unwrap();
    assert_eq!((shadow.mode, shadow.uid, shadow.gid), (0o640, 0, 42));
}

#[test]
fn a_cancelled_pull_leaves_neither_processes_nor_files() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    // The kernel comes first and is small; its unpacking is under way when the user interrupts.
    let watch = Watch { cancel_at: Some("unpacking the essential packages"), ..Watch::default() };
    let error = store.pull(&"debian:12-base".parse().unwrap(), &watch).unwrap_err();
    assert_eq!(pyro_contract::Error::from(error).code, ErrorCode::Cancelled);
    for shelf in ["images", "kernels"] {
        let left: Vec<_> = fs::read_dir(home.path().join(shelf)).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let needle = home.path().display().to_string();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        assert!(!environment.contains(&needle), "{} is left", process.path().display());
    }
}
