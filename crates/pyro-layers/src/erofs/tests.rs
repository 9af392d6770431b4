//! The writer checked by four readers: ours, erofs-rs, `fsck.erofs`, and the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use pyro_contract::diff::FileKind;

use super::*;
use crate::hostdir::HostDirLayer;
use crate::layer::{Layer, LayerError, Meta};
use crate::testing::{Mounted, Seen, Tree, can_mount, has_program, survey};

struct Image {
    directory: tempfile::TempDir,
}

impl Image {
    fn build(fill: impl FnOnce(&mut ErofsWriter)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("image")).unwrap();
        let mut writer = ErofsWriter::create(file).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn layer(&self) -> ErofsLayer {
        ErofsLayer::open(&self.path()).unwrap()
    }

    /// The tree, after all the other readers agreed to it.
    fn checked(&self) -> Tree {
        let tree = survey(&self.layer());
        check_with_erofs_rs(&self.path(), &tree);
        check_with_fsck(&self.path());
        tree
    }
}

fn check_with_erofs_rs(path: &Path, tree: &Tree) {
    use erofs_rs::{EroFS, backend::SliceImage};
    let bytes = std::fs::read(path).unwrap();
    let image = EroFS::new(SliceImage::new(bytes.as_slice())).unwrap();
    let mut count = 1;
    for entry in image.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        if entry.depth == 0 {
            continue;
        }
        count += 1;
        let path = entry.dir_entry.path();
        let seen = &tree[path.as_bytes().strip_prefix(b"/").unwrap()];
        assert_eq!((entry.inode.uid(), entry.inode.gid()), (seen.meta.uid, seen.meta.gid));
        assert_eq!(entry.inode.modified_unix(), (seen.meta.mtime, 0));
        assert_eq!(entry.inode.device().unwrap_or((0, 0)), seen.meta.rdev);
        if entry.inode.is_file() {
            let mut content = Vec::new();
            let mut file = image.open_inode_file(entry.inode).unwrap();
            std::io::Read::read_to_end(&mut file, &mut content).unwrap();
            assert_eq!(content, seen.content);
        } else if entry.inode.is_symlink() {
            assert_eq!(image.read_link_inode(entry.inode).unwrap().as_bytes(), seen.content);
        }
    }
    assert_eq!(count, tree.len());
}

fn check_with_fsck(path: &Path) {
    if has_program("fsck.erofs") {
        let output = Command::new("fsck.erofs").arg("--extract").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn check_with_kernel(path: &Path, tree: &Tree) {
    if !can_mount() {
        return;
    }
    if let Some(mounted) = Mounted::new("erofs", "loop,ro", path) {
        let kernel = survey(&HostDirLayer::open(&mounted.path()).unwrap());
        assert_eq!(kernel.keys().collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
        for (path, seen) in tree {
            assert!(kernel[path] == *seen, "{}", String::from_utf8_lossy(path));
        }
    }
}

fn add(writer: &mut ErofsWriter, path: &[u8], content: &[u8]) {
    let mut source = ReadSource(content);
    let content = Content::File { size: content.len() as u64, source: &mut source };
    writer.add(path, NewNode::of_root(0o644, 1), content).unwrap();
}

/// Sizes around every boundary of the packing.
const SIZES: [usize; 12] = [0, 1, 31, 4000, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 3 << 20];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251 + n / 4096) as u8).collect()
}

