//! Whether the machine's agent still answers, asked while somebody waits for it.
//!
//! The guest is root over its agent, and can make it silent at any moment without ending the
//! stream. Whoever waits for a command would wait for ever.

use std::time::Duration;

use pyro_contract::{Error, ErrorCode};
use tokio::sync::watch;

use super::Shared;

/// How long a command may run between two questions.
const ASK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

/// How long an answer may take. The agent runs ahead of all else in its machine, but an emulated
/// machine on a busy host is slow.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// See the module.
#[derive(Default)]
pub(super) struct Vigil {
    waiting: watch::Sender<u64>,
    silent: watch::Sender<bool>,
}

/// Somebody who waits for a command, counted for as long as this lives.
pub(super) struct Waiting<'a>(&'a Vigil);

impl Vigil {
    /// Counts one more who waits. The first one finds the agent above suspicion.
    pub(super) fn begin(&self) -> Waiting<'_> {
        self.waiting.send_modify(|count| {
            if *count == 0 {
                self.silent.send_replace(false);
            }
            *count += 1;
        });
        Waiting(self)
    }

    /// How many wait.
    pub(super) fn count(&self) -> u64 {
        *self.waiting.borrow()
    }

    /// Resolves once the agent is found silent, with what to tell whoever waits.
    pub(super) async fn silence(&self) -> Error {
        let mut silent = self.silent.subscribe();
        if silent.wait_for(|silent| *silent).await.is_err() {
            std::future::pending::<()>().await;
        }
        Error::new(ErrorCode::GuestMisbehaved, "the machine's agent does not answer any more")
            .with_cause(format!("it was silent for {} s", PATIENCE.as_secs()))
            .with_hint("`pyro workspace stop`, then `start`: the disk is kept")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}

/// Keeps asking, for as long as the supervisor lives.
pub(super) async fn keep(shared: &Shared) {
    let vigil = &shared.vigil;
    let mut waiting = vigil.waiting.subscribe();
    loop {
        if waiting.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
        tokio::time::sleep(ASK_EVERY).await;
        // A machine that is held still says nothing, and need not.
        let before = shared.holds.stood_still();
        if vigil.count() == 0 || shared.holds.check().is_err() {
            continue;
        }
        let answered = shared.agent.ping(PATIENCE).await;
        if shared.holds.stood_still() == before {
            vigil.silent.send_if_modified(|silent| {
                std::mem::replace(silent, answered.is_err()) != answered.is_err()
            });
        }
    }
}
