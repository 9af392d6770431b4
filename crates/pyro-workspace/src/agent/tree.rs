//! Transactions on a tree of the machine.

use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::tree_conflict::Reason;
use pyro_wire::v1::{TreeChange, TreeChanged};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Agent, broken, misbehaved, printable};
use crate::protocol::{ConflictReason, TreeConflict, TreeReport};

/// More conflicts are not listened to.
const CONFLICTS_MAX: usize = 100;

/// No path of a machine is longer.
const PATH_MAX: usize = 4096;

impl Agent {
    /// Passes changes on until they are committed. Without a commit nothing is changed.
    pub(crate) async fn change_tree(
        &self,
        changes: mpsc::Receiver<TreeChange>,
    ) -> Result<TreeChanged> {
        let mut client = self.client.clone();
        let changed = client.change_tree(ReceiverStream::new(changes)).await;
        Ok(changed.map_err(|status| refused(&status))?.into_inner())
    }
}

/// What the agent says, believed as far as it makes sense.
pub(crate) fn report(changed: TreeChanged, dry_run: bool) -> Result<TreeReport> {
    if changed.conflict_count == 0 && changed.conflicts.is_empty() {
        if changed.committed == dry_run {
            return Err(misbehaved("the machine's files were not changed"));
        }
        return Ok(TreeReport::Done);
    }
    if changed.conflicts.iter().any(|conflict| conflict.path.len() > PATH_MAX) {
        return Err(misbehaved("what the machine says of its files makes no sense"));
    }
    let first: Vec<TreeConflict> = changed
        .conflicts
        .iter()
        .take(CONFLICTS_MAX)
        .map(|conflict| TreeConflict {
            path: BytePath::new(conflict.path.to_vec()),
            reason: match conflict.reason() {
                Reason::Changed => ConflictReason::Changed,
                Reason::Missing => ConflictReason::Missing,
                Reason::Exists => ConflictReason::Exists,
                Reason::IsDirectory => ConflictReason::IsDirectory,
                Reason::NotADirectory => ConflictReason::NotADirectory,
                Reason::NotEmpty => ConflictReason::NotEmpty,
                Reason::LeadsElsewhere => ConflictReason::LeadsElsewhere,
                Reason::Fixed => ConflictReason::Fixed,
                Reason::Contradiction => ConflictReason::Contradiction,
            },
        })
        .collect();
    let count = changed.conflict_count.max(first.len() as u64);
    Ok(TreeReport::Conflicts { first, count })
}

/// A call about files that failed, as users see it.
pub(crate) fn refused(status: &Status) -> Error {
    let attempt = "the machine's files could not be accessed";
    let said = printable(status.message(), 400);
    let failed = |code| Error::new(code, said.clone());
    match status.code() {
        Code::NotFound => {
            failed(ErrorCode::NotFound).with_hint("`pyro workspace file list` shows what there is")
        }
        Code::InvalidArgument => failed(ErrorCode::InvalidArgument)
            .with_hint("`pyro workspace file stat` shows what it is"),
        Code::PermissionDenied => failed(ErrorCode::PermissionDenied)
            .with_hint("not even root of the machine may do that to this file"),
        Code::OutOfRange => failed(ErrorCode::TooLarge).with_hint("do it in several steps"),
        Code::ResourceExhausted => failed(ErrorCode::NoSpace).with_hint(
            "remove something in the machine, or create the workspace with more --disk-mib",
        ),
        Code::Internal => failed(ErrorCode::Io).with_hint(
            "the machine's kernel refused; look at the files with `pyro workspace exec`",
        ),
        _ => broken(attempt, status),
    }
}
