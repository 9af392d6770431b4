//! Fetching and installing packages, as a stream of tar that nothing needs to be unpacked for.

mod child;
mod diagnosis;
mod mmdebstrap;
mod stages;

use std::io::Read;
use std::path::Path;

use pyro_contract::environment::EnvironmentRef;
use pyro_contract::progress::Progress;

use crate::Result;

pub(crate) use mmdebstrap::Mmdebstrap;

/// Takes a tar archive as it is made.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<()>;

/// Makes root filesystems. The one real kind is [`Mmdebstrap`]; tests have a tiny one.
///
/// Both operations may leave files in `scratch`, an empty directory that the caller removes.
pub(crate) trait Bootstrap: Send + Sync {
    /// Makes the root filesystem of an environment and gives it to `sink` as a tar archive.
    fn root_filesystem(
        &self,
        environment: &EnvironmentRef,
        scratch: &Path,
        sink: Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<()>;

    /// Gives the unpacked, unconfigured packages of the guest kernel to `sink` as a tar archive.
    fn kernel(&self, scratch: &Path, sink: Sink<'_>, progress: &dyn Progress) -> Result<()>;
}
