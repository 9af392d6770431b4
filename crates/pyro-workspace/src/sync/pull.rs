//! From a workspace to the host.

mod decide;
mod journal;
mod remove;
mod tree;
mod write;

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::sync::{SyncPullRequest, Synced};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::Layer as _;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::beneath::{self, Stamp, failed, split};
use super::guest_path::GuestPath;
use super::record::{Fact, Record};
use super::rules::Rules;
use super::scan::{self, Top};
use crate::home::{Home, WorkspaceDir, sync_dir};
use crate::review::Review;
use crate::watch::{Watch, interrupted};
use decide::{Before, Decided, Decision, Host, Plan};
pub(super) use journal::{Stage, Step, Target};
pub(super) use write::put;

/// A pull that was decided on and made ready, and has changed nothing yet.
pub(super) struct Pull {
    synced: Synced,
    record: Record,
    facts: HashMap<Vec<u8>, Fact>,
    ready: Option<Ready>,
}

struct Ready {
    place: Destination,
    stage: Stage,
    ready: write::Ready,
    before: Vec<(Vec<u8>, Before)>,
}

/// Where it goes.
enum Destination {
    /// A directory that is there.
    There { target: Arc<Target>, top: Top },
    /// One that is made beside its place, and then gets its name.
    New { target: Arc<Target>, beside: PathBuf, path: PathBuf },
    /// One that would be made.
    Imagined,
}

impl Pull {
    /// Reads the workspace, which is held still meanwhile, and writes what differs beside the host's
    /// tree. Blocks.
    pub(super) fn prepare(
        home: &Home,
        dir: &WorkspaceDir,
        review: &Review,
        request: &SyncPullRequest,
        watch: &Watch,
    ) -> Result<Self> {
        let path = GuestPath::parse(request.path.as_bytes())?.bytes();
        let rules = Rules::new(&request.rules)?;
        let (layer, node) = review.tree(&path)?;
        if layer.meta(node)?.kind != FileKind::Directory {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{} is not a directory in the workspace", request.path),
            )
            .with_hint("`pyro workspace export` copies a single file"));
        }
        let dest = PathBuf::from(&request.dest);
        let place = Destination::open(home, &dest, request.rules.dry_run)?;
        let record = match place.remembered_as(&dest) {
            Some(host) => Record::load(dir, &host, &path),
            None => Record::forgotten(),
        };
        watch.stage("comparing");
        let directories = match &place {
            Destination::There { top, .. } => scan::all(top, &rules, watch)?,
            _ => HashMap::new(),
        };
        let decision = Decision {
            layer: &layer,
            top: node,
            baseline: review.baseline_of(&path),
            host: Host { top: place.top(), directories },
            record: &record,
            rules: &rules,
            request,
        };
        let Decided { mut synced, plan, facts } = decision.make(watch)?;
        synced.dry_run = request.rules.dry_run;
        synced.sort();
        let target = match &place {
            Destination::There { target, .. } if !plan.is_empty() => target,
            // Also an empty directory is made.
            Destination::New { target, .. } => target,
            _ => return Ok(Self { synced, record, facts, ready: None }),
        };
        if request.rules.dry_run {
            return Ok(Self { synced, record, facts, ready: None });
        }
        let mut stage = Stage::open(target)?;
        let ready = write::ready(&layer, &plan, &mut stage, watch)?;
        let before = before(plan);
        let ready = Ready { place, stage, ready, before };
        Ok(Self { synced, record, facts, ready: Some(ready) })
    }

    /// Makes it so, unless the host's tree has changed meanwhile. Blocks.
    pub(super) fn commit(self, watch: &Watch) -> Result<Synced> {
        let Self { synced, mut record, mut facts, ready } = self;
        if watch.cancelled() {
            return Err(interrupted());
        }
        let Some(Ready { place, stage, ready, before }) = ready else {
            if !synced.dry_run {
                record.learn(facts, synced.sent + synced.unchanged);
            }
            return Ok(synced);
        };
        let target = Arc::clone(match &place {
            Destination::There { target, .. } | Destination::New { target, .. } => target,
            Destination::Imagined => return Ok(synced),
        });
        check(&target, &before)?;
        stage.commit(ready.steps)?;
        for (path, sha256) in ready.contents {
            let guest = record.facts.get(&path).filter(|fact| fact.sha256 == sha256);
            let guest = guest.and_then(|fact| fact.guest);
            let host = stamp(&target, &path);
            facts.insert(path, Fact { sha256, host, guest });
        }
        place.publish()?;
        record.learn(facts, synced.sent + synced.unchanged);
        Ok(synced)
    }
}

fn before(plan: Plan) -> Vec<(Vec<u8>, Before)> {
    plan.places.into_iter().map(|place| (place.path, place.before)).collect()
}

