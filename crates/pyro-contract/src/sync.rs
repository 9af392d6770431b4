//! Bringing a tree of the host into a workspace, and a tree of a workspace back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// How many changes and left-out files a result names; the counts are always whole.
pub const NAMED: usize = 10_000;

/// What both directions of a sync take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncRules {
    /// What to leave alone on both sides: patterns in the syntax of .gitignore, relative to the
    /// tree. A `.pyroignore` in a directory of the host's tree holds for all below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Also sync what is named `.git`, which is otherwise left alone.
    #[serde(default)]
    pub include_git: bool,
    /// Remove from the target what the source does not have. Never what is excluded.
    #[serde(default)]
    pub delete: bool,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Brings a tree of the host into a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncPushRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// What to bring: a directory of the host, or a .tar, .tar.gz or .tar.zst archive.
    pub source: String,
    /// The directory that it becomes, absolute or relative to `/workspace`.
    #[serde(default = "project")]
    pub dest: String,
    /// What of it, and what else.
    #[serde(flatten)]
    pub rules: SyncRules,
}

/// Brings a tree of a workspace to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncPullRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// The directory to bring, absolute or relative to `/workspace`.
    #[serde(flatten)]
    pub path: BytePath,
    /// The directory of the host that it becomes; made if it does not exist.
    pub dest: String,
    /// Also replace and remove files of the host that were changed there since the last sync.
    #[serde(default)]
    pub force: bool,
    /// What of it, and what else.
    #[serde(flatten)]
    pub rules: SyncRules,
}

fn project() -> String {
    ".".to_owned()
}

/// What a sync did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Synced {
    /// True if nothing was done, because that was asked for.
    pub dry_run: bool,
    /// Files and links that were written.
    pub sent: u64,
    /// Directories that were made.
    pub made: u64,
    /// Files and directories of which only the mode was set.
    pub modes: u64,
    /// Files, links and directories that were removed.
    pub removed: u64,
    /// Files, links and directories that were the same on both sides.
    pub unchanged: u64,
    /// Bytes of content that were sent.
    pub bytes: u64,
    /// What was done, path by path; the first ten thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<SyncChange>,
    /// What was left out though nothing excludes it: sockets, devices, pipes; the first ten thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SyncSkipped>,
    /// How many were left out.
    #[serde(default)]
    pub skipped_count: u64,
}

impl Synced {
    /// True if both sides were the same already.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.sent + self.made + self.modes + self.removed == 0
    }

    /// Counts one thing done, and names it while there is room.
    pub fn record(&mut self, path: &[u8], what: SyncAction) {
        let count = match what {
            SyncAction::Sent => &mut self.sent,
            SyncAction::Made => &mut self.made,
            SyncAction::Mode => &mut self.modes,
            SyncAction::Removed => &mut self.removed,
        };
        *count += 1;
        if self.changes.len() < NAMED {
            self.changes.push(SyncChange { path: BytePath::new(path), action: what });
        }
    }

    /// Orders what is named by path, whoever found it first.
    pub fn sort(&mut self) {
        self.changes.sort_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Counts one thing left out.
    pub fn skip(&mut self, path: &[u8], reason: &str) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            let path = BytePath::new(path);
            self.skipped.push(SyncSkipped { path, reason: reason.to_owned() });
        }
    }
}

/// One thing that a sync did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncChange {
    /// Relative to the tree.
    #[serde(flatten)]
    pub path: BytePath,
    /// What was done.
    pub action: SyncAction,
}

/// What a sync does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncAction {
    /// A file or link was written.
    Sent,
    /// A directory was made.
    Made,
    /// Only the mode was set.
    Mode,
    /// It was removed.
    Removed,
}

/// One thing that a sync left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncSkipped {
    /// Relative to the tree.
    #[serde(flatten)]
    pub path: BytePath,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_only_what_differs_from_the_usual() {
        let json = serde_json::json!({"workspace": "demo", "source": "."});
        let request: SyncPushRequest = serde_json::from_value(json).unwrap();
        assert_eq!(request.dest, ".");
        assert_eq!(request.rules, SyncRules::default());
        let json = serde_json::json!({
            "workspace": "demo", "path": "src", "dest": "out", "exclude": ["*.o"], "delete": true,
        });
        let request: SyncPullRequest = serde_json::from_value(json).unwrap();
        assert_eq!(request.path.as_bytes(), b"src");
        assert!(request.rules.delete && !request.force && request.rules.exclude == ["*.o"]);
    }

    #[test]
    fn counts_are_whole_though_names_are_not() {
        let mut synced = Synced::default();
        for _ in 0..NAMED + 5 {
            synced.record(b"x", SyncAction::Sent);
            synced.skip(b"s", "it is a socket");
        }
        assert_eq!((synced.sent, synced.changes.len()), (NAMED as u64 + 5, NAMED));
        assert_eq!((synced.skipped_count, synced.skipped.len()), (NAMED as u64 + 5, NAMED));
    }
}
