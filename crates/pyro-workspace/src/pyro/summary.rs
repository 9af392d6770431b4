//! What happened in a workspace, in as few words as somebody needs who has to judge it.

use pyro_contract::Result;
use pyro_contract::command::{ChangedFiles, LogsRequest, WorkspaceSummary};
use pyro_contract::diff::{Change, Diff};
use pyro_contract::exec::CommandInfo;
use pyro_contract::journal::{Event, EventKind};
use pyro_contract::name::WorkspaceRef;

use super::{Pyro, blocking};
use crate::journal::{self, Wanted, Which};
use crate::review::Detail;
use crate::watch::Watch;

/// How many of each are named.
const MOST: usize = 100;
/// How many failures are shown with their output.
const FAILURES: usize = 10;
/// Of each, the end of the output.
const FAILURE_BYTES: u32 = 4096;

impl Pyro {
    /// Commands with how they ended, what else happened, and which files changed.
    pub async fn summary(
        &self,
        workspace: &WorkspaceRef,
        watch: &Watch,
    ) -> Result<WorkspaceSummary> {
        let (dir, record) = self.find(workspace).await?;
        let (live, id) = (record.state.is_running(), record.id.clone());
        let (mut commands, failures, events) = blocking(move || {
            let file = dir.journal_file();
            let commands = journal::commands(&file, Wanted::default(), live)?;
            let failed = commands.iter().filter(|command| has_failed(command));
            let failed: Vec<u64> = failed.map(|command| command.sequence).collect();
            let mut failures = Vec::new();
            for sequence in failed.iter().skip(failed.len().saturating_sub(FAILURES)) {
                let request = LogsRequest {
                    sequence: Some(*sequence),
                    max_output_bytes: Some(FAILURE_BYTES),
                    ..LogsRequest::new(WorkspaceRef::Id(id.clone()))
                };
                failures.extend(journal::logs(&file, &request, &id, live)?);
            }
            let events = journal::events(&file, Which { tail: Some(10_000), ..Which::default() })?;
            Ok((commands, failures, events))
        })
        .await?;
        let (changes, changes_error) = match self.changes(workspace, watch).await {
            Ok(changes) => (Some(changes), None),
            Err(error) => (None, Some(error)),
        };
        let count = |wanted: &dyn Fn(&CommandInfo) -> bool| {
            commands.iter().filter(|command| wanted(command)).count() as u64
        };
        let outcomes = commands.iter().filter_map(|command| command.outcome.as_ref());
        let summary = WorkspaceSummary {
            workspace: record.id,
            created_at: record.created_at,
            command_count: commands.len() as u64,
            failed_count: count(&has_failed),
            running_count: count(&|command| command.running),
            busy_ms: outcomes.map(|outcome| outcome.duration_ms).sum(),
            failures,
            events: last(events.into_iter().filter(is_of_its_own).collect::<Vec<Event>>()),
            changes,
            changes_error,
            commands: Vec::new(),
        };
        commands = last(commands);
        Ok(WorkspaceSummary { commands, ..summary })
    }

    async fn changes(&self, workspace: &WorkspaceRef, watch: &Watch) -> Result<ChangedFiles> {
        let review = self.review(workspace).await?;
        let watch = watch.clone();
        let (diff, review) =
            blocking(move || Ok((review.diff(Detail::Names, &watch)?, review))).await?;
        review.release().await?;
        Ok(changed(&diff))
    }
}

fn last<T>(mut all: Vec<T>) -> Vec<T> {
    all.drain(..all.len().saturating_sub(MOST));
    all
}

fn has_failed(command: &CommandInfo) -> bool {
    match &command.outcome {
        Some(outcome) => outcome.exit_code != Some(0) || outcome.timed_out || outcome.oom_killed,
        None => command.error.is_some(),
    }
}

/// Commands are told of by themselves.
fn is_of_its_own(event: &Event) -> bool {
    !matches!(event.kind, EventKind::CommandStarted { .. } | EventKind::CommandEnded { .. })
}

fn changed(diff: &Diff) -> ChangedFiles {
    let mut changed = ChangedFiles::default();
    for entry in &diff.entries {
        let word = match entry.change {
            Change::Added => {
                changed.added += 1;
                "added"
            }
            Change::Deleted => {
                changed.deleted += 1;
                "deleted"
            }
            _ => {
                changed.modified += 1;
                "modified"
            }
        };
        if changed.files.len() < MOST {
            changed.files.push(format!("{word} {}", entry.path));
        }
    }
    changed
}
