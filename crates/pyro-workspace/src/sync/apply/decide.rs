//! What has to be done to the host's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};

use pyro_contract::apply::{Applied, ApplyAction, ApplyChange, ApplySkipped};
use pyro_contract::diff::{DiffEntry, FileKind};
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::overlay::lookup_path;
use pyro_layers::{Layer, Node};
use rustix::fs::Dir;

use super::Conflicts;
use super::merge::Sides;
use super::state::{Before, PERMISSIONS, Seen, State};
use crate::sync::beneath::{self, failed, split};
use crate::watch::{Watch, interrupted};

/// What the user chose of all that changed.
pub(super) struct Selection(Vec<Vec<u8>>);

impl Selection {
    /// No path means everything.
    pub(super) fn new(paths: &[String]) -> Result<Self> {
        let clean = |path: &String| {
            let inner = path.strip_prefix("/workspace").unwrap_or(path);
            let names: Vec<&str> =
                inner.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
            if names.contains(&"..") || (path.starts_with('/') && inner == path.as_str()) {
                return Err(Error::new(
                    ErrorCode::InvalidArgument,
                    format!("{path:?} is not a path of the project"),
                )
                .with_hint("name paths relative to /workspace, as `diff --name-only` shows them"));
            }
            Ok(names.join("/").into_bytes())
        };
        paths.iter().map(clean).collect::<Result<_>>().map(Self)
    }

    fn covers(&self, path: &[u8]) -> bool {
        self.0.is_empty() || self.0.iter().any(|chosen| is_within(path, chosen))
    }

    /// Those that cover nothing, which were misspelt or have not changed.
    fn idle(&self, entries: &[DiffEntry]) -> Option<&[u8]> {
        let covers =
            |chosen: &Vec<u8>| entries.iter().any(|entry| is_within(entry.path.as_bytes(), chosen));
        self.0.iter().find(|chosen| !covers(chosen)).map(Vec::as_slice)
    }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What to do. Paths are relative to the directory.
#[derive(Default)]
pub(super) struct Plan {
    /// Everything that goes or makes room.
    pub(super) removals: BTreeSet<Vec<u8>>,
    pub(super) directories: BTreeMap<Vec<u8>, u32>,
    pub(super) places: Vec<Place>,
    pub(super) modes: BTreeMap<Vec<u8>, u32>,
    /// What the host has at each changed path.
    pub(super) before: BTreeMap<Vec<u8>, State>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }
}

/// A file or link to be written.
pub(super) struct Place {
    pub(super) path: Vec<u8>,
    pub(super) content: Source,
    pub(super) mode: u32,
}

/// Where its content is from.
pub(super) enum Source {
    Workspace(Node),
    Merged(Vec<u8>),
}

/// The outcome.
pub(super) struct Decided {
    pub(super) applied: Applied,
    pub(super) plan: Plan,
    pub(super) seen: Seen,
}

/// What to decide by.
pub(super) struct Decision<'a> {
    pub(super) workspace: &'a dyn Layer,
    pub(super) top: Node,
    pub(super) baseline: &'a dyn Layer,
    pub(super) host: BorrowedFd<'a>,
    pub(super) selection: Selection,
    pub(super) merge: bool,
    pub(super) include_git: bool,
}

#[derive(Default)]
struct Findings {
    applied: Applied,
    plan: Plan,
    seen: Seen,
    conflicts: Conflicts,
    /// Directories that go once nothing is left in them.
    emptied: BTreeSet<Vec<u8>>,
}

impl Findings {
    fn skip(&mut self, path: &[u8], reason: &str) {
        let path = BytePath::new(path);
        self.applied.skipped.push(ApplySkipped { path, reason: reason.to_owned() });
    }

    fn change(&mut self, path: &[u8], action: ApplyAction, host: State, before: Before) {
        self.applied.changes.push(ApplyChange { path: BytePath::new(path), action });
        self.plan.before.insert(path.to_vec(), host);
        self.seen.0.insert(path.to_vec(), before);
    }
}

