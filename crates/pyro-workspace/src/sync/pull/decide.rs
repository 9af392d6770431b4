//! What has to be done to the host's tree.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use pyro_contract::sync::{SyncAction, SyncPullRequest, Synced};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::content::Content;
use pyro_layers::overlay::lookup_path;
use pyro_layers::{Layer, Node};
use sha2::{Digest as _, Sha256};

use super::tree::{self, Found};
use crate::sync::beneath::{MODE, Stamp, join, split};
use crate::sync::record::{Fact, Record, Sha, link_digest};
use crate::sync::removal;
use crate::sync::rules::Rules;
use crate::sync::scan::{Directory, Entry, Kind, Top};
use crate::sync::source;
use crate::watch::Watch;

/// Of the conflicts, so many are named.
const NAMED: usize = 10;

/// What to decide by.
pub(super) struct Decision<'a> {
    pub(super) layer: &'a dyn Layer,
    pub(super) top: Node,
    /// What the workspace began with at the same place.
    pub(super) baseline: Option<(Arc<dyn Layer>, Vec<u8>)>,
    pub(super) host: Host<'a>,
    pub(super) record: &'a Record,
    pub(super) rules: &'a Rules,
    pub(super) request: &'a SyncPullRequest,
}

/// The host's tree.
pub(super) struct Host<'a> {
    /// `None` if there is none yet.
    pub(super) top: Option<&'a Top>,
    pub(super) directories: HashMap<Vec<u8>, Directory>,
}

impl Host<'_> {
    fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let (directory, name) = split(path);
        let entries = &self.directories.get(directory)?.entries;
        let at = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).ok()?;
        entries.get(at)
    }

    /// A socket, pipe or device, which has no place in a sync.
    fn is_special(&self, path: &[u8]) -> bool {
        let (directory, name) = split(path);
        self.directories
            .get(directory)
            .is_some_and(|directory| directory.skipped.iter().any(|(special, _)| special == name))
    }

    /// The content of a file, and the stamp that it had all the while.
    fn hash(&self, path: &[u8]) -> Result<(Sha, Option<Stamp>)> {
        let top = self.top.ok_or_else(|| source::changed(path))?;
        source::hash_host(top, path)
    }
}

/// What to do. Paths are relative to the tree.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) removals: Vec<Vec<u8>>,
    pub(super) directories: Vec<Vec<u8>>,
    /// Files and links, with what is in their place now.
    pub(super) places: Vec<Place>,
    pub(super) modes: Vec<(Vec<u8>, u32)>,
    pub(super) bytes: u64,
}

/// A file or link to be written.
pub(super) struct Place {
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    pub(super) before: Before,
}

/// What must still be there when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Absent,
    /// A file with this stamp.
    File(Stamp),
    /// Something of which no more is known, or which goes in any case.
    Something,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.removals.is_empty()
            && self.directories.is_empty()
            && self.places.is_empty()
            && self.modes.is_empty()
    }
}

/// The outcome.
pub(super) struct Decided {
    pub(super) synced: Synced,
    pub(super) plan: Plan,
    /// What is known of the files that stay as they are.
    pub(super) facts: HashMap<Vec<u8>, Fact>,
}

#[derive(Default)]
struct Conflicts {
    named: Vec<String>,
    count: u64,
}

impl Conflicts {
    fn add(&mut self, path: &[u8], why: &str) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{}: {why}", BytePath::new(path)));
        }
    }

    fn outcome(self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut cause = self.named.join("\n");
        if self.count > self.named.len() as u64 {
            cause += &format!("\n… and {} more", self.count - self.named.len() as u64);
        }
        let what =
            if self.count == 1 { "1 file".to_owned() } else { format!("{} files", self.count) };
        Err(Error::new(
            ErrorCode::Conflict,
            format!("nothing was pulled, because {what} here would be lost"),
        )
        .with_cause(cause)
        .with_hint("keep them elsewhere, exclude them, or pull with --force to lose them"))
    }
}

/// What is found out on the way.
#[derive(Default)]
struct Findings {
    synced: Synced,
    plan: Plan,
    facts: HashMap<Vec<u8>, Fact>,
    conflicts: Conflicts,
    seen: HashSet<Vec<u8>>,
    /// Directories of the host in whose place the machine has something else.
    making_room: Vec<Vec<u8>>,
}

