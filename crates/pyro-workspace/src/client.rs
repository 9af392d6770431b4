//! The client's side of a workspace's control socket.

pub(crate) mod files;
mod journal;
pub(crate) mod shell;
pub(crate) mod sync;
pub(crate) mod tree;

pub use shell::{AttachEvent, AttachInput, AttachOutput, Attachment};

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use pyro_contract::exec::{ExecOutcome, ExecRequest, Stream};
use pyro_contract::name::WorkspaceId;
use pyro_contract::shell::TerminalSize;
use pyro_contract::workspace::Usage;
use pyro_contract::{Error, ErrorCode, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::caller;
use crate::home::WorkspaceDir;
use crate::protocol::{
    Channel, EXEC, ExecCommand, ExecReport, FREEZE, FreezeReport, HOLD, Hold, HoldReport,
    LiveStatus, MAX_FRAME, STATUS, STDIN_FRAME, STDIN_WINDOW, STOP, StopMode, USAGE,
};

pub(crate) use journal::{Bell, bell, signal, update};

/// No answer of a supervisor is longer.
const MAX_ANSWER: usize = 4 << 20;

/// A supervisor answers in milliseconds, whatever its machine does.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than the supervisor allows itself for holding a machine still.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<UnixStream>;

pub(crate) async fn live_status(dir: &WorkspaceDir) -> Result<LiveStatus> {
    let asked = call(dir, Method::GET, STATUS, &());
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))
}

pub(crate) async fn usage(dir: &WorkspaceDir) -> Result<Option<Usage>> {
    let asked = call(dir, Method::GET, USAGE, &());
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))
}

/// Asks for an end, and returns once that is understood. A supervisor that does not answer within
/// [`PATIENCE`] hangs, which the caller deals with.
pub(crate) async fn stop(dir: &WorkspaceDir, mode: StopMode) -> Result<()> {
    let asked = async {
        let (mut sender, _connection) = handshake(dir).await?;
        send(&mut sender, dir, Method::POST, STOP, &mode).await.map(drop)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))
}

/// Holds a machine still or lets it go on, and returns once that is so.
pub(crate) async fn hold(dir: &WorkspaceDir, hold: Hold) -> Result<()> {
    let asked = call(dir, Method::POST, HOLD, &hold);
    match tokio::time::timeout(HOLD_PATIENCE, asked).await.unwrap_or_else(|_| Err(gone()))? {
        HoldReport::Done => Ok(()),
        HoldReport::Failed(error) => Err(error),
    }
}

/// Keeps the disk of a running machine still for as long as it lives.
#[derive(Debug)]
pub(crate) struct Freeze {
    socket: Socket,
}

impl Freeze {
    /// Fails unless the disk was still from the beginning until now.
    pub(crate) async fn confirm(&mut self) -> Result<()> {
        let broken = || {
            Error::new(ErrorCode::Busy, "the workspace did not stay still while it was read")
                .with_hint("it was stopped or died meanwhile; try again")
        };
        let confirmed = async {
            self.socket.send(Message::Text("still?".into())).await.ok()?;
            next_text(&mut self.socket).await.ok()
        };
        match tokio::time::timeout(PATIENCE, confirmed).await {
            Ok(Some(FreezeReport::Frozen)) => Ok(()),
            _ => Err(broken()),
        }
    }
}

pub(crate) async fn freeze(dir: &WorkspaceDir) -> Result<Freeze> {
    let mut socket = open_socket(dir, FREEZE).await?;
    match next_text(&mut socket).await? {
        FreezeReport::Frozen => Ok(Freeze { socket }),
        FreezeReport::Failed(error) => Err(error),
    }
}

/// What a running command has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote something.
    Output(Stream, Bytes),
    /// It ended; nothing follows.
    Exit(ExecOutcome),
}

/// A command running in a workspace. Dropping both halves ends it, unless it is detached.
#[derive(Debug)]
pub struct ExecSession {
    /// The workspace that it runs in.
    pub workspace: WorkspaceId,
    /// The command's number in the journal.
    pub sequence: u64,
    /// What it says.
    pub output: ExecOutput,
    /// What it is told.
    pub input: ExecInput,
}