/// One of everything.
fn fill_zoo(writer: &mut ErofsWriter) {
    let odd = NewNode { mode: 0o4751, uid: 70_000, gid: 80_000, mtime: -5, xattrs: Vec::new() };
    for size in SIZES {
        add(writer, format!("sizes/{size}").as_bytes(), &pattern(size));
    }
    for len in [1, 59, 60, 4000, 4031, 4032, 4033, 4095] {
        let name = format!("links/{len}");
        let content = vec![b'x'; len];
        writer.add(name.as_bytes(), odd.clone(), Content::Symlink(&content)).unwrap();
    }
    let devices = [
        (&b"dev/null"[..], Content::CharDevice(1, 3)),
        (b"dev/whiteout", Content::CharDevice(0, 0)),
        (b"dev/large", Content::BlockDevice(259, 70_000)),
        (b"dev/pipe", Content::Fifo),
    ];
    for (path, content) in devices {
        writer.add(path, odd.clone(), content).unwrap();
    }
    let opaque = Xattr::new(b"trusted.overlay.opaque", b"y").unwrap();
    let hidden = NewNode { xattrs: vec![opaque], ..odd.clone() };
    writer.add(b"opaque", hidden, Content::Directory).unwrap();
    for name in [&b"!before dot"[..], b"-", b"\xff\xfe", b"new\nline", b"..."] {
        add(writer, &[b"names/", name].concat(), name);
    }
    add(writer, &[b'n'; 255], b"the longest name");
    writer.link(b"names/again", b"sizes/4097").unwrap();
    writer.link(b"names/pipe", b"dev/pipe").unwrap();
    writer.add(b"/", NewNode { mode: 0o1777, ..odd }, Content::Directory).unwrap();
}

#[test]
fn one_of_everything_is_read_alike_by_all_readers() {
    let image = Image::build(fill_zoo);
    let tree = image.checked();
    check_with_kernel(&image.path(), &tree);
    for size in SIZES {
        assert_eq!(tree[format!("sizes/{size}").as_bytes()].content, pattern(size));
    }
    assert_eq!(tree[&b""[..]].meta.mode, 0o1777);
    assert_eq!(tree[&b"sizes"[..]].meta.mode, 0o755);
    assert_eq!(tree[&b"dev/large"[..]].meta.rdev, (259, 70_000));
    assert!(tree[&b"dev/whiteout"[..]].meta.is_whiteout());
    assert!(tree[&b"opaque"[..]].opaque && !tree[&b"dev"[..]].opaque);
    assert_eq!(tree[&b"names/again"[..]].content, pattern(4097));
}

#[test]
fn attributes_of_any_size_reach_the_kernel() {
    let image = Image::build(|writer| {
        for (n, len) in [0, 3, 100, 3900, 4000, 4020, 4096, 60_000].into_iter().enumerate() {
            let xattrs = vec![
                Xattr::new(b"user.long", &vec![b'v'; len]).unwrap(),
                Xattr::new(
                    b"security.capability",
                    b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                )
                .unwrap(),
            ];
            let node = NewNode { xattrs, ..NewNode::of_root(0o755, 0) };
            let content = pattern(n * 100);
            let mut source = ReadSource(content.as_slice());
            let content = Content::File { size: content.len() as u64, source: &mut source };
            writer.add(len.to_string().as_bytes(), node, content).unwrap();
        }
    });
    let tree = image.checked();
    check_with_kernel(&image.path(), &tree);
    if !can_mount() {
        return;
    }
    let Some(mounted) = Mounted::new("erofs", "loop,ro", &image.path()) else { return };
    for len in [0, 3, 100, 3900, 4000, 4020, 4096, 60_000] {
        let path = mounted.path().join(len.to_string());
        let mut value = vec![0; 65_536];
        let got = rustix::fs::getxattr(&path, "user.long", &mut value).unwrap();
        assert_eq!(&value[..got], vec![b'v'; len]);
        assert_eq!(rustix::fs::getxattr(&path, "security.capability", &mut value).unwrap(), 20);
    }
}

#[test]
fn hard_links_share_an_inode_and_count() {
    let image = Image::build(|writer| {
        add(writer, b"a", b"shared");
        writer.link(b"d/b", b"a").unwrap();
        writer.link(b"c", b"d/b").unwrap();
        writer.link(b"c", b"c").unwrap();
        add(writer, b"d/b", b"replaced");
    });
    let layer = image.layer();
    let a = layer.lookup(layer.root(), b"a").unwrap();
    assert_eq!(a, layer.lookup(layer.root(), b"c").unwrap());
    let bytes = std::fs::read(image.path()).unwrap();
    let at = a.unwrap().0 as usize * 32 + 44;
    assert_eq!(bytes[at..at + 4], 2u32.to_le_bytes());
    assert_eq!(image.checked()[&b"d/b"[..]].content, b"replaced");
}

