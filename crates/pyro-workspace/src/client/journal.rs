//! Following a journal, changing a record, and speaking to a command that somebody else started.

use std::time::Duration;

use futures_util::StreamExt as _;
use hyper::Method;
use pyro_contract::Result;
use pyro_contract::signal::SignalName;
use pyro_contract::update::Changes;
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, call, gone, open_socket};
use crate::home::WorkspaceDir;
use crate::protocol::{FOLLOW, SIGNAL, SignalOrder, SignalReport, UPDATE, UpdateReport};

/// More than the supervisor allows itself for a signal.
const PATIENCE: Duration = Duration::from_secs(15);

/// Rings when something was written to a journal.
#[derive(Debug)]
pub(crate) struct Bell(Socket);

pub(crate) async fn bell(dir: &WorkspaceDir) -> Result<Bell> {
    open_socket(dir, FOLLOW).await.map(Bell)
}

impl Bell {
    /// Waits for the next change; false once the workspace has stopped, after which there is none.
    /// The first time it resolves at once.
    pub(crate) async fn rung(&mut self) -> bool {
        while let Some(Ok(frame)) = self.0.next().await {
            if matches!(frame, Message::Text(_)) {
                return true;
            }
        }
        false
    }
}

/// Changes the record of a running workspace.
pub(crate) async fn update(dir: &WorkspaceDir, changes: &Changes) -> Result<()> {
    let asked = call(dir, Method::POST, UPDATE, changes);
    match tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))? {
        UpdateReport::Done => Ok(()),
        UpdateReport::Failed(error) => Err(error),
    }
}

pub(crate) async fn signal(dir: &WorkspaceDir, sequence: u64, signal: SignalName) -> Result<()> {
    let order = SignalOrder { sequence, signal: signal.number() };
    let asked = call(dir, Method::POST, SIGNAL, &order);
    match tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))? {
        SignalReport::Done => Ok(()),
        SignalReport::Failed(error) => Err(error),
    }
}
