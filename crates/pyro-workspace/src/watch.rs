//! How a caller watches and interrupts something that takes long.

use std::sync::Arc;

use pyro_contract::progress::{Progress, Report, Silent};
use pyro_contract::{Error, ErrorCode};
use tokio::sync::watch;

/// Once triggered, what it was given to stops, undoes what it had begun, and fails with
/// `cancelled`. Clones are the same interrupt.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<watch::Sender<bool>>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Interrupt {
    /// Stops what it was given to.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// True once triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once triggered.
    pub async fn triggered(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|triggered| *triggered).await;
    }
}

/// Somebody who looks at progress and may interrupt.
#[derive(Clone)]
pub struct Watch {
    progress: Arc<dyn Progress>,
    interrupt: Interrupt,
}

impl Watch {
    /// Reports to `progress`; stops when `interrupt` is triggered.
    pub fn new(progress: Arc<dyn Progress>, interrupt: Interrupt) -> Self {
        Self { progress, interrupt }
    }

    /// The interrupt.
    #[must_use]
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

impl Default for Watch {
    /// Nobody looks, nobody interrupts.
    fn default() -> Self {
        Self::new(Arc::new(Silent), Interrupt::default())
    }
}

impl Progress for Watch {
    fn report(&self, report: Report) {
        self.progress.report(report);
    }

    fn cancelled(&self) -> bool {
        self.interrupt.is_triggered()
    }
}

pub(crate) fn interrupted() -> Error {
    Error::new(ErrorCode::Cancelled, "interrupted; what had been begun was undone")
}
