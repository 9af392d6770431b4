//! Bringing a supervisor to life: handing over the lock, listening until it is ready, letting go.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use pyro_contract::env_vars::{PYRO_HOME, PYRO_LOG};
use pyro_contract::name::WorkspaceId;
use pyro_contract::progress::Progress as _;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::Pyro;
use crate::home::Home;
use crate::lock::Lock;
use crate::protocol::{Birth, KEEP};
use crate::supervisor::Boot;
use crate::warm::{Gift, Reserved};
use crate::watch::{Watch, interrupted};

/// The number under which the supervisor finds the workspace's lock.
const LOCK_FD: i32 = 3;

/// What a supervisor inherits of its first client's environment, which may hold that user's secrets.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", PYRO_LOG, "RUST_BACKTRACE"];

/// A supervisor that cannot undo what it began within this is ended by force.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A supervisor that is ready, but still ends with its parent.
pub(super) struct Newborn {
    lifeline: pipe::Sender,
    /// Ends when the supervisor does.
    words: BufReader<pipe::Receiver>,
    /// Absent if it is a warm one, whose parent is another.
    child: Option<Child>,
}

/// Gives a process of pyro's own what it needs of this one's environment, and no more.
pub(super) fn pass_on(command: &mut Command, home: &Home) {
    command
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env(PYRO_HOME, home.root());
}

/// What a supervisor has to do with its client: its standard streams, both ends.
struct Streams {
    input: OwnedFd,
    output: OwnedFd,
    log: OwnedFd,
    lifeline: pipe::Sender,
    words: BufReader<pipe::Receiver>,
}

impl Streams {
    fn new(pyro: &Pyro, id: &WorkspaceId) -> Result<Self> {
        let log_path = pyro.home.workspace(id).log_file();
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(|error| Error::io(format!("cannot create {}", log_path.display()), &error))?;
        let pipes = || -> io::Result<Self> {
            let (input, lifeline) = io::pipe()?;
            let (words, output) = io::pipe()?;
            Ok(Self {
                input: input.into(),
                output: output.into(),
                log: log.into(),
                lifeline: pipe::Sender::from_owned_fd(lifeline.into())?,
                words: BufReader::new(pipe::Receiver::from_owned_fd(words.into())?),
            })
        };
        pipes().map_err(|error| Error::io("cannot make a pipe", &error))
    }
}

/// Spawns a supervisor and waits until its machine answers. If that fails, or is interrupted, the
/// supervisor is gone when this returns, and has settled the workspace.
pub(super) async fn give(
    pyro: &Pyro,
    id: &WorkspaceId,
    lock: Lock,
    boot: &Boot,
    ephemeral: bool,
    watch: &Watch,
) -> Result<Newborn> {
    let program = &pyro.supervisor;
    let internal = |error: serde_json::Error| Error::new(ErrorCode::Internal, error.to_string());
    let orders = serde_json::to_string(boot).map_err(internal)?;
    let settings = serde_json::to_string(pyro.settings()).map_err(internal)?;
    let Streams { input, output, log, lifeline, words } = Streams::new(pyro, id)?;
    let mut command = Command::new(program);
    command
        .arg("supervise")
        .args(["--id", id.as_str(), "--lock-fd", &LOCK_FD.to_string(), "--boot", &orders])
        .args(["--settings", &settings])
        .args(ephemeral.then_some("--ephemeral"))
        .args(pyro.home.client().map(|name| format!("--client={}", name.as_str())))
        .current_dir("/")
        .stdin(input)
        .stdout(output)
        .stderr(log);
    pass_on(&mut command, &pyro.home);
    command
        .fd_mappings(vec![FdMapping { parent_fd: lock.share()?, child_fd: LOCK_FD }])
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let child = command.spawn().map_err(|error| {
        Error::io(format!("cannot start the supervisor {}", program.display()), &error)
    })?;
    drop(command); // and with it our copies of the shared lock and of its streams
    drop(lock);
    Newborn { lifeline, words, child: Some(child) }.until_ready(watch).await
}

/// The same with a machine that is there already.
pub(super) async fn give_warm(
    pyro: &Pyro,
    id: &WorkspaceId,
    lock: Lock,
    reserved: Reserved,
    ephemeral: bool,
    watch: &Watch,
) -> Result<Newborn> {
    let Streams { input, output, log, lifeline, words } = Streams::new(pyro, id)?;
    let client = pyro.home.client().cloned();
    let gift = Gift { id: id.clone(), ephemeral, client, lock: lock.share()?, input, output, log };
    reserved.give(&gift).map_err(|error| Error::io("the warm machine is gone", &error))?;
    drop((gift, lock));
    Newborn { lifeline, words, child: None }.until_ready(watch).await
}

/// Reads what a supervisor says until it is ready or has failed.
async fn listen(words: &mut BufReader<pipe::Receiver>, watch: &Watch) -> Result<()> {
    let mut lines = words.take(1 << 20).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Birth::Stage(stage)) => watch.stage(&stage),
            Ok(Birth::Ready) => return Ok(()),
            Ok(Birth::Failed(error)) => return Err(error),
            Ok(Birth::Warm { .. }) | Err(_) => {}
        }
    }
    Err(Error::new(
        ErrorCode::MachineFailed,
        "the workspace's supervisor ended before it was ready",
    )
    .with_hint("try again; `pyro doctor` checks what this host offers"))
}

impl Newborn {
    async fn until_ready(mut self, watch: &Watch) -> Result<Self> {
        let ready = tokio::select! {
            ready = listen(&mut self.words, watch) => ready,
            () = watch.interrupt().triggered() => Err(interrupted()),
        };
        match ready {
            Ok(()) => Ok(self),
            Err(error) => {
                self.end().await;
                Err(error)
            }
        }
    }

    /// Lets it live on its own.
    pub(super) async fn keep(mut self) -> Result<()> {
        self.hold().await
    }

    /// Tells it that its workspace is known; an ephemeral one still ends with this process.
    pub(super) async fn hold(&mut self) -> Result<()> {
        self.lifeline
            .write_all(KEEP)
            .await
            .map_err(|error| Error::io("the workspace's supervisor ended just now", &error))
    }

    /// Cuts the lifeline and waits until the workspace is settled.
    pub(super) async fn end(self) {
        let Self { lifeline, mut words, child } = self;
        drop(lifeline);
        let mut ended = tokio::io::sink();
        let silent = tokio::io::copy(&mut words, &mut ended);
        if tokio::time::timeout(END_PATIENCE, silent).await.is_err()
            && let Some(mut child) = child
        {
            // What it leaves is settled by whoever looks next.
            let _ = child.kill().await;
        }
    }
}
