//! The protocol over stdin and stdout: one JSON message a line.
//!
//! Own framing, because a client has to hear of a message that was too long or made no sense: one
//! that is silently dropped leaves it waiting for ever.

mod envelope;

use std::time::Duration;

use pyro_contract::{Error, ErrorCode, Result};
use rmcp::model::{ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage, serve_server_with_ct};
use rmcp::transport::Transport;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::server::Server;
use envelope::Envelope;

/// The longest message taken. What is longer is read, not kept, and refused.
const MAX_MESSAGE: usize = 16 << 20;

/// Messages that wait for a client that does not read.
const QUEUE: usize = 64;

/// A client that does not read has this long to take the last messages.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves one client until it closes stdin, or is gone.
///
/// What runs when stdin is closed has five seconds to answer. When stdout is closed too there is
/// nobody left, and calls are given up at once.
pub async fn serve_stdio(server: Server) -> Result<()> {
    let ending = CancellationToken::new();
    let watching = tokio::spawn(end_when_nobody_is_left(ending.clone()));
    let (stdin, stdout) = rmcp::transport::io::stdio_pipes();
    let lines = Lines::new(stdin, stdout);
    let served = serve_server_with_ct(server.clone(), lines, ending).await;
    let ended = match served {
        Ok(running) => running.waiting().await.map(drop).map_err(|error| {
            Error::new(ErrorCode::Internal, "the server failed").with_cause(error.to_string())
        }),
        // A client that went before it said anything is no failure of ours.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(rmcp::service::ServerInitializeError::Cancelled) => Ok(()),
        Err(error) => Err(Error::new(
            ErrorCode::InvalidArgument,
            "the client did not begin as the protocol says",
        )
        .with_cause(error.to_string())
        .with_hint("`pyro mcp serve` is started by an MCP client; `pyro mcp install` sets one up")),
    };
    watching.abort();
    server.idle().await;
    ended
}

/// Triggers once the reader of stdout is gone, or somebody asks this process to end.
async fn end_when_nobody_is_left(ending: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        () = stdout_closed() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    ending.cancel();
}

/// A pipe or socket without a reader reports an error (poll(2)); a file or terminal has none to lose.
///
/// By a thread that does nothing else, because the event loop could watch a socket only by making it
/// non-blocking for everybody who has it.
async fn stdout_closed() {
    let (gone, heard) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let stdout = std::io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                // Then nobody can tell.
                Err(_) => return,
            }
        }
        let _ = gone.send(());
    });
    if heard.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Lines of JSON in both directions.
struct Lines<R> {
    read: BufReader<R>,
    line: Vec<u8>,
    /// Set while a line is read that is too long to be kept.
    oversized: Option<Envelope>,
    /// An answer to what was not passed on.
    refusal: Option<ServerJsonRpcMessage>,
    queue: Option<mpsc::Sender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(read: R, write: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        Self {
            read: BufReader::with_capacity(64 << 10, read),
            line: Vec::new(),
            oversized: None,
            refusal: None,
            queue: Some(queue),
            writer: Some(tokio::spawn(write_lines(write, queued))),
        }
    }

