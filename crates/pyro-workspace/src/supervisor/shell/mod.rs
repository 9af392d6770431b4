//! Shells: programs on terminals that outlive whoever opened them.
//!
//! The supervisor owns what a shell has shown ([`ring::Ring`]) and its screen
//! ([`screen::Screen`]); clients come, read by cursor, type and go. A shell that nobody reads goes
//! on, and the oldest of its output is dropped.

mod attach;
mod cut;
mod one;
mod pump;
mod ring;
pub(super) mod routes;
mod scan;
mod screen;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_contract::exec::ExecRequest;
use pyro_contract::journal::EventKind;
use pyro_contract::shell::{OpenShell, ShellInfo, ShellRef, ShellState, TerminalSize};
use pyro_contract::{Error, ErrorCode, Result};

use super::Shared;
use super::exec::absolute;
use crate::caller::Caller;
use crate::home::WorkspaceDir;
use one::Shell;

/// Shells of one workspace that run or are kept for reading. Each holds up to [`ring::KEPT`] and a
/// screen.
const MOST: usize = 32;

/// How long a guest may take to start one.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long what runs in a shell gets to end by itself once it is closed: more than the agent
/// gives it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to write down that all have ended.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// All shells of a run.
pub(super) struct Shells {
    /// In the order of their opening.
    list: Mutex<Vec<Arc<Shell>>>,
    /// Where the list is kept for whoever asks once the workspace is at rest.
    file: PathBuf,
}

impl Shells {
    pub(super) fn new(dir: &WorkspaceDir) -> Self {
        Self { list: Mutex::default(), file: dir.shells_file() }
    }

    /// Closes the books of shells that a supervisor left which died. Those of earlier runs are gone.
    pub(super) async fn forget_earlier(&self, shared: &Shared) {
        for shell in kept(&self.file) {
            if shell.state == ShellState::Running {
                let error = Some("the machine ended while this shell ran".to_owned());
                let kind = EventKind::ShellClosed {
                    shell: shell.id.to_string(),
                    exit_code: None,
                    signal: None,
                    error,
                };
                shared.note(kind, &Caller::default()).await;
            }
        }
        let _ = std::fs::remove_file(&self.file);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Shell>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Vec<ShellInfo> {
        self.all().iter().map(|shell| shell.info()).collect()
    }

    /// A shell by its id or name. Of several with one name only the last may run.
    fn find(&self, reference: &ShellRef) -> Result<Arc<Shell>> {
        let all = self.all();
        let found = all.iter().rev().find(|shell| shell.is_called(reference));
        found.cloned().ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("there is no shell {:?}", reference.as_str()))
                .with_hint("`pyro workspace shell list` shows those that there are")
        })
    }

    /// Puts a shell on the list, or says why there is no place for it.
    fn enlist(&self, shell: &Arc<Shell>) -> Result<()> {
        let mut all = self.all();
        if let Some(name) = shell.name()
            && let Some(other) = all.iter().find(|s| s.name() == Some(name) && s.is_running())
        {
            return Err(Error::new(
                ErrorCode::AlreadyExists,
                format!("a shell named {name:?} runs already"),
            )
            .with_cause(format!("it is {}", other.id()))
            .with_hint("choose another name, or `pyro workspace shell close` that one"));
        }
        if all.len() >= MOST {
            let Some(oldest) = all.iter().position(|shell| !shell.is_running()) else {
                return Err(Error::new(
                    ErrorCode::TooLarge,
                    format!("{MOST} shells run in this workspace, which is the most there can be"),
                )
                .with_hint("`pyro workspace shell close` one of them"));
            };
            all.remove(oldest);
        }
        all.push(Arc::clone(shell));
        Ok(())
    }

    fn forget(&self, shell: &Arc<Shell>) {
        self.all().retain(|other| !Arc::ptr_eq(other, shell));
    }

    /// Keeps the list as it is now. A failure costs the list at rest, and nothing else.
    fn save(&self) {
        let partial = self.file.with_extension("partial");
        let saved =
            serde_json::to_vec(&self.list()).map_err(std::io::Error::from).and_then(|text| {
                std::fs::write(&partial, text)?;
                std::fs::rename(&partial, &self.file)
            });
        if let Err(error) = saved {
            tracing::warn!(%error, "cannot keep the list of shells");
        }
    }

    /// Hangs up every shell and waits until they have ended, at most for [`CLOSE_PATIENCE`].
    pub(super) async fn hang_up(&self, reason: &str) {
        let running: Vec<_> =
            self.all().iter().filter(|shell| shell.is_running()).cloned().collect();
        for shell in &running {
            shell.hang_up(reason);
        }
        let ended = futures_util::future::join_all(running.iter().map(|shell| shell.ended()));
        let _ = tokio::time::timeout(CLOSE_PATIENCE, ended).await;
    }

    /// Gives up what is left and writes it down: the machine is off.
    pub(super) async fn settle(&self, reason: &str) {
        let all = self.all().clone();
        for shell in &all {
            shell.lose(reason);
        }
        let ended = futures_util::future::join_all(all.iter().map(|shell| shell.ended()));
        let _ = tokio::time::timeout(SETTLE_PATIENCE, ended).await;
    }
}

