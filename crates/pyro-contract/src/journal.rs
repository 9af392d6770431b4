//! The journal of a workspace: what happened in it, when, and who asked for it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::exec::ExecOutcome;
use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number in this workspace's journal, from 1, never reused.
    pub id: u64,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who asked for it: the door, and what it knows of its user. Absent if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// The workspace came to be.
    Created {
        /// From which environment.
        environment: String,
        /// On which engine.
        engine: String,
    },
    /// Its machine runs.
    Started,
    /// Its machine is off, as somebody wanted.
    Stopped {
        /// What ended the run.
        reason: StopReason,
        /// What did not go as it should.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
    /// Its machine is held still.
    Paused,
    /// Its machine goes on.
    Resumed,
    /// Its machine did not start, or ended in a way nobody wanted.
    Failed {
        /// Why.
        error: Error,
    },
    /// Its name, labels or time to live were changed.
    Updated {
        /// Which of them, by the name that they have in the request.
        fields: Vec<String>,
    },
    /// A command was started.
    CommandStarted {
        /// Its number in the journal of commands.
        sequence: u64,
        /// Its arguments.
        argv: Vec<String>,
        /// True if it runs on without whoever started it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        detached: bool,
    },
    /// A command ended, or was lost.
    CommandEnded {
        /// How; absent if it never ran or was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<ExecOutcome>,
        /// Its number in the journal of commands.
        sequence: u64,
        /// Why it never ran or how it was lost, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A file was written by a file operation.
    FileWritten {
        /// Which.
        #[serde(flatten)]
        path: BytePath,
        /// Its length now.
        bytes: u64,
    },
    /// A file or tree was removed by a file operation.
    FileRemoved {
        /// Which.
        #[serde(flatten)]
        path: BytePath,
    },
    /// A file or tree was moved by a file operation.
    FileMoved {
        /// From where.
        from: BytePath,
        /// Where it is now.
        to: BytePath,
    },
    /// A patch was applied.
    PatchApplied {
        /// How many files it changed.
        files: u64,
        /// Which; the first hundred.
        paths: Vec<BytePath>,
    },
    /// A host directory or archive was brought in.
    SyncPushed {
        /// Where from, on the host.
        source: String,
        /// Where to, in the workspace.
        destination: BytePath,
        /// Entries that were written.
        written: u64,
        /// Entries that were removed.
        removed: u64,
        /// Bytes of content that were written.
        bytes: u64,
    },
    /// Something of the workspace was brought to the host.
    SyncPulled {
        /// Where from, in the workspace.
        source: BytePath,
        /// Where to, on the host.
        destination: String,
        /// Entries that were written.
        written: u64,
        /// Entries that were removed.
        removed: u64,
        /// Bytes of content that were written.
        bytes: u64,
    },
    /// Changes were brought to a directory of the host, or an apply was taken back.
    Applied {
        /// The directory.
        to: String,
        /// How many paths were changed there.
        changed: u64,
        /// True if it was taken back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undone: bool,
    },
    /// A shell was opened.
    ShellOpened {
        /// Its id.
        shell: String,
        /// What runs in it.
        argv: Vec<String>,
    },
    /// A shell closed.
    ShellClosed {
        /// Its id.
        shell: String,
        /// What its program exited with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended its program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// How it was lost, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A snapshot was made.
    SnapshotCreated {
        /// Its name.
        snapshot: String,
    },
    /// A snapshot was deleted.
    SnapshotDeleted {
        /// Its name.
        snapshot: String,
    },
    /// The workspace was set back.
    Reset {
        /// To which snapshot.
        snapshot: String,
    },
    /// A service changed its state.
    ServiceChanged {
        /// Its name.
        service: String,
        /// What it is now.
        state: String,
    },
    /// The journal reached a bound, and what was oldest was dropped.
    JournalTrimmed {
        /// Bytes of output that were dropped.
        output_bytes: u64,
        /// Commands that the output belonged to.
        commands: u64,
        /// Events that were dropped.
        events: u64,
    },
    /// Something that only a newer pyro knows.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// The kind as it stands in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Started => "started",
            Self::Stopped { .. } => "stopped",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Failed { .. } => "failed",
            Self::Updated { .. } => "updated",
            Self::CommandStarted { .. } => "command_started",
            Self::CommandEnded { .. } => "command_ended",
            Self::FileWritten { .. } => "file_written",
            Self::FileRemoved { .. } => "file_removed",
            Self::FileMoved { .. } => "file_moved",
            Self::PatchApplied { .. } => "patch_applied",
            Self::SyncPushed { .. } => "sync_pushed",
            Self::SyncPulled { .. } => "sync_pulled",
            Self::Applied { .. } => "applied",
            Self::ShellOpened { .. } => "shell_opened",
            Self::ShellClosed { .. } => "shell_closed",
            Self::SnapshotCreated { .. } => "snapshot_created",
            Self::SnapshotDeleted { .. } => "snapshot_deleted",
            Self::Reset { .. } => "reset",
            Self::ServiceChanged { .. } => "service_changed",
            Self::JournalTrimmed { .. } => "journal_trimmed",
            Self::Unknown => "unknown",
        }
    }
}

