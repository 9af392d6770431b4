//! The native half of the Python SDK: it opens the facade, begins things, and lets Python wait.
//!
//! There is no logic of the contract here, and nothing to keep in step with it: operations go by
//! name with JSON in and out, and the typed Python classes over them are written from the
//! catalogue. Whatever takes time is a [`pending::Pending`], which is waited for either blocking,
//! without the interpreter's lock, or by an event loop, which watches its file descriptor. So no
//! thread of ours ever calls into the interpreter.

mod client;
mod failure;
mod pending;
mod runtime;
mod session;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::failure::Failure;
    #[pymodule_export]
    use super::pending::Pending;
    #[pymodule_export]
    use super::session::Session;
}
