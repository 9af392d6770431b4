//! What was measured, for people and for programs.

use pyro_contract::workspace::{EngineKind, Isolation};
use serde::Serialize;

use super::Times;
use super::engines::EngineReport;
use super::mcp::McpReport;
use super::peers::PeerReport;
use crate::show;

/// Everything.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) engines: Vec<EngineReport>,
    pub(crate) peers: Vec<PeerReport>,
    pub(crate) ratios: Vec<Ratio>,
    /// What was not measured, and why.
    pub(crate) skipped: Vec<String>,
}

/// What it was measured on.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Host {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
}

/// One thing as a multiple of another of the same run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) ratio: f64,
    /// What pyro wants it to be at most.
    pub(crate) wanted: f64,
}

impl Report {
    pub(super) fn of_this_host() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let host = Host {
            processor: model.map_or("unknown".into(), |(_, name)| name.trim().to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        };
        Self { host, ..Self::default() }
    }

    /// Works out the ratios.
    pub(super) fn compare(&mut self) {
        let mut ratios = Vec::new();
        let mut say = |what: String, of: Option<f64>, to: Option<f64>, wanted: f64| {
            if let (Some(of), Some(to)) = (of, to.filter(|to| *to > 0.0)) {
                ratios.push(Ratio { what, ratio: of / to, wanted });
            }
        };
        let p50 = |times: Option<Times>| times.map(|times| times.p50_ms);
        for one in &self.engines {
            let name = one.engine;
            let (cold, template, warm) =
                (p50(one.create_cold), p50(one.create_template), p50(one.create_warm));
            say(format!("{name}: from a template against cold"), template, cold, 1.0 / 8.0);
            say(format!("{name}: warm against from a template"), warm, template, 1.0 / 4.0);
            if one.isolation == Some(Isolation::EmulatedVm) {
                let what = format!("{name}: exec of `true` against fork and exec in the guest");
                say(what, p50(one.exec_library), one.guest_fork_exec_ms, 1.5);
            }
            if let Some(at_once) = &one.at_once {
                let alone = at_once.creates as f64 * at_once.cpu_of_one_ms;
                let what = format!(
                    "{name}: {} creates at once against their processor time",
                    at_once.creates
                );
                say(what, Some(at_once.wall_ms), Some(alone), 1.5);
            }
        }
        for one in &self.engines {
            let (name, Some(sync)) = (one.engine, &one.sync) else { continue };
            let (copy, first, second) = (p50(sync.copy), p50(sync.first), p50(sync.second));
            if name == EngineKind::Container {
                let what = format!("{name}: push of {} files against `cp -a`", sync.files);
                say(what, first, copy, 3.0);
            }
            let what = format!("{name}: push after touching one file against the first");
            say(what, second, first, 1.0 / 20.0);
        }
        let podman = self.peers.iter().find(|peer| peer.peer == "podman");
        let container = self.engines.iter().find(|one| one.engine == EngineKind::Container);
        if let (Some(podman), Some(container)) = (podman, container) {
            let (run, exec) = (p50(podman.run), p50(podman.exec));
            let eighth = 1.0 / 8.0;
            let what = "container: create to first command against `podman run`";
            say(what.into(), p50(container.create_cold), run, eighth);
            let what = "container: warm against `podman run`";
            say(what.into(), p50(container.create_warm), run, 1.0 / 16.0);
            let what = "container: `pyro run` against `podman run`";
            say(what.into(), p50(container.run_cli), run, 1.0);
            let what = "container: `pyro workspace exec` against `podman exec`";
            say(what.into(), p50(container.exec_cli), exec, eighth);
        }
        self.ratios = ratios;
    }

