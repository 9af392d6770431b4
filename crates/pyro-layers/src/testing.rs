//! What the tests of this crate share: whole trees as values, and mounts that end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyro_contract::diff::FileKind;

use crate::layer::{Layer, Meta, Node};

/// One file as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) meta: Meta,
    /// Bytes of a file, target of a link.
    pub(crate) content: Vec<u8>,
    pub(crate) opaque: bool,
}

/// A whole tree by path; the top is the empty path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Seen>;

/// Reads everything there is.
pub(crate) fn survey(layer: &dyn Layer) -> Tree {
    let mut tree = Tree::new();
    visit(layer, layer.root(), Vec::new(), &mut tree);
    tree
}

fn visit(layer: &dyn Layer, node: Node, path: Vec<u8>, tree: &mut Tree) {
    let meta = layer.meta(node).unwrap();
    let mut seen = Seen { meta, content: Vec::new(), opaque: false };
    match meta.kind {
        FileKind::File => {
            seen.content = vec![0; meta.size as usize];
            assert_eq!(layer.read_at(node, 0, &mut seen.content).unwrap() as u64, meta.size);
        }
        FileKind::Symlink => seen.content = layer.read_link(node).unwrap(),
        FileKind::Directory => {
            seen.opaque = layer.is_opaque(node).unwrap();
            let entries = layer.read_dir(node).unwrap();
            assert!(entries.is_sorted());
            for entry in entries {
                assert_eq!(layer.lookup(node, &entry.name).unwrap(), Some(entry.node));
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(&entry.name);
                visit(layer, entry.node, below, tree);
            }
        }
        _ => {}
    }
    tree.insert(path, seen);
}

/// True if the tests may mount; says loudly what is left out otherwise.
pub(crate) fn can_mount() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !can {
        eprintln!("SKIPPED: mounting needs root and loop devices");
    }
    can
}

/// True if a program is there; says loudly what is left out otherwise.
pub(crate) fn has_program(name: &str) -> bool {
    let has = Command::new(name).arg("-V").output().is_ok();
    if !has {
        eprintln!("SKIPPED: {name} is not installed");
    }
    has
}

/// An image the kernel has mounted, until this is dropped.
pub(crate) struct Mounted {
    at: tempfile::TempDir,
}

impl Mounted {
    /// `None`, loudly, if this kernel will not.
    pub(crate) fn new(kind: &str, options: &str, image: &Path) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options]).arg(image).arg(at.path());
        let output = mount.output().unwrap();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            if why.contains("unknown filesystem") || why.contains("failed to setup loop") {
                eprintln!("SKIPPED: this kernel does not mount {kind}: {why}");
                return None;
            }
            panic!("the kernel refuses the image: {why}");
        }
        Some(Self { at })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.at.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.at.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unmount");
    }
}
