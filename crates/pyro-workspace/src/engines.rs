//! Which engine runs a workspace.

use pyro_contract::workspace::{EngineChoice, EngineKind, Isolation};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::container::ContainerEngine;
use pyro_engine::firecracker::FirecrackerEngine;
use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, Probe};

use crate::settings::Programs;

/// What `auto` tries, the strongest first. Nothing that shares the host's kernel may stand here:
/// less isolation than a machine of its own is for the user to choose, never for pyro.
const AUTO: &[EngineKind] = &[EngineKind::Firecracker, EngineKind::Qemu];

/// The engine of this kind.
pub(crate) fn of(kind: EngineKind, programs: &Programs) -> Box<dyn Engine> {
    match kind {
        EngineKind::Firecracker => {
            let engine = match &programs.firecracker {
                Some(program) => FirecrackerEngine::with_program(program),
                None => FirecrackerEngine::default(),
            };
            Box::new(match &programs.jailer {
                Some(jailer) => engine.with_jailer(jailer),
                None => engine,
            })
        }
        EngineKind::Qemu => Box::new(match &programs.qemu {
            Some(program) => QemuEngine::with_program(program),
            None => QemuEngine::default(),
        }),
        EngineKind::Container => Box::new(match &programs.oci_runtime {
            Some(runtime) => ContainerEngine::with_runtime(runtime),
            None => ContainerEngine::default(),
        }),
    }
}

/// Decides what the user's choice means on this host, and refuses what cannot run here.
pub(crate) fn choose(choice: EngineChoice, programs: &Programs) -> Result<EngineKind> {
    decide(choice, |kind| of(kind, programs).isolation(), |kind| of(kind, programs).probe())
}

/// The judgement alone.
fn decide(
    choice: EngineChoice,
    isolation: impl Fn(EngineKind) -> Option<Isolation>,
    probe: impl Fn(EngineKind) -> Probe,
) -> Result<EngineKind> {
    let candidates = choice.kind().map_or(AUTO.to_vec(), |kind| vec![kind]);
    let mut refused = Vec::new();
    for kind in candidates {
        if isolation(kind).is_some() {
            return Ok(kind);
        }
        refused.push((kind, probe(kind)));
    }
    Err(match (choice, refused.pop()) {
        (EngineChoice::Auto, Some((kind, last))) => no_machine(&refused, kind, &last),
        (_, Some((kind, probe))) => cannot(kind, probe),
        (_, None) => Error::new(ErrorCode::Internal, "there is no engine to choose from"),
    })
}

fn cannot(kind: EngineKind, probe: Probe) -> Error {
    let message = format!("the {kind} engine cannot run here: {}", probe.found);
    let error = Error::new(ErrorCode::MissingDependency, message);
    let error = match probe.reason {
        Some(reason) => error.with_cause(reason),
        None => error,
    };
    error.with_hint(probe.fix.unwrap_or_else(|| "`pyro doctor` says more".into()))
}

/// Both remedies: the program that is missing, and the weaker engine that needs none.
fn no_machine(others: &[(EngineKind, Probe)], kind: EngineKind, last: &Probe) -> Error {
    let found = others.iter().map(|(kind, probe)| (kind, probe)).chain([(&kind, last)]);
    let found: Vec<String> =
        found.map(|(kind, probe)| format!("{kind}: {}", probe.found)).collect();
    let fix = last.fix.as_deref().unwrap_or("pyro doctor");
    Error::new(ErrorCode::MissingDependency, "no engine that runs virtual machines works here")
        .with_cause(found.join("\n"))
        .with_hint(format!(
            "`{fix}` gives every workspace a machine of its own; or choose `--engine container`, \
             which shares the host's kernel and isolates less (`engine = \"container\"` in the \
             configuration file makes that the default)"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unusable(_: EngineKind) -> Probe {
        Probe {
            isolation: None,
            found: "it is not installed".into(),
            reason: None,
            fix: Some("sudo apt-get install it".into()),
        }
    }

    fn only_qemu(kind: EngineKind) -> Option<Isolation> {
        (kind == EngineKind::Qemu).then_some(Isolation::EmulatedVm)
    }

    #[test]
    fn auto_takes_an_emulated_machine_rather_than_less_isolation() {
        let chosen = decide(EngineChoice::Auto, only_qemu, unusable);
        assert_eq!(chosen.unwrap(), EngineKind::Qemu);
    }

    #[test]
    fn auto_never_takes_an_engine_that_shares_the_hosts_kernel() {
        let only_containers =
            |kind| (kind == EngineKind::Container).then_some(Isolation::SharedKernel);
        assert!(decide(EngineChoice::Auto, only_containers, unusable).is_err());
        let chosen = decide(EngineChoice::Container, only_containers, unusable);
        assert_eq!(chosen.unwrap(), EngineKind::Container);
    }

    #[test]
    fn auto_takes_firecracker_where_that_runs() {
        let chosen = decide(EngineChoice::Auto, |_| Some(Isolation::HardwareVm), unusable);
        assert_eq!(chosen.unwrap(), EngineKind::Firecracker);
    }

    #[test]
    fn an_engine_that_was_asked_for_by_name_is_not_replaced_by_another() {
        let error = decide(EngineChoice::Firecracker, only_qemu, unusable).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingDependency);
        assert!(error.message.contains("firecracker"), "{error}");
    }

    #[test]
    fn where_no_machine_can_run_auto_fails_and_names_both_remedies() {
        let error = decide(EngineChoice::Auto, |_| None, unusable).unwrap_err();
        assert_eq!(error.code, ErrorCode::MissingDependency);
        let hint = error.hint.unwrap();
        assert!(hint.contains("apt-get install it") && hint.contains("--engine container"));
    }
}
