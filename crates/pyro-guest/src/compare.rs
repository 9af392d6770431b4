//! Comparing a tree of this machine with one of the host, of which the host sends one directory
//! after the other. Only what is not the same is answered, so that a tree that has not changed costs
//! a look at each of its names and nothing else. What is kept is never more than one directory.
//!
//! A file is taken for unchanged without being read only if it has the inode and the change time
//! that it had when its content was known. Nothing that user code does to the content leaves both
//! as they were, provided that the stamp was taken when no dirty page could be written to
//! without the kernel noticing; see [`Settled`].

mod walk;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use pyro_wire::v1::compare_entry::Kind;
use pyro_wire::v1::compare_input::Input;
use pyro_wire::v1::compare_output::Output;
use pyro_wire::v1::compare_start::Purpose;
use pyro_wire::v1::{
    CompareDigest, CompareDirectory, CompareEntry, CompareExtra, CompareInput, CompareOutput,
    CompareStart, CompareVerdicts, Compared, ExtraPath, TreeStamp,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Bytes of paths in one message; far below what a message may have.
const EXTRA_BATCH: usize = 64 << 10;
/// Digests in one message, so that the host can work on them while more are made.
const DIGEST_BATCH: usize = 64;

const OPEN_DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

type Reply = Result<CompareOutput, Status>;

/// Compares until the host says that it was all, or goes away.
pub(crate) async fn run(
    mut input: Streaming<CompareInput>,
) -> Result<ReceiverStream<Reply>, Status> {
    let Some(Input::Start(start)) = input.message().await?.and_then(|message| message.input) else {
        return Err(Status::invalid_argument("the first message must say what to compare"));
    };
    let (answers, stream) = mpsc::channel(4);
    let (directories, mut received) = mpsc::channel::<CompareDirectory>(4);
    let worker = answers.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut comparing = Comparing::begin(&start, worker)?;
        while let Some(directory) = received.blocking_recv() {
            comparing.directory(&directory)?;
        }
        Ok::<_, Status>(comparing.missing)
    });
    tokio::spawn(async move {
        let ended = pass_on(&mut input, directories).await;
        let compared = match work.await {
            Ok(compared) => compared,
            Err(error) => Err(Status::internal(error.to_string())),
        };
        let last = ended.and(compared).map(|missing| Output::Compared(Compared { missing }));
        let _ = answers.send(last.map(message)).await;
    });
    Ok(ReceiverStream::new(stream))
}

async fn pass_on(
    input: &mut Streaming<CompareInput>,
    directories: mpsc::Sender<CompareDirectory>,
) -> Result<(), Status> {
    loop {
        match input.message().await?.and_then(|message| message.input) {
            Some(Input::Directory(directory)) => {
                // A worker that has given up says why itself.
                if directories.send(directory).await.is_err() {
                    return Ok(());
                }
            }
            Some(Input::End(_)) => return Ok(()),
            Some(Input::Start(_)) => return Err(Status::invalid_argument("a second start")),
            None => return Err(Status::cancelled("the host's tree did not come whole")),
        }
    }
}

fn message(output: Output) -> CompareOutput {
    CompareOutput { output: Some(output) }
}

struct Comparing {
    purpose: Purpose,
    /// `None` if there is no such directory.
    root: Option<OwnedFd>,
    /// How many of the last names of its path do not exist.
    missing: u32,
    settled: Option<Settled>,
    /// The names of a directory that comes in parts.
    names: Vec<tonic::codegen::Bytes>,
    answers: mpsc::Sender<Reply>,
}

impl Comparing {
    fn begin(start: &CompareStart, answers: mpsc::Sender<Reply>) -> Result<Self, Status> {
        let (root, missing) = open_root(&start.root)?;
        let mut this = Self {
            purpose: start.purpose(),
            root,
            missing,
            settled: None,
            names: Vec::new(),
            answers,
        };
        if this.purpose == Purpose::Stamp {
            this.settle()?;
        }
        Ok(this)
    }

