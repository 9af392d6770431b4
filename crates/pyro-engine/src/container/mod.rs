//! The `container` engine: the guest agent as PID 1 of a container that an OCI runtime makes.
//!
//! It shares the host's kernel, so it isolates less than a virtual machine and costs next to
//! nothing. All else is as there: the same environment, baseline and disk images (mounted by the
//! host instead of a guest kernel), the same agent, the same reviews of the disk.

mod agent;
mod cgroup;
mod config;
mod filter;
mod ids;
mod keeper;
mod loop_device;
mod machine;
mod mounts;
pub(crate) mod rootless;
mod runtime;
mod seccomp;
mod stage;
mod stillness;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pyro_contract::workspace::EngineKind;

use crate::capture::{self, Captured, Scope, blocking};
use crate::disk;
use crate::{Capabilities, Engine, EngineError, Machine, MachineSpec, Probe, Result, Storage};
use cgroup::Layout;
pub(crate) use filter::KEPT as KEPT_FILTER;
pub use rootless::host::{Finding, Verdict};
use runtime::Runtime;

/// Why the memory of a container cannot be captured.
const NO_MEMORY: &str = "what runs in a container is spread over the host's kernel, which cannot be copied \
    as a machine's memory can";

/// What is not captured: there is no copying of a directory in one piece while it is written to.
const UNPACKED: &str = "captures of an ordinary user's containers";

/// Why this host cannot run containers although a runtime is installed.
struct Obstacle {
    reason: String,
    fix: Option<String>,
}

/// Only looks at files, so that it takes no time.
fn obstacle() -> Option<Obstacle> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let because = |reason: &str, fix: Option<&str>| {
        Some(Obstacle { reason: reason.to_owned(), fix: fix.map(str::to_owned) })
    };
    if rootless::applies() {
        let finding = rootless::host::obstacle()?;
        return Some(Obstacle {
            reason: format!("{}: {}; {}", finding.name, finding.found, finding.why),
            fix: finding.fix,
        });
    }
    if !may_mount(&read("/proc/self/status")) {
        return because(
            "it mounts the images of environment, baseline and disk, which this root may not do",
            None,
        );
    }
    if read("/proc/sys/user/max_user_namespaces").trim() == "0" {
        return because(
            "user namespaces are switched off on this host",
            Some("sudo sysctl -w user.max_user_namespaces=65536"),
        );
    }
    if !Path::new("/dev/loop-control").exists() {
        return because(
            "there are no loop devices, through which the disks of containers are mounted",
            Some("sudo modprobe loop"),
        );
    }
    let known = read("/proc/filesystems");
    let has = |name: &str| known.split_whitespace().any(|word| word == name);
    match ["erofs", "overlay", "ext4"].into_iter().find(|name| !has(name)) {
        Some("erofs") => because("the kernel has no erofs yet", Some("sudo modprobe erofs")),
        Some("overlay") => {
            because("the kernel has no overlayfs yet", Some("sudo modprobe overlay"))
        }
        Some(_) => because("the kernel has no ext4 yet", Some("sudo modprobe ext4")),
        None => None,
    }
}

/// CAP_SYS_ADMIN, number 21, is in the effective set.
fn may_mount(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << 21) != 0)
}

/// Looks at everything that an ordinary user's containers need; nothing for root. Takes some tens of
/// milliseconds. `scratch` is a directory that can be written to.
#[must_use]
pub fn ordinary_user(scratch: &Path) -> Vec<Finding> {
    if rootless::applies() { rootless::host::findings(scratch) } else { Vec::new() }
}

/// Makes containers.
#[derive(Debug, Clone, Default)]
pub struct ContainerEngine {
    runtime: Option<PathBuf>,
}

impl ContainerEngine {
    /// An engine with this OCI runtime instead of the first that is found in PATH.
    #[must_use]
    pub fn with_runtime(runtime: impl Into<PathBuf>) -> Self {
        Self { runtime: Some(runtime.into()) }
    }

