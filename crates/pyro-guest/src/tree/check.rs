//! What must hold before anything is changed, and what is then to be done.
//!
//! After this nothing should be able to fail: whatever can be wrong with a change is found out here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pyro_wire::v1::expected::State;
use pyro_wire::v1::tree_conflict::Reason;
use pyro_wire::v1::{Expected, TreeChanged, TreeConflict, TreeOwner};
use rustix::fs::{FileType, Stat};

use super::fs;
use super::path::TreePath;
use super::stage::{Make, Node, Remove, Stage};

/// As many conflicts are told; more are counted.
const TOLD: usize = 100;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Removed with all below them.
    pub(super) removes: BTreeSet<TreePath>,
    pub(super) makes: Vec<(TreePath, Made)>,
    /// Those things of `makes` that are to be linked into the stage first.
    pub(super) moves: Vec<(TreePath, u32)>,
    /// Directories that are there and get or lose an entry.
    pub(super) touched: BTreeSet<TreePath>,
    /// Whether the filesystem's top gets or loses an entry.
    pub(super) touches_top: bool,
}

#[derive(Debug)]
pub(super) enum Made {
    /// What is in the stage under this number.
    Staged(Staged),
    Directory(TreeOwner),
    Mode(u32),
}

#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) number: u32,
    /// Whose it is to be; what moves keeps its own.
    pub(super) owner: Option<(u32, u32)>,
    /// The mode to be set, if it does not have it.
    pub(super) mode: Option<u32>,
}

/// What will be at a path.
enum Planned {
    Directory {
        uid: u32,
        gid: u32,
        /// There is nothing in it now, for it is not there.
        is_new: bool,
    },
    /// A whole tree that moves there: of what is in it nothing is known here.
    Tree,
    NoDirectory,
}

struct Check<'a> {
    stage: &'a mut Stage,
    removed: BTreeSet<TreePath>,
    planned: BTreeMap<TreePath, Planned>,
    made: BTreeMap<TreePath, Made>,
    plan: Plan,
    conflicts: Vec<(TreePath, Reason)>,
    conflict_count: u64,
    /// Directories that were seen to be there.
    known: HashSet<TreePath>,
}

/// The plan, or the conflicts.
pub(super) fn check(stage: &mut Stage) -> io::Result<Result<Plan, TreeChanged>> {
    let changes = std::mem::take(&mut stage.changes);
    let mut check = Check {
        stage,
        removed: BTreeSet::new(),
        planned: BTreeMap::new(),
        made: BTreeMap::new(),
        plan: Plan::default(),
        conflicts: Vec::new(),
        conflict_count: 0,
        known: HashSet::new(),
    };
    for (path, expected) in &changes.expectations {
        check.expect(path, expected)?;
    }
    for remove in &changes.removes {
        check.remove(remove)?;
    }
    for make in &changes.makes {
        if let Node::Moved { from } = &make.node {
            check.take_away(from)?;
        }
    }
    let mut makes = changes.makes;
    makes.sort_by(|one, other| one.path.cmp(&other.path));
    let pruned = changes.removes.iter().filter(|remove| remove.prune_parents);
    check.prune(pruned.map(|remove| &remove.path).collect(), &makes)?;
    for make in makes {
        check.make(make)?;
    }
    for (path, mode) in changes.modes {
        check.mode(path, mode)?;
    }
    Ok(check.finish())
}

