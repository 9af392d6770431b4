//! The protocol between the host and the agent inside a machine, and how it travels.
//!
//! The messages are generated from `proto/agent.proto`. [`channel`] makes a gRPC client out of any
//! one byte stream (a virtio-serial port, a vsock connection, a unix socket), and [`serve`] a
//! server; both set the same limits, so that neither side can make the other buffer without bound.
//! Nothing here knows of workspaces.

mod client;
mod limits;
mod server;

pub use client::{agent, channel};
pub use limits::{CHUNK, CONNECTION_WINDOW, MAX_CALLS, MAX_MESSAGE_SIZE, STREAM_WINDOW};
pub use server::serve;

/// Messages, client and server of `pyro.agent.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("pyro.agent.v1");
}
