//! `run` and `workspace exec`: a command's streams are ours while it runs.

use std::io::Write as _;

use pyro_contract::exec::{ExecOutcome, ExecRequest, Stream};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Collected, ExecEvent, ExecInput, ExecSession, Pyro};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::interactive;
use super::terminal::{self, RawTerminal};
use super::workspace::create_request;
use crate::cli::{ExecArgs, InteractiveArgs, RunArgs};
use crate::ui::{Ui, write_stdout};

pub(super) async fn run_once(pyro: &Pyro, args: RunArgs, ui: &Ui) -> Result<u8> {
    let request = ExecRequest {
        cwd: args.cwd,
        user: args.user,
        timeout_seconds: args.timeout_seconds,
        stdin: passes_stdin(args.interactive, ui),
        shell: args.shell,
        max_output_bytes: args.max_output_bytes,
        ..ExecRequest::new(args.argv)
    };
    request.validate()?;
    if args.interactive.tty {
        RawTerminal::check()?;
    }
    let cap = request.output_cap();
    let create = create_request(args.machine)?;
    let bar = ui.progress();
    let created = pyro.create_ephemeral(create, &bar.watch()).await;
    bar.finish();
    let workspace = created?;
    ui.note_isolation(&workspace.status);
    let ended = async {
        if args.interactive.tty {
            let session = workspace.exec_on_terminal(&request, terminal::size()).await?;
            return interactive::follow(session, ui).await;
        }
        follow(workspace.exec(&request).await?, request.stdin, (cap, false), ui).await
    };
    let ended = ended.await;
    workspace.end().await;
    ended
}

pub(super) async fn in_workspace(
    pyro: &Pyro,
    workspace: &WorkspaceRef,
    args: ExecArgs,
    ui: &Ui,
) -> Result<u8> {
    let request = ExecRequest {
        cwd: args.cwd,
        env: args.env,
        user: args.user,
        timeout_seconds: args.timeout_seconds,
        stdin: !args.detach && passes_stdin(args.interactive, ui),
        detach: args.detach,
        shell: args.shell,
        limits: args.limits.limits(),
        max_output_bytes: args.max_output_bytes,
        ..ExecRequest::new(args.argv)
    };
    if args.interactive.tty {
        RawTerminal::check()?;
        let session = pyro.exec_on_terminal(workspace, &request, terminal::size()).await?;
        return interactive::follow(session, ui).await;
    }
    let session = pyro.exec(workspace, &request).await?;
    if request.detach {
        let sequence = session.sequence;
        if ui.json() {
            ui.print_json(&serde_json::json!({ "sequence": sequence }))?;
        } else if args.id_only {
            write_stdout(format!("{sequence}\n").as_bytes())?;
        } else {
            ui.note(&format!(
                "command {sequence} runs on; `pyro workspace logs {} --sequence {sequence} --follow` \
                 shows its output",
                workspace.as_str()
            ));
        }
        return Ok(0);
    }
    follow(session, request.stdin, (request.output_cap(), true), ui).await
}

/// A command gets our stdin unless that is the keyboard, and that too if it is to be interactive.
fn passes_stdin(interactive: InteractiveArgs, ui: &Ui) -> bool {
    interactive.interactive || interactive.tty || ui.passes_stdin()
}

/// Carries a command's streams until it ends. With `--json` so many bytes of them are held; whether
/// the rest can be had later depends on whether the workspace stays.
async fn follow(
    session: ExecSession,
    stdin: bool,
    (cap, stays): (usize, bool),
    ui: &Ui,
) -> Result<u8> {
    let ExecSession { mut output, input, workspace, .. } = session;
    let mut collected = Collected::at_most(cap);
    let mut feeder = tokio::spawn(feed(input, stdin));
    let _stop_feeding = AbortOnDrop(feeder.abort_handle());
    let outcome = loop {
        let event = tokio::select! {
            event = output.next() => event?,
            // Only a second interrupt ends the feeder while the command runs.
            _ = &mut feeder => {
                return Err(Error::new(
                    ErrorCode::Cancelled,
                    "interrupted; the command and all it started were ended",
                ));
            }
        };
        match event {
            Some(ExecEvent::Output(stream, bytes)) if ui.json() => collected.push(stream, &bytes),
            Some(ExecEvent::Output(stream, bytes)) => {
                // Our reader may be slow: block here, off the async threads, and let the command
                // block with us.
                tokio::task::block_in_place(|| pass_on(stream, &bytes))?;
            }
            Some(ExecEvent::Exit(outcome)) => break outcome,
            None => return Err(lost()),
        }
    };
    if ui.json() {
        let workspace = stays.then_some(&workspace);
        ui.print_json(&collected.into_result(outcome.clone(), workspace))?;
    } else {
        explain(&outcome, ui);
    }
    Ok(outcome.shell_code())
}

fn pass_on(stream: Stream, bytes: &[u8]) -> Result<()> {
    match stream {
        Stream::Stdout => write_stdout(bytes),
        Stream::Stderr => std::io::stderr()
            .write_all(bytes)
            .map_err(|error| Error::io("cannot write to stderr", &error)),
    }
}

/// The connection ended, and the command's end was not heard.
pub(super) fn lost() -> Error {
    Error::new(
        ErrorCode::MachineFailed,
        "the connection to the workspace was lost while the command ran",
    )
    .with_hint("`pyro workspace status` tells its state")
}

/// What a bare exit code would leave the user to guess.
pub(super) fn explain(outcome: &ExecOutcome, ui: &Ui) {
    if outcome.timed_out {
        ui.note("the command ran out of time; it and all it started were ended");
    }
    if outcome.oom_killed {
        ui.note("memory ran out, and the kernel killed the command or a part of it");
    }
    for hit in &outcome.limits_hit {
        ui.note(&hit.describe());
    }
}

/// Passes stdin and signals on. Ends only when the user insists on an end.
async fn feed(mut input: ExecInput, stdin: bool) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    let mut source = tokio::io::stdin();
    let mut buffer = vec![0; 32 << 10];
    let mut open = stdin;
    let mut asked = false;
    loop {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            read = source.read(&mut buffer), if open => {
                let sent = match read {
                    Ok(0) | Err(_) => { open = false; input.close_stdin().await }
                    Ok(count) => {
                        let data = buffer.get(..count).unwrap_or_default();
                        // A command that does not read must not keep signals from being heard.
                        tokio::select! {
                            sent = input.stdin(data) => sent,
                            _ = interrupt.recv() => return,
                            _ = terminate.recv() => return,
                        }
                    }
                };
                // The command may have ended; the other half will hear of it.
                open &= sent.is_ok();
                continue;
            }
        };
        if std::mem::replace(&mut asked, true) {
            return;
        }
        let _ = input.signal(number).await;
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
