//! Changing a directory of the host so that all of it happens, or nothing.
//!
//! What is to be written is made ready in a directory of its own in there, the *stage*. The steps that
//! bring it into place are then written down under `PYRO_HOME`, and from that moment on they happen:
//! if this process is killed amid them, the next sync of that directory makes them again, from the
//! beginning. Each step can be made any number of times: what was to be placed is gone from the stage
//! once it is, and what was removed lies there until all is done.
//!
//! The steps are not kept in the directory itself, where anybody could have put them: a repository
//! that was cloned, say, or the workspace that is pulled from.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::remove::remove_all;
use crate::home::{Home, sync_dir};
use crate::sync::beneath::{self, DIRECTORY, failed, split};
use crate::sync::rules::STAGE;

/// More directories or files than this are flushed with all else of their filesystem.
const FLUSHED_SINGLY: usize = 16;

/// A directory of the host that nobody else syncs meanwhile.
#[derive(Debug)]
pub(in crate::sync) struct Target {
    fd: OwnedFd,
    /// Where its steps are written down.
    journal: PathBuf,
    /// By which it is told to the user.
    shown: PathBuf,
}

/// One step. Paths are relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sync) enum Step {
    /// Moves what is there into the stage, under this number.
    Remove { path: BytePath, number: u32 },
    /// Makes a directory, if there is none.
    Directory { path: BytePath },
    /// Moves what was made ready under this number to the path.
    Place { path: BytePath, number: u32 },
    /// Sets the mode.
    Mode { path: BytePath, mode: u32 },
}

impl Step {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Remove { path, .. }
            | Self::Directory { path }
            | Self::Place { path, .. }
            | Self::Mode { path, .. } => path.as_bytes(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Journal {
    version: u32,
    device: u64,
    inode: u64,
    steps: Vec<Step>,
}

const VERSION: u32 = 1;

impl Target {
    /// Opens a directory, alone, and completes what another sync may have left undone in it.
    pub(in crate::sync) fn open(home: &Home, path: &Path) -> Result<Self> {
        let unreadable =
            |error: &std::io::Error| Error::io(format!("cannot open {}", path.display()), error);
        let whole = fs::canonicalize(path).map_err(|error| unreadable(&error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&whole, flags, Mode::empty()).map_err(|errno| {
            let made = unreadable(&errno.into());
            if errno == Errno::NOTDIR { made.with_hint("name a directory") } else { made }
        })?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    ErrorCode::Busy,
                    format!("another pull into {} is under way", path.display()),
                )
                .with_hint("wait for it to end"));
            }
            // Filesystems without locks; two at once are then the user's affair.
            Err(_) => {}
        }
        let digest = Sha256::digest(whole.as_os_str().as_bytes());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let journal = home.root().join("syncs").join(name);
        let this = Self { fd, journal, shown: path.to_owned() };
        this.settle()?;
        Ok(this)
    }

    /// True if a sync of this directory was cut off.
    pub(in crate::sync) fn is_unsettled(home: &Home, path: &Path) -> bool {
        let Ok(whole) = fs::canonicalize(path) else { return false };
        let digest = Sha256::digest(whole.as_os_str().as_bytes());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        home.root().join("syncs").join(name).exists()
    }

    pub(in crate::sync) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn settle(&self) -> Result<()> {
        match fs::read(&self.journal) {
            Ok(bytes) => {
                let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| {
                    Error::new(
                        ErrorCode::Damaged,
                        format!(
                            "an unfinished pull into {} cannot be finished",
                            self.shown.display()
                        ),
                    )
                    .with_cause(error.to_string())
                    .with_hint(format!(
                        "look at the directory, then remove {}",
                        self.journal.display()
                    ))
                })?;
                let own =
                    rustix::fs::fstat(&self.fd).map_err(|errno| self.failed("look at", errno))?;
                // Another directory stands there now, which is none of the journal's business.
                if (own.st_dev, own.st_ino) == (journal.device, journal.inode) {
                    self.finish(&journal.steps)?;
                } else {
                    self.forget()?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io(format!("cannot read {}", self.journal.display()), &error));
            }
        }
        // What was made ready and never written down.
        remove_all(self.fd(), STAGE).map_err(|errno| self.failed("clean up", errno))
    }

    fn finish(&self, steps: &[Step]) -> Result<()> {
        let stage = match rustix::fs::openat(&self.fd, STAGE, DIRECTORY, Mode::empty()) {
            Ok(stage) => stage,
            // It was finished but for being forgotten.
            Err(Errno::NOENT) => return self.forget(),
            Err(errno) => return Err(self.failed("look at", errno)),
        };
        for step in steps {
            make(self.fd(), stage.as_fd(), step).map_err(|errno| {
                failed("finish the change of", step.path(), errno).with_hint(
                    "mend that, and sync again: it goes on where it stopped, and until then the \
                     directory is a mixture of old and new",
                )
            })?;
            #[cfg(test)]
            tests::may_live()?;
        }
        let changed: BTreeSet<&[u8]> = steps.iter().map(|step| split(step.path()).0).collect();
        flush_directories(self.fd(), &changed).map_err(|errno| self.failed("flush", errno))?;
        self.forget()?;
        remove_all(self.fd(), STAGE).map_err(|errno| self.failed("clean up", errno))
    }

    fn forget(&self) -> Result<()> {
        match fs::remove_file(&self.journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot remove {}", self.journal.display()), &error))
            }
            _ => Ok(()),
        }
    }

    fn write_down(&self, steps: Vec<Step>) -> Result<Vec<Step>> {
        let written = |error: &std::io::Error| Error::io("cannot write down what to change", error);
        let own = rustix::fs::fstat(&self.fd).map_err(|errno| self.failed("look at", errno))?;
        let journal = Journal { version: VERSION, device: own.st_dev, inode: own.st_ino, steps };
        let bytes = serde_json::to_vec(&journal)
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        let parent = self.journal.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| written(&error))?;
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(|error| written(&error))?;
        file.write_all(&bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| written(&error))?;
        file.persist(&self.journal).map_err(|error| written(&error.error))?;
        sync_dir(parent)?;
        Ok(journal.steps)
    }

    fn failed(&self, attempt: &str, errno: Errno) -> Error {
        let error = Error::io(format!("cannot {attempt} {}", self.shown.display()), &errno.into());
        match errno {
            Errno::NOSPC | Errno::DQUOT => error.with_hint("free some space there"),
            _ => error,
        }
    }
}

