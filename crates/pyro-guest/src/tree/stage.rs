//! Making changes ready, out of everybody's way.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{Expected, TreeChanged};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tonic::Status;

use super::fs::{self, Root};
use super::path::TreePath;
use super::{STAGES, check, commit, one_at_a_time};

/// The most changes of one transaction, and the most bytes of all their paths: together some tens
/// of MiB of a small machine's memory.
const MOST_CHANGES: usize = 500_000;
const MOST_BYTES: usize = 32 << 20;

/// The mode that files have in the stage, if no other is asked for.
const USUAL: u32 = 0o644;

/// What is to be at a path.
#[derive(Debug)]
pub(super) enum Node {
    /// What was made ready under this number; `has_mode` is what it was made with.
    File { number: u32, has_mode: u32, mode: Option<u32> },
    /// A link, made ready.
    Link { number: u32 },
    /// Whatever is at another path, which is removed there.
    Moved { from: TreePath },
    /// A directory.
    Directory { mode: Option<u32> },
}

#[derive(Debug)]
pub(super) struct Make {
    pub(super) path: TreePath,
    pub(super) node: Node,
    pub(super) create_parents: bool,
}

#[derive(Debug)]
pub(super) struct Remove {
    pub(super) path: TreePath,
    pub(super) recursive: bool,
    pub(super) missing_ok: bool,
    pub(super) prune_parents: bool,
}

/// All that was asked for.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) makes: Vec<Make>,
    pub(super) removes: Vec<Remove>,
    pub(super) modes: Vec<(TreePath, u32)>,
    pub(super) expectations: Vec<(TreePath, Expected)>,
}

/// A transaction that is being prepared. Dropped, it leaves nothing.
pub(super) struct Stage {
    pub(super) root: Root,
    pub(super) changes: Changes,
    /// The directory of stages, and in it the one of this transaction.
    stages: OwnedFd,
    name: String,
    pub(super) dir: OwnedFd,
    /// The file that data belongs to, with its modification time.
    open: Option<(File, i64)>,
    next: u32,
    count: usize,
    bytes: usize,
    /// What is written down must not be removed with the stage.
    pub(super) is_bound: bool,
}

