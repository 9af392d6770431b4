//! An image as a directory, for an ordinary user, who may not mount it.
//!
//! A file with several names becomes several files: overlayfs, as it is mounted here, tears them
//! apart at the first write anyway.
//!
//! Environments are unpacked once and shared by all containers of the user; the baseline of a
//! workspace is unpacked into that workspace's storage. Both are only ever lower layers, which no
//! container can write to; reviews compare with the images.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use pyro_contract::diff::FileKind;
use pyro_layers::erofs::ErofsLayer;
use pyro_layers::{Layer, LayerError, Meta, Node};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::helper;
use super::mapping::Mapping;

/// How much of a file is in memory at once.
const PIECE: usize = 256 << 10;

/// Deeper trees are of no use to anybody, and each level keeps a descriptor open.
const DEPTH_MAX: usize = 1000;

/// The environment `image` as a directory below `cache`, unpacked by whoever comes first.
pub(super) fn environment(mapping: &Mapping, cache: &Path, image: &Path) -> io::Result<PathBuf> {
    let place = cache.join(name_of(mapping, image)?);
    if place.is_dir() {
        return Ok(place);
    }
    private_directory(cache)?;
    let mut lock = place.clone().into_os_string();
    lock.push(".lock");
    let lock = File::create(lock)?;
    lock.lock()?;
    if !place.is_dir() {
        unpack(mapping, image, &place)?;
    }
    Ok(place)
}

/// The directory that [`environment`] would give. Images are never written again, so that one of the
/// same name, length and time is the same.
fn name_of(mapping: &Mapping, image: &Path) -> io::Result<String> {
    let meta = fs::metadata(image)?;
    let directory = fs::canonicalize(image)?;
    let digest = directory.parent().and_then(Path::file_name).unwrap_or_default();
    Ok(format!("{}{}.{}-{}", prefix(digest), meta.len(), meta.mtime(), mapping.name()))
}

/// What the name of a tree begins with, whose image is in a directory of this name.
fn prefix(digest: &OsStr) -> String {
    let digest = digest.to_string_lossy();
    let digest = digest.trim_start_matches("sha256-");
    let short: String = digest.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    format!("{short}-")
}

/// True if the tree of this name, or what goes with it, was unpacked from an image in a directory of
/// that name.
pub(super) fn is_tree_of(tree: &OsStr, image: &OsStr) -> bool {
    tree.as_encoded_bytes().starts_with(prefix(image).as_bytes())
}

/// Unpacks `image` into `place`, which appears whole or not at all.
pub(super) fn unpack(mapping: &Mapping, image: &Path, place: &Path) -> io::Result<()> {
    let mut unfinished = place.to_owned().into_os_string();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    remove(&unfinished)?;
    helper::perform(mapping, || {
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        let layer = ErofsLayer::open(image).map_err(layer_error)?;
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&unfinished, directory, Mode::empty())?;
        let mut unpacking = Unpacking { layer: &layer, mapping, buffer: vec![0; PIECE] };
        unpacking.fill(layer.root(), top.as_fd(), DEPTH_MAX)?;
        let meta = layer.meta(layer.root()).map_err(layer_error)?;
        unpacking.finish(top.as_fd(), &meta)?;
        // A tree that is there is never looked at again: it must be so after a loss of power, too.
        rustix::fs::syncfs(&top)?;
        fs::rename(&unfinished, place)?;
        Ok(Vec::new())
    })
    .map(drop)
}

/// Removes a file or a tree, though it belong to several ids of the user.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let plain = |path: &Path| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match gone(plain(path)) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                && !rustix::process::geteuid().is_root() =>
        {
            helper::perform(&Mapping::find(), || gone(plain(path)).map(|()| Vec::new())).map(drop)
        }
        other => other,
    }
}

pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

struct Unpacking<'a> {
    layer: &'a ErofsLayer,
    mapping: &'a Mapping,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn fill(&mut self, from: Node, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        if depth == 0 {
            return Err(io::Error::other(format!("it is more than {DEPTH_MAX} directories deep")));
        }
        for entry in self.layer.read_dir(from).map_err(layer_error)? {
            let name = OsStr::from_bytes(&entry.name);
            let meta = self.layer.meta(entry.node).map_err(layer_error)?;
            match meta.kind {
                FileKind::Directory => {
                    rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                    let directory =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let inner = rustix::fs::openat(to, name, directory, Mode::empty())?;
                    self.fill(entry.node, inner.as_fd(), depth - 1)?;
                    self.finish(inner.as_fd(), &meta)?;
                }
                FileKind::File => self.file(entry.node, &meta, to, name)?,
                FileKind::Symlink => {
                    let target = self.layer.read_link(entry.node).map_err(layer_error)?;
                    rustix::fs::symlinkat(target.as_slice(), to, name)?;
                    self.own(to, name, &meta)?;
                }
                FileKind::Fifo => {
                    let mode = Mode::from_raw_mode(u32::from(meta.mode));
                    rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
                    self.own(to, name, &meta)?;
                    rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
                }
                // Nobody but the host's root can make a device, and containers have a `/dev` of
                // their own. A socket is nothing without who listens.
                FileKind::CharDevice | FileKind::BlockDevice | FileKind::Socket => {}
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        node: Node,
        meta: &Meta,
        to: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
        let mut at = 0;
        while at < meta.size {
            let read = self.layer.read_at(node, at, &mut self.buffer).map_err(layer_error)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all(&self.buffer[..read])?;
            at += read as u64;
        }
        self.finish(file.as_fd(), meta)
    }

    /// Owner, mode and time of what is open.
    fn finish(&self, file: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
        let (uid, gid) = self.owner(meta);
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
        // After the owner, whose change takes setuid bits away.
        rustix::fs::fchmod(file, Mode::from_raw_mode(u32::from(meta.mode)))?;
        Ok(rustix::fs::futimens(file, &times(meta))?)
    }

    /// Owner and time of what cannot be opened.
    fn own(&self, to: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> io::Result<()> {
        let (uid, gid) = self.owner(meta);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(to, name, Some(uid), Some(gid), nofollow)?;
        match rustix::fs::utimensat(to, name, &times(meta), nofollow) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn owner(&self, meta: &Meta) -> (Uid, Gid) {
        let outward = |id| self.mapping.outward(id);
        (Uid::from_raw(outward(meta.uid)), Gid::from_raw(outward(meta.gid)))
    }
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn layer_error(error: LayerError) -> io::Error {
    match error {
        LayerError::Io { attempt, source } => {
            io::Error::new(source.kind(), format!("{attempt}: {source}"))
        }
        other => io::Error::other(other.to_string()),
    }
}
