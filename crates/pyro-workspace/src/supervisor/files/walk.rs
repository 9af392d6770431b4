//! Walking a tree of the machine, one directory after the other, so that neither side ever holds
//! more of it than one page.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pyro_contract::diff::FileKind;
use pyro_contract::file::{FileEntry, FileMode, LIST_LIMIT_MAX};
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};

use super::filter::{Globs, Ignores};
use crate::agent::Agent;
use crate::files::outside;
use crate::protocol::{Found, ListQuery, Listed, ReadQuery, StatQuery};

/// Names that are asked for at once.
const PAGE: usize = 1000;

/// Directories nested deeper are listed, but not entered.
const DEEPEST: usize = 256;

/// After so long, or so many names, an answer is given with what was found; the rest is for the next.
const LONGEST: Duration = Duration::from_secs(20);
const MOST_VISITED: usize = 200_000;

/// More than that, for a machine that answers slowly.
const PATIENCE: Duration = Duration::from_secs(120);

/// The largest bulk of entries in one answer.
const MOST_BYTES: usize = 4 << 20;

const IGNORE_FILE: &str = ".gitignore";

pub(super) async fn list(agent: &Agent, query: ListQuery) -> Result<Listed> {
    let globs = Globs::parse(&query.glob)?;
    let asked = StatQuery {
        path: query.path.clone(),
        follow: true,
        may_be_absent: false,
        examine_up_to: 0,
    };
    let found = agent.stat_file(&asked).await?;
    if query.confined {
        outside(&query.path, &found.resolved)?;
    }
    if found.kind != Some(FileKind::Directory) {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("{} is no directory", query.path),
        )
        .with_hint("`pyro workspace file stat` shows what it is"));
    }
    let top = found.resolved.as_bytes();
    let ignores = match query.gitignore {
        true => rules_above(agent, top).await?,
        false => Ignores::default(),
    };
    let mut walk = Walk { agent, query: &query, top, globs, levels: Vec::new(), visited: 0 };
    walk.begin(ignores);
    tokio::time::timeout(PATIENCE, walk.run()).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorCode::Timeout, "the machine takes too long to list its files")
            .with_hint("list a smaller directory, or without `recursive`"))
    })
}