/// The listening half of a command.
#[derive(Debug)]
pub struct ExecOutput {
    frames: SplitStream<Socket>,
    credit: tokio::sync::mpsc::Sender<()>,
}

/// The speaking half of a command.
#[derive(Debug)]
pub struct ExecInput {
    frames: SplitSink<Socket, Message>,
    /// One for each frame of stdin that may be sent.
    credit: tokio::sync::mpsc::Receiver<()>,
    /// One was taken, for the next frame.
    is_ready: bool,
}

pub(crate) async fn exec(
    dir: &WorkspaceDir,
    request: &ExecRequest,
    terminal: Option<TerminalSize>,
) -> Result<ExecSession> {
    let mut socket = open_socket(dir, EXEC).await?;
    let start = match terminal {
        None => ExecCommand::Start(request.clone()),
        Some(size) => ExecCommand::StartOnTerminal(request.clone(), size),
    };
    socket.send(text(&start)).await.map_err(lost)?;
    let sequence = match next_text(&mut socket).await? {
        ExecReport::Started { sequence } => sequence,
        ExecReport::Failed(error) => return Err(error),
        ExecReport::Exit(_) | ExecReport::StdinTaken => return Err(unexpected()),
    };
    let (sink, stream) = socket.split();
    let (give, take) = tokio::sync::mpsc::channel(STDIN_WINDOW);
    for _ in 0..STDIN_WINDOW {
        let _ = give.try_send(());
    }
    Ok(ExecSession {
        workspace: dir.id()?,
        sequence,
        output: ExecOutput { frames: stream, credit: give },
        input: ExecInput { frames: sink, credit: take, is_ready: false },
    })
}

impl ExecOutput {
    /// The next event; `None` after [`ExecEvent::Exit`]. Not calling this blocks the command once
    /// a few hundred KiB are on their way.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>> {
        while let Some(frame) = self.frames.next().await {
            match frame.map_err(lost)? {
                Message::Binary(frame) => {
                    if let Some(event) = output_event(&frame) {
                        return Ok(Some(event));
                    }
                }
                Message::Text(report) => match serde_json::from_str(&report) {
                    Ok(ExecReport::Exit(outcome)) => return Ok(Some(ExecEvent::Exit(outcome))),
                    Ok(ExecReport::Failed(error)) => return Err(error),
                    Ok(ExecReport::StdinTaken) => {
                        let _ = self.credit.try_send(());
                    }
                    _ => return Err(unexpected()),
                },
                Message::Close(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn output_event(frame: &Bytes) -> Option<ExecEvent> {
    let stream = match *frame.first()? {
        byte if byte == Channel::Stdout as u8 => Stream::Stdout,
        byte if byte == Channel::Stderr as u8 => Stream::Stderr,
        _ => return None,
    };
    Some(ExecEvent::Output(stream, frame.slice(1..)))
}

impl ExecInput {
    /// The most bytes that [`Self::ready`] promises room for.
    pub const PIECE: usize = STDIN_FRAME;

    /// Waits until a piece of stdin would be taken at once. Giving up this wait loses nothing.
    pub async fn ready(&mut self) -> Result<()> {
        if !self.is_ready {
            self.credit.recv().await.ok_or_else(unexpected)?;
            self.is_ready = true;
        }
        Ok(())
    }

    /// Sends stdin; waits while the command does not take it. The request must have said `stdin`.
    ///
    /// Needs somebody to call [`ExecOutput::next`] meanwhile: that is where the supervisor's
    /// acknowledgements arrive.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(Self::PIECE) {
            self.ready().await?;
            self.is_ready = false;
            let frame = Channel::Stdin.frame(piece);
            self.frames.send(Message::Binary(frame.into())).await.map_err(lost)?;
        }
        Ok(())
    }

    /// Ends stdin.
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.frames.send(text(&ExecCommand::StdinClosed)).await.map_err(lost)
    }

    /// Gives the command's terminal another size, if it has one.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        self.frames.send(text(&ExecCommand::Resize(size))).await.map_err(lost)
    }

