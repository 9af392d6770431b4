//! What happened in a workspace, running or not, and the commands in it.

use std::time::Duration;

use pyro_contract::command::{
    Continuation, ListCommands, LogsRequest, OutputPage, OutputRequest, SignalCommand,
    SignalledCommand, WaitForCommand,
};
use pyro_contract::exec::{self, DEFAULT_OUTPUT_BYTES};
use pyro_contract::exec::{CommandInfo, ExecOutcome, ExecResult, JournalCommand, Stream};
use pyro_contract::journal::{Event, EventsRequest};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::time::Instant;

use super::{Pyro, blocking, ready};
use crate::client;
use crate::home::WorkspaceDir;
use crate::journal::{self, Page, Range, Wanted, Which};
use crate::record::Record;

/// Nobody waits longer in one call.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Pyro {
    /// The commands that ran in a workspace, oldest first, each with the beginning and the end of
    /// its output.
    pub async fn logs(&self, request: &LogsRequest) -> Result<Vec<JournalCommand>> {
        let (dir, record) = self.find(&request.workspace).await?;
        let request = request.clone();
        let live = record.state.is_running();
        blocking(move || journal::logs(&dir.journal_file(), &request, &record.id, live)).await
    }

    /// A stretch of a command's output. With `wait_seconds` it waits for more while the command
    /// runs, without asking again and again.
    pub async fn output(&self, request: &OutputRequest) -> Result<OutputPage> {
        let (dir, record) = self.find(&request.workspace).await?;
        let place = request.begin(&record.id)?;
        let mut waiting = Waiting::new(request.wait_seconds);
        loop {
            // Its state first: what it wrote before it ended is all there by the time it has.
            let live = self.is_live(&request.workspace).await;
            let (command, page) = read_page(&dir, place, request.max_output_bytes, live).await?;
            let nothing = page.pieces.is_empty() && page.dropped == 0;
            if nothing && command.running && waiting.more(&dir).await {
                continue;
            }
            return Ok(shown(place, &command, page, &record));
        }
    }

    /// What happened in a workspace, oldest first. With `wait_seconds` it waits until something has,
    /// while the workspace runs.
    pub async fn events(&self, request: &EventsRequest) -> Result<Vec<Event>> {
        let (dir, _) = self.find(&request.workspace).await?;
        let which = Which { after: request.after, since: request.since, tail: request.tail };
        let mut waiting = Waiting::new(request.wait_seconds);
        loop {
            let file = dir.journal_file();
            let found = blocking(move || journal::events(&file, which)).await?;
            if !found.is_empty() || !waiting.more(&dir).await {
                return Ok(found);
            }
        }
    }

    /// The commands that run in a workspace, or all that ran, without their output.
    pub async fn list_commands(&self, request: &ListCommands) -> Result<Vec<CommandInfo>> {
        let (dir, record) = self.find(&request.workspace).await?;
        let wanted = Wanted { open: !request.all, tail: request.tail, ..Wanted::default() };
        let live = record.state.is_running();
        blocking(move || journal::commands(&dir.journal_file(), wanted, live)).await
    }

    /// Waits until a command has ended, and gives its result as `exec` would have.
    pub async fn wait_for_command(&self, request: &WaitForCommand) -> Result<ExecResult> {
        let (dir, record) = self.find(&request.workspace).await?;
        let limit = request.timeout_seconds.map_or(u64::MAX, |seconds| seconds);
        let mut waiting = Waiting::for_at_most(Duration::from_secs(limit));
        let sequence = request.sequence;
        let command = loop {
            let live = self.is_live(&request.workspace).await;
            let file = dir.journal_file();
            let command = blocking(move || journal::command(&file, sequence, live)).await?;
            if !command.running {
                break command;
            }
            if waiting.is_over() {
                return Err(Error::new(
                    ErrorCode::Timeout,
                    format!("the command {sequence} still runs"),
                )
                .with_hint("wait longer, or end it with `pyro workspace command signal`"));
            }
            waiting.more(&dir).await;
        };
        let Some(outcome) = command.outcome else {
            return Err(lost(sequence, command.error));
        };
        let place = Continuation { sequence, position: 0, stream: None };
        let (command, page) = read_page(&dir, place, None, true).await?;
        let page = shown(place, &command, page, &record);
        Ok(result_of(outcome, page))
    }

    /// Signals a command and all it started.
    pub async fn signal_command(&self, request: &SignalCommand) -> Result<SignalledCommand> {
        let (dir, record) = self.find(&request.workspace).await?;
        ready(&request.workspace, &record)?;
        let (file, sequence) = (dir.journal_file(), request.sequence);
        blocking(move || journal::command(&file, sequence, true)).await?;
        client::signal(&dir, sequence, request.signal).await?;
        Ok(SignalledCommand { sequence, signal: request.signal })
    }

    async fn is_live(&self, workspace: &WorkspaceRef) -> bool {
        self.find(workspace).await.is_ok_and(|(_, record)| record.state.is_running())
    }
}

