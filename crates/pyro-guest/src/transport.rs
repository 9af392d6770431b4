//! The byte stream to the host.
//!
//! Each engine has its own kind; all that the rest of the agent sees is a [`Stream`]. QEMU's machines
//! have a virtio-serial port, firecracker's a vsock device (vsock(7)), whichever the kernel announces;
//! a container's PID 1 was started with a socket.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::uevent::Uevents;
use crate::{log, sys};

/// How long the host's channel may take to be announced.
const PATIENCE: Duration = Duration::from_secs(10);

/// The vsock port that the agent listens on, and the host's that it knocks at. Part of the protocol:
/// the engine that has vsock says the same.
const VSOCK_PORT: u32 = 52;

/// What the engine that cannot tell a power-off from a reset waits for on the console.
const GOODBYE: &str = "powers off";

/// What the host gave this machine to be reached by.
pub(crate) enum Channel {
    /// A virtio-serial port: the directory of the device nodes, and the node's name.
    Port { devices: OwnedFd, node: String },
    /// A vsock device.
    Vsock,
    /// A connected socket.
    Socket(OwnedFd),
}

/// What the kernel has announced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// The device node of a virtio-serial port.
    Port(String),
    /// A vsock device.
    Vsock,
}

/// Where hosts come from.
pub(crate) enum Transport {
    /// A virtio-serial port: the directory of its device node and the node's name.
    Port { devices: OwnedFd, node: String },
    /// A listening vsock, and the knock at the host's, which is held.
    ///
    /// A machine that is restored from a snapshot loses its connections: the host tells its driver
    /// so, and whatever is connected before that was heard is lost as well. The knock is lost then,
    /// too, and the agent knocks again: so the host knows when it can connect.
    Vsock { listening: AsyncFd<OwnedFd>, knock: Option<AsyncFd<OwnedFd>> },
    /// A connected socket. There is only the one host at its other end: once that is gone, so is
    /// the reason for the container.
    Socket(Option<OwnedFd>),
}

impl Announced {
    /// Waits for the virtio-serial port that the engine gave this name, or for a vsock device.
    pub(crate) fn find(uevents: &Uevents, name: &str) -> io::Result<Self> {
        uevents.wait_for(PATIENCE, || {
            if has_vsock()? {
                return Ok(Some(Self::Vsock));
            }
            // Absent until the driver has found its first port.
            let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
            for port in ports {
                let port = port?;
                // A port's name arrives after the port does.
                let Ok(found) = fs::read_to_string(port.path().join("name")) else { continue };
                if found.trim_end() == name {
                    return Ok(port.file_name().into_string().ok().map(Self::Port));
                }
            }
            Ok(None)
        })
    }
}

/// True once the driver has taken a vsock device: the kernel names no class for them.
fn has_vsock() -> io::Result<bool> {
    let Ok(bound) = fs::read_dir("/sys/bus/virtio/drivers/vmw_vsock_virtio_transport") else {
        return Ok(false);
    };
    for entry in bound {
        if entry?.file_name().to_string_lossy().starts_with("virtio") {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Transport {
    /// Opens the channel. Within the runtime.
    pub(crate) fn open(channel: Channel) -> io::Result<Self> {
        match channel {
            Channel::Port { devices, node } => Ok(Self::Port { devices, node }),
            Channel::Socket(socket) => Ok(Self::Socket(Some(socket))),
            Channel::Vsock => {
                let listening = sys::async_fd(sys::vsock_listen(VSOCK_PORT)?)?;
                Ok(Self::Vsock { listening, knock: knock() })
            }
        }
    }

    /// Ends the machine as one that is done.
    pub(crate) fn power_off(&self) -> ! {
        match self {
            Self::Port { .. } | Self::Socket(_) => sys::power_off(),
            // Firecracker has no power switch: it ends when the machine resets itself.
            Self::Vsock { .. } => {
                log::line(GOODBYE);
                sys::reset()
            }
        }
    }

    /// Resolves when the connection to the host is lost although its stream says nothing: a vsock that
    /// was reset while nobody writes to it does not wake who waits to read.
    pub(crate) async fn lost(&self) {
        match self {
            Self::Vsock { knock, .. } => lost(knock.as_ref()).await,
            Self::Port { .. } | Self::Socket(_) => std::future::pending().await,
        }
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
            Self::Vsock { listening, knock } => loop {
                tokio::select! {
                    ready = listening.readable() => {
                        let accepted =
                            ready?.try_io(|listening| sys::vsock_accept(listening.as_fd()));
                        match accepted {
                            Ok(Ok(Some(stream))) => return Ok(Stream(sys::async_fd(stream)?)),
                            // Not from the host, or gone before it was looked at.
                            Ok(Ok(None)) | Err(_) => {}
                            Ok(Err(error)) if is_passing(&error) => {}
                            Ok(Err(error)) => return Err(error),
                        }
                    }
                    () = lost(knock.as_ref()) => *knock = self::knock(),
                }
            },
            Self::Socket(socket) => {
                let Some(socket) = socket.take() else { sys::power_off() };
                rustix::io::ioctl_fionbio(&socket, true)?;
                Ok(Stream(sys::async_fd(socket)?))
            }
        }
    }
}

/// The host need not hear it; one that does not is told nothing, and connects all the same.
fn knock() -> Option<AsyncFd<OwnedFd>> {
    sys::vsock_knock(VSOCK_PORT).and_then(sys::async_fd).ok()
}

/// Resolves when the host has hung up, or the connection was lost with the machine's past: a reset vsock
/// reports an error, and nothing to read. Nothing is ever sent on it.
async fn lost(knock: Option<&AsyncFd<OwnedFd>>) {
    match knock {
        Some(knock) => drop(knock.ready(Interest::READABLE | Interest::ERROR).await),
        None => std::future::pending().await,
    }
}

/// Of one connection, not of the listener; see accept(2).
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
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
        // A port has no half-close, and a vsock needs none; dropping it closes it.
        Poll::Ready(Ok(()))
    }
}
