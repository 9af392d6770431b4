//! The supervisor: one process per started workspace, owner of its machine, journal and record.
//!
//! Its life: take over the workspace's lock from the client that spawned it, open the journal,
//! listen on the control socket, launch the machine and make it unique, say `ready`, serve until
//! something ends the run, write down how it ended. If it dies at any point the lock is free and
//! the machine dead, and the next client settles the record (`reconcile.rs`).

mod commands;
mod exec;
mod files;
mod follow;
mod hold;
#[cfg(test)]
mod hostile;
mod lifeline;
mod newborn;
mod overdue;
mod server;
mod shell;
mod sync;
mod tree;
mod update;
mod vigil;
pub mod warm;

pub(crate) use shell::at_rest as shells_at_rest;

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pyro_contract::journal::{ClientName, EventKind, StopReason};
use pyro_contract::limits::WorkspaceLimits;
use pyro_contract::name::WorkspaceId;
use pyro_contract::workspace::{Shape, WorkspaceState};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::{Exit, Image, Machine, MachineSpec};
use tokio::sync::{RwLock, watch};

use crate::agent::Agent;
use crate::caller::Caller;
use crate::engines;
use crate::home::{Home, WorkspaceDir};
use crate::journal::{self, Journal};
use crate::lock::Lock;
use crate::protocol::{Birth, StopMode};
use crate::record::{ProcessId, Record, Run};
use crate::settings::Settings;
use crate::watch::interrupted;
use lifeline::Lifeline;
use newborn::{Newborn, died};

/// How long processes get between SIGTERM and SIGKILL when the workspace is stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the whole orderly end may take before the machine is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How long sessions have to pass on how their commands ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a new supervisor is told by the process that spawns it.
#[derive(Debug)]
pub struct Orders {
    /// PYRO_HOME.
    pub home: Home,
    /// Which workspace.
    pub id: WorkspaceId,
    /// The workspace's lock, held.
    pub lock: OwnedFd,
    /// Delete the workspace once its client is gone (`pyro run`).
    pub ephemeral: bool,
    /// The environment's files.
    pub boot: Boot,
    /// The settings of whoever started it.
    pub settings: Settings,
    /// What he calls himself.
    pub client: Option<ClientName>,
}

/// What a machine boots from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Boot {
    /// Kernel, an ELF.
    pub kernel: std::path::PathBuf,
    /// Initial ramdisk with the agent.
    pub initramfs: std::path::PathBuf,
    /// Root filesystem.
    pub environment: std::path::PathBuf,
    /// A machine to go on from instead of booting one. The storage is already a clone of its.
    #[serde(default)]
    pub template: Option<Frozen>,
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Frozen {
    /// Where it lies.
    pub directory: std::path::PathBuf,
    /// Its name in the store.
    pub digest: pyro_contract::environment::Digest,
}

/// Why a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// Somebody asked.
    Asked(StopMode, Caller),
    /// Its time is up.
    TimeToLive,
    /// The client of an ephemeral workspace is gone.
    Orphaned,
    /// The machine ended by itself.
    Machine(Exit),
}

/// What the parts of a running supervisor share.
struct Shared {
    agent: Agent,
    machine: Arc<dyn Machine>,
    journal: Journal,
    env: Vec<pyro_contract::name::EnvVar>,
    shape: Shape,
    limits: WorkspaceLimits,
    /// The commands that run now.
    commands: commands::Running,
    /// Who waits for a command.
    vigil: vigil::Vigil,
    ending: Endings,
    /// When its time to live is up.
    deadline: watch::Sender<Option<tokio::time::Instant>>,
    updates: update::Asking,
    /// Who asks for the machine to be held still, or to go on.
    holds: hold::Asking,
    /// Held for reading by whoever reads the frozen disk; an orderly end waits for them.
    freezes: RwLock<()>,
    /// Held for reading by the session of each command, so that it can still say how that ended.
    sessions: RwLock<()>,
    /// Held by whoever syncs: one after the other.
    syncs: tokio::sync::Mutex<()>,
    /// Terminals that outlive their clients.
    shells: shell::Shells,
    /// Why the machine died, once it has.
    obituary: watch::Sender<Option<Error>>,
}