async fn read_page(
    dir: &WorkspaceDir,
    place: Continuation,
    max_output_bytes: Option<u32>,
    live: bool,
) -> Result<(CommandInfo, Page)> {
    let file = dir.journal_file();
    let at_most = exec::cap(max_output_bytes.or(Some(DEFAULT_OUTPUT_BYTES)));
    let range = Range { from: place.position, at_most, stream: place.stream };
    blocking(move || {
        // In this order: a command that has ended by now has written all.
        let command = journal::command(&file, place.sequence, live)?;
        Ok((command, journal::page(&file, place.sequence, range)?))
    })
    .await
}

fn shown(place: Continuation, command: &CommandInfo, page: Page, record: &Record) -> OutputPage {
    let next = Continuation { position: page.next, ..place };
    let more = command.running || !page.at_end;
    OutputPage {
        sequence: place.sequence,
        output: journal::chunks(&page.pieces),
        position: page.next,
        dropped_bytes: page.dropped,
        running: command.running,
        continuation: more.then(|| next.token(&record.id)),
    }
}

/// The result of a command whose output is in the journal.
fn result_of(outcome: ExecOutcome, page: OutputPage) -> ExecResult {
    let text = |wanted: Stream| -> String {
        let chunks = page.output.iter();
        chunks.filter(|chunk| chunk.stream == wanted).map(|chunk| chunk.text.as_str()).collect()
    };
    ExecResult {
        outcome,
        stdout: text(Stream::Stdout),
        stderr: text(Stream::Stderr),
        truncated: page.continuation.is_some() || page.dropped_bytes > 0,
        continuation: page.continuation,
    }
}

fn lost(sequence: u64, why: Option<String>) -> Error {
    let error = Error::new(
        ErrorCode::MachineFailed,
        format!("the command {sequence} did not come to its end"),
    )
    .with_hint("its output, as far as it came, is in `pyro workspace logs`");
    match why {
        Some(why) => error.with_cause(why),
        None => error,
    }
}

/// Somebody who waits for the journal to change.
struct Waiting {
    until: Option<Instant>,
    bell: Option<client::Bell>,
    over: bool,
}

impl Waiting {
    fn new(seconds: Option<u32>) -> Self {
        Self::for_at_most(Duration::from_secs(seconds.unwrap_or(0).into()).min(LONGEST_WAIT))
    }

    fn for_at_most(limit: Duration) -> Self {
        Self { until: Instant::now().checked_add(limit), bell: None, over: limit.is_zero() }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    /// True if it is worth looking again: something changed, or the workspace stopped just now.
    async fn more(&mut self, dir: &WorkspaceDir) -> bool {
        if self.over {
            return false;
        }
        if self.bell.is_none() {
            self.bell = client::bell(dir).await.ok();
        }
        let Some(bell) = &mut self.bell else {
            self.over = true;
            return false;
        };
        let rung = match self.until {
            Some(until) => tokio::time::timeout_at(until, bell.rung()).await.ok(),
            None => Some(bell.rung().await),
        };
        // One last look at what was written before the end.
        self.over = rung != Some(true);
        true
    }
}
