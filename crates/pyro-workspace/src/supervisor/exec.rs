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
use pyro_contract::limits::{CommandLimits, Limit, LimitHit, LimitOf};
use pyro_contract::shell::TerminalSize;
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
use crate::journal::{Ended, Flush, Recorder};
use crate::protocol::{Channel, ExecCommand, ExecReport, STDIN_WINDOW};

/// The journal lags behind the output by at most this.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// The same while somebody follows.
const FOLLOWED_FLUSH_AFTER: Duration = Duration::from_millis(30);

type Sink = SplitSink<WebSocket, Message>;

/// Runs the command that the client asks for first.
pub(super) async fn session(socket: WebSocket, shared: Arc<Shared>, caller: Caller) {
    let (mut sink, mut commands) = socket.split();
    let (request, terminal) = match first_command(&mut commands).await {
        Ok(first) => first,
        Err(error) => return report(&mut sink, &ExecReport::Failed(error)).await,
    };
    let _waiting = shared.vigil.begin();
    let _session = shared.sessions.read().await;
    let cwd = absolute(request.cwd.as_deref());
    let begun = match shared.holds.check() {
        Ok(()) => shared.journal.begin(&request, &cwd, &caller).await,
        Err(error) => Err(error),
    };
    let sequence = match begun {
        Ok(sequence) => sequence,
        Err(error) => return report(&mut sink, &ExecReport::Failed(error)).await,
    };
    let started = tokio::select! {
        started = start(&shared, &request, terminal, &cwd) => started,
        error = shared.vigil.silence() => Err(error),
        // Before the command has started its client has nothing to say; it hung up.
        _ = commands.next() => Err(hung_up()),
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            let failed = Err(error.clone());
            close_books(&shared, sequence, &mut Recorder::default(), &failed).await;
            return report(&mut sink, &ExecReport::Failed(error)).await;
        }
    };
    report(&mut sink, &ExecReport::Started { sequence }).await;
    if request.detach {
        // The command lives on without anybody listening.
        let _ = sink.close().await;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _waiting = shared.vigil.begin();
            let _session = shared.sessions.read().await;
            let mut recorder = Recorder::default();
            let outcome = running.pump(&shared, sequence, &mut recorder, None).await;
            close_books(&shared, sequence, &mut recorder, &outcome).await;
        });
        return;
    }
    let inputs = running.inputs.clone();
    let (taken, acks) = mpsc::channel(2 * STDIN_WINDOW);
    let client = Client { sink: &mut sink, acks };
    let mut recorder = Recorder::default();
    let outcome = tokio::select! {
        outcome = running.pump(&shared, sequence, &mut recorder, Some(client)) => outcome,
        () = forward(commands, inputs, taken) => Err(hung_up()),
    };
    let outcome = match outcome {
        // The stream breaks a moment before it is known that the machine died, and of what.
        Err(error) if error.code == ErrorCode::MachineFailed => Err(obituary(&shared, error).await),
        outcome => outcome,
    };
    close_books(&shared, sequence, &mut recorder, &outcome).await;
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
async fn first_command(
    commands: &mut SplitStream<WebSocket>,
) -> Result<(ExecRequest, Option<TerminalSize>)> {
    let invalid =
        || Error::new(ErrorCode::InvalidArgument, "the first message must start a command");
    let Some(Ok(Message::Text(first))) = commands.next().await else { return Err(invalid()) };
    let (request, terminal) = match serde_json::from_str(&first) {
        Ok(ExecCommand::Start(request)) => (request, None),
        Ok(ExecCommand::StartOnTerminal(request, size)) => (request, Some(size.bounded())),
        _ => return Err(invalid()),
    };
    request.validate()?;
    Ok((request, terminal))
}

async fn start(
    shared: &Shared,
    request: &ExecRequest,
    terminal: Option<TerminalSize>,
    cwd: &str,
) -> Result<Running> {
    let (inputs, mut output) = shared.agent.exec(request, cwd, &shared.env, terminal).await?;
    let first = next(&mut output).await?;
    Ok(Running { inputs, output, first: Some(first), bounds: Bounds::of(request) })
}