impl Shared {
    /// Enters something that has happened in the journal. That it cannot be entered undoes nothing.
    async fn note(&self, kind: EventKind, caller: &Caller) {
        if let Err(error) = self.journal.record(kind, caller).await {
            tracing::warn!(%error, "an event could not be entered in the journal");
        }
    }
}

/// Where the first reason to end is kept.
type Endings = watch::Sender<Option<Ending>>;

/// Runs a supervisor to its end. Returns once the workspace is at rest.
pub async fn supervise(orders: Orders) -> Result<()> {
    // Leave the client's terminal and process group: its Ctrl-C is not ours.
    let _ = rustix::process::setsid();
    own(orders, None).await
}

/// The same, for a workspace whose machine may be there already.
async fn own(orders: Orders, warm: Option<Newborn>) -> Result<()> {
    let Orders { home, id, lock, ephemeral, boot, settings, client } = orders;
    let home = home.for_client(client);
    let lock = Lock::inherited(lock)?;
    let dir = home.workspace(&id);
    let mut record = Record::load(&dir)?;
    let born = record.state == WorkspaceState::Creating;

    let before = (record.state, record.error.clone());
    let endings = Endings::new(None);
    let mut orphaned = endings.subscribe();
    let lifeline = Lifeline::watch(ephemeral, endings.clone());

    let means = Means { home: &home, boot: &boot, settings: &settings, warm };
    let begun = tokio::select! {
        begun = begin(means, &dir, &mut record, endings) => begun,
        _ = orphaned.wait_for(Option::is_some) => Err(interrupted()),
    };
    let (shared, listener) = match begun {
        Ok(parts) => parts,
        Err(error) => {
            // Settled first: whoever hears of it may look at once.
            settle_failed_start(&dir, &mut record, born, before, &error);
            say(&Birth::Failed(error.clone()));
            return Err(error);
        }
    };
    shared.shells.forget_earlier(&shared).await;
    if born {
        let created = EventKind::Created {
            environment: record.environment.to_string(),
            engine: record.engine.to_string(),
        };
        shared.note(created, dir.caller()).await;
    }
    shared.note(EventKind::Started, dir.caller()).await;
    say(&Birth::Ready);

    let machine = Arc::clone(&shared.machine);
    let mut server = std::pin::pin!(server::serve(listener, Arc::clone(&shared)));
    let mut vigil = std::pin::pin!(vigil::keep(&shared));
    let mut holds = shared.holds.listen();
    let mut updates = shared.updates.listen();
    let mut ending = std::pin::pin!(wait_for_ending(&shared, machine.as_ref()));
    let ending = loop {
        tokio::select! {
            ending = &mut ending => break ending,
            asked = holds.recv() => {
                let workspace = hold::Workspace { dir: &dir, shared: &shared, machine: &*machine };
                workspace.answer(asked, &mut record).await;
            }
            Some(asked) = updates.recv() => {
                update::answer(asked, &dir, &shared, &mut record).await;
            }
            error = &mut server => return Err(error),
            () = &mut vigil => {}
        }
    };
    tracing::info!(?ending, "the run ends");
    let discard = ephemeral || matches!(ending, Ending::Asked(StopMode::Discard, _));
    let unwanted = lifeline.unwanted(&ending);
    finish(&dir, &mut record, &shared, machine.as_ref(), ending, discard || unwanted).await?;
    let _ = fs::remove_file(dir.socket_file());
    if ephemeral || unwanted {
        dir.remove()?;
    }
    drop(lock);
    Ok(())
}

type Parts = (Arc<Shared>, tokio::net::UnixListener);

/// What a machine is made with.
struct Means<'a> {
    home: &'a Home,
    boot: &'a Boot,
    settings: &'a Settings,
    /// The machine, if it is there already.
    warm: Option<Newborn>,
}

