//! One command: between a client's socket, the agent and the journal.
//!
//! Nothing here buffers more than one message of output. While the client does not read, this does
//! not read from the agent, whose window closes, so that the command itself blocks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use pyro_contract::exec::{ExecOutcome, ExecRequest, Stream};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::exec_failed::Reason;
use pyro_wire::v1::{ExecExit, ExecFailed, ExecInput, ExecOutput, exec_input, exec_output};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Streaming;

use super::Shared;
use super::overdue::Overdue;
use super::server::text;
use crate::agent::{broken, misbehaved, printable};
use crate::caller::Caller;
use crate::journal::{Ended, Recorder};
use crate::protocol::{Channel, ExecCommand, ExecReport, STDIN_WINDOW};

/// The journal lags behind the output by at most this.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

type Sink = SplitSink<WebSocket, Message>;

/// Runs the command that the client asks for first.
pub(super) async fn session(socket: WebSocket, shared: Arc<Shared>, caller: Caller) {
    let (mut sink, mut commands) = socket.split();
    let request = match first_command(&mut commands).await {
        Ok(request) => request,
        Err(error) => return report(&mut sink, &ExecReport::Failed(error)).await,
    };
    let _waiting = shared.vigil.begin();
    let _session = shared.sessions.read().await;
    let started = tokio::select! {
        started = start(&shared, &request, &caller) => started,
        error = shared.vigil.silence() => Err(error),
        // Before the command has started its client has nothing to say; it hung up.
        _ = commands.next() => return,
    };
    let (running, sequence) = match started {
        Ok(started) => started,
        Err(error) => return report(&mut sink, &ExecReport::Failed(error)).await,
    };
    report(&mut sink, &ExecReport::Started { sequence }).await;
    if request.detach {
        // The command lives on without anybody listening.
        let _ = sink.close().await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _waiting = shared.vigil.begin();
            let outcome = running.pump(&shared, sequence, None).await;
            close_books(&shared, sequence, &outcome).await;
        });
        return;
    }
    let inputs = running.inputs.clone();
    let (taken, acks) = mpsc::channel(2 * STDIN_WINDOW);
    let client = Client { sink: &mut sink, acks };
    let outcome = tokio::select! {
        outcome = running.pump(&shared, sequence, Some(client)) => outcome,
        () = forward(commands, inputs, taken) => {
            Err(Error::new(ErrorCode::Cancelled, "the client hung up, so the command was ended"))
        }
    };
    let outcome = match outcome {
        // The stream breaks a moment before it is known that the machine died, and of what.
        Err(error) if error.code == ErrorCode::MachineFailed => Err(obituary(&shared, error).await),
        outcome => outcome,
    };
    close_books(&shared, sequence, &outcome).await;
    let last = outcome.map_or_else(ExecReport::Failed, ExecReport::Exit);
    report(&mut sink, &last).await;
    let _ = sink.close().await;
}

pub(super) async fn obituary(shared: &Shared, error: Error) -> Error {
    let mut known = shared.obituary.subscribe();
    let known = tokio::time::timeout(Duration::from_secs(1), known.wait_for(Option::is_some)).await;
    known.ok().and_then(Result::ok).and_then(|known| known.clone()).unwrap_or(error)
}

/// The first frame says what to run.
async fn first_command(commands: &mut SplitStream<WebSocket>) -> Result<ExecRequest> {
    let invalid =
        || Error::new(ErrorCode::InvalidArgument, "the first message must start a command");
    let Some(Ok(Message::Text(first))) = commands.next().await else { return Err(invalid()) };
    let Ok(ExecCommand::Start(request)) = serde_json::from_str(&first) else {
        return Err(invalid());
    };
    request.validate()?;
    Ok(request)
}

async fn start(shared: &Shared, request: &ExecRequest, caller: &Caller) -> Result<(Running, u64)> {
    shared.holds.check()?;
    let cwd = absolute(request.cwd.as_deref());
    let sequence = shared.journal.begin(request, &cwd, caller).await?;
    let started = async {
        let (inputs, mut output) = shared.agent.exec(request, &cwd, &shared.env).await?;
        let first = next(&mut output).await?;
        Ok(Running { inputs, output, first: Some(first), limit: request.timeout_seconds })
    };
    match started.await {
        Ok(running) => Ok((running, sequence)),
        Err(error) => {
            let error: Error = error;
            close_books(shared, sequence, &Err(error.clone())).await;
            Err(error)
        }
    }
}

