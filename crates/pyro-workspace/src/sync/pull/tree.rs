//! The machine's tree, as the host reads it from the disk. A hostile guest wrote that: depth, counts
//! and sizes are bounded, and names are checked.

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::{Layer, Meta, Node};

use crate::sync::beneath::{DEPTH_MAX, join};
use crate::sync::rules::{Here, Rules};
use crate::watch::interrupted;

/// More than this is refused.
const ENTRIES_MAX: u64 = 4_000_000;
/// Sparse files make it easy to offer more than any host has.
const BYTES_MAX: u64 = 1 << 40;

/// Something in the machine's tree.
pub(super) struct Found {
    /// Relative to the tree.
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    pub(super) meta: Meta,
}

/// Gives everything that is not excluded to `take`, directories before what is in them. `patterns_of`
/// knows the patterns that hold in directories that the host has.
pub(super) fn walk(
    layer: &dyn Layer,
    top: Node,
    rules: &Rules,
    patterns_of: &dyn Fn(&[u8]) -> Option<Here>,
    progress: &dyn Progress,
    take: &mut dyn FnMut(Found) -> Result<()>,
) -> Result<()> {
    let mut count = 0_u64;
    let mut bytes = 0_u64;
    let mut left = vec![(Vec::new(), top, None, 0_usize)];
    while let Some((path, node, above, depth)) = left.pop() {
        if depth > DEPTH_MAX {
            return Err(too_large(format!("directories are nested over {DEPTH_MAX} deep")));
        }
        let here: Here = patterns_of(&path).unwrap_or(above);
        let mut names = layer.read_dir(node)?;
        names.dedup_by(|a, b| a.name == b.name);
        for entry in names {
            if progress.cancelled() {
                return Err(interrupted());
            }
            let name = &entry.name;
            if matches!(name.as_slice(), b"" | b"." | b"..")
                || name.iter().any(|b| b"/\0".contains(b))
            {
                return Err(Error::new(ErrorCode::Damaged, "the workspace's disk is damaged")
                    .with_cause(format!("a file has the name {}", BytePath::new(name.clone())))
                    .with_hint("pull another directory of it"));
            }
            let meta = layer.meta(entry.node)?;
            let path = join(&path, name);
            let is_directory = meta.kind == FileKind::Directory;
            if rules.excludes(&here, &path, is_directory) {
                continue;
            }
            count += 1;
            if meta.kind == FileKind::File {
                bytes = bytes.saturating_add(meta.size);
            }
            if count > ENTRIES_MAX {
                return Err(too_large(format!("there are over {ENTRIES_MAX} files")));
            }
            if bytes > BYTES_MAX {
                return Err(too_large(format!("there are over {} GiB", BYTES_MAX >> 30)));
            }
            if is_directory {
                left.push((path.clone(), entry.node, here.clone(), depth + 1));
            }
            take(Found { path, node: entry.node, meta })?;
        }
    }
    Ok(())
}

fn too_large(reason: String) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the tree in the workspace is too large: {reason}"))
        .with_hint("pull a part of it, or exclude some of it")
}

#[cfg(test)]
mod tests {
    use pyro_contract::progress::Silent;
    use pyro_layers::Entry;

    use super::*;

    /// A disk on which every directory has these names, and all of them are the directory itself.
    struct Endless(Vec<&'static [u8]>);

    impl Layer for Endless {
        fn root(&self) -> Node {
            Node(0)
        }

        fn meta(&self, _: Node) -> pyro_layers::layer::Result<Meta> {
            let (kind, mode) = (FileKind::Directory, 0o755);
            Ok(Meta { kind, mode, uid: 0, gid: 0, size: 0, mtime: 0, rdev: (0, 0) })
        }

        fn read_dir(&self, _: Node) -> pyro_layers::layer::Result<Vec<Entry>> {
            Ok(self.0.iter().map(|name| Entry { name: name.to_vec(), node: Node(0) }).collect())
        }

        fn read_at(&self, _: Node, _: u64, _: &mut [u8]) -> pyro_layers::layer::Result<usize> {
            Ok(0)
        }

        fn read_link(&self, _: Node) -> pyro_layers::layer::Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn is_opaque(&self, _: Node) -> pyro_layers::layer::Result<bool> {
            Ok(false)
        }
    }

    fn walked(layer: &Endless) -> Error {
        let rules = Rules::new(&Default::default()).unwrap();
        walk(layer, Node(0), &rules, &|_| None, &Silent, &mut |_| Ok(())).unwrap_err()
    }

    #[test]
    fn a_directory_inside_of_itself_comes_to_an_end() {
        assert_eq!(walked(&Endless(vec![b"a"])).code, ErrorCode::TooLarge);
        assert_eq!(walked(&Endless(vec![b"a", b"b", b"c"])).code, ErrorCode::TooLarge);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_damage() {
        for name in [&b".."[..], b".", b"", b"a/b", b"/etc", b"a\0"] {
            assert_eq!(walked(&Endless(vec![name])).code, ErrorCode::Damaged);
        }
    }
}
