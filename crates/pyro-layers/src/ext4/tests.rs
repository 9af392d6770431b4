//! The reader against filesystems that the kernel and `mke2fs` made, and that a guest broke.

use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::hostdir::HostDirLayer;
use crate::testing::{Mounted, Tree, can_mount, has_program, survey};

struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    /// An ext4 image of so many MiB, filled from a directory if one is given.
    fn make(mib: u64, options: &[&str], from: Option<&Path>) -> Option<Self> {
        if !has_program("mkfs.ext4") {
            return None;
        }
        let disk = Self { directory: tempfile::tempdir().unwrap() };
        File::create(disk.path()).unwrap().set_len(mib << 20).unwrap();
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F"]).args(options);
        if let Some(from) = from {
            mkfs.arg("-d").arg(from);
        }
        let output = mkfs.arg(disk.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn layer(&self) -> Ext4Layer {
        Ext4Layer::open(&self.path()).unwrap()
    }

    fn debugfs(&self, command: &str) {
        let output = Command::new("debugfs").args(["-w", "-R", command]).arg(self.path()).output();
        assert!(output.unwrap().status.success());
    }
}

/// Files of all kinds that a plain user can make.
fn fill(top: &Path) {
    std::fs::create_dir(top.join("many")).unwrap();
    for n in 0..1500 {
        std::fs::write(top.join(format!("many/with a long enough name {n}")), n.to_string())
            .unwrap();
    }
    for len in [1, 59, 60, 61, 1000] {
        symlink("t".repeat(len), top.join(format!("link{len}"))).unwrap();
    }
    std::fs::create_dir_all(top.join("a/b/c/d/e")).unwrap();
    std::fs::write(top.join("a/b/c/d/e/deep"), "deep").unwrap();
    std::fs::write(top.join("empty"), "").unwrap();
    std::fs::write(top.join("new\nline"), [7; 5000]).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
    sparse.set_len((9 << 20) + 1).unwrap();
}

/// What a guest under overlayfs leaves, and files that need deep extent trees. Needs root.
fn fill_as_guest(top: &Path) {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    fill(top);
    let node = |name: &str, kind, device| {
        mknodat(CWD, top.join(name), kind, Mode::from_raw_mode(0o600), device).unwrap();
    };
    node("whiteout", FileType::CharacterDevice, makedev(0, 0));
    node("char", FileType::CharacterDevice, makedev(5, 1));
    node("block", FileType::BlockDevice, makedev(259, 70_000));
    node("pipe", FileType::Fifo, 0);
    node("socket", FileType::Socket, 0);
    for (name, attribute, value) in [
        ("opaque", "trusted.overlay.opaque", &b"y"[..]),
        ("user-opaque", "user.overlay.opaque", b"y"),
        ("not-opaque", "trusted.overlay.opaque", b"n"),
        ("origin", "trusted.overlay.origin", b"y"),
    ] {
        std::fs::create_dir(top.join(name)).unwrap();
        let path = top.join(name);
        // So many that the mark lies in a block of its own.
        for n in 0..if name == "opaque" { 10 } else { 0 } {
            setxattr(&path, format!("user.{n}"), &[1; 60], XattrFlags::empty()).unwrap();
        }
        setxattr(&path, attribute, value, XattrFlags::empty()).unwrap();
    }
    let holes = File::create(top.join("holes")).unwrap();
    for n in 0..2000 {
        holes.write_all_at(&[(n % 250) as u8 + 1; 4096], n * 8192 + 4096).unwrap();
    }
    let allocated = File::create(top.join("allocated")).unwrap();
    rustix::fs::fallocate(&allocated, rustix::fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
    allocated.write_all_at(b"x", 500_000).unwrap();
    rustix::fs::chown(top.join("empty"), Some(rustix::fs::Uid::from_raw(70_000)), None).unwrap();
}

fn assert_same(found: &Tree, expected: &Tree) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, seen) in expected {
        assert!(found[path] == *seen, "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn a_tree_made_by_mke2fs_is_read_as_it_was() {
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let expected = survey(&HostDirLayer::open(source.path()).unwrap());
    for options in [&[][..], &["-b", "1024"], &["-O", "^extent,^64bit"], &["-I", "128"]] {
        let Some(disk) = Disk::make(64, options, Some(source.path())) else { return };
        let mut found = survey(&disk.layer());
        found.retain(|path, _| !path.starts_with(b"lost+found"));
        let mut expected = expected.clone();
        // The top is the filesystem's own.
        found.remove(&b""[..]);
        expected.remove(&b""[..]);
        assert_same(&found, &expected);
    }
}

#[test]
fn what_a_guest_wrote_is_read_as_the_kernel_reads_it() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Disk::make(128, &["-b", "4096"], None) else { return };
    let Some(mounted) = Mounted::new("ext4", "loop", &disk.path()) else { return };
    fill_as_guest(&mounted.path());
    let expected = survey(&HostDirLayer::open(&mounted.path()).unwrap());
    drop(mounted);
    let layer = disk.layer();
    assert!(!layer.was_replayed());
    let found = survey(&layer);
    assert_same(&found, &expected);
    assert!(found[&b"whiteout"[..]].meta.is_whiteout());
    assert!(!found[&b"char"[..]].meta.is_whiteout());
    let opaque: Vec<_> =
        found.iter().filter(|(_, seen)| seen.opaque).map(|(path, _)| path).collect();
    assert_eq!(opaque, [&b"opaque"[..], b"user-opaque"]);
}

#[test]
fn a_journal_that_was_not_replayed_is_replayed_in_memory() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Disk::make(128, &["-b", "4096"], None) else { return };
    let Some(mounted) = Mounted::new("ext4", "loop", &disk.path()) else { return };
    fill_as_guest(&mounted.path());
    rustix::fs::sync();
    std::fs::rename(mounted.path().join("a"), mounted.path().join("renamed")).unwrap();
    for n in 0..1500 {
        if n % 3 == 0 {
            let name = format!("many/with a long enough name {n}");
            std::fs::remove_file(mounted.path().join(name)).unwrap();
        }
    }
    // An fsync commits the journal, and leaves the blocks where they belong as they were.
    let file = File::create(mounted.path().join("last")).unwrap();
    file.write_all_at(b"committed", 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let copy = disk.directory.path().join("copy");
    std::fs::copy(disk.path(), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let expected = survey(&HostDirLayer::open(&mounted.path()).unwrap());
    drop(mounted);

    let layer = Ext4Layer::open(&copy).unwrap();
    assert!(layer.was_replayed());
    assert_same(&survey(&layer), &expected);
    drop(layer);
    assert!(std::fs::read(&copy).unwrap() == before, "the image was written to");
}

#[test]
fn damaged_journals_end_in_errors_soon() {
    if !can_mount() {
        return;
    }
    let Some(disk) = Disk::make(8, &["-O", "^metadata_csum,^64bit"], None) else { return };
    let Some(mounted) = Mounted::new("ext4", "loop", &disk.path()) else { return };
    for n in 0..50 {
        std::fs::create_dir(mounted.path().join(n.to_string())).unwrap();
        let file = File::create(mounted.path().join(format!("{n}/f"))).unwrap();
        file.write_all_at(b"x", n * 5000).unwrap();
        file.sync_all().unwrap();
    }
    let copy = disk.directory.path().join("copy");
    std::fs::copy(disk.path(), &copy).unwrap();
    drop(mounted);
    assert!(Ext4Layer::open(&copy).unwrap().was_replayed());
    let started = Instant::now();
    damage_and_walk(&copy, 200);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_directory_that_claims_to_be_huge_is_an_error() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("d")).unwrap();
    for size in ["0x7fffffffff000", "0x20000000"] {
        // Larger than the disk in one case, than the limit in the other.
        let Some(disk) = Disk::make(1024, &["-E", "lazy_itable_init=1"], Some(source.path()))
        else {
            return;
        };
        disk.debugfs(&format!("set_inode_field /d size {size}"));
        let layer = disk.layer();
        let d = layer.lookup(layer.root(), b"d").unwrap().unwrap();
        let started = Instant::now();
        let error = layer.read_dir(d).unwrap_err();
        assert!(matches!(error, LayerError::Damaged { .. } | LayerError::TooLarge(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_file_that_claims_to_be_huge_is_an_error() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "x").unwrap();
    let Some(disk) = Disk::make(16, &[], Some(source.path())) else { return };
    disk.debugfs("set_inode_field /f size 0x7fffffffffffffff");
    let layer = disk.layer();
    let f = layer.lookup(layer.root(), b"f").unwrap().unwrap();
    assert!(matches!(layer.meta(f), Err(LayerError::Damaged { .. })));
}

#[test]
fn a_hole_of_terabytes_is_crossed_at_once() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), "x").unwrap();
    let Some(disk) = Disk::make(16, &["-b", "4096"], Some(source.path())) else { return };
    disk.debugfs("set_inode_field /f size 0xf0000000000");
    let layer = disk.layer();
    let f = layer.lookup(layer.root(), b"f").unwrap().unwrap();
    let mut buffer = vec![1; 64 << 20];
    let started = Instant::now();
    assert_eq!(layer.read_at(f, 1 << 40, &mut buffer).unwrap(), buffer.len());
    assert!(buffer.iter().all(|byte| *byte == 0));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_directory_hung_into_itself_is_an_error() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(source.path().join("a/b")).unwrap();
    for command in ["link /a /a/b/loop", "link / /a/b/loop", "link /a/b /again", "link /a /twin"] {
        let Some(disk) = Disk::make(16, &[], Some(source.path())) else { return };
        disk.debugfs(command);
        let result = walk(&disk.layer(), &mut Budget::new());
        assert!(matches!(result, Err(LayerError::Damaged { .. })), "{command}: {result:?}");
    }
}

/// An entry that says it is a file would not be counted as a second parent.
#[test]
fn a_directory_that_passes_for_a_file_is_an_error() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("d")).unwrap();
    std::fs::write(source.path().join("d/into-itself"), "").unwrap();
    let options = ["-O", "^metadata_csum"];
    let Some(disk) = Disk::make(4, &options, Some(source.path())) else { return };
    let layer = disk.layer();
    let d = layer.lookup(layer.root(), b"d").unwrap().unwrap();
    let mut bytes = std::fs::read(disk.path()).unwrap();
    let name = (8..bytes.len() - 11).find(|at| bytes[*at..].starts_with(b"into-itself")).unwrap();
    bytes[name - 8..name - 4].copy_from_slice(&(d.0 as u32).to_le_bytes());
    std::fs::write(disk.path(), bytes).unwrap();
    let result = walk(&disk.layer(), &mut Budget::new());
    assert!(matches!(result, Err(LayerError::Damaged { .. })), "{result:?}");
}

