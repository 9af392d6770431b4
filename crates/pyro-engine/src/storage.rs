//! Storages that lie on this host, whichever engine made them: what they take, and how they go.
//!
//! A storage may be a directory whose files belong to several ids of an ordinary user, which he can
//! neither look into nor remove with his own rights alone.

use std::io;
use std::path::Path;

use crate::container::rootless;

/// What is in a directory takes on the host, in bytes; holes take nothing. Bounded, whatever a guest
/// has written there; what cannot be counted is left out.
#[must_use]
pub fn bytes_in(directory: &Path) -> u64 {
    rootless::measure(directory)
}

/// Removes a storage, or a tree with one in it. What is not there is no failure.
///
/// # Errors
/// If something of it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    rootless::remove(path)
}
