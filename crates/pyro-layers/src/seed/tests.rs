//! Directories and archives against what comes out of the image.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use pyro_contract::diff::FileKind;
use pyro_contract::progress::{Progress, Report, Silent};

use super::*;
use crate::erofs::{ErofsLayer, ErofsWriter};
use crate::hostdir::HostDirLayer;
use crate::layer::{Layer, LayerError, Result};
use crate::testing::{Tree, survey};

/// Packs into an image and reads it back.
fn packed<T>(pack: impl FnOnce(&mut ErofsWriter) -> Result<T>) -> Result<(T, ErofsLayer)> {
    let file = tempfile::tempfile().unwrap();
    let mut writer = ErofsWriter::create(file.try_clone().unwrap())?;
    let told = pack(&mut writer)?;
    writer.finish()?;
    Ok((told, ErofsLayer::from_file(file)?))
}

fn pack_path(path: &Path) -> Result<(SeedReport, ErofsLayer)> {
    packed(|writer| pack_directory(path, writer, &Silent))
}

fn pack_bytes(bytes: &[u8], kind: ArchiveKind) -> Result<(SeedReport, Tree)> {
    let (report, layer) = packed(|writer| pack_archive(bytes, writer, kind, &Silent))?;
    Ok((report, survey(&layer)))
}

/// The reason and hint of a refused seed.
fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (String, String) {
    match result {
        Err(LayerError::Seed { path, reason, hint }) => (format!("{path}: {reason}"), hint.into()),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_directory_is_packed_as_it_is_but_belongs_to_root() {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path().join("seed");
    std::fs::create_dir_all(top.join(".git/objects")).unwrap();
    std::fs::write(top.join(".git/HEAD"), "ref: x\n").unwrap();
    std::fs::write(top.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(top.join("run.sh"), Permissions::from_mode(0o4751)).unwrap();
    symlink("/nowhere", top.join("dangling")).unwrap();
    symlink("..", top.join("up")).unwrap();
    for name in [&b"new\nline"[..], b"\xff\xfe", b"-rf", b" "] {
        std::fs::write(top.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::hard_link(top.join("run.sh"), top.join("again")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"data", 100 << 20).unwrap();
    sparse.set_len((200 << 20) + 3).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, top.join("pipe"), fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(top.join("run.sh"), Some(1234), Some(1234)).unwrap();
        std::fs::set_permissions(top.join("run.sh"), Permissions::from_mode(0o4751)).unwrap();
    }
    symlink("seed", temp.path().join("link to seed")).unwrap();

    let mut expected = survey(&HostDirLayer::open(&top).unwrap());
    expected.remove(&b"socket"[..]);
    for seen in expected.values_mut() {
        (seen.meta.uid, seen.meta.gid) = (0, 0);
    }
    for path in [top, temp.path().join("link to seed")] {
        let started = Instant::now();
        let (report, layer) = pack_path(&path).unwrap();
        assert!(started.elapsed().as_secs() < 2, "holes were read");
        assert!(survey(&layer) == expected);
        assert_eq!(report.entries, expected.len() as u64);
        let reason = "it is a socket";
        assert_eq!(report.skipped, [Skipped { path: BytePath::new(&b"socket"[..]), reason }]);
        assert_eq!(
            layer.lookup(layer.root(), b"again").unwrap(),
            layer.lookup(layer.root(), b"run.sh").unwrap()
        );
    }
}

#[test]
fn what_cannot_be_a_seed_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let (said, hint) = refusal(pack_path(&temp.path().join("missing")));
    assert!(said.contains("missing: No such file"), "{said}");
    assert_eq!(hint, "check the path");
    std::fs::write(temp.path().join("file"), "").unwrap();
    let (said, hint) = refusal(pack_path(&temp.path().join("file")));
    assert!(said.contains("Not a directory") && hint.contains(".tar.zst"), "{said} {hint}");
}

/// Runs one test of this program again as another user.
#[test]
fn an_unreadable_file_is_named_with_a_hint() {
    let temp = tempfile::tempdir().unwrap();
    let open = Permissions::from_mode(0o755);
    std::fs::set_permissions(temp.path(), open.clone()).unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    std::fs::write(temp.path().join("d/secret\n"), "x").unwrap();
    let closed = Permissions::from_mode(0o000);
    std::fs::set_permissions(temp.path().join("d/secret\n"), closed.clone()).unwrap();
    let check = |result: Result<(SeedReport, ErofsLayer)>, name: &str| {
        let (said, hint) = refusal(result);
        assert!(said.contains(name) && said.contains("Permission denied"), "{said}");
        assert!(hint.contains("chmod"), "{hint}");
    };
    as_nobody(|| check(pack_path(temp.path()), "/d/secret\\n: "));
    std::fs::set_permissions(temp.path().join("d"), closed).unwrap();
    as_nobody(|| check(pack_path(temp.path()), "/d: "));
    std::fs::set_permissions(temp.path().join("d"), open).unwrap();
}

/// Root reads everything. A thread alone can become another user: its identity is its own, as
/// long as no library makes the change in all threads.
fn as_nobody(check: impl FnOnce() + Send) {
    use rustix::thread::{set_thread_gid, set_thread_uid};
    if !rustix::process::geteuid().is_root() {
        return check();
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_gid(rustix::fs::Gid::from_raw(65_534)).unwrap();
            set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
            check();
        });
        thread.join().unwrap();
    });
}

