//! A layer mounted in a directory of another.

use std::sync::Arc;

use pyro_contract::diff::FileKind;

use super::lookup_path;
use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// Which of the two layers a node is of: the topmost bit tells.
const GRAFTED: u64 = 1 << 63;

/// One layer seen in a directory of another, as a mount would show it: `/workspace` in a machine.
pub struct GraftLayer {
    below: Arc<dyn Layer>,
    graft: Arc<dyn Layer>,
    /// The directory of `below` in whose place the graft's root stands.
    place: Place,
}

/// Where a graft is seen.
struct Place {
    parent: Node,
    name: Vec<u8>,
}

impl GraftLayer {
    /// Shows `graft` as `name` in the directory `parent` of `below`, whether or not `below` has
    /// something of that name there.
    ///
    /// # Errors
    /// [`LayerError::NotFound`] if `below` has no directory of that path.
    pub fn new(
        below: Arc<dyn Layer>,
        parent: &[u8],
        name: &[u8],
        graft: Arc<dyn Layer>,
    ) -> Result<Self> {
        let missing = || LayerError::NotFound("directory to mount in".to_owned());
        let parent = lookup_path(&*below, parent)?.ok_or_else(missing)?;
        if below.meta(parent)?.kind != FileKind::Directory {
            return Err(missing());
        }
        Ok(Self { below, graft, place: Place { parent, name: name.to_vec() } })
    }

    fn of(&self, node: Node) -> (&dyn Layer, Node) {
        if node.0 & GRAFTED == 0 {
            (&*self.below, node)
        } else {
            (&*self.graft, Node(node.0 & !GRAFTED))
        }
    }

    fn like(node: Node, inner: Node) -> Node {
        Node(inner.0 | node.0 & GRAFTED)
    }

    fn mounted(&self) -> Node {
        Node(self.graft.root().0 | GRAFTED)
    }
}

impl Layer for GraftLayer {
    fn root(&self) -> Node {
        self.below.root()
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        let (layer, inner) = self.of(node);
        layer.meta(inner)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let (layer, inner) = self.of(dir);
        let mut entries = layer.read_dir(inner)?;
        for entry in &mut entries {
            entry.node = Self::like(dir, entry.node);
        }
        if dir == self.place.parent {
            entries.retain(|entry| entry.name != self.place.name);
            entries.push(Entry { name: self.place.name.clone(), node: self.mounted() });
            entries.sort();
        }
        Ok(entries)
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        if dir == self.place.parent && name == self.place.name {
            return Ok(Some(self.mounted()));
        }
        let (layer, inner) = self.of(dir);
        Ok(layer.lookup(inner, name)?.map(|node| Self::like(dir, node)))
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (layer, inner) = self.of(file);
        layer.read_at(inner, offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        let (layer, inner) = self.of(link);
        layer.read_link(inner)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        let (layer, inner) = self.of(dir);
        layer.is_opaque(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemLayer;

    #[test]
    fn a_graft_hides_what_it_stands_on_and_nothing_else() {
        let below = MemLayer::new().file("workspace/hidden", "").file("etc/x", "below");
        let graft = MemLayer::new().file("a/b", "grafted").link("l", "a");
        let layer = GraftLayer::new(Arc::new(below), b"/", b"workspace", Arc::new(graft)).unwrap();
        let names = |dir: Node| -> Vec<Vec<u8>> {
            layer.read_dir(dir).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(layer.root()), [b"etc".to_vec(), b"workspace".to_vec()]);
        let workspace = lookup_path(&layer, b"workspace").unwrap().unwrap();
        assert_eq!(names(workspace), [b"a".to_vec(), b"l".to_vec()]);
        for (path, text) in [("etc/x", "below"), ("workspace/a/b", "grafted")] {
            let node = lookup_path(&layer, path.as_bytes()).unwrap().unwrap();
            let mut buffer = [0; 16];
            let count = layer.read_at(node, 0, &mut buffer).unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
        }
        assert_eq!(lookup_path(&layer, b"workspace/hidden").unwrap(), None);
    }
}
