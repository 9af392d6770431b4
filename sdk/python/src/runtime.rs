//! The threads that do the waiting.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyResult;
use tokio::runtime::{Builder, Runtime};

use crate::failure::raise_io;

/// One for the whole process, with the id of the process that it is for: threads do not survive
/// fork(2), so a child of `multiprocessing` needs a runtime of its own.
static RUNTIME: Mutex<Option<(u32, Arc<Runtime>)>> = Mutex::new(None);

pub(crate) fn runtime() -> PyResult<Arc<Runtime>> {
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((owner, runtime)) = &*slot
        && *owner == process
    {
        return Ok(Arc::clone(runtime));
    }
    let made = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("pyro")
        .enable_all()
        .build()
        .map_err(|error| raise_io("cannot start pyro's threads", &error))?;
    let made = Arc::new(made);
    if let Some(inherited) = slot.replace((process, Arc::clone(&made))) {
        // Its threads are the parent's; waiting for their end would never end.
        std::mem::forget(inherited);
    }
    Ok(made)
}
