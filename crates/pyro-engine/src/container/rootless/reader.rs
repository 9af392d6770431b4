//! What an ordinary user's container wrote, read through a helper.
//!
//! The files belong to ids that the user is not, so that he can neither enter all directories nor
//! open all files. A [`Helper`] can, and answers one question after the other over a socket, until
//! that is closed. What is read was written by a hostile guest: the helper is as careful with it as
//! [`HostDirLayer`] is, and bounds what it says.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pyro_contract::diff::FileKind;
use pyro_layers::hostdir::HostDirLayer;
use pyro_layers::overlay::{EmptyLayer, WithoutStages};
use pyro_layers::{Entry, Layer, LayerError, Meta, Node};
use rustix::fs::{Mode, OFlags};

use super::helper::{Helper, Life};
use super::mapping::Mapping;
use crate::Storage;

/// The most bytes of a file in one answer.
const PIECE: usize = 1 << 20;

type Result<T> = std::result::Result<T, LayerError>;

/// The writable layers in the directory `storage`.
pub(super) fn open(mapping: &Mapping, storage: &Path) -> io::Result<Storage> {
    let directory = |layer: &str| -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(storage.join(layer).join("upper"), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            // A container that never came so far has written nothing.
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    };
    let tops = [directory("machine")?, directory("workspace")?];
    let [machine, workspace] = [tops[0].is_some(), tops[1].is_some()];
    let (ours, theirs) = UnixStream::pair()?;
    let keep: Vec<_> = tops.iter().flatten().map(|fd| fd.as_raw_fd()).collect();
    let keep: Vec<_> = keep.into_iter().chain([theirs.as_raw_fd()]).collect();
    let helper = Helper::start(mapping, Life::Free, &keep, || {
        let mut layers = Vec::new();
        for top in &tops {
            layers.push(top.as_ref().map(|top| reopen(top, mapping)).transpose()?);
        }
        answer(&theirs, &layers).map(|()| Vec::new())
    })?;
    drop((theirs, tops));
    let link = Arc::new(Mutex::new(Link { socket: ours, _helper: Some(helper) }));
    let mut unfinished = false;
    let mut layer = |number: u8, there: bool| -> io::Result<Arc<dyn Layer>> {
        if !there {
            return Ok(Arc::new(EmptyLayer));
        }
        let layer = WithoutStages(Remote { number, link: Arc::clone(&link) });
        unfinished |= layer.is_unfinished().map_err(io::Error::other)?;
        Ok(Arc::new(layer))
    };
    let (machine, workspace) = (layer(0, machine)?, layer(1, workspace)?);
    Ok(Storage { machine, workspace, unfinished })
}

/// The same directory with the helper's rights: what was opened with the user's may be no more than a
/// place.
fn reopen(top: &OwnedFd, mapping: &Mapping) -> io::Result<Mapped> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layer = HostDirLayer::from_fd(rustix::fs::openat(top, ".", flags, Mode::empty())?);
    Ok(Mapped { layer, mapping: mapping.clone() })
}

/// A directory whose owners are shown as the container knows them.
struct Mapped {
    layer: HostDirLayer,
    mapping: Mapping,
}

impl Mapped {
    fn meta(&self, node: Node) -> Result<Meta> {
        let meta = self.layer.meta(node)?;
        let inward = |id| self.mapping.inward(id);
        Ok(Meta { uid: inward(meta.uid), gid: inward(meta.gid), ..meta })
    }
}

/// This process's side of the talk.
struct Link {
    /// Closed first, so that the helper ends.
    socket: UnixStream,
    /// Absent in tests.
    _helper: Option<Helper>,
}

/// A layer that the helper reads.
struct Remote {
    number: u8,
    link: Arc<Mutex<Link>>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Question {
    Meta = 1,
    ReadDir,
    Lookup,
    ReadAt,
    ReadLink,
    IsOpaque,
}

impl Question {
    const ALL: [Self; 6] =
        [Self::Meta, Self::ReadDir, Self::Lookup, Self::ReadAt, Self::ReadLink, Self::IsOpaque];
}

/// `question layer node offset length`, and then a name of `length` bytes if it asks for one.
const HEADER: usize = 1 + 1 + 8 + 8 + 8;

impl Remote {
    fn ask(&self, question: Question, node: Node, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.exchange(question, node, (offset, length), &[])
    }

