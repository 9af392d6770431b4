//! Which engine runs a workspace.

use pyro_contract::workspace::{EngineChoice, EngineKind};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, Probe};

/// The engine of this kind.
pub(crate) fn of(kind: EngineKind) -> Box<dyn Engine> {
    match kind {
        EngineKind::Qemu => Box::new(QemuEngine::default()),
    }
}

/// Decides what the user's choice means on this host, and refuses what cannot run here.
pub(crate) fn choose(choice: EngineChoice) -> Result<(EngineKind, Probe)> {
    let kind = match choice {
        EngineChoice::Auto | EngineChoice::Qemu => EngineKind::Qemu,
    };
    let probe = of(kind).probe();
    if probe.acceleration.is_some() {
        return Ok((kind, probe));
    }
    let error = Error::new(
        ErrorCode::MissingDependency,
        format!("the {kind} engine cannot run here: {}", probe.found),
    );
    let error = match probe.reason {
        Some(reason) => error.with_cause(reason),
        None => error,
    };
    Err(error.with_hint(probe.fix.unwrap_or_else(|| "`pyro doctor` says more".into())))
}
