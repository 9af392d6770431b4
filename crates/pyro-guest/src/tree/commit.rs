//! Making it so, whatever happens meanwhile.
//!
//! The steps are written to a file in the stage, which then gets the name that counts. From there on
//! they can be made again from the beginning any number of times: what was staged is gone from the
//! stage once it is in place, and the removals, of which something may since stand in the place, are
//! known to be over by another name of the file. ext4's journal keeps all of that in its order.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use prost::Message as _;
use pyro_wire::v1::tree_step::What;
use pyro_wire::v1::{TreeOwner, TreeStep};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use tonic::Status;

use super::check::{Made, Plan};
use super::fs::{self, Root};
use super::path::TreePath;
use super::stage::{Stage, failed};
use super::{STAGES, one_at_a_time};
use crate::log;

/// The steps while they are being written; once they count; once all removals have been made.
const PLAN: &str = "plan";
const COMMIT: &str = "commit";
const REMOVED: &str = "removed";

/// Space that is held for what the commit itself needs, and given back for it.
const BALLAST: &str = "ballast";

/// More staged files than this are flushed all at once rather than one by one.
const FLUSHED_SINGLY: usize = 16;

/// The longest step in a file of steps.
const LONGEST_STEP: usize = 8 * 1024;

/// Carries the plan out. An error before the steps count has changed nothing; later ones are not
/// expected, and leave the rest to the next start.
pub(super) fn commit(stage: &mut Stage, plan: Plan) -> Result<(), Status> {
    ready(stage, &plan).map_err(failed("make the changes ready"))?;
    if let (true, [(path, Made::Staged(staged))]) = (plan.removes.is_empty(), &plan.makes[..]) {
        return place_alone(stage, path, staged.number).map_err(failed("put it in place"));
    }
    if plan.removes.is_empty() && plan.makes.is_empty() {
        return Ok(());
    }
    write_down(stage, &plan).map_err(failed("write the changes down"))?;
    stage.is_bound = true;
    let _ = rustix::fs::unlinkat(&stage.dir, BALLAST, AtFlags::empty());
    let top = stage.root.top.as_fd();
    resume(top, stage.dir.as_fd()).map_err(|error| {
        log::line(&format!("a transaction stays unfinished until the next start: {error}"));
        failed("finish the changes before the next start")(error)
    })?;
    // Its files can now be removed with it.
    stage.is_bound = false;
    Ok(())
}

/// Everything that can still fail, short of changing anything.
fn ready(stage: &Stage, plan: &Plan) -> io::Result<()> {
    let top = stage.root.top.as_fd();
    for (from, number) in &plan.moves {
        let parent = fs::open_parent(top, from)?;
        let to = number.to_string();
        fs::link_tree((parent.as_fd(), from.name()), (stage.dir.as_fd(), to.as_ref()), 0)?;
    }
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (path, made) in &plan.makes {
        match made {
            Made::Staged(staged) => {
                let name = staged.number.to_string();
                // What the agent made is its own.
                if let Some((uid, gid)) = staged.owner.filter(|owner| *owner != own) {
                    fs::own(stage.dir.as_fd(), name.as_ref(), uid, gid)?;
                }
                if let Some(mode) = staged.mode {
                    let mode = Mode::from_raw_mode(mode);
                    rustix::fs::chmodat(&stage.dir, &name, mode, AtFlags::empty())?;
                }
            }
            // In a lower layer, it is copied up by this.
            Made::Mode(_) => touch(&fs::open_parent(top, path)?, path.name())?,
            Made::Directory(_) => {}
        }
    }
    if plan.removes.is_empty() && plan.makes.len() == 1 {
        return Ok(());
    }
    for directory in &plan.touched {
        touch(&fs::open_parent(top, directory)?, directory.name())?;
    }
    let ballast = 64 * 1024
        + 512 * (plan.removes.len() + plan.makes.len()) as u64
        + 4096 * plan.makes.iter().filter(|it| matches!(it.1, Made::Directory(_))).count() as u64;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&stage.dir, BALLAST, flags, Mode::RUSR)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, ballast) {
        // tmpfs of old, or a filesystem of the user's own.
        Err(Errno::OPNOTSUPP) => Ok(()),
        allocated => Ok(allocated?),
    }
}

/// Sets the mode that it has: overlayfs then copies it up, should it lie in a lower layer.
fn touch(dir: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let stat: Stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?)
}

