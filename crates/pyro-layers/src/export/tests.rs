use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use pyro_contract::{
    diff::FileKind,
    progress::{Progress, Report, Silent},
};

use super::{export_to_path, export_to_tar};
use crate::{
    hostdir::HostDirLayer,
    layer::{Layer as _, LayerError},
    mem::MemLayer,
};

fn layer() -> MemLayer {
    let mut layer = MemLayer::new()
        .file("d/f", "content")
        .link("d/out", "/etc/passwd")
        .with("d/tool", FileKind::File, 0o6755, "#!")
        .with("d/pipe", FileKind::Fifo, 0o600, "")
        .with("d/socket", FileKind::Socket, 0o600, "")
        .dir("d/closed", 0o500)
        .file("d/closed/inner", "i");
    for path in ["d/f", "d/closed"] {
        let node = layer.node(path);
        layer.meta_mut(node).mtime = 1_000_000;
    }
    layer
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Also what its owner cannot write to.
fn remove(dest: &Path) {
    let closed = dest.join("closed");
    if closed.is_dir() {
        fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::remove_dir_all(dest).unwrap();
}

#[test]
fn a_directory_comes_out_as_it_is_but_for_what_would_be_dangerous() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = layer();
    let dest = scratch.path().join("out");
    let done = export_to_path(&layer, layer.node("d"), &dest, false, &Silent).unwrap();
    assert_eq!((done.files, done.directories, done.bytes), (5, 2, 10));
    assert_eq!(done.skipped[0].as_bytes(), b"socket");
    assert_eq!(names(&dest), ["closed", "f", "out", "pipe", "tool"]);
    assert_eq!(fs::read(dest.join("f")).unwrap(), b"content");
    assert_eq!(fs::metadata(dest.join("f")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::metadata(dest.join("closed")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::metadata(dest.join("closed")).unwrap().mode() & 0o7777, 0o500);
    assert_eq!(fs::metadata(dest.join("tool")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_link(dest.join("out")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(names(scratch.path()), ["out"], "nothing temporary is left");
    remove(&dest);
}

#[test]
fn what_exists_is_kept_unless_forced_and_then_replaced_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = layer();
    let dest = scratch.path().join("out");
    fs::create_dir_all(dest.join("old/deep")).unwrap();
    fs::set_permissions(dest.join("old"), fs::Permissions::from_mode(0o500)).unwrap();
    let refused = export_to_path(&layer, layer.node("d"), &dest, false, &Silent);
    assert!(matches!(refused, Err(LayerError::UnsafeTarget(ref why)) if why.contains("--force")));
    assert_eq!(names(&dest), ["old"]);
    export_to_path(&layer, layer.node("d/closed"), &dest, true, &Silent).unwrap();
    assert_eq!(names(&dest), ["inner"]);
    export_to_path(&layer, layer.node("d/f"), &dest, true, &Silent).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), b"content");
    assert_eq!(names(scratch.path()), ["out"]);
}

#[test]
fn a_link_in_the_destinations_place_is_never_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let precious = scratch.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("f"), "mine").unwrap();
    let layer = layer();
    let dest = scratch.path().join("out");
    for target in ["precious", "precious/f", "nowhere"] {
        symlink(target, &dest).unwrap();
        let refused = export_to_path(&layer, layer.node("d"), &dest, false, &Silent);
        assert!(matches!(refused, Err(LayerError::UnsafeTarget(_))));
        export_to_path(&layer, layer.node("d"), &dest, true, &Silent).unwrap();
        assert!(dest.symlink_metadata().unwrap().is_dir());
        remove(&dest);
    }
    assert_eq!(names(&precious), ["f"]);
    assert_eq!(fs::read(precious.join("f")).unwrap(), b"mine");
}

#[test]
fn a_layer_cannot_write_through_its_own_links_or_names() {
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // A corrupt directory that has one name twice: first a link to elsewhere, then a directory.
    for evil in ["../outside/x", "..", ".", "a/b", "nul\0"] {
        let mut layer = MemLayer::new().file("d/ok", "");
        layer.put("evil", layer.node("d/ok"));
        let layer = Renamed(layer, evil.as_bytes().to_vec());
        let dest = scratch.path().join("out");
        let result = export_to_path(&layer, layer.root(), &dest, false, &Silent);
        assert!(matches!(result, Err(LayerError::Damaged { .. })), "{evil}: {result:?}");
        assert_eq!(names(scratch.path()), ["outside"], "nothing is left");
    }
    assert!(names(&outside).is_empty());
}

/// Shows the name `evil` as another one.
struct Renamed(MemLayer, Vec<u8>);

impl crate::layer::Layer for Renamed {
    fn root(&self) -> crate::layer::Node {
        self.0.root()
    }
    fn meta(&self, node: crate::layer::Node) -> crate::layer::Result<crate::layer::Meta> {
        self.0.meta(node)
    }
    fn read_dir(&self, dir: crate::layer::Node) -> crate::layer::Result<Vec<crate::layer::Entry>> {
        let mut entries = self.0.read_dir(dir)?;
        for entry in entries.iter_mut().filter(|entry| entry.name == b"evil") {
            entry.name.clone_from(&self.1);
        }
        Ok(entries)
    }
    fn read_at(
        &self,
        file: crate::layer::Node,
        offset: u64,
        buffer: &mut [u8],
    ) -> crate::layer::Result<usize> {
        self.0.read_at(file, offset, buffer)
    }
    fn read_link(&self, link: crate::layer::Node) -> crate::layer::Result<Vec<u8>> {
        self.0.read_link(link)
    }
    fn is_opaque(&self, dir: crate::layer::Node) -> crate::layer::Result<bool> {
        self.0.is_opaque(dir)
    }
}

#[test]
fn a_missing_parent_and_a_destination_without_a_name_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = layer();
    let node = layer.node("d");
    let missing = scratch.path().join("no/out");
    let result = export_to_path(&layer, node, &missing, true, &Silent);
    assert!(matches!(result, Err(LayerError::NotFound(_))));
    for nameless in ["/", ".", "..", "a/.."] {
        let result = export_to_path(&layer, node, Path::new(nameless), true, &Silent);
        assert!(matches!(result, Err(LayerError::UnsafeTarget(_))), "{nameless}");
    }
}