#[test]
fn later_entries_win_and_directories_keep_what_is_in_them() {
    let image = Image::build(|writer| {
        add(writer, b"d/old", b"1");
        let directory = NewNode::of_root(0o700, 9);
        writer.add(b"./d/", directory.clone(), Content::Directory).unwrap();
        add(writer, b"gone/below/deep", b"2");
        add(writer, b"gone", b"a file now");
        add(writer, b"file", b"3");
        writer.add(b"file", directory, Content::Directory).unwrap();
        add(writer, b"file/inside", b"4");
        add(writer, b"removed/x", b"5");
        assert!(writer.remove(b"removed").unwrap());
        assert!(!writer.remove(b"removed/x").unwrap());
        assert!(!writer.contains(b"removed").unwrap());
    });
    let tree = image.checked();
    let paths: Vec<_> = tree.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["", "d", "d/old", "file", "file/inside", "gone"]);
    assert_eq!(tree[&b"d"[..]].meta.mode, 0o700);
    assert_eq!(tree[&b"gone"[..]].content, b"a file now");
}

#[test]
fn impossible_paths_are_refused() {
    Image::build(|writer| {
        add(writer, b"file", b"");
        let mut try_at = |path: &[u8]| {
            writer.add(path, NewNode::of_root(0o755, 0), Content::Fifo).unwrap_err().to_string()
        };
        assert!(try_at(b"a/../../b").contains("'..'"));
        assert!(try_at(b"file/below").contains("not a directory"));
        assert!(try_at(b"").contains("must be a directory"));
        assert!(try_at(&[b'x'; 256]).contains("longer than 255"));
        assert!(try_at(b"a\0b").contains("NUL"));
        let error = writer.link(b"x", b"missing").unwrap_err();
        assert!(matches!(error, LayerError::Seed { .. }), "{error}");
        assert!(writer.link(b"x", b"/").is_err());
    });
}

#[test]
fn a_source_that_ends_early_is_an_error() {
    Image::build(|writer| {
        for size in [10, 5000] {
            let mut source = ReadSource(&b"short"[..]);
            let content = Content::File { size, source: &mut source };
            let error = writer.add(b"f", NewNode::of_root(0o644, 0), content).unwrap_err();
            assert!(error.to_string().contains("shorter"), "{error}");
        }
    });
}

#[test]
fn zeros_become_holes_in_the_image() {
    use std::os::unix::fs::MetadataExt;
    let image = Image::build(|writer| {
        let mut content = vec![0; 64 << 20];
        content[32 << 20] = 1;
        add(writer, b"sparse", &content);
    });
    let metadata = std::fs::metadata(image.path()).unwrap();
    assert!(metadata.len() > 64 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    assert_eq!(image.checked()[&b"sparse"[..]].content[32 << 20], 1);
}

#[test]
fn fifty_thousand_names_in_one_directory_are_found_fast() {
    let names: Vec<String> = (0..50_000).map(|n| format!("file-number-{n}")).collect();
    let image = Image::build(|writer| {
        for name in &names {
            add(writer, name.as_bytes(), name.as_bytes());
        }
    });
    let layer = image.layer();
    let started = std::time::Instant::now();
    for name in &names {
        let node = layer.lookup(layer.root(), name.as_bytes()).unwrap().unwrap();
        let mut buffer = [0; 40];
        let got = layer.read_at(node, 0, &mut buffer).unwrap();
        assert_eq!(&buffer[..got], name.as_bytes());
    }
    eprintln!("50,000 lookups and reads: {:?}", started.elapsed());
    assert!(started.elapsed().as_secs() < 10);
    assert_eq!(layer.lookup(layer.root(), b"file-number-").unwrap(), None);
    assert_eq!(layer.lookup(layer.root(), b"zzz").unwrap(), None);
    check_with_kernel(&image.path(), &image.checked());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let [a, b] = [(); 2].map(|()| std::fs::read(Image::build(fill_zoo).path()).unwrap());
    assert!(a == b);
}

#[test]
fn damaged_images_are_errors_and_never_panics() {
    let image = Image::build(fill_zoo);
    let sound = std::fs::read(image.path()).unwrap();
    let broken = image.directory.path().join("broken");
    let mut state = 1u64;
    for _ in 0..300 {
        let mut bytes = sound.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Never the superblock: its checksum would end the test early.
            let at = 4096 + (state >> 33) as usize % (bytes.len() - 4096);
            bytes[at] = (state >> 20) as u8;
        }
        std::fs::write(&broken, &bytes).unwrap();
        let layer = ErofsLayer::open(&broken).unwrap();
        let _ = read_all(&layer, layer.root(), 0);
    }
    std::fs::write(&broken, &sound[..sound.len() - 4096]).unwrap();
    assert!(ErofsLayer::open(&broken).is_err());
    std::fs::write(&broken, "not an image").unwrap();
    assert!(ErofsLayer::open(&broken).is_err());
}