impl Stage {
    pub(super) fn open(root: Root) -> Result<Self, Status> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let opened = (|| {
            loop {
                match rustix::fs::mkdirat(&root.top, STAGES, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(io::Error::from(error)),
                }
                let Some(stages) = commit::own_stages(&root)? else { continue };
                let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
                match rustix::fs::mkdirat(&stages, &name, Mode::RWXU) {
                    Ok(()) => {
                        let dir = fs::open_dir_at(&stages, name.as_ref())?;
                        return Ok((stages, name, dir));
                    }
                    // Another's that is gone for good by now, or the last one to leave has just
                    // removed the directory.
                    Err(Errno::EXIST | Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        })();
        let (stages, name, dir) = opened.map_err(failed("make room for the changes"))?;
        Ok(Self {
            root,
            changes: Changes::default(),
            stages,
            name,
            dir,
            open: None,
            next: 0,
            count: 0,
            bytes: 0,
            is_bound: false,
        })
    }

    pub(super) fn add(&mut self, change: Change) -> Result<(), Status> {
        if let Change::Data(data) = &change {
            let Some((file, _)) = &mut self.open else {
                return Err(Status::invalid_argument("there is no file for this data"));
            };
            return file.write_all(data).map_err(failed("write what was sent"));
        }
        self.close()?;
        self.count += 1;
        if self.count > MOST_CHANGES || self.bytes > MOST_BYTES {
            return Err(Status::out_of_range(format!(
                "one transaction takes at most {MOST_CHANGES} changes"
            )));
        }
        match change {
            Change::Put(put) => {
                let path = self.path(&put.path, put.expected)?;
                // Less what the agent's umask takes.
                let has_mode = put.mode.unwrap_or(USUAL) & 0o755;
                let number = self.number();
                let mut file = self.create(number, has_mode)?;
                file.write_all(&put.data).map_err(failed("write what was sent"))?;
                self.open = Some((file, put.mtime_ns));
                let node = Node::File { number, has_mode, mode: put.mode.map(|it| it & 0o7777) };
                self.make(path, node, put.create_parents);
            }
            Change::Directory(directory) => {
                let path = self.path(&directory.path, directory.expected)?;
                let node = Node::Directory { mode: directory.mode.map(|it| it & 0o7777) };
                self.make(path, node, directory.create_parents);
            }
            Change::Link(link) => {
                let path = self.path(&link.path, link.expected)?;
                let number = self.number();
                rustix::fs::symlinkat(&*link.target, &self.dir, number.to_string())
                    .map_err(|error| failed("make a link")(error.into()))?;
                self.make(path, Node::Link { number }, link.create_parents);
            }
            Change::Mode(mode) => {
                let path = self.path(&mode.path, mode.expected)?;
                self.changes.modes.push((path, mode.mode & 0o7777));
            }
            Change::Remove(remove) => {
                let path = self.path(&remove.path, remove.expected)?;
                self.changes.removes.push(Remove {
                    path,
                    recursive: remove.recursive,
                    missing_ok: remove.missing_ok,
                    prune_parents: remove.prune_parents,
                });
            }
            Change::Move(moved) => {
                let from = self.path(&moved.from, moved.expected)?;
                let to = self.path(&moved.to, moved.expected_at_target)?;
                self.make(to, Node::Moved { from }, moved.create_parents);
            }
            Change::Expect(expect) => {
                self.path(&expect.path, expect.expected)?;
            }
            Change::Begin(_) | Change::Data(_) | Change::Commit(_) | Change::Batch(_) => {
                return Err(Status::invalid_argument("a transaction begins once"));
            }
        }
        Ok(())
    }

    fn path(&mut self, bytes: &[u8], expected: Option<Expected>) -> Result<TreePath, Status> {
        let path = self.root.path(bytes)?;
        self.bytes += path.as_bytes().len();
        if path.as_bytes().split(|byte| *byte == b'/').next() == Some(STAGES.as_bytes()) {
            return Err(Status::invalid_argument(format!("the name {STAGES} is taken")));
        }
        if let Some(expected) = expected.filter(|expected| *expected != Expected::default()) {
            self.changes.expectations.push((path.clone(), expected));
        }
        Ok(path)
    }

    fn make(&mut self, path: TreePath, node: Node, create_parents: bool) {
        self.changes.makes.push(Make { path, node, create_parents });
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn create(&self, number: u32, mode: u32) -> Result<File, Status> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::openat(&self.dir, number.to_string(), flags, mode)
            .map(File::from)
            .map_err(|error| failed("make a file")(error.into()))
    }

    /// No more data comes for the file that was put last.
    fn close(&mut self) -> Result<(), Status> {
        let Some((file, mtime_ns)) = self.open.take() else { return Ok(()) };
        if mtime_ns == 0 {
            return Ok(());
        }
        let time = Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).map_err(|error| failed("set a time")(error.into()))
    }

    /// Checks everything, and then makes it so.
    pub(super) fn finish(mut self, dry_run: bool) -> Result<TreeChanged, Status> {
        self.close()?;
        let _alone = one_at_a_time();
        let plan = match check::check(&mut self).map_err(failed("look at the tree"))? {
            Ok(plan) => plan,
            Err(conflicts) => return Ok(conflicts),
        };
        if !dry_run {
            commit::commit(&mut self, plan)?;
        }
        Ok(TreeChanged { committed: !dry_run, ..TreeChanged::default() })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_bound {
            let _ = fs::remove_all(self.stages.as_fd(), self.name.as_ref());
            // Others may still be at work in it.
            let _ = rustix::fs::unlinkat(&self.root.top, STAGES, rustix::fs::AtFlags::REMOVEDIR);
        }
    }
}

/// What was attempted when a system call failed.
pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> Status {
    move |error| {
        let message = format!("cannot {what}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Status::resource_exhausted(message)
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Status::permission_denied(message)
            }
            _ => Status::internal(message),
        }
    }
}