/// Has enough after some questions.
struct Patience(AtomicUsize);

impl Progress for Patience {
    fn report(&self, _: Report) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) >= 4
    }
}

#[test]
fn an_interrupted_export_leaves_nothing_and_the_old_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let layer = layer();
    let dest = scratch.path().join("out");
    fs::write(&dest, "old").unwrap();
    let patience = Patience(AtomicUsize::new(0));
    let result = export_to_path(&layer, layer.node("d"), &dest, true, &patience);
    assert!(matches!(result, Err(LayerError::Cancelled)));
    assert_eq!(names(scratch.path()), ["out"]);
    assert_eq!(fs::read(&dest).unwrap(), b"old");
}

#[test]
fn zeros_become_holes() {
    let scratch = tempfile::tempdir().unwrap();
    let mut content = vec![0; 8 << 20];
    content[5 << 20] = 1;
    let layer = MemLayer::new().file("sparse", &content);
    let dest = scratch.path().join("sparse");
    export_to_path(&layer, layer.node("sparse"), &dest, false, &Silent).unwrap();
    assert!(fs::read(&dest).unwrap() == content);
    assert!(fs::metadata(&dest).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn a_tree_deeper_than_any_path_comes_out_or_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let deep = |levels: usize| MemLayer::new().file(vec!["directory"; levels].join("/") + "/f", "");
    let dest = scratch.path().join("deep");
    let layer = deep(500);
    // Over 4096 bytes of path: only descriptors lead there.
    export_to_path(&layer, layer.root(), &dest, false, &Silent).unwrap();
    export_to_path(&layer, layer.root(), &dest, true, &Silent).unwrap();
    let layer = deep(2000);
    let result = export_to_path(&layer, layer.root(), &dest, true, &Silent);
    assert!(matches!(result, Err(LayerError::TooLarge(_))));
    assert_eq!(names(scratch.path()), ["deep"]);
}

#[test]
fn a_directory_inside_of_itself_is_damage() {
    let scratch = tempfile::tempdir().unwrap();
    let mut layer = MemLayer::new().file("a/f", "");
    layer.put("a/again", layer.node("a"));
    let dest = scratch.path().join("out");
    let result = export_to_path(&layer, layer.root(), &dest, false, &Silent);
    assert!(matches!(result, Err(LayerError::Damaged { .. })));
    assert!(names(scratch.path()).is_empty());
}

#[test]
fn a_tar_archive_holds_the_same_tree() {
    let long = "long".repeat(40);
    let target = "../".repeat(60) + "x//y";
    let layer = layer()
        .file(format!("d/{long}/{long}/f"), "deep")
        .file(b"d/\xff\n", "odd")
        .link("d/far", &target)
        .link("d/near", "./a//b");
    let mut bytes = Vec::new();
    let done = export_to_tar(&layer, layer.node("d"), b"name", &mut bytes, &Silent).unwrap();
    assert_eq!(done.skipped.len(), 1);
    let mut again = Vec::new();
    export_to_tar(&layer, layer.node("d"), b"name", &mut again, &Silent).unwrap();
    assert!(bytes == again, "the same tree gives the same archive");

    let scratch = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("tar")
        .args(["-xf", "-", "-C"])
        .arg(scratch.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(&bytes)?;
            child.wait()
        });
    assert!(status.unwrap().success());
    let out = scratch.path().join("name");
    assert_eq!(fs::read(out.join(&long).join(&long).join("f")).unwrap(), b"deep");
    assert_eq!(fs::read_link(out.join("far")).unwrap(), Path::new(&target));
    assert_eq!(fs::read_link(out.join("near")).unwrap().as_os_str(), "./a//b");
    assert_eq!(fs::metadata(out.join("f")).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::metadata(out.join("tool")).unwrap().mode() & 0o7777, 0o755);
    let unpacked = HostDirLayer::open(&out).unwrap();
    assert_eq!(unpacked.read_dir(unpacked.root()).unwrap().len(), 9);
}