/// Relative paths start at the project.
fn absolute(cwd: Option<&str>) -> String {
    match cwd {
        None | Some("") => "/workspace".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/workspace/{path}"),
    }
}

/// Whoever listens to a command.
struct Client<'a> {
    sink: &'a mut Sink,
    /// One for each frame of input that the agent took.
    acks: mpsc::Receiver<()>,
}

/// A command in the guest.
struct Running {
    inputs: mpsc::Sender<ExecInput>,
    output: Streaming<ExecOutput>,
    first: Option<exec_output::Output>,
    /// After how many seconds the agent is to end it.
    limit: Option<u64>,
}

impl Running {
    /// Passes output on until the command ends.
    async fn pump(
        mut self,
        shared: &Shared,
        sequence: u64,
        mut client: Option<Client<'_>>,
    ) -> Result<ExecOutcome> {
        let mut recorder = Recorder::default();
        let mut flush_at: Option<Instant> = None;
        let mut overdue = Overdue::new(self.limit, &shared.holds);
        let ended = loop {
            overdue.begin();
            let message = match self.first.take() {
                Some(message) => Ok(message),
                None => tokio::select! {
                    biased;
                    message = next(&mut self.output) => message,
                    error = shared.vigil.silence() => Err(error),
                    () = overdue.due() => break Ok(overdue.outcome(sequence)),
                    () = acknowledged(client.as_mut()) => {
                        if let Some(client) = &mut client {
                            report(client.sink, &ExecReport::StdinTaken).await;
                        }
                        continue;
                    }
                    () = sleep_until(flush_at) => {
                        flush_at = None;
                        keep(shared, sequence, &mut recorder).await;
                        continue;
                    }
                },
            };
            overdue.pause();
            match message {
                Ok(exec_output::Output::Started(_)) => {}
                // Costs the guest nothing to send, and us something to keep.
                Ok(exec_output::Output::Stdout(bytes) | exec_output::Output::Stderr(bytes))
                    if bytes.is_empty() => {}
                Ok(exec_output::Output::Stdout(bytes)) => {
                    recorder.push(Stream::Stdout, &bytes);
                    pass_on(client.as_mut(), Channel::Stdout, &bytes).await;
                }
                Ok(exec_output::Output::Stderr(bytes)) => {
                    recorder.push(Stream::Stderr, &bytes);
                    pass_on(client.as_mut(), Channel::Stderr, &bytes).await;
                }
                Ok(exec_output::Output::Exit(exit)) => break Ok(outcome(sequence, &exit)),
                Ok(exec_output::Output::Failed(failed)) => match refusal(sequence, &failed) {
                    Ok((outcome, words)) => {
                        recorder.push(Stream::Stderr, words.as_bytes());
                        pass_on(client.as_mut(), Channel::Stderr, words.as_bytes()).await;
                        break Ok(outcome);
                    }
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
            if recorder.is_dirty() && flush_at.is_none() {
                flush_at = Some(Instant::now() + FLUSH_AFTER);
            }
        };
        keep(shared, sequence, &mut recorder).await;
        ended
    }
}

async fn next(output: &mut Streaming<ExecOutput>) -> Result<exec_output::Output> {
    let lost = "the command was lost with its machine";
    output
        .message()
        .await
        .map_err(|status| broken(lost, &status))?
        .and_then(|message| message.output)
        .ok_or_else(|| misbehaved(lost))
}

/// Resolves when the agent has taken a frame of the client's input.
async fn acknowledged(client: Option<&mut Client<'_>>) {
    if let Some(client) = client
        && client.acks.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn keep(shared: &Shared, sequence: u64, recorder: &mut Recorder) {
    if let Some(flush) = recorder.flush()
        && let Err(error) = shared.journal.output(sequence, flush).await
    {
        tracing::warn!(%error, sequence, "cannot keep output in the journal");
    }
}

/// A client that is gone is noticed by [`forward`]; here it only means that nobody listens.
async fn pass_on(client: Option<&mut Client<'_>>, channel: Channel, bytes: &[u8]) {
    if let Some(client) = client {
        let _ = client.sink.send(Message::Binary(channel.frame(bytes).into())).await;
    }
}

/// Passes the client's input on. Returns only once the client is gone.
///
/// The socket is always being read, so that a client's death is noticed even while its command
/// takes no input; what has been read and not yet taken is bounded by [`STDIN_WINDOW`], which the
/// client keeps to because each frame is acknowledged once the agent took it.
async fn forward(
    mut commands: SplitStream<WebSocket>,
    inputs: mpsc::Sender<ExecInput>,
    taken: mpsc::Sender<()>,
) {
    let mut waiting: VecDeque<exec_input::Input> = VecDeque::new();
    loop {
        tokio::select! {
            frame = commands.next() => {
                let Some(Ok(message)) = frame else { return };
                match message {
                    Message::Close(_) => return,
                    message => waiting.extend(input_of(message)),
                }
                if waiting.len() > 2 * STDIN_WINDOW {
                    return;
                }
            }
            permit = inputs.reserve(), if !waiting.is_empty() => {
                let Some(input) = waiting.pop_front() else { continue };
                let acknowledge = matches!(input, exec_input::Input::Stdin(_));
                match permit {
                    Ok(permit) => permit.send(ExecInput { input: Some(input) }),
                    // The command has ended; its client learns that from the exit report.
                    Err(_) => waiting.clear(),
                }
                if acknowledge {
                    let _ = taken.try_send(());
                }
            }
        }
    }
}

fn input_of(message: Message) -> Option<exec_input::Input> {
    match message {
        Message::Binary(frame) if frame.first() == Some(&(Channel::Stdin as u8)) => {
            Some(exec_input::Input::Stdin(frame.slice(1..)))
        }
        Message::Text(command) => match serde_json::from_str(&command).ok()? {
            ExecCommand::StdinClosed => Some(exec_input::Input::StdinClosed(true)),
            ExecCommand::Signal(signal) => Some(exec_input::Input::Signal(signal)),
            ExecCommand::Start(_) => None,
        },
        _ => None,
    }
}

async fn report(sink: &mut Sink, message: &ExecReport) {
    let _ = sink.send(text(message)).await;
}

async fn close_books(shared: &Shared, sequence: u64, outcome: &Result<ExecOutcome>) {
    let ended = match outcome {
        Ok(outcome) => Ended::Ran(outcome.clone()),
        Err(error) => Ended::Lost(error.message.clone()),
    };
    if let Err(error) = shared.journal.end(sequence, ended).await {
        tracing::warn!(%error, sequence, "cannot close the journal's entry");
    }
}

fn outcome(sequence: u64, exit: &ExecExit) -> ExecOutcome {
    let signal = (exit.signal > 0).then_some(exit.signal.min(64));
    ExecOutcome {
        sequence,
        exit_code: signal.is_none().then_some(exit.code & 0xff),
        signal,
        timed_out: exit.timed_out,
        oom_killed: exit.oom_killed,
        duration_ms: exit.duration_ms,
    }
}

/// A command that the guest could not start ends as it would in a shell, with 126 or 127 and a
/// word on stderr; a request that makes no sense there is an error of pyro's.
fn refusal(sequence: u64, failed: &ExecFailed) -> Result<(ExecOutcome, String)> {
    let message = printable(&failed.message, 400);
    let code = match failed.reason() {
        Reason::CommandNotFound => 127,
        Reason::NotExecutable => 126,
        Reason::NoSuchDirectory => {
            return Err(Error::new(ErrorCode::NotFound, message)
                .with_hint("--cwd takes a directory of the workspace, relative to /workspace"));
        }
        Reason::NoSuchUser => {
            return Err(Error::new(ErrorCode::NotFound, message)
                .with_hint("--user takes a name or number of the guest's /etc/passwd"));
        }
        Reason::BadRequest => return Err(Error::new(ErrorCode::InvalidArgument, message)),
        Reason::Other => return Err(Error::new(ErrorCode::MachineFailed, message)),
    };
    let outcome = ExecOutcome {
        sequence,
        exit_code: Some(code),
        signal: None,
        timed_out: false,
        oom_killed: false,
        duration_ms: 0,
    };
    Ok((outcome, format!("pyro: {message}\n")))
}
