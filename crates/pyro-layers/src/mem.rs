//! A layer made up for a test, which may also be as corrupt as the test likes.

use std::collections::BTreeMap;

use pyro_contract::diff::FileKind;

use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

struct Thing {
    meta: Meta,
    content: Vec<u8>,
    children: BTreeMap<Vec<u8>, Node>,
    opaque: bool,
}

/// A tree in memory. Directories on the way to a path are made as needed.
pub(crate) struct MemLayer {
    things: Vec<Thing>,
}

impl MemLayer {
    pub(crate) fn new() -> Self {
        let mut layer = Self { things: Vec::new() };
        layer.make(FileKind::Directory, 0o755, b"");
        layer
    }

    fn make(&mut self, kind: FileKind, mode: u16, content: &[u8]) -> Node {
        let size = content.len() as u64;
        let meta = Meta { kind, mode, uid: 0, gid: 0, size, mtime: 1, rdev: (0, 0) };
        let (content, children) = (content.to_vec(), BTreeMap::new());
        self.things.push(Thing { meta, content, children, opaque: false });
        Node(self.things.len() as u64 - 1)
    }

    fn dir_at(&mut self, path: &[u8]) -> Node {
        let mut node = Node(0);
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            node = match self.things[node.0 as usize].children.get(name) {
                Some(child) => *child,
                None => {
                    let child = self.make(FileKind::Directory, 0o755, b"");
                    self.things[node.0 as usize].children.insert(name.to_vec(), child);
                    child
                }
            };
        }
        node
    }

    /// Puts a node at a path, also one that is already elsewhere.
    pub(crate) fn put(&mut self, path: impl AsRef<[u8]>, node: Node) {
        let path = path.as_ref();
        let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let parent = self.dir_at(&path[..cut]);
        self.things[parent.0 as usize].children.insert(path[cut..].to_vec(), node);
    }

    pub(crate) fn with(
        mut self,
        path: impl AsRef<[u8]>,
        kind: FileKind,
        mode: u16,
        content: impl AsRef<[u8]>,
    ) -> Self {
        let node = self.make(kind, mode, content.as_ref());
        self.put(path, node);
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.with(path, FileKind::File, 0o644, content)
    }

    pub(crate) fn link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(path, FileKind::Symlink, 0o777, target)
    }

    pub(crate) fn dir(mut self, path: impl AsRef<[u8]>, mode: u16) -> Self {
        let node = self.dir_at(path.as_ref());
        self.meta_mut(node).mode = mode;
        self
    }

    pub(crate) fn opaque(mut self, path: impl AsRef<[u8]>) -> Self {
        let node = self.dir_at(path.as_ref());
        self.things[node.0 as usize].opaque = true;
        self
    }

    pub(crate) fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        self.with(path, FileKind::CharDevice, 0, b"")
    }

    pub(crate) fn node(&self, path: &str) -> Node {
        crate::overlay::lookup_path(self, path.as_bytes()).unwrap().unwrap()
    }

    pub(crate) fn meta_mut(&mut self, node: Node) -> &mut Meta {
        &mut self.things[node.0 as usize].meta
    }

    fn thing(&self, node: Node) -> Result<&Thing> {
        self.things
            .get(node.0 as usize)
            .ok_or_else(|| LayerError::NotFound(format!("node {}", node.0)))
    }
}

impl Layer for MemLayer {
    fn root(&self) -> Node {
        Node(0)
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        Ok(self.thing(node)?.meta)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let children = &self.thing(dir)?.children;
        Ok(children.iter().map(|(name, node)| Entry { name: name.clone(), node: *node }).collect())
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.thing(dir)?.children.get(name).copied())
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let content = &self.thing(file)?.content;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        Ok(self.thing(link)?.content.clone())
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        Ok(self.thing(dir)?.opaque)
    }
}
