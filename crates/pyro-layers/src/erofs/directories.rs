//! The directories of an image, written when all names are known.
//!
//! Directories point at each other (`..` up, names down), so all get their places first.

use pyro_contract::diff::FileKind;

use super::dirents::{self, Dirent};
use super::format::{self, BLOCK, BLOCK_LEN, INODE_LEN, Inode, NID_UNIT};
use super::node::encode_xattrs;
use super::space::Shape;
use super::tree::{Directory, Id, Node, ROOT};
use super::writer::{ErofsWriter, ROOT_AT, record};
use crate::layer::{LayerError, Result};

/// Where every directory goes.
pub(super) struct Plans {
    by_id: Vec<Option<u64>>,
    order: Vec<DirectoryPlan>,
}

impl Plans {
    fn nid(&self, id: Id) -> u64 {
        self.by_id.get(id).copied().flatten().unwrap_or(0) / NID_UNIT
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DirectoryPlan> {
        self.order.iter()
    }
}

pub(super) struct DirectoryPlan {
    parent: Id,
    pub(super) at: u64,
    shape: Shape,
    start: u32,
}

impl ErofsWriter {
    /// Finds a place for every directory, so that they can point at each other.
    pub(super) fn plan_directories(&mut self, directories: &[(Id, Id)]) -> Result<Plans> {
        let mut plans = Plans { by_id: vec![None; self.tree.len()], order: Vec::new() };
        for (id, parent) in directories {
            let Node::Directory(directory) = self.tree.node(*id) else { continue };
            let size = dirents::packed_len(&self.entries(directory, *id, *parent, &plans));
            let head = INODE_LEN + encode_xattrs(&directory.attributes.xattrs)?.len();
            let room = if *id == ROOT { BLOCK_LEN - ROOT_AT as usize } else { BLOCK_LEN };
            if *id == ROOT && head > room {
                return Err(LayerError::TooLarge(
                    "the extended attributes of the top directory are too large".to_owned(),
                ));
            }
            let shape = Shape::of(size as u64, head, room);
            let start = self.space.take_blocks(shape.blocks)?;
            let at = match *id {
                ROOT => ROOT_AT,
                _ => self.space.take_record(head + shape.tail)?,
            };
            plans.by_id[*id] = Some(at);
            plans.order.push(DirectoryPlan { parent: *parent, at, shape, start });
        }
        Ok(plans)
    }

    /// Writes what of a directory lies in blocks of its own, and gives its record.
    pub(super) fn write_directory(
        &mut self,
        plan: &DirectoryPlan,
        plans: &Plans,
        id: Id,
    ) -> Result<Vec<u8>> {
        let Node::Directory(directory) = self.tree.node(id) else { return Ok(Vec::new()) };
        let entries = self.entries(directory, id, plan.parent, plans);
        let raw = dirents::pack(&entries);
        let links = entries.iter().filter(|e| e.kind == format::dirent_type(FileKind::Directory));
        let links = links.count() as u32;
        let (in_blocks, tail) = raw.split_at(raw.len() - plan.shape.tail);
        self.space.write_data(u64::from(plan.start) * BLOCK, in_blocks)?;
        let attributes = directory.attributes.clone();
        let size = raw.len() as u64;
        let kind = FileKind::Directory;
        let inode = self.inode(&attributes, kind, plan.shape.layout, size, plan.start);
        // Every directory below has a `..` that names this one: the dots and the children count.
        Ok(record(Inode { links, ..inode }, &encode_xattrs(&attributes.xattrs)?, tail))
    }

    /// A directory's entries in order. Places that are not known yet are 0.
    fn entries<'t>(
        &'t self,
        directory: &'t Directory,
        id: Id,
        parent: Id,
        plans: &Plans,
    ) -> Vec<Dirent<'t>> {
        let directory_type = format::dirent_type(FileKind::Directory);
        let mut entries: Vec<Dirent<'t>> = directory
            .children
            .iter()
            .map(|(name, child)| match self.tree.node(*child) {
                Node::Leaf(leaf) => {
                    Dirent { name, nid: leaf.at / NID_UNIT, kind: format::dirent_type(leaf.kind) }
                }
                Node::Directory(_) => Dirent { name, nid: plans.nid(*child), kind: directory_type },
            })
            .collect();
        entries.push(Dirent { name: b".", nid: plans.nid(id), kind: directory_type });
        entries.push(Dirent { name: b"..", nid: plans.nid(parent), kind: directory_type });
        entries.sort_unstable_by_key(|entry| entry.name);
        entries
    }
}
