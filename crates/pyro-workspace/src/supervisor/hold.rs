//! Holding the machine still, and letting it go on.
//!
//! The record has one owner, the supervisor's main loop; whoever wants the machine held asks it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyro_contract::journal::EventKind;
use pyro_contract::workspace::WorkspaceState;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::Machine;
use tokio::sync::{mpsc, oneshot, watch};

use super::Shared;
use crate::caller::Caller;
use crate::home::WorkspaceDir;
use crate::protocol::Hold;
use crate::record::{Record, paused};

/// A machine answers in milliseconds; one that does not in this time hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the guest may take to set its clock.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a review may keep somebody waiting who wants to hold its machine.
const REVIEW_PATIENCE: Duration = Duration::from_secs(5);

/// How many may ask at once.
const QUEUE: usize = 16;

/// A request, and where its answer goes.
pub(super) struct Asked {
    hold: Hold,
    caller: Caller,
    answer: oneshot::Sender<Result<()>>,
}

/// The side of those who ask.
pub(super) struct Asking {
    sender: mpsc::Sender<Asked>,
    receiver: Mutex<Option<mpsc::Receiver<Asked>>>,
    /// The reference of the workspace, while its machine is held still.
    held: watch::Sender<Option<String>>,
    still: Mutex<Still>,
}

/// For how long the machine was held still.
#[derive(Default)]
struct Still {
    before: Duration,
    since: Option<Instant>,
}

impl Default for Asking {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            held: watch::Sender::new(None),
            still: Mutex::default(),
        }
    }
}

impl Asking {
    /// Asks, and waits until it is so.
    pub(super) async fn ask(&self, hold: Hold, caller: Caller) -> Result<()> {
        let ended = || {
            Error::new(ErrorCode::WrongState, "the workspace is about to stop")
                .with_hint("`pyro workspace start` starts it again")
        };
        let (answer, answered) = oneshot::channel();
        self.sender.send(Asked { hold, caller, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Fails while the machine is held still.
    pub(super) fn check(&self) -> Result<()> {
        self.held.borrow().as_deref().map_or(Ok(()), |reference| Err(paused(reference)))
    }

    /// For how long the machine was held still until now, all times together.
    pub(super) fn stood_still(&self) -> Duration {
        let still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        still.before + still.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Notes whether the machine is held still from now on.
    fn note(&self, held: Option<String>) {
        let mut still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = still.since.take() {
            still.before += since.elapsed();
        }
        still.since = held.is_some().then(Instant::now);
        drop(still);
        self.held.send_replace(held);
    }

    /// The side of the one who answers.
    pub(super) fn listen(&self) -> Requests {
        Requests(self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

/// What was asked for and not yet answered.
pub(super) struct Requests(Option<mpsc::Receiver<Asked>>);

impl Requests {
    /// The next request; never, once nobody can ask any more.
    pub(super) async fn recv(&mut self) -> Asked {
        if let Some(receiver) = &mut self.0
            && let Some(asked) = receiver.recv().await
        {
            return asked;
        }
        std::future::pending().await
    }
}

/// What it takes to hold a workspace still.
pub(super) struct Workspace<'a> {
    pub(super) dir: &'a WorkspaceDir,
    pub(super) shared: &'a Shared,
    pub(super) machine: &'a dyn Machine,
}

impl Workspace<'_> {
    /// Does what was asked, and says how it went.
    pub(super) async fn answer(&self, asked: Asked, record: &mut Record) {
        let done = match (asked.hold, record.state) {
            (Hold::Pause, WorkspaceState::Started) => {
                self.noted(self.pause(record).await, EventKind::Paused, &asked.caller).await
            }
            (Hold::Resume, WorkspaceState::Paused) => {
                self.noted(self.resume(record).await, EventKind::Resumed, &asked.caller).await
            }
            _ => Ok(()),
        };
        // Whoever asked may have gone; what he asked for stands.
        let _ = asked.answer.send(done);
    }

    /// Enters in the journal what was done.
    async fn noted(&self, done: Result<()>, kind: EventKind, caller: &Caller) -> Result<()> {
        done?;
        self.shared.note(kind, caller).await;
        Ok(())
    }

    async fn pause(&self, record: &mut Record) -> Result<()> {
        // A review reads a frozen disk through the agent, which must not fall silent meanwhile.
        let unread = tokio::time::timeout(REVIEW_PATIENCE, self.shared.freezes.write());
        let _unread = unread.await.map_err(|_| {
            Error::new(ErrorCode::Busy, "the workspace is being read, so it cannot be paused now")
                .with_hint("try again once the diff or export is done")
        })?;
        // Said first: what is begun after this is refused rather than left hanging.
        self.shared.holds.note(Some(record.id.to_string()));
        let held = in_time(self.machine.pause()).await;
        let saved = held.and_then(|()| {
            record.state = WorkspaceState::Paused;
            record.save(self.dir)
        });
        if let Err(error) = saved {
            record.state = WorkspaceState::Started;
            let _ = in_time(self.machine.resume()).await;
            self.shared.holds.note(None);
            return Err(error);
        }
        Ok(())
    }

    async fn resume(&self, record: &mut Record) -> Result<()> {
        in_time(self.machine.resume()).await?;
        // Time stood still for a machine with a kernel of its own. One that shares the host's has
        // the host's clock, and may not set it.
        if let Err(error) = self.shared.agent.set_clock(CLOCK_PATIENCE).await {
            tracing::warn!(%error, "the clock was not set after a pause");
        }
        record.state = WorkspaceState::Started;
        self.shared.holds.note(None);
        record.save(self.dir)
    }
}

async fn in_time(
    work: impl Future<Output = std::result::Result<(), pyro_engine::EngineError>>,
) -> Result<()> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::new(ErrorCode::Timeout, "the machine does not answer")
            .with_hint("`pyro workspace stop` ends it, and keeps its disk")),
    }
}
