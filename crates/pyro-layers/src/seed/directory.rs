//! A directory of the host.
//!
//! The tree may change while it is read, and parts of it may belong to others. Everything is
//! opened relative to the directory it was listed in and never through a link, and what was read
//! of a file is one state of it, or an error.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::SeedReport;
use super::meter::Meter;
use crate::erofs::{Content, ErofsWriter, NewNode, Source};
use crate::layer::{LayerError, Result};

/// Each level holds a descriptor open; no real tree is deeper.
const DEPTH_MAX: usize = 512;

const BLOCK: u64 = 4096;

/// Packs everything below a directory. The path itself may be a link to a directory.
///
/// Modes and times are kept. Files that share an inode share it in the image too. Sockets and
/// devices are left out and reported.
///
/// # Errors
/// [`LayerError::Seed`] naming what cannot be read or changed while it was read;
/// [`LayerError::Cancelled`]; [`LayerError::Io`] if the image cannot be written.
pub fn pack_directory(
    path: &Path,
    writer: &mut ErofsWriter,
    progress: &dyn Progress,
) -> Result<SeedReport> {
    let mut walk = Walk {
        top: path,
        at: Vec::new(),
        writer,
        meter: Meter::new(progress, "packing the seed"),
        linked: HashMap::new(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| walk.unreadable(errno))?;
    walk.tree(top)?;
    Ok(walk.meter.finish())
}

struct Walk<'a> {
    top: &'a Path,
    /// Where the walk is, below the top.
    at: Vec<u8>,
    writer: &'a mut ErofsWriter,
    meter: Meter<'a>,
    /// Where a file with several names was met first.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory that is being walked: what is left of it.
struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    /// Length of the path to it.
    path_len: usize,
}

impl Walk<'_> {
    fn tree(&mut self, top: OwnedFd) -> Result<()> {
        let mut levels = vec![self.enter(top)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            self.at.truncate(level.path_len);
            if level.path_len > 0 {
                self.at.push(b'/');
            }
            self.at.extend(&name);
            if let Some(directory) = self.entry(&level.directory, &name)? {
                if levels.len() == DEPTH_MAX {
                    return Err(self.refused(
                        format!("it is nested deeper than {DEPTH_MAX} directories"),
                        "seed a part of the tree, or an archive of it",
                    ));
                }
                levels.push(self.enter(directory)?);
            }
        }
        Ok(())
    }

    /// Adds a directory itself and lists it.
    fn enter(&mut self, directory: OwnedFd) -> Result<Level> {
        let stat = rustix::fs::fstat(&directory).map_err(|errno| self.unreadable(errno))?;
        self.writer.add(&self.at, attributes(&stat), Content::Directory)?;
        self.meter.entry(0)?;
        let listing = Dir::read_from(&directory).map_err(|errno| self.unreadable(errno))?;
        let mut names = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|errno| self.unreadable(errno))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        // The same tree gives the same image, whatever order the filesystem lists it in.
        names.sort_unstable();
        Ok(Level { directory, names: names.into_iter(), path_len: self.at.len() })
    }

    /// Adds one entry; gives it back opened if it is a directory.
    fn entry(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away since its directory was listed: then it is not in the seed.
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| self.unreadable(errno))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.open(parent, name, OFlags::DIRECTORY).map(Some),
            FileType::RegularFile => self.file(parent, name)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .map_err(|errno| self.unreadable(errno))?;
                let content = Content::Symlink(target.as_bytes());
                self.writer.add(&self.at, attributes(&stat), content)?;
                self.meter.entry(0)?;
            }
            FileType::Fifo => {
                self.writer.add(&self.at, attributes(&stat), Content::Fifo)?;
                self.meter.entry(0)?;
            }
            FileType::Socket => self.meter.skip(&self.at, "it is a socket"),
            _ => self.meter.skip(&self.at, "it is a device"),
        }
        Ok(None)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        // `NONBLOCK`: a pipe that took the file's place since must not hang the walk.
        let file = File::from(self.open(parent, name, OFlags::NONBLOCK | OFlags::NOCTTY)?);
        let before = rustix::fs::fstat(&file).map_err(|errno| self.unreadable(errno))?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Err(self.changed());
        }
        if before.st_nlink > 1 {
            let inode = (before.st_dev, before.st_ino);
            if let Some(first) = self.linked.get(&inode) {
                self.writer.link(&self.at, first)?;
                return self.meter.entry(0);
            }
            self.linked.insert(inode, self.at.clone());
        }
        let size = u64::try_from(before.st_size).unwrap_or(0);
        let mut source = self.meter.watch(HostFile::new(&file, &before));
        let content = Content::File { size, source: &mut source };
        let added = self.writer.add(&self.at, attributes(&before), content);
        let failed = source.into_inner().failed;
        match (added, failed) {
            (_, Some(error)) => return Err(self.unreadable(error)),
            (Err(LayerError::Seed { .. }), None) => return Err(self.changed()),
            (added, None) => added?,
        }
        let after = rustix::fs::fstat(&file).map_err(|errno| self.unreadable(errno))?;
        if state(&before) != state(&after) {
            return Err(self.changed());
        }
        self.meter.entry(size)
    }

    fn open(&self, parent: &OwnedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|errno| match errno {
            // It was of the right kind when it was looked at.
            Errno::LOOP | Errno::NOTDIR | Errno::NOENT => self.changed(),
            errno => self.unreadable(errno),
        })
    }

    fn unreadable(&self, errno: Errno) -> LayerError {
        let hint = match errno {
            Errno::ACCESS | Errno::PERM => {
                "make it readable for yourself (chmod -R u+rX), or move it out of the seed"
            }
            Errno::NOTDIR if self.at.is_empty() => {
                "give a directory, or a .tar, .tar.gz or .tar.zst archive"
            }
            Errno::NOENT => "check the path",
            Errno::MFILE => "raise the limit on open files (ulimit -n)",
            _ => "check the disk it is on, or move it out of the seed",
        };
        self.refused(std::io::Error::from(errno).to_string(), hint)
    }

    fn changed(&self) -> LayerError {
        self.refused(
            "it changed while it was being read".to_owned(),
            "wait until nothing writes to it, and try again",
        )
    }

    fn refused(&self, reason: String, hint: &'static str) -> LayerError {
        let mut path = self.top.as_os_str().as_bytes().to_vec();
        if !self.at.is_empty() {
            path.push(b'/');
            path.extend(&self.at);
        }
        LayerError::Seed { path: BytePath::new(path).to_string(), reason, hint }
    }
}

