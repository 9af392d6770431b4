//! The client's side of a sync: comparisons, one after the other over one socket. Changes are made by
//! a transaction (`tree.rs`) while that socket is held open.

use axum::body::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::compare_input::Input;
use pyro_wire::v1::compare_output::Output;
use pyro_wire::v1::{CompareEnd, CompareInput, CompareOutput, CompareStart, Compared};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Socket, lost, open_socket, unexpected};
use crate::home::WorkspaceDir;
use crate::protocol::{SYNC, SyncReport};

/// A socket to the supervisor on which trees are compared. While it is open nobody else syncs with the
/// workspace.
pub(crate) struct SyncSession {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
}

impl SyncSession {
    /// Connects; waits for its turn, calling `waiting` if it has to.
    pub(crate) async fn open(dir: &WorkspaceDir, waiting: impl Fn()) -> Result<Self> {
        let (sink, stream) = open_socket(dir, SYNC).await?.split();
        let mut this = Self { sink, stream };
        loop {
            match this.report().await? {
                Received::Report(SyncReport::Waiting) => waiting(),
                Received::Report(SyncReport::Ready) => return Ok(this),
                _ => return Err(unexpected()),
            }
        }
    }

    /// Compares what comes out of `inputs`, to whose end it listens, giving all answers to `take`.
    pub(crate) async fn compare(
        &mut self,
        start: CompareStart,
        mut inputs: mpsc::Receiver<Result<pyro_wire::v1::CompareDirectory>>,
        mut take: impl FnMut(Output) -> Result<()>,
    ) -> Result<Compared> {
        let Self { sink, stream } = self;
        let sending = async {
            send(sink, &input(Input::Start(start))).await?;
            while let Some(directory) = inputs.recv().await {
                let message = input(Input::Directory(directory?));
                send(sink, &message).await?;
            }
            send(sink, &input(Input::End(CompareEnd {}))).await
        };
        let receiving = async {
            loop {
                let Received::Frame(bytes) = receive(stream).await? else {
                    return Err(unexpected());
                };
                let output = CompareOutput::decode(bytes).map_err(|_| unexpected())?;
                match output.output.ok_or_else(unexpected)? {
                    Output::Compared(compared) => return Ok(compared),
                    output => take(output)?,
                }
            }
        };
        both(sending, receiving).await
    }

    /// Has something entered in the journal.
    pub(crate) async fn note(&mut self, event: &EventKind) -> Result<()> {
        self.sink.send(super::text(event)).await.map_err(lost)?;
        self.sink.close().await.map_err(lost)
    }

    async fn report(&mut self) -> Result<Received> {
        receive(&mut self.stream).await
    }
}

/// Sends and receives; ends once the answer is there, or with the first failure. If the other side
/// hangs up, what it said last is the reason.
async fn both<T>(
    sending: impl Future<Output = Result<()>>,
    receiving: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut receiving = std::pin::pin!(receiving);
    let mut sending = std::pin::pin!(sending);
    let sent = tokio::select! {
        biased;
        received = &mut receiving => return received,
        sent = &mut sending => sent,
    };
    match sent {
        Err(error) if error.code == ErrorCode::WrongState => {
            Err(receiving.await.err().unwrap_or(error))
        }
        Err(error) => Err(error),
        Ok(()) => receiving.await,
    }
}

enum Received {
    Frame(Bytes),
    Report(SyncReport),
}

fn input(input: Input) -> CompareInput {
    CompareInput { input: Some(input) }
}

async fn send(sink: &mut SplitSink<Socket, Message>, message: &impl prost::Message) -> Result<()> {
    sink.send(Message::Binary(message.encode_to_vec().into())).await.map_err(lost)
}

async fn receive(stream: &mut SplitStream<Socket>) -> Result<Received> {
    loop {
        match stream.next().await.ok_or_else(super::gone)?.map_err(lost)? {
            Message::Binary(frame) => return Ok(Received::Frame(frame)),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(SyncReport::Failed(error)) => return Err(error),
                Ok(report) => return Ok(Received::Report(report)),
                Err(_) => return Err(unexpected()),
            },
            Message::Close(_) => {
                return Err(Error::new(
                    ErrorCode::MachineFailed,
                    "the workspace's supervisor ended the sync",
                )
                .with_hint("`pyro workspace status` tells whether its machine still runs"));
            }
            _ => {}
        }
    }
}