    fn runtime(&self) -> Result<Runtime> {
        Runtime::find(self.runtime.as_deref())
            .ok_or(EngineError::MissingProgram { program: "crun", package: runtime::PACKAGE })
    }
}

#[async_trait]
impl Engine for ContainerEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Container
    }

    fn probe(&self) -> Probe {
        let refuse = |found: String, reason: &str, fix: Option<&str>| Probe {
            isolation: None,
            found,
            reason: Some(reason.to_owned()),
            fix: fix.map(str::to_owned),
        };
        let Ok(runtime) = self.runtime() else {
            let found = match &self.runtime {
                Some(runtime) => format!("there is no {}", runtime.display()),
                None => "neither crun nor runc is installed".to_owned(),
            };
            let fix = format!("sudo apt-get install {}", runtime::PACKAGE);
            return refuse(found, "an OCI runtime makes the containers", Some(&fix));
        };
        let found = runtime.program.display().to_string();
        if let Some(Obstacle { reason, fix }) = obstacle() {
            return refuse(found, &reason, fix.as_deref());
        }
        let mut shortcomings = Layout::find().shortcomings();
        if rootless::applies() {
            shortcomings.splice(0..0, rootless::host::shortcomings());
        }
        Probe {
            isolation: Some(runtime.isolation()),
            found,
            reason: (!shortcomings.is_empty()).then(|| shortcomings.join("; ")),
            fix: None,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let rootless = rootless::applies();
        let waits =
            !rootless && self.runtime().is_ok_and(|runtime| runtime.takes_mounts_while_running());
        Capabilities {
            pause: true,
            templates: false,
            waits,
            captures: (!rootless).then_some(Scope::Disk),
            no_memory_because: Some(NO_MEMORY),
        }
    }

    fn fingerprint(&self) -> Result<String> {
        let runtime = self.runtime()?;
        runtime
            .fingerprint()
            .map_err(EngineError::io(format!("cannot see {}", runtime.program.display())))
    }

    fn create_storage(&self, storage: &Path, disk_mib: u32, cache: &Path) -> Result<()> {
        match rootless::applies() {
            true => rootless::create(storage),
            false => disk::create(storage, disk_mib, cache),
        }
    }

    fn open_storage(&self, storage: &Path) -> Result<Storage> {
        match storage.is_dir() {
            true => rootless::open(storage),
            false => disk::open(storage),
        }
    }

    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(machine::ContainerMachine::launch(self.runtime()?, spec).await?))
    }

    async fn capture(&self, storage: &Path, capture: &Path) -> Result<Captured> {
        if storage.is_dir() {
            return Err(EngineError::unsupported(EngineKind::Container, UNPACKED));
        }
        let (storage, capture) = (storage.to_owned(), capture.to_owned());
        blocking(move || capture::at_rest(EngineKind::Container, &storage, &capture)).await
    }

    fn open_capture(&self, capture: &Path) -> Result<Storage> {
        disk::open(&capture::disk_of(capture))
    }

    async fn recover_storage(&self, capture: &Path, storage: &Path) -> Result<()> {
        let (capture, storage) = (capture.to_owned(), storage.to_owned());
        blocking(move || capture::recover_storage(EngineKind::Container, &capture, &storage)).await
    }

    async fn recover(&self, _capture: &Path, _spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Err(EngineError::NoMemory { engine: EngineKind::Container, reason: NO_MEMORY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_runtime_is_found_out_and_comes_with_a_package() {
        let probe = ContainerEngine::with_runtime("/no/such/runtime").probe();
        assert_eq!(probe.isolation, None);
        assert!(probe.found.contains("/no/such/runtime"));
        assert_eq!(probe.fix.as_deref(), Some("sudo apt-get install crun"));
    }

    #[test]
    fn root_without_the_right_to_mount_is_no_root() {
        assert!(may_mount("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_mount("Name:\tx\nCapEff:\t00000000a80425fb\n"));
        assert!(!may_mount(""));
    }
}
