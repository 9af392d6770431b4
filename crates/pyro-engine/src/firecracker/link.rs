//! The byte stream to the agent: a vsock port of the machine, which Firecracker offers on the host
//! as a unix socket (`docs/vsock.md` of its sources).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;

/// Where the agent listens, and where it knocks when it does. The agent says the same.
pub(super) const PORT: u32 = 52;

/// `OK 1073741824\n` and to spare.
const REPLY_MAX: usize = 32;

/// Asks for the agent's port on a new connection to the machine's socket.
pub(super) async fn open_port(mut stream: UnixStream) -> io::Result<UnixStream> {
    stream.write_all(format!("CONNECT {PORT}\n").as_bytes()).await?;
    let mut reply = Vec::with_capacity(REPLY_MAX);
    // Byte for byte: what follows the line is the agent's.
    while !reply.ends_with(b"\n") {
        if reply.len() == REPLY_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the vsock speaks nonsense"));
        }
        reply.push(stream.read_u8().await?);
    }
    if reply.starts_with(b"OK ") {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the vsock speaks nonsense"))
    }
}

/// A stream that is connected once there is somebody to connect to. What is written before waits, as
/// it does in a virtio-serial port.
pub(super) enum Link {
    Waiting(Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send>>),
    Open(UnixStream),
    Failed,
}

impl Link {
    pub(super) fn once(
        connected: impl Future<Output = io::Result<UnixStream>> + Send + 'static,
    ) -> Self {
        Self::Waiting(Box::pin(connected))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut UnixStream>>> {
        if let Self::Waiting(connected) = self {
            match ready!(connected.as_mut().poll(cx)) {
                Ok(stream) => *self = Self::Open(stream),
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match self {
            Self::Open(stream) => Ok(Pin::new(stream)),
            _ => Err(io::Error::from(io::ErrorKind::NotConnected)),
        })
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_stream(cx))?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_stream(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_follows_the_reply_is_the_agents() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let vsock = tokio::spawn(async move {
            let mut asked = [0; 11];
            theirs.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"CONNECT 52\n");
            theirs.write_all(b"OK 1073741824\nhello").await.unwrap();
        });
        let mut link = Link::once(open_port(ours));
        let mut heard = [0; 5];
        link.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        vsock.await.unwrap();
    }

    #[tokio::test]
    async fn where_nobody_listens_the_stream_fails_and_stays_so() {
        for reply in ["", "NO\n", "OK that is far more than any port number is long\n"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(reply.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let mut link = Link::once(open_port(ours));
            assert!(link.read_u8().await.is_err(), "{reply}");
            assert!(link.write_all(b"x").await.is_err(), "{reply}");
        }
    }
}
