//! The walk over what is to be exported: bounded, and the same for all destinations.

use std::{collections::HashSet, vec};

use pyro_contract::{
    diff::FileKind,
    path::BytePath,
    progress::{Progress, Report, Unit},
};

use super::Exported;
use crate::{
    content::Content,
    layer::{Entry, Layer, LayerError, Node, Result},
};

/// Directories nested deeper than this are refused. Each level holds one descriptor open, and a
/// process has 1024 of them by default.
const MAX_DEPTH: usize = 512;

/// More things than this are refused.
const MAX_FILES: u64 = 10_000_000;

/// More bytes than this are refused: sparse files make it easy for a guest to offer more than any
/// host has.
const MAX_BYTES: u64 = 1 << 40;

/// Where the things of a walk go, in the order in which they are met. Directories are entered
/// before their contents and left after them.
pub(crate) trait Sink {
    /// A directory begins.
    fn enter(&mut self, name: &[u8], dir: &Content<'_>) -> Result<()>;
    /// The directory entered last is complete.
    fn leave(&mut self, dir: &Content<'_>) -> Result<()>;
    /// A regular file, link or fifo.
    fn put(&mut self, name: &[u8], file: &Content<'_>) -> Result<()>;
}

/// Walks a tree and counts what it meets.
pub(crate) struct Plan<'a> {
    layer: &'a dyn Layer,
    progress: &'a dyn Progress,
    exported: Exported,
    frames: Vec<Frame<'a>>,
    entered: HashSet<Node>,
}

struct Frame<'a> {
    dir: Content<'a>,
    name: Vec<u8>,
    entries: vec::IntoIter<Entry>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(layer: &'a dyn Layer, progress: &'a dyn Progress) -> Self {
        let (exported, frames, entered) = (Exported::default(), Vec::new(), HashSet::new());
        Self { layer, progress, exported, frames, entered }
    }

    /// Gives `node`, under the name of `name`, and all that is in it to the sink.
    pub(crate) fn run(mut self, name: &[u8], node: Node, sink: &mut dyn Sink) -> Result<Exported> {
        let root = Entry { name: name.to_vec(), node };
        self.visit(root, sink)?;
        while let Some(frame) = self.frames.last_mut() {
            if let Some(entry) = frame.entries.next() {
                self.visit(entry, sink)?;
            } else if let Some(frame) = self.frames.pop() {
                self.entered.remove(&frame.dir.node());
                sink.leave(&frame.dir)?;
            }
        }
        Ok(self.exported)
    }

    fn visit(&mut self, Entry { name, node }: Entry, sink: &mut dyn Sink) -> Result<()> {
        let content = Content::new(self.layer, node)?;
        self.check(&name, &content)?;
        match content.meta().kind {
            FileKind::Directory => {
                sink.enter(&name, &content)?;
                self.exported.directories += 1;
                let mut entries = self.layer.read_dir(node)?;
                entries.sort();
                entries.dedup_by(|a, b| a.name == b.name);
                self.frames.push(Frame { dir: content, name, entries: entries.into_iter() });
            }
            FileKind::File | FileKind::Symlink | FileKind::Fifo => {
                sink.put(&name, &content)?;
                self.exported.files += 1;
            }
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket => {
                let path = self.path(&name);
                if self.frames.is_empty() {
                    return Err(LayerError::UnsafeTarget(format!(
                        "{path} is a device or a socket, which cannot be exported"
                    )));
                }
                self.exported.skipped.push(path);
            }
        }
        Ok(())
    }

    /// The guest decides on names, depth, count and sizes; here is where it stops.
    fn check(&mut self, name: &[u8], content: &Content<'_>) -> Result<()> {
        if self.progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        let is_inner = !self.frames.is_empty();
        if is_inner
            && (matches!(name, b"" | b"." | b"..") || name.iter().any(|b| b"/\0".contains(b)))
        {
            return Err(damaged(format!("it has the name {:?}", name.escape_ascii())));
        }
        if content.meta().kind == FileKind::Directory && !self.entered.insert(content.node()) {
            return Err(damaged(format!("directory {} lies inside of itself", self.path(name))));
        }
        if content.meta().kind == FileKind::File {
            self.exported.bytes = self.exported.bytes.saturating_add(content.meta().size);
        }
        let count = self.exported.files + self.exported.directories;
        let reason = if self.frames.len() > MAX_DEPTH {
            format!("directories are nested over {MAX_DEPTH} deep")
        } else if count > MAX_FILES {
            format!("there are over {MAX_FILES} files")
        } else if self.exported.bytes > MAX_BYTES {
            format!("there are over {} GiB", MAX_BYTES >> 30)
        } else {
            self.progress.report(Report {
                stage: "exporting".to_owned(),
                done: count,
                total: None,
                unit: Unit::Items,
            });
            return Ok(());
        };
        Err(LayerError::TooLarge(format!("{reason}; export a smaller directory")))
    }

    /// Relative to what is exported.
    fn path(&self, name: &[u8]) -> BytePath {
        let mut path = Vec::new();
        for frame in self.frames.iter().skip(1) {
            path.extend_from_slice(&frame.name);
            path.push(b'/');
            if path.len() > 4096 {
                break; // enough to find it by
            }
        }
        path.extend_from_slice(name);
        BytePath::new(path)
    }
}

fn damaged(detail: String) -> LayerError {
    LayerError::Damaged { what: "layer", detail }
}
