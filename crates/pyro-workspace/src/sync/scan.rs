//! The tree of the host: what is in it that is not excluded.
//!
//! Several threads list directories, each on its own, and give them to whoever takes them, so that
//! the comparison is under way while the rest is still being listed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use pyro_contract::progress::Progress;
use pyro_contract::{Error, ErrorCode, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::{self, DEPTH_MAX, MODE, Stamp, failed, join};
use super::rules::{Here, IGNORE_FILE, IGNORE_FILE_MAX, Rules};

/// More names than this are refused: they and what is known of them are kept in memory.
const ENTRIES_MAX: u64 = 4_000_000;

/// Listed directories that wait to be taken.
const WAITING: usize = 64;

/// The top of a host's tree, opened.
#[derive(Debug)]
pub(super) struct Top(pub(super) OwnedFd);

impl Top {
    /// The path itself may lead through links; nothing below it may.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self).map_err(|errno| {
            let error = Error::io(format!("cannot open {}", path.display()), &errno.into());
            match errno {
                Errno::NOTDIR | Errno::NOENT => error.with_hint("name a directory that exists"),
                _ => error,
            }
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One directory and what is in it.
#[derive(Debug)]
pub(super) struct Directory {
    /// Relative to the top; empty for the top itself.
    pub(super) path: Vec<u8>,
    /// Ordered by name.
    pub(super) entries: Vec<Entry>,
    /// The patterns that hold in it.
    pub(super) patterns: Here,
    /// What is in it but cannot be synced, and why.
    pub(super) skipped: Vec<(Vec<u8>, &'static str)>,
    /// Names that are excluded; they are there, and stay.
    pub(super) excluded: Vec<Vec<u8>>,
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Of the bits in [`MODE`].
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, of this many bytes. The stamp is absent if the file may change without changing it.
    File {
        size: u64,
        stamp: Option<Stamp>,
    },
    Directory,
    Link(Vec<u8>),
}

/// Called for each directory before it is listed, so that no change after the listing is missed.
pub(super) type OnEnter<'a> = &'a (dyn Fn(BorrowedFd<'_>, &[u8]) -> Result<()> + Sync);

/// Lists the tree, giving each directory to `take` as it is done, in no particular order.
///
/// # Errors
/// What cannot be read is named; what `take` says.
pub(super) fn scan(
    top: &Top,
    rules: &Rules,
    on_enter: OnEnter<'_>,
    progress: &dyn Progress,
    mut take: impl FnMut(Directory) -> Result<()>,
) -> Result<()> {
    let own = rustix::fs::fstat(top.fd()).map_err(|errno| failed("read", b"", errno))?;
    if own.st_nlink == 0 {
        // Empty it is, but to take it for that could empty the other side.
        return Err(Error::new(ErrorCode::NotFound, "the directory was removed")
            .with_hint("name the one that stands in its place now"));
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    let queue = Queue::new();
    let count = AtomicU64::new(0);
    let (done, listed) = mpsc::sync_channel(WAITING);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, count, done) = (&queue, &count, done.clone());
            scope.spawn(move || {
                while let Some(job) = queue.next() {
                    let listed = list(top, rules, on_enter, count, &job);
                    if let Ok(directory) = &listed {
                        queue.finish(jobs_of(directory, &job));
                    }
                    let is_over = listed.is_err() || progress.cancelled();
                    if done.send(listed).is_err() || is_over {
                        queue.give_up();
                    }
                }
            });
        }
        drop(done);
        let mut outcome = Ok(());
        while let Ok(listed) = listed.recv() {
            outcome = listed.and_then(&mut take);
            if outcome.is_err() {
                break;
            }
        }
        // Whoever still lists finds nobody to give it to.
        drop(listed);
        queue.give_up();
        outcome
    })?;
    if progress.cancelled() { Err(crate::watch::interrupted()) } else { Ok(()) }
}

/// A directory to be listed.
struct Job {
    path: Vec<u8>,
    above: Here,
    depth: usize,
}

fn jobs_of(directory: &Directory, job: &Job) -> Vec<Job> {
    let inner = directory.entries.iter().filter(|entry| entry.kind == Kind::Directory);
    inner
        .map(|entry| Job {
            path: join(&directory.path, &entry.name),
            above: directory.patterns.clone(),
            depth: job.depth + 1,
        })
        .collect()
}

/// Directories to be listed, and how many are being listed that may add to them.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    jobs: Vec<Job>,
    under_way: usize,
    is_over: bool,
}

impl Queue {
    fn new() -> Self {
        let jobs = vec![Job { path: Vec::new(), above: None, depth: 0 }];
        Self {
            state: Mutex::new(Waiting { jobs, under_way: 0, is_over: false }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(job) = state.jobs.pop() {
                state.under_way += 1;
                return Some(job);
            }
            if state.under_way == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, more: Vec<Job>) {
        let mut state = self.state();
        state.jobs.extend(more);
        state.under_way = state.under_way.saturating_sub(1);
        self.changed.notify_all();
    }

    fn give_up(&self) {
        let mut state = self.state();
        state.is_over = true;
        self.changed.notify_all();
    }
}

fn list(
    top: &Top,
    rules: &Rules,
    on_enter: OnEnter<'_>,
    count: &AtomicU64,
    job: &Job,
) -> Result<Directory> {
    if job.depth > DEPTH_MAX {
        return Err(Error::new(
            ErrorCode::TooLarge,
            format!("the tree is nested deeper than {DEPTH_MAX} directories"),
        )
        .with_hint("sync a part of it"));
    }
    let mut directory = Directory {
        path: job.path.clone(),
        entries: Vec::new(),
        patterns: job.above.clone(),
        skipped: Vec::new(),
        excluded: Vec::new(),
    };
    let unreadable = |errno| failed("read", &job.path, errno);
    let opened = match beneath::directory(top.fd(), &job.path) {
        Ok(opened) => opened,
        // It went away, or became something else, since the one above was listed.
        Err(errno) if !job.path.is_empty() && beneath::is_other_kind(errno) => {
            return Ok(directory);
        }
        Err(errno) => return Err(unreadable(errno)),
    };
    on_enter(opened.as_fd(), &job.path)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    if count.fetch_add(names.len() as u64, Ordering::Relaxed) > ENTRIES_MAX {
        return Err(Error::new(
            ErrorCode::TooLarge,
            format!("the tree has over {ENTRIES_MAX} files"),
        )
        .with_hint("sync a part of it, or exclude some of it"));
    }
    if names.binary_search_by(|name| name.as_slice().cmp(IGNORE_FILE)).is_ok() {
        let content = ignore_file(opened.as_fd(), &job.path)?;
        directory.patterns = Rules::enter(&job.above, &job.path, content.as_deref())?;
    }
    let now = beneath::coarse_now();
    for name in names {
        let unreadable = |errno| failed("read", &join(&job.path, &name), errno);
        let Some(stat) = beneath::look(opened.as_fd(), &name).map_err(unreadable)? else {
            continue;
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if rules.excludes_name(&directory.patterns, &job.path, &name, is_directory) {
            directory.excluded.push(name);
            continue;
        }
        match entry(opened.as_fd(), &name, &stat, now) {
            Ok(Found::Entry(kind)) => {
                let mtime_ns = beneath::time(stat.st_mtime, stat.st_mtime_nsec);
                directory.entries.push(Entry { name, kind, mode: stat.st_mode & MODE, mtime_ns });
            }
            Ok(Found::Special(reason)) => directory.skipped.push((name, reason)),
            Err(errno) if beneath::is_other_kind(errno) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
    }
    Ok(directory)
}

enum Found {
    Entry(Kind),
    Special(&'static str),
}

fn entry(
    directory: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
    now: i64,
) -> rustix::io::Result<Found> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let stamp = Stamp::of(stat);
            let is_settled = stamp.ctime_ns < now;
            Kind::File { size: stamp.size, stamp: is_settled.then_some(stamp) }
        }
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            Kind::Link(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes())
        }
        FileType::Fifo => return Ok(Found::Special("it is a named pipe")),
        FileType::Socket => return Ok(Found::Special("it is a socket")),
        _ => return Ok(Found::Special("it is a device")),
    };
    Ok(Found::Entry(kind))
}

/// The patterns of a directory; `None` if the name is no regular file.
pub(super) fn ignore_file(directory: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let shown = join(path, IGNORE_FILE);
    let (file, stat) = match beneath::file(directory, IGNORE_FILE) {
        Ok(opened) => opened,
        Err(errno) if beneath::is_other_kind(errno) => return Ok(None),
        Err(errno) => return Err(failed("read", &shown, errno)),
    };
    if Stamp::of(&stat).size > IGNORE_FILE_MAX {
        let shown = pyro_contract::path::BytePath::new(shown);
        return Err(Error::new(ErrorCode::TooLarge, format!("{shown} is over 1 MiB")));
    }
    let mut content = Vec::new();
    let file: File = file;
    file.take(IGNORE_FILE_MAX)
        .read_to_end(&mut content)
        .map_err(|error| Error::io("cannot read .pyroignore", &error))?;
    Ok(Some(content))
}

/// All of it at once, by path.
pub(super) fn all(
    top: &Top,
    rules: &Rules,
    progress: &dyn Progress,
) -> Result<HashMap<Vec<u8>, Directory>> {
    let mut directories = HashMap::new();
    scan(top, rules, &|_, _| Ok(()), progress, |directory| {
        directories.insert(directory.path.clone(), directory);
        Ok(())
    })?;
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pyro_contract::progress::Silent;
    use pyro_contract::sync::SyncRules;

    use super::*;

    fn rules(exclude: &[&str]) -> Rules {
        let exclude = exclude.iter().map(ToString::to_string).collect();
        Rules::new(&SyncRules { exclude, ..SyncRules::default() }).unwrap()
    }

    fn names(tree: &HashMap<Vec<u8>, Directory>) -> Vec<String> {
        let mut names: Vec<String> = tree
            .values()
            .flat_map(|directory| {
                directory.entries.iter().map(|entry| join(&directory.path, &entry.name))
            })
            .map(|path| String::from_utf8_lossy(&path).into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_is_listed_whole_but_for_what_is_excluded_and_no_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        for path in ["a/b/c/deep", "a/skip.o", "target/x", "empty/.keep", "a/sub/x.log", "z.log"] {
            let path = temp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(temp.path().join("a/.pyroignore"), "*.log\n").unwrap();
        symlink("/etc", temp.path().join("etc")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, temp.path().join("pipe"), Mode::RWXU).unwrap();
        let top = Top::open(temp.path()).unwrap();
        let tree = all(&top, &rules(&["target/", "*.o"]), &Silent).unwrap();
        assert_eq!(
            names(&tree),
            [
                "a",
                "a/.pyroignore",
                "a/b",
                "a/b/c",
                "a/b/c/deep",
                "a/sub",
                "empty",
                "empty/.keep",
                "etc",
                "z.log"
            ]
        );
        assert_eq!(tree[&b""[..]].skipped, [(b"pipe".to_vec(), "it is a named pipe")]);
        assert_eq!(tree[&b""[..]].excluded, [b"target".to_vec()]);
    }

    #[test]
    fn a_failure_of_the_taker_ends_the_scan() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..500 {
            std::fs::create_dir(temp.path().join(format!("{number}"))).unwrap();
        }
        let top = Top::open(temp.path()).unwrap();
        let mut taken = 0;
        let outcome = scan(&top, &rules(&[]), &|_, _| Ok(()), &Silent, |_| {
            taken += 1;
            Err(Error::new(ErrorCode::Io, "enough"))
        });
        assert_eq!(outcome.unwrap_err().message, "enough");
        assert_eq!(taken, 1);
    }
}