    /// Sends a signal, by number, to the command's process group.
    pub async fn signal(&mut self, signal: i32) -> Result<()> {
        self.frames.send(text(&ExecCommand::Signal(signal))).await.map_err(lost)
    }
}

fn text<T: Serialize>(message: &T) -> Message {
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

async fn next_text<T: DeserializeOwned>(socket: &mut Socket) -> Result<T> {
    while let Some(frame) = socket.next().await {
        if let Message::Text(text) = frame.map_err(lost)? {
            return serde_json::from_str(&text).map_err(|_| unexpected());
        }
    }
    Err(gone())
}

async fn open_socket(dir: &WorkspaceDir, path: &str) -> Result<Socket> {
    let stream = connect(dir).await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let mut request =
        format!("ws://workspace{path}").into_client_request().map_err(|_| unexpected())?;
    if let Some(name) = named(dir) {
        request.headers_mut().insert(caller::HEADER, name);
    }
    tokio_tungstenite::client_async_with_config(request, stream, Some(config))
        .await
        .map(|(socket, _)| socket)
        .map_err(lost)
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn handshake(dir: &WorkspaceDir) -> Result<(Sender, tokio::task::JoinHandle<()>)> {
    let stream = TokioIo::new(connect(dir).await?);
    let (sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|_| gone())?;
    // Ends with the sender.
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok((sender, driver))
}

async fn send<T: Serialize>(
    sender: &mut Sender,
    dir: &WorkspaceDir,
    method: Method,
    path: &str,
    body: &T,
) -> Result<Bytes> {
    send_for(sender, dir, method, path, body, MAX_ANSWER).await
}

/// For an answer that has at most so many bytes.
async fn send_for<T: Serialize>(
    sender: &mut Sender,
    dir: &WorkspaceDir,
    method: Method,
    path: &str,
    body: &T,
    max_answer: usize,
) -> Result<Bytes> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "workspace")
        .header(hyper::header::CONTENT_TYPE, "application/json");
    if let Some(name) = named(dir) {
        request = request.header(caller::HEADER, name);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|_| gone())?;
    if !response.status().is_success() {
        return Err(unexpected().with_cause(format!("HTTP status {}", response.status())));
    }
    let body = Limited::new(response.into_body(), max_answer).collect().await;
    Ok(body.map_err(|_| unexpected())?.to_bytes())
}

async fn call<T: DeserializeOwned>(
    dir: &WorkspaceDir,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<T> {
    let (mut sender, _connection) = handshake(dir).await?;
    let answer = send(&mut sender, dir, method, path, body).await?;
    serde_json::from_slice(&answer).map_err(|_| unexpected())
}

/// Who asks, for the journal.
fn named(dir: &WorkspaceDir) -> Option<hyper::header::HeaderValue> {
    dir.caller().name().and_then(|name| hyper::header::HeaderValue::from_str(name).ok())
}

/// Through the open directory: a socket's path may have only 107 bytes (unix(7)).
async fn connect(dir: &WorkspaceDir) -> Result<UnixStream> {
    let open = File::open(dir.path()).map_err(|_| gone())?;
    let short = format!("/proc/self/fd/{}/{}", open.as_raw_fd(), WorkspaceDir::SOCKET);
    UnixStream::connect(short).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::io("cannot reach the workspace's supervisor", &error)
        }
        _ => gone(),
    })
}

/// The supervisor does not answer: the workspace is not running, or stopped running just now.
fn gone() -> Error {
    Error::new(ErrorCode::WrongState, "the workspace is not running")
        .with_hint("`pyro workspace status` tells its state, `pyro workspace start` starts it")
}

#[allow(clippy::needless_pass_by_value)] // the shape that map_err wants
fn lost(error: tokio_tungstenite::tungstenite::Error) -> Error {
    gone().with_cause(error.to_string())
}

fn unexpected() -> Error {
    Error::new(ErrorCode::Internal, "the workspace's supervisor gave an answer that makes no sense")
        .with_hint("stop and start the workspace if pyro was just updated")
}
