//! The one interface that all layers are read through.

use std::io;

use pyro_contract::diff::FileKind;

/// A file, directory or link of one layer. Meaningful only to the layer that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

/// What there is to know of a node besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content of a regular file; the length of a link's target; 0 otherwise.
    pub size: u64,
    /// Time of last modification, seconds since the epoch.
    pub mtime: i64,
    /// Device numbers `(major, minor)`; `(0, 0)` unless it is a device.
    pub rdev: (u32, u32),
}

impl Meta {
    /// Overlayfs marks a deleted name with a character device 0:0.
    #[must_use]
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileKind::CharDevice && self.rdev == (0, 0)
    }
}

/// One name of a directory. `name` is never empty, `.`, `..`, and has neither NUL nor `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, any bytes.
    pub name: Vec<u8>,
    /// What it names.
    pub node: Node,
}

/// Why a layer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The host could not read the bytes.
    #[error("{attempt}")]
    Io {
        /// What was being done.
        attempt: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes make no sense. For an ext4 layer this may be the guest's doing.
    #[error("the {what} is damaged: {detail}")]
    Damaged {
        /// Which image.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A tree is deeper, larger or fuller than the limits allow.
    #[error("{0}")]
    TooLarge(String),
    /// The seed holds something that cannot be taken, or cannot be read.
    #[error("cannot take {path} into the workspace: {reason}")]
    Seed {
        /// The path as the user would write it.
        path: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// An export would overwrite something or leave its target directory.
    #[error("{0}")]
    UnsafeTarget(String),
    /// The path is not in the layer.
    #[error("there is no {0}")]
    NotFound(String),
    /// The user interrupted.
    #[error("interrupted")]
    Cancelled,
}

impl LayerError {
    /// An I/O failure with what was being attempted.
    pub fn io(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, LayerError>;

/// A read-only tree of files.
pub trait Layer: Send + Sync {
    /// The top directory.
    fn root(&self) -> Node;

    /// Kind, mode, owner, size, times.
    fn meta(&self, node: Node) -> Result<Meta>;

    /// All names of a directory, ordered by bytes.
    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>>;

    /// One name of a directory.
    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.read_dir(dir)?.into_iter().find(|entry| entry.name == name).map(|e| e.node))
    }

    /// Bytes of a regular file from `offset`; fewer than asked only at its end.
    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// The target of a symbolic link.
    fn read_link(&self, link: Node) -> Result<Vec<u8>>;

    /// True if this directory hides everything below it (`trusted.overlay.opaque`).
    fn is_opaque(&self, dir: Node) -> Result<bool>;
}
