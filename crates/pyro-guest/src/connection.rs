//! Whether a connection to the host is lost.
//!
//! A host that drops a call says so, and means the call's end. A connection that is lost says nothing:
//! the machine goes on as a copy of one that was captured, or its host has let go of it. Whoever
//! serves a call has to tell the two apart.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One connection. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Connection(Arc<AtomicBool>);

impl Connection {
    /// True before any call that came over it is dropped for that reason.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Passes on the bytes of its stream, and notices their end.
    pub(crate) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, connection: self.clone() }
    }

    /// Its end was noticed by other means.
    pub(crate) fn lose(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// See [`Connection::watch`].
pub(crate) struct Watched<S> {
    stream: S,
    connection: Connection,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        if read.is_err() || (buffer.filled().len() == before && buffer.remaining() > 0) {
            self.connection.lose();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if written.is_err() {
            self.connection.lose();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_is_lost_when_its_stream_ends_and_not_before() {
        let (mut near, far) = tokio::io::duplex(64);
        let connection = Connection::default();
        let mut far = connection.watch(far);
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        far.write_all(b"y").await.unwrap();
        assert!(!connection.is_lost());
        drop(near);
        assert!(far.read_u8().await.is_err());
        assert!(connection.is_lost());
    }
}