/// Whether what is to be replaced is still what it was when that was decided.
fn check(target: &Target, before: &[(Vec<u8>, Before)]) -> Result<()> {
    for (path, before) in before {
        let (parent, name) = split(path);
        let found = match beneath::directory(target.fd(), parent) {
            Ok(parent) => beneath::look(parent.as_fd(), name),
            // It is to be made, or something else is to make room for it.
            Err(errno) if beneath::is_other_kind(errno) => Ok(None),
            Err(errno) => Err(errno),
        };
        let found = found.map_err(|errno| failed("look at", path, errno))?;
        let is_same = match before {
            Before::Absent => found.is_none(),
            Before::File(stamp) => found.is_some_and(|stat| Stamp::of(&stat) == *stamp),
            Before::Something => true,
        };
        if !is_same {
            let shown = BytePath::new(path.clone());
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("nothing was pulled: {shown} was changed here just now"),
            )
            .with_hint("pull again"));
        }
    }
    Ok(())
}

fn stamp(target: &Target, path: &[u8]) -> Option<Stamp> {
    let (parent, name) = split(path);
    let now = beneath::coarse_now();
    let parent = beneath::directory(target.fd(), parent).ok()?;
    let stamp = Stamp::of(&beneath::look(parent.as_fd(), name).ok()??);
    (stamp.ctime_ns < now).then_some(stamp)
}

impl Destination {
    fn open(home: &Home, path: &Path, dry_run: bool) -> Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => {
                let target = Arc::new(Target::open(home, path)?);
                let top = Top::open(path)?;
                Ok(Self::There { target, top })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (parent, beside) = beside(path)?;
                if !parent.is_dir() {
                    return Err(Error::new(
                        ErrorCode::NotFound,
                        format!("there is no directory {} to make it in", parent.display()),
                    )
                    .with_hint("make it first"));
                }
                if dry_run {
                    return Ok(Self::Imagined);
                }
                Self::new(home, path, beside)
            }
            Err(error) => Err(Error::io(format!("cannot look at {}", path.display()), &error)),
        }
    }

    fn new(home: &Home, path: &Path, beside: PathBuf) -> Result<Self> {
        let refused =
            |error: &std::io::Error| Error::io(format!("cannot make {}", path.display()), error);
        match std::fs::create_dir(&beside) {
            Ok(()) => {}
            // Left by one that was killed, or another that is at work: then opening it fails.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                drop(Target::open(home, &beside)?);
                remove_beside(&beside)?;
                std::fs::create_dir(&beside).map_err(|error| refused(&error))?;
            }
            Err(error) => return Err(refused(&error)),
        }
        let target = Arc::new(Target::open(home, &beside)?);
        Ok(Self::New { target, beside, path: path.to_owned() })
    }

    fn top(&self) -> Option<&Top> {
        match self {
            Self::There { top, .. } => Some(top),
            _ => None,
        }
    }

    /// The path by which the tree is remembered.
    fn remembered_as(&self, path: &Path) -> Option<PathBuf> {
        match self {
            Self::There { .. } => std::fs::canonicalize(path).ok(),
            Self::New { .. } | Self::Imagined => {
                let (parent, _) = beside(path).ok()?;
                Some(std::fs::canonicalize(parent).ok()?.join(path.file_name()?))
            }
        }
    }

    /// Gives a new directory its name.
    fn publish(self) -> Result<()> {
        let Self::New { beside, path, .. } = &self else { return Ok(()) };
        let renamed = rustix::fs::renameat_with(
            rustix::fs::CWD,
            beside,
            rustix::fs::CWD,
            path,
            RenameFlags::NOREPLACE,
        );
        let renamed = match renamed {
            // A filesystem that does not know the flag.
            Err(Errno::INVAL) if !path.exists() => std::fs::rename(beside, path),
            other => other.map_err(std::io::Error::from),
        };
        renamed.map_err(|error| Error::io(format!("cannot make {}", path.display()), &error))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Self::New { beside, .. } = self {
            // Gone, if it was published.
            let _ = remove_beside(beside);
        }
    }
}

/// The directory that a path is in, and what a new directory is called until it is whole.
fn beside(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let Some(name) = path.file_name() else {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("{} has no name that a directory could be given", path.display()),
        )
        .with_hint("name the directory to be made"));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).to_owned();
    let short: String = name.to_string_lossy().chars().take(50).collect();
    let beside = parent.join(format!(".{short}.pyro-sync"));
    Ok((parent, beside))
}

fn remove_beside(beside: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (beside.parent(), beside.file_name()) else { return Ok(()) };
    use std::os::unix::ffi::OsStrExt as _;
    let parent = Top::open(parent)?;
    remove::remove_all(parent.fd(), name.as_bytes())
        .map_err(|errno| Error::io(format!("cannot remove {}", beside.display()), &errno.into()))
}