    /// As a person reads it.
    pub(super) fn table(&self) -> String {
        let host = &self.host;
        let mut text = format!("{} × {}, Linux {}\n", host.processors, host.processor, host.kernel);
        for one in &self.engines {
            let isolation = one.isolation.map_or("", |isolation| isolation.describe());
            text += &format!("\n{} ({isolation})\n", one.engine);
            let mcp = one.mcp.as_ref();
            let rows = [
                ("create to first command, cold", one.create_cold),
                ("create to first command, from a template", one.create_template),
                ("create to first command, warm", one.create_warm),
                ("pyro run ENV -- true", one.run_cli),
                ("exec true, through the library", one.exec_library),
                ("exec true, through the command line", one.exec_cli),
                (
                    "exec true, the same operation as a tool would call it",
                    mcp.and_then(|mcp| mcp.operation),
                ),
                ("exec true, as an MCP tool over stdio", mcp.and_then(|mcp| mcp.stdio)),
                ("exec true, as an MCP tool over HTTP", mcp.and_then(|mcp| mcp.http)),
                ("pause", one.pause),
                ("resume", one.resume),
            ];
            text += &times(rows);
            if let Some(sync) = &one.sync {
                let files = sync.files;
                text += &format!("a tree of {files} files\n");
                text += &times([
                    ("cp -a on the host", sync.copy),
                    ("sync push", sync.first),
                    ("sync push after touching one", sync.second),
                ]);
            }
            if let Some(ms) = one.guest_fork_exec_ms {
                text += &format!("a fork and exec of true within takes {ms:.2} ms\n");
            }
            if let Some((stdio, http)) =
                mcp.and_then(|mcp| Some((mcp.stdio_adds_ms?, mcp.http_adds_ms?)))
            {
                text += &format!(
                    "MCP adds {stdio:.2} ms to a call over stdio, {http:.2} ms over HTTP (wanted: under {})\n",
                    McpReport::WANTED_MS
                );
            }
            if let Some(bytes) = one.idle_memory_bytes {
                text += &format!("an idle workspace takes {} of memory\n", show::bytes(bytes));
            }
            if let Some(at_once) = &one.at_once {
                text += &format!(
                    "{} creates at once take {:.0} ms; one takes {:.0} ms of processor time\n",
                    at_once.creates, at_once.wall_ms, at_once.cpu_of_one_ms
                );
            }
        }
        for peer in &self.peers {
            text += &format!("\n{} ({})\n", peer.peer, peer.version);
            text += &times([("run true", peer.run), ("exec true", peer.exec)]);
        }
        if !self.ratios.is_empty() {
            text += "\n";
            let rows: Vec<Vec<String>> = self
                .ratios
                .iter()
                .map(|ratio| {
                    let (is, wanted) = (fraction(ratio.ratio), fraction(ratio.wanted));
                    vec![ratio.what.clone(), is, format!("at most {wanted}")]
                })
                .collect();
            text += &show::table(&["RATIO", "IS", "WANTED"], &rows);
        }
        for why in &self.skipped {
            text += &format!("not measured: {why}\n");
        }
        text
    }
}

fn times<const N: usize>(rows: [(&str, Option<Times>); N]) -> String {
    let shown = rows.into_iter().filter_map(|(what, times)| times.map(|times| (what, times)));
    let rows: Vec<Vec<String>> = shown
        .map(|(what, times)| {
            let ms = |ms: f64| if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.0}") };
            let (min, p50, p99) = (ms(times.min_ms), ms(times.p50_ms), ms(times.p99_ms));
            vec![what.to_owned(), min, p50, p99, times.rounds.to_string()]
        })
        .collect();
    show::table(&["", "MIN MS", "P50 MS", "P99 MS", "ROUNDS"], &rows)
}

/// `1/8.3` reads better than 0.12.
fn fraction(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.8 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_come_from_what_was_measured_in_this_run() {
        let times = |ms: f64| Some(Times { rounds: 1, min_ms: ms, p50_ms: ms, p99_ms: ms });
        let mut report = Report::default();
        report.engines.push(EngineReport {
            engine: EngineKind::Container,
            isolation: None,
            create_cold: times(20.0),
            create_template: None,
            create_warm: None,
            run_cli: None,
            exec_library: times(1.0),
            guest_fork_exec_ms: Some(0.5),
            exec_cli: times(5.0),
            mcp: None,
            pause: None,
            resume: None,
            idle_memory_bytes: None,
            at_once: None,
            sync: None,
        });
        report.compare();
        assert_eq!(report.ratios, [], "there is no peer");
        report.peers.push(PeerReport {
            peer: "podman",
            version: "4".into(),
            run: times(200.0),
            exec: times(100.0),
        });
        report.compare();
        let ratios: Vec<f64> = report.ratios.iter().map(|ratio| ratio.ratio).collect();
        assert_eq!(ratios, [0.1, 0.05]);
        let table = report.table();
        assert!(table.contains("1/10.0") && table.contains("at most 1/8.0"), "{table}");
    }
}
