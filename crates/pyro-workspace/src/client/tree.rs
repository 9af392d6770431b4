//! A transaction on a tree of a running workspace, as its client has it.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use pyro_contract::journal::EventKind;
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{TreeChange, TreeCommit, TreePut};
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, gone, lost, open_socket, text, unexpected};
use crate::home::WorkspaceDir;
use crate::protocol::{ConflictReason, TREE, TreeConflict, TreeReport, TreeStart};

/// Changes of files that all happen, or none does. Dropped before [`TreeTransaction::commit`],
/// nothing happens. Paths are relative to the root, and lead through no link; see `agent.proto`.
#[derive(Debug)]
pub(crate) struct TreeTransaction {
    frames: SplitSink<Socket, Message>,
    reports: SplitStream<Socket>,
}

impl TreeTransaction {
    /// `root` is absolute: a directory of the machine.
    pub(crate) async fn begin(dir: &WorkspaceDir, root: &BytePath) -> Result<Self> {
        let mut socket = open_socket(dir, TREE).await?;
        let start = TreeStart { root: root.clone() };
        socket.send(text(&start)).await.map_err(lost)?;
        let (frames, reports) = socket.split();
        Ok(Self { frames, reports })
    }

    /// Adds one change; waits while the machine does not take it. [`Change::Put`] is followed by
    /// the file's content as [`Change::Data`] of at most [`pyro_wire::CHUNK`] bytes each; see
    /// [`TreeTransaction::put`].
    pub(crate) async fn change(&mut self, change: Change) -> Result<()> {
        let frame = TreeChange { change: Some(change) }.encode_to_vec();
        let report = tokio::select! {
            // Before the commit a report can only be a refusal.
            report = report(&mut self.reports) => report?,
            sent = self.frames.send(Message::Binary(frame.into())) => match sent {
                Ok(()) => return Ok(()),
                Err(_) => report(&mut self.reports).await?,
            },
        };
        Err(match report {
            TreeReport::Done => unexpected(),
            TreeReport::Conflicts { first, count } => conflict(&first, count),
            TreeReport::Failed(error) => error,
        })
    }

    /// Adds a file whose content is at hand.
    pub(crate) async fn put(&mut self, put: TreePut, content: &[u8]) -> Result<()> {
        self.change(Change::Put(put)).await?;
        for piece in content.chunks(pyro_wire::CHUNK) {
            self.change(Change::Data(piece.to_vec().into())).await?;
        }
        Ok(())
    }

    /// What is to stand in the journal once it has happened.
    pub(crate) async fn note(&mut self, event: &EventKind) -> Result<()> {
        self.frames.send(text(event)).await.map_err(lost)
    }

    /// Makes it so, or finds [what is in the way](conflict). With `dry_run`, changes nothing.
    pub(crate) async fn commit(mut self, dry_run: bool) -> Result<TreeOutcome> {
        let commit = TreeChange { change: Some(Change::Commit(TreeCommit { dry_run })) };
        // If it cannot be sent, the report says why.
        let _ = self.frames.send(Message::Binary(commit.encode_to_vec().into())).await;
        match report(&mut self.reports).await? {
            TreeReport::Done => Ok(TreeOutcome::Done),
            TreeReport::Conflicts { first, count } => Ok(TreeOutcome::Conflicts { first, count }),
            TreeReport::Failed(error) => Err(error),
        }
    }
}

async fn report(reports: &mut SplitStream<Socket>) -> Result<TreeReport> {
    while let Some(frame) = reports.next().await {
        if let Message::Text(text) = frame.map_err(lost)? {
            return serde_json::from_str(&text).map_err(|_| unexpected());
        }
    }
    Err(gone())
}

/// How a transaction ended that did not fail.
#[derive(Debug)]
pub(crate) enum TreeOutcome {
    /// All of it has happened or, in a dry run, would have.
    Done,
    /// Nothing has happened, because of these.
    Conflicts {
        /// The first of them.
        first: Vec<TreeConflict>,
        /// How many there are.
        count: u64,
    },
}

impl TreeOutcome {
    /// Conflicts as an error.
    pub(crate) fn done(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Conflicts { first, count } => Err(conflict(&first, count)),
        }
    }
}

/// The error that says what is in the way.
pub(crate) fn conflict(first: &[TreeConflict], count: u64) -> Error {
    let told: Vec<String> = first.iter().take(8).map(told).collect();
    let more = count.saturating_sub(told.len() as u64);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let reason = first.first().map_or(ConflictReason::Changed, |conflict| conflict.reason);
    let message = format!("nothing was changed: {}{more}", told.join(", "));
    let (code, hint) = match reason {
        ConflictReason::Changed => {
            (ErrorCode::Conflict, "read the file again, and base the change on what it is now")
        }
        ConflictReason::Exists => {
            (ErrorCode::Conflict, "choose another path, or read what is there before replacing it")
        }
        ConflictReason::Missing => {
            (ErrorCode::NotFound, "`pyro workspace file list` shows what there is")
        }
        ConflictReason::IsDirectory | ConflictReason::NotEmpty => {
            (ErrorCode::Conflict, "remove the directory first, recursively if it is not empty")
        }
        ConflictReason::NotADirectory => {
            (ErrorCode::Conflict, "a file is where a directory would have to be; remove it first")
        }
        ConflictReason::LeadsElsewhere => (
            ErrorCode::UnsafeTarget,
            "the path goes through a symbolic link or into another filesystem; name the real path",
        ),
        ConflictReason::Fixed => (
            ErrorCode::PermissionDenied,
            "something is mounted there or it is protected (chattr); undo that first",
        ),
        ConflictReason::Contradiction => {
            (ErrorCode::InvalidArgument, "the changes contradict each other; make them one by one")
        }
    };
    Error::new(code, message).with_hint(hint)
}

fn told(conflict: &TreeConflict) -> String {
    let path = &conflict.path;
    match conflict.reason {
        ConflictReason::Changed => format!("{path} has changed"),
        ConflictReason::Missing => format!("there is no {path}"),
        ConflictReason::Exists => format!("{path} exists already"),
        ConflictReason::IsDirectory => format!("{path} is a directory"),
        ConflictReason::NotADirectory => format!("{path} is no directory"),
        ConflictReason::NotEmpty => format!("{path} is not empty"),
        ConflictReason::LeadsElsewhere => format!("{path} leads elsewhere"),
        ConflictReason::Fixed => format!("{path} may not be changed"),
        ConflictReason::Contradiction => format!("{path} is changed in two ways at once"),
    }
}
