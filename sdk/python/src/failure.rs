//! The contract's error on its way to Python.

use pyo3::PyErr;
use pyo3::exceptions::PyException;
use pyro_contract::{Error, ErrorCode};

pyo3::create_exception!(
    _native,
    Failure,
    PyException,
    "Carries (code, message, cause, hint); the Python side makes it the class of its code."
);

pub(crate) fn raise(error: Error) -> PyErr {
    Failure::new_err((error.code.as_str(), error.message, error.cause, error.hint))
}

pub(crate) fn raise_io(attempt: &str, error: &std::io::Error) -> PyErr {
    raise(Error::io(attempt, error))
}

pub(crate) fn not_json(error: &serde_json::Error) -> PyErr {
    raise(
        Error::new(ErrorCode::InvalidArgument, "the request is not JSON")
            .with_cause(error.to_string())
            .with_hint("call the methods of `Pyro`, which write it"),
    )
}