/// One rename needs no plan.
fn place_alone(stage: &Stage, path: &TreePath, number: u32) -> io::Result<()> {
    flush(stage, &[number])?;
    let parent = fs::open_parent(stage.root.top.as_fd(), path)?;
    rustix::fs::renameat(&stage.dir, number.to_string(), &parent, path.name())?;
    // The new name, too, shall outlive a power cut.
    let parent = fs::open_below(parent.as_fd(), ".".as_ref(), fs::DIRECTORY)?;
    let _ = rustix::fs::fsync(parent);
    Ok(())
}

fn flush(stage: &Stage, numbers: &[u32]) -> io::Result<()> {
    if numbers.len() > FLUSHED_SINGLY {
        return Ok(rustix::fs::syncfs(&stage.dir)?);
    }
    for number in numbers {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&stage.dir, number.to_string(), flags, Mode::empty()) {
            Ok(file) => rustix::fs::fsync(file)?,
            // A link, or a special file that moves: its name is all that there is of it.
            Err(Errno::LOOP | Errno::NXIO) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write_down(stage: &Stage, plan: &Plan) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&stage.dir, PLAN, flags, Mode::RUSR)?);
    let mut out = BufWriter::new(file);
    let mut write = |path: &TreePath, what| {
        let step = TreeStep { path: path.as_bytes().to_vec().into(), what: Some(what) };
        out.write_all(&step.encode_length_delimited_to_vec())
    };
    for path in &plan.removes {
        write(path, What::Remove(true))?;
    }
    let mut staged = Vec::new();
    for (path, made) in &plan.makes {
        let what = match made {
            Made::Staged(it) => {
                staged.push(it.number);
                What::Staged(it.number)
            }
            Made::Directory(owner) => What::Directory(*owner),
            Made::Mode(mode) => What::Mode(*mode),
        };
        write(path, what)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    flush(stage, &staged)?;
    file.sync_all()?;
    rustix::fs::renameat(&stage.dir, PLAN, &stage.dir, COMMIT)?;
    Ok(rustix::fs::fsync(&stage.dir)?)
}