fn read_all(layer: &ErofsLayer, node: crate::Node, depth: u32) -> Result<(), LayerError> {
    let meta = layer.meta(node)?;
    match meta.kind {
        FileKind::File => drop(layer.read_at(node, 0, &mut [0; 5000])?),
        FileKind::Symlink => drop(layer.read_link(node)?),
        FileKind::Directory if depth < 4 => {
            layer.is_opaque(node)?;
            for entry in layer.read_dir(node)? {
                layer.lookup(node, &entry.name)?;
                let _ = read_all(layer, entry.node, depth + 1);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A random file: what it is, and its content where it has any.
fn any_file() -> impl Strategy<Value = (FileKind, Vec<u8>)> {
    let content = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (0..20_000usize).prop_map(pattern),
        (0..20_000usize).prop_map(|len| vec![0; len]),
    ];
    prop_oneof![
        4 => content.prop_map(|content| (FileKind::File, content)),
        2 => Just((FileKind::Directory, Vec::new())),
        1 => proptest::collection::vec(1..=255u8, 1..300).prop_map(|t| (FileKind::Symlink, t)),
        1 => Just((FileKind::Fifo, Vec::new())),
    ]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop_oneof![Just(b'.'), Just(b'a'), (1..=255u8).prop_filter("", |b| *b != b'/')];
    proptest::collection::vec(letter, 1..40)
        .prop_filter("", |name| !matches!(name.as_slice(), b"." | b".."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tree_comes_back_as_it_was(
        files in proptest::collection::btree_map(
            proptest::collection::vec(any_name(), 1..4),
            (any_file(), 0..0o10000u16, any::<u32>(), any::<u32>(), any::<i32>()),
            0..40,
        ),
    ) {
        let mut expected = Tree::new();
        let directory = |mode, uid, gid, mtime| Seen {
            meta: Meta { kind: FileKind::Directory, mode, uid, gid, mtime, size: 0, rdev: (0, 0) },
            content: Vec::new(),
            opaque: false,
        };
        expected.insert(Vec::new(), directory(0o755, 0, 0, 0));
        let image = Image::build(|writer| {
            for (names, ((kind, bytes), mode, uid, gid, mtime)) in &files {
                let path = names.join(&b'/');
                let mtime = i64::from(*mtime);
                let node = NewNode { mode: *mode, uid: *uid, gid: *gid, mtime, xattrs: vec![] };
                let mut source = ReadSource(bytes.as_slice());
                let content = match kind {
                    FileKind::File => {
                        Content::File { size: bytes.len() as u64, source: &mut source }
                    }
                    FileKind::Directory => Content::Directory,
                    FileKind::Symlink => Content::Symlink(bytes),
                    _ => Content::Fifo,
                };
                let blocked = (1..names.len()).any(|n| {
                    let above = expected.get(&names[..n].join(&b'/'));
                    above.is_some_and(|seen| seen.meta.kind != FileKind::Directory)
                });
                assert_eq!(writer.add(&path, node, content).is_err(), blocked);
                if blocked {
                    continue;
                }
                for n in 1..names.len() {
                    let above = names[..n].join(&b'/');
                    expected.entry(above).or_insert_with(|| directory(0o755, 0, 0, 0));
                }
                let mut seen = directory(*mode, *uid, *gid, mtime);
                seen.meta.kind = *kind;
                seen.meta.size = bytes.len() as u64;
                seen.content = bytes.clone();
                expected.insert(path, seen);
            }
        });
        prop_assert!(image.checked() == expected);
        prop_assert!(survey(&image.layer()) == expected);
    }
}
