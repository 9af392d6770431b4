//! Trees taken out of a layer: onto the host's disk, or as a tar archive.
//!
//! What is written was chosen by a hostile guest, so nothing is ever written through a link: each
//! file is made anew in a directory that is held open, under a name without `/`. Links are copied
//! as links and never followed. Devices and sockets stay behind, and the setuid and setgid bits
//! are dropped: on the host they would not mean what they meant in the machine.

mod archive;
pub(crate) mod plan;
mod target;
mod write;

pub(crate) use plan::{Plan, Sink};

use std::path::Path;

use pyro_contract::{path::BytePath, progress::Progress};

pub use archive::export_to_tar;

use crate::layer::{Layer, Node, Result};
use target::Target;
use write::Writer;

/// What was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Regular files, links and fifos.
    pub files: u64,
    /// Directories, the exported one included.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Devices and sockets that were left behind, relative to what was exported.
    pub skipped: Vec<BytePath>,
}

/// Copies a directory, file or link to `dest`, all or nothing: it is built beside `dest` under a
/// temporary name and then renamed. Modes and times are kept, the owner is the caller.
///
/// What is at `dest` is refused unless `force`, and then replaced in one step; a link there is
/// itself replaced, never what it points to.
///
/// # Errors
/// `UnsafeTarget` if `dest` exists or has no proper name, `NotFound` if its directory does not
/// exist, `TooLarge` for a tree beyond bounds (all of [`crate::LayerError`]), `Io` if the host
/// cannot write (a full disk stays recognizable in its source), or `Cancelled`. In each case
/// nothing is left behind and `dest` is as it was.
pub fn export_to_path(
    layer: &dyn Layer,
    node: Node,
    dest: &Path,
    force: bool,
    progress: &dyn Progress,
) -> Result<Exported> {
    let target = Target::prepare(dest, force)?;
    let exported = Writer::new(layer, progress).write(node, target.dir(), target.temporary())?;
    target.publish()?;
    Ok(exported)
}

#[cfg(test)]
mod tests;
