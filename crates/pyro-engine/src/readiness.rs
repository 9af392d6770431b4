//! Readiness of a descriptor, told by the runtime.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that this is called in.
pub(crate) fn of(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the `AsyncFd` owns it until it is dropped, so it stays so.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
