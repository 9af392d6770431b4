//! The byte stream to the host.
//!
//! Each engine has its own kind; all that the rest of the agent sees is a [`Stream`]: the
//! virtio-serial port of QEMU machines, or a socket that a container's PID 1 was started with.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys;
use crate::uevent::Uevents;

/// How long the host's port may take to be announced.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where hosts come from.
pub(crate) enum Transport {
    /// A virtio-serial port: the directory of its device node and the node's name.
    Port { devices: OwnedFd, node: String },
    /// A connected socket. There is only the one host at its other end: once that is gone, so is
    /// the reason for the container.
    Socket(Option<OwnedFd>),
}

impl Transport {
    /// The device node of the virtio-serial port that the engine gave this name.
    pub(crate) fn find_port(uevents: &Uevents, name: &str) -> io::Result<String> {
        uevents.wait_for(PATIENCE, || {
            // Absent until the driver has found its first port.
            let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
            for port in ports {
                let port = port?;
                // A port's name arrives after the port does.
                let Ok(found) = fs::read_to_string(port.path().join("name")) else { continue };
                if found.trim_end() == name {
                    return Ok(port.file_name().into_string().ok());
                }
            }
            Ok(None)
        })
    }

    pub(crate) fn port(devices: OwnedFd, node: String) -> Self {
        Self::Port { devices, node }
    }

    /// Waits for a host. The stream before it must have been dropped: a port opens only once.
    pub(crate) async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Self::Port { devices, node } => {
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let port = rustix::fs::openat(&*devices, node.as_str(), flags, Mode::empty())?;
                until_host_is_there(&port).await?;
                Ok(Stream(sys::async_fd(port)?))
            }
            Self::Socket(socket) => {
                let Some(socket) = socket.take() else { sys::power_off() };
                rustix::io::ioctl_fionbio(&socket, true)?;
                Ok(Stream(sys::async_fd(socket)?))
            }
        }
    }
}

/// Waits until the port no longer reports a hang-up.
///
/// tokio remembers a hang-up for good, and level-triggered poll(2) reports it at once and again; an
/// edge-triggered epoll(7) of its own reports it once, and then the change.
async fn until_host_is_there(port: &OwnedFd) -> io::Result<()> {
    let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(&watch, port, epoll::EventData::new_u64(0), interest)?;
    let watch = sys::async_fd(watch)?;
    loop {
        let mut ready = watch.readable().await?;
        let mut events = Vec::with_capacity(1);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(watch.get_ref(), rustix::buffer::spare_capacity(&mut events), Some(&now))?;
        match events.first() {
            Some(event) if { event.flags }.contains(epoll::EventFlags::HUP) => {}
            Some(_) => return Ok(()),
            None => ready.clear_ready(),
        }
    }
}

/// A connection to the host; it ends when the host closes its side.
pub(crate) struct Stream(AsyncFd<OwnedFd>);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready
                .try_io(|port| Ok(rustix::io::read(port.as_fd(), buffer.initialize_unfilled())?));
            match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|port| Ok(rustix::io::write(port.as_fd(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A port has no half-close; dropping it closes it.
        Poll::Ready(Ok(()))
    }
}
