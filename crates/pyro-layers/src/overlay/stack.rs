//! The rules of overlayfs over any number of layers, without state.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Deref,
    sync::Arc,
};

use pyro_contract::diff::FileKind;

use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// A node of one of a stack's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which layer, by its position in the stack.
    pub(crate) layer: usize,
    /// The node there.
    pub(crate) node: Node,
}

/// What a name resolves to: the topmost thing of that name, and, if it is a directory, all the
/// directories under it that are merged into it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Topmost first; never empty; exactly one unless it is a directory.
    pub(crate) places: Arc<[Place]>,
    /// Of the topmost.
    pub(crate) meta: Meta,
}

impl Found {
    pub(crate) fn is_dir(&self) -> bool {
        self.meta.kind == FileKind::Directory
    }
}

/// Collects what lies under one name, from the top down, until something hides the rest.
#[derive(Default)]
struct Resolving {
    places: Vec<Place>,
    meta: Option<Meta>,
    closed: bool,
}

impl Resolving {
    fn add<L>(&mut self, stack: &Stack<L>, place: Place) -> Result<()>
    where
        L: Deref,
        L::Target: Layer,
    {
        if self.closed {
            return Ok(());
        }
        let layer = stack.layer(place);
        let meta = layer.meta(place.node)?;
        if meta.kind != FileKind::Directory {
            // Both a whiteout and a plain file hide what lies below; under a directory of an
            // upper layer neither shows.
            if self.places.is_empty() && !meta.is_whiteout() {
                self.places.push(place);
                self.meta = Some(meta);
            }
            self.closed = true;
            return Ok(());
        }
        self.places.push(place);
        self.meta.get_or_insert(meta);
        self.closed = layer.is_opaque(place.node)?;
        Ok(())
    }

    fn finish(self) -> Option<Found> {
        self.meta.map(|meta| Found { places: self.places.into(), meta })
    }
}

/// Layers that may lie over one another. Which of them do is said by the [`Found`] one starts from.
pub(crate) struct Stack<L> {
    layers: Vec<L>,
}

impl<L> Stack<L>
where
    L: Deref,
    L::Target: Layer,
{
    pub(crate) fn new(layers: Vec<L>) -> Self {
        Self { layers }
    }

    pub(crate) fn layers(&self) -> &[L] {
        &self.layers
    }

    fn layer(&self, place: Place) -> &L::Target {
        &self.layers[place.layer]
    }

    /// The layer and node that hold the content, mode and times of something.
    pub(crate) fn source(&self, found: &Found) -> (&L::Target, Node) {
        let place = found.places[0];
        (self.layer(place), place.node)
    }

    /// The merged root of some of the layers, topmost first.
    pub(crate) fn root(&self, of: &[usize]) -> Result<Found> {
        let mut root = Resolving::default();
        for &layer in of {
            let node = self.layers[layer].root();
            if self.layers[layer].meta(node)?.kind != FileKind::Directory {
                return Err(damaged("the root is not a directory".to_owned()));
            }
            // An opaque root hides nothing: overlayfs merges the directories that it was given.
            root.closed = false;
            root.add(self, Place { layer, node })?;
        }
        root.finish().ok_or_else(|| damaged("it has no layer at all".to_owned()))
    }

    /// All names of a merged directory, ordered by bytes.
    pub(crate) fn read_dir(&self, dir: &Found) -> Result<Vec<(Vec<u8>, Found)>> {
        let mut names: BTreeMap<Vec<u8>, Resolving> = BTreeMap::new();
        for place in dir.places.iter() {
            for Entry { name, node } in self.entries(*place)? {
                let place = Place { layer: place.layer, node };
                names.entry(name).or_default().add(self, place)?;
            }
        }
        Ok(names.into_iter().filter_map(|(name, it)| Some((name, it.finish()?))).collect())
    }

    /// One name of a merged directory.
    pub(crate) fn lookup(&self, dir: &Found, name: &[u8]) -> Result<Option<Found>> {
        self.resolve(dir, |place| self.lookup_in(*place, name))
    }

    /// Resolves one name; `in_place` tells what a single directory of the merged ones has for it.
    pub(crate) fn resolve(
        &self,
        dir: &Found,
        in_place: impl Fn(&Place) -> Result<Option<Node>>,
    ) -> Result<Option<Found>> {
        let mut name = Resolving::default();
        for place in dir.places.iter() {
            if name.closed {
                break;
            }
            if let Some(node) = in_place(place)? {
                name.add(self, Place { layer: place.layer, node })?;
            }
        }
        Ok(name.finish())
    }

    /// One name of a single directory.
    pub(crate) fn lookup_in(&self, dir: Place, name: &[u8]) -> Result<Option<Node>> {
        self.layer(dir).lookup(dir.node, name)
    }

    /// The names that a single directory has, whiteouts included, each once.
    pub(crate) fn entries(&self, dir: Place) -> Result<Vec<Entry>> {
        let entries = self.layer(dir).read_dir(dir.node)?;
        let mut seen = BTreeMap::new();
        for entry in entries {
            // The reader of a layer promises this too, but from here names become host paths.
            let name = &entry.name;
            if name.is_empty() || name == b"." || name == b".." || name.iter().any(is_separator) {
                return Err(damaged(format!("it has the name {:?}", name.escape_ascii())));
            }
            match seen.entry(entry.name) {
                btree_map::Entry::Vacant(vacant) => vacant.insert(entry.node),
                // A corrupt directory may list a name twice; a lookup finds the first.
                btree_map::Entry::Occupied(first) => first.into_mut(),
            };
        }
        Ok(seen.into_iter().map(|(name, node)| Entry { name, node }).collect())
    }
}

fn is_separator(byte: &u8) -> bool {
    matches!(byte, 0 | b'/')
}

pub(crate) fn damaged(detail: String) -> LayerError {
    LayerError::Damaged { what: "layer", detail }
}
