//! Environments: immutable root filesystems, the guest kernel, and the image that boots them.
//!
//! A [`Store`] lives in `PYRO_HOME` and makes what it lacks: a root filesystem is bootstrapped by
//! `mmdebstrap` (every package verified by apt against Debian's archive keys) straight into one
//! erofs image; the kernel is Debian's cloud kernel, unpacked to a bootable ELF and the few modules
//! that a machine needs; the boot image is an initramfs with the guest agent as `/init`. All is
//! content-addressed, shared by every workspace, and never written again.
//!
//! ```no_run
//! use pyro_contract::progress::Silent;
//! use pyro_environment::{GUEST_AGENT, Store};
//! let store = Store::open(std::path::Path::new("/var/lib/pyro"))?;
//! let environment = store.pull(&"debian:12".parse()?, &Silent)?;
//! let boot = store.boot_image(&environment.kernel, GUEST_AGENT)?;
//! println!("{} boots {}", environment.image.display(), boot.kernel.display());
//! # Ok::<(), pyro_contract::Error>(())
//! ```
//!
//! Everything here blocks. It knows nothing of workspaces, engines or machines.

mod boot;
mod bootstrap;
mod env_vars;
mod error;
mod image;
mod kernel;
mod recipe;
mod requirements;
mod store;

pub use boot::BootImage;
pub use error::{EnvironmentError, Result};
pub use kernel::KernelHandle;
pub use requirements::{Found, Requirement, requirements};
pub use store::{Environment, Made, Store, Template, TemplateInputs};

/// The guest agent: a static executable, PID 1 of every machine that boots this build's
/// [`BootImage`].
pub const GUEST_AGENT: &[u8] = include_bytes!(env!("PYRO_GUEST_AGENT"));
