//! Frozen machines: a directory with the state of the devices, the memory, and the disk.
//!
//! The memory is a sparse file that every clone maps privately: what none has written is in this
//! host's page cache once. All three are read-only and belong to the host's user, so that no clone
//! can alter what its siblings start from.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_layers::sparse::copy_sparse;

use crate::firecracker::machine::{FirecrackerMachine, Programs};
use crate::firecracker::own;
use crate::processor::processor;
use crate::{EngineError, Exit, Machine as _, MachineSpec, Result};

/// How long a machine may take to boot. Emulated on a busy host this is tens of seconds.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a process that was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// The files of a template.
pub(super) struct Files {
    pub(super) state: PathBuf,
    pub(super) memory: PathBuf,
    disk: PathBuf,
}

impl Files {
    pub(super) fn of(template: &Path) -> Self {
        let at = |name: &str| template.join(name);
        Self { state: at(own::STATE), memory: at(own::MEMORY), disk: at("disk") }
    }
}

/// Raised when the machine's make changes in a way that the rest of the fingerprint does not show.
const MAKE: u32 = 1;

/// The program and the processor: the guest has seen both.
pub(super) fn fingerprint(programs: &Programs) -> Result<String> {
    let program = &programs.firecracker;
    let seen = EngineError::io(format!("cannot see {}", program.display()));
    let meta = fs::metadata(program).map_err(seen)?;
    Ok(format!(
        "make {MAKE}; firecracker {} {}.{:09}; {}",
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        processor()
    ))
}

/// Boots a machine until its agent listens, and freezes it.
pub(super) async fn prepare(
    programs: &Programs,
    spec: &MachineSpec,
    template: &Path,
) -> Result<()> {
    let machine = FirecrackerMachine::launch(programs, spec).await?;
    let frozen = freeze(&machine, spec, template).await;
    // Only now, for it must not write to its disk once its memory is kept.
    machine.kill(KILL_PATIENCE).await;
    frozen
}

async fn freeze(machine: &FirecrackerMachine, spec: &MachineSpec, template: &Path) -> Result<()> {
    let said = tokio::select! {
        listens = machine.until_agent_listens() => match listens {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        },
        exit = machine.exited() => Some(match exit {
            Exit::Died(said) => said,
            Exit::PoweredOff => "it switched itself off".to_owned(),
        }),
        () = tokio::time::sleep(BOOT_PATIENCE) => {
            Some(format!("its agent was not ready within {} s", BOOT_PATIENCE.as_secs()))
        }
    };
    if let Some(said) = said {
        return Err(EngineError::Launch { said });
    }
    machine.pause().await?;
    let files = Files::of(template);
    machine.freeze_into(&files).await?;
    move_file(&spec.storage, &files.disk).map_err(failed(&files.disk))?;
    let sealed = fs::Permissions::from_mode(0o444);
    fs::set_permissions(&files.disk, sealed).map_err(failed(&files.disk))?;
    // Firecracker has written the other two through.
    File::open(&files.disk).and_then(|disk| disk.sync_all()).map_err(failed(&files.disk))?;
    if spec.run_as.is_some() {
        std::os::unix::fs::chown(&files.disk, Some(0), Some(0)).map_err(failed(&files.disk))?;
    }
    Ok(())
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(from, to).map_err(io::Error::other)?;
            fs::remove_file(from)
        }
        moved => moved,
    }
}

/// The template's disk as a clone's own: its blocks are shared where the filesystem can, else only
/// what is no hole is copied.
pub(super) fn clone_storage(template: &Path, storage: &Path) -> Result<()> {
    let cloned = copy(&Files::of(template).disk, storage);
    if cloned.is_err() {
        let _ = fs::remove_file(storage);
    }
    cloned
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let template = File::open(from).map_err(failed(from))?;
    let copy = File::options().write(true).create_new(true).mode(0o600).open(to);
    copy_sparse(&template, &copy.map_err(failed(to))?)?;
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    EngineError::io(format!("cannot keep or use {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_has_a_disk_of_its_own_and_never_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Files::of(directory.path()).disk;
        fs::write(&disk, "template").unwrap();
        let storage = directory.path().join("storage");
        clone_storage(directory.path(), &storage).unwrap();
        fs::write(&storage, "clone").unwrap();
        assert_eq!(fs::read(&disk).unwrap(), b"template");
        assert!(clone_storage(directory.path(), &disk).is_err());
    }
}