/// The rules of the directories from `/workspace` to the one above `directory`.
async fn rules_above(agent: &Agent, directory: &[u8]) -> Result<Ignores> {
    let mut ignores = Ignores::default();
    let ends = (1..directory.len()).filter(|at| directory[*at] == b'/');
    for above in ends.map(|end| &directory[..end]) {
        if crate::files::is_inside(above) {
            let rules = ReadQuery {
                path: BytePath::new([above, b"/", IGNORE_FILE.as_bytes()].concat()),
                offset: 0,
                lines: None,
                max_bytes: 256 * 1024,
                examine_up_to: 0,
            };
            match agent.read_file(&rules).await {
                Ok((_, _, rules, _)) => ignores = ignores.and(above, &rules),
                Err(error)
                    if matches!(error.code, ErrorCode::NotFound | ErrorCode::InvalidArgument) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(ignores)
}

struct Walk<'a> {
    agent: &'a Agent,
    query: &'a ListQuery,
    /// The listed directory, absolute.
    top: &'a [u8],
    globs: Globs,
    /// The directories that the walk is in, the deepest last.
    levels: Vec<Level>,
    visited: usize,
}

struct Level {
    /// Its path below the listed directory; empty for that itself.
    relative: Vec<u8>,
    entries: VecDeque<(Vec<u8>, Found)>,
    /// What has been told of already.
    after: Vec<u8>,
    /// There may be more names after that.
    more: bool,
    ignores: Ignores,
    has_rules: bool,
}

impl Level {
    fn new(relative: Vec<u8>, after: Vec<u8>, ignores: Ignores) -> Self {
        Self { relative, entries: VecDeque::new(), after, more: true, ignores, has_rules: false }
    }
}

impl Walk<'_> {
    /// Where the last list has ended: in the last entry that was told, if that is a directory.
    fn begin(&mut self, ignores: Ignores) {
        let after = self.query.after.as_ref().map_or(&b""[..], |after| after.as_bytes());
        let mut relative = Vec::new();
        for name in after.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            self.levels.push(Level::new(relative.clone(), name.to_vec(), ignores.clone()));
            relative = join(&relative, name);
        }
        if self.levels.is_empty() || self.query.recursive {
            self.levels.push(Level::new(relative, Vec::new(), ignores));
        }
    }

    async fn run(&mut self) -> Result<Listed> {
        let deadline = Instant::now() + LONGEST;
        let limit = self.query.limit.clamp(1, LIST_LIMIT_MAX) as usize;
        // The rules above are needed before anything below is looked at.
        for depth in 0..self.levels.len() {
            self.fill(depth).await?;
        }
        let mut listed = Listed::default();
        let mut bytes = 0;
        let mut last = None;
        while let Some(step) = self.next().await? {
            let full = listed.entries.len() >= limit || bytes >= MOST_BYTES;
            let long = self.visited > MOST_VISITED || Instant::now() >= deadline;
            if (full || long) && last.is_some() {
                listed.next = last;
                break;
            }
            match step {
                Step::Entry(entry) => {
                    last = Some(entry.path.clone());
                    if self.globs.want(entry.path.as_bytes()) {
                        bytes += 200 + entry.path.as_bytes().len();
                        bytes += entry.target.as_ref().map_or(0, |it| it.as_bytes().len());
                        listed.entries.push(entry);
                    }
                }
                // Of a directory that is left out, the next list must not begin in the middle.
                Step::LeftOut(Some(path)) => last = Some(path),
                Step::LeftOut(None) => {}
            }
        }
        Ok(listed)
    }

    /// The next entry; steps into it if it is a directory.
    async fn next(&mut self) -> Result<Option<Step>> {
        loop {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((name, found)) = level.entries.pop_front() else {
                if level.more {
                    self.fill(depth - 1).await?;
                } else {
                    self.levels.pop();
                }
                continue;
            };
            self.visited += 1;
            level.after.clone_from(&name);
            let relative = join(&level.relative, &name);
            let is_directory = found.kind == Some(FileKind::Directory);
            let ignored = self.query.gitignore
                && (name == b".git"
                    || level.ignores.leave_out(&join(self.top, &relative), is_directory));
            if ignored {
                let path = (!is_directory).then(|| BytePath::new(relative));
                return Ok(Some(Step::LeftOut(path)));
            }
            if is_directory && self.query.recursive && depth < DEEPEST {
                let ignores = level.ignores.clone();
                self.levels.push(Level::new(relative.clone(), Vec::new(), ignores));
            }
            let Some(entry) = entry(relative, found) else { continue };
            return Ok(Some(Step::Entry(entry)));
        }
    }

    /// Gets more names of a directory, and its rules.
    async fn fill(&mut self, depth: usize) -> Result<()> {
        let level = &mut self.levels[depth];
        if !level.entries.is_empty() || !level.more {
            return Ok(());
        }
        let path = join(self.top, &level.relative);
        let wants_rules = self.query.gitignore && !level.has_rules;
        let with_file = if wants_rules { IGNORE_FILE } else { "" };
        let found = self.agent.list_directory(&path, &level.after, PAGE, with_file).await;
        let directory = match found {
            Ok(directory) => directory,
            // It is gone since, is none (any more), or lets nobody in.
            Err(error)
                if depth > 0
                    && matches!(
                        error.code,
                        ErrorCode::NotFound
                            | ErrorCode::InvalidArgument
                            | ErrorCode::PermissionDenied
                    ) =>
            {
                level.more = false;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // A link that has taken a directory's place since leads elsewhere.
        if directory.resolved.as_bytes() != path {
            level.more = false;
            return Ok(());
        }
        level.more = directory.more && !directory.entries.is_empty();
        level.entries = directory.entries.into();
        if wants_rules {
            level.ignores = level.ignores.and(&path, &directory.file);
            level.has_rules = true;
            let inherited = level.ignores.clone();
            // What is entered already was entered without them.
            if let Some(below) = self.levels.get_mut(depth + 1) {
                below.ignores = inherited;
            }
        }
        Ok(())
    }
}

enum Step {
    Entry(FileEntry),
    /// What git ignores: the path, if it is no directory.
    LeftOut(Option<BytePath>),
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match (directory, name) {
        (b"", name) => name.to_vec(),
        (directory, b"") => directory.to_vec(),
        (b"/", name) => [b"/", name].concat(),
        (directory, name) => [directory, b"/", name].concat(),
    }
}

fn entry(relative: Vec<u8>, found: Found) -> Option<FileEntry> {
    Some(FileEntry {
        path: BytePath::new(relative),
        kind: found.kind?,
        size: found.size,
        mode: FileMode::new(found.mode),
        modified_at: Timestamp::from_nanosecond(found.mtime_ns.into()).unwrap_or_default(),
        target: found.target,
    })
}
