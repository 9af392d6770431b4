//! Changing the name, labels and time to live of a workspace while it runs.
//!
//! The record has one owner, the supervisor's main loop; whoever wants it changed asks it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Json;
use pyro_contract::update::Changes;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Shared;
use crate::caller::Caller;
use crate::home::WorkspaceDir;
use crate::protocol::UpdateReport;
use crate::record::Record;
use crate::update;

/// How many may ask at once.
const QUEUE: usize = 4;

/// A request, and where its answer goes.
pub(super) struct Asked {
    changes: Changes,
    caller: Caller,
    answer: oneshot::Sender<Result<()>>,
}

/// The side of those who ask.
pub(super) struct Asking {
    sender: mpsc::Sender<Asked>,
    receiver: Mutex<Option<mpsc::Receiver<Asked>>>,
}

impl Default for Asking {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Asking {
    /// The side of the one who answers; he is one.
    pub(super) fn listen(&self) -> mpsc::Receiver<Asked> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

/// Asks, and waits until it is so.
pub(super) async fn ask(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(changes): Json<Changes>,
) -> Json<UpdateReport> {
    let ended = || {
        Error::new(ErrorCode::WrongState, "the workspace is about to stop")
            .with_hint("try again in a moment")
    };
    let asked = async {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { changes, caller, answer };
        shared.updates.sender.send(asked).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    };
    Json(match asked.await {
        Ok(()) => UpdateReport::Done,
        Err(error) => UpdateReport::Failed(error),
    })
}

/// Does what was asked: all of it, or nothing.
pub(super) async fn answer(asked: Asked, dir: &WorkspaceDir, shared: &Shared, record: &mut Record) {
    let Asked { changes, caller, answer } = asked;
    let mut changed = record.clone();
    let kind = update::apply(&changes, &mut changed);
    let ttl = changes.sets_ttl();
    if let (true, Some(run)) = (ttl, &mut changed.run) {
        run.stops_at = update::stops_at(changed.ttl_seconds);
    }
    let saved = changed.save(dir);
    if saved.is_ok() {
        *record = changed;
        if ttl {
            shared.deadline.send_replace(deadline(record.ttl_seconds));
        }
        shared.note(kind, &caller).await;
    }
    // Whoever asked may have gone; what he asked for stands.
    let _ = answer.send(saved);
}

/// When a time to live that begins now is up.
pub(super) fn deadline(ttl_seconds: Option<u64>) -> Option<Instant> {
    ttl_seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)))
}
