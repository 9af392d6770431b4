//! A machine's own directory: where its Firecracker starts, and finds everything by a name that is
//! the same for every machine.
//!
//! So a snapshot, which remembers names, fits every clone: the name `storage` is the clone's disk,
//! `agent.sock` its own socket, and nothing has to be overridden. In pyro's own jail the files that are
//! there from the beginning are links to inherited descriptors (`/proc/self/fd/N`), so the process
//! needs no right to any path; what comes later is a hard link. Firecracker's jailer lets nothing be
//! inherited: there, all are hard links.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};

use pyro_layers::sparse::copy_sparse;
use rustix::fs::{
    AtFlags, CWD, MemfdFlags, Mode, OFlags, inotify, linkat, memfd_create, openat, renameat,
};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};

use crate::files::{self, is_readable, open};
use crate::{EngineError, Result};

/// Names in it.
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRAMFS: &str = "initramfs";
pub(super) const ENVIRONMENT: &str = "environment";
pub(super) const STORAGE: &str = "storage";
pub(super) const BASELINE: &str = "baseline";
/// What the baseline's drive has before it gets one.
pub(super) const EMPTY: &str = "empty";
pub(super) const STATE: &str = "state";
pub(super) const MEMORY: &str = "memory";
/// Where Firecracker writes snapshots.
pub(super) const NEW_STATE: &str = "new-state";
pub(super) const NEW_MEMORY: &str = "new-memory";
pub(super) const API: &str = "api.sock";
pub(super) const AGENT: &str = "agent.sock";

/// What a machine is called in its jailer's directory.
pub(super) const ID: &str = "pyro";

/// A drive of this many bytes exists, and holds nothing.
const EMPTY_BYTES: u64 = 4096;

/// How files get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lending {
    Descriptors,
    HardLinks,
}

/// See the module.
pub(super) struct Own {
    path: PathBuf,
    lending: Lending,
    /// By it paths to sockets stay short enough, and lead to no other directory.
    directory: OwnedFd,
    run_as: Option<u32>,
    held: Vec<OwnedFd>,
    /// Files in memory, by the names under which the process finds them.
    written: Vec<(&'static str, File)>,
}

impl Own {
    /// In the runtime directory, of which it is one half; the other is [`Self::root`].
    pub(super) fn new(runtime_dir: &Path, run_as: Option<u32>) -> Result<Self> {
        let (path, root) = (runtime_dir.join("machine"), Self::root(runtime_dir));
        make(&root, &root).map_err(EngineError::io(format!("cannot make {}", root.display())))?;
        Self::at(&path, &path, Lending::Descriptors, run_as)
    }