/// Makes all steps of a stage that counts, or makes them again.
fn resume(top: BorrowedFd<'_>, stage: BorrowedFd<'_>) -> io::Result<()> {
    let open =
        |name| rustix::fs::openat(stage, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let file = match open(COMMIT) {
        Ok(file) => {
            for step in Steps::of(file.try_clone()?) {
                let step = step?;
                if !matches!(step.what, Some(What::Remove(_))) {
                    break;
                }
                let path = path_of(&step)?;
                go_on()?;
                match fs::open_parent(top, &path) {
                    Ok(parent) => fs::remove_all(parent.as_fd(), path.name())?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            go_on()?;
            rustix::fs::renameat(stage, COMMIT, stage, REMOVED)?;
            open(REMOVED)?
        }
        Err(Errno::NOENT) => match open(REMOVED) {
            Ok(file) => file,
            // It never came so far as to count.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let mut parent = Parent { top, last: None };
    for step in Steps::of(file) {
        go_on()?;
        make(&mut parent, stage, &step?)?;
    }
    go_on()?;
    // What is left of the stage is not needed any more, and must not be resumed once something
    // else has changed the same paths.
    Ok(rustix::fs::unlinkat(stage, REMOVED, AtFlags::empty())?)
}

/// Where a test pretends to be killed.
fn go_on() -> io::Result<()> {
    #[cfg(test)]
    super::tests::may_live()?;
    Ok(())
}

/// The directory that something is in, opened. The next step is most often about the same.
struct Parent<'a> {
    top: BorrowedFd<'a>,
    last: Option<(Option<TreePath>, OwnedFd)>,
}

impl Parent<'_> {
    fn of(&mut self, path: &TreePath) -> io::Result<BorrowedFd<'_>> {
        let parent = path.parent();
        let opened = match self.last.take() {
            Some((last, opened)) if last == parent => opened,
            _ => fs::open_parent(self.top, path)?,
        };
        Ok(self.last.insert((parent, opened)).1.as_fd())
    }
}

fn make(parent: &mut Parent<'_>, stage: BorrowedFd<'_>, step: &TreeStep) -> io::Result<()> {
    let path = path_of(step)?;
    let top = parent.top;
    match &step.what {
        None | Some(What::Remove(_)) => Ok(()),
        Some(What::Staged(number)) => place(stage, *number, parent.of(&path)?, &path),
        Some(What::Directory(owner)) => make_directory(parent.of(&path)?, &path, *owner),
        Some(What::Mode(mode)) => match fs::look(top, &path)? {
            Some(stat) if fs::kind(&stat) != rustix::fs::FileType::Symlink => {
                let parent = fs::open_parent(top, &path)?;
                let mode = Mode::from_raw_mode(*mode);
                Ok(rustix::fs::chmodat(parent, path.name(), mode, AtFlags::empty())?)
            }
            // Somebody has taken it away in the meantime.
            _ => Ok(()),
        },
    }
}

fn place(
    stage: BorrowedFd<'_>,
    number: u32,
    dir: BorrowedFd<'_>,
    path: &TreePath,
) -> io::Result<()> {
    let from = number.to_string();
    match rustix::fs::renameat(stage, &from, dir, path.name()) {
        // It is in its place already.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Somebody was quicker; what was asked for stands.
        Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            fs::remove_all(dir, path.name())?;
            Ok(rustix::fs::renameat(stage, &from, dir, path.name())?)
        }
        Err(error) => Err(error.into()),
    }
}

fn make_directory(dir: BorrowedFd<'_>, path: &TreePath, owner: TreeOwner) -> io::Result<()> {
    let mode = Mode::from_raw_mode(owner.mode & 0o7777);
    let name = path.name();
    loop {
        match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => break,
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if !fs::is_directory(&there) {
                    fs::remove_all(dir, name)?;
                    continue;
                }
                if owner.set_mode {
                    rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?;
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    fs::own(dir, name, owner.uid, owner.gid)?;
    Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?)
}

fn path_of(step: &TreeStep) -> io::Result<TreePath> {
    TreePath::parse(&step.path).map_err(|error| io::Error::other(error.message().to_owned()))
}

/// The steps of a file, one after the other.
struct Steps(BufReader<File>);

impl Steps {
    fn of(file: OwnedFd) -> Self {
        Self(BufReader::new(File::from(file)))
    }

    /// `None` at the end.
    fn length(&mut self) -> io::Result<Option<usize>> {
        let mut length = 0_usize;
        for shift in (0..28).step_by(7) {
            let mut byte = [0];
            if self.0.read(&mut byte)? == 0 {
                return if shift == 0 {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

impl Iterator for Steps {
    type Item = io::Result<TreeStep>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = (|| {
            let Some(length) = self.length()? else { return Ok(None) };
            if length > LONGEST_STEP {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut step = vec![0; length];
            self.0.read_exact(&mut step)?;
            TreeStep::decode(&*step).map(Some).map_err(io::Error::other)
        })();
        step.transpose()
    }
}

/// The directory of stages; `None` if there is none that is the agent's own. What a user may have put
/// under this name is removed: a plan of his would be carried out by root.
pub(super) fn own_stages(root: &Root) -> io::Result<Option<OwnedFd>> {
    let look = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd);
    match fs::open_dir_at(&root.top, STAGES.as_ref()) {
        Ok(stages) => {
            let stat = look(stages.as_fd())?;
            if stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0 {
                return Ok(Some(stages));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {}
        Err(error) => return Err(error),
    }
    fs::remove_all(root.top.as_fd(), STAGES.as_ref())?;
    Ok(None)
}

/// Finishes what the last run of this machine had promised, and clears away what it had not.
/// Before user code runs.
pub(crate) fn recover(top: &Path) {
    let root = match Root::find(top.as_os_str().as_bytes()) {
        Ok(root) => root,
        Err(status) => return log::line(status.message()),
    };
    if let Err(error) = recover_in(&root) {
        log::line(&format!("unfinished changes in {} stay so: {error}", top.display()));
        // It would not go better the next time, and nobody could read the disk until then.
        let _ = fs::remove_all(root.top.as_fd(), STAGES.as_ref());
    }
}

pub(super) fn recover_in(root: &Root) -> io::Result<()> {
    let _alone = one_at_a_time();
    let Some(stages) = own_stages(root)? else { return Ok(()) };
    for name in fs::names(stages.as_fd())? {
        let name = std::ffi::OsStr::from_bytes(name.as_bytes());
        if let Ok(stage) = fs::open_dir_at(&stages, name) {
            resume(root.top.as_fd(), stage.as_fd())?;
        }
        fs::remove_all(stages.as_fd(), name)?;
    }
    Ok(rustix::fs::unlinkat(&root.top, STAGES, AtFlags::REMOVEDIR)?)
}