    fn directory(&mut self, directory: &CompareDirectory) -> Result<(), Status> {
        let failed = |error: Errno| status(&directory.path, error);
        let opened = match &self.root {
            None => None,
            Some(root) => match open_beneath(root.as_fd(), &directory.path) {
                Ok(opened) => Some(opened),
                // Not there, or not a directory: then everything in it is different.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => return Err(failed(error)),
            },
        };
        let mut verdicts = CompareVerdicts::default();
        for (entry, number) in directory.entries.iter().zip(directory.first..) {
            let found = match &opened {
                None => None,
                Some(opened) => look(opened.as_fd(), &entry.name).map_err(failed)?,
            };
            match found {
                _ if self.purpose == Purpose::Stamp => {
                    verdicts.digests.extend(self.stamp(number, entry, found.as_ref()));
                }
                None => verdicts.different.push(number),
                Some(found) => {
                    let Some(opened) = &opened else { continue };
                    let at = Place { directory, opened: opened.as_fd(), entry, number };
                    self.entry(&at, &found, &mut verdicts)?;
                }
            }
            if verdicts.digests.len() >= DIGEST_BATCH {
                self.send(Output::Verdicts(std::mem::take(&mut verdicts)))?;
            }
        }
        if verdicts != CompareVerdicts::default() {
            self.send(Output::Verdicts(verdicts))?;
        }
        if self.purpose == Purpose::CompareBothWays {
            self.names.extend(directory.entries.iter().map(|entry| entry.name.clone()));
            if !directory.more {
                let names = std::mem::take(&mut self.names);
                if let Some(opened) = &opened {
                    self.extra(opened.as_fd(), &directory.path, &names)?;
                }
            }
        }
        Ok(())
    }

    /// One name that exists on both sides.
    fn entry(
        &mut self,
        at: &Place<'_>,
        found: &Stat,
        verdicts: &mut CompareVerdicts,
    ) -> Result<(), Status> {
        let kind = FileType::from_raw_mode(found.st_mode);
        let is_same = match (at.entry.kind(), kind) {
            (Kind::Directory, FileType::Directory) => true,
            (Kind::Link, FileType::Symlink) => {
                let target = rustix::fs::readlinkat(at.opened, &*at.entry.name, Vec::new());
                // It went away just now.
                target.is_ok_and(|target| target.as_bytes() == at.entry.target)
            }
            (Kind::File, FileType::RegularFile) => {
                if at.entry.stamp != Some(stamp(found)) {
                    if u64::try_from(found.st_size).ok() != Some(at.entry.size) {
                        false
                    } else if let Some(digest) = self.digest(at)? {
                        verdicts.digests.push(digest);
                        true
                    } else {
                        false
                    }
                } else {
                    true
                }
            }
            _ => false,
        };
        if !is_same {
            verdicts.different.push(at.number);
            if kind == FileType::Directory {
                verdicts.directories.push(at.number);
                if self.purpose == Purpose::CompareBothWays {
                    self.replaced(at)?;
                }
            }
        } else if kind != FileType::Symlink && found.st_mode & MODE != at.entry.mode & MODE {
            verdicts.mode.push(at.number);
        }
        Ok(())
    }

    /// The content of a file in the form of a digest; `None` if it changes just now.
    fn digest(&mut self, at: &Place<'_>) -> Result<Option<CompareDigest>, Status> {
        let settled = self.settle()?;
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(at.opened, &*at.entry.name, flags, Mode::empty()) else {
            return Ok(None);
        };
        let failed = |error: io::Error| {
            let path = String::from_utf8_lossy(&at.path()).into_owned();
            Status::internal(format!("{path}: {error}"))
        };
        let before = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut file = File::from(file);
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => digest.update(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if self.answers.is_closed() {
                return Err(Status::cancelled("the host hung up"));
            }
        }
        let after = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        if after.st_size != before.st_size {
            return Ok(None);
        }
        let is_still = stamp(&before) == stamp(&after) && settled.holds(&after);
        Ok(Some(CompareDigest {
            number: at.number,
            sha256: digest.finalize().to_vec().into(),
            stamp: is_still.then(|| stamp(&after)),
        }))
    }