#[test]
fn impossible_names_are_errors() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("evil_name"), "x").unwrap();
    std::fs::write(source.path().join("other_one"), "x").unwrap();
    for name in [b"../../etc", b"evil\0name", b"other_one"] {
        let options = ["-O", "^metadata_csum"];
        let Some(disk) = Disk::make(4, &options, Some(source.path())) else { return };
        let mut bytes = std::fs::read(disk.path()).unwrap();
        let found: Vec<usize> =
            (0..bytes.len() - 9).filter(|at| bytes[*at..].starts_with(b"evil_name")).collect();
        for at in found {
            bytes[at..at + 9].copy_from_slice(name);
        }
        std::fs::write(disk.path(), bytes).unwrap();
        let layer = disk.layer();
        let error = layer.read_dir(layer.root()).unwrap_err();
        assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
    }
}

#[test]
fn what_is_no_filesystem_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for len in [0, 100, 5000] {
        file.as_file().set_len(len).unwrap();
        assert!(Ext4Layer::open(file.path()).is_err());
    }
}

/// Random damage must end in an error or an answer, soon, and never in a panic.
#[test]
fn damaged_disks_end_in_errors_soon() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(source.path().join("a/b/c")).unwrap();
    for n in 0..200 {
        // Almost only zeros, so that what is not zero on the disk is almost only structure.
        let content = [&vec![0; n * 50][..], b"x"].concat();
        std::fs::write(source.path().join(format!("a/b/file {n}")), content).unwrap();
        symlink("x".repeat(n + 1), source.path().join(format!("a/link {n}"))).unwrap();
    }
    let started = Instant::now();
    for options in
        [&["-O", "^metadata_csum,^64bit"][..], &["-O", "^extent,^metadata_csum,^64bit"], &[]]
    {
        let Some(disk) = Disk::make(8, options, Some(source.path())) else { return };
        eprintln!("{options:?}");
        damage_and_walk(&disk.path(), 600);
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// Damages a few bytes at a time, mostly of those that are not zero.
fn damage_and_walk(path: &Path, rounds: usize) {
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let sound = std::fs::read(path).unwrap();
    let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let file = File::options().write(true).open(path).unwrap();
    let mut answered = 0;
    for round in 0..rounds {
        let damage: Vec<usize> = (0..1 + round % 8)
            .map(|_| if random(4) == 0 { random(8192) } else { used[random(used.len())] })
            .collect();
        for at in &damage {
            file.write_all_at(&[random(256) as u8], *at as u64).unwrap();
        }
        let result = Ext4Layer::open(path).and_then(|layer| walk(&layer, &mut Budget::new()));
        answered += usize::from(result.is_ok());
        for at in damage {
            file.write_all_at(&sound[at..=at], at as u64).unwrap();
        }
    }
    eprintln!("{answered} of {rounds} damaged disks could be read");
}

/// What a walk may cost: whoever walks a hostile tree has such limits.
struct Budget {
    entries: u32,
    bytes: u64,
}

impl Budget {
    fn new() -> Self {
        Self { entries: 100_000, bytes: 256 << 20 }
    }
}

fn walk(layer: &Ext4Layer, budget: &mut Budget) -> Result<()> {
    let mut nodes = vec![layer.root()];
    let mut buffer = vec![0; 64 << 10];
    while let Some(node) = nodes.pop() {
        budget.entries = budget.entries.checked_sub(1).expect("the walk has no end");
        match layer.meta(node)?.kind {
            FileKind::Directory => {
                layer.is_opaque(node)?;
                nodes.extend(layer.read_dir(node)?.into_iter().map(|entry| entry.node));
            }
            FileKind::Symlink => drop(layer.read_link(node)?),
            FileKind::File => {
                let mut at = 0;
                while budget.bytes > 0 {
                    let got = layer.read_at(node, at, &mut buffer)? as u64;
                    at += got;
                    budget.bytes = budget.bytes.saturating_sub(got);
                    if got == 0 {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
#[ignore = "a measurement"]
fn measure_reading_a_large_file() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("f"), vec![1; 512 << 20]).unwrap();
    let disk = Disk::make(1024, &[], Some(source.path())).unwrap();
    let layer = disk.layer();
    let f = layer.lookup(layer.root(), b"f").unwrap().unwrap();
    for piece in [4 << 10, 64 << 10, 1 << 20] {
        let mut buffer = vec![0; piece];
        let started = Instant::now();
        let mut at = 0;
        while let got @ 1.. = layer.read_at(f, at, &mut buffer).unwrap() {
            at += got as u64;
        }
        let rate = (at >> 20) as f64 / started.elapsed().as_secs_f64();
        eprintln!("{} KiB at a time: {rate:.0} MiB/s", piece >> 10);
    }
}
