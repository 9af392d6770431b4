//! Packing a seed into an image: a directory, an archive, or the tracked files of a git commit.
//!
//! A seed belongs to root in the image whatever it belonged to on the host: owners mean nothing in
//! another machine. What cannot be taken is either an error that names the path, or, where leaving
//! it out is harmless, an entry in [`SeedReport::skipped`].

mod archive;
mod directory;
mod git;
mod meter;

pub use archive::{ArchiveKind, pack_archive};
pub use directory::pack_directory;
pub use git::{GitSeed, PackedCommit, pack_git};

use pyro_contract::path::BytePath;

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeedReport {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of content of regular files.
    pub bytes: u64,
    /// What was left out, in the order it was met.
    pub skipped: Vec<Skipped>,
}

/// Something in the source that is not in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path in the source.
    pub path: BytePath,
    /// Why it was left out.
    pub reason: &'static str,
}

#[cfg(test)]
mod tests;
