//! The commands that run now, whoever started them, and what can be said to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::Json;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::{ExecInput, exec_input};
use tokio::sync::mpsc;

use super::Shared;
use crate::protocol::{SignalOrder, SignalReport};

/// A command that takes neither input nor signals for so long hangs on input that it was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Running(Mutex<BTreeMap<u64, mpsc::Sender<ExecInput>>>);

/// A command, known for as long as this lives.
pub(super) struct Known<'a> {
    running: &'a Running,
    sequence: u64,
}

impl Running {
    pub(super) fn enter(&self, sequence: u64, inputs: mpsc::Sender<ExecInput>) -> Known<'_> {
        self.lock().insert(sequence, inputs);
        Known { running: self, sequence }
    }

    async fn signal(&self, order: SignalOrder) -> Result<()> {
        let sequence = order.sequence;
        let inputs = self.lock().get(&sequence).cloned();
        let ended = || {
            Error::new(
                ErrorCode::WrongState,
                format!("the command {sequence} does not run any more"),
            )
            .with_hint("`pyro workspace command list WS` shows which run")
        };
        let input = ExecInput { input: Some(exec_input::Input::Signal(order.signal)) };
        let inputs = inputs.ok_or_else(ended)?;
        match tokio::time::timeout(PATIENCE, inputs.send(input)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(Error::new(
                ErrorCode::Busy,
                format!("the command {sequence} does not read the input that it was sent"),
            )
            .with_hint("end it by ending whoever sends that, or stop the workspace")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, mpsc::Sender<ExecInput>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.sequence);
    }
}

/// Signals a command and all it started.
pub(super) async fn signal(
    State(shared): State<Arc<Shared>>,
    Json(order): Json<SignalOrder>,
) -> Json<SignalReport> {
    let signalled = match shared.holds.check() {
        Ok(()) => shared.commands.signal(order).await,
        Err(error) => Err(error),
    };
    Json(match signalled {
        Ok(()) => SignalReport::Done,
        Err(error) => SignalReport::Failed(error),
    })
}