    fn exchange(
        &self,
        question: Question,
        node: Node,
        (offset, length): (u64, u64),
        name: &[u8],
    ) -> Result<Vec<u8>> {
        let mut request = Vec::with_capacity(HEADER + name.len());
        request.extend([question as u8, self.number]);
        for number in [node.0, offset, length] {
            request.extend(number.to_le_bytes());
        }
        request.extend(name);
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = || -> io::Result<(u8, Vec<u8>)> {
            link.socket.write_all(&request)?;
            let mut head = [0; 9];
            link.socket.read_exact(&mut head)?;
            let length = u64::from_le_bytes([
                head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8],
            ]);
            let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            link.socket.read_exact(&mut body)?;
            Ok((head[0], body))
        }();
        let (status, body) =
            answered.map_err(LayerError::io("cannot read the container's disk"))?;
        match status {
            OK => Ok(body),
            _ => Err(decode_error(&body)),
        }
    }
}

impl Layer for Remote {
    fn root(&self) -> Node {
        // A directory's own top; see `HostDirLayer`.
        Node(0)
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        decode_meta(&self.ask(Question::Meta, node, 0, 0)?).ok_or_else(garbled)
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let bytes = self.ask(Question::ReadDir, dir, 0, 0)?;
        let mut rest = &bytes[..];
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (node, length) = (take_u64(&mut rest), take_u64(&mut rest));
            let (Some(node), Some(length)) = (node, length) else { return Err(garbled()) };
            let name =
                usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let Some((name, after)) = name else { return Err(garbled()) };
            entries.push(Entry { name: name.to_vec(), node: Node(node) });
            rest = after;
        }
        Ok(entries)
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        let length = name.len() as u64;
        let bytes = self.exchange(Question::Lookup, dir, (0, length), name)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        take_u64(&mut &bytes[..]).map(|node| Some(Node(node))).ok_or_else(garbled)
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for piece in buffer.chunks_mut(PIECE) {
            let at = offset + done as u64;
            let bytes = self.ask(Question::ReadAt, file, at, piece.len() as u64)?;
            let length = bytes.len().min(piece.len());
            piece[..length].copy_from_slice(&bytes[..length]);
            done += length;
            if length < piece.len() {
                break;
            }
        }
        Ok(done)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        self.ask(Question::ReadLink, link, 0, 0)
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        Ok(self.ask(Question::IsOpaque, dir, 0, 0)?.first() == Some(&1))
    }
}

const OK: u8 = 0;
const FAILED: u8 = 1;

/// The helper's side: answers until nobody asks any more.
fn answer(socket: &UnixStream, layers: &[Option<Mapped>]) -> io::Result<()> {
    let mut socket = socket;
    loop {
        let mut head = [0; HEADER];
        match socket.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let mut rest = &head[2..];
        let numbers = [take_u64(&mut rest), take_u64(&mut rest), take_u64(&mut rest)];
        let [node, offset, length] = numbers.map(Option::unwrap_or_default);
        let question = Question::ALL.into_iter().find(|question| *question as u8 == head[0]);
        let layer = layers.get(usize::from(head[1])).and_then(Option::as_ref);
        let (Some(question), Some(layer)) = (question, layer) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut name = Vec::new();
        if question == Question::Lookup {
            socket.take(length).read_to_end(&mut name)?;
        }
        let (status, body) = match reply(layer, question, Node(node), offset, length, &name) {
            Ok(body) => (OK, body),
            Err(error) => (FAILED, encode_error(&error)),
        };
        let mut message = Vec::with_capacity(9 + body.len());
        message.push(status);
        message.extend((body.len() as u64).to_le_bytes());
        message.extend(body);
        socket.write_all(&message)?;
    }
}

fn reply(
    mapped: &Mapped,
    question: Question,
    node: Node,
    offset: u64,
    length: u64,
    name: &[u8],
) -> Result<Vec<u8>> {
    let layer = &mapped.layer;
    Ok(match question {
        Question::Meta => encode_meta(&mapped.meta(node)?),
        Question::ReadDir => {
            let mut bytes = Vec::new();
            for entry in layer.read_dir(node)? {
                bytes.extend(entry.node.0.to_le_bytes());
                bytes.extend((entry.name.len() as u64).to_le_bytes());
                bytes.extend(entry.name);
            }
            bytes
        }
        Question::Lookup => match layer.lookup(node, name)? {
            Some(node) => node.0.to_le_bytes().to_vec(),
            None => Vec::new(),
        },
        Question::ReadAt => {
            let length = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
            let mut bytes = vec![0; length];
            let read = layer.read_at(node, offset, &mut bytes)?;
            bytes.truncate(read);
            bytes
        }
        Question::ReadLink => layer.read_link(node)?,
        Question::IsOpaque => vec![u8::from(layer.is_opaque(node)?)],
    })
}

