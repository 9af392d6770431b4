//! The `container` engine: the guest agent as PID 1 of a container that an OCI runtime makes.
//!
//! It shares the host's kernel, so it isolates less than a virtual machine and costs next to
//! nothing. All else is as there: the same environment, baseline and disk images (mounted by the
//! host instead of a guest kernel), the same agent, the same reviews of the disk.

mod agent;
mod cgroup;
mod config;
mod ids;
mod keeper;
mod loop_device;
mod machine;
mod mounts;
mod runtime;
mod seccomp;
mod stage;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pyro_contract::workspace::EngineKind;

use crate::disk;
use crate::{Capabilities, Engine, EngineError, Machine, MachineSpec, Probe, Result, Storage};
use runtime::Runtime;

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
        if !rustix::process::geteuid().is_root() {
            return refuse(found, "containers need root here", None);
        }
        if !Path::new("/dev/loop-control").exists() {
            return refuse(
                found,
                "there are no loop devices, from which the disks of containers are mounted",
                Some("sudo modprobe loop"),
            );
        }
        let (reason, fix) = (None, None);
        Probe { isolation: Some(runtime.isolation()), found, reason, fix }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { pause: true, templates: false }
    }

    fn create_storage(&self, storage: &Path, disk_mib: u32) -> Result<()> {
        disk::create(storage, disk_mib)
    }

    fn open_storage(&self, storage: &Path) -> Result<Storage> {
        disk::open(storage)
    }

    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(machine::ContainerMachine::launch(self.runtime()?, spec).await?))
    }
}
