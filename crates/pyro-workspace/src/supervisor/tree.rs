//! A transaction on a tree: between a client's socket and the agent.
//!
//! A frame is read from the socket when the agent has taken the one before, so that nothing is
//! buffered beyond a few of them. A client that goes before it has committed has changed nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, future};
use prost::Message as _;
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{TreeBegin, TreeChange};
use tokio::sync::{RwLockWriteGuard, mpsc};

use super::Shared;
use super::server::text;
use crate::agent::tree;
use crate::caller::Caller;
use crate::protocol::{TreeReport, TreeStart};

/// How long a commit waits for those who read the disk.
const READERS_PATIENCE: Duration = Duration::from_secs(60);

/// Frames on their way to the agent.
const WINDOW: usize = 4;

pub(super) async fn session(socket: WebSocket, shared: Arc<Shared>, caller: Caller) {
    let (mut sink, mut frames) = socket.split();
    let report = match run(&mut frames, &shared, &caller).await {
        Ok(Some(report)) => report,
        // Its client is gone.
        Ok(None) => return,
        Err(error) => TreeReport::Failed(error),
    };
    let _ = sink.send(text(&report)).await;
    // What the client was still sending is read, else the socket's end would take the report along.
    let _ = sink.close().await;
    while let Some(Ok(_)) = frames.next().await {}
}

/// `None` if the client went before it had committed.
async fn run(
    frames: &mut SplitStream<WebSocket>,
    shared: &Shared,
    caller: &Caller,
) -> Result<Option<TreeReport>> {
    let _waiting = shared.vigil.begin();
    let Some(Ok(Message::Text(start))) = frames.next().await else { return Ok(None) };
    let start: TreeStart = serde_json::from_str(&start).map_err(|_| nonsense())?;
    shared.holds.check()?;
    let (changes, received) = mpsc::channel(WINDOW);
    let begin = TreeBegin { root: start.root.as_bytes().to_vec().into() };
    let first = TreeChange { change: Some(Change::Begin(begin)) };
    let call = shared.agent.change_tree(received);
    let mut call = std::pin::pin!(call);
    let passing = async {
        let _ = changes.send(first).await;
        pass_on(frames, changes, shared).await
    };
    let passed = tokio::select! {
        // An answer before the commit can only be a refusal.
        early = &mut call => {
            let changed = early?;
            return tree::report(changed, true).map(Some);
        }
        error = shared.vigil.silence() => return Err(error),
        passed = passing => passed?,
    };
    let Some(Committing { dry_run, event, _unread }) = passed else { return Ok(None) };
    tokio::select! {
        outcome = &mut call => {
            let report = tree::report(outcome?, dry_run)?;
            if let (TreeReport::Done, Some(event), false) = (&report, event, dry_run) {
                shared.note(event, caller).await;
            }
            Ok(Some(report))
        }
        error = shared.vigil.silence() => Err(error),
    }
}

/// The commit is on its way, and nobody reads the disk meanwhile.
struct Committing<'a> {
    dry_run: bool,
    /// What is to stand in the journal.
    event: Option<EventKind>,
    _unread: RwLockWriteGuard<'a, ()>,
}

/// Until the commit is on its way; nobody may read the disk while that is being made. `None` if the
/// client is gone.
async fn pass_on<'a>(
    frames: &mut SplitStream<WebSocket>,
    changes: mpsc::Sender<TreeChange>,
    shared: &'a Shared,
) -> Result<Option<Committing<'a>>> {
    let mut event = None;
    while let Some(Ok(message)) = frames.next().await {
        let frame = match message {
            Message::Binary(frame) => frame,
            Message::Text(text) => {
                event = Some(serde_json::from_str(&text).map_err(|_| nonsense())?);
                continue;
            }
            Message::Close(_) => return Ok(None),
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let change = change_of(frame)?;
        let committing = match &change {
            Change::Begin(_) => return Err(nonsense()),
            Change::Commit(commit) => {
                let unread = tokio::time::timeout(READERS_PATIENCE, shared.freezes.write());
                let unread = unread.await.map_err(|_| {
                    Error::new(
                        ErrorCode::Busy,
                        "the workspace is being read, so nothing was changed",
                    )
                    .with_hint("try again once the diff or export is done")
                })?;
                Some(Committing { dry_run: commit.dry_run, event: event.take(), _unread: unread })
            }
            _ => None,
        };
        // It may have been paused meanwhile.
        shared.holds.check()?;
        if changes.send(TreeChange { change: Some(change) }).await.is_err() {
            // The agent has answered already, which the caller hears.
            return future::pending().await;
        }
        if committing.is_some() {
            return Ok(committing);
        }
    }
    Ok(None)
}

fn change_of(frame: Bytes) -> Result<Change> {
    TreeChange::decode(frame).ok().and_then(|change| change.change).ok_or_else(nonsense)
}

fn nonsense() -> Error {
    Error::new(ErrorCode::Internal, "a change of files that makes no sense")
        .with_hint("stop and start the workspace if pyro was just updated")
}
