//! The `qemu` engine: a virtual machine run by QEMU, on KVM where that is usable, else emulated.

mod capture;
mod command_line;
mod machine;
mod memory;
mod qmp;
mod ram;
mod template;
mod tsc;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_trait::async_trait;
use pyro_contract::workspace::{EngineKind, Isolation};

use crate::capture::{self as captures, Captured, Scope, blocking};
use crate::disk;
use crate::kvm::{self, Kvm};
use crate::program::find_program;
use crate::qemu::machine::{Beginning, QemuMachine};
use crate::{Capabilities, Engine, EngineError, Machine, MachineSpec, Probe, Result, Storage};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// How the CPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// Hardware virtualization.
    Hardware,
    /// Emulated in software.
    Emulated,
}

/// What makes machines on this host.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    pub(crate) program: PathBuf,
    pub(crate) acceleration: Acceleration,
}

/// Makes QEMU machines.
#[derive(Debug, Clone, Default)]
pub struct QemuEngine {
    program: Option<PathBuf>,
}

impl QemuEngine {
    /// An engine that runs this QEMU instead of the one in PATH.
    #[must_use]
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()) }
    }

    fn program(&self) -> Result<PathBuf> {
        let found = match &self.program {
            Some(program) => find_program(program),
            None => find_program(PROGRAM),
        };
        found.ok_or(EngineError::MissingProgram { program: PROGRAM, package: PACKAGE })
    }

    fn maker(&self) -> Result<Maker> {
        let acceleration = match kvm::probe() {
            Kvm::Usable => Acceleration::Hardware,
            Kvm::Unusable(_) => Acceleration::Emulated,
        };
        Ok(Maker { program: self.program()?, acceleration })
    }
}

#[async_trait]
impl Engine for QemuEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Qemu
    }

    fn probe(&self) -> Probe {
        let Ok(program) = self.program() else {
            return Probe {
                isolation: None,
                found: format!("{PROGRAM} is not installed"),
                reason: Some("without it there are no machines".to_owned()),
                fix: Some(format!("sudo apt-get install {PACKAGE}")),
            };
        };
        let found = format!("{} ({})", version(&program), program.display());
        match kvm::probe() {
            Kvm::Usable => Probe {
                isolation: Some(Isolation::HardwareVm),
                found: format!("{found} on KVM"),
                reason: None,
                fix: None,
            },
            Kvm::Unusable(why) => Probe {
                isolation: Some(Isolation::EmulatedVm),
                found,
                reason: Some(why.reason()),
                fix: why.fix(),
            },
        }
    }

    fn isolation(&self) -> Option<Isolation> {
        let maker = self.maker().ok()?;
        Some(match maker.acceleration {
            Acceleration::Hardware => Isolation::HardwareVm,
            Acceleration::Emulated => Isolation::EmulatedVm,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: true,
            templates: true,
            waits: true,
            captures: Some(Scope::DiskAndMemory),
            no_memory_because: None,
        }
    }

    fn create_storage(&self, storage: &Path, disk_mib: u32, cache: &Path) -> Result<()> {
        disk::create(storage, disk_mib, cache)
    }

    fn open_storage(&self, storage: &Path) -> Result<Storage> {
        disk::open(storage)
    }

    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(QemuMachine::launch(&self.maker()?, Beginning::Boot, spec).await?))
    }

    fn fingerprint(&self) -> Result<String> {
        template::fingerprint(&self.maker()?)
    }

    async fn prepare(&self, spec: &MachineSpec, template: &Path) -> Result<()> {
        template::prepare(&self.maker()?, spec, template).await
    }

    fn clone_storage(&self, template: &Path, storage: &Path) -> Result<()> {
        template::clone_storage(template, storage)
    }

    async fn restore(&self, template: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(template::restore(&self.maker()?, template, spec).await?))
    }

    async fn capture(&self, storage: &Path, capture: &Path) -> Result<Captured> {
        let (storage, capture) = (storage.to_owned(), capture.to_owned());
        blocking(move || captures::at_rest(EngineKind::Qemu, &storage, &capture)).await
    }

    fn open_capture(&self, capture: &Path) -> Result<Storage> {
        disk::open(&captures::disk_of(capture))
    }

    async fn recover_storage(&self, capture: &Path, storage: &Path) -> Result<()> {
        let (capture, storage) = (capture.to_owned(), storage.to_owned());
        blocking(move || captures::recover_storage(EngineKind::Qemu, &capture, &storage)).await
    }

    async fn recover(&self, capture: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(capture::recover(&self.maker()?, capture, spec).await?))
    }
}

/// `QEMU emulator version 7.2.0 (Debian …)` without the praise.
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let number = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    match number {
        Some(number) => format!("QEMU {number}"),
        None => "QEMU of unknown version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_qemu_is_found_out_and_comes_with_its_package() {
        let probe = QemuEngine::with_program("/no/such/qemu").probe();
        assert_eq!(probe.isolation, None);
        assert_eq!(probe.fix.as_deref(), Some("sudo apt-get install qemu-system-x86"));
    }
}
