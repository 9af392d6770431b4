//! `capture.json`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use pyro_contract::workspace::EngineKind;
use serde::{Deserialize, Serialize};

use super::sum::Sum;
use super::{part, unusable};
use crate::{EngineError, MachineSpec, Result};

pub(super) const MANIFEST: &str = "capture.json";

const VERSION: u32 = 1;

/// The longest that is read.
const BYTES_MAX: u64 = 64 << 10;

/// What a capture is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u32,
    engine: EngineKind,
    pub(crate) disk: Sum,
    pub(crate) memory: Option<MemoryPart>,
}

/// A captured memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPart {
    /// What the engine's machines depend on: the program, the processor.
    pub(crate) fingerprint: String,
    pub(crate) vcpu_count: u8,
    pub(crate) mem_mib: u32,
    pub(crate) content: Sum,
    pub(crate) state: Sum,
    /// The list of pages that count, where there is one.
    pub(crate) pages: Option<Sum>,
    /// Whether the others are those of a base.
    pub(crate) based: bool,
}

impl Manifest {
    pub(super) fn new(engine: EngineKind, disk: Sum, memory: Option<MemoryPart>) -> Self {
        Self { version: VERSION, engine, disk, memory }
    }

    /// That of a capture of this engine.
    ///
    /// # Errors
    /// [`EngineError::Capture`] if it is damaged, or not this engine's.
    pub(crate) fn read(capture: &Path, engine: EngineKind) -> Result<Self> {
        let mut text = Vec::new();
        part(capture, MANIFEST)?.take(BYTES_MAX).read_to_end(&mut text).map_err(|error| {
            unusable(MANIFEST, error, EngineError::io("cannot read the capture"))
        })?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| EngineError::Capture { said: format!("its {MANIFEST}: {error}") })?;
        if (manifest.version, manifest.engine) != (VERSION, engine) {
            return Err(EngineError::Misfit {
                said: format!(
                    "it is of the {} engine, version {}",
                    manifest.engine, manifest.version
                ),
            });
        }
        Ok(manifest)
    }

    /// Its memory, which `spec` must have room for, and `fingerprint` be able to run.
    pub(crate) fn memory(&self, spec: &MachineSpec, fingerprint: &str) -> Result<&MemoryPart> {
        let misfit = |said: String| EngineError::Misfit { said };
        let memory = self.memory.as_ref().ok_or_else(|| misfit("it has no memory".to_owned()))?;
        if (memory.vcpu_count, memory.mem_mib) != (spec.vcpu_count, spec.mem_mib) {
            return Err(misfit(format!(
                "it is of a machine with {} CPUs and {} MiB of memory",
                memory.vcpu_count, memory.mem_mib
            )));
        }
        if memory.fingerprint != fingerprint {
            return Err(misfit(format!(
                "its memory was captured with {}; here is {fingerprint}",
                memory.fingerprint
            )));
        }
        Ok(memory)
    }

    pub(super) fn write(&self, file: &File) -> std::io::Result<()> {
        Ok(serde_json::to_writer_pretty(file, self)?)
    }
}