/// Says that it is cancelled after a number of questions.
struct Impatient(AtomicU32);

impl Progress for Impatient {
    fn report(&self, _: Report) {}
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[test]
fn packing_ends_when_the_user_has_had_enough() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("large"), vec![1; 20 << 20]).unwrap();
    let impatient = Impatient(AtomicU32::new(10));
    let result = packed(|writer| pack_directory(temp.path(), writer, &impatient));
    assert!(matches!(result.map(|_| ()), Err(LayerError::Cancelled)));
    let archive = tar_of(temp.path(), &[]);
    let impatient = Impatient(AtomicU32::new(10));
    let seed = ArchiveKind::Seed;
    let result = packed(|writer| pack_archive(archive.as_slice(), writer, seed, &impatient));
    assert!(matches!(result.map(|_| ()), Err(LayerError::Cancelled)));
}

/// Changes the file while it is packed: asked first for the directory, then while it is read.
struct Meddler<'a>(&'a File, AtomicU32, u64);

impl Progress for Meddler<'_> {
    fn report(&self, _: Report) {}
    fn cancelled(&self) -> bool {
        if self.1.fetch_add(1, Ordering::Relaxed) == 3 {
            self.0.set_len(self.2).unwrap();
        }
        false
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    for len in [5 << 20, 50 << 20] {
        let path = temp.path().join("f");
        std::fs::write(&path, vec![1; 20 << 20]).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let meddler = Meddler(&file, AtomicU32::new(0), len);
        let result = packed(|writer| pack_directory(temp.path(), writer, &meddler));
        let (said, hint) = refusal(result.map(|_| ()));
        assert!(said.ends_with("/f: it changed while it was being read"), "{said}");
        assert!(hint.contains("try again"));
    }
}

#[test]
fn fifty_thousand_files_are_packed_in_seconds() {
    let temp = tempfile::tempdir().unwrap();
    for d in 0..500 {
        let directory = temp.path().join(format!("directory {d}"));
        std::fs::create_dir(&directory).unwrap();
        for f in 0..100 {
            std::fs::write(directory.join(format!("file {f}")), [b'x'; 700]).unwrap();
        }
    }
    let started = Instant::now();
    let (report, layer) = pack_path(temp.path()).unwrap();
    eprintln!("50,000 files packed in {:?}", started.elapsed());
    assert!(started.elapsed().as_secs() < 10);
    assert_eq!((report.entries, report.bytes), (50_501, 35_000_000));
    drop(layer);
}