impl Check<'_> {
    fn top(&self) -> BorrowedFd<'_> {
        self.stage.root.top.as_fd()
    }

    fn conflict(&mut self, path: &TreePath, reason: Reason) {
        self.conflict_count += 1;
        if self.conflicts.len() < TOLD {
            self.conflicts.push((path.clone(), reason));
        }
    }

    /// What is there; a way that leads elsewhere is a conflict.
    fn look(&mut self, path: &TreePath) -> io::Result<Option<Stat>> {
        match fs::look(self.top(), path) {
            Err(error) => {
                let reason = match error.raw_os_error() {
                    Some(libc::ELOOP | libc::EXDEV) => Reason::LeadsElsewhere,
                    Some(libc::ENOTDIR) => Reason::NotADirectory,
                    _ => return Err(error),
                };
                self.conflict(path, reason);
                Ok(None)
            }
            found => found,
        }
    }

    fn expect(&mut self, path: &TreePath, expected: &Expected) -> io::Result<()> {
        let found = self.look(path)?;
        let reason = match (expected.state(), &found) {
            (State::Anything, None) if expected.sha256.is_empty() && expected.ctime_ns == 0 => None,
            (State::Absent, None) => None,
            (State::Absent, Some(_)) => Some(Reason::Exists),
            (_, None) => Some(Reason::Missing),
            (state, Some(stat)) => {
                let is = fs::kind(stat);
                let as_expected = match state {
                    State::File => is == FileType::RegularFile,
                    State::Directory => is == FileType::Directory,
                    State::Symlink => is == FileType::Symlink,
                    State::Anything | State::Present | State::Absent => true,
                };
                let same = as_expected
                    && (expected.ctime_ns == 0 || expected.ctime_ns == ctime_ns(stat))
                    && (expected.sha256.is_empty() || {
                        let is = fs::checksum(self.top(), path)?;
                        is.is_some_and(|is| is[..] == expected.sha256[..])
                    });
                (!same).then_some(Reason::Changed)
            }
        };
        if let Some(reason) = reason {
            self.conflict(path, reason);
        }
        Ok(())
    }

    /// True if nothing will be left of what is at this path now.
    fn is_gone(&self, path: &TreePath) -> bool {
        path.and_above().any(|path| self.removed.contains(&path))
    }

    fn touch(&mut self, path: &TreePath) {
        match path.parent() {
            Some(parent) => drop(self.plan.touched.insert(parent)),
            None => self.plan.touches_top = true,
        }
    }

    fn remove(&mut self, remove: &Remove) -> io::Result<()> {
        let path = &remove.path;
        if self.removed.contains(path) {
            self.conflict(path, Reason::Contradiction);
            return Ok(());
        }
        let Some(stat) = self.look(path)? else {
            if !remove.missing_ok {
                self.conflict(path, Reason::Missing);
            }
            return Ok(());
        };
        if self.is_fixed(path, &stat)? {
            self.conflict(path, Reason::Fixed);
        }
        if fs::is_directory(&stat) && !remove.recursive {
            let inner = fs::open_below(self.top(), path.os(), fs::DIRECTORY)?;
            if !fs::names(inner.as_fd())?.is_empty() {
                self.conflict(path, Reason::NotEmpty);
            }
        }
        self.touch(path);
        self.removed.insert(path.clone());
        Ok(())
    }

    /// The source of a move.
    fn take_away(&mut self, path: &TreePath) -> io::Result<()> {
        let source =
            Remove { path: path.clone(), recursive: true, missing_ok: false, prune_parents: false };
        self.remove(&source)
    }

    fn is_fixed(&self, path: &TreePath, stat: &Stat) -> io::Result<bool> {
        let parent = fs::open_parent(self.top(), path)?;
        if fs::is_fixed(&parent, ".".as_ref())? && path.parent().is_some() {
            return Ok(true);
        }
        if fs::is_fixed(&parent, path.name())? {
            return Ok(true);
        }
        Ok(fs::is_directory(stat) && fs::holds_fixed(self.top(), path)?)
    }

    fn make(&mut self, make: Make) -> io::Result<()> {
        let Make { path, node, create_parents } = make;
        if self.planned.contains_key(&path) {
            self.conflict(&path, Reason::Contradiction);
            return Ok(());
        }
        let Some(owner) = self.way_to(&path, create_parents)? else { return Ok(()) };
        let is_vacant = self.is_in_new(&path) || self.is_gone(&path);
        let there = if is_vacant { None } else { self.look(&path)? };
        if let Some(stat) = &there {
            let is_directory = fs::is_directory(stat);
            let wants_directory = matches!(node, Node::Directory { .. });
            match (is_directory, wants_directory) {
                (true, false) => self.conflict(&path, Reason::IsDirectory),
                (false, true) => self.conflict(&path, Reason::NotADirectory),
                (true, true) => {}
                (false, false) => {
                    if self.is_fixed(&path, stat)? {
                        self.conflict(&path, Reason::Fixed);
                    }
                }
            }
        }
        self.touch(&path);
        let (planned, made) = self.settle(&path, node, there.as_ref(), owner)?;
        self.planned.insert(path.clone(), planned);
        self.made.insert(path, made);
        Ok(())
    }

    /// True if the directory that it is in is not there yet.
    fn is_in_new(&self, path: &TreePath) -> bool {
        let planned = path.parent().and_then(|parent| self.planned.get(&parent));
        matches!(planned, Some(Planned::Directory { is_new: true, .. }))
    }

    /// What is to be done for one thing that is made, whose directory has this owner.
    fn settle(
        &mut self,
        path: &TreePath,
        node: Node,
        there: Option<&Stat>,
        (uid, gid): (u32, u32),
    ) -> io::Result<(Planned, Made)> {
        // What was there is replaced by its like.
        let (uid, gid) = there.map_or((uid, gid), |stat| (stat.st_uid, stat.st_gid));
        let staged = |number, mode| Made::Staged(Staged { number, owner: Some((uid, gid)), mode });
        Ok(match node {
            Node::File { number, has_mode, mode } => {
                let kept = there.filter(|stat| fs::kind(stat) == FileType::RegularFile);
                let mode = mode.or(kept.map(|stat| stat.st_mode & 0o7777)).unwrap_or(has_mode);
                (Planned::NoDirectory, staged(number, (mode != has_mode).then_some(mode)))
            }
            Node::Link { number } => (Planned::NoDirectory, staged(number, None)),
            Node::Directory { mode } => {
                let owner =
                    TreeOwner { mode: mode.unwrap_or(0o755), uid, gid, set_mode: mode.is_some() };
                let is_new = there.is_none();
                (Planned::Directory { uid, gid, is_new }, Made::Directory(owner))
            }
            Node::Moved { from } => {
                let number = self.stage.number();
                let is_tree = self.look(&from)?.is_some_and(|stat| fs::is_directory(&stat));
                if path.and_above().skip(1).any(|above| above == from) {
                    self.conflict(path, Reason::Contradiction);
                }
                self.plan.moves.push((from, number));
                let planned = if is_tree { Planned::Tree } else { Planned::NoDirectory };
                (planned, Made::Staged(Staged { number, owner: None, mode: None }))
            }
        })
    }

    /// Sees to it that a path will have a directory to be in; the owner of that, if so.
    fn way_to(&mut self, path: &TreePath, create_parents: bool) -> io::Result<Option<(u32, u32)>> {
        let Some(parent) = path.parent() else {
            let top = rustix::fs::fstat(&self.stage.root.top)?;
            return Ok(Some((top.st_uid, top.st_gid)));
        };
        match self.planned.get(&parent) {
            Some(Planned::Directory { uid, gid, .. }) => return Ok(Some((*uid, *gid))),
            Some(Planned::Tree) => return Ok(Some((0, 0))),
            Some(Planned::NoDirectory) => {
                self.conflict(path, Reason::Contradiction);
                return Ok(None);
            }
            None => {}
        }
        if !self.is_gone(&parent) {
            match self.look_at_way(&parent)? {
                Way::Directory(stat) => return Ok(Some((stat.st_uid, stat.st_gid))),
                Way::Nothing => {}
                Way::Conflict(reason) => {
                    self.conflict(&parent, reason);
                    return Ok(None);
                }
            }
        }
        if !create_parents {
            self.conflict(&parent, Reason::Missing);
            return Ok(None);
        }
        let Some((uid, gid)) = self.way_to(&parent, true)? else { return Ok(None) };
        self.touch(&parent);
        // It was missing, or is gone.
        self.planned.insert(parent.clone(), Planned::Directory { uid, gid, is_new: true });
        let owner = TreeOwner { mode: 0o755, uid, gid, set_mode: false };
        self.made.insert(parent, Made::Directory(owner));
        Ok(Some((uid, gid)))
    }

    fn look_at_way(&mut self, parent: &TreePath) -> io::Result<Way> {
        let found = match fs::look(self.top(), parent) {
            Ok(found) => found,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EXDEV | libc::ELOOP) => Ok(Way::Conflict(Reason::LeadsElsewhere)),
                    Some(libc::ENOTDIR) => Ok(Way::Conflict(Reason::NotADirectory)),
                    _ => Err(error),
                };
            }
        };
        let Some(stat) = found else { return Ok(Way::Nothing) };
        Ok(match fs::kind(&stat) {
            FileType::Directory => {
                if self.known.insert(parent.clone()) {
                    // The directory itself may be another filesystem's, or protected.
                    match fs::open_below(self.top(), parent.os(), fs::DIRECTORY) {
                        Ok(dir) if fs::is_fixed(&dir, ".".as_ref())? => {
                            return Ok(Way::Conflict(Reason::Fixed));
                        }
                        Ok(_) => {}
                        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                            return Ok(Way::Conflict(Reason::LeadsElsewhere));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Way::Directory(Box::new(stat))
            }
            FileType::Symlink => Way::Conflict(Reason::LeadsElsewhere),
            _ => Way::Conflict(Reason::NotADirectory),
        })
    }

    /// Also removes the directories that these were the last in.
    fn prune(&mut self, paths: Vec<&TreePath>, makes: &[Make]) -> io::Result<()> {
        let prefix = self.stage.root.prefix.clone();
        let mut candidates: BTreeSet<TreePath> = BTreeSet::new();
        for path in paths {
            let above = path.and_above().skip(1);
            candidates.extend(above.filter(|above| above.as_bytes().len() > prefix.len()));
        }
        // The deepest first.
        for path in candidates.into_iter().rev() {
            if self.is_gone(&path) {
                continue;
            }
            let Ok(dir) = fs::open_below(self.top(), path.os(), fs::DIRECTORY) else { continue };
            let emptied = fs::names(dir.as_fd())?.iter().all(|name| {
                let inner = [path.as_bytes(), b"/", name.as_bytes()].concat();
                TreePath::parse(&inner).is_ok_and(|inner| self.removed.contains(&inner))
            });
            // They are ordered: what is in a directory follows it.
            let next = makes.partition_point(|make| make.path < path);
            let refilled = makes.get(next).is_some_and(|make| match &make.node {
                Node::Directory { .. } if make.path == path => true,
                _ => make.path.and_above().skip(1).any(|above| above == path),
            });
            if emptied && !refilled && !fs::is_fixed(&dir, ".".as_ref())? {
                self.touch(&path);
                self.removed.insert(path);
            }
        }
        Ok(())
    }

    fn mode(&mut self, path: TreePath, mode: u32) -> io::Result<()> {
        if self.planned.contains_key(&path) {
            self.conflict(&path, Reason::Contradiction);
        } else if self.is_gone(&path) {
            self.conflict(&path, Reason::Missing);
        } else if let Some(stat) = self.look(&path)? {
            if fs::kind(&stat) == FileType::Symlink {
                self.conflict(&path, Reason::LeadsElsewhere);
            } else if fs::is_fixed(fs::open_parent(self.top(), &path)?, path.name())? {
                self.conflict(&path, Reason::Fixed);
            }
            self.made.insert(path, Made::Mode(mode));
        } else {
            self.conflict(&path, Reason::Missing);
        }
        Ok(())
    }

    fn finish(self) -> Result<Plan, TreeChanged> {
        let Self { stage, removed, made, mut plan, conflicts, conflict_count, .. } = self;
        if conflict_count > 0 {
            let told = |(path, reason): (TreePath, Reason)| TreeConflict {
                path: stage.root.shown(&path).into(),
                reason: reason.into(),
            };
            let conflicts = conflicts.into_iter().map(told).collect();
            return Err(TreeChanged { committed: false, conflicts, conflict_count });
        }
        // What is below something that goes, goes with it.
        plan.removes = removed
            .iter()
            .filter(|path| !path.and_above().skip(1).any(|above| removed.contains(&above)))
            .cloned()
            .collect();
        plan.touched.retain(|dir| !dir.and_above().any(|path| removed.contains(&path)));
        plan.touched.retain(|dir| !made.contains_key(dir));
        plan.makes = made.into_iter().collect();
        Ok(plan)
    }
}

enum Way {
    Directory(Box<Stat>),
    Nothing,
    Conflict(Reason),
}

fn ctime_ns(stat: &Stat) -> i64 {
    stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64)
}
