//! Machines that wait warm: where they are, and how one is given a workspace. TEMPLATE stands for what
//! they were made from, be it frozen or not.
//!
//! ```text
//! PYRO_HOME/warm/TEMPLATE/NAME/claim.sock     a supervisor that has a machine and no workspace
//! ```
//!
//! Who connects first has it, which is said with one byte; he sends a [`Gift`] when he is ready.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_contract::environment::Digest;
use pyro_contract::journal::ClientName;
use pyro_contract::name::WorkspaceId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::home::Home;

/// The socket of a warm supervisor, in its directory.
pub(crate) const SOCKET: &str = "claim.sock";

/// How long a warm supervisor may take to say that it is free.
const PATIENCE: Duration = Duration::from_secs(1);

/// After so long a warm supervisor has the lock on its directory.
const YOUNG: Duration = Duration::from_secs(60);

/// No message of the two is longer.
const LONGEST: usize = 4096;

/// What makes a warm supervisor one of a workspace.
#[derive(Debug)]
pub(crate) struct Gift {
    pub(crate) id: WorkspaceId,
    pub(crate) ephemeral: bool,
    /// What whoever gives it calls himself.
    pub(crate) client: Option<ClientName>,
    /// The workspace's lock.
    pub(crate) lock: OwnedFd,
    /// Its standard streams from now on.
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
    pub(crate) log: OwnedFd,
}

#[derive(Serialize, Deserialize)]
struct Words {
    id: WorkspaceId,
    ephemeral: bool,
    #[serde(default)]
    client: Option<ClientName>,
}

impl Gift {
    /// Says that the machine is free, and waits for its workspace.
    pub(crate) fn receive(stream: &UnixStream) -> io::Result<Self> {
        io::Write::write_all(&mut &*stream, b"y")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; LONGEST];
        let received = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
        let words: Words =
            serde_json::from_slice(&buffer[..received.bytes]).map_err(|_| nonsense())?;
        if received.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
            return Err(nonsense());
        }
        let [lock, input, output, log] = <[OwnedFd; 4]>::try_from(fds).map_err(|_| nonsense())?;
        let Words { id, ephemeral, client } = words;
        Ok(Self { id, ephemeral, client, lock, input, output, log })
    }
}

/// A warm machine that nobody else can have any more. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Reserved(UnixStream);

impl Reserved {
    pub(crate) fn give(self, gift: &Gift) -> io::Result<()> {
        let words =
            Words { id: gift.id.clone(), ephemeral: gift.ephemeral, client: gift.client.clone() };
        let text = serde_json::to_vec(&words)?;
        let fds = [&gift.lock, &gift.input, &gift.output, &gift.log].map(|fd| fd.as_fd());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let sent = sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
        if sent == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The directory of all warm machines of a template.
pub(crate) fn directory(home: &Home, template: &Digest) -> PathBuf {
    home.root().join("warm").join(&template.hex()[..16])
}

/// A warm machine of this template, if one waits. Blocks for milliseconds.
pub(crate) fn reserve(home: &Home, template: &Digest) -> Option<Reserved> {
    let entries = fs::read_dir(directory(home, template)).ok()?.flatten();
    entries.into_iter().find_map(|entry| ask(&entry.path()).ok())
}

/// Removes what supervisors left that were killed. A living one holds a lock on its directory;
/// a young one may not have it yet. Connecting to find out would be taking.
pub(crate) fn sweep(home: &Home, template: &Digest) {
    let Ok(entries) = fs::read_dir(directory(home, template)) else { return };
    for place in entries.flatten().map(|entry| entry.path()) {
        let Ok(open) = fs::File::open(&place) else { continue };
        let age = open.metadata().and_then(|meta| meta.modified()).map(|made| made.elapsed());
        let old = matches!(age, Ok(Ok(age)) if age > YOUNG);
        if old && open.try_lock().is_ok() {
            let _ = fs::remove_dir_all(place);
        }
    }
}

fn connect(place: &Path) -> io::Result<UnixStream> {
    let open = fs::File::open(place)?;
    // By the open directory: a socket's path may have only 107 bytes (unix(7)).
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))
}

fn ask(place: &Path) -> io::Result<Reserved> {
    let stream = connect(place)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut free = [0];
    (&stream).read_exact(&mut free)?;
    Ok(Reserved(stream))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_first_who_asks_gets_the_machine_with_all_that_belongs_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let template = Digest::from_bytes([1; 32]);
        assert!(reserve(&home, &template).is_none());
        let place = directory(&home, &template).join("one");
        fs::create_dir_all(&place).unwrap();
        let listener = UnixListener::bind(place.join(SOCKET)).unwrap();
        let supervisor = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            Gift::receive(&stream).unwrap()
        });
        let reserved = reserve(&home, &template).unwrap();
        assert!(reserve(&home, &template).is_none(), "it is taken");
        let file = |text: &str| -> OwnedFd {
            let path = temp.path().join(text);
            fs::write(&path, text).unwrap();
            fs::File::open(path).unwrap().into()
        };
        let id = WorkspaceId::random();
        let gift = Gift {
            id: id.clone(),
            ephemeral: true,
            client: ClientName::new("cli"),
            lock: file("lock"),
            input: file("input"),
            output: file("output"),
            log: file("log"),
        };
        reserved.give(&gift).unwrap();
        let received = supervisor.join().unwrap();
        assert_eq!((received.id, received.ephemeral), (id, true));
        for (fd, text) in [(received.lock, "lock"), (received.log, "log")] {
            assert_eq!(io::read_to_string(fs::File::from(fd)).unwrap(), text);
        }
        // Nobody has a lock on this directory any more; but it is young.
        sweep(&home, &template);
        assert!(place.exists());
        let old = std::time::SystemTime::now() - 2 * YOUNG;
        fs::File::open(&place).unwrap().set_modified(old).unwrap();
        let lock = fs::File::open(&place).unwrap();
        lock.lock().unwrap();
        sweep(&home, &template);
        assert!(place.exists(), "somebody lives there");
        drop(lock);
        sweep(&home, &template);
        assert!(!place.exists());
    }

    #[test]
    fn one_who_goes_away_gives_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert!(Gift::receive(&theirs).is_err());
    }
}