/// Opens a shell, and returns once its program runs.
pub(super) async fn open(
    shared: &Arc<Shared>,
    request: &OpenShell,
    caller: &Caller,
) -> Result<ShellInfo> {
    request.validate()?;
    shared.holds.check()?;
    let exec = ExecRequest {
        cwd: request.cwd.clone(),
        env: request.env.clone(),
        user: request.user.clone(),
        stdin: true,
        ..ExecRequest::new(request.argv.iter().cloned())
    };
    let cwd = absolute(request.cwd.as_deref());
    let shell = Arc::new(Shell::new(request, &cwd));
    shared.shells.enlist(&shell)?;
    let size = TerminalSize { cols: request.cols, rows: request.rows };
    let started = async {
        let (inputs, mut output) = shared.agent.exec(&exec, &cwd, &shared.env, Some(size)).await?;
        pump::started(&mut output).await?;
        Ok((inputs, output))
    };
    let started = tokio::time::timeout(START_PATIENCE, started).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorCode::Timeout, "the shell did not start")
            .with_cause(format!("the machine took longer than {} s", START_PATIENCE.as_secs()))
            .with_hint("`pyro workspace status` tells how the machine does"))
    });
    let (inputs, output) = match started {
        Ok(started) => started,
        Err(error) => {
            shared.shells.forget(&shell);
            return Err(error);
        }
    };
    shell.begin(inputs);
    let opened =
        EventKind::ShellOpened { shell: shell.id().to_string(), argv: request.argv.clone() };
    shared.note(opened, caller).await;
    shared.shells.save();
    tokio::spawn(pump::run(Arc::clone(shared), Arc::clone(&shell), output));
    Ok(shell.info())
}

/// Ends a shell and all that runs in it. One that has ended is taken off the list.
async fn close(shared: &Shared, reference: &ShellRef) -> Result<ShellInfo> {
    let shell = shared.shells.find(reference)?;
    if !shell.is_running() {
        shared.shells.forget(&shell);
        shared.shells.save();
        return Ok(shell.info());
    }
    shared.holds.check()?;
    shell.hang_up("on request");
    if tokio::time::timeout(CLOSE_PATIENCE, shell.ended()).await.is_err() {
        // Its call is dropped, at which the agent kills what is left.
        shell.lose("on request");
        shell.ended().await;
    }
    Ok(shell.info())
}

/// The shells of a workspace at rest.
pub(crate) fn at_rest(dir: &WorkspaceDir) -> Vec<ShellInfo> {
    let mut shells = kept(&dir.shells_file());
    for shell in &mut shells {
        if shell.state == ShellState::Running {
            shell.state = ShellState::Closed;
            shell.reason = Some("the machine ended".into());
        }
        shell.attached = 0;
    }
    shells
}

/// What a run wrote down of its shells; nothing, if it had none or that cannot be read.
fn kept(file: &Path) -> Vec<ShellInfo> {
    let text = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
