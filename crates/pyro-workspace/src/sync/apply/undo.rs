//! What an apply replaced, kept beside the workspace so that it can be taken back once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::apply::{Applied, ApplyAction, ApplyChange, ApplyRequest};
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::{Error, ErrorCode, Result};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::Conflicts;
use super::decide::Plan;
use super::state::{Seen, State};
use crate::home::{Home, WorkspaceDir, sync_dir};
use crate::sync::beneath::{self, failed, split};
use crate::sync::pull::{Stage, Step, Target};
use crate::watch::{Watch, interrupted};

/// In the workspace's directory.
const DIRECTORY: &str = "applied";
const RECORD: &str = "record.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// The directory of the host.
    to: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: BytePath,
    before: State,
    after: State,
    /// The file beside the record that has the content of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<u32>,
}

/// An apply's undoing, in the making. Dropped, it leaves what was there.
pub(super) struct Undo {
    workspace: WorkspaceDir,
    scratch: tempfile::TempDir,
    kept: Kept,
}

impl Undo {
    /// Copies what is about to be replaced.
    pub(super) fn begin(
        workspace: WorkspaceDir,
        to: &Path,
        target: &Target,
        plan: &Plan,
    ) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix(".applied-")
            .tempdir_in(workspace.path())
            .map_err(|error| refused(&error))?;
        let mut entries = Vec::new();
        let written: BTreeSet<&Vec<u8>> = plan.places.iter().map(|place| &place.path).collect();
        for (number, (path, before)) in (0..).zip(&plan.before) {
            let replaced = plan.removals.contains(path) || written.contains(path);
            let mut content = None;
            if replaced && matches!(before, State::File { .. }) {
                copy(target, path, &scratch.path().join(number.to_string()))?;
                content = Some(number);
            }
            let (path, after) = (BytePath::new(path.clone()), State::Absent);
            entries.push(Entry { path, before: before.clone(), after, content });
        }
        let to = fs::canonicalize(to).map_err(|error| refused(&error))?;
        Ok(Self { workspace, scratch, kept: Kept { version: VERSION, to, entries } })
    }

    /// Puts it in the place of the one before. Called before anything is changed: to take back what
    /// has not happened is to do nothing.
    pub(super) fn keep(mut self, after: &BTreeMap<Vec<u8>, State>) -> Result<()> {
        for entry in &mut self.kept.entries {
            if let Some(after) = after.get(entry.path.as_bytes()) {
                entry.after = after.clone();
            }
        }
        let bytes = serde_json::to_vec(&self.kept)
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        File::create(self.scratch.path().join(RECORD))
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .map_err(|error| refused(&error))?;
        let place = self.workspace.path().join(DIRECTORY);
        forget(&self.workspace)?;
        fs::rename(self.scratch.keep(), &place).map_err(|error| refused(&error))?;
        sync_dir(self.workspace.path())
    }
}

fn refused(error: &std::io::Error) -> Error {
    Error::io("cannot keep what is to be replaced", error)
}

fn copy(target: &Target, path: &[u8], to: &Path) -> Result<()> {
    let (parent, name) = split(path);
    let opened = beneath::directory(target.fd(), parent)
        .and_then(|parent| beneath::file(parent.as_fd(), name))
        .map_err(|errno| failed("read", path, errno));
    let (mut file, _) = opened?;
    File::create_new(to)
        .and_then(|mut copy| std::io::copy(&mut file, &mut copy).map(drop))
        .map_err(|error| refused(&error))
}

fn forget(workspace: &WorkspaceDir) -> Result<()> {
    match fs::remove_dir_all(workspace.path().join(DIRECTORY)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(refused(&error)),
        _ => Ok(()),
    }
}

/// Takes the last apply back. Blocks.
pub(super) fn take_back(
    home: &Home,
    workspace: &WorkspaceDir,
    request: &ApplyRequest,
    watch: &Watch,
) -> Result<Applied> {
    let directory = workspace.path().join(DIRECTORY);
    let kept = load(&directory)?;
    let target = Arc::new(Target::open(home, &kept.to)?);
    let mut applied = Applied {
        to: kept.to.display().to_string(),
        dry_run: request.dry_run,
        ..Applied::default()
    };
    let mut restore = Restore::default();
    for entry in &kept.entries {
        restore.one(&target, entry, &mut applied)?;
    }
    restore.directories(&target)?;
    std::mem::take(&mut restore.conflicts).outcome(
        "taken back",
        "these were changed after the apply; mend them by hand, and take it back then",
    )?;
    if request.dry_run || restore.entries.is_empty() {
        return Ok(applied);
    }
    let mut stage = Stage::open(&target)?;
    let steps = restore.steps(&directory, &mut stage)?;
    if watch.cancelled() {
        return Err(interrupted());
    }
    restore.seen.check(target.fd())?;
    stage.commit(steps)?;
    forget(workspace)?;
    Ok(applied)
}

