//! Frozen machines, and bringing them back.
//!
//! ```text
//! memory        the machine's memory, packed
//! disk          its writable disk, packed, as its memory believes it to be
//! state         all else that QEMU knows of it
//! holder.json   who has the memory open at present
//! ```
//!
//! A machine is frozen before anybody was connected to its agent: on the other side of the freeze
//! QEMU tells the guest that somebody is there now, and the agent serves them as its first. Files
//! of a template never reach a QEMU; it gets copies, sealed or its own.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::capture::PageSet;
use crate::processor::processor;
use crate::qemu::machine::{Beginning, QemuMachine};
use crate::qemu::ram::Origin;
use crate::qemu::{Acceleration, Maker, memory};
use crate::{EngineError, Machine, MachineSpec, Result, packed};

const MEMORY: &str = "memory";
const DISK: &str = "disk";
const STATE: &str = "state";
const HOLDER: &str = "holder.json";

/// What the agent says when it is up and waits for somebody to talk to.
const READY: &str = "pyro-guest: ready";

/// How long a machine may take to boot.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a frozen machine's process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Raised when the machine's make changes in a way that the rest of the fingerprint does not show.
const MAKE: u32 = 1;

/// The program and the processor: the guest has seen both.
pub(crate) fn fingerprint(maker: &Maker) -> Result<String> {
    let path = &maker.program;
    let meta =
        fs::metadata(path).map_err(EngineError::io(format!("cannot see {}", path.display())))?;
    let acceleration = match maker.acceleration {
        Acceleration::Hardware => "hardware",
        Acceleration::Emulated => "emulated",
    };
    Ok(format!(
        "make {MAKE}; {acceleration}; {} {} {}.{:09}; {}",
        path.display(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        processor()
    ))
}

/// See [`crate::Engine::prepare`].
pub(crate) async fn prepare(maker: &Maker, spec: &MachineSpec, template: &Path) -> Result<()> {
    let failed = |what: &str| format!("cannot write the template's {what}");
    let memory = memory::create(spec.mem_mib).map_err(EngineError::io("cannot make memory"))?;
    let shared = memory.try_clone().map_err(EngineError::io("cannot share memory"))?;
    let machine = QemuMachine::launch(maker, Beginning::Freeze { memory: shared }, spec).await?;
    match tokio::time::timeout(BOOT_PATIENCE, machine.until_said(READY)).await {
        Ok(ready) => ready?,
        Err(_) => {
            let said = format!("the machine did not get ready\n{}", machine.console_tail());
            return Err(EngineError::Launch { said });
        }
    }
    machine.pause().await?;
    let state = File::create_new(template.join(STATE))
        .map_err(|error| EngineError::io(failed(STATE))(error))?;
    machine.save(state.as_fd()).await?;
    machine.kill(END_PATIENCE).await;
    let (template, storage) = (template.to_owned(), spec.storage.clone());
    let keep = move || {
        let put = |name: &str, content: &File| {
            let file = File::create_new(template.join(name))?;
            packed::pack(content, &file)
        };
        put(MEMORY, &memory).map_err(|error| EngineError::io(failed(MEMORY))(error))?;
        File::open(&storage)
            .and_then(|disk| put(DISK, &disk))
            .and_then(|_| fs::remove_file(&storage))
            .map_err(|error| EngineError::io(failed(DISK))(error))
    };
    tokio::task::spawn_blocking(keep)
        .await
        .unwrap_or_else(|error| Err(EngineError::Template { said: error.to_string() }))
}

/// See [`crate::Engine::clone_storage`].
pub(crate) fn clone_storage(template: &Path, storage: &Path) -> Result<()> {
    let disk = open(template, DISK)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(storage)
        .map_err(EngineError::io(format!("cannot create {}", storage.display())))?;
    packed::unpack(&disk, &file).map_err(|error| {
        let _ = fs::remove_file(storage);
        unusable(DISK, error)
    })
}

/// See [`crate::Engine::restore`].
pub(crate) async fn restore(
    maker: &Maker,
    template: &Path,
    spec: &MachineSpec,
) -> Result<QemuMachine> {
    let (template, mem_mib) = (template.to_owned(), spec.mem_mib);
    let take = move || {
        let mut file = open(&template, STATE)?;
        let state = memory::sealed(&mut file).map_err(|error| unusable(STATE, error))?;
        let base = open(&template, MEMORY)?;
        let memory = memory::unpacked(&template.join(MEMORY), &template.join(HOLDER), mem_mib)
            .map_err(|error| unusable(MEMORY, error))?;
        if !is_same(&base, &open(&template, MEMORY)?) {
            // What is captured of the machine would not fit the base.
            return Err(EngineError::Template { said: "it was replaced meanwhile".to_owned() });
        }
        let origin = Origin { base: Some(base), differs: PageSet::none(u64::from(mem_mib) << 20) };
        Ok(Beginning::Restore { memory, state, origin })
    };
    let taken = tokio::task::spawn_blocking(take).await;
    let beginning =
        taken.unwrap_or_else(|error| Err(EngineError::Template { said: error.to_string() }))?;
    QemuMachine::launch(maker, beginning, spec).await
}

fn is_same(one: &File, other: &File) -> bool {
    let of = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    of(one).is_some() && of(one) == of(other)
}

fn open(template: &Path, name: &str) -> Result<File> {
    File::open(template.join(name)).map_err(|error| unusable(name, error))
}

/// A host without space or memory is not the template's fault.
fn unusable(part: &str, error: std::io::Error) -> EngineError {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error.kind() {
        InvalidData | NotFound | UnexpectedEof => {
            EngineError::Template { said: format!("its {part}: {error}") }
        }
        _ => EngineError::io(format!("cannot take the template's {part}"))(error),
    }
}