/// Which events of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventsRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Only those with a higher number.
    #[serde(default)]
    pub after: u64,
    /// Only those of this moment or later.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// Only the last so many; an answer has at most ten thousand.
    #[serde(default)]
    pub tail: Option<u32>,
    /// If there is nothing yet and the workspace runs, wait so long for something to happen.
    #[serde(default)]
    #[schemars(range(max = 3600))]
    pub wait_seconds: Option<u32>,
}

impl EventsRequest {
    /// All events of a workspace.
    #[must_use]
    pub fn new(workspace: WorkspaceRef) -> Self {
        Self { workspace, after: 0, since: None, tail: None, wait_seconds: None }
    }
}

/// What ended a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody asked.
    Asked,
    /// Its time to live was up.
    TimeToLive,
    /// The machine switched itself off.
    PoweredOff,
    /// The client that it was for is gone.
    Orphaned,
}

/// Who asks: at most 64 printable characters, such as `cli` or `mcp claude-code`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ClientName(String);

impl ClientName {
    /// The most characters that a name has.
    pub const LONGEST: usize = 64;

    /// As much of `text` as a name can have; `None` if nothing of it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let kept: String = text
            .chars()
            .filter(|c| c.is_ascii_graphic() || *c == ' ')
            .take(Self::LONGEST)
            .collect();
        let kept = kept.trim();
        (!kept.is_empty()).then(|| Self(kept.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_and_comes_back() {
        let event = Event {
            id: 7,
            at: Timestamp::UNIX_EPOCH,
            client: Some("cli".into()),
            kind: EventKind::FileWritten { path: BytePath::new(&b"a\xff"[..]), bytes: 3 },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["kind"], "file_written");
        assert_eq!((&json["id"], &json["bytes"]), (&7.into(), &3.into()));
        assert!(json["path_base64"].is_string());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn a_kind_of_a_newer_pyro_is_read_as_unknown() {
        let text = r#"{"id": 1, "at": "2026-01-01T00:00:00Z", "kind": "teleported", "to": "x"}"#;
        assert_eq!(serde_json::from_str::<Event>(text).unwrap().kind, EventKind::Unknown);
    }

    #[test]
    fn every_kind_is_named_as_in_json() {
        let kinds = [
            EventKind::Started,
            EventKind::Stopped { reason: StopReason::Asked, error: None },
            EventKind::CommandEnded { outcome: None, sequence: 1, error: None },
            EventKind::FileRemoved { path: BytePath::new("a") },
            EventKind::ShellClosed {
                shell: "1".into(),
                exit_code: None,
                signal: None,
                error: None,
            },
            EventKind::JournalTrimmed { output_bytes: 1, commands: 1, events: 0 },
        ];
        for kind in kinds {
            assert_eq!(serde_json::to_value(&kind).unwrap()["kind"], kind.as_str());
        }
    }

    #[test]
    fn a_client_cannot_name_itself_something_unprintable() {
        assert_eq!(ClientName::new("mcp \u{1b}[31mclaude").unwrap().as_str(), "mcp [31mclaude");
        assert_eq!(ClientName::new(&"x".repeat(500)).unwrap().as_str().len(), 64);
        assert!(ClientName::new(" \n").is_none());
    }
}
