//! Bringing a supervisor to life: handing over the lock, listening until it is ready, letting go.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use pyro_contract::env_vars::{PYRO_HOME, PYRO_LOG};
use pyro_contract::name::WorkspaceId;
use pyro_contract::progress::Progress as _;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::Pyro;
use crate::home::Home;
use crate::lock::Lock;
use crate::protocol::{Birth, KEEP};
use crate::supervisor::Boot;
use crate::watch::{Watch, interrupted};

/// The number under which the supervisor finds the workspace's lock.
const LOCK_FD: i32 = 3;

/// What a supervisor inherits of its first client's environment, which may hold that user's secrets.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", PYRO_LOG, "RUST_BACKTRACE"];

/// A supervisor that cannot undo what it began within this is ended by force.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A supervisor that is ready, but still ends with its parent.
pub(super) struct Newborn {
    child: Child,
    lifeline: ChildStdin,
}

/// Gives a process of pyro's own what it needs of this one's environment, and no more.
pub(super) fn pass_on(command: &mut Command, home: &Home) {
    command
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env(PYRO_HOME, home.root());
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
    let (program, home) = (&pyro.supervisor, &pyro.home);
    let log_path = home.workspace(id).log_file();
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|error| Error::io(format!("cannot create {}", log_path.display()), &error))?;
    let internal = |error: serde_json::Error| Error::new(ErrorCode::Internal, error.to_string());
    let orders = serde_json::to_string(boot).map_err(internal)?;
    let settings = serde_json::to_string(pyro.settings()).map_err(internal)?;
    let mut command = Command::new(program);
    command
        .arg("supervise")
        .args(["--id", id.as_str(), "--lock-fd", &LOCK_FD.to_string(), "--boot", &orders])
        .args(["--settings", &settings])
        .args(ephemeral.then_some("--ephemeral"))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    pass_on(&mut command, home);
    command
        .fd_mappings(vec![FdMapping { parent_fd: lock.share()?, child_fd: LOCK_FD }])
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let mut child = command.spawn().map_err(|error| {
        Error::io(format!("cannot start the supervisor {}", program.display()), &error)
    })?;
    drop(command); // and with it our copy of the shared lock
    drop(lock);
    let (Some(lifeline), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::new(ErrorCode::Internal, "the supervisor has no pipes"));
    };
    let newborn = Newborn { child, lifeline };
    let ready = tokio::select! {
        ready = listen(BufReader::new(stdout), watch) => ready,
        () = watch.interrupt().triggered() => Err(interrupted()),
    };
    match ready {
        Ok(()) => Ok(newborn),
        Err(error) => {
            newborn.end().await;
            Err(error)
        }
    }
}

/// Reads what a supervisor says until it is ready or has failed.
async fn listen(stdout: BufReader<tokio::process::ChildStdout>, watch: &Watch) -> Result<()> {
    let mut lines = stdout.take(1 << 20).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Birth::Stage(stage)) => watch.stage(&stage),
            Ok(Birth::Ready) => return Ok(()),
            Ok(Birth::Failed(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Err(Error::new(
        ErrorCode::MachineFailed,
        "the workspace's supervisor ended before it was ready",
    )
    .with_hint("try again; `pyro doctor` checks what this host offers"))
}

impl Newborn {
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
    pub(super) async fn end(mut self) {
        drop(self.lifeline);
        if tokio::time::timeout(END_PATIENCE, self.child.wait()).await.is_err() {
            // What it leaves is settled by whoever looks next.
            let _ = self.child.kill().await;
        }
    }
}
