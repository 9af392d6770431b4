//! Something under way.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyro_contract::exec::Stream;
use pyro_contract::progress::{Progress, Report};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{ExecSession, Interrupt, Watch};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::failure::{raise, raise_io};
use crate::runtime::runtime;
use crate::session::Session;

/// An operation that was interrupted undoes what it had begun within this, or is dropped.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// For what has nothing to undo.
pub(crate) const NO_GRACE: Duration = Duration::ZERO;

/// A signal that arrives just before the wait begins does not end it; so it ends by itself now
/// and then, to look.
const LOOK_FOR_SIGNALS: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What came of it.
pub(crate) enum Outcome {
    /// Done, with nothing to say.
    Done,
    /// A JSON document.
    Json(String),
    /// A command that was started.
    Session(ExecSession),
    /// A piece of a command's output.
    Output(Stream, Vec<u8>),
}

/// What the thread that works and the one that waits share.
pub(crate) struct Shared {
    /// Readable once there is something to look at: see eventfd(2).
    ready: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: Option<Report>,
    done: bool,
    outcome: Option<Result<Outcome>>,
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.ready, &1_u64.to_ne_bytes());
    }

    fn finish(&self, outcome: Result<Outcome>) {
        self.with(|state| {
            if !state.done {
                state.done = true;
                state.outcome = Some(outcome);
            }
        });
        self.wake();
    }
}

impl Progress for Shared {
    fn report(&self, report: Report) {
        self.with(|state| state.report = Some(report));
        self.wake();
    }
}

/// Finishes also if the task is dropped or panics, so that nobody waits for ever.
struct Finisher(Arc<Shared>);

impl Drop for Finisher {
    fn drop(&mut self) {
        self.0.finish(Err(Error::new(
            ErrorCode::Cancelled,
            "interrupted; what had been begun was undone",
        )));
    }
}

/// Something under way. Dropping it gives it up.
#[pyclass(frozen)]
pub(crate) struct Pending {
    shared: Arc<Shared>,
    interrupt: Interrupt,
    grace: Duration,
    task: tokio::task::AbortHandle,
}

impl Pending {
    /// Begins `work`, which gets somebody to report to and to be interrupted by. Interrupted, it
    /// is dropped after `grace`.
    pub(crate) fn begin<F>(grace: Duration, work: impl FnOnce(Watch) -> F) -> PyResult<Self>
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| raise_io("cannot wait", &errno.into()))?;
        let shared = Arc::new(Shared { ready, state: Mutex::default() });
        let interrupt = Interrupt::default();
        let reports: Arc<dyn Progress> = Arc::<Shared>::clone(&shared);
        let work = work(Watch::new(reports, interrupt.clone()));
        let finisher = Finisher(Arc::clone(&shared));
        let task = runtime()?.spawn(async move {
            finisher.0.finish(work.await);
        });
        Ok(Self { shared, interrupt, grace, task: task.abort_handle() })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.interrupt.trigger();
        self.task.abort();
    }
}

#[pymethods]
impl Pending {
    /// The descriptor that is readable when `poll` has something to say.
    fn fileno(&self) -> i32 {
        self.shared.ready.as_raw_fd()
    }

    /// True once done. Takes note of whatever made the descriptor readable.
    fn poll(&self) -> bool {
        let mut counter = [0; 8];
        // Not readable is as good.
        let _ = rustix::io::read(&self.shared.ready, &mut counter);
        self.shared.with(|state| state.done)
    }

    /// Blocks until `poll` has something to say, or a signal has been handled.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let waited = py.detach(|| {
                let mut ready = [PollFd::new(&self.shared.ready, PollFlags::IN)];
                poll(&mut ready, Some(&LOOK_FOR_SIGNALS))
            });
            match waited {
                Ok(0) | Err(rustix::io::Errno::INTR) => py.check_signals()?,
                Ok(_) => return Ok(()),
                Err(errno) => return Err(raise_io("cannot wait", &errno.into())),
            }
        }
    }

    /// The latest progress since it was last asked for: (stage, done, total, unit).
    fn report(&self) -> Option<(String, u64, Option<u64>, &'static str)> {
        let report = self.shared.with(|state| state.report.take())?;
        let unit = match report.unit {
            pyro_contract::progress::Unit::Bytes => "bytes",
            pyro_contract::progress::Unit::Items => "items",
        };
        Some((report.stage, report.done, report.total, unit))
    }

    /// What came of it, once.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let outcome = self.shared.with(|state| state.outcome.take()).unwrap_or_else(|| {
            Err(Error::new(ErrorCode::Internal, "there is no result, or it was taken already"))
        });
        match outcome.map_err(raise)? {
            Outcome::Done => Ok(py.None().into_bound(py)),
            Outcome::Json(text) => Ok(PyString::new(py, &text).into_any()),
            Outcome::Session(session) => Ok(Bound::new(py, Session::new(session)?)?.into_any()),
            Outcome::Output(stream, bytes) => {
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                (stream, PyBytes::new(py, &bytes)).into_pyobject(py).map(Bound::into_any)
            }
        }
    }

    /// Interrupts it: it undoes what it had begun and is done soon, by force if it must be.
    fn cancel(&self) -> PyResult<()> {
        self.interrupt.trigger();
        if self.grace.is_zero() {
            self.task.abort();
            return Ok(());
        }
        let (task, grace) = (self.task.clone(), self.grace);
        runtime()?.spawn(async move {
            tokio::time::sleep(grace).await;
            task.abort();
        });
        Ok(())
    }
}
