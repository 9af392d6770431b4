//! Filesystem layers: what a machine's disks hold, seen from the host without mounting anything.
//!
//! A [`Layer`] is a read-only tree. This crate builds layers (an erofs image from a directory, a
//! tar archive or a git commit), reads them (erofs, ext4, a host directory), lays one over others
//! as overlayfs would ([`overlay`]), compares them at the cost of what was written ([`diff`]),
//! prints the difference as a git patch ([`patch`]) and takes trees out ([`export`]).
//!
//! It knows nothing of workspaces or machines. Everything read from an ext4 layer was written by a
//! hostile guest: sizes, counts and depths are bounded, and names are checked before use.

pub mod content;
pub mod diff;
pub mod diffstat;
pub mod erofs;
mod error;
pub mod export;
pub mod ext4;
pub mod hostdir;
pub mod layer;
mod lines;
#[cfg(test)]
mod mem;
#[cfg(test)]
mod namespace;
pub mod overlay;
pub mod patch;
pub mod seed;
pub mod sparse;
pub mod terminal;
#[cfg(test)]
mod testing;

pub use layer::{Entry, Layer, LayerError, Meta, Node};
