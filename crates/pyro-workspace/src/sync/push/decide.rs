//! What has to be done, from what the machine said of the host's tree.

use std::collections::{HashMap, HashSet};

use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use pyro_contract::sync::{SyncAction, SyncRules, Synced};
use pyro_contract::{Error, ErrorCode, Result};

use super::listing::{Listed, Listing};
use crate::sync::beneath::{Stamp, join};
use crate::sync::record::{Fact, GuestStamp, Record, Sha};
use crate::sync::removal::{self, Removal};
use crate::sync::rules::{Here, Rules};
use crate::sync::scan::Kind;
use crate::sync::source::{self, Source};
use crate::sync::verdicts::{Verdict, Verdicts};
use crate::watch::Watch;

/// What to decide by.
pub(super) struct Decision<'a> {
    pub(super) source: &'a Source,
    pub(super) rules: &'a Rules,
    pub(super) asked: &'a SyncRules,
    pub(super) record: &'a Record,
}

/// What to do with the machine's tree. Paths are relative to it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) removals: Vec<(Vec<u8>, bool)>,
    /// Files and links in whose place a directory is removed; directories in whose place there may be
    /// something else.
    pub(super) replaced: HashSet<Vec<u8>>,
    /// Numbers of entries to be written or made, ordered by path.
    pub(super) written: Vec<(Vec<u8>, u32)>,
    pub(super) modes: Vec<(Vec<u8>, u32)>,
    /// Bytes of the files that are written, as they were listed.
    pub(super) bytes: u64,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.removals.is_empty() && self.written.is_empty() && self.modes.is_empty()
    }

    /// What will be known of the links that are written.
    pub(super) fn links(&self, listing: &Listing) -> Vec<(Vec<u8>, Fact)> {
        let link = |(path, number): &(Vec<u8>, u32)| match &listing.entry(*number)?.kind {
            Kind::Link(target) => Some((path.clone(), Fact::of_link(target))),
            _ => None,
        };
        self.written.iter().filter_map(link).collect()
    }
}

/// The outcome.
pub(super) struct Decided {
    pub(super) synced: Synced,
    pub(super) plan: Plan,
    /// What is known of the files that stay as they are.
    pub(super) facts: HashMap<Vec<u8>, Fact>,
}