const KINDS: [FileKind; 7] = [
    FileKind::File,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::CharDevice,
    FileKind::BlockDevice,
    FileKind::Fifo,
    FileKind::Socket,
];

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let kind = KINDS.iter().position(|kind| *kind == meta.kind).unwrap_or_default();
    let numbers = [
        kind as u64,
        u64::from(meta.mode),
        u64::from(meta.uid),
        u64::from(meta.gid),
        meta.size,
        meta.mtime.cast_unsigned(),
        u64::from(meta.rdev.0),
        u64::from(meta.rdev.1),
    ];
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn decode_meta(mut bytes: &[u8]) -> Option<Meta> {
    let mut next = || take_u64(&mut bytes);
    Some(Meta {
        kind: *KINDS.get(usize::try_from(next()?).ok()?)?,
        mode: u16::try_from(next()?).ok()?,
        uid: u32::try_from(next()?).ok()?,
        gid: u32::try_from(next()?).ok()?,
        size: next()?,
        mtime: next()?.cast_signed(),
        rdev: (u32::try_from(next()?).ok()?, u32::try_from(next()?).ok()?),
    })
}

/// The error's number, if it is one of the system, and its words.
fn encode_error(error: &LayerError) -> Vec<u8> {
    let (kind, number, words) = match error {
        LayerError::Io { attempt, source } => {
            (1, source.raw_os_error().unwrap_or(libc::EIO), attempt.clone())
        }
        LayerError::TooLarge(said) => (2, 0, said.clone()),
        LayerError::NotFound(said) => (3, 0, said.clone()),
        other => (4, 0, other.to_string()),
    };
    let mut bytes = vec![kind];
    bytes.extend(number.to_le_bytes());
    bytes.extend(words.into_bytes());
    bytes
}

fn decode_error(bytes: &[u8]) -> LayerError {
    let Some((head, words)) = bytes.split_first_chunk::<5>() else { return garbled() };
    let words = String::from_utf8_lossy(words).into_owned();
    let [kind, number @ ..] = *head;
    match kind {
        1 => LayerError::io(words)(io::Error::from_raw_os_error(i32::from_le_bytes(number))),
        2 => LayerError::TooLarge(words),
        3 => LayerError::NotFound(words),
        _ => LayerError::Damaged { what: "container's disk", detail: words },
    }
}

fn garbled() -> LayerError {
    LayerError::io("cannot read the container's disk")(io::ErrorKind::InvalidData.into())
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_known_of_a_file_arrives_as_it_was_sent(
            kind in 0..KINDS.len(), mode in 0..0o10000_u16, ids in any::<[u32; 4]>(),
            size in any::<u64>(), mtime in any::<i64>(),
        ) {
            let [uid, gid, major, minor] = ids;
            let meta =
                Meta { kind: KINDS[kind], mode, uid, gid, size, mtime, rdev: (major, minor) };
            prop_assert_eq!(decode_meta(&encode_meta(&meta)), Some(meta));
        }

        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            let _ = decode_meta(&bytes);
            let _ = decode_error(&bytes);
        }
    }

    #[test]
    fn questions_are_answered_from_the_directory_until_nobody_asks() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/f"), vec![7; PIECE + 5]).unwrap();
        std::os::unix::fs::symlink("d/f", temp.path().join("l")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let top = rustix::fs::open(temp.path(), flags, Mode::empty()).unwrap();
        let mapped = reopen(&top, &Mapping::find()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || answer(&theirs, &[Some(mapped)]));
        let link = Arc::new(Mutex::new(Link { socket: ours, _helper: None }));
        let remote = Remote { number: 0, link };
        let names = |node| {
            let entries = remote.read_dir(node).unwrap();
            entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names(remote.root()), [b"d", b"l"]);
        let directory = remote.lookup(remote.root(), b"d").unwrap().unwrap();
        let file = remote.lookup(directory, b"f").unwrap().unwrap();
        assert_eq!(remote.meta(file).unwrap().size, PIECE as u64 + 5);
        let mut buffer = vec![0; PIECE + 100];
        assert_eq!(remote.read_at(file, 1, &mut buffer).unwrap(), PIECE + 4);
        assert!(buffer[..PIECE + 4].iter().all(|byte| *byte == 7));
        let link = remote.lookup(remote.root(), b"l").unwrap().unwrap();
        assert_eq!(remote.read_link(link).unwrap(), b"d/f");
        assert!(!remote.is_opaque(directory).unwrap());
        assert!(remote.lookup(directory, b"absent").unwrap().is_none());
        assert!(matches!(remote.read_dir(file), Err(LayerError::Io { .. })));
        assert!(remote.read_link(Node(99)).is_err());
        drop(remote);
        server.join().unwrap().unwrap();
    }
}