#[test]
fn an_interrupted_archive_does_not_look_complete() {
    let layer = MemLayer::new().file("d/a", vec![1; 1 << 20]).file("d/b", "");
    let mut bytes = Vec::new();
    let patience = Patience(AtomicUsize::new(0));
    let result = export_to_tar(&layer, layer.node("d"), b"d", &mut bytes, &patience);
    assert!(matches!(result, Err(LayerError::Cancelled)), "{result:?}");
    let complete = tar::Archive::new(&bytes[..]).entries().unwrap().try_for_each(|entry| {
        entry.and_then(|mut entry| entry.read_to_end(&mut Vec::new()).map(drop))
    });
    assert!(complete.is_err() || !bytes.ends_with(&[0; 1024]));
}

#[test]
fn a_full_disk_is_told_as_such() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let layer = layer();
    let result = export_to_tar(&layer, layer.node("d"), b"d", &mut Full, &Silent);
    assert!(
        matches!(result, Err(LayerError::Io { ref source, .. }) if source.kind() == io::ErrorKind::StorageFull)
    );
}

#[test]
fn an_export_onto_a_full_disk_leaves_nothing() {
    crate::namespace::in_mount_namespace(|may_mount| {
        if !may_mount {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", scratch.path(), "tmpfs", flags, Some(c"size=1m")).unwrap();
        let layer = MemLayer::new().file("d/a", vec![1; 4096]).file("d/b", vec![1; 4 << 20]);
        let dest = scratch.path().join("out");
        let result = export_to_path(&layer, layer.node("d"), &dest, false, &Silent);
        let Err(LayerError::Io { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert!(names(scratch.path()).is_empty());
        rustix::mount::unmount(scratch.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}
