//! Commands whose time is up and that do not end.
//!
//! The agent ends a command at its timeout. A guest that keeps its agent from that would keep
//! whoever waits for the command as long as it likes.

use std::time::Duration;

use pyro_contract::exec::ExecOutcome;
use tokio::time::Instant;

use super::hold::Asking;

/// How long a command's end may be on its way once its time is up.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// Counts the time in which the machine could have ended the command: not that in which its client
/// reads slowly, nor that in which the machine was held still.
pub(super) struct Overdue<'a> {
    limit: Option<Duration>,
    holds: &'a Asking,
    waited: Duration,
    /// Since when, and for how long the machine had been held still by then.
    since: Option<(Instant, Duration)>,
}

impl<'a> Overdue<'a> {
    pub(super) fn new(timeout_seconds: Option<u64>, holds: &'a Asking) -> Self {
        let limit = timeout_seconds.map(|seconds| Duration::from_secs(seconds) + GRACE);
        Self { limit, holds, waited: Duration::ZERO, since: None }
    }

    /// The machine has its turn from now on.
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(|| (Instant::now(), self.holds.stood_still()));
    }

    /// The client has.
    pub(super) fn pause(&mut self) {
        self.waited = self.so_far();
        self.since = None;
    }

    /// Resolves once the command should long have ended.
    pub(super) async fn due(&self) {
        let Some(limit) = self.limit else { return std::future::pending().await };
        loop {
            match limit.checked_sub(self.so_far()).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }

    /// How such a command ended, as far as anybody knows.
    pub(super) fn outcome(&self, sequence: u64) -> ExecOutcome {
        ExecOutcome {
            sequence,
            exit_code: None,
            signal: Some(rustix::process::Signal::KILL.as_raw()),
            timed_out: true,
            oom_killed: false,
            limits_hit: Vec::new(),
            duration_ms: u64::try_from(self.so_far().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn so_far(&self) -> Duration {
        let Some((since, still)) = self.since else { return self.waited };
        let held = self.holds.stood_still().saturating_sub(still);
        self.waited + since.elapsed().saturating_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_waiting_counts() {
        let holds = Asking::default();
        let limit = Some(Duration::from_millis(60));
        let mut overdue = Overdue { limit, ..Overdue::new(None, &holds) };
        overdue.begin();
        tokio::time::sleep(Duration::from_millis(20)).await;
        overdue.pause();
        let waited = overdue.so_far();
        assert!(waited >= Duration::from_millis(20));
        // Its client takes his time.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(overdue.so_far(), waited);
        overdue.begin();
        overdue.due().await;
        assert!(overdue.so_far() >= Duration::from_millis(60));
        assert!(overdue.outcome(7).timed_out);
    }

    #[tokio::test]
    async fn a_command_without_a_limit_is_never_due() {
        let holds = Asking::default();
        let mut endless = Overdue::new(None, &holds);
        endless.begin();
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, endless.due()).await.is_err());
    }
}
