//! The `firecracker` engine: a virtual machine on KVM, run by Firecracker.
//!
//! It boots the same kernel, initramfs and disks as every engine, with none of the devices that it
//! does not need: a serial console, three disks, a vsock to the agent, entropy, and a balloon that
//! tells the host which memory is free.

mod api;
mod link;
mod machine;
mod own;
mod template;
mod version;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pyro_contract::workspace::{EngineKind, Isolation};

use crate::disk;
use crate::kvm::{self, Kvm};
use crate::program::find_program;
use crate::{Capabilities, Engine, EngineError, Machine, MachineSpec, Probe, Result, Storage};
use machine::FirecrackerMachine;

const PROGRAM: &str = "firecracker";

/// The command that installs a Firecracker that works.
const FIX: &str = "pyro setup firecracker";

/// Makes Firecracker machines.
#[derive(Debug, Clone, Default)]
pub struct FirecrackerEngine {
    program: Option<PathBuf>,
}

impl FirecrackerEngine {
    /// An engine that runs this Firecracker instead of the one in PATH.
    #[must_use]
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()) }
    }

    fn program(&self) -> Result<PathBuf> {
        let found = find_program(self.program.as_deref().unwrap_or(Path::new(PROGRAM)));
        found.ok_or(EngineError::NotSetUp { program: PROGRAM, fix: FIX })
    }

    /// What a machine needs on this host, found out in milliseconds: on a host without it, starting
    /// one would take seconds to fail, or hang.
    fn ready(&self) -> Result<PathBuf> {
        let program = self.program()?;
        match kvm::probe() {
            Kvm::Usable => Ok(program),
            Kvm::Unusable(why) => Err(EngineError::NoVirtualization {
                engine: EngineKind::Firecracker,
                reason: why.reason(),
                fix: why.fix(),
            }),
        }
    }
}

#[async_trait]
impl Engine for FirecrackerEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Firecracker
    }

    fn probe(&self) -> Probe {
        let Ok(program) = self.program() else {
            return Probe {
                isolation: None,
                found: format!("{PROGRAM} is not installed"),
                reason: Some("it runs hardware machines that start in milliseconds".to_owned()),
                fix: Some(FIX.to_owned()),
            };
        };
        let said = version::ask(&program);
        let line = said.as_deref().unwrap_or("something that does not tell its version");
        let found = format!("{line} ({})", program.display());
        if !version::of(line).is_some_and(version::Version::is_supported) {
            return Probe {
                isolation: None,
                found,
                reason: Some(format!("this engine works with Firecracker {}", version::SUPPORTED)),
                fix: Some(FIX.to_owned()),
            };
        }
        match kvm::probe() {
            Kvm::Usable => Probe {
                isolation: Some(Isolation::HardwareVm),
                found: format!("{found} on KVM"),
                reason: None,
                fix: None,
            },
            Kvm::Unusable(why) => {
                Probe { isolation: None, found, reason: Some(why.reason()), fix: why.fix() }
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { pause: true, templates: true }
    }

    fn create_storage(&self, storage: &Path, disk_mib: u32) -> Result<()> {
        disk::create(storage, disk_mib)
    }

    fn open_storage(&self, storage: &Path) -> Result<Storage> {
        disk::open(storage)
    }

    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(FirecrackerMachine::launch(&self.ready()?, spec).await?))
    }

    fn fingerprint(&self) -> Result<String> {
        template::fingerprint(&self.ready()?)
    }

    async fn prepare(&self, spec: &MachineSpec, template: &Path) -> Result<()> {
        template::prepare(&self.ready()?, spec, template).await
    }

    fn clone_storage(&self, template: &Path, storage: &Path) -> Result<()> {
        template::clone_storage(template, storage)
    }

    async fn restore(&self, template: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        let files = template::Files::of(template);
        Ok(Box::new(FirecrackerMachine::restore(&self.ready()?, &files, spec).await?))
    }
}
