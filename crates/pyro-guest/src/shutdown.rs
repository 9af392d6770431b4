//! The way down: everything is asked to end, then made to, then the disk is made clean.

use std::time::Duration;

use rustix::process::Signal;
use tonic::Status;

use crate::freeze::Disk;
use crate::log;
use crate::reaper::Reaper;
use crate::sys;

/// How long killed processes may take to be gone. One that hangs in the kernel is left behind.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Longest grace that is granted.
const GRACE_MAX: Duration = Duration::from_secs(600);

/// Ends all processes and leaves the disk clean and read-only.
pub(crate) async fn shut_down(reaper: &Reaper, disk: Disk, grace: Duration) -> Result<(), Status> {
    signal_all(Signal::TERM);
    if tokio::time::timeout(grace.min(GRACE_MAX), reaper.until_childless()).await.is_err() {
        signal_all(Signal::KILL);
        if tokio::time::timeout(KILL_PATIENCE, reaper.until_childless()).await.is_err() {
            log::line("some processes do not end; going down without them");
        }
    }
    match tokio::task::spawn_blocking(move || disk.retire()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Status::internal(format!("cannot flush the disk: {error}"))),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

/// kill(2) with -1: every process except PID 1, which must be the one that asks.
fn signal_all(signal: Signal) {
    if sys::is_init() {
        let _ = sys::kill(-1, signal.as_raw());
    }
}
