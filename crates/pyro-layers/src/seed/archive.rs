//! A tar archive: plain, gzip or zstd, told apart by what is in it and not by its name.

mod content;
mod extras;
mod reader;

use std::io::{self, Read};

use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use tar::EntryType;

use self::reader::{Member, Reader};
use super::SeedReport;
use super::meter::Meter;
use crate::erofs::{Content, ErofsWriter, NewNode};
use crate::layer::{LayerError, Result};

/// What an archive is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A user's files: they become root's, and devices and extended attributes are left out.
    Seed,
    /// A root filesystem: owners, devices and extended attributes are kept.
    RootFilesystem,
}

/// Packs an archive. Entries that come later replace earlier ones of the same path.
///
/// # Errors
/// [`LayerError::Seed`] if it is not an archive, is damaged, or an entry leads out of it;
/// [`LayerError::Cancelled`]; [`LayerError::Io`] if the image cannot be written.
pub fn pack_archive<R: Read>(
    reader: R,
    writer: &mut ErofsWriter,
    kind: ArchiveKind,
    progress: &dyn Progress,
) -> Result<SeedReport> {
    let mut meter = Meter::new(progress, "unpacking the archive");
    let mut archive = Reader::new(decompressed(reader)?);
    while let Some(member) = archive.next().map_err(damaged)? {
        add(&member, &mut archive, writer, kind, &mut meter)?;
    }
    drain(archive.into_inner(), &meter)?;
    Ok(meter.finish())
}

fn add<R: Read>(
    member: &Member,
    archive: &mut Reader<R>,
    writer: &mut ErofsWriter,
    kind: ArchiveKind,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let path = member.path.as_slice();
    let attributes = attributes(member, kind)?;
    let mut bytes = 0;
    match member.header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            // Before POSIX, a directory was a file whose name ends in a slash.
            if path.ends_with(b"/") {
                writer.add(path, attributes, Content::Directory)?;
            } else {
                bytes = member.size;
                let mut source = meter.watch(archive.content(member));
                writer.add(path, attributes, Content::File { size: bytes, source: &mut source })?;
            }
        }
        EntryType::Directory => writer.add(path, attributes, Content::Directory)?,
        EntryType::Symlink => writer.add(path, attributes, Content::Symlink(&member.target))?,
        EntryType::Link => writer.link(path, &member.target)?,
        EntryType::Fifo => writer.add(path, attributes, Content::Fifo)?,
        device @ (EntryType::Char | EntryType::Block) => {
            if kind == ArchiveKind::Seed {
                meter.skip(path, "it is a device");
                return Ok(());
            }
            let (major, minor) = member.device().map_err(|_| senseless(path))?;
            let content = match device {
                EntryType::Char => Content::CharDevice(major, minor),
                _ => Content::BlockDevice(major, minor),
            };
            writer.add(path, attributes, content)?;
        }
        _ => {
            meter.skip(path, "its type is unknown");
            return Ok(());
        }
    }
    meter.entry(bytes)
}

fn attributes(member: &Member, kind: ArchiveKind) -> Result<NewNode> {
    let wrong = |_| senseless(&member.path);
    let header = &member.header;
    let mode = (header.mode().map_err(wrong)? & 0o7777) as u16;
    let mtime = member.extras.mtime.unwrap_or_else(|| header.mtime().unwrap_or(0) as i64);
    if kind == ArchiveKind::Seed {
        return Ok(NewNode::of_root(mode, mtime));
    }
    let owner = |told: Option<u64>, field: io::Result<u64>| {
        let id = told.map_or(field, Ok).map_err(wrong)?;
        u32::try_from(id).map_err(|_| senseless(&member.path))
    };
    Ok(NewNode {
        mode,
        uid: owner(member.extras.uid, header.uid())?,
        gid: owner(member.extras.gid, header.gid())?,
        mtime,
        xattrs: member.extras.xattrs.clone(),
    })
}

fn senseless(path: &[u8]) -> LayerError {
    refused(path, "its header makes no sense", REMAKE)
}

/// Reads to the end: whoever gave the reader may be hashing it, and the checksum of a compressed
/// archive comes last.
fn drain(mut rest: impl Read, meter: &Meter<'_>) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        meter.check()?;
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(damaged(error)),
        }
    }
}

/// Looks at the first bytes and undoes the compression they tell of.
fn decompressed<'r, R: Read + 'r>(mut reader: R) -> Result<Box<dyn Read + 'r>> {
    let mut head = Vec::new();
    (&mut reader).take(6).read_to_end(&mut head).map_err(damaged)?;
    let unpack_first = "unpack it and seed the directory, or pack it as .tar.zst";
    let whole = |reader: R| io::Cursor::new(head.clone()).chain(reader);
    match head.as_slice() {
        [] => Err(refused(ARCHIVE, "it is empty", REMAKE)),
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(whole(reader)))),
        // A zstd frame, or a skippable one before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let decoder = zstd::stream::read::Decoder::new(whole(reader)).map_err(damaged)?;
            Ok(Box::new(decoder))
        }
        b"\xfd7zXZ\0" => Err(refused(ARCHIVE, "it is compressed with xz", unpack_first)),
        [b'B', b'Z', b'h', ..] => {
            Err(refused(ARCHIVE, "it is compressed with bzip2", unpack_first))
        }
        [b'P', b'K', 3, 4, ..] => Err(refused(ARCHIVE, "it is a zip archive", unpack_first)),
        _ => Ok(Box::new(whole(reader))),
    }
}

const ARCHIVE: &[u8] = b"the archive";
const REMAKE: &str = "make the archive again; .tar, .tar.gz and .tar.zst are taken";

fn refused(path: &[u8], reason: &str, hint: &'static str) -> LayerError {
    LayerError::Seed { path: BytePath::new(path).to_string(), reason: reason.to_owned(), hint }
}

fn damaged(error: io::Error) -> LayerError {
    let reason = format!("it is damaged or not an archive ({error})");
    refused(ARCHIVE, &reason, REMAKE)
}
