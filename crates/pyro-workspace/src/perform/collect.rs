//! Commands whose whole result is wanted in one piece.

use pyro_contract::exec::{ExecOutcome, ExecRequest, ExecResult, Stream};
use pyro_contract::operation::{ExecInWorkspace, RunRequest};
use pyro_contract::{Error, ErrorCode, Result};

use super::Call;
use crate::client::{ExecEvent, ExecSession};
use crate::pyro::Pyro;

/// Of each stream, the most that one result holds.
const OUTPUT_CAP: usize = 1 << 20;

/// Runs a command and waits for its end.
pub(super) async fn exec(pyro: &Pyro, request: ExecInWorkspace, call: &Call) -> Result<ExecResult> {
    refuse_stdin(&request.exec)?;
    let session = pyro.exec(&request.workspace, &request.exec).await?;
    if request.exec.detach {
        return Ok(Collected::default().into_result(ExecOutcome {
            sequence: session.sequence,
            exit_code: None,
            signal: None,
            timed_out: false,
            oom_killed: false,
            duration_ms: 0,
        }));
    }
    wait(session, call).await
}

/// The same in a workspace that lives for one command.
pub(super) async fn run(pyro: &Pyro, request: RunRequest, call: &Call) -> Result<ExecResult> {
    refuse_stdin(&request.exec)?;
    request.exec.validate()?;
    let workspace = pyro.create_ephemeral(request.create, &call.watch).await?;
    let ended = async { wait(workspace.exec(&request.exec).await?, call).await }.await;
    workspace.end().await;
    ended
}

fn refuse_stdin(request: &ExecRequest) -> Result<()> {
    if !request.stdin {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Unsupported, "a call with one answer cannot send stdin as it goes")
        .with_hint("write the input to a file first, or use a door that streams"))
}

async fn wait(session: ExecSession, call: &Call) -> Result<ExecResult> {
    // The input is kept, because dropping it would end the command.
    let ExecSession { mut output, input: _input, .. } = session;
    let mut collected = Collected::default();
    loop {
        let event = tokio::select! {
            event = output.next() => event?,
            () = call.watch.interrupt().triggered() => {
                return Err(Error::new(
                    ErrorCode::Cancelled,
                    "interrupted; the command and all it started were ended",
                ));
            }
        };
        match event {
            Some(ExecEvent::Output(stream, bytes)) => {
                if let Some(sink) = &call.output {
                    sink(stream, &bytes);
                }
                collected.push(stream, &bytes);
            }
            Some(ExecEvent::Exit(outcome)) => return Ok(collected.into_result(outcome)),
            None => return Err(lost()),
        }
    }
}

/// The connection ended, and the command's end was not heard.
fn lost() -> Error {
    Error::new(
        ErrorCode::MachineFailed,
        "the connection to the workspace was lost while the command ran",
    )
    .with_hint("`pyro workspace status` tells its state")
}

/// Both streams of a command, as far as one result should hold them.
#[derive(Debug, Default)]
pub struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Collected {
    /// Keeps what still fits.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let buffer = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = OUTPUT_CAP.saturating_sub(buffer.len());
        self.truncated |= bytes.len() > room;
        buffer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The result of a command that ended so.
    #[must_use]
    pub fn into_result(self, outcome: ExecOutcome) -> ExecResult {
        ExecResult {
            outcome,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            truncated: self.truncated,
        }
    }
}
