//! The calling side.

use std::future::{Ready, ready};
use std::io;
use std::sync::Mutex;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::limits;
use crate::v1::agent_client::AgentClient;

/// A gRPC channel over this one byte stream. When the stream ends, every call fails with
/// `UNAVAILABLE`: a lost stream is never silently replaced by another.
///
/// Must be called within a tokio runtime. Nothing is sent before the first call.
pub fn channel<S>(stream: S) -> Channel
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Endpoint::from_static("http://agent")
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .http2_max_header_list_size(limits::MAX_HEADERS)
        .connect_with_connector_lazy(OneStream(Mutex::new(Some(stream))))
}

/// The agent's calls over this one byte stream, with this crate's limits on messages.
pub fn agent<S>(stream: S) -> AgentClient<Channel>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    AgentClient::new(channel(stream))
        .max_decoding_message_size(limits::MAX_MESSAGE_SIZE)
        .max_encoding_message_size(limits::MAX_MESSAGE_SIZE)
}

/// A connector that has one stream to give.
struct OneStream<S>(Mutex<Option<S>>);

impl<S> tower::Service<Uri> for OneStream<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<S>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.get_mut().ok().and_then(Option::take);
        ready(stream.map(TokioIo::new).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotConnected, "the stream to the agent has ended")
        }))
    }
}