/// Where things are made ready.
pub(in crate::sync) struct Stage {
    target: Arc<Target>,
    dir: OwnedFd,
    next: u32,
    is_bound: bool,
}

impl Stage {
    /// An empty one. It goes when it is dropped, unless it was committed.
    pub(in crate::sync) fn open(target: &Arc<Target>) -> Result<Self> {
        let refused = |errno| target.failed("write to", errno);
        rustix::fs::mkdirat(&target.fd, STAGE, Mode::RWXU).map_err(refused)?;
        let dir =
            rustix::fs::openat(&target.fd, STAGE, DIRECTORY, Mode::empty()).map_err(refused)?;
        Ok(Self { target: Arc::clone(target), dir, next: 0, is_bound: false })
    }

    pub(in crate::sync) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A number that nothing has yet.
    pub(in crate::sync) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Makes all steps. An error before they count has changed nothing; a later one says that the
    /// rest is to come.
    pub(in crate::sync) fn commit(mut self, steps: Vec<Step>) -> Result<()> {
        self.check(&steps)?;
        self.flush(&steps).map_err(|errno| self.target.failed("flush", errno))?;
        #[cfg(test)]
        tests::may_live()?;
        let steps = self.target.write_down(steps)?;
        self.is_bound = true;
        self.target.finish(&steps)
    }

