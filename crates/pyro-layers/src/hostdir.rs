//! A directory of the host as a layer: what the container engine's disks are.
//!
//! What is in it may have been written by a hostile guest, so nothing is opened by a path that
//! could lead through a link: every step is an `openat` with `O_NOFOLLOW` from the step before.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::layer::{Entry, Layer, LayerError, Meta, Node, Result};

/// The most names one directory may have; more than any real one, fewer than fill the memory.
const ENTRIES_MAX: usize = 1 << 20;

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK`: a pipe put where a file was must not hang the host.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory of the host. Nodes are names below it, remembered once they were seen.
#[derive(Debug)]
pub struct HostDirLayer {
    top: Arc<OwnedFd>,
    seen: Mutex<Seen>,
}

/// The names that were seen, and what was opened last: files are read in pieces, and directories
/// asked for one name after another.
#[derive(Debug)]
struct Seen {
    names: Vec<(u64, Vec<u8>)>,
    numbers: HashMap<(u64, Vec<u8>), u64>,
    last_directory: Option<(u64, Arc<OwnedFd>)>,
    last_file: Option<(u64, Arc<File>)>,
}

const TOP: u64 = 0;

impl HostDirLayer {
    /// Opens a directory. The path itself may lead through links; nothing below it may.
    ///
    /// # Errors
    /// [`LayerError::Io`] if it is not a directory that can be read.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OPEN_DIRECTORY.difference(OFlags::NOFOLLOW);
        let top = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| io(format!("cannot open the directory {}", path.display()), errno))?;
        Ok(Self::from_fd(top))
    }

    /// The directory behind an open descriptor.
    #[must_use]
    pub fn from_fd(directory: OwnedFd) -> Self {
        let seen = Seen {
            names: vec![(TOP, Vec::new())],
            numbers: HashMap::new(),
            last_directory: None,
            last_file: None,
        };
        Self { top: Arc::new(directory), seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves the table whole: every change to it is one step.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names from the top to a node.
    fn names(&self, node: Node) -> Result<Vec<Vec<u8>>> {
        let seen = self.seen();
        let mut names = Vec::new();
        let mut at = node.0;
        while at != TOP {
            let (parent, name) = usize::try_from(at)
                .ok()
                .and_then(|at| seen.names.get(at))
                .ok_or_else(|| LayerError::NotFound(format!("node {} in the layer", node.0)))?;
            names.push(name.clone());
            at = *parent;
        }
        names.reverse();
        Ok(names)
    }

    /// The directory above a node, opened, and the node's name in it; `.` for the top.
    fn parent(&self, node: Node) -> Result<(Arc<OwnedFd>, Vec<u8>)> {
        let mut names = self.names(node)?;
        let Some(name) = names.pop() else { return Ok((Arc::clone(&self.top), b".".to_vec())) };
        let parent = match self.seen().names.get(node.0 as usize) {
            Some((parent, _)) => Node(*parent),
            None => Node(TOP),
        };
        Ok((self.directory(parent)?, name))
    }

    fn directory(&self, node: Node) -> Result<Arc<OwnedFd>> {
        if let Some((last, fd)) = &self.seen().last_directory
            && *last == node.0
        {
            return Ok(Arc::clone(fd));
        }
        let names = self.names(node)?;
        let mut fd = Arc::clone(&self.top);
        for name in &names {
            fd = rustix::fs::openat(&fd, name.as_slice(), OPEN_DIRECTORY, Mode::empty())
                .map(Arc::new)
                .map_err(|errno| reading(&names, errno))?;
        }
        self.seen().last_directory = Some((node.0, Arc::clone(&fd)));
        Ok(fd)
    }

    fn file(&self, node: Node) -> Result<Arc<File>> {
        if let Some((last, file)) = &self.seen().last_file
            && *last == node.0
        {
            return Ok(Arc::clone(file));
        }
        let (parent, name) = self.parent(node)?;
        let file = rustix::fs::openat(&parent, name.as_slice(), OPEN_FILE, Mode::empty())
            .map(File::from)
            .map_err(|errno| reading(std::slice::from_ref(&name), errno))?;
        let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind.map_err(|errno| reading(std::slice::from_ref(&name), errno))?
            != FileType::RegularFile
        {
            return Err(LayerError::NotFound(format!("file {}", BytePath::new(name))));
        }
        let file = Arc::new(file);
        self.seen().last_file = Some((node.0, Arc::clone(&file)));
        Ok(file)
    }

    fn stat(&self, node: Node) -> Result<Stat> {
        let (parent, name) = self.parent(node)?;
        rustix::fs::statat(&parent, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| reading(&[name], errno))
    }
}

impl Seen {
    fn number(&mut self, parent: Node, name: Vec<u8>) -> Node {
        let next = self.names.len() as u64;
        let number = *self.numbers.entry((parent.0, name.clone())).or_insert(next);
        if number == next {
            self.names.push((parent.0, name));
        }
        Node(number)
    }
}

impl Layer for HostDirLayer {
    fn root(&self) -> Node {
        Node(TOP)
    }

    fn meta(&self, node: Node) -> Result<Meta> {
        let stat = self.stat(node)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::CharacterDevice => FileKind::CharDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::Unknown => {
                return Err(LayerError::Damaged {
                    what: "host directory",
                    detail: format!("an entry has the unknown mode {:o}", stat.st_mode),
                });
            }
        };
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        Ok(Meta {
            kind,
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: match kind {
                FileKind::File | FileKind::Symlink => u64::try_from(stat.st_size).unwrap_or(0),
                _ => 0,
            },
            mtime: stat.st_mtime,
            rdev: if device {
                (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            } else {
                (0, 0)
            },
        })
    }

    fn read_dir(&self, dir: Node) -> Result<Vec<Entry>> {
        let fd = self.directory(dir)?;
        let mut names = Vec::new();
        let listing = Dir::read_from(fd.as_fd()).map_err(|errno| reading(&[], errno))?;
        for entry in listing {
            let name = entry.map_err(|errno| reading(&[], errno))?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
            if names.len() > ENTRIES_MAX {
                return Err(LayerError::TooLarge(format!(
                    "a directory has more than {ENTRIES_MAX} entries"
                )));
            }
        }
        names.sort_unstable();
        let mut seen = self.seen();
        Ok(names
            .into_iter()
            .map(|name| Entry { node: seen.number(dir, name.clone()), name })
            .collect())
    }

    fn lookup(&self, dir: Node, name: &[u8]) -> Result<Option<Node>> {
        let odd = matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/'));
        if odd {
            return Ok(None);
        }
        let fd = self.directory(dir)?;
        match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(Some(self.seen().number(dir, name.to_vec()))),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(reading(&[name.to_vec()], errno)),
        }
    }

    fn read_at(&self, file: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let file = self.file(file)?;
        let mut done = 0;
        while done < buffer.len() {
            let got = file
                .read_at(&mut buffer[done..], offset + done as u64)
                .map_err(LayerError::io("cannot read a file of the layer"))?;
            if got == 0 {
                break;
            }
            done += got;
        }
        Ok(done)
    }

    fn read_link(&self, link: Node) -> Result<Vec<u8>> {
        let (parent, name) = self.parent(link)?;
        rustix::fs::readlinkat(&parent, name.as_slice(), Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|errno| reading(&[name], errno))
    }

    fn is_opaque(&self, dir: Node) -> Result<bool> {
        let fd = self.directory(dir)?;
        for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
            let mut value = [0; 2];
            match rustix::fs::fgetxattr(&fd, name, &mut value) {
                Ok(1) if value[0] == b'y' => return Ok(true),
                // Absent, longer than `y`, or a filesystem without attributes: not opaque.
                Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(errno) => return Err(reading(&[], errno)),
            }
        }
        Ok(false)
    }
}

fn reading(names: &[Vec<u8>], errno: Errno) -> LayerError {
    let path = BytePath::new(names.join(&b'/'));
    io(format!("cannot read {path} in the layer's directory"), errno)
}

fn io(attempt: String, errno: Errno) -> LayerError {
    LayerError::Io { attempt, source: errno.into() }
}

/// A host path as bytes, for messages.
pub(crate) fn shown(path: &Path) -> String {
    BytePath::new(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_the_tree_is_never_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/f"), "inside").unwrap();
        let layer = HostDirLayer::open(temp.path()).unwrap();
        let directory = layer.lookup(layer.root(), b"d").unwrap().unwrap();
        let file = layer.lookup(directory, b"f").unwrap().unwrap();

        std::fs::remove_dir_all(temp.path().join("d")).unwrap();
        symlink("/etc", temp.path().join("d")).unwrap();
        let fresh = HostDirLayer::open(temp.path()).unwrap();
        let link = fresh.lookup(fresh.root(), b"d").unwrap().unwrap();
        assert_eq!(fresh.meta(link).unwrap().kind, FileKind::Symlink);
        assert!(fresh.read_dir(link).is_err());
        assert!(fresh.lookup(link, b"passwd").is_err());
        assert!(layer.read_at(file, 0, &mut [0; 10]).is_err());
    }

    #[test]
    fn names_keep_their_node() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("b"), "12345").unwrap();
        std::fs::write(temp.path().join("a"), "").unwrap();
        let layer = HostDirLayer::open(temp.path()).unwrap();
        let entries = layer.read_dir(layer.root()).unwrap();
        assert_eq!(entries.iter().map(|e| e.name.as_slice()).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(layer.lookup(layer.root(), b"b").unwrap(), Some(entries[1].node));
        let mut buffer = [0; 10];
        assert_eq!(layer.read_at(entries[1].node, 2, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"345");
        assert_eq!(layer.lookup(layer.root(), b"../b").unwrap(), None);
    }
}
