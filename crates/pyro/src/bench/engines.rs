//! One engine at a time, through the library and through the command line.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_contract::environment::EnvironmentRef;
use pyro_contract::exec::ExecRequest;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::progress::{Progress, Report};
use pyro_contract::template::{PrepareRequest, TemplateState};
use pyro_contract::workspace::{CreateRequest, EngineKind, Isolation, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{ExecEvent, Interrupt, Pyro, Watch};
use serde::Serialize;
use tokio::process::Command;
use tokio::sync::Notify;

use super::{Rounds, Times, mcp, timed};

/// How many machines are created at once.
const AT_ONCE: u64 = 10;

/// How long a warm machine may take to be there.
const WARM_PATIENCE: Duration = Duration::from_secs(120);

/// What is measured with.
pub(super) struct Bench<'a> {
    pub(super) with_templates: Pyro,
    pub(super) without_templates: Pyro,
    pub(super) environment: EnvironmentRef,
    pub(super) program: &'a Path,
    pub(super) rounds: Rounds,
    pub(super) watch: &'a Watch,
}

/// What came of an engine.
#[derive(Debug, Serialize)]
pub(crate) struct EngineReport {
    pub(crate) engine: EngineKind,
    pub(crate) isolation: Option<Isolation>,
    /// From the request until the first command has ended, the machine booted.
    pub(crate) create_cold: Option<Times>,
    /// The same, the machine restored from a template.
    pub(crate) create_template: Option<Times>,
    /// The same, the machine taken from those that wait warm.
    pub(crate) create_warm: Option<Times>,
    /// `pyro run ENV -- true`, from start to end, deletion included.
    pub(crate) run_cli: Option<Times>,
    /// `true` through the library, one after the other.
    pub(crate) exec_library: Option<Times>,
    /// Fork and exec of `true` by a shell in the guest, in milliseconds: what is left if nothing is
    /// asked for from outside.
    pub(crate) guest_fork_exec_ms: Option<f64>,
    /// `pyro workspace exec WS -- true`.
    pub(crate) exec_cli: Option<Times>,
    /// `true` as a tool call.
    pub(crate) mcp: Option<mcp::McpReport>,
    pub(crate) pause: Option<Times>,
    pub(crate) resume: Option<Times>,
    /// An idle workspace's share of memory, supervisor included, in bytes.
    pub(crate) idle_memory_bytes: Option<u64>,
    pub(crate) at_once: Option<AtOnce>,
    /// A tree of small files, pushed and pushed again.
    pub(crate) sync: Option<super::sync::SyncReport>,
}

/// Several creates at the same time.
#[derive(Debug, Serialize)]
pub(crate) struct AtOnce {
    pub(crate) creates: u64,
    pub(crate) wall_ms: f64,
    /// Processor time of one create by itself: client, supervisor and machine.
    pub(crate) cpu_of_one_ms: f64,
}

