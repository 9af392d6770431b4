//! What a diff says.

use crate::exact;
use crate::name::WorkspaceRef;
use crate::path::BytePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of a patch a result holds, unless the request says otherwise: 1 MiB.
pub const MAX_PATCH_BYTES: u64 = 1 << 20;

/// What to compare, and how much of it to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Also give the git patch, which `git apply` takes.
    #[serde(default)]
    pub patch: bool,
    /// The most bytes of patch to give.
    #[serde(default = "max_patch_bytes")]
    pub max_patch_bytes: u64,
}

fn max_patch_bytes() -> u64 {
    MAX_PATCH_BYTES
}

/// Everything that changed, and the patch if it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceDiff {
    /// What changed.
    #[serde(flatten)]
    pub diff: Diff,
    /// The git patch; bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The exact bytes of the patch, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_base64: Option<String>,
    /// Bytes of the patch that are beyond the cap. What is here is then no whole patch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub patch_omitted_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde wants
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl WorkspaceDiff {
    /// Puts the first bytes of a patch beside what changed.
    #[must_use]
    pub fn with_patch(diff: Diff, patch: Vec<u8>, omitted_bytes: u64) -> Self {
        let (text, exact) = exact::split(patch);
        Self { diff, patch: Some(text), patch_base64: exact, patch_omitted_bytes: omitted_bytes }
    }
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there.
    Added,
    /// The bytes, or the target of a link, differ.
    Modified,
    /// It is gone.
    Deleted,
    /// It became another kind of thing.
    TypeChanged,
    /// Only its mode differs.
    ModeChanged,
}

/// What kind of thing a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
}

/// One side of a changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// Bytes of content; 0 for anything but a regular file.
    pub size: u64,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BytePath>,
}

/// One changed path, relative to the root of the compared tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffEntry {
    /// Which path.
    #[serde(flatten)]
    pub path: BytePath,
    /// How it differs.
    pub change: Change,
    /// What it was; absent if it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Side>,
    /// What it is; absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Side>,
    /// Lines added, for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insertions: Option<u64>,
    /// Lines removed, for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u64>,
    /// True if either side is not text.
    pub binary: bool,
}

/// Everything that changed, ordered by path bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// The changed paths.
    pub entries: Vec<DiffEntry>,
    /// Sum of insertions over all text files.
    pub insertions: u64,
    /// Sum of deletions over all text files.
    pub deletions: u64,
    /// Changes that a git patch cannot carry (empty directories, permission bits beyond the
    /// executable one, special files): they are listed in `entries`, but not in the patch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_patch: Vec<BytePath>,
}