    /// Reads to the end of a line; `None` at the end of all. May be dropped at any await: what was
    /// read so far stays.
    async fn line(&mut self) -> Option<Line> {
        loop {
            let available = match self.read.fill_buf().await {
                Ok([]) | Err(_) => return None,
                Ok(available) => available,
            };
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let part = available.get(..taken).unwrap_or_default();
            match &mut self.oversized {
                Some(envelope) => envelope.feed(part),
                None if self.line.len() + part.len() > MAX_MESSAGE => {
                    let mut envelope = Envelope::default();
                    envelope.feed(&std::mem::take(&mut self.line));
                    envelope.feed(part);
                    self.oversized = Some(envelope);
                }
                None => self.line.extend_from_slice(part),
            }
            self.read.consume(taken);
            if newline.is_some() {
                return Some(match self.oversized.take() {
                    Some(envelope) => Line::Oversized(envelope.id()),
                    None => Line::Whole(std::mem::take(&mut self.line)),
                });
            }
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    Oversized(Option<RequestId>),
}

async fn write_lines(mut write: impl AsyncWrite + Unpin, mut queued: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queued.recv().await {
        let written = async {
            write.write_all(&line).await?;
            write.flush().await
        };
        // Without a reader the rest is in vain; that it is gone is noticed elsewhere.
        if written.await.is_err() {
            return;
        }
    }
}

fn to_line(message: &impl serde::Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// What a line is.
enum Parsed {
    Message(RxJsonRpcMessage<RoleServer>),
    /// No message, and this is the answer.
    Refused(ServerJsonRpcMessage),
    /// No message that we know, and it asked for no answer.
    Ignored,
}

fn parse(line: &[u8]) -> Parsed {
    let error = match serde_json::from_slice(line) {
        Ok(message) => return Parsed::Message(message),
        Err(error) => error,
    };
    let refuse = |error, id| Parsed::Refused(ServerJsonRpcMessage::error(error, id));
    if error.is_syntax() || error.is_eof() {
        return refuse(ErrorData::parse_error(format!("this is not JSON: {error}"), None), None);
    }
    let mut envelope = Envelope::default();
    envelope.feed(line);
    match envelope.id() {
        None if envelope.is_notification() => Parsed::Ignored,
        id => {
            let message = format!("this is no message of MCP: {error}");
            refuse(ErrorData::invalid_request(message, None), id)
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Transport<RoleServer> for Lines<R> {
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
        let queue = self.queue.clone();
        async move {
            let closed = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            let line = to_line(&message)?;
            queue.ok_or_else(closed)?.send(line).await.map_err(|_| closed())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(refusal) = &self.refusal {
                let line = to_line(refusal).ok()?;
                self.queue.as_ref()?.send(line).await.ok()?;
                self.refusal = None;
            }
            match self.line().await? {
                Line::Oversized(id) => {
                    let message = format!("the message is longer than {} MiB", MAX_MESSAGE >> 20);
                    let error = ErrorData::invalid_request(message, None);
                    self.refusal = Some(ServerJsonRpcMessage::error(error, id));
                }
                Line::Whole(line) if line.trim_ascii().is_empty() => {}
                Line::Whole(line) => match parse(&line) {
                    Parsed::Message(message) => return Some(message),
                    Parsed::Refused(refusal) => self.refusal = Some(refusal),
                    Parsed::Ignored => {}
                },
            }
        }
    }

    async fn close(&mut self) -> std::io::Result<()> {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = tokio::time::timeout(LAST_WORDS, writer).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What the server says to these lines, and how many messages it takes.
    async fn say(input: &[u8]) -> (usize, Vec<Value>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut lines = Lines::new(std::io::Cursor::new(input.to_vec()), ours);
        let mut taken = 0;
        while lines.receive().await.is_some() {
            taken += 1;
        }
        lines.close().await.unwrap();
        drop(lines);
        let mut said = String::new();
        let mut theirs = theirs;
        tokio::io::AsyncReadExt::read_to_string(&mut theirs, &mut said).await.unwrap();
        (taken, said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_answered_and_the_next_message_is_taken() {
        let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
        for (broken, code, id) in [
            ("{\"jsonrpc\": oops", -32700, Value::Null),
            ("\u{fffd}", -32700, Value::Null),
            ("[]", -32600, Value::Null),
            (r#"{"jsonrpc":"1.0","id":"x","method":"ping"}"#, -32600, json!("x")),
            (r#"{"jsonrpc":"2.0","id":3,"method":7}"#, -32600, json!(3)),
            ("42", -32600, Value::Null),
        ] {
            let (taken, said) = say(format!("{broken}\n\n{ping}\n").as_bytes()).await;
            assert_eq!(taken, 1, "{broken}");
            assert_eq!(said.len(), 1, "{broken}: {said:?}");
            assert_eq!(said[0]["error"]["code"], code, "{broken}: {said:?}");
            assert_eq!(said[0]["id"], id, "{broken}: {said:?}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_answered_by_its_id_wherever_that_stands() {
        let long = "x".repeat(MAX_MESSAGE);
        for message in [
            json!({"id": 5, "jsonrpc": "2.0", "method": "ping", "params": {"id": 6, "x": long}}),
            json!({"jsonrpc": "2.0", "params": {"id": 6, "x": long}, "id": 5}),
        ] {
            let ping = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
            let (taken, said) = say(format!("{message}\n{ping}\n").as_bytes()).await;
            assert_eq!((taken, said.len()), (1, 1));
            assert_eq!(said[0]["id"], 5);
            assert!(said[0]["error"]["message"].as_str().unwrap().contains("16 MiB"));
        }
    }
}