/// From a record at rest to a machine that answers.
async fn begin(
    means: Means<'_>,
    dir: &WorkspaceDir,
    record: &mut Record,
    ending: Endings,
) -> Result<Parts> {
    let Means { home, boot, settings, warm } = means;
    let engine = engines::of(record.engine, &settings.programs);
    // From here on others see that the workspace is on its way up, and who to end if that hangs.
    record.run = Some(Run {
        supervisor: ProcessId::own()
            .ok_or_else(|| Error::new(ErrorCode::Internal, "cannot read /proc/self"))?,
        machine: None,
        isolation: engine.isolation(),
        kernel_release: None,
        stops_at: None,
    });
    record.save(dir)?;
    crate::record::reserve(dir);
    let journal = Journal::open(&dir.journal_file(), dir.activity_file(), settings.journal)?;
    let listener = server::bind(dir)?;
    let runtime_dir = dir.runtime_dir();
    let _ = fs::remove_dir_all(&runtime_dir);
    fs::create_dir(&runtime_dir)
        .map_err(|error| Error::io(format!("cannot create {}", runtime_dir.display()), &error))?;

    let spec = MachineSpec {
        image: Image {
            kernel: boot.kernel.clone(),
            initramfs: boot.initramfs.clone(),
            environment: boot.environment.clone(),
        },
        storage: dir.storage(),
        runtime_dir,
        cache_dir: home.derived(),
        vcpu_count: record.shape.vcpu_count,
        mem_mib: record.shape.mem_mib,
        run_as: machine_user(record.id.as_str()),
    };
    let mut newborn = match warm {
        Some(newborn) => newborn,
        None => Newborn::bring_up(&*engine, &spec, boot, home, record.shape.disk_mib).await?,
    };
    if let Some(run) = &mut record.run {
        let process = newborn.machine.process();
        run.machine = process.map(|(pid, start_time)| ProcessId { pid, start_time });
    }
    record.save(dir)?;

    let hostname = record.name.as_ref().map_or(record.id.as_str(), |name| name.as_str());
    let greeting =
        newborn.adopt(&dir.baseline_file(), (hostname, record.limits), boot, home).await?;
    let Newborn { machine, agent, .. } = newborn;

    if let Some(run) = &mut record.run {
        run.kernel_release = Some(greeting.kernel_release);
        run.stops_at = crate::update::stops_at(record.ttl_seconds);
    }
    record.state = WorkspaceState::Started;
    record.error = None;
    record.save(dir)?;
    let shared = Arc::new(Shared {
        agent,
        machine: Arc::from(machine),
        journal,
        env: record.env.clone(),
        shape: record.shape,
        limits: record.limits,
        commands: commands::Running::default(),
        vigil: vigil::Vigil::default(),
        ending,
        deadline: watch::Sender::new(update::deadline(record.ttl_seconds)),
        updates: update::Asking::default(),
        holds: hold::Asking::default(),
        freezes: RwLock::new(()),
        sessions: RwLock::new(()),
        syncs: tokio::sync::Mutex::new(()),
        shells: shell::Shells::new(dir),
        obituary: watch::Sender::new(None),
    });
    Ok((shared, listener))
}