impl Decision<'_> {
    /// Reads a file of the host only where its content decides and is not known.
    pub(super) fn of(
        &self,
        listing: &Listing,
        mut verdicts: Verdicts,
        watch: &Watch,
    ) -> Result<Decided> {
        let mut synced = Synced::default();
        let mut plan = Plan::default();
        let mut facts = HashMap::new();
        for directory in &listing.directories {
            for (name, reason) in &directory.skipped {
                synced.skip(&join(&directory.path, name), reason);
            }
        }
        for Listed { number, directory, entry, is_known } in listing.entries() {
            let verdict = verdicts.of(number);
            let is_silent =
                verdict == Verdict::default() && !verdicts.digests.contains_key(&number);
            if is_silent && (is_known || entry.kind == Kind::Directory) {
                synced.unchanged += 1;
                continue;
            }
            if watch.cancelled() {
                return Err(crate::watch::interrupted());
            }
            let path = join(&directory.path, &entry.name);
            let is_directory = entry.kind == Kind::Directory;
            let is_written = match &entry.kind {
                _ if verdict.different => true,
                Kind::File { stamp, .. } => {
                    match self.same_content(&path, *stamp, verdicts.digests.get(&number))? {
                        Some(fact) => {
                            facts.insert(path.clone(), fact);
                            false
                        }
                        None => true,
                    }
                }
                Kind::Link(target) => {
                    facts.insert(path.clone(), Fact::of_link(target));
                    false
                }
                Kind::Directory => false,
            };
            if is_written {
                if verdict.directory && !self.asked.delete {
                    return Err(in_the_way(&path));
                }
                if verdict.directory || is_directory {
                    plan.replaced.insert(path.clone());
                }
                if let Kind::File { size, .. } = entry.kind {
                    plan.bytes += size;
                }
                synced
                    .record(&path, if is_directory { SyncAction::Made } else { SyncAction::Sent });
                plan.written.push((path, number));
            } else if verdict.mode {
                synced.record(&path, SyncAction::Mode);
                plan.modes.push((path, entry.mode));
            } else {
                synced.unchanged += 1;
            }
        }
        plan.written.sort_unstable();
        synced.bytes = plan.bytes;
        let extra = std::mem::take(&mut verdicts.extra);
        self.remove(listing, extra, &mut plan, &mut synced)?;
        Ok(Decided { synced, plan, facts })
    }

    /// What both sides have, if they have the same.
    fn same_content(
        &self,
        path: &[u8],
        stamp: Option<Stamp>,
        digest: Option<&(Option<Sha>, Option<GuestStamp>)>,
    ) -> Result<Option<Fact>> {
        let known = self.record.facts.get(path);
        let (theirs, guest) = match (digest, known) {
            (Some((Some(sha), stamp)), _) => (*sha, *stamp),
            // It was not mentioned: it has the stamp of what is known.
            (None, Some(fact)) if fact.guest.is_some() => (fact.sha256, fact.guest),
            _ => return Ok(None),
        };
        if let Some(ours) = self.record.host_content(path, stamp) {
            return Ok((ours == theirs).then_some(Fact { sha256: ours, host: stamp, guest }));
        }
        let (ours, host) = source::hash(&self.source.open_file(path)?, path)?;
        Ok((ours == theirs).then_some(Fact { sha256: ours, host, guest }))
    }

    fn remove(
        &self,
        listing: &Listing,
        extra: Vec<(Vec<u8>, bool)>,
        plan: &mut Plan,
        synced: &mut Synced,
    ) -> Result<()> {
        if extra.is_empty() {
            return Ok(());
        }
        let patterns: HashMap<&[u8], &Here> = listing
            .directories
            .iter()
            .map(|directory| (directory.path.as_slice(), &directory.patterns))
            .collect();
        let skipped: HashSet<Vec<u8>> = listing
            .directories
            .iter()
            .flat_map(|directory| {
                directory.skipped.iter().map(|(name, _)| join(&directory.path, name))
            })
            .collect();
        let patterns_of = |path: &[u8]| patterns.get(path).map(|here| (*here).clone());
        let is_protected = |path: &[u8], is_directory: bool| {
            skipped.contains(path) || self.rules.excludes_deep(&patterns_of, path, is_directory)
        };
        let Removal { paths, .. } = {
            let removal = removal::plan(extra, is_protected);
            synced.removed += removal.count.saturating_sub(removal.paths.len() as u64);
            removal
        };
        for (path, is_directory) in paths {
            synced.record(&path, SyncAction::Removed);
            plan.removals.push((path, is_directory));
        }
        // A directory that has to make room for a file has been told of as extra, and goes, unless
        // something in it is to be left alone.
        let going: HashSet<&[u8]> = plan.removals.iter().map(|(path, _)| path.as_slice()).collect();
        for (path, number) in &plan.written {
            if verdict_needs_room(plan, path, listing, *number) && !going.contains(path.as_slice())
            {
                return Err(in_the_way(path).with_cause("something in it is excluded"));
            }
        }
        Ok(())
    }
}

/// True for a file or link in whose place there is a directory.
fn verdict_needs_room(plan: &Plan, path: &[u8], listing: &Listing, number: u32) -> bool {
    plan.replaced.contains(path)
        && listing.entry(number).is_some_and(|entry| entry.kind != Kind::Directory)
}

fn in_the_way(path: &[u8]) -> Error {
    let shown = BytePath::new(path);
    Error::new(
        ErrorCode::UnsafeTarget,
        format!("{shown} is a directory in the workspace, and something else here"),
    )
    .with_hint("nothing was changed; with --delete the directory makes room for it")
}
