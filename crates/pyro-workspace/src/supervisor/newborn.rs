//! From a description to a machine that is unique and answers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pyro_contract::limits::WorkspaceLimits;
use pyro_contract::workspace::Isolation;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::{Engine, EngineError, Exit, Machine, MachineSpec};
use pyro_environment::Store;

use super::{Boot, Frozen, say};
use crate::agent::{Agent, Greeting};
use crate::home::Home;
use crate::protocol::Birth;

/// How long a machine may take from power-on to its agent's first word. Emulated on a busy host
/// this is tens of seconds at worst; a machine that hangs must not hang its user for longer.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);
/// How long a machine that only goes on may take to its agent's first word: a fraction of a second,
/// unless something is wrong with it, or the host is very busy.
const RESTORE_PATIENCE: Duration = Duration::from_secs(30);

/// A machine that belongs to nobody yet.
pub(super) struct Newborn {
    pub(super) machine: Box<dyn Machine>,
    pub(super) agent: Agent,
    /// It is held still.
    held: bool,
    /// It runs on the host's kernel.
    host_kernel: bool,
    patience: Duration,
}

impl Newborn {
    /// Brings a machine back from its template, or boots one. A template that is damaged is thrown
    /// away, and the machine boots.
    pub(super) async fn bring_up(
        engine: &dyn Engine,
        spec: &MachineSpec,
        boot: &Boot,
        home: &Home,
        disk_mib: u32,
    ) -> Result<Self> {
        let restored = match &boot.template {
            Some(template) => restore(engine, spec, template, home, disk_mib).await?,
            None => None,
        };
        let (machine, held, patience) = match restored {
            Some(machine) => (machine, true, RESTORE_PATIENCE),
            None => {
                say(&Birth::Stage("booting the machine".into()));
                (engine.launch(spec).await?, false, BOOT_PATIENCE)
            }
        };
        let agent = Agent::over(machine.connect().await?);
        let host_kernel = engine.isolation().is_some_and(Isolation::shares_kernel);
        Ok(Self { machine, agent, held, host_kernel, patience })
    }

    /// Gives the machine its baseline, lets it run, and makes it unique. If that fails, the template
    /// it came from is thrown away: whatever it was, the next machine shall not meet it again.
    pub(super) async fn adopt(
        &mut self,
        baseline: &Path,
        (hostname, limits): (&str, WorkspaceLimits),
        boot: &Boot,
        home: &Home,
    ) -> Result<Greeting> {
        self.machine.insert_baseline(baseline).await?;
        let adopted = tokio::select! {
            adopted = self.go_on(hostname, limits) => match adopted {
                Ok(greeting) => Ok(greeting),
                // The stream breaks a moment before the machine's end is known; that end says more.
                Err(error) => match tokio::time::timeout(
                    Duration::from_secs(1),
                    self.machine.exited(),
                ).await {
                    Ok(exit) => Err(died_early(&*self.machine, &exit)),
                    Err(_) => Err(with_console(error, &*self.machine)),
                },
            },
            exit = self.machine.exited() => Err(died_early(&*self.machine, &exit)),
        };
        self.held = false;
        if let (Err(_), Some(template)) = (&adopted, &boot.template) {
            discard(home, template);
        }
        adopted
    }

    /// Holds the machine still until it is adopted again.
    pub(super) async fn hold(&mut self) -> Result<()> {
        self.machine.pause().await?;
        self.held = true;
        Ok(())
    }

    async fn go_on(&self, hostname: &str, limits: WorkspaceLimits) -> Result<Greeting> {
        // The request is in the stream before the machine goes on, if it was held still.
        let (greeting, resumed) = tokio::join!(
            self.agent.adopt(hostname, limits, self.host_kernel, self.patience),
            async {
                match self.held {
                    true => self.machine.resume().await,
                    false => Ok(()),
                }
            }
        );
        resumed?;
        greeting
    }
}

async fn restore(
    engine: &dyn Engine,
    spec: &MachineSpec,
    template: &Frozen,
    home: &Home,
    disk_mib: u32,
) -> Result<Option<Box<dyn Machine>>> {
    say(&Birth::Stage("waking a machine".into()));
    match engine.restore(&template.directory, spec).await {
        Ok(machine) => return Ok(Some(machine)),
        Err(error @ EngineError::Template { .. }) => {
            tracing::warn!(%error, "the machine boots instead");
            discard(home, template);
        }
        Err(error) => return Err(error.into()),
    }
    // What was cloned fits that template's memory and no other.
    let anew = || -> std::io::Result<()> {
        fs::remove_file(&spec.storage)?;
        fs::remove_dir_all(&spec.runtime_dir)?;
        fs::create_dir(&spec.runtime_dir)
    };
    anew().map_err(|error| Error::io("cannot make the machine's files anew", &error))?;
    engine.create_storage(&spec.storage, disk_mib, &spec.cache_dir)?;
    Ok(None)
}

fn discard(home: &Home, template: &Frozen) {
    let discarded =
        Store::open(home.root()).and_then(|store| store.discard_template(&template.digest));
    if let Err(error) = discarded {
        tracing::warn!(%error, "the template could not be removed");
    }
}

fn died_early(machine: &dyn Machine, exit: &Exit) -> Error {
    let error = match exit {
        Exit::PoweredOff => with_console(
            Error::new(ErrorCode::MachineFailed, "the machine switched itself off while booting"),
            machine,
        ),
        Exit::Died(_) => died(exit),
    };
    // The agent says so if it is its own disk that it cannot use.
    if error.cause.as_ref().is_some_and(|cause| cause.contains("pyro-guest: fatal")) {
        return error.with_hint(
            "nothing is wrong with this host; what the machine needs on its own disk is damaged. \
             `pyro workspace export` may still get files out",
        );
    }
    error.with_hint("`pyro doctor` checks what this host offers")
}

/// What a dead machine said last is in its exit: QEMU's words and the console's.
pub(super) fn died(exit: &Exit) -> Error {
    let error = Error::new(ErrorCode::MachineFailed, "the machine died")
        .with_hint("its disk is kept: `pyro workspace start` starts it again");
    match exit {
        Exit::Died(said) if !said.is_empty() => error.with_cause(said),
        _ => error,
    }
}

fn with_console(error: Error, machine: &dyn Machine) -> Error {
    let console = machine.console_tail();
    if console.is_empty() {
        return error;
    }
    let last = format!("the console's last lines:\n{console}");
    let cause = error.cause.as_ref().map_or(last.clone(), |cause| format!("{cause}\n{last}"));
    error.with_cause(cause)
}