impl Bench<'_> {
    /// Everything about one engine, or why it cannot run here.
    pub(super) async fn engine(
        &self,
        engine: EngineKind,
    ) -> Result<std::result::Result<EngineReport, String>> {
        let cold = match self.creates(&self.without_templates, engine, self.rounds.few).await {
            Ok(cold) => cold,
            Err(error) if error.code == ErrorCode::MissingDependency => {
                return Ok(Err(error.message));
            }
            Err(error) => return Err(error),
        };
        let request = PrepareRequest {
            environment: self.environment.clone(),
            engine: Some(engine.into()),
            warm: Some(1),
            ..PrepareRequest::default()
        };
        let prepared = self.with_templates.prepare(&request, self.watch).await?;
        let has_templates =
            matches!(prepared.template, TemplateState::Made | TemplateState::Present);
        let template = match has_templates {
            true => self.creates(&self.with_templates, engine, self.rounds.some).await?,
            false => None,
        };
        let warm = match self.warm(&request, engine).await {
            Err(error) if error.code == ErrorCode::Unsupported => None,
            measured => measured?,
        };
        let words = ["run", self.environment.as_str(), "--engine", engine.as_str()];
        let run_cli = self.cli(&words).await?;
        let mut report = EngineReport {
            engine,
            isolation: None,
            create_cold: cold,
            create_template: template,
            create_warm: warm,
            run_cli,
            exec_library: None,
            guest_fork_exec_ms: None,
            exec_cli: None,
            mcp: None,
            pause: None,
            resume: None,
            idle_memory_bytes: None,
            at_once: None,
            sync: None,
        };
        self.alive(engine, &mut report).await?;
        report.at_once = Some(self.at_once(engine).await?);
        report.sync = Some(self.sync(engine).await?);
        Ok(Ok(report))
    }

    fn request(&self, engine: EngineKind) -> CreateRequest {
        CreateRequest {
            engine: Some(engine.into()),
            ..CreateRequest::new(self.environment.clone())
        }
    }

    /// Creates, runs a first command, deletes; the time of the first two.
    async fn creates(&self, pyro: &Pyro, engine: EngineKind, rounds: u32) -> Result<Option<Times>> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let (status, took) = timed(self.create(pyro, engine)).await?;
            times.push(took);
            pyro.delete(&reference(&status)).await?;
        }
        Ok(Times::of(times))
    }

    pub(super) async fn create(&self, pyro: &Pyro, engine: EngineKind) -> Result<WorkspaceStatus> {
        let status = pyro.create(self.request(engine), self.watch).await?;
        nothing(pyro, &reference(&status)).await?;
        Ok(status)
    }

    /// The same with a machine that waits.
    async fn warm(&self, request: &PrepareRequest, engine: EngineKind) -> Result<Option<Times>> {
        let (heard, interrupt) = (Arc::new(Heard::default()), Interrupt::default());
        let watch = Watch::new(Arc::clone(&heard) as Arc<dyn Progress>, interrupt.clone());
        let (pyro, request) = (self.with_templates.clone(), request.clone());
        let mut keeping = tokio::spawn(async move { pyro.keep_warm(&request, &watch).await });
        let (mut times, mut ended) = (Vec::new(), None);
        for _ in 0..self.rounds.some {
            // Without one that waits, there is nothing to measure.
            tokio::select! {
                heard = tokio::time::timeout(WARM_PATIENCE, heard.0.notified()) => {
                    if heard.is_err() {
                        break;
                    }
                }
                kept = &mut keeping => {
                    ended = Some(kept);
                    break;
                }
            }
            let (status, took) = timed(self.create(&self.with_templates, engine)).await?;
            times.push(took);
            self.with_templates.delete(&reference(&status)).await?;
        }
        interrupt.trigger();
        let kept = match ended {
            Some(kept) => kept,
            None => keeping.await,
        };
        let kept = kept.map_err(|error| {
            Error::new(ErrorCode::Internal, "a background task failed")
                .with_cause(error.to_string())
        })?;
        kept.map(|()| Times::of(times))
    }

    /// What a workspace does that is there.
    async fn alive(&self, engine: EngineKind, report: &mut EngineReport) -> Result<()> {
        let pyro = &self.with_templates;
        let status = self.create(pyro, engine).await?;
        let workspace = reference(&status);
        report.isolation = status.isolation;
        let mut times = Vec::new();
        for _ in 0..self.rounds.many {
            times.push(timed(nothing(pyro, &workspace)).await?.1);
        }
        report.exec_library = Times::of(times);
        report.guest_fork_exec_ms = Some(self.fork_exec(pyro, &workspace).await?);
        report.exec_cli = self.cli(&["workspace", "exec", workspace.as_str()]).await?;
        let mcp = mcp::measure(pyro, self.program, &workspace, self.rounds.many).await?;
        report.mcp = Some(mcp);
        let (mut pauses, mut resumes) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.some {
            match timed(pyro.pause(&workspace)).await {
                Ok((_, took)) => pauses.push(took),
                Err(error) if error.code == ErrorCode::Unsupported => break,
                Err(error) => return Err(error),
            }
            resumes.push(timed(pyro.resume(&workspace)).await?.1);
        }
        (report.pause, report.resume) = (Times::of(pauses), Times::of(resumes));
        let idle = self.create(pyro, engine).await?;
        let usage = pyro.status(&reference(&idle)).await?.usage;
        report.idle_memory_bytes = usage.map(|usage| usage.memory_bytes);
        pyro.delete(&reference(&idle)).await?;
        pyro.delete(&workspace).await?;
        Ok(())
    }

    /// As the guest itself counts it, over many.
    async fn fork_exec(&self, pyro: &Pyro, workspace: &WorkspaceRef) -> Result<f64> {
        let rounds = self.rounds.many;
        let script = format!("i=0; while [ $i -lt {rounds} ]; do /bin/true; i=$((i+1)); done");
        let mut session = pyro.exec(workspace, &ExecRequest::new(["sh", "-c", &script])).await?;
        while let Some(event) = session.output.next().await? {
            if let ExecEvent::Exit(outcome) = event {
                return Ok(outcome.duration_ms as f64 / f64::from(rounds));
            }
        }
        Err(Error::new(ErrorCode::MachineFailed, "a loop of `true` did not come to its end"))
    }

    async fn at_once(&self, engine: EngineKind) -> Result<AtOnce> {
        let pyro = &self.with_templates;
        let before = own_cpu();
        let one = self.create(pyro, engine).await?;
        let client = own_cpu().saturating_sub(before);
        let rest = pyro.status(&reference(&one)).await?.usage.map_or(0, |usage| usage.cpu_ms);
        pyro.delete(&reference(&one)).await?;
        let begun = Instant::now();
        let mut creates = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (pyro, request) = (pyro.clone(), self.request(engine));
            creates.spawn(async move {
                let status = pyro.create(request, &Watch::default()).await?;
                nothing(&pyro, &reference(&status)).await?;
                Ok::<_, Error>(status)
            });
        }
        let mut made = Vec::new();
        let mut failed = None;
        while let Some(created) = creates.join_next().await {
            match created {
                Ok(Ok(status)) => made.push(status),
                Ok(Err(error)) => failed = Some(error),
                Err(error) => failed = Some(Error::new(ErrorCode::Internal, error.to_string())),
            }
        }
        let wall = begun.elapsed();
        for status in made {
            pyro.delete(&reference(&status)).await?;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(AtOnce {
                creates: AT_ONCE,
                wall_ms: wall.as_secs_f64() * 1000.0,
                cpu_of_one_ms: client.as_secs_f64() * 1000.0 + rest as f64,
            }),
        }
    }

    /// `pyro WORDS -- true`, as a user would type it.
    async fn cli(&self, words: &[&str]) -> Result<Option<Times>> {
        let mut times = Vec::new();
        for _ in 0..self.rounds.some {
            let mut command = Command::new(self.program);
            command.arg("--quiet").args(words).args(["--", "true"]);
            times.push(command_time(command).await?);
        }
        Ok(Times::of(times))
    }
}