fn attributes(stat: &Stat) -> NewNode {
    NewNode::of_root((stat.st_mode & 0o7777) as u16, stat.st_mtime)
}

/// What changes when someone writes to a file.
fn state(stat: &Stat) -> (i64, i64, u64) {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
}

/// An open file, its holes skipped instead of read.
struct HostFile<'a> {
    file: &'a File,
    position: u64,
    /// The next hole is not before this.
    data_until: u64,
    /// What the system said when reading failed.
    failed: Option<Errno>,
}

impl<'a> HostFile<'a> {
    fn new(file: &'a File, stat: &Stat) -> Self {
        // As many blocks as bytes: there can be no holes, and asking for them can be saved.
        let solid = stat.st_blocks.saturating_mul(512) >= stat.st_size;
        let data_until = if solid { u64::MAX } else { 0 };
        Self { file, position: 0, data_until, failed: None }
    }

    fn fail(&mut self, errno: Errno) -> LayerError {
        self.failed = Some(errno);
        LayerError::io("cannot read a file")(errno.into())
    }
}

impl Source for HostFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read_at(buffer, self.position) {
                Ok(got) => {
                    self.position += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
                }
            }
        }
    }

    fn skip_hole(&mut self, limit: u64) -> Result<u64> {
        if self.position < self.data_until {
            return Ok(0);
        }
        let hole = match rustix::fs::seek(self.file, SeekFrom::Data(self.position)) {
            Ok(data) => {
                let end = rustix::fs::seek(self.file, SeekFrom::Hole(data));
                self.data_until = end.map_err(|errno| self.fail(errno))?;
                data - self.position
            }
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => limit,
            // Filesystems that do not know of holes have none.
            Err(_) => {
                self.data_until = u64::MAX;
                0
            }
        };
        let whole_blocks = hole.min(limit) / BLOCK * BLOCK;
        self.position += whole_blocks;
        Ok(whole_blocks)
    }
}
