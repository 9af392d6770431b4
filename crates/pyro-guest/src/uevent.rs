//! Waiting for devices by the kernel's own word (`NETLINK_KOBJECT_UEVENT`) instead of by sleeping.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// The kernel's announcements from the moment this was opened.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Starts listening.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(KOBJECT_UEVENT),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Self(socket))
    }

    /// Looks again after each announcement until `look` finds something or `patience` is over.
    pub(crate) fn wait_for<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not appear in time"));
            }
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.discard();
        }
    }

    /// Their content does not matter, only that there were some. An overrun (ENOBUFS) counts too.
    fn discard(&self) {
        let mut buffer = [0_u8; 4096];
        while recv(&self.0, &mut buffer, RecvFlags::DONTWAIT).is_ok_and(|(length, _)| length > 0) {}
    }
}