/// How long a command takes, which must succeed.
pub(super) async fn command_time(mut command: Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = command.output().await.map_err(|error| {
        Error::io(format!("cannot run {:?}", command.as_std().get_program()), &error)
    })?;
    let took = begun.elapsed();
    if output.status.success() {
        return Ok(took);
    }
    let program = command.as_std().get_program().to_owned();
    Err(Error::new(ErrorCode::MachineFailed, format!("{program:?} failed: {}", output.status))
        .with_cause(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        .with_hint("nothing can be measured with it; `pyro doctor` checks this host"))
}

pub(super) fn reference(status: &WorkspaceStatus) -> WorkspaceRef {
    WorkspaceRef::Id(status.id.clone())
}

/// Runs a command that does nothing.
async fn nothing(pyro: &Pyro, workspace: &WorkspaceRef) -> Result<()> {
    let mut session = pyro.exec(workspace, &ExecRequest::new(["true"])).await?;
    while let Some(event) = session.output.next().await? {
        if let ExecEvent::Exit(outcome) = event
            && outcome.exit_code != Some(0)
        {
            return Err(Error::new(ErrorCode::MachineFailed, "`true` failed in a workspace")
                .with_cause(format!("{outcome:?}")));
        }
    }
    Ok(())
}

/// Processor time of this process and of its children that have ended: fields 14 to 17 of
/// proc_pid_stat(5), in hundredths of a second on every Linux that pyro runs on.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Hears that a machine is warm.
#[derive(Default)]
struct Heard(Notify);

impl Progress for Heard {
    fn report(&self, report: Report) {
        if report.stage.contains("warm") {
            self.0.notify_one();
        }
    }
}
