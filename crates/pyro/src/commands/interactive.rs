//! `exec -t` and `run -t`: one command on a terminal of its own, connected to ours.

use pyro_contract::exec::ExecOutcome;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{ExecEvent, ExecInput, ExecOutput, ExecSession};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::exec::{explain, lost};
use super::terminal::{self, Happenings, RawTerminal, Typed, type_on};
use crate::ui::Ui;

/// Lends our terminal to the command until it ends.
pub(super) async fn follow(session: ExecSession, ui: &Ui) -> Result<u8> {
    let ExecSession { output, input, .. } = session;
    let (resized, mut ends) = Happenings::watch()?.split();
    let (typing, typed) = terminal::line();
    let mut terminal = RawTerminal::enter()?;
    let outcome = tokio::select! {
        outcome = show(output, &mut terminal) => outcome,
        // Dropping both halves ends the command.
        how = type_on(typing, None) => match how {
            Typed::Ended | Typed::Detached => {
                Err(Error::new(ErrorCode::Cancelled, "this terminal has hung up"))
            }
        },
        error = pass_on(input, typed, resized) => Err(error),
        error = ends.come() => Err(error),
    };
    drop(terminal);
    let outcome = outcome?;
    explain(&outcome, ui);
    Ok(outcome.shell_code())
}

async fn show(mut output: ExecOutput, terminal: &mut RawTerminal) -> Result<ExecOutcome> {
    loop {
        match output.next().await? {
            Some(ExecEvent::Output(_, bytes)) => terminal.show(&bytes)?,
            Some(ExecEvent::Exit(outcome)) => return Ok(outcome),
            None => return Err(lost()),
        }
    }
}

async fn pass_on(
    mut input: ExecInput,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut resized: Signal,
) -> Error {
    loop {
        let passed = tokio::select! {
            Some(bytes) = typed.recv() => input.stdin(&bytes).await,
            Some(()) = resized.recv() => input.resize(terminal::size()).await,
            else => return std::future::pending().await,
        };
        if passed.is_err() {
            // The command may have ended; the other half hears of it.
            return std::future::pending().await;
        }
    }
}