    /// Where Firecracker's jailer will look for it: below `base`, by the program's name.
    pub(super) fn in_jailer(base: &Path, program: &Path, run_as: u32) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str());
        let path = base.join(name).join(ID).join("root");
        Self::at(base, &path, Lending::HardLinks, Some(run_as))
    }

    fn at(fresh: &Path, path: &Path, lending: Lending, run_as: Option<u32>) -> Result<Self> {
        let path = path.to_owned();
        let failed = || EngineError::io(format!("cannot make {}", path.display()));
        make(fresh, &path).map_err(failed())?;
        if run_as.is_some() {
            chown(&path, run_as, run_as).map_err(failed())?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, &path, flags, Mode::empty()).map_err(|error| failed()(error.into()))?;
        let own = Self { path, lending, directory, run_as, held: Vec::new(), written: Vec::new() };
        own.make_empty(EMPTY).map_err(EngineError::io("cannot make an empty drive"))?;
        Ok(own)
    }

    /// Where the jail builds its root.
    pub(super) fn root(runtime_dir: &Path) -> PathBuf {
        runtime_dir.join("root")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Holds the place of a baseline for a machine that remembers having one.
    pub(super) fn expect_baseline(&self) -> Result<()> {
        self.make_empty(BASELINE).map_err(EngineError::io("cannot make an empty drive"))
    }

    fn make_empty(&self, name: &str) -> io::Result<()> {
        let file = File::create_new(self.path.join(name))?;
        file.set_len(EMPTY_BYTES)?;
        file.set_permissions(PermissionsExt::from_mode(0o444))
    }

    /// A file to boot from.
    pub(super) fn lend_copy(&mut self, name: &str, path: &Path) -> Result<()> {
        if self.lending == Lending::HardLinks {
            return self.link_or_copy(name, path);
        }
        let file = files::open_by_path(path, self.run_as)?;
        self.lend_open(name, path, file)
    }

    /// A file that many machines read.
    pub(super) fn lend_shared(&mut self, name: &str, path: &Path) -> Result<()> {
        let file = open(path, false)?;
        let failed = || EngineError::io(format!("cannot lend {} to the machine", path.display()));
        if !is_readable(&file, self.run_as).map_err(failed())? {
            return Err(failed()(io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        self.lend_open(name, path, file.into())
    }

    /// The machine's own disk, which from now on belongs to the machine's user: it opens it itself.
    pub(super) fn lend_own(&mut self, name: &str, path: &Path) -> Result<()> {
        let file = open(path, true)?;
        if self.run_as.is_some() {
            fchown(&file, self.run_as, self.run_as).map_err(EngineError::io(format!(
                "cannot give {} to the machine",
                path.display()
            )))?;
        }
        self.lend_open(name, path, file.into())
    }

    /// Files that the process will write its snapshots to: in memory, so that it waits for no disk.
    pub(super) fn lend_targets(&mut self) -> Result<()> {
        if self.lending == Lending::HardLinks {
            // It makes them where it is, then.
            return Ok(());
        }
        for name in [NEW_STATE, NEW_MEMORY] {
            let file: File = memfd_create(name, MemfdFlags::CLOEXEC)
                .map_err(EngineError::io("cannot make a file in memory"))?
                .into();
            let again = file.try_clone().map_err(EngineError::io("cannot share a file"))?;
            self.lend_open(name, &self.path.join(name), again.into())?;
            self.written.push((name, file));
        }
        Ok(())
    }

    /// What the process has written under one of these names.
    pub(super) fn written(&self, name: &str) -> io::Result<File> {
        match self.written.iter().find(|(known, _)| *known == name) {
            Some((_, file)) => file.try_clone(),
            None => {
                // The name is of no more use: the next snapshot is another file.
                let file = open_plain(&self.directory, name)?;
                rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?;
                Ok(file)
            }
        }
    }

    /// Gives back the host's memory that snapshots take, and lets none be laid over another.
    pub(super) fn forget_written(&self) {
        for (_, file) in &self.written {
            let _ = file.set_len(0);
        }
    }

    fn link_or_copy(&self, name: &str, path: &Path) -> Result<()> {
        let lent = self.path.join(name);
        let lend = || {
            let readable = is_readable(&File::open(path)?, self.run_as)?;
            if readable && fs::hard_link(path, &lent).is_ok() {
                return Ok(());
            }
            let mut copy = File::create_new(&lent)?;
            io::copy(&mut File::open(path)?, &mut copy)?;
            copy.set_permissions(PermissionsExt::from_mode(0o444))
        };
        lend().map_err(EngineError::io(format!("cannot give the machine its {name}")))
    }

    fn lend_open(&mut self, name: &str, path: &Path, file: OwnedFd) -> Result<()> {
        if self.lending == Lending::HardLinks {
            // A disk is not copied: the machine would work on another than it was given.
            return fs::hard_link(path, self.path.join(name)).map_err(EngineError::io(format!(
                "cannot link the machine's {name} into the jailer's directory, which must be on \
                 its filesystem"
            )));
        }
        symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), self.path.join(name))
            .map_err(EngineError::io(format!("cannot give the machine its {name}")))?;
        self.held.push(file);
        Ok(())
    }

    /// Shows a process that runs already one more file, for reading only.
    pub(super) fn show(&self, name: &str, path: &Path) -> Result<()> {
        let failed = || EngineError::io(format!("cannot show {} to the machine", path.display()));
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed()(errno.into())),
        }
        match linkat(CWD, path, &self.directory, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::XDEV) => {
                // Never over what stands there, which may be a link to anywhere.
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|errno| failed()(errno.into()))?;
                io::copy(&mut open(path, false)?, &mut File::from(copy)).map_err(failed())?;
            }
            Err(errno) => return Err(failed()(errno.into())),
        }
        let Some(id) = self.run_as else { return Ok(()) };
        // By descriptor: the name is in a directory that the process may write to.
        let file = open_plain(&self.directory, name).map_err(failed())?;
        fchown(&file, Some(0), Some(id)).map_err(failed())?;
        file.set_permissions(PermissionsExt::from_mode(0o440)).map_err(failed())
    }

    /// What the process has written, taken out of its reach: a plain file of this host's user.
    pub(super) fn take(&self, name: &str, to: &Path) -> Result<()> {
        let failed = || EngineError::io(format!("cannot keep the machine's {name}"));
        let file = open_plain(&self.directory, name).map_err(failed())?;
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        fchown(&file, Some(uid), Some(gid)).map_err(failed())?;
        file.set_permissions(PermissionsExt::from_mode(0o444)).map_err(failed())?;
        match renameat(&self.directory, name, CWD, to) {
            Err(Errno::XDEV) => {
                let copy = File::create_new(to).map_err(failed())?;
                copy_sparse(&file, &copy)?;
                return copy
                    .set_permissions(PermissionsExt::from_mode(0o444))
                    .and_then(|()| copy.sync_all())
                    .map_err(failed());
            }
            moved => moved.map_err(|errno| failed()(errno.into()))?,
        }
        // Were the name another file by now, this would not be the one that was looked at.
        let kept = fs::symlink_metadata(to).map_err(failed())?;
        let looked = file.metadata().map_err(failed())?;
        if (kept.dev(), kept.ino()) != (looked.dev(), looked.ino()) {
            return Err(failed()(io::Error::from(io::ErrorKind::InvalidData)));
        }
        Ok(())
    }

    /// Descriptors for the process to inherit, at the numbers that the links name.
    pub(super) fn numbers(&self) -> Vec<RawFd> {
        self.held.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Lets go of them on this side, to be closed once the process has them.
    pub(super) fn hand_over(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.held)
    }

    /// A socket in the directory, by a path that is short enough for any.
    fn socket_path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()).into()
    }

    /// Listens where the process will look for this host.
    pub(super) fn listen(&self, name: &str) -> Result<UnixListener> {
        let path = self.socket_path(name);
        let listen = || {
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
            chown(&path, self.run_as, self.run_as)?;
            Ok::<_, io::Error>(listener)
        };
        listen().map_err(EngineError::io("cannot listen for the machine"))
    }

    /// Connects to a socket of the process. A link is not followed: whoever had taken the process
    /// over could have this side speak to anybody on the host.
    pub(super) async fn connect(&self, name: &str) -> io::Result<UnixStream> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket: File = openat(&self.directory, name, flags, Mode::empty())?.into();
        if !socket.metadata()?.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no socket"));
        }
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }

    /// Told by the kernel whenever something is made in the directory; see inotify(7).
    pub(super) fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags)?;
        inotify::add_watch(&watch, &self.path, inotify::WatchFlags::CREATE)?;
        crate::readiness::of(watch)
    }
}