fn load(directory: &Path) -> Result<Kept> {
    let bytes = fs::read(directory.join(RECORD)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorCode::NotFound, "there is no apply to take back")
                .with_hint("only the last apply of a workspace can be taken back, and only once")
        }
        _ => Error::io("cannot read what was applied", &error),
    })?;
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(ErrorCode::Damaged, "the record of the last apply is damaged")
            .with_cause(error.to_string())
            .with_hint("what was applied cannot be taken back by pyro")
    })?;
    if kept.version != VERSION {
        return Err(Error::new(
            ErrorCode::Unsupported,
            "the record of the last apply was written by another version of pyro",
        )
        .with_hint("take it back with that version"));
    }
    Ok(kept)
}

/// What has to be done.
#[derive(Default)]
struct Restore<'a> {
    entries: Vec<&'a Entry>,
    removals: BTreeSet<Vec<u8>>,
    seen: Seen,
    conflicts: Conflicts,
}

impl<'a> Restore<'a> {
    fn one(&mut self, target: &Target, entry: &'a Entry, applied: &mut Applied) -> Result<()> {
        let path = entry.path.as_bytes();
        let (now, before) = State::of_host(target.fd(), path)?;
        if now == entry.before {
            applied.already += 1;
            return Ok(());
        }
        if now != entry.after {
            self.conflicts.add(path, "it was changed after the apply");
            return Ok(());
        }
        let action = match (&now, &entry.before, entry.content) {
            (_, State::Absent, _) => ApplyAction::Deleted,
            (State::Absent, _, _) => ApplyAction::Added,
            (State::File { .. } | State::Directory { .. }, _, None)
                if same_kind(&now, &entry.before) =>
            {
                ApplyAction::ModeChanged
            }
            _ => ApplyAction::Modified,
        };
        if action == ApplyAction::Deleted
            || (now != State::Absent && !same_kind(&now, &entry.before))
        {
            self.removals.insert(path.to_vec());
        }
        applied.changes.push(ApplyChange { path: entry.path.clone(), action });
        self.seen.0.insert(path.to_vec(), before);
        self.entries.push(entry);
        Ok(())
    }

    /// A directory that the apply made goes only if nobody has put anything into it.
    fn directories(&mut self, target: &Target) -> Result<()> {
        for path in self.removals.iter().rev() {
            let Ok(directory) = beneath::directory(target.fd(), path) else { continue };
            let refused = |errno| failed("look into", path, errno);
            for found in rustix::fs::Dir::read_from(directory.as_fd()).map_err(refused)? {
                let found = found.map_err(refused)?;
                let name = found.file_name().to_bytes();
                let inner = beneath::join(path, name);
                if !matches!(name, b"." | b"..") && !self.removals.contains(&inner) {
                    self.conflicts
                        .add(&inner, "it was made after the apply, in a directory that goes");
                }
            }
        }
        Ok(())
    }

    fn steps(&self, kept: &Path, stage: &mut Stage) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for path in self.removals.iter().rev() {
            let number = stage.number();
            steps.push(Step::Remove { path: BytePath::new(path.clone()), number });
        }
        let mut modes = Vec::new();
        for entry in &self.entries {
            let path = entry.path.clone();
            if let State::Directory { mode } = entry.before {
                steps.push(Step::Directory { path: path.clone() });
                modes.push(Step::Mode { path, mode });
            } else if let (State::File { mode, .. }, None) = (&entry.before, entry.content) {
                modes.push(Step::Mode { path, mode: *mode });
            }
        }
        for entry in &self.entries {
            let path = entry.path.clone();
            let number = stage.number();
            match (&entry.before, entry.content) {
                (State::File { mode, .. }, Some(content)) => {
                    restore_file(&kept.join(content.to_string()), *mode, number, stage)?;
                }
                (State::Link { target }, _) => {
                    rustix::fs::symlinkat(target.as_bytes(), stage.fd(), number.to_string())
                        .map_err(|errno| failed("write", path.as_bytes(), errno))?;
                }
                _ => continue,
            }
            steps.push(Step::Place { path, number });
        }
        // Inner ones first: a mode may forbid what is still to be done in a directory.
        modes.reverse();
        steps.extend(modes);
        Ok(steps)
    }
}

fn same_kind(a: &State, b: &State) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn restore_file(kept: &Path, mode: u32, number: u32, stage: &Stage) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let refused = |error: &std::io::Error| Error::io("cannot restore a file", error);
    let out = rustix::fs::openat(stage.fd(), number.to_string(), flags, Mode::RUSR | Mode::WUSR);
    let mut out = out.map(File::from).map_err(|errno| refused(&errno.into()))?;
    let mut kept = File::open(kept).map_err(|error| refused(&error))?;
    std::io::copy(&mut kept, &mut out).map_err(|error| refused(&error))?;
    rustix::fs::fchmod(&out, Mode::from_raw_mode(mode)).map_err(|errno| refused(&errno.into()))
}
