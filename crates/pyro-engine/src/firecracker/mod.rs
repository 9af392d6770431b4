//! The `firecracker` engine: a virtual machine on KVM, run by Firecracker.
//!
//! It boots the same kernel, initramfs and disks as every engine, with none of the devices that it
//! does not need: a serial console, three disks, a vsock to the agent, entropy, and a balloon that
//! tells the host which memory is free.

mod api;
mod capture;
mod link;
mod machine;
mod own;
mod template;
mod version;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use pyro_contract::workspace::{EngineKind, Isolation};

use crate::capture::{self as captures, Captured, Scope, blocking};
use crate::disk;
use crate::kvm::{self, Kvm};
use crate::program::find_program;
use crate::{Capabilities, Engine, EngineError, Machine, MachineSpec, Probe, Result, Storage};
use machine::{FirecrackerMachine, Programs};

const PROGRAM: &str = "firecracker";

/// The command that installs a Firecracker that works.
const FIX: &str = "pyro setup firecracker";

const JAILER: &str = "jailer";
const JAILER_FIX: &str = "name the right one with PYRO_JAILER or `programs.jailer`, or none: then pyro \
    confines firecracker itself";

/// Makes Firecracker machines.
#[derive(Debug, Clone, Default)]
pub struct FirecrackerEngine {
    program: Option<PathBuf>,
    jailer: Option<PathBuf>,
}

impl FirecrackerEngine {
    /// An engine that runs this Firecracker instead of the one in PATH.
    #[must_use]
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()), jailer: None }
    }

    /// Has Firecracker confined by its own jailer instead of by pyro, where that is root.
    ///
    /// Both give it a user, a root and namespaces of its own. Pyro's jail starts sooner, needs no
    /// copy of the program for each machine, and takes all capabilities away before the start.
    #[must_use]
    pub fn with_jailer(mut self, jailer: impl Into<PathBuf>) -> Self {
        self.jailer = Some(jailer.into());
        self
    }

    /// A jailer that was asked for and is not there is never replaced by another jail.
    fn jailer(&self) -> Result<Option<PathBuf>> {
        let Some(named) = &self.jailer else { return Ok(None) };
        let found = find_program(named);
        found.map(Some).ok_or(EngineError::NotSetUp { program: JAILER, fix: JAILER_FIX })
    }

    fn program(&self) -> Result<PathBuf> {
        let found = find_program(self.program.as_deref().unwrap_or(Path::new(PROGRAM)));
        found.ok_or(EngineError::NotSetUp { program: PROGRAM, fix: FIX })
    }

    /// What a machine needs on this host, found out in milliseconds: on a host without it, starting
    /// one would take seconds to fail, or hang.
    fn ready(&self) -> Result<Programs> {
        let programs = Programs { firecracker: self.program()?, jailer: self.jailer()? };
        match kvm::probe() {
            Kvm::Usable => Ok(programs),
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
            let found = format!("{PROGRAM} is not installed");
            let (reason, fix) = match kvm::probe() {
                Kvm::Usable => {
                    let reason = "it runs hardware machines that start in milliseconds";
                    (reason.to_owned(), Some(FIX.to_owned()))
                }
                // Installing it would change nothing.
                Kvm::Unusable(why) => (why.reason(), why.fix()),
            };
            return Probe { isolation: None, found, reason: Some(reason), fix };
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
        if let Some(jailer) = self.jailer.as_ref().filter(|_| self.jailer().is_err()) {
            return Probe {
                isolation: None,
                found: format!("{found}, without its jailer"),
                reason: Some(format!(
                    "{} was named as the jailer, and is not there",
                    jailer.display()
                )),
                fix: None,
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

    fn isolation(&self) -> Option<Isolation> {
        // Without KVM no program need be asked for its version.
        self.ready().ok()?;
        self.probe().isolation
    }

    /// None of its machines waits: its devices cannot be reset (before the release after 1.16), so the
    /// guest's driver cannot let go of the drive of the first baseline and take it again with another.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: true,
            templates: true,
            waits: false,
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

    async fn capture(&self, storage: &Path, capture: &Path) -> Result<Captured> {
        let (storage, capture) = (storage.to_owned(), capture.to_owned());
        blocking(move || captures::at_rest(EngineKind::Firecracker, &storage, &capture)).await
    }

    fn open_capture(&self, capture: &Path) -> Result<Storage> {
        disk::open(&captures::disk_of(capture))
    }

    async fn recover_storage(&self, capture: &Path, storage: &Path) -> Result<()> {
        let (capture, storage) = (capture.to_owned(), storage.to_owned());
        blocking(move || captures::recover_storage(EngineKind::Firecracker, &capture, &storage))
            .await
    }

    async fn recover(&self, capture: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        Ok(Box::new(capture::recover(&self.ready()?, capture, spec).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::{Error, ErrorCode};

    #[test]
    fn a_missing_firecracker_is_found_out_and_comes_with_its_remedy() {
        let engine = FirecrackerEngine::with_program("/no/such/firecracker");
        let probe = engine.probe();
        assert_eq!(probe.isolation, None);
        // Where nothing could run it, getting it is no remedy.
        assert_eq!(probe.fix.as_deref() == Some(FIX), kvm::probe() == Kvm::Usable);
        let error: Error = engine.ready().err().unwrap().into();
        assert_eq!(error.code, ErrorCode::MissingDependency);
        assert_eq!(error.hint.as_deref(), Some(FIX));
    }

    #[test]
    fn a_program_of_another_version_is_found_out_and_comes_with_its_remedy() {
        let probe = FirecrackerEngine::with_program("/bin/true").probe();
        assert_eq!((probe.isolation, probe.fix.as_deref()), (None, Some(FIX)));
        assert!(probe.reason.unwrap().contains(version::SUPPORTED));
    }

    #[test]
    fn a_missing_jailer_is_never_replaced_by_another_jail() {
        let engine = FirecrackerEngine::with_program("/bin/true").with_jailer("/no/such/jailer");
        let error: Error = engine.ready().err().unwrap().into();
        assert_eq!(error.code, ErrorCode::MissingDependency);
        assert!(error.message.contains("jailer"), "{error}");
        assert!(error.hint.unwrap().contains("PYRO_JAILER"));
    }
}
