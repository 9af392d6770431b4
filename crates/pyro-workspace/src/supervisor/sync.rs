//! A sync: comparisons of trees, passed on between a client's socket and the agent, one client after
//! the other. What a client then changes, it changes by a transaction (`tree.rs`).
//!
//! Nothing is kept here but the message that is being passed on. Should the client go away, the call
//! to the agent ends with it.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::CompareInput;
use pyro_wire::v1::compare_input::Input;
use pyro_wire::v1::compare_output::Output;
use tokio::sync::mpsc;

use super::Shared;
use super::exec::obituary;
use super::server::text;
use crate::agent::{broken, misbehaved};
use crate::caller::Caller;
use crate::protocol::SyncReport;

/// Messages on their way to the agent.
const WINDOW: usize = 4;

/// Serves one client until it has had enough.
pub(super) async fn session(socket: WebSocket, shared: Arc<Shared>, caller: Caller) {
    let (sink, stream) = socket.split();
    let mut client = Client { sink, stream, caller };
    let _waiting = shared.vigil.begin();
    let _session = shared.sessions.read().await;
    let _turn = match shared.syncs.try_lock() {
        Ok(turn) => turn,
        Err(_) => {
            client.report(&SyncReport::Waiting).await;
            tokio::select! {
                turn = shared.syncs.lock() => turn,
                // It has nothing to say yet; it hung up.
                _ = client.stream.next() => return,
            }
        }
    };
    if let Err(error) = shared.holds.check() {
        return client.report(&SyncReport::Failed(error)).await;
    }
    client.report(&SyncReport::Ready).await;
    let served = tokio::select! {
        served = client.serve(&shared) => served,
        error = shared.vigil.silence() => Err(error),
    };
    let failed = match served {
        Ok(()) => return,
        Err(error) if error.code == ErrorCode::MachineFailed => obituary(&shared, error).await,
        Err(error) => error,
    };
    client.report(&SyncReport::Failed(failed)).await;
    let _ = client.sink.close().await;
}

struct Client {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    caller: Caller,
}

/// What a client says.
enum Said {
    Input(CompareInput),
    /// What it did on its own, for the journal.
    Event(EventKind),
}

impl Client {
    async fn report(&mut self, report: &SyncReport) {
        // A client that has gone is noticed when it is listened to.
        let _ = self.sink.send(text(report)).await;
    }

    /// One call to the agent after the other, until the client hangs up.
    async fn serve(&mut self, shared: &Shared) -> Result<()> {
        while let Some(said) = next(&mut self.stream).await? {
            match said {
                Said::Input(first) => self.compare(shared, first).await?,
                Said::Event(event) => shared.note(event, &self.caller).await,
            }
        }
        Ok(())
    }

    async fn compare(&mut self, shared: &Shared, first: CompareInput) -> Result<()> {
        let (inputs, received) = mpsc::channel(WINDOW);
        let _ = inputs.send(first).await;
        let mut outputs = shared.agent.compare_tree(received).await?;
        let Self { sink, stream, .. } = self;
        let sending = async {
            while let Some(Said::Input(input)) = next(stream).await? {
                let is_last = matches!(input.input, Some(Input::End(_)));
                // If the agent takes no more, it says why.
                if inputs.send(input).await.is_err() || is_last {
                    return Ok(());
                }
            }
            Err(hung_up())
        };
        let receiving = async {
            loop {
                let output = outputs.message().await;
                let output = output
                    .map_err(|status| refused(&status))?
                    .ok_or_else(|| misbehaved("a comparison has no end"))?;
                let is_last = matches!(output.output, Some(Output::Compared(_)));
                pass_on(sink, &output).await?;
                if is_last {
                    return Ok(());
                }
            }
        };
        both(sending, receiving).await
    }
}

/// Sends and receives at the same time; ends with the answer, or with the first failure.
async fn both<T>(
    sending: impl Future<Output = Result<()>>,
    receiving: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        biased;
        received = &mut receiving => received,
        sent = sending => { sent?; receiving.await }
    }
}

/// What the client sends next; `None` once it has hung up.
async fn next(stream: &mut SplitStream<WebSocket>) -> Result<Option<Said>> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(frame))) => {
                let input = CompareInput::decode(frame).map_err(|_| senseless())?;
                return Ok(Some(Said::Input(input)));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
            Some(Ok(Message::Text(event))) => {
                return match serde_json::from_str(&event) {
                    Ok(event @ (EventKind::SyncPulled { .. } | EventKind::Applied { .. })) => {
                        Ok(Some(Said::Event(event)))
                    }
                    _ => Err(senseless()),
                };
            }
            Some(Ok(_)) => {}
        }
    }
}

async fn pass_on(
    sink: &mut SplitSink<WebSocket, Message>,
    message: &impl prost::Message,
) -> Result<()> {
    sink.send(Message::Binary(message.encode_to_vec().into())).await.map_err(|_| hung_up())
}

/// A comparison that the machine gave up, with the words of its system.
fn refused(status: &tonic::Status) -> Error {
    let error = broken("the trees could not be compared", status);
    match status.code() {
        tonic::Code::FailedPrecondition => Error { code: ErrorCode::UnsafeTarget, ..error }
            .with_hint("choose another --dest, or remove what is in the way"),
        tonic::Code::PermissionDenied => Error { code: ErrorCode::PermissionDenied, ..error }
            .with_hint("even root may not look into it in the workspace; choose another --dest"),
        _ => error,
    }
}

fn hung_up() -> Error {
    Error::new(ErrorCode::Cancelled, "the client hung up")
}

fn senseless() -> Error {
    Error::new(ErrorCode::InvalidArgument, "a message of a sync makes no sense")
        .with_hint("stop and start the workspace if pyro was just updated")
}
