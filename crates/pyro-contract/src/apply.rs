//! Taking approved changes of a workspace back to the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// Brings what changed in `/workspace` since it was seeded to a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// The directory of the host; the one that the workspace was seeded from, unless given.
    #[serde(default)]
    pub to: Option<String>,
    /// Only these files and what is in these directories, relative to `/workspace`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Where a text file was changed on both sides, merge it as `git merge-file` does.
    #[serde(default)]
    pub merge: bool,
    /// Also what is named `.git`, which can make git run programs and is otherwise left alone.
    #[serde(default)]
    pub include_git: bool,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Take the last apply of this workspace back instead.
    #[serde(default)]
    pub undo: bool,
}

/// What an apply did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The directory of the host.
    pub to: String,
    /// True if nothing was done, because that was asked for.
    pub dry_run: bool,
    /// What was done, ordered by path bytes.
    pub changes: Vec<ApplyChange>,
    /// Changes that the host's directory had already.
    pub already: u64,
    /// Changes that were left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<ApplySkipped>,
}

/// One thing done to the host's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyChange {
    /// Relative to the directory.
    #[serde(flatten)]
    pub path: BytePath,
    /// What was done.
    pub action: ApplyAction,
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApplyAction {
    /// It was made.
    Added,
    /// It was replaced.
    Modified,
    /// It was changed on both sides, and holds both changes now.
    Merged,
    /// Only its mode was set.
    ModeChanged,
    /// It was removed.
    Deleted,
}

/// One change that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplySkipped {
    /// Relative to the directory.
    #[serde(flatten)]
    pub path: BytePath,
    /// Why.
    pub reason: String,
}
