//! `pyro bench`: what this host makes of pyro, and of its peers in the same run.
//!
//! Absolute times belong to one host at one moment; what is worth comparing are the ratios.

mod engines;
mod mcp;
mod peers;
mod report;
mod sync;

use std::time::{Duration, Instant};

use pyro_contract::Result;
use pyro_contract::progress::Progress as _;
use pyro_contract::workspace::EngineKind;
use pyro_workspace::{Home, Pyro, Settings, Watch};
use serde::Serialize;

use crate::cli::BenchArgs;
use crate::ui::{Ui, write_stdout};

/// How often each thing is measured.
#[derive(Debug, Clone, Copy)]
struct Rounds {
    /// Things that take seconds.
    few: u32,
    /// Things that take tenths of a second.
    some: u32,
    /// Things that take milliseconds.
    many: u32,
}

impl Rounds {
    const USUAL: Self = Self { few: 3, some: 10, many: 1000 };
    const QUICK: Self = Self { few: 1, some: 3, many: 20 };
}

/// What was measured several times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Times {
    rounds: usize,
    min_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Times {
    /// `None` of nothing.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort();
        let at = |share: f64| {
            let index = (share * (times.len() as f64 - 1.0)).round() as usize;
            Some(times.get(index)?.as_secs_f64() * 1000.0)
        };
        Some(Self { rounds: times.len(), min_ms: at(0.0)?, p50_ms: at(0.5)?, p99_ms: at(0.99)? })
    }
}

/// How long something takes.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let done = work.await?;
    Ok((done, begun.elapsed()))
}

/// Measures, and prints what came of it.
pub(crate) async fn run(args: BenchArgs, program: std::path::PathBuf, ui: &Ui) -> Result<u8> {
    let rounds = if args.quick { Rounds::QUICK } else { Rounds::USUAL };
    let bar = ui.progress();
    let watch = bar.watch();
    let measured = measure(args, &program, rounds, &watch).await;
    bar.finish();
    let report = measured?;
    if ui.json() {
        ui.print_json(&report)?;
    } else {
        write_stdout(report.table().as_bytes())?;
    }
    Ok(0)
}

async fn measure(
    args: BenchArgs,
    program: &std::path::Path,
    rounds: Rounds,
    watch: &Watch,
) -> Result<report::Report> {
    let settings = Settings::from_environment()?;
    let (with, mut without) = (settings.clone(), settings);
    without.templates.enabled = false;
    let open = |settings| Pyro::at(Home::from_environment()?, settings, program.to_owned());
    let bench = engines::Bench {
        with_templates: open(with)?,
        without_templates: open(without)?,
        environment: args.environment,
        program,
        rounds,
        watch,
    };
    let mut report = report::Report::of_this_host();
    bench.with_templates.environment(&bench.environment, watch).await?;
    for kind in EngineKind::ALL.iter().filter(|kind| args.engine.is_none_or(|one| one == **kind)) {
        watch.stage(&format!("measuring the {kind} engine"));
        match bench.engine(*kind).await? {
            Ok(measured) => report.engines.push(measured),
            Err(why) => report.skipped.push(format!("{kind}: {why}")),
        }
    }
    if args.engine.is_none() {
        watch.stage("measuring peers");
        peers::measure(&bench, &mut report).await?;
    }
    report.compare();
    Ok(report)
}

/// The engine of `--engine`, by its name.
pub(crate) fn engine(text: &str) -> std::result::Result<EngineKind, String> {
    let names = || EngineKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    let found = EngineKind::ALL.iter().find(|kind| kind.as_str() == text);
    found
        .copied()
        .ok_or_else(|| format!("there is no engine named {text:?}; there are {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ordered_and_nothing_has_none() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let times = Times::of(times).unwrap();
        assert_eq!((times.rounds, times.min_ms, times.p99_ms), (100, 1.0, 99.0));
        assert!((50.0..=51.0).contains(&times.p50_ms), "{times:?}");
        assert_eq!(Times::of(Vec::new()), None);
    }

    #[test]
    fn an_engine_is_known_by_its_name() {
        assert_eq!(engine("qemu"), Ok(EngineKind::Qemu));
        assert!(engine("docker").unwrap_err().contains("qemu"));
    }
}