    /// The stamp of a file that was just written, unless somebody else has written to it since.
    fn stamp(
        &self,
        number: u32,
        entry: &CompareEntry,
        found: Option<&Stat>,
    ) -> Option<CompareDigest> {
        let found = found?;
        let is_as_written = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && u64::try_from(found.st_size).ok() == Some(entry.size)
            && time(found.st_mtime, found.st_mtime_nsec) == entry.mtime_ns;
        let is_still = self.settled.as_ref().is_some_and(|settled| settled.holds(found));
        (is_as_written && is_still).then(|| CompareDigest {
            number,
            sha256: tonic::codegen::Bytes::new(),
            stamp: Some(stamp(found)),
        })
    }

    fn settle(&mut self) -> Result<Settled, Status> {
        if let Some(settled) = self.settled {
            return Ok(settled);
        }
        let settled = match &self.root {
            Some(root) => Settled::wait(root.as_fd()).map_err(|error| status(b"", error))?,
            None => Settled(i64::MIN),
        };
        self.settled = Some(settled);
        Ok(settled)
    }

    /// Tells what the directory has besides these names, which are in order.
    fn extra(
        &self,
        opened: BorrowedFd<'_>,
        path: &[u8],
        names: &[tonic::codegen::Bytes],
    ) -> Result<(), Status> {
        let mut batch = Batch { answers: &self.answers, paths: Vec::new(), bytes: 0 };
        let is_known = |name: &[u8]| names.binary_search_by(|known| known[..].cmp(name)).is_ok();
        walk::walk(opened, path, &|name| !is_known(name), &mut |path, directory| {
            batch.push(path, directory)
        })?;
        batch.finish()
    }

    /// Tells what is in a directory where the host has something else, itself included.
    fn replaced(&self, at: &Place<'_>) -> Result<(), Status> {
        let mut batch = Batch { answers: &self.answers, paths: Vec::new(), bytes: 0 };
        let only = |name: &[u8]| name == &at.entry.name[..];
        walk::walk(at.opened, &at.directory.path, &only, &mut |path, directory| {
            batch.push(path, directory)
        })?;
        batch.finish()
    }

    fn send(&self, output: Output) -> Result<(), Status> {
        send(&self.answers, output)
    }
}

fn send(answers: &mpsc::Sender<Reply>, output: Output) -> Result<(), Status> {
    let gone = |_| Status::cancelled("the host hung up");
    answers.blocking_send(Ok(message(output))).map_err(gone)
}

/// Which bits of a mode are compared. The setuid and setgid bits would mean something else with
/// another owner, and are left alone.
const MODE: u32 = 0o1777;

/// One entry and where it is.
struct Place<'a> {
    directory: &'a CompareDirectory,
    opened: BorrowedFd<'a>,
    entry: &'a CompareEntry,
    number: u32,
}

impl Place<'_> {
    fn path(&self) -> Vec<u8> {
        walk::join(&self.directory.path, &self.entry.name)
    }
}

/// Paths on their way.
struct Batch<'a> {
    answers: &'a mpsc::Sender<Reply>,
    paths: Vec<ExtraPath>,
    bytes: usize,
}

impl Batch<'_> {
    fn push(&mut self, path: &[u8], directory: bool) -> Result<(), Status> {
        self.bytes += path.len() + 8;
        self.paths.push(ExtraPath { path: path.to_vec().into(), directory });
        if self.bytes >= EXTRA_BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Status> {
        self.bytes = 0;
        let paths = std::mem::take(&mut self.paths);
        send(self.answers, Output::Extra(CompareExtra { paths }))
    }

    fn finish(mut self) -> Result<(), Status> {
        if self.paths.is_empty() { Ok(()) } else { self.flush() }
    }
}

