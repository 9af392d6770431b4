//! Parts of layers: a subtree, nothing at all, and what a path names.

use std::sync::Arc;

use pyro_contract::{diff::FileKind, path::BytePath};

use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// The node that a path names, or `None` if there is nothing of that name.
///
/// Links are not followed, not even in the middle of the path: what a hostile guest has made a
/// link is no directory to us. Empty components and `.` are skipped, so `""` and `/` name the root.
///
/// # Errors
/// [`LayerError::NotFound`] for a path with `..`, which has no meaning in a tree without links.
pub fn lookup_path(layer: &dyn Layer, path: &[u8]) -> Result<Option<Node>> {
    let mut node = layer.root();
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." || name.contains(&0) {
            return Err(LayerError::NotFound(format!(
                "{}: a path must be written without '..' and NUL",
                BytePath::new(path)
            )));
        }
        if layer.meta(node)?.kind != FileKind::Directory {
            return Ok(None);
        }
        match layer.lookup(node, name)? {
            Some(inner) => node = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

/// A layer whose root is an inner directory of another: the upper of a workspace lies somewhere
/// inside of the machine's writable disk.
pub struct SubLayer {
    layer: Arc<dyn Layer>,
    root: Node,
}

impl SubLayer {
    /// Takes the directory at `path` for the root.
    ///
    /// # Errors
    /// [`LayerError::NotFound`] if there is no directory of that path.
    pub fn new(layer: Arc<dyn Layer>, path: &[u8]) -> Result<Self> {
        let missing = || LayerError::NotFound(format!("directory {}", BytePath::new(path)));
        let root = lookup_path(&*layer, path)?.ok_or_else(missing)?;
        if layer.meta(root)?.kind != FileKind::Directory {
            return Err(missing());
        }
        Ok(Self { layer, root })
    }
}

impl Layer for SubLayer {
    fn root(&self) -> Node {
        self.root
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        self.layer.meta(node)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        self.layer.read_dir(dir)
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        self.layer.lookup(dir, name)
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.layer.read_at(file, offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        self.layer.read_link(link)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        self.layer.is_opaque(dir)
    }
}

/// A layer with nothing in it: the seed of an empty workspace.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyLayer;

impl EmptyLayer {
    fn missing<T>() -> Result<T> {
        Err(LayerError::NotFound("file in an empty layer".to_owned()))
    }
}

impl Layer for EmptyLayer {
    fn root(&self) -> Node {
        Node(0)
    }

    fn meta(&self, _: Node) -> Result<Meta> {
        Ok(Meta {
            kind: FileKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            rdev: (0, 0),
        })
    }

    fn read_dir(&self, _: Node) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn read_at(&self, _: Node, _: u64, _: &mut [u8]) -> Result<usize> {
        Self::missing()
    }

    fn read_link(&self, _: Node) -> Result<Vec<u8>> {
        Self::missing()
    }

    fn is_opaque(&self, _: Node) -> Result<bool> {
        Ok(false)
    }
}
