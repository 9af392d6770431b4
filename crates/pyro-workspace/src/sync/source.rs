//! Where a push takes its tree from: a directory, or an archive, which is packed into an image first
//! and so read by the same rules as a seed.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use pyro_contract::diff::FileKind;
use pyro_contract::progress::Progress;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::erofs::{ErofsLayer, ErofsWriter};
use pyro_layers::overlay::lookup_path;
use pyro_layers::seed::{ArchiveKind, pack_archive};
use pyro_layers::{Layer as _, Node};
use sha2::{Digest as _, Sha256};

use super::beneath::{self, DEPTH_MAX, MODE, Stamp, failed, join, split};
use super::record::Sha;
use super::rules::{Here, IGNORE_FILE, IGNORE_FILE_MAX, Rules};
use super::scan::{self, Directory, Entry, Kind, OnEnter, Top};
use crate::seed::is_archive;
use crate::watch::Watch;

/// How much of a file is in memory at a time.
const BLOCK: usize = 128 << 10;

/// A tree to push.
pub(super) enum Source {
    /// A directory of the host, as it is from moment to moment.
    Directory(Top),
    /// An archive, as an image without a name, which goes with its descriptor.
    Archive(Box<ErofsLayer>),
}

impl Source {
    /// Opens what the user named. `scratch` is a directory with room for an archive's content.
    pub(super) fn open(path: &Path, scratch: &Path, watch: &Watch) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|error| {
            let made = Error::io(format!("cannot push {}", path.display()), &error);
            match error.kind() {
                std::io::ErrorKind::NotFound => made.with_hint("check the path"),
                _ => made,
            }
        })?;
        if meta.is_dir() {
            return Ok(Self::Directory(Top::open(path)?));
        }
        let refused = || {
            Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{} is neither a directory nor a .tar, .tar.gz or .tar.zst archive",
                    path.display()
                ),
            )
            .with_hint("push the directory that it lies in, and exclude the rest")
        };
        if !meta.is_file() {
            return Err(refused());
        }
        let cannot =
            |error: &std::io::Error| Error::io(format!("cannot read {}", path.display()), error);
        let mut head = [0; 265];
        let mut file = File::open(path).map_err(|error| cannot(&error))?;
        let mut length = 0;
        while length < head.len() {
            match file.read(&mut head[length..]).map_err(|error| cannot(&error))? {
                0 => break,
                count => length += count,
            }
        }
        if !is_archive(&head) {
            return Err(refused());
        }
        let file = File::open(path).map_err(|error| cannot(&error))?;
        let image = tempfile::tempfile_in(scratch)
            .map_err(|error| Error::io("cannot make room for the archive's content", &error))?;
        let again =
            image.try_clone().map_err(|error| Error::io("cannot keep the image", &error))?;
        let mut writer = ErofsWriter::create(image)?;
        pack_archive(file, &mut writer, ArchiveKind::Seed, watch)?;
        writer.finish()?;
        Ok(Self::Archive(Box::new(ErofsLayer::from_file(again)?)))
    }

    /// The path by which the tree is remembered; an archive is not.
    pub(super) fn remembered_as(&self, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Directory(_) => std::fs::canonicalize(path).ok(),
            Self::Archive(_) => None,
        }
    }

    /// As [`scan::scan`].
    pub(super) fn scan(
        &self,
        rules: &Rules,
        on_enter: OnEnter<'_>,
        progress: &dyn Progress,
        mut take: impl FnMut(Directory) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Directory(top) => scan::scan(top, rules, on_enter, progress, take),
            Self::Archive(layer) => {
                let mut left = vec![(Vec::new(), layer.root(), Here::None, 0)];
                while let Some((path, node, above, depth)) = left.pop() {
                    if progress.cancelled() {
                        return Err(crate::watch::interrupted());
                    }
                    let directory = list(layer, rules, &path, node, &above)?;
                    if depth < DEPTH_MAX {
                        for entry in directory.entries.iter().filter(|e| e.kind == Kind::Directory)
                        {
                            let inner = layer.lookup(node, &entry.name)?;
                            let path = join(&path, &entry.name);
                            let patterns = directory.patterns.clone();
                            left.extend(inner.map(|node| (path, node, patterns, depth + 1)));
                        }
                    }
                    take(directory)?;
                }
                Ok(())
            }
        }
    }

    /// Opens a file of the tree.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<Content<'_>> {
        match self {
            Self::Directory(top) => open_host(top, path),
            Self::Archive(layer) => {
                let node = lookup_path(&**layer, path)?.ok_or_else(|| changed(path))?;
                Ok(Content::Image { layer, node })
            }
        }
    }
}