/// A moment by which everything written before was on the disk.
///
/// Two things could change a file without changing its stamp. The kernel takes change times from a
/// clock that ticks some hundred times a second, so a second write within a tick leaves no trace.
/// And a page of a mapped file that is dirty already can be written to unnoticed until it has been
/// written out. So a stamp counts only if it is older than a tick that has passed, after which all was
/// written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settled(i64);

impl Settled {
    fn wait(of: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        // Newer kernels take some change times from the finer clock, which is ahead of the other.
        let begun = clock(ClockId::Realtime);
        let mut now = coarse();
        while now <= begun {
            // A tick or two; what is waited for is the clock itself.
            std::thread::sleep(Duration::from_millis(1));
            now = coarse();
        }
        rustix::fs::syncfs(of)?;
        Ok(Self(now))
    }

    fn holds(self, stat: &Stat) -> bool {
        time(stat.st_ctime, stat.st_ctime_nsec) < self.0
    }
}

/// The clock that the kernel takes file times from.
fn coarse() -> i64 {
    clock(ClockId::RealtimeCoarse)
}

fn clock(which: ClockId) -> i64 {
    let now = rustix::time::clock_gettime(which);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn stamp(stat: &Stat) -> TreeStamp {
    TreeStamp { inode: stat.st_ino, ctime_ns: time(stat.st_ctime, stat.st_ctime_nsec) }
}

fn time(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or(0))
}

fn look(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory at an absolute path, or how many of its last names do not exist.
fn open_root(path: &[u8]) -> Result<(Option<OwnedFd>, u32), Status> {
    if !path.starts_with(b"/") || path.contains(&0) {
        return Err(Status::invalid_argument("a root must be absolute and free of NUL bytes"));
    }
    let flags = OPEN_DIRECTORY.difference(OFlags::NOFOLLOW);
    let names: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    for there in (0..=names.len()).rev() {
        let above = [&b"/"[..], &names[..there].join(&b'/')].concat();
        let missing = names.len() - there;
        match rustix::fs::open(&*above, flags, Mode::empty()) {
            Ok(opened) if missing == 0 => return Ok((Some(opened), 0)),
            Ok(_) => return Ok((None, u32::try_from(missing).unwrap_or(u32::MAX))),
            Err(Errno::NOENT) => {
                // A link that leads nowhere is there, and no directory can be made in its place.
                if look(rustix::fs::CWD, &above).is_ok_and(|found| found.is_some()) {
                    return Err(not_a_directory(&above));
                }
            }
            Err(Errno::NOTDIR) if missing == 0 => return Err(not_a_directory(&above)),
            Err(error) => return Err(status(&above, error)),
        }
    }
    Err(Status::internal("the machine has no root directory"))
}

fn not_a_directory(path: &[u8]) -> Status {
    Status::failed_precondition(format!(
        "{} is in the way: it is not a directory",
        String::from_utf8_lossy(path)
    ))
}

/// A directory below another, through no link.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let whole: &[u8] = if path.is_empty() { b"." } else { path };
    match rustix::fs::openat2(root, whole, OPEN_DIRECTORY, Mode::empty(), how) {
        // Longer than a path may be, or an old kernel: name by name.
        Err(Errno::NAMETOOLONG | Errno::NOSYS | Errno::PERM) => {
            let mut at = rustix::fs::openat(root, c".", OPEN_DIRECTORY, Mode::empty())?;
            for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                if name == b".." {
                    return Err(Errno::XDEV);
                }
                at = rustix::fs::openat(&at, name, OPEN_DIRECTORY, Mode::empty())?;
            }
            Ok(at)
        }
        other => other,
    }
}

fn status(path: &[u8], error: Errno) -> Status {
    let words = format!("{}: {}", String::from_utf8_lossy(path), io::Error::from(error));
    match error {
        Errno::ACCESS | Errno::PERM => Status::permission_denied(words),
        Errno::NOTDIR | Errno::LOOP => Status::failed_precondition(words),
        Errno::NAMETOOLONG | Errno::INVAL => Status::invalid_argument(words),
        _ => Status::internal(words),
    }
}

#[cfg(test)]
mod tests;
