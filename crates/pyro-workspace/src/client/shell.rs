//! The client's side of shells.

use axum::body::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Method;
use pyro_contract::Result;
use pyro_contract::shell::{
    OfShell, OpenShell, ReadShell, ResizeShell, ShellInfo, ShellOutput, ShellRef, ShellWritten,
    SignalShell, TerminalSize, WriteShell,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, call, lost, next_text, open_socket, text, unexpected};
use crate::home::WorkspaceDir;
use crate::protocol::{
    Answer, AttachCommand, AttachReport, Channel, SHELL_ATTACH, SHELL_CLOSE, SHELL_LIST,
    SHELL_OPEN, SHELL_READ, SHELL_RESIZE, SHELL_SIGNAL, SHELL_WRITE, STDIN_WINDOW,
};

/// What is typed goes in frames of this, so that one of many who type is not held up by another.
const FRAME: usize = 4096;

/// Requests with an answer of their own. How long they may take is for the supervisor to bound.
async fn ask<T: DeserializeOwned>(
    dir: &WorkspaceDir,
    path: &str,
    request: &impl Serialize,
) -> Result<T> {
    match call(dir, Method::POST, path, request).await? {
        Answer::Done(done) => Ok(done),
        Answer::Failed(error) => Err(error),
    }
}

pub(crate) async fn open(dir: &WorkspaceDir, request: &OpenShell) -> Result<ShellInfo> {
    ask(dir, SHELL_OPEN, request).await
}

pub(crate) async fn list(dir: &WorkspaceDir) -> Result<Vec<ShellInfo>> {
    call(dir, Method::GET, SHELL_LIST, &()).await
}

pub(crate) async fn read(dir: &WorkspaceDir, request: &ReadShell) -> Result<ShellOutput> {
    ask(dir, SHELL_READ, request).await
}

pub(crate) async fn write(dir: &WorkspaceDir, request: &WriteShell) -> Result<ShellWritten> {
    ask(dir, SHELL_WRITE, request).await
}

pub(crate) async fn resize(dir: &WorkspaceDir, request: &ResizeShell) -> Result<ShellInfo> {
    ask(dir, SHELL_RESIZE, request).await
}

pub(crate) async fn signal(dir: &WorkspaceDir, request: &SignalShell) -> Result<ShellInfo> {
    ask(dir, SHELL_SIGNAL, request).await
}

pub(crate) async fn close(dir: &WorkspaceDir, request: &OfShell) -> Result<ShellInfo> {
    ask(dir, SHELL_CLOSE, request).await
}

/// What a shell has to say to somebody attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEvent {
    /// It shows something.
    Output(Bytes),
    /// It has ended so; nothing follows.
    Closed(ShellInfo),
}

/// Somebody attached to a shell. Dropping both halves detaches him, and the shell goes on.
#[derive(Debug)]
pub struct Attachment {
    /// The shell, as it was found.
    pub shell: ShellInfo,
    /// What it shows: first its screen as it is, then what its program writes.
    pub output: AttachOutput,
    /// What is typed.
    pub input: AttachInput,
}

/// The watching half.
#[derive(Debug)]
pub struct AttachOutput {
    frames: SplitStream<Socket>,
    credit: mpsc::Sender<()>,
}

/// The typing half.
#[derive(Debug)]
pub struct AttachInput {
    frames: SplitSink<Socket, Message>,
    /// One for each frame that may be sent.
    credit: mpsc::Receiver<()>,
}

pub(crate) async fn attach(
    dir: &WorkspaceDir,
    shell: &ShellRef,
    size: Option<TerminalSize>,
) -> Result<Attachment> {
    let mut socket = open_socket(dir, SHELL_ATTACH).await?;
    let start = AttachCommand::Start(shell.clone(), size);
    socket.send(text(&start)).await.map_err(lost)?;
    let shell = match next_text(&mut socket).await? {
        AttachReport::Attached(shell) => shell,
        AttachReport::Failed(error) => return Err(error),
        AttachReport::Typed | AttachReport::Closed(_) => return Err(unexpected()),
    };
    let (sink, stream) = socket.split();
    let (give, take) = mpsc::channel(STDIN_WINDOW);
    for _ in 0..STDIN_WINDOW {
        let _ = give.try_send(());
    }
    Ok(Attachment {
        shell,
        output: AttachOutput { frames: stream, credit: give },
        input: AttachInput { frames: sink, credit: take },
    })
}

impl AttachOutput {
    /// The next event; `None` if the connection ended. Whoever calls this too seldom misses some
    /// of what is shown, and gets the screen anew.
    pub async fn next(&mut self) -> Result<Option<AttachEvent>> {
        while let Some(frame) = self.frames.next().await {
            match frame.map_err(lost)? {
                Message::Binary(frame) if frame.first() == Some(&(Channel::Stdout as u8)) => {
                    return Ok(Some(AttachEvent::Output(frame.slice(1..))));
                }
                Message::Text(report) => match serde_json::from_str(&report) {
                    Ok(AttachReport::Closed(shell)) => {
                        return Ok(Some(AttachEvent::Closed(shell)));
                    }
                    Ok(AttachReport::Failed(error)) => return Err(error),
                    Ok(AttachReport::Typed) => {
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

impl AttachInput {
    /// Types; waits while the terminal does not take it.
    ///
    /// Needs somebody to call [`AttachOutput::next`] meanwhile: that is where the supervisor's
    /// acknowledgements arrive.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(FRAME) {
            self.credit.recv().await.ok_or_else(unexpected)?;
            let frame = Channel::Stdin.frame(piece);
            self.frames.send(Message::Binary(frame.into())).await.map_err(lost)?;
        }
        Ok(())
    }

    /// Gives the shell's terminal another size.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        self.frames.send(text(&AttachCommand::Resize(size))).await.map_err(lost)
    }
}
