//! From the agent's stream to what is kept of a shell.

use std::sync::Arc;

use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::{ExecExit, ExecOutput, exec_output};
use tonic::Streaming;

use super::one::{Ended, Shell};
use crate::agent::{broken, misbehaved};
use crate::caller::Caller;
use crate::supervisor::Shared;
use crate::supervisor::exec::refusal;

const LOST: &str = "the shell was lost with its machine";

/// Waits until the program runs.
pub(super) async fn started(output: &mut Streaming<ExecOutput>) -> Result<()> {
    match next(output).await? {
        exec_output::Output::Started(_) => Ok(()),
        exec_output::Output::Failed(failed) => {
            let (_, words) = refusal(0, &failed)?;
            let words = words.trim_start_matches("pyro: ").trim_end();
            Err(Error::new(ErrorCode::NotFound, format!("the shell did not start: {words}"))
                .with_hint("name another command after `--`, or none for a login shell"))
        }
        _ => Err(misbehaved("the shell did not start")),
    }
}

/// Takes what a shell shows until its end. Dropping the stream ends what still runs.
pub(super) async fn run(shared: Arc<Shared>, shell: Arc<Shell>, mut output: Streaming<ExecOutput>) {
    let ended = tokio::select! {
        ended = attend(&shell, &mut output) => ended,
        () = shell.given_up() => Ok(None),
    };
    drop(output);
    let ended = match ended {
        Ok(Some(exit)) => {
            let signal = (exit.signal > 0).then_some(exit.signal.min(64));
            let exit_code = signal.is_none().then_some(exit.code & 0xff);
            let starved = exit.oom_killed && signal.is_some();
            let starved = starved.then(|| "the machine ran out of memory".to_owned());
            Ended { exit_code, signal, reason: shell.reason().or(starved) }
        }
        Ok(None) => Ended { reason: shell.reason(), ..Ended::default() },
        Err(error) => {
            let reason = shell.reason().unwrap_or(error.message);
            Ended { reason: Some(reason), ..Ended::default() }
        }
    };
    let kind = EventKind::ShellClosed {
        shell: shell.id().to_string(),
        exit_code: ended.exit_code,
        signal: ended.signal,
        error: ended.reason.clone(),
    };
    shared.note(kind, &Caller::default()).await;
    shell.close(&ended);
    shared.shells.save();
}

async fn attend(shell: &Shell, output: &mut Streaming<ExecOutput>) -> Result<Option<ExecExit>> {
    loop {
        match next(output).await? {
            exec_output::Output::Stdout(bytes) | exec_output::Output::Stderr(bytes) => {
                shell.show(&bytes).await;
            }
            exec_output::Output::Typed(count) => shell.took(count),
            exec_output::Output::Exit(exit) => return Ok(Some(exit)),
            exec_output::Output::Started(_) => {}
            exec_output::Output::Failed(_) => return Err(misbehaved(LOST)),
        }
    }
}

async fn next(output: &mut Streaming<ExecOutput>) -> Result<exec_output::Output> {
    output
        .message()
        .await
        .map_err(|status| broken(LOST, &status))?
        .and_then(|message| message.output)
        .ok_or_else(|| misbehaved(LOST))
}