/// A new directory `path`; whatever was at `fresh`, which is that or above it, is gone.
fn make(fresh: &Path, path: &Path) -> io::Result<()> {
    if fresh.exists() {
        fs::remove_dir_all(fresh)?;
    }
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
}

fn open_plain(directory: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = CString::new(name)?;
    let file: File = openat(directory, name, flags, Mode::empty())?.into();
    let plain = file.metadata()?.is_file();
    if plain { Ok(file) } else { Err(io::Error::from(io::ErrorKind::InvalidData)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> (tempfile::TempDir, Own) {
        let directory = tempfile::tempdir().unwrap();
        let own = Own::new(directory.path(), None).unwrap();
        (directory, own)
    }

    #[test]
    fn every_machine_finds_its_files_by_the_same_names() {
        let (directory, mut own) = own();
        let file = directory.path().join("file");
        fs::write(&file, "content").unwrap();
        own.lend_shared(ENVIRONMENT, &file).unwrap();
        own.lend_own(STORAGE, &file).unwrap();
        own.expect_baseline().unwrap();
        own.show(BASELINE, &file).unwrap();
        for name in [ENVIRONMENT, STORAGE, BASELINE] {
            assert_eq!(fs::read(own.path().join(name)).unwrap(), b"content", "{name}");
        }
        assert_eq!(own.numbers().len(), 2);
    }

    #[tokio::test]
    async fn a_link_in_place_of_a_socket_is_not_followed() {
        let (directory, own) = own();
        let elsewhere = directory.path().join("elsewhere");
        let _listener = UnixListener::bind(&elsewhere).unwrap();
        symlink(&elsewhere, own.path().join(AGENT)).unwrap();
        assert!(own.connect(AGENT).await.is_err());
        fs::remove_file(own.path().join(AGENT)).unwrap();
        fs::write(own.path().join(AGENT), "").unwrap();
        assert!(own.connect(AGENT).await.is_err());
        fs::remove_file(own.path().join(AGENT)).unwrap();
        let _listener = own.listen(AGENT).unwrap();
        own.connect(AGENT).await.unwrap();
    }

    #[test]
    fn a_link_in_place_of_a_snapshot_is_not_taken() {
        let (directory, own) = own();
        let precious = directory.path().join("precious");
        fs::write(&precious, "").unwrap();
        symlink(&precious, own.path().join(MEMORY)).unwrap();
        let to = directory.path().join("kept");
        assert!(own.take(MEMORY, &to).is_err());
        assert!(!to.exists());
        assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o777, 0o644);
        fs::write(own.path().join(STATE), "state").unwrap();
        own.take(STATE, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"state");
    }
}
