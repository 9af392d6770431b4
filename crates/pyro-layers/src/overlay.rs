//! Several layers seen as one, by the rules of overlayfs.
//!
//! The rules, from the kernel's `Documentation/filesystems/overlayfs.rst`: an upper layer's
//! non-directory hides what lies under it; a directory found in several layers is merged, unless
//! an upper one is *opaque*; a *whiteout* (character device 0:0) means that the name is gone.
//! Redirected directories and metadata-only copies are not read: the machines mount with
//! `redirect_dir=off,metacopy=off`, and a guest that forges such xattrs is simply not believed.

mod graft;
mod stack;
mod stages;
mod view;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

pub use graft::GraftLayer;
pub use stages::WithoutStages;
pub use view::{EmptyLayer, SubLayer, lookup_path};

pub(crate) use stack::{Found, Place, Stack};

use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// More nodes than this are not handed out by one [`OverlayLayer`]: some hundred MiB of table.
const MAX_NODES: usize = 4_000_000;

/// The merged view of several layers, as a process in the machine would see it.
///
/// Whiteouts are gone from it and no directory is opaque, so it can itself be a lower layer. Nodes
/// are numbered as they are met, and live as long as the layer does.
pub struct OverlayLayer {
    stack: Stack<Arc<dyn Layer>>,
    nodes: Mutex<Nodes>,
}

/// Gives a number to every thing met, the same thing always the same one.
#[derive(Default)]
struct Nodes {
    found: Vec<Found>,
    numbers: HashMap<Arc<[Place]>, u64>,
}

impl OverlayLayer {
    /// Lays `layers` over one another, the topmost first. Their roots are merged with each other.
    ///
    /// # Errors
    /// If a root cannot be read, or is not a directory.
    pub fn new(layers: Vec<Arc<dyn Layer>>) -> Result<Self> {
        let stack = Stack::new(layers);
        let all: Vec<usize> = (0..stack.layers().len()).collect();
        let root = stack.root(&all)?;
        let mut nodes = Nodes::default();
        nodes.intern(root)?;
        Ok(Self { stack, nodes: Mutex::new(nodes) })
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Nodes> {
        // A panic elsewhere cannot leave the table half-written: `intern` pushes, then inserts,
        // and a pushed thing without a number is merely unused.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, node: Node) -> Result<Found> {
        let nodes = self.nodes();
        usize::try_from(node.0)
            .ok()
            .and_then(|index| nodes.found.get(index))
            .cloned()
            .ok_or_else(|| LayerError::NotFound(format!("node {} in the overlay", node.0)))
    }
}

impl Nodes {
    fn intern(&mut self, found: Found) -> Result<Node> {
        if let Some(number) = self.numbers.get(&found.places) {
            return Ok(Node(*number));
        }
        if self.found.len() >= MAX_NODES {
            return Err(LayerError::TooLarge(format!(
                "the tree has over {MAX_NODES} files; take out a smaller directory of it"
            )));
        }
        let number = self.found.len() as u64;
        self.numbers.insert(Arc::clone(&found.places), number);
        self.found.push(found);
        Ok(Node(number))
    }
}

impl Layer for OverlayLayer {
    fn root(&self) -> Node {
        Node(0)
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        Ok(self.found(node)?.meta)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let children = self.stack.read_dir(&self.found(dir)?)?;
        let mut nodes = self.nodes();
        children
            .into_iter()
            .map(|(name, found)| Ok(Entry { name, node: nodes.intern(found)? }))
            .collect()
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        match self.stack.lookup(&self.found(dir)?, name)? {
            Some(found) => self.nodes().intern(found).map(Some),
            None => Ok(None),
        }
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let (layer, node) = self.stack.source(&self.found(file)?);
        layer.read_at(node, offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        let (layer, node) = self.stack.source(&self.found(link)?);
        layer.read_link(node)
    }

    fn is_opaque(&self, _: Node) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
