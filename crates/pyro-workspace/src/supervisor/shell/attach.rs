//! Somebody at a terminal of his own, attached to a shell. Any number may be.
//!
//! He gets the screen as it is, and from then on what the program writes. Who reads too slowly
//! misses what was dropped meanwhile, and gets the screen anew.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use pyro_contract::shell::TerminalSize;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::sync::mpsc;

use super::one::Shell;
use crate::protocol::{AttachCommand, AttachReport, Channel, STDIN_WINDOW};
use crate::supervisor::Shared;
use crate::supervisor::server::text;

/// Bytes of output in one frame.
const FRAME: usize = 64 << 10;

type Sink = SplitSink<WebSocket, Message>;

/// Serves one client until he, or the shell, is gone.
pub(super) async fn session(socket: WebSocket, shared: Arc<Shared>) {
    let _session = shared.sessions.read().await;
    let (mut sink, mut commands) = socket.split();
    let shell = match begin(&shared, &mut commands).await {
        Ok(shell) => shell,
        Err(error) => {
            let _ = sink.send(text(&AttachReport::Failed(error))).await;
            return;
        }
    };
    shared.journal.touch();
    let attached = shell.attach();
    if sink.send(text(&AttachReport::Attached(shell.info()))).await.is_err() {
        return;
    }
    let (typing, to_type) = mpsc::channel(2 * STDIN_WINDOW);
    let (taken, acks) = mpsc::channel(2 * STDIN_WINDOW);
    tokio::select! {
        _ = show(&shell, &mut sink, acks) => {}
        () = listen(&shell, commands, typing) => {}
        () = type_in(&shell, to_type, taken) => {}
    }
    drop(attached);
    let _ = sink.close().await;
}

async fn begin(shared: &Shared, commands: &mut SplitStream<WebSocket>) -> Result<Arc<Shell>> {
    let invalid =
        || Error::new(ErrorCode::InvalidArgument, "the first message must say what to attach to");
    let Some(Ok(Message::Text(first))) = commands.next().await else { return Err(invalid()) };
    let Ok(AttachCommand::Start(reference, size)) = serde_json::from_str(&first) else {
        return Err(invalid());
    };
    let shell = shared.shells.find(&reference)?;
    if let Some(size) = size
        && shell.is_running()
        && shared.holds.check().is_ok()
    {
        resize(&shell, size).await;
    }
    Ok(shell)
}

/// The terminal is as large as that of whoever attached or resized last.
async fn resize(shell: &Shell, size: TerminalSize) {
    // One that has just ended keeps its size.
    let _ = shell.resize(size).await;
}

/// Sends what the shell shows, until its end or the client's.
async fn show(
    shell: &Shell,
    sink: &mut Sink,
    mut acks: mpsc::Receiver<()>,
) -> Result<(), axum::Error> {
    let mut progress = shell.watch();
    let (redraw, mut at) = shell.redraw();
    sink.send(frame(&redraw)).await?;
    loop {
        let closed = progress.borrow_and_update().closed;
        let (bytes, missed) = shell.since(at, FRAME);
        if missed > 0 {
            let (redraw, from) = shell.redraw();
            at = from;
            sink.send(frame(&redraw)).await?;
            continue;
        }
        if !bytes.is_empty() {
            at += bytes.len() as u64;
            sink.send(frame(&bytes)).await?;
            // A flood must not keep the client from typing.
            while acks.try_recv().is_ok() {
                sink.send(text(&AttachReport::Typed)).await?;
            }
            continue;
        }
        if closed {
            return sink.send(text(&AttachReport::Closed(shell.info()))).await;
        }
        tokio::select! {
            _ = progress.changed() => {}
            Some(()) = acks.recv() => sink.send(text(&AttachReport::Typed)).await?,
        }
    }
}

fn frame(bytes: &[u8]) -> Message {
    Message::Binary(Channel::Stdout.frame(bytes).into())
}

/// Takes what the client says. Returns only once he is gone: the socket is always being read. How
/// much may wait to be typed is bounded, and the client keeps to it because each frame is
/// acknowledged.
async fn listen(shell: &Shell, mut commands: SplitStream<WebSocket>, typing: mpsc::Sender<Bytes>) {
    let mut waiting = VecDeque::new();
    loop {
        let message = tokio::select! {
            message = commands.next() => message,
            permit = typing.reserve(), if !waiting.is_empty() => {
                let (Ok(permit), Some(bytes)) = (permit, waiting.pop_front()) else { return };
                permit.send(bytes);
                continue;
            }
        };
        match message {
            Some(Ok(Message::Binary(frame))) if frame.first() == Some(&(Channel::Stdin as u8)) => {
                waiting.push_back(frame.slice(1..));
            }
            Some(Ok(Message::Text(command))) => {
                if let Ok(AttachCommand::Resize(size)) = serde_json::from_str(&command) {
                    resize(shell, size).await;
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return,
        }
        if waiting.len() > 2 * STDIN_WINDOW {
            return;
        }
    }
}

async fn type_in(shell: &Shell, mut to_type: mpsc::Receiver<Bytes>, taken: mpsc::Sender<()>) {
    while let Some(bytes) = to_type.recv().await {
        // One that has ended says so where it is shown.
        let _ = shell.write(&bytes, None).await;
        let _ = taken.try_send(());
    }
    std::future::pending().await
}
