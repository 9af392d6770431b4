//! Finding the programs that engines run.

use std::path::{Path, PathBuf};

/// Where administrators' programs are, which an ordinary user's PATH often leaves out.
const SBIN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Finds a program in PATH and where administrators' programs are; an absolute path stands for
/// itself.
pub(crate) fn find_program(name: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SBIN.iter().map(PathBuf::from))
        .map(|directory| directory.join(&name))
        .find(|candidate| candidate.is_file())
}
