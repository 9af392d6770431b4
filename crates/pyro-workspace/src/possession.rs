//! Finding out who has a workspace, when it may be changing hands.
//!
//! A workspace is either running, and its supervisor answers for it; or at rest, and whoever takes
//! its lock may work on it; or on its way from one to the other, which takes a moment.

use std::time::{Duration, Instant};

use pyro_contract::Result;

use crate::home::WorkspaceDir;
use crate::lock::{ASK_AGAIN, Lock, busy};
use crate::reconcile;
use crate::record::Record;

/// Longer than a machine may take to boot or to shut down.
const PATIENCE: Duration = Duration::from_secs(150);

/// For whom the lock of a workspace at rest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Somebody who changes it.
    Change,
    /// One of several who read it.
    Reading,
}

/// Who has a workspace.
pub(crate) enum Possession {
    /// Its supervisor.
    Running(Record),
    /// The caller.
    AtRest(Record, Lock),
}

/// Waits until the workspace is not on its way from one state to another.
pub(crate) async fn take(dir: &WorkspaceDir, purpose: For) -> Result<Possession> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = reconcile::load(dir)?.ok_or_else(|| dir.gone())?;
        if record.state.is_running() {
            return Ok(Possession::Running(record));
        }
        let lock = match purpose {
            For::Change => dir.try_take()?,
            For::Reading => dir.try_share()?,
        };
        if let Some(lock) = lock {
            let record = reconcile::settle(dir, &lock)?.ok_or_else(|| dir.gone())?;
            return Ok(Possession::AtRest(record, lock));
        }
        if Instant::now() >= deadline {
            return Err(busy());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
