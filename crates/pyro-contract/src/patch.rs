//! Applying patches to a workspace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diff::Change;
use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// The largest patch, and the most bytes of all files together that one may change.
pub const PATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Applies a patch to `/workspace`, all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchApplyRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// A patch in git's format, or a plain unified diff.
    #[serde(default)]
    pub patch: String,
    /// Its exact bytes instead, if they are not UTF-8.
    #[serde(default)]
    pub patch_base64: Option<String>,
    /// Apply it below this directory instead of `/workspace`.
    #[serde(default)]
    pub directory: Option<String>,
    /// Take so many names from the front of each path; found out if not given.
    #[serde(default)]
    pub strip: Option<u32>,
    /// How many lines of context around a change may differ from the file's.
    #[serde(default)]
    pub fuzz: u32,
    /// Only find out whether it applies.
    #[serde(default)]
    pub dry_run: bool,
}

/// A patch that was applied or, in a dry run, would have been.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchApplied {
    /// What changed, in the order of paths.
    pub files: Vec<PatchedFile>,
    /// True if nothing was changed because only that was asked.
    pub dry_run: bool,
}

/// A file that a patch changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchedFile {
    /// Which.
    #[serde(flatten)]
    pub path: BytePath,
    /// How.
    pub change: Change,
    /// What it was renamed or copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<BytePath>,
    /// Hunks that applied at another line than the patch says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved_hunks: Vec<MovedHunk>,
}

/// A hunk that applied at another line than the patch says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MovedHunk {
    /// Which, counted from 1.
    pub hunk: u32,
    /// Where it was to apply.
    pub expected_line: u64,
    /// Where it did.
    pub line: u64,
    /// How many lines of its context were not there.
    #[serde(default)]
    pub fuzz: u32,
}
