//! The native half of the Python SDK: it opens the facade, begins things, and lets Python wait.
//!
//! There is no logic of the contract here, and nothing to keep in step with it: operations go by
//! name with JSON in and out, and the typed Python classes over them are written from the
//! catalogue. Whatever takes time is a `Pending`, which is waited for either blocking,
//! without the interpreter's lock, or by an event loop, which watches its file descriptor. So no
//! thread of ours ever calls into the interpreter.

mod client;
mod failure;
mod pending;
mod runtime;
mod session;

use pyro_contract::env_vars::PYRO_LOG;

#[pyo3::pymodule]
mod _native {
    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::log_to_stderr();
        Ok(())
    }

    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::failure::Failure;
    #[pymodule_export]
    use super::pending::Pending;
    #[pymodule_export]
    use super::session::Session;
}

/// Where somebody asks for it. A program of Python's has its own idea of a log.
fn log_to_stderr() {
    let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env(PYRO_LOG) else { return };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Another module of this process may have begun to log.
    let _ = log.log_internal_errors(false).try_init();
}
