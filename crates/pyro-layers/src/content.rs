//! The bytes of one file or link of a layer, read in bounded pieces.

use std::ops::ControlFlow;

use pyro_contract::{diff::FileKind, path::BytePath, progress::Progress};

use crate::layer::{Layer, LayerError, Meta, Node, Result};

/// How much of a file is in memory at a time.
pub(crate) const BLOCK: usize = 128 << 10;

/// Git looks for a NUL in this many bytes to tell binary from text (`buffer_is_binary`).
const SNIFFED: usize = 8000;

/// A side larger than this is treated as binary, so that comparing lines has bounded memory.
const MAX_TEXT: u64 = 16 << 20;

/// Likewise for a side with more lines than this.
const MAX_LINES: usize = 1 << 20;

/// A regular file or a symbolic link of some layer, and what is known of it.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    layer: &'a dyn Layer,
    node: Node,
    meta: Meta,
}

impl<'a> Content<'a> {
    /// What `node` of `layer` holds.
    ///
    /// # Errors
    /// If the node cannot be read.
    pub fn new(layer: &'a dyn Layer, node: Node) -> Result<Self> {
        Ok(Self { layer, node, meta: layer.meta(node)? })
    }

    pub(crate) fn of(layer: &'a dyn Layer, node: Node, meta: Meta) -> Self {
        Self { layer, node, meta }
    }

    /// Kind, mode, owner, size, times.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The layer that holds it.
    #[must_use]
    pub fn layer(&self) -> &'a dyn Layer {
        self.layer
    }

    /// Its node in that layer.
    #[must_use]
    pub fn node(&self) -> Node {
        self.node
    }

    /// The target of a symbolic link; `None` for anything else.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn target(&self) -> Result<Option<BytePath>> {
        match self.meta.kind {
            FileKind::Symlink => Ok(Some(BytePath::new(self.layer.read_link(self.node)?))),
            _ => Ok(None),
        }
    }

    /// Gives a regular file's bytes to `take`, block by block, until it breaks off.
    ///
    /// # Errors
    /// If the file cannot be read or is shorter than it claims, if `take` fails, or
    /// [`LayerError::Cancelled`].
    pub fn read_blocks(
        &self,
        progress: &dyn Progress,
        mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut buffer = vec![0; BLOCK.min(usize::try_from(self.meta.size).unwrap_or(BLOCK))];
        let mut offset = 0;
        while offset < self.meta.size {
            if progress.cancelled() {
                return Err(LayerError::Cancelled);
            }
            let count = self.fill(offset, &mut buffer)?;
            if take(&buffer[..count])?.is_break() {
                break;
            }
            offset += count as u64;
        }
        Ok(())
    }

    /// Fills the buffer from `offset`, or as much of it as the file has left.
    pub(crate) fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.meta.size.saturating_sub(offset);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut filled = 0;
        while filled < wanted {
            let at = offset + filled as u64;
            match self.layer.read_at(self.node, at, &mut buffer[filled..wanted])? {
                0 => {
                    return Err(LayerError::Damaged {
                        what: "layer",
                        detail: format!(
                            "a file ends at byte {at}, but should have {}",
                            self.meta.size
                        ),
                    });
                }
                // Never believe a reader that it read more than there was room for.
                count => filled += count.min(wanted - filled),
            }
        }
        Ok(filled)
    }

    /// True if git would call it binary, or if it is too large to be compared by lines. The count
    /// of lines is not looked at: that needs [`Content::text`].
    pub(crate) fn looks_binary(&self) -> Result<bool> {
        if self.meta.kind != FileKind::File {
            return Ok(false);
        }
        if self.meta.size > MAX_TEXT {
            return Ok(true);
        }
        let mut head = [0; SNIFFED];
        let count = self.fill(0, &mut head)?;
        Ok(head[..count].contains(&0))
    }

    /// All bytes, as git stores them (a link's are its target), if they are text small enough to
    /// be compared by lines.
    pub(crate) fn text(&self, progress: &dyn Progress) -> Result<Option<Vec<u8>>> {
        if let Some(target) = self.target()? {
            return Ok(Some(target.as_bytes().to_vec()));
        }
        if self.looks_binary()? {
            return Ok(None);
        }
        let mut text = Vec::with_capacity(usize::try_from(self.meta.size).unwrap_or(0));
        let mut lines = 0;
        self.read_blocks(progress, |block| {
            lines += block.iter().filter(|&&byte| byte == b'\n').count();
            text.extend_from_slice(block);
            Ok(if lines > MAX_LINES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok((lines <= MAX_LINES).then_some(text))
    }

    /// True if both hold the same bytes. Sizes are compared before anything is read.
    pub(crate) fn same_bytes(&self, other: &Content<'_>, progress: &dyn Progress) -> Result<bool> {
        if self.meta.kind == FileKind::Symlink || other.meta.kind == FileKind::Symlink {
            return Ok(self.target()? == other.target()?);
        }
        if self.meta.size != other.meta.size {
            return Ok(false);
        }
        let mut theirs = vec![0; BLOCK.min(usize::try_from(self.meta.size).unwrap_or(BLOCK))];
        let (mut same, mut offset) = (true, 0);
        self.read_blocks(progress, |ours| {
            let count = other.fill(offset, &mut theirs[..ours.len()])?;
            offset += count as u64;
            same = ours == &theirs[..count];
            Ok(if same { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(same)
    }
}
