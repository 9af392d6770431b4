//! From the kernel's first jump into `/init` to a root that user code can run in.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::adopt::Kernel;
use crate::disks::ByHand;
use crate::exec::Cgroups;
use crate::freeze::Disk;
use crate::project::Project;
use crate::transport::{Announced, Channel};
use crate::uevent::Uevents;
use crate::{root, sys};

/// The name of the virtio-serial port to the host.
const PORT: &str = "agent";

/// Enough for builds and browsers, as container runtimes have it; the kernel's own default of 1024
/// is for programs that use select(2).
const OPEN_FILES: Rlimit = Rlimit { current: Some(65_536), maximum: Some(1_048_576) };

/// Why the machine could not come up.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub(crate) struct BootError {
    attempt: String,
    source: io::Error,
}

impl BootError {
    pub(crate) fn new(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { attempt: attempt.into(), source: source.into() }
    }
}

pub(crate) type Result<T> = std::result::Result<T, BootError>;

/// Says what was being attempted when a system call failed.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| BootError::new(what(), error))
    }
}

/// What the booted machine hands to the server.
pub(crate) struct Machine {
    pub(crate) channel: Channel,
    pub(crate) disk: Disk,
    pub(crate) kernel: Kernel,
    pub(crate) project: Option<Project>,
    pub(crate) cgroups: Option<Cgroups>,
}

/// Boots. Runs on the only thread, before there is a runtime.
pub(crate) fn boot() -> Result<Machine> {
    root::mount_early()?;
    let uevents = Uevents::open().attempt(|| "cannot listen for devices".into())?;
    load_modules(Path::new("/modules"))?;
    // The driver asks the host for its ports' names and does not wait for the answer; the disks
    // are mounted meanwhile.
    let disk = root::mount_disks(&uevents)?;
    let announced = Announced::find(&uevents, PORT)
        .attempt(|| format!("cannot find the virtio-serial port {PORT:?}, nor a vsock device"))?;
    let outside = root::enter()?;
    settle()?;
    let devices = outside
        .devices
        .try_clone()
        .attempt(|| "cannot keep the directory of the devices".into())?;
    let channel = match announced {
        Announced::Port(node) => Channel::Port { devices, node },
        Announced::Vsock => Channel::Vsock,
    };
    Ok(Machine {
        channel,
        disk,
        kernel: Kernel::Own,
        project: Some(Project::new(outside.mounts, outside.devices, uevents)),
        cgroups: Cgroups::set_up(Path::new("/sys/fs/cgroup")),
    })
}

/// Loads `/modules/NN-name.ko` in the order of their names.
fn load_modules(directory: &Path) -> Result<()> {
    let listed = || format!("cannot list {}", directory.display());
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(directory).attempt(listed)? {
        names.push(entry.attempt(listed)?.file_name());
    }
    names.sort();
    for name in names {
        let by_hand = name.to_string_lossy().contains("virtio_blk").then(ByHand::begin);
        let _by_hand = by_hand.transpose().attempt(|| "cannot hold the disks back".into())?;
        let path = directory.join(name);
        let file = fs::File::open(&path).attempt(|| format!("cannot open {}", path.display()))?;
        match rustix::system::finit_module(&file, c"", 0) {
            // Built into this kernel.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).attempt(|| format!("cannot load {}", path.display())),
        }
        // The initramfs is memory: give it back.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

/// Loopback, limits, and the agent's own protection.
fn settle() -> Result<()> {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .attempt(|| "cannot open a socket".into())?;
    sys::loopback_up(std::os::fd::AsFd::as_fd(&socket))
        .attempt(|| "cannot bring the loopback interface up".into())?;
    setrlimit(Resource::Nofile, OPEN_FILES).attempt(|| "cannot set RLIMIT_NOFILE".into())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // A command that takes the whole processor shall not keep the host from ending it. Commands do
    // not inherit this.
    sys::run_first().attempt(|| "cannot get ahead of the commands".into())?;
    // Were PID 1 chosen when memory runs out, the whole machine would die. Commands reset this.
    fs::write("/proc/self/oom_score_adj", "-1000")
        .attempt(|| "cannot protect the agent from the OOM killer".into())?;
    Ok(())
}