fn list(
    layer: &ErofsLayer,
    rules: &Rules,
    path: &[u8],
    node: Node,
    above: &Here,
) -> Result<Directory> {
    let mut patterns = above.clone();
    if let Some(file) = layer.lookup(node, IGNORE_FILE)?
        && layer.meta(file)?.kind == FileKind::File
    {
        let size = layer.meta(file)?.size.min(IGNORE_FILE_MAX);
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        let length = layer.read_at(file, 0, &mut content)?;
        patterns = Rules::enter(above, path, Some(&content[..length]))?;
    }
    let mut directory = Directory {
        path: path.to_vec(),
        entries: Vec::new(),
        patterns,
        skipped: Vec::new(),
        excluded: Vec::new(),
    };
    for found in layer.read_dir(node)? {
        let meta = layer.meta(found.node)?;
        let whole = join(path, &found.name);
        if rules.excludes(&directory.patterns, &whole, meta.kind == FileKind::Directory) {
            directory.excluded.push(found.name);
            continue;
        }
        let kind = match meta.kind {
            FileKind::File => Kind::File { size: meta.size, stamp: None },
            FileKind::Directory => Kind::Directory,
            FileKind::Symlink => Kind::Link(layer.read_link(found.node)?),
            FileKind::Fifo => {
                directory.skipped.push((found.name, "it is a named pipe"));
                continue;
            }
            _ => {
                directory.skipped.push((found.name, "it is a device or socket"));
                continue;
            }
        };
        directory.entries.push(Entry {
            name: found.name,
            kind,
            mode: u32::from(meta.mode) & MODE,
            mtime_ns: meta.mtime.saturating_mul(1_000_000_000),
        });
    }
    Ok(directory)
}

/// One file's bytes.
pub(super) enum Content<'a> {
    Host { file: File, before: Stamp, stat: Box<rustix::fs::Stat> },
    Image { layer: &'a ErofsLayer, node: Node },
}

impl Content<'_> {
    /// How many bytes there are.
    pub(super) fn size(&self) -> Result<u64> {
        match self {
            Self::Host { before, .. } => Ok(before.size),
            Self::Image { layer, node } => Ok(layer.meta(*node)?.size),
        }
    }

    /// Mode and time as they are now, if they may have changed since the tree was listed.
    pub(super) fn now(&self) -> Option<(u32, i64)> {
        match self {
            Self::Host { stat, .. } => {
                Some((stat.st_mode & MODE, beneath::time(stat.st_mtime, stat.st_mtime_nsec)))
            }
            Self::Image { .. } => None,
        }
    }

    /// Fills the buffer from `offset`, or as much of it as the file has left.
    pub(super) fn fill(&self, path: &[u8], offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Host { file, .. } => {
                use std::os::unix::fs::FileExt as _;
                let mut done = 0;
                while done < buffer.len() {
                    match file.read_at(&mut buffer[done..], offset + done as u64) {
                        Ok(0) => break,
                        Ok(count) => done += count,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => {
                            let shown = pyro_contract::path::BytePath::new(path);
                            return Err(Error::io(format!("cannot read {shown}"), &error));
                        }
                    }
                }
                Ok(done)
            }
            Self::Image { layer, node } => Ok(layer.read_at(*node, offset, buffer)?),
        }
    }

    /// The stamp of what was read: `None` if it cannot vouch for it. An error if the file changed
    /// since it was opened.
    pub(super) fn confirm(&self, path: &[u8]) -> Result<Option<Stamp>> {
        match self {
            Self::Host { file, before, .. } => {
                let now = beneath::coarse_now();
                let after = rustix::fs::fstat(file).map_err(|errno| failed("read", path, errno))?;
                if Stamp::of(&after) != *before {
                    return Err(changed(path));
                }
                Ok((before.ctime_ns < now).then_some(*before))
            }
            Self::Image { .. } => Ok(None),
        }
    }
}

/// That a file did not keep still.
pub(super) fn changed(path: &[u8]) -> Error {
    let shown = pyro_contract::path::BytePath::new(path);
    Error::new(ErrorCode::Busy, format!("{shown} changed while it was being read")).with_hint(
        "nothing was changed in the workspace; push again when nothing writes to it, or exclude it",
    )
}

/// The content of a file of the host, as a digest, and the stamp that it had all the while.
pub(super) fn hash_host(top: &Top, path: &[u8]) -> Result<(Sha, Option<Stamp>)> {
    hash(&open_host(top, path)?, path)
}

/// The same of any file of a tree that was opened.
pub(super) fn hash(content: &Content<'_>, path: &[u8]) -> Result<(Sha, Option<Stamp>)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BLOCK.min(usize::try_from(content.size()?).unwrap_or(BLOCK)).max(1)];
    let mut offset = 0;
    loop {
        let length = content.fill(path, offset, &mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
        offset += length as u64;
    }
    Ok((digest.finalize().into(), content.confirm(path)?))
}

fn open_host<'a>(top: &Top, path: &[u8]) -> Result<Content<'a>> {
    let (directory, name) = split(path);
    let (file, stat) = beneath::directory(top.fd(), directory)
        .and_then(|directory| beneath::file(directory.as_fd(), name))
        .map_err(|errno| match errno {
            errno if beneath::is_other_kind(errno) => changed(path),
            errno => failed("read", path, errno),
        })?;
    Ok(Content::Host { file, before: Stamp::of(&stat), stat: Box::new(stat) })
}