/// The time to live counts from the start, whether the machine is held still meanwhile or not.
async fn wait_for_ending(shared: &Shared, machine: &dyn Machine) -> Ending {
    let mut asked = shared.ending.subscribe();
    let time_to_live = async {
        let mut deadline = shared.deadline.subscribe();
        loop {
            let until = *deadline.borrow_and_update();
            let up = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = up => return,
                changed = deadline.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    };
    tokio::select! {
        exit = machine.exited() => Ending::Machine(exit),
        () = time_to_live => Ending::TimeToLive,
        ending = asked.wait_for(Option::is_some) => {
            ending.ok().and_then(|ending| ending.clone()).unwrap_or(Ending::Orphaned)
        }
    }
}

/// Ends the machine as the ending demands, and writes down what became of it.
async fn finish(
    dir: &WorkspaceDir,
    record: &mut Record,
    shared: &Shared,
    machine: &dyn Machine,
    ending: Ending,
    discard: bool,
) -> Result<()> {
    let was_held = record.state == WorkspaceState::Paused;
    record.state = WorkspaceState::Stopped;
    record.error = None;
    let (reason, caller) = match &ending {
        Ending::Asked(_, caller) => (StopReason::Asked, caller.clone()),
        Ending::TimeToLive => (StopReason::TimeToLive, Caller::default()),
        Ending::Orphaned => (StopReason::Orphaned, Caller::default()),
        Ending::Machine(_) => (StopReason::PoweredOff, Caller::default()),
    };
    match ending {
        Ending::Machine(Exit::PoweredOff) => {}
        Ending::Machine(exit @ Exit::Died(_)) => {
            let error = died(&exit);
            shared.obituary.send_replace(Some(error.clone()));
            record.state = WorkspaceState::Failed;
            record.error = Some(error);
        }
        Ending::Asked(..) | Ending::Orphaned if discard => machine.kill(STOP_PATIENCE).await,
        Ending::Asked(..) | Ending::Orphaned | Ending::TimeToLive => {
            if was_held && let Err(error) = machine.resume().await {
                tracing::warn!(%error, "a machine held still does not go on");
            }
            shared.shells.hang_up("the workspace was stopped").await;
            if let Err(error) = power_off(shared, machine).await {
                record.error = Some(error);
            }
            if reason == StopReason::TimeToLive {
                record.error.get_or_insert_with(|| {
                    Error::new(ErrorCode::Timeout, "its time to live ran out").with_hint(format!(
                        "`pyro workspace start {}` gives it as much again",
                        record.id
                    ))
                });
            }
        }
    }
    let over = match record.state {
        WorkspaceState::Failed => "the machine died",
        _ => "the workspace was stopped",
    };
    shared.shells.settle(over).await;
    record.run = None;
    record.save(dir)?;
    // Every session now learns how its command ended, and passes that on.
    let _ = tokio::time::timeout(LAST_WORDS, shared.sessions.write()).await;
    let kind = match (record.state, &record.error) {
        (WorkspaceState::Failed, Some(error)) => EventKind::Failed { error: error.clone() },
        (_, error) => EventKind::Stopped { reason, error: error.clone() },
    };
    shared.note(kind, &caller).await;
    Ok(())
}

/// An orderly end; if the guest does not play along, a hard one, which is reported.
async fn power_off(shared: &Shared, machine: &dyn Machine) -> Result<()> {
    let orderly = async {
        let _unread = shared.freezes.write().await;
        shared.agent.shutdown(STOP_GRACE).await
    };
    let outcome = tokio::time::timeout(STOP_PATIENCE, orderly).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorCode::Timeout,
            format!("the machine did not shut down within {} s", STOP_PATIENCE.as_secs()),
        ))
    });
    // The agent has answered once the disks were flushed and unmounted; what is left of the machine
    // has nothing more to lose.
    machine.kill(STOP_PATIENCE).await;
    outcome.map_err(|error| {
        error.with_hint("it was switched off; what it had not yet written to its disk is lost")
    })
}

/// A start that failed leaves a workspace at rest. One that never existed is removed instead, by
/// its creator or, if that is gone, here.
fn settle_failed_start(
    dir: &WorkspaceDir,
    record: &mut Record,
    born: bool,
    before: (WorkspaceState, Option<Error>),
    error: &Error,
) {
    let _ = fs::remove_file(dir.socket_file());
    let settled = if born {
        dir.remove()
    } else {
        (record.state, record.error) = match error.code {
            ErrorCode::Cancelled => before,
            _ => (WorkspaceState::Failed, Some(error.clone())),
        };
        record.run = None;
        if let Some(error) = &record.error {
            let kind = EventKind::Failed { error: error.clone() };
            if let Err(error) = journal::append(&dir.journal_file(), &kind, dir.caller()) {
                tracing::warn!(%error, "the failed start could not be entered in the journal");
            }
        }
        record.save(dir)
    };
    if let Err(error) = settled {
        tracing::warn!(%error, "the failed start could not be settled");
    }
}

/// Where the host side is root: a user id that no account has, the same for every run of one
/// workspace and, most likely, of no other: machines of different workspaces cannot reach each
/// other's processes.
pub(crate) fn machine_user(of: &str) -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| machine_uid(of))
}

fn machine_uid(of: &str) -> u32 {
    let hash = of.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193) // FNV-1a
    });
    0x6000_0000 | (hash & 0x00ff_ffff)
}

/// Tells the parent, if it still listens.
fn say(birth: &Birth) {
    if let Ok(mut line) = serde_json::to_vec(birth) {
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    }
}