/// An archive made by the system's tar.
fn tar_of(top: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(options).arg("-C").arg(top).args(["-c", "."]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A tree with what is hard for tar.
fn hard_tree(top: &Path) {
    std::fs::create_dir_all(top.join("d").join("long".repeat(60))).unwrap();
    std::fs::write(top.join("d").join("long".repeat(60)).join("f".repeat(250)), "deep").unwrap();
    std::fs::write(top.join("run"), "x").unwrap();
    std::fs::set_permissions(top.join("run"), Permissions::from_mode(0o755)).unwrap();
    std::fs::hard_link(top.join("run"), top.join("same")).unwrap();
    symlink("l".repeat(200), top.join("link")).unwrap();
    std::fs::write(top.join("\u{fc}\n"), vec![3; 100_000]).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    for n in 0..200 {
        sparse.write_all_at(b"data", n << 15).unwrap();
    }
    sparse.set_len((10 << 20) + 3).unwrap();
}

#[test]
fn archives_of_every_form_give_the_same_tree() {
    let temp = tempfile::tempdir().unwrap();
    hard_tree(temp.path());
    let mut expected = survey(&HostDirLayer::open(temp.path()).unwrap());
    for seen in expected.values_mut() {
        (seen.meta.uid, seen.meta.gid) = (0, 0);
    }
    let forms: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse"],
        &["-z"],
    ];
    for form in forms {
        let plain = tar_of(temp.path(), form);
        let (report, tree) = pack_bytes(&plain, ArchiveKind::Seed).unwrap();
        assert!(tree == expected, "{form:?}");
        assert_eq!((report.entries, report.skipped.len()), (expected.len() as u64, 0));
        let packed = zstd::encode_all(plain.as_slice(), 1).unwrap();
        if form != ["-z"] {
            assert!(pack_bytes(&packed, ArchiveKind::Seed).unwrap().1 == expected);
        }
    }
}

/// An archive of one entry, made by hand.
fn one_entry(name: &[u8], fill: impl FnOnce(&mut tar::Header), pax: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions(pax.iter().copied()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_mode(0o600);
    header.set_size(0);
    header.set_uid(1000);
    header.set_gid(2000);
    header.set_mtime(77);
    fill(&mut header);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_root_filesystem_keeps_owners_devices_and_attributes() {
    let device = |header: &mut tar::Header| {
        header.set_entry_type(tar::EntryType::Char);
        header.set_device_major(5).unwrap();
        header.set_device_minor(1).unwrap();
    };
    let archive = one_entry(b"dev/console", device, &[]);
    let (report, tree) = pack_bytes(&archive, ArchiveKind::RootFilesystem).unwrap();
    let meta = tree[&b"dev/console"[..]].meta;
    assert_eq!((meta.kind, meta.rdev), (FileKind::CharDevice, (5, 1)));
    assert_eq!((meta.uid, meta.gid, meta.mtime), (1000, 2000, 77));
    assert!(report.skipped.is_empty());
    let (report, tree) = pack_bytes(&archive, ArchiveKind::Seed).unwrap();
    assert!(!tree.contains_key(&b"dev/console"[..]));
    assert_eq!(report.skipped[0].reason, "it is a device");

    let pax: [(&str, &[u8]); 3] =
        [("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("mtime", b"-5.5"), ("uid", b"70000000")];
    let directory = |header: &mut tar::Header| header.set_entry_type(tar::EntryType::Directory);
    let archive = one_entry(b"d", directory, &pax);
    let (_, tree) = pack_bytes(&archive, ArchiveKind::RootFilesystem).unwrap();
    let seen = &tree[&b"d"[..]];
    assert_eq!((seen.opaque, seen.meta.mtime, seen.meta.uid), (true, -6, 70_000_000));
    let (_, tree) = pack_bytes(&archive, ArchiveKind::Seed).unwrap();
    assert_eq!((tree[&b"d"[..]].opaque, tree[&b"d"[..]].meta.uid), (false, 0));
}

#[test]
fn entries_that_lead_out_are_refused_and_absolute_ones_are_not() {
    let (said, _) = refusal(pack_bytes(&one_entry(b"a/../../etc", |_| {}, &[]), ArchiveKind::Seed));
    assert!(said.starts_with("a/../../etc: ") && said.contains("'..'"), "{said}");
    let (_, tree) = pack_bytes(&one_entry(b"/etc/x", |_| {}, &[]), ArchiveKind::Seed).unwrap();
    assert!(tree.contains_key(&b"etc/x"[..]));
    let link = |target: &'static str| {
        move |header: &mut tar::Header| {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name(target).unwrap();
        }
    };
    let (said, _) = refusal(pack_bytes(&one_entry(b"l", link("none"), &[]), ArchiveKind::Seed));
    assert!(said.contains("hard link to none"), "{said}");
    let (said, _) = refusal(pack_bytes(&one_entry(b"l", link("../x"), &[]), ArchiveKind::Seed));
    assert!(said.contains("'..'"), "{said}");
}

#[test]
fn what_is_no_archive_is_said() {
    let temp = tempfile::tempdir().unwrap();
    hard_tree(temp.path());
    let sound = tar_of(temp.path(), &["-z"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"no tar in here, but long enough that it could be one").unwrap();
    let mut broken = sound.clone();
    broken[sound.len() - 6] ^= 1;
    for (bytes, wanted) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04rest", "zip"),
        (b"\xfd7zXZ\0rest", "xz"),
        (b"BZh9rest", "bzip2"),
        (b"hello", "damaged or not an archive"),
        (&[b'x'; 2000], "damaged or not an archive"),
        (&gzip.finish().unwrap(), "damaged or not an archive"),
        (&sound[..sound.len() / 2], "damaged or not an archive"),
        (&broken, "damaged or not an archive"),
    ] {
        let (said, hint) = refusal(pack_bytes(bytes, ArchiveKind::Seed));
        assert!(said.starts_with("the archive: ") && said.contains(wanted), "{said}");
        assert!(hint.contains(".tar"), "{hint}");
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_packing_a_large_file() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("f"), vec![1; 1 << 30]).unwrap();
    for _ in 0..2 {
        let started = Instant::now();
        pack_path(temp.path()).unwrap();
        eprintln!("1 GiB packed in {:?}", started.elapsed());
    }
    let archive = zstd::encode_all(tar_of(temp.path(), &[]).as_slice(), 1).unwrap();
    let started = Instant::now();
    packed(|writer| pack_archive(archive.as_slice(), writer, ArchiveKind::Seed, &Silent)).unwrap();
    eprintln!("1 GiB from a .tar.zst in {:?}", started.elapsed());
}
