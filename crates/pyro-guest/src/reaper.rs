//! Who has ended. PID 1 inherits every orphan and must collect them all; the statuses of the
//! commands it started itself go to those who wait for them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::sys;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl From<WaitStatus> for Ended {
    fn from(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed(signal),
            // wait(2) without WUNTRACED reports nothing else.
            (None, None) => Self::Exited(-1),
        }
    }
}

/// Collects ended children. A handle; clones share one state.
#[derive(Clone)]
pub(crate) struct Reaper(Arc<Shared>);

struct Shared {
    awaited: Mutex<HashMap<i32, oneshot::Sender<Ended>>>,
    childless: watch::Sender<bool>,
}

impl Default for Reaper {
    fn default() -> Self {
        Self(Arc::new(Shared { awaited: Mutex::default(), childless: watch::Sender::new(false) }))
    }
}

impl Reaper {
    /// The task that collects; to be run once in a process.
    pub(crate) fn watch_children(self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        // Registered now, so that no child ends unnoticed before the task first runs.
        let mut signals = signal(SignalKind::child())?;
        Ok(async move {
            loop {
                self.collect();
                if signals.recv().await.is_none() {
                    return;
                }
            }
        })
    }

    /// Starts a process whose end will be told.
    ///
    /// The table is locked from before the fork until the process stands in it, so that it cannot
    /// be collected before it is known.
    pub(crate) fn spawn(
        &self,
        fork: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<(i32, oneshot::Receiver<Ended>)> {
        let (tell, told) = oneshot::channel();
        let mut awaited = self.awaited();
        let pid = fork()?;
        awaited.insert(pid, tell);
        self.0.childless.send_replace(false);
        Ok((pid, told))
    }

    /// Signals the process group that `pid` leads, unless `pid` was collected: its number may
    /// belong to somebody else by now.
    pub(crate) fn signal_group(&self, pid: i32, signal: i32) {
        let awaited = self.awaited();
        // Just forked, it leads no group yet, and is alone.
        if awaited.contains_key(&pid) && sys::kill(-pid, signal).is_err() {
            let _ = sys::kill(pid, signal);
        }
    }

    /// Resolves once there is no process left but the agent and the kernel's own.
    pub(crate) async fn until_childless(&self) {
        self.collect();
        let _ = self.0.childless.subscribe().wait_for(|childless| *childless).await;
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Ended>>> {
        self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self) {
        let mut awaited = self.awaited();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(tell) = awaited.remove(&pid.as_raw_nonzero().get()) {
                        let _ = tell.send(status.into());
                    }
                }
                Err(Errno::CHILD) => {
                    self.0.childless.send_replace(true);
                    return;
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