fn hung_up() -> Error {
    Error::new(ErrorCode::Cancelled, "the client hung up, so the command was ended")
}

/// Relative paths start at the project.
pub(super) fn absolute(cwd: Option<&str>) -> String {
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
    bounds: Bounds,
}

/// What a command may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// After how many seconds the agent is to end it.
    seconds: Option<u64>,
    own: CommandLimits,
}

impl Bounds {
    fn of(request: &ExecRequest) -> Self {
        Self { seconds: request.timeout_seconds, own: request.limits }
    }
}

impl Running {
    /// Passes output on until the command ends.
    async fn pump(
        mut self,
        shared: &Shared,
        sequence: u64,
        recorder: &mut Recorder,
        mut client: Option<Client<'_>>,
    ) -> Result<ExecOutcome> {
        let _known = shared.commands.enter(sequence, self.inputs.clone());
        let mut flush_at: Option<Instant> = None;
        let mut overdue = Overdue::new(self.bounds.seconds, &shared.holds);
        overdue.begin();
        loop {
            let message = match self.first.take() {
                Some(message) => Ok(message),
                None => tokio::select! {
                    biased;
                    // Before its output, of which a guest could send without end.
                    () = overdue.due() => return Ok(overdue.outcome(sequence)),
                    message = next(&mut self.output) => message,
                    error = shared.vigil.silence() => Err(error),
                    () = acknowledged(client.as_mut()) => {
                        if let Some(client) = &mut client {
                            report(client.sink, &ExecReport::StdinTaken).await;
                        }
                        continue;
                    }
                    () = sleep_until(flush_at) => {
                        flush_at = None;
                        if let Some(flush) = recorder.flush() {
                            keep(shared, sequence, flush, recorder.total()).await;
                        }
                        continue;
                    }
                },
            };
            match message {
                // What was typed is acknowledged frame by frame, as all input is.
                Ok(exec_output::Output::Started(_) | exec_output::Output::Typed(_)) => {}
                // Costs the guest nothing to send, and us something to keep.
                Ok(exec_output::Output::Stdout(bytes) | exec_output::Output::Stderr(bytes))
                    if bytes.is_empty() => {}
                Ok(exec_output::Output::Stdout(bytes)) => {
                    record(shared, sequence, recorder, (Stream::Stdout, &bytes)).await;
                    overdue.pause();
                    pass_on(client.as_mut(), Channel::Stdout, &bytes).await;
                    overdue.begin();
                }
                Ok(exec_output::Output::Stderr(bytes)) => {
                    record(shared, sequence, recorder, (Stream::Stderr, &bytes)).await;
                    overdue.pause();
                    pass_on(client.as_mut(), Channel::Stderr, &bytes).await;
                    overdue.begin();
                }
                Ok(exec_output::Output::Exit(exit)) => {
                    return Ok(outcome(shared, sequence, &self.bounds.own, &exit));
                }
                Ok(exec_output::Output::Failed(failed)) => match refusal(sequence, &failed) {
                    Ok((outcome, words)) => {
                        recorder.push(Stream::Stderr, words.as_bytes());
                        pass_on(client.as_mut(), Channel::Stderr, words.as_bytes()).await;
                        return Ok(outcome);
                    }
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
            if recorder.is_dirty() && flush_at.is_none() {
                let lag =
                    if shared.journal.is_heard() { FOLLOWED_FLUSH_AFTER } else { FLUSH_AFTER };
                flush_at = Some(Instant::now() + lag);
            }
        }
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

/// Takes a piece of output, and hands over what is full.
async fn record(
    shared: &Shared,
    sequence: u64,
    recorder: &mut Recorder,
    (stream, bytes): (Stream, &[u8]),
) {
    recorder.push(stream, bytes);
    while let Some(flush) = recorder.closed() {
        keep(shared, sequence, flush, recorder.total()).await;
    }
}

async fn keep(shared: &Shared, sequence: u64, flush: Flush, total: u64) {
    if let Err(error) = shared.journal.output(sequence, flush, total).await {
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
            ExecCommand::Resize(size) => {
                let size = size.bounded();
                Some(exec_input::Input::Resize(pyro_wire::v1::TerminalSize {
                    rows: size.rows.into(),
                    columns: size.cols.into(),
                }))
            }
            ExecCommand::Start(_) | ExecCommand::StartOnTerminal(..) => None,
        },
        _ => None,
    }
}

async fn report(sink: &mut Sink, message: &ExecReport) {
    let _ = sink.send(text(message)).await;
}

async fn close_books(
    shared: &Shared,
    sequence: u64,
    recorder: &mut Recorder,
    outcome: &Result<ExecOutcome>,
) {
    while let Some(flush) = recorder.closed() {
        keep(shared, sequence, flush, recorder.total()).await;
    }
    if let Some(flush) = recorder.finish() {
        keep(shared, sequence, flush, recorder.total()).await;
    }
    let ended = match outcome {
        Ok(outcome) => Ended::Ran(outcome.clone()),
        Err(error) => Ended::Lost(error.message.clone()),
    };
    if let Err(error) = shared.journal.end(sequence, ended, recorder.total()).await {
        tracing::warn!(%error, sequence, "cannot close the journal's entry");
    }
}

/// That a limit was hit is the guest's word; which one that is, the host knows.
fn limits_hit(shared: &Shared, own: &CommandLimits, exit: &ExecExit) -> Vec<LimitHit> {
    let (shape, all) = (shared.shape, shared.limits);
    let hit = |limit, of, value: Option<u32>| LimitHit { limit, of, value: value.map(u64::from) };
    let mut hits = Vec::new();
    match (exit.oom_killed, exit.own_memory_limit && own.memory_mib.is_some()) {
        (true, true) => hits.push(hit(Limit::Memory, LimitOf::Command, own.memory_mib)),
        (true, false) => hits.push(hit(Limit::Memory, LimitOf::Workspace, Some(shape.mem_mib))),
        (false, _) => {}
    }
    if exit.own_process_limit && own.process_count.is_some() {
        hits.push(hit(Limit::Processes, LimitOf::Command, own.process_count));
    } else if exit.machine_process_limit {
        hits.push(hit(Limit::Processes, LimitOf::Workspace, all.process_count));
    }
    if exit.disk_full {
        hits.push(hit(Limit::Disk, LimitOf::Workspace, Some(shape.disk_mib)));
    }
    hits
}

fn outcome(shared: &Shared, sequence: u64, own: &CommandLimits, exit: &ExecExit) -> ExecOutcome {
    let signal = (exit.signal > 0).then_some(exit.signal.min(64));
    ExecOutcome {
        sequence,
        exit_code: signal.is_none().then_some(exit.code & 0xff),
        signal,
        timed_out: exit.timed_out,
        oom_killed: exit.oom_killed,
        limits_hit: limits_hit(shared, own, exit),
        duration_ms: exit.duration_ms,
    }
}

/// A command that the guest could not start ends as it would in a shell, with 126 or 127 and a
/// word on stderr; a request that makes no sense there is an error of pyro's.
pub(super) fn refusal(sequence: u64, failed: &ExecFailed) -> Result<(ExecOutcome, String)> {
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
        Reason::LimitNotSupported => {
            return Err(Error::new(ErrorCode::Unsupported, message).with_hint(
                "leave that limit out, or set one for the workspace when it is created; a virtual \
                 machine can limit each command, and a container where cgroups v2 are in charge",
            ));
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
        limits_hit: Vec::new(),
        duration_ms: 0,
    };
    Ok((outcome, format!("pyro: {message}\n")))
}
