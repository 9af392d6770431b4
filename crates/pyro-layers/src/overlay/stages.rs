//! What the machine's agent keeps at the top of a layer while it makes changes ready.

use crate::layer::{Entry, Layer, Meta, Node, Result};
use crate::overlay::lookup_path;

/// The directory in which changes are made ready. It is nobody's: neither diff nor export shows it.
const STAGES: &[u8] = b".pyro-transaction";

/// The names of a file that says that changes were promised and not all made yet.
const PROMISES: [&[u8]; 2] = [b"commit", b"removed"];

/// More transactions than this are not at work at once.
const MOST: usize = 1024;

/// A layer without what its machine's agent was making ready.
pub struct WithoutStages<L>(pub L);

impl<L: Layer> WithoutStages<L> {
    /// True if the machine ended in the middle of a commit: what is on the disk is neither what was
    /// before nor what was to be, until the machine starts again.
    ///
    /// # Errors
    /// If the layer cannot be read.
    pub fn is_unfinished(&self) -> Result<bool> {
        let Some(stages) = lookup_path(&self.0, STAGES)? else { return Ok(false) };
        if self.0.meta(stages)?.kind != pyro_contract::diff::FileKind::Directory {
            return Ok(false);
        }
        for Entry { name, .. } in self.0.read_dir(stages)?.into_iter().take(MOST) {
            for promise in PROMISES {
                let path = [STAGES, &name, promise].join(&b'/');
                if lookup_path(&self.0, &path)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn is_hidden(&self, dir: Node, name: &[u8]) -> bool {
        dir == self.0.root() && name == STAGES
    }
}

impl<L: Layer> Layer for WithoutStages<L> {
    fn root(&self) -> Node {
        self.0.root()
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        self.0.meta(node)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let mut entries = self.0.read_dir(dir)?;
        entries.retain(|entry| !self.is_hidden(dir, &entry.name));
        Ok(entries)
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        if self.is_hidden(dir, name) { Ok(None) } else { self.0.lookup(dir, name) }
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.read_at(file, offset, buffer)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        self.0.read_link(link)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        self.0.is_opaque(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::MemLayer;

    #[test]
    fn what_is_being_made_ready_does_not_show() {
        let plain = MemLayer::new().file(b"a", b"x").file(b".pyro-transaction/0/1", b"half");
        let layer = WithoutStages(plain);
        let names: Vec<_> =
            layer.read_dir(layer.root()).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, [b"a".to_vec()]);
        assert_eq!(lookup_path(&layer, b".pyro-transaction/0/1").unwrap(), None);
        assert!(!layer.is_unfinished().unwrap());
    }

    #[test]
    fn a_promise_that_was_not_kept_is_noticed() {
        for name in [&b".pyro-transaction/7/commit"[..], b".pyro-transaction/7/removed"] {
            assert!(WithoutStages(MemLayer::new().file(name, b"")).is_unfinished().unwrap());
        }
        assert!(!WithoutStages(MemLayer::new().file(b"commit", b"")).is_unfinished().unwrap());
    }
}