impl Decision<'_> {
    pub(super) fn make(&self, watch: &Watch) -> Result<Decided> {
        let mut so_far = Findings::default();
        let patterns_of = |path: &[u8]| {
            self.host.directories.get(path).map(|directory| directory.patterns.clone())
        };
        tree::walk(self.layer, self.top, self.rules, &patterns_of, watch, &mut |found| {
            self.one(found, &mut so_far, watch)
        })?;
        self.remove(&mut so_far)?;
        let Findings { mut synced, mut plan, facts, conflicts, .. } = so_far;
        conflicts.outcome()?;
        synced.bytes = plan.bytes;
        plan.directories.sort_unstable();
        // The mode of a directory may forbid what is still to be done in it.
        plan.modes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Decided { synced, plan, facts })
    }

    fn one(&self, found: Found, so_far: &mut Findings, watch: &Watch) -> Result<()> {
        let Found { path, node, meta } = found;
        let host = self.host.entry(&path);
        let mode = u32::from(meta.mode) & MODE;
        so_far.seen.insert(path.clone());
        if self.host.is_special(&path) {
            so_far.conflicts.add(&path, "it is a socket, pipe or device here");
            return Ok(());
        }
        match (meta.kind, host.map(|entry| &entry.kind)) {
            (FileKind::Directory, Some(Kind::Directory)) => {}
            (FileKind::Directory, other) => {
                if let (Some(_), Some(entry)) = (other, host) {
                    self.replace(&path, entry, so_far)?;
                    so_far.plan.removals.push(path.clone());
                }
                so_far.synced.record(&path, SyncAction::Made);
                so_far.plan.modes.push((path.clone(), mode));
                so_far.plan.directories.push(path);
                return Ok(());
            }
            (FileKind::Symlink, other) => {
                let target = self.layer.read_link(node)?;
                let fact = Fact::of_link(&target);
                if other == Some(&Kind::Link(target)) {
                    so_far.facts.insert(path, fact);
                    so_far.synced.unchanged += 1;
                    return Ok(());
                }
                return self.place(path, node, 0, host, so_far);
            }
            (FileKind::File, Some(Kind::File { size, stamp })) if *size == meta.size => {
                let theirs = hash_layer(self.layer, node, watch)?;
                let (ours, stamp) = match self.record.host_content(&path, *stamp) {
                    Some(ours) => (ours, *stamp),
                    None => self.host.hash(&path)?,
                };
                if ours != theirs {
                    return self.place(path, node, meta.size, host, so_far);
                }
                let known = self.record.facts.get(&path).filter(|fact| fact.sha256 == ours);
                let guest = known.and_then(|fact| fact.guest);
                so_far.facts.insert(path.clone(), Fact { sha256: ours, host: stamp, guest });
            }
            (FileKind::File, _) => return self.place(path, node, meta.size, host, so_far),
            (FileKind::Fifo, _) => {
                so_far.synced.skip(&path, "it is a named pipe");
                return Ok(());
            }
            _ => {
                so_far.synced.skip(&path, "it is a socket or device");
                return Ok(());
            }
        }
        // Content is the same; the mode may not be.
        if host.is_some_and(|entry| entry.mode != mode) {
            so_far.synced.record(&path, SyncAction::Mode);
            so_far.plan.modes.push((path, mode));
        } else {
            so_far.synced.unchanged += 1;
        }
        Ok(())
    }

    fn place(
        &self,
        path: Vec<u8>,
        node: Node,
        size: u64,
        host: Option<&Entry>,
        so_far: &mut Findings,
    ) -> Result<()> {
        let before = match host {
            None => Before::Absent,
            Some(Entry { kind: Kind::Directory, .. }) => {
                if !self.request.rules.delete {
                    return Err(in_the_way(&path));
                }
                so_far.making_room.push(path.clone());
                Before::Something
            }
            Some(entry) => {
                self.replace(&path, entry, so_far)?;
                match entry.kind {
                    Kind::File { stamp: Some(stamp), .. } => Before::File(stamp),
                    _ => Before::Something,
                }
            }
        };
        so_far.synced.record(&path, SyncAction::Sent);
        so_far.plan.bytes += size;
        so_far.plan.places.push(Place { path, node, before });
        Ok(())
    }

    /// A file or link of the host is about to go: is it known to be in the workspace's past?
    fn replace(&self, path: &[u8], entry: &Entry, so_far: &mut Findings) -> Result<()> {
        if self.request.force || self.is_known(path, entry)? {
            return Ok(());
        }
        let was_synced = self.record.facts.contains_key(path);
        let why = if was_synced {
            "it was changed here since the last sync"
        } else {
            "it was never synced with this workspace"
        };
        so_far.conflicts.add(path, why);
        Ok(())
    }

    fn is_known(&self, path: &[u8], entry: &Entry) -> Result<bool> {
        let fact = self.record.facts.get(path);
        match &entry.kind {
            Kind::Directory => Ok(true),
            Kind::Link(target) => {
                let sha = link_digest(target);
                if fact.is_some_and(|fact| fact.sha256 == sha) {
                    return Ok(true);
                }
                let before = self.in_baseline(path)?;
                let Some((layer, node)) = before else { return Ok(false) };
                Ok(layer.meta(node)?.kind == FileKind::Symlink && layer.read_link(node)? == *target)
            }
            Kind::File { size, stamp } => {
                if self.record.host_content(path, *stamp).is_some() {
                    return Ok(true);
                }
                let before = self.in_baseline(path)?;
                let before = match before {
                    Some((layer, node)) => {
                        let meta = layer.meta(node)?;
                        (meta.kind == FileKind::File && meta.size == *size).then_some((layer, node))
                    }
                    None => None,
                };
                if fact.is_none() && before.is_none() {
                    return Ok(false);
                }
                let (ours, _) = self.host.hash(path)?;
                if fact.is_some_and(|fact| fact.sha256 == ours) {
                    return Ok(true);
                }
                match before {
                    Some((layer, node)) => Ok(hash_layer(layer, node, &Watch::default())? == ours),
                    None => Ok(false),
                }
            }
        }
    }

    fn in_baseline(&self, path: &[u8]) -> Result<Option<(&dyn Layer, Node)>> {
        let Some((layer, prefix)) = &self.baseline else { return Ok(None) };
        let node = lookup_path(&**layer, &join(prefix, path))?;
        Ok(node.map(|node| (&**layer, node)))
    }

    fn remove(&self, so_far: &mut Findings) -> Result<()> {
        let asked = self.request.rules.delete;
        if !asked {
            return Ok(());
        }
        let mut extra = Vec::new();
        let mut protected = HashSet::new();
        for directory in self.host.directories.values() {
            let special = directory.skipped.iter().map(|(name, _)| name);
            for name in directory.excluded.iter().chain(special) {
                let path = join(&directory.path, name);
                protected.insert(path.clone());
                extra.push((path, false));
            }
            for entry in &directory.entries {
                let path = join(&directory.path, &entry.name);
                if !so_far.seen.contains(&path) {
                    extra.push((path, entry.kind == Kind::Directory));
                }
            }
        }
        extra.extend(so_far.making_room.iter().map(|path| (path.clone(), true)));
        let files: Vec<Vec<u8>> = extra
            .iter()
            .filter(|(path, is_directory)| !is_directory && !protected.contains(path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &files {
            if let Some(entry) = self.host.entry(path) {
                self.replace(path, entry, so_far)?;
            }
        }
        let removal = removal::plan(extra, |path, _| protected.contains(path));
        let going: HashSet<&[u8]> = removal.paths.iter().map(|(path, _)| path.as_slice()).collect();
        for path in &so_far.making_room {
            if !going.contains(path.as_slice()) {
                return Err(in_the_way(path).with_cause("something in it is excluded"));
            }
        }
        so_far.synced.removed += removal.count - removal.paths.len() as u64;
        for (path, _) in removal.paths {
            so_far.synced.record(&path, SyncAction::Removed);
            so_far.plan.removals.push(path);
        }
        Ok(())
    }
}

fn in_the_way(path: &[u8]) -> Error {
    let shown = BytePath::new(path);
    Error::new(
        ErrorCode::Conflict,
        format!(
            "nothing was pulled: {shown} is a directory here, and something else in the workspace"
        ),
    )
    .with_hint("with --delete the directory makes room for it")
}

fn hash_layer(layer: &dyn Layer, node: Node, watch: &dyn Progress) -> Result<Sha> {
    let mut digest = Sha256::new();
    Content::new(layer, node)?.read_blocks(watch, |block| {
        digest.update(block);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(digest.finalize().into())
}