    /// What could stop the steps halfway.
    fn check(&self, steps: &[Step]) -> Result<()> {
        let own =
            rustix::fs::fstat(&self.dir).map_err(|errno| self.target.failed("look at", errno))?;
        let made: BTreeSet<&[u8]> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Directory { path } => Some(path.as_bytes()),
                _ => None,
            })
            .collect();
        let parents: BTreeSet<&[u8]> = steps.iter().map(|step| split(step.path()).0).collect();
        for parent in parents {
            if made.contains(parent) {
                continue;
            }
            let refused = |errno| failed("write to", parent, errno);
            let opened = beneath::directory(self.target.fd(), parent).map_err(refused)?;
            let stat = rustix::fs::fstat(&opened).map_err(refused)?;
            if stat.st_dev != own.st_dev {
                return Err(refused(Errno::XDEV)
                    .with_hint("another filesystem is mounted there; pull into it by itself"));
            }
            let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            rustix::fs::accessat(&opened, c".", access, AtFlags::EACCESS).map_err(refused)?;
        }
        Ok(())
    }

    fn flush(&self, steps: &[Step]) -> rustix::io::Result<()> {
        let numbers: Vec<u32> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Place { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        if numbers.len() > FLUSHED_SINGLY {
            return rustix::fs::syncfs(&self.dir);
        }
        for number in numbers {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&self.dir, number.to_string(), flags, Mode::empty()) {
                Ok(file) => rustix::fs::fsync(file)?,
                // A link: its name is all that there is of it. Or a file that even its owner may not
                // read, which is flushed with all others.
                Err(Errno::LOOP) => {}
                Err(Errno::ACCESS) => return rustix::fs::syncfs(&self.dir),
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fsync(&self.dir)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_bound {
            let _ = remove_all(self.target.fd(), STAGE);
        }
    }
}

/// Makes one step, or finds it made.
fn make(top: BorrowedFd<'_>, stage: BorrowedFd<'_>, step: &Step) -> rustix::io::Result<()> {
    let (parent, name) = split(step.path());
    let opened = match beneath::directory(top, parent) {
        Ok(opened) => opened,
        // The directory that it was in has been removed already.
        Err(Errno::NOENT) if matches!(step, Step::Remove { .. }) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    match step {
        Step::Remove { number, .. } => {
            remove(opened.as_fd(), name, stage, &format!("gone-{number}"))
        }
        Step::Directory { .. } => match rustix::fs::mkdirat(&opened, name, Mode::RWXU) {
            Err(Errno::EXIST) => match beneath::look(opened.as_fd(), name)? {
                Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    Ok(())
                }
                _ => Err(Errno::NOTDIR),
            },
            other => other,
        },
        Step::Place { number, .. } => {
            match rustix::fs::renameat(stage, number.to_string(), &opened, name) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            }
        }
        Step::Mode { mode, .. } => set_mode(opened.as_fd(), name, *mode),
    }
}

/// What is found missing is noted too: what is put there later must not be taken for it.
fn remove(
    parent: BorrowedFd<'_>,
    name: &[u8],
    stage: BorrowedFd<'_>,
    into: &str,
) -> rustix::io::Result<()> {
    if beneath::look(stage, into.as_bytes())?.is_some() {
        return Ok(());
    }
    match rustix::fs::renameat(parent, name, stage, into) {
        Err(Errno::NOENT) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            rustix::fs::openat(stage, into, flags, Mode::RUSR).map(drop)
        }
        // A directory without write permission cannot be moved, for its `..` would have to change.
        Err(Errno::ACCESS) => {
            let opened = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
            rustix::fs::fchmod(&opened, Mode::RWXU)?;
            rustix::fs::renameat(parent, name, stage, into)
        }
        other => other,
    }
}

/// By a descriptor: not every kernel can set a mode without following a link.
fn set_mode(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(opened) => opened,
        // Somebody has taken it away meanwhile.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let stat = rustix::fs::fstat(&opened)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {
            let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
            rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        }
        _ => Ok(()),
    }
}

fn flush_directories(top: BorrowedFd<'_>, changed: &BTreeSet<&[u8]>) -> rustix::io::Result<()> {
    if changed.len() > FLUSHED_SINGLY {
        return rustix::fs::syncfs(top);
    }
    for directory in changed {
        match beneath::directory(top, directory) {
            Ok(opened) => File::from(opened)
                .sync_all()
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return rustix::fs::syncfs(top),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
