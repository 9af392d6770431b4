//! The serving side.

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::limits;
use crate::v1::agent_server::{Agent, AgentServer};

/// Bytes of one reply that wait for the stream to take them. Each is a copy that a small machine
/// has to hold for every stalled reader.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves the agent's calls over this one byte stream until it ends.
///
/// hyper is used directly instead of tonic's server: there is one connection, not a listener, and
/// the caller needs to know when exactly that one is over. All calls are dropped by then.
///
/// # Errors
///
/// The stream failed, or the other side broke HTTP/2.
pub async fn serve<S, A>(stream: S, agent: A) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Agent,
{
    let service = AgentServer::new(agent)
        .max_decoding_message_size(limits::MAX_MESSAGE_SIZE)
        .max_encoding_message_size(limits::MAX_MESSAGE_SIZE);
    http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_concurrent_streams(limits::MAX_CALLS)
        .max_frame_size(limits::MAX_FRAME)
        .max_header_list_size(limits::MAX_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        // The host may drop as many calls at once as it may open: that is no attack on the agent.
        .max_pending_accept_reset_streams(limits::MAX_CALLS as usize)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
}
