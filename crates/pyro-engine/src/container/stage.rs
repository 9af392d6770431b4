//! The only files that an OCI runtime sees while it makes a container.
//!
//! A runtime is root on the host and deals with a hostile root filesystem; more than once one was
//! led to open, run or leave open what is the host's (CVE-2019-5736, CVE-2024-21626,
//! CVE-2025-31133). So it runs in a root of its own that holds system libraries, the container's
//! layers and nothing else: a way out of the container leads there.

use std::ffi::CStr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::rootless::stack;
use crate::root::{Root, SYSTEM, Seal, c_string};

/// Paths on the stage.
pub(super) const BUNDLE: &str = "/bundle";
pub(super) const ROOTFS: &str = "/bundle/rootfs";
pub(super) const AGENT: &str = "/agent";
pub(super) const RUNTIME_STATE: &str = "/state/oci";
/// Where `crun` leaves the filter that it compiled, for the container of the name `pyro`.
pub(super) const FILTER: &CStr = c"/state/oci/pyro/seccomp.bpf";
pub(super) const PID_FILE: &CStr = c"/state/pid";

/// Devices that runtimes bind into containers, where nobody can make devices.
const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

const PLAIN: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Large enough for the agent and the configuration, and small, for it is memory.
const SIZE: &CStr = c"mode=0755,size=16m";
const STATE_SIZE: &CStr = c"mode=0700,size=4m";

/// The stage, in the making.
pub(super) struct Stage(Root);

impl Stage {
    /// A stage for `runtime` in the place of the directory `over`.
    pub(super) fn new(over: &Path, runtime: &Path) -> io::Result<Self> {
        let mut root = Root::new(over, SIZE, Seal::Demanded)?;
        let mut parts: Vec<PathBuf> = SYSTEM.iter().chain(DEVICES).map(PathBuf::from).collect();
        if !SYSTEM.iter().any(|part| runtime.starts_with(part)) {
            parts.push(runtime.to_owned());
        }
        for part in parts {
            root.show(&part)?;
        }
        for path in [c"proc", c"sys", c"state", c"bundle", c"bundle/rootfs"] {
            root.directory(path);
        }
        root.mount(c"proc", c"proc", PLAIN, c"");
        root.mount(c"sysfs", c"sys", PLAIN, c"");
        root.mount(c"tmpfs", c"state", libc::MS_NOSUID | libc::MS_NODEV, STATE_SIZE);
        Ok(Self(root))
    }

    /// Shows the hierarchy of cgroups v2 where runtimes look for it, and nothing of v1: they then
    /// take this host for one that has v2 alone.
    pub(super) fn with_cgroups(mut self) -> Self {
        self.0.mount(c"cgroup2", c"sys/fs/cgroup", PLAIN, c"");
        self
    }

    /// Shows an ordinary user's layers, which are directories, until they are stacked.
    pub(super) fn with_layers(mut self, environment: &Path, storage: &Path) -> io::Result<Self> {
        for path in [c"layers", stack::ENVIRONMENT, stack::STORAGE, stack::PROJECT] {
            self.0.directory(inner(path));
        }
        self.0.bind_own(&c_string(environment)?, inner(stack::ENVIRONMENT));
        self.0.bind_own(&c_string(storage)?, inner(stack::STORAGE));
        Ok(self)
    }

    /// Attaches a detached tree.
    pub(super) fn attach(mut self, tree: OwnedFd, path: &str) -> io::Result<Self> {
        self.0.attach(tree, path)?;
        Ok(self)
    }

    /// Puts a copy of an open file there, which nothing can write to any more once all stands.
    pub(super) fn copy(mut self, from: OwnedFd, path: &str, mode: u32) -> io::Result<Self> {
        self.0.copy(from, path, mode)?;
        Ok(self)
    }

    /// The descriptors that must stay open until [`Self::enter`].
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.0.descriptors()
    }

    /// Builds the stage and makes it the only root there is; see [`Root::enter`].
    pub(super) fn enter(&self) -> io::Result<()> {
        self.0.enter()
    }
}

/// A path in the root that is still being made.
fn inner(path: &'static CStr) -> &'static CStr {
    CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[usize::from(path.to_bytes()[0] == b'/')..])
        .unwrap_or(path)
}
