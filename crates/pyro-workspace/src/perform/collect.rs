//! Commands whose whole result is wanted in one piece.

use pyro_contract::command::Continuation;
use pyro_contract::exec::{ExecOutcome, ExecRequest, ExecResult, Stream};
use pyro_contract::name::WorkspaceId;
use pyro_contract::operation::{ExecInWorkspace, RunRequest};
use pyro_contract::{Error, ErrorCode, Result};

use super::Call;
use crate::client::{ExecEvent, ExecSession};
use crate::journal::begun_character;
use crate::pyro::Pyro;

/// Runs a command and waits for its end.
pub(super) async fn exec(pyro: &Pyro, request: ExecInWorkspace, call: &Call) -> Result<ExecResult> {
    refuse_stdin(&request.exec)?;
    let session = pyro.exec(&request.workspace, &request.exec).await?;
    let cap = request.exec.output_cap();
    if request.exec.detach {
        let outcome = ExecOutcome {
            sequence: session.sequence,
            exit_code: None,
            signal: None,
            timed_out: false,
            oom_killed: false,
            limits_hit: Vec::new(),
            duration_ms: 0,
        };
        return Ok(Collected::at_most(0).into_result(outcome, None));
    }
    let id = session.workspace.clone();
    let (outcome, collected) = wait(session, cap, call).await?;
    Ok(collected.into_result(outcome, Some(&id)))
}

/// The same in a workspace that lives for one command.
pub(super) async fn run(pyro: &Pyro, request: RunRequest, call: &Call) -> Result<ExecResult> {
    refuse_stdin(&request.exec)?;
    request.exec.validate()?;
    let workspace = pyro.create_ephemeral(request.create, &call.watch).await?;
    let cap = request.exec.output_cap();
    let ended = async { wait(workspace.exec(&request.exec).await?, cap, call).await }.await;
    workspace.end().await;
    let (outcome, collected) = ended?;
    // Nothing is left that could give the rest.
    Ok(collected.into_result(outcome, None))
}

fn refuse_stdin(request: &ExecRequest) -> Result<()> {
    if !request.stdin {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Unsupported, "a call with one answer cannot send stdin as it goes")
        .with_hint("write the input to a file first, or use a door that streams"))
}

async fn wait(session: ExecSession, cap: usize, call: &Call) -> Result<(ExecOutcome, Collected)> {
    // The input is kept, because dropping it would end the command.
    let ExecSession { mut output, input: _input, .. } = session;
    let mut collected = Collected::at_most(cap);
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
            Some(ExecEvent::Exit(outcome)) => return Ok((outcome, collected)),
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

/// Both streams of a command, in order of arrival as far as one result should hold them.
#[derive(Debug)]
pub struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    room: usize,
    /// How many bytes came before the first that did not fit.
    kept: u64,
    truncated: bool,
}

impl Collected {
    /// Keeps at most so many bytes of both streams together.
    #[must_use]
    pub fn at_most(bytes: usize) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), room: bytes, kept: 0, truncated: false }
    }

    /// Keeps what still fits. Once something did not, nothing after it is kept, so that what is left
    /// out is all that follows.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if self.truncated {
            return;
        }
        let mut fits = bytes.len().min(self.room);
        self.truncated = fits < bytes.len();
        if self.truncated {
            // The continuation begins with a whole character.
            let begun = begun_character(bytes.get(..fits).unwrap_or_default());
            fits -= if begun < fits || self.kept > 0 { begun } else { 0 };
        }
        let buffer = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        buffer.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        self.room -= fits;
        self.kept += fits as u64;
    }

    /// The result of a command that ended so, in the workspace of this id, if that outlives it.
    #[must_use]
    pub fn into_result(self, outcome: ExecOutcome, workspace: Option<&WorkspaceId>) -> ExecResult {
        let place = Continuation { sequence: outcome.sequence, position: self.kept, stream: None };
        ExecResult {
            continuation: workspace.filter(|_| self.truncated).map(|id| place.token(id)),
            outcome,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            truncated: self.truncated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_all_that_follows() {
        let id: WorkspaceId = "ws-aaaaaaaaaa".parse().unwrap();
        let mut collected = Collected::at_most(5);
        collected.push(Stream::Stdout, b"abc");
        collected.push(Stream::Stderr, "dü".as_bytes());
        collected.push(Stream::Stdout, b"x");
        let outcome = ExecOutcome {
            sequence: 4,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            oom_killed: false,
            limits_hit: Vec::new(),
            duration_ms: 0,
        };
        let result = collected.into_result(outcome, Some(&id));
        assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("abc", "d"));
        let place = Continuation::parse(&result.continuation.unwrap(), &id).unwrap();
        assert_eq!((place.sequence, place.position), (4, 4));
        assert!(result.truncated);
    }
}
