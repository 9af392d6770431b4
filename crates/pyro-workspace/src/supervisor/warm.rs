//! A supervisor with a machine and without a workspace: it waits for one to be given.
//!
//! A machine from a template has been made unique, has run a command or two so that all it needs is
//! at hand, and is held still; one of an engine without templates was started, and its agent waits.
//! Once a workspace is given, this is a supervisor like any other. It ends with whoever keeps it,
//! unless it was given away before.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_contract::exec::ExecRequest;
use pyro_contract::limits::WorkspaceLimits;
use pyro_contract::workspace::{EngineKind, Seed, Shape};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::{Image, MachineSpec};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};

use super::newborn::{Newborn, died};
use super::{Boot, Orders, machine_user, own, say};
use crate::agent::Agent;
use crate::home::Home;
use crate::protocol::Birth;
use crate::settings::Settings;
use crate::warm::{Gift, SOCKET};
use crate::watch::Watch;
use crate::{engines, seed};

/// The machine's name until it has one.
const NAME: &str = "warm";

/// How long an agent may take that is only to be started.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a command may take that the machine is warmed up with.
const REHEARSAL: Duration = Duration::from_secs(30);

/// What a warm supervisor is told by whoever keeps it.
#[derive(Debug)]
pub struct WarmOrders {
    /// PYRO_HOME.
    pub home: Home,
    /// Where its files go, a directory that is there and empty.
    pub directory: PathBuf,
    /// A pipe whose other end the keeper holds.
    pub keeper: OwnedFd,
    /// What isolates.
    pub engine: EngineKind,
    /// The machine's size.
    pub shape: Shape,
    /// What it is made from.
    pub boot: Boot,
    /// The settings of whoever keeps it.
    pub settings: Settings,
}

/// Makes a machine, waits, and then runs the workspace that was given to its end.
pub async fn wait(orders: WarmOrders) -> Result<()> {
    let _ = rustix::process::setsid();
    let WarmOrders { home, boot, settings, .. } = &orders;
    let place = Place(orders.directory.clone());
    // Says that somebody is alive here.
    let lock = fs::File::open(&place.0).and_then(|directory| {
        directory.lock()?;
        Ok(directory)
    });
    let _alive = lock.map_err(io_error)?;
    let keeper = orders.keeper.try_clone().and_then(pipe::Receiver::from_owned_fd);
    let mut keeper = keeper.map_err(io_error)?;
    let waited = async {
        let newborn = warm_up(&orders).await?;
        let listener = bind(&place.0)?;
        let memory_bytes = newborn.machine.usage().await.map_or(0, |usage| usage.memory_bytes);
        say(&Birth::Warm { memory_bytes });
        tokio::select! {
            accepted = listener.accept() => Ok((newborn, accepted.map_err(io_error)?.0)),
            exit = newborn.machine.exited() => Err(died(&exit)),
        }
    };
    let (newborn, client) = tokio::select! {
        waited = waited => waited?,
        () = gone(&mut keeper) => return Ok(()),
    };
    // From here on it belongs to that client. Whoever else came is sent away by the listener's end.
    let _ = fs::remove_file(place.0.join(SOCKET));
    let Gift { id, ephemeral, client: giver, lock, input, output, log } = receive(client).await?;
    let take = || -> io::Result<()> {
        rustix::stdio::dup2_stdin(&input)?;
        rustix::stdio::dup2_stdout(&output)?;
        rustix::stdio::dup2_stderr(&log)?;
        fs::rename(place.0.join(DISK), home.workspace(&id).storage())
    };
    take().map_err(|error| Error::io("cannot take over the workspace", &error))?;
    drop((input, output, log));
    let (home, boot, settings) = (home.clone(), boot.clone(), settings.clone());
    let orders = Orders { home, id, lock, ephemeral, boot, settings, client: giver };
    let ended = own(orders, Some(newborn)).await;
    // The machine has its files there for as long as it lives.
    drop(place);
    ended
}

const DISK: &str = "disk";

/// The directory of a warm machine, which goes when this does.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn warm_up(orders: &WarmOrders) -> Result<Newborn> {
    let WarmOrders { home, directory, shape, boot, settings, .. } = orders;
    let engine = engines::of(orders.engine, &settings.programs);
    let baseline = directory.join("baseline.erofs");
    let spec = MachineSpec {
        image: Image {
            kernel: boot.kernel.clone(),
            initramfs: boot.initramfs.clone(),
            environment: boot.environment.clone(),
        },
        storage: directory.join(DISK),
        runtime_dir: directory.join("run"),
        cache_dir: home.derived(),
        vcpu_count: shape.vcpu_count,
        mem_mib: shape.mem_mib,
        run_as: machine_user(&directory.to_string_lossy()),
    };
    match &boot.template {
        Some(template) => engine.clone_storage(&template.directory, &spec.storage)?,
        None => engine.create_storage(&spec.storage, shape.disk_mib, &spec.cache_dir)?,
    }
    fs::create_dir(&spec.runtime_dir)
        .map_err(|error| Error::io("cannot make a directory for the machine", &error))?;
    let mut newborn = Newborn::bring_up(&*engine, &spec, boot, home, shape.disk_mib).await?;
    if boot.template.is_none() {
        newborn.agent.ping(START_PATIENCE).await?;
        return Ok(newborn);
    }
    seed::pack(&Seed::Empty, &baseline, directory, &Watch::default())?;
    newborn.adopt(&baseline, (NAME, WorkspaceLimits::default()), boot, home).await?;
    rehearse(&newborn.agent).await?;
    newborn.hold().await?;
    Ok(newborn)
}

/// An emulated machine translates what it runs for the first time.
async fn rehearse(agent: &Agent) -> Result<()> {
    for argv in [vec!["true"], vec!["sh", "-c", "ls / > /dev/null"]] {
        let mut request = ExecRequest::new(argv);
        request.timeout_seconds = Some(REHEARSAL.as_secs());
        let (_input, mut output) = agent.exec(&request, "/", &[], None).await?;
        let ended = async { while let Ok(Some(_)) = output.message().await {} };
        let _ = tokio::time::timeout(REHEARSAL, ended).await;
    }
    Ok(())
}

fn bind(directory: &Path) -> Result<UnixListener> {
    // By the open directory: a socket's path may have only 107 bytes (unix(7)).
    let open = fs::File::open(directory).map_err(io_error)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&open));
    UnixListener::bind(path).map_err(io_error)
}

/// Tells a client that the machine is his, and waits for his workspace. He may take his time; if he
/// goes away without, the machine goes too.
async fn receive(client: UnixStream) -> Result<Gift> {
    let client: StdUnixStream = client.into_std().map_err(io_error)?;
    let receive = move || {
        client.set_nonblocking(false)?;
        Gift::receive(&client)
    };
    tokio::task::spawn_blocking(receive)
        .await
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?
        .map_err(io_error)
}

/// Resolves when the other end of the pipe is closed.
async fn gone(keeper: &mut pipe::Receiver) {
    let mut byte = [0];
    loop {
        match tokio::io::AsyncReadExt::read(keeper, &mut byte).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn io_error(error: io::Error) -> Error {
    Error::io("a warm machine cannot be given away", &error)
}
