//! The names of an image while it is written. Everything else goes to the file at once.

use std::collections::BTreeMap;

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;

use super::format::NAME_MAX;
use super::node::NewNode;
use crate::layer::{LayerError, Result};

/// An index into the tree's nodes.
pub(super) type Id = usize;

pub(super) enum Node {
    Directory(Directory),
    Leaf(Leaf),
}

pub(super) struct Directory {
    pub(super) attributes: NewNode,
    pub(super) children: BTreeMap<Box<[u8]>, Id>,
}

/// Anything but a directory; its inode is written already.
pub(super) struct Leaf {
    /// Offset of its inode in the image.
    pub(super) at: u64,
    pub(super) kind: FileKind,
    /// How many names it has; none if all of them were replaced.
    pub(super) links: u32,
}

pub(super) struct Tree {
    nodes: Vec<Node>,
    /// What directories are like that nobody described.
    pub(super) missing_parents: NewNode,
}

/// The top directory.
pub(super) const ROOT: Id = 0;

impl Tree {
    pub(super) fn new() -> Self {
        let plain = NewNode::of_root(0o755, 0);
        Self { nodes: vec![new_directory(plain.clone())], missing_parents: plain }
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node that a path names.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<Id>> {
        let mut at = ROOT;
        for name in components(path) {
            let Node::Directory(directory) = &self.nodes[at] else { return Ok(None) };
            match directory.children.get(name?) {
                Some(child) => at = *child,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The directory that holds the path's last name, made with its parents if need be, and that
    /// name; `None` for the top directory itself.
    pub(super) fn parent_of<'p>(&mut self, path: &'p [u8]) -> Result<Option<(Id, &'p [u8])>> {
        let names: Vec<&[u8]> = components(path).collect::<Result<_>>()?;
        let Some((last, parents)) = names.split_last() else { return Ok(None) };
        let mut at = ROOT;
        for name in parents {
            at = self.child_directory(at, name).ok_or_else(|| LayerError::Seed {
                path: shown(path),
                reason: "a part of its path is already there and is not a directory".to_owned(),
                hint: "remove one of the two from the source",
            })?;
        }
        Ok(Some((at, last)))
    }

    /// `None` if the name is there and is not a directory.
    fn child_directory(&mut self, parent: Id, name: &[u8]) -> Option<Id> {
        let made = self.nodes.len();
        let Node::Directory(directory) = &mut self.nodes[parent] else { return None };
        let id = *directory.children.entry(name.into()).or_insert(made);
        if id == made {
            self.nodes.push(new_directory(self.missing_parents.clone()));
        }
        matches!(self.nodes[id], Node::Directory(_)).then_some(id)
    }

    /// Gives a directory its attributes; one that is there already keeps what is in it.
    pub(super) fn put_directory(&mut self, place: Option<(Id, &[u8])>, attributes: NewNode) {
        let existing = match place {
            None => Some(ROOT),
            Some((parent, name)) => self.child(parent, name),
        };
        if let Some(Node::Directory(directory)) = existing.map(|id| &mut self.nodes[id]) {
            directory.attributes = attributes;
        } else if let Some((parent, name)) = place {
            self.nodes.push(new_directory(attributes));
            self.name(parent, name, self.nodes.len() - 1);
        }
    }

    /// Names a leaf whose inode is written at `at`.
    pub(super) fn put_leaf(&mut self, (parent, name): (Id, &[u8]), at: u64, kind: FileKind) {
        self.nodes.push(Node::Leaf(Leaf { at, kind, links: 1 }));
        self.name(parent, name, self.nodes.len() - 1);
    }

    /// Gives a leaf one more name. False if it is not a leaf.
    pub(super) fn put_link(&mut self, (parent, name): (Id, &[u8]), target: Id) -> bool {
        let Node::Leaf(leaf) = &mut self.nodes[target] else { return false };
        // Counted before the old name goes, so that linking a file to itself changes nothing.
        leaf.links += 1;
        self.name(parent, name, target);
        true
    }

    /// Takes a name away, with all that is below it. False if it was not there.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<bool> {
        let names: Vec<&[u8]> = components(path).collect::<Result<_>>()?;
        let Some((last, parents)) = names.split_last() else { return Ok(false) };
        let mut at = ROOT;
        for name in parents {
            match self.child(at, name) {
                Some(child) => at = child,
                None => return Ok(false),
            }
        }
        let Node::Directory(directory) = &mut self.nodes[at] else { return Ok(false) };
        let Some(removed) = directory.children.remove(*last) else { return Ok(false) };
        self.release(removed);
        Ok(true)
    }

    fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        match &self.nodes[parent] {
            Node::Directory(directory) => directory.children.get(name).copied(),
            Node::Leaf(_) => None,
        }
    }

    fn name(&mut self, parent: Id, name: &[u8], id: Id) {
        let replaced = match &mut self.nodes[parent] {
            Node::Directory(directory) => directory.children.insert(name.into(), id),
            Node::Leaf(_) => None,
        };
        if let Some(old) = replaced {
            self.release(old);
        }
    }

    /// Accounts for a name that is gone. A loop, not a recursion: the tree may be deep.
    fn release(&mut self, id: Id) {
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            match &mut self.nodes[id] {
                Node::Leaf(leaf) => leaf.links -= 1,
                Node::Directory(directory) => {
                    gone.extend(std::mem::take(&mut directory.children).into_values());
                }
            }
        }
    }

    /// All directories that can be reached, each with its parent, parents first.
    pub(super) fn directories(&self) -> Vec<(Id, Id)> {
        let mut found = vec![(ROOT, ROOT)];
        let mut next = 0;
        while let Some((id, _)) = found.get(next).copied() {
            next += 1;
            if let Node::Directory(directory) = &self.nodes[id] {
                let children = directory.children.values();
                found.extend(
                    children
                        .filter(|child| matches!(self.nodes[**child], Node::Directory(_)))
                        .map(|child| (*child, id)),
                );
            }
        }
        found
    }

    /// All leaves that still have a name.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Leaf(leaf) if leaf.links > 0 => Some(leaf),
            _ => None,
        })
    }
}

fn new_directory(attributes: NewNode) -> Node {
    Node::Directory(Directory { attributes, children: BTreeMap::new() })
}

/// The names of a path, checked. Leading, trailing and doubled slashes and `.` mean nothing.
fn components(path: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(move |name| {
        let wrong = match name {
            b".." => "it leads out of the tree with '..'",
            name if name.len() > NAME_MAX => "a name in it is longer than 255 bytes",
            name if name.contains(&0) => "a name in it holds a NUL byte",
            name => return Ok(name),
        };
        Err(LayerError::Seed {
            path: shown(path),
            reason: wrong.to_owned(),
            hint: "rename it in the source",
        })
    })
}

/// A path for a message.
pub(super) fn shown(path: &[u8]) -> String {
    BytePath::new(path).to_string()
}