/// The three states of one path.
struct Three {
    host: State,
    before: Before,
    baseline: State,
    workspace: State,
    node: Option<Node>,
}

impl Decision<'_> {
    pub(super) fn make(&self, entries: Vec<DiffEntry>, watch: &Watch) -> Result<Decided> {
        if let Some(idle) = self.selection.idle(&entries) {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!("nothing has changed at {}", BytePath::new(idle)),
            )
            .with_hint("`pyro workspace diff WS --name-only` shows what has"));
        }
        let mut so_far = Findings::default();
        for entry in entries {
            let path = entry.path.as_bytes();
            if !self.selection.covers(path) {
                continue;
            }
            if watch.cancelled() {
                return Err(interrupted());
            }
            if !self.include_git && names_git(path) {
                so_far.skip(path, "it is named .git, and can make git run programs");
                continue;
            }
            self.one(path, &mut so_far, watch)?;
        }
        self.remove_directories(&mut so_far)?;
        self.make_parents(&mut so_far)?;
        let Findings { mut applied, plan, seen, conflicts, .. } = so_far;
        conflicts.outcome(
            "applied",
            if self.merge {
                "mend these by hand, or choose others with --path"
            } else {
                "--merge merges what it can; --path chooses files; or mend these by hand"
            },
        )?;
        applied.changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Decided { applied, plan, seen })
    }

    fn three(&self, path: &[u8], watch: &Watch) -> Result<Three> {
        let (host, before) = State::of_host(self.host, path)?;
        let baseline = lookup_path(self.baseline, path)?;
        let node = self.node(path)?;
        Ok(Three {
            host,
            before,
            baseline: State::of_layer(self.baseline, baseline, watch)?,
            workspace: State::of_layer(self.workspace, node, watch)?,
            node,
        })
    }

    /// The workspace's node of a path.
    fn node(&self, path: &[u8]) -> Result<Option<Node>> {
        let mut node = self.top;
        for name in path.split(|byte| *byte == b'/') {
            if self.workspace.meta(node)?.kind != FileKind::Directory {
                return Ok(None);
            }
            match self.workspace.lookup(node, name)? {
                Some(inner) => node = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    fn one(&self, path: &[u8], so_far: &mut Findings, watch: &Watch) -> Result<()> {
        let three = self.three(path, watch)?;
        let Three { host, baseline, workspace, .. } = &three;
        if matches!(workspace, State::Special) {
            so_far.skip(path, "it is a pipe, socket or device");
            return Ok(());
        }
        if let (State::Directory { mode: old }, State::Directory { mode: new }) =
            (baseline, workspace)
        {
            return self.directory_mode(path, &three, (*old, *new), so_far);
        }
        if host.is_same(workspace) {
            so_far.applied.already += 1;
            return Ok(());
        }
        if !host.is_same(baseline) {
            return self.disputed(path, three, so_far);
        }
        self.take(path, three, so_far)
    }

    /// Does to the host what was done in the workspace: it is as it was seeded.
    fn take(&self, path: &[u8], three: Three, so_far: &mut Findings) -> Result<()> {
        let Three { host, before, baseline, workspace, node } = three;
        match &workspace {
            State::Absent if matches!(host, State::Directory { .. }) => {
                so_far.emptied.insert(path.to_vec());
                return Ok(());
            }
            State::Absent => {
                so_far.plan.removals.insert(path.to_vec());
                so_far.change(path, ApplyAction::Deleted, host, before);
                return Ok(());
            }
            State::Directory { mode } => {
                if !matches!(host, State::Absent) {
                    so_far.plan.removals.insert(path.to_vec());
                }
                so_far.plan.directories.insert(path.to_vec(), *mode);
            }
            State::File { .. } | State::Link { .. } => {
                let (same_content, mode) = (content_of(&host) == content_of(&workspace), {
                    // The host's own umask decides, where the workspace has not changed the mode.
                    let new = workspace.mode().unwrap_or(PERMISSIONS);
                    if baseline.mode() == Some(new) { host.mode().unwrap_or(new) } else { new }
                });
                if same_content && matches!(host, State::File { .. }) {
                    so_far.plan.modes.insert(path.to_vec(), mode);
                    so_far.change(path, ApplyAction::ModeChanged, host, before);
                    return Ok(());
                }
                if matches!(host, State::Directory { .. }) {
                    so_far.emptied.insert(path.to_vec());
                }
                let Some(node) = node else { return Ok(()) };
                let content = Source::Workspace(node);
                so_far.plan.places.push(Place { path: path.to_vec(), content, mode });
            }
            State::Special => return Ok(()),
        }
        let action = if host == State::Absent { ApplyAction::Added } else { ApplyAction::Modified };
        so_far.change(path, action, host, before);
        Ok(())
    }

    /// The host's is neither as it was seeded nor as it is to be.
    fn disputed(&self, path: &[u8], three: Three, so_far: &mut Findings) -> Result<()> {
        let why = match (&three.host, &three.baseline, &three.workspace) {
            (State::Absent, _, _) => "it is gone here, and was changed in the workspace",
            (_, State::Absent, _) => "it was made here too, and is another there",
            (_, _, State::Absent) => "it was changed here, and removed in the workspace",
            (State::File { .. }, State::File { .. }, State::File { .. }) => {
                return self.both_changed(path, three, so_far);
            }
            _ => "it was changed here since the seed, and in the workspace",
        };
        so_far.conflicts.add(path, why);
        Ok(())
    }

    fn both_changed(&self, path: &[u8], three: Three, so_far: &mut Findings) -> Result<()> {
        if !self.merge {
            so_far.conflicts.add(path, "it was changed here since the seed, and in the workspace");
            return Ok(());
        }
        let Three { host, before, baseline, workspace, node } = three;
        let merge_mode = |host: u32, old: u32, new: u32| if new == old { host } else { new };
        let mode = match (host.mode(), baseline.mode(), workspace.mode()) {
            (Some(host), Some(old), Some(new)) => merge_mode(host, old, new),
            _ => PERMISSIONS,
        };
        if content_of(&baseline) == content_of(&workspace) {
            // Only the mode was changed there.
            so_far.plan.modes.insert(path.to_vec(), mode);
            so_far.change(path, ApplyAction::ModeChanged, host, before);
            return Ok(());
        }
        let (Some(ours), Some(node), Some(old)) =
            (self.read_host(path)?, node, lookup_path(self.baseline, path)?)
        else {
            so_far
                .conflicts
                .add(path, "it was changed on both sides, and is too large to be merged");
            return Ok(());
        };
        let (Some(base), Some(theirs)) =
            (read_layer(self.baseline, old)?, read_layer(self.workspace, node)?)
        else {
            so_far
                .conflicts
                .add(path, "it was changed on both sides, and is too large to be merged");
            return Ok(());
        };
        let sides = Sides { host: ours, baseline: base, workspace: theirs };
        match sides.merge()? {
            Some(merged) => {
                let content = Source::Merged(merged);
                so_far.plan.places.push(Place { path: path.to_vec(), content, mode });
                so_far.change(path, ApplyAction::Merged, host, before);
            }
            None => so_far.conflicts.add(path, "the same lines were changed on both sides"),
        }
        Ok(())
    }

    fn directory_mode(
        &self,
        path: &[u8],
        three: &Three,
        (old, new): (u32, u32),
        so_far: &mut Findings,
    ) -> Result<()> {
        match three.host {
            State::Directory { mode } if mode == new => so_far.applied.already += 1,
            State::Directory { mode } if mode == old => {
                so_far.plan.modes.insert(path.to_vec(), new);
                let host = three.host.clone();
                so_far.change(path, ApplyAction::ModeChanged, host, three.before);
            }
            State::Directory { .. } => {
                so_far.skip(path, "the directory has a mode of its own here")
            }
            _ => so_far.skip(path, "only its mode changed, and it is no directory here"),
        }
        Ok(())
    }

    /// Directories that were removed in the workspace go, unless the host has more in them.
    fn remove_directories(&self, so_far: &mut Findings) -> Result<()> {
        let emptied: Vec<Vec<u8>> = so_far.emptied.iter().rev().cloned().collect();
        for path in emptied {
            let refused = |errno| failed("look into", &path, errno);
            let directory = beneath::directory(self.host, &path).map_err(refused)?;
            let mut stranger = None;
            for entry in Dir::read_from(directory.as_fd()).map_err(refused)? {
                let entry = entry.map_err(refused)?;
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let inner = beneath::join(&path, name);
                if !so_far.plan.removals.contains(&inner) {
                    stranger = Some(inner);
                }
            }
            let makes_room = so_far.plan.before.contains_key(&path);
            match stranger {
                Some(inner) if makes_room => {
                    so_far.conflicts.add(&inner, "it would be lost with its directory");
                }
                Some(_) => so_far.skip(&path, "the directory holds other files here, and stays"),
                None => {
                    if !makes_room {
                        let (host, before) = State::of_host(self.host, &path)?;
                        so_far.change(&path, ApplyAction::Deleted, host, before);
                    }
                    so_far.plan.removals.insert(path);
                }
            }
        }
        Ok(())
    }

    /// A chosen file needs the directories above it.
    fn make_parents(&self, so_far: &mut Findings) -> Result<()> {
        let places = so_far.plan.places.iter().map(|place| place.path.clone());
        let changed: Vec<Vec<u8>> = places.chain(so_far.plan.directories.keys().cloned()).collect();
        for path in changed {
            let mut above = split(&path).0;
            while !above.is_empty() {
                if so_far.plan.directories.contains_key(above) {
                    break;
                }
                let (host, before) = State::of_host(self.host, above)?;
                match host {
                    State::Directory { .. } => break,
                    State::Absent => {
                        let mode = match self.node(above)? {
                            Some(node) => u32::from(self.workspace.meta(node)?.mode) & PERMISSIONS,
                            None => 0o755,
                        };
                        so_far.plan.directories.insert(above.to_vec(), mode);
                        so_far.change(above, ApplyAction::Added, host, before);
                    }
                    _ if so_far.plan.removals.contains(above) => {}
                    _ => {
                        so_far
                            .conflicts
                            .add(&path, format!("{} is no directory here", BytePath::new(above)));
                        break;
                    }
                }
                above = split(above).0;
            }
        }
        Ok(())
    }

    /// The host's file, if it is not too large.
    fn read_host(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let (parent, name) = split(path);
        let refused = |errno| failed("read", path, errno);
        let parent = beneath::directory(self.host, parent).map_err(refused)?;
        let (file, stat) = beneath::file(parent.as_fd(), name).map_err(refused)?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if !Sides::fits(size) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(size)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(format!("cannot read {}", BytePath::new(path)), &error))?;
        Ok(Some(bytes))
    }
}

/// Git looks for its directory by name, on some hosts whatever the case.
fn names_git(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|name| name.eq_ignore_ascii_case(b".git"))
}

/// Content without the mode.
fn content_of(state: &State) -> Option<&str> {
    match state {
        State::File { sha256, .. } => Some(sha256),
        _ => None,
    }
}

fn read_layer(layer: &dyn Layer, node: Node) -> Result<Option<Vec<u8>>> {
    let size = layer.meta(node)?.size;
    if !Sides::fits(size) {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let room = rest.len();
        match layer.read_at(node, filled as u64, rest)? {
            0 => break,
            count => filled += count.min(room),
        }
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}
