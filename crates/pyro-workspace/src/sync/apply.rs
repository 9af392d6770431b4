//! The approved changes of a workspace, taken to the directory that it was seeded from.
//!
//! Each change since the seed is compared with the host's directory: what is still as it was seeded
//! is changed, what has the change already is left, and what differs from both is a conflict, upon
//! which nothing is written, unless it can be merged and that was asked for. The changes are made by
//! the same journal as those of a pull, so that all of them happen or none. What they replaced is kept
//! ([`undo`]), so that they can be taken back once.

mod decide;
mod merge;
mod state;
mod undo;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::apply::{Applied, ApplyRequest};
use pyro_contract::journal::EventKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::workspace::Seed;
use pyro_contract::{Error, ErrorCode, Result};

use super::pull::{Stage, Target};
use crate::home::{Home, WorkspaceDir};
use crate::pyro::{Pyro, blocking};
use crate::review::{Detail, Review};
use crate::watch::{Watch, interrupted};
use decide::{Decision, Selection};
use undo::Undo;

impl Pyro {
    /// Brings what changed in `/workspace` to a directory of the host, or takes the last such change
    /// back. Either all of it happens or nothing does; if this process is killed amid it, the next
    /// apply to or sync of that directory completes it.
    ///
    /// # Errors
    /// `conflict`, naming each file of the host that is neither as it was seeded nor as it is to be;
    /// `invalid_argument` if there is no directory to apply to.
    pub async fn apply(&self, request: &ApplyRequest, watch: &Watch) -> Result<Applied> {
        let (dir, record) = self.find(&request.workspace).await?;
        let journaled = dir.clone();
        let undone = request.undo;
        let applied = self.change_host(dir, &record.seed.source, request, watch).await?;
        if !applied.dry_run && !applied.changes.is_empty() {
            let changed = applied.changes.len() as u64;
            let to = applied.to.clone();
            self.note_here(&journaled, EventKind::Applied { to, changed, undone }).await;
        }
        Ok(applied)
    }

    async fn change_host(
        &self,
        dir: WorkspaceDir,
        seed: &Seed,
        request: &ApplyRequest,
        watch: &Watch,
    ) -> Result<Applied> {
        let (home, request, seen) = (self.home().clone(), request.clone(), watch.clone());
        if request.undo {
            return blocking(move || undo::take_back(&home, &dir, &request, &seen)).await;
        }
        let to = destination(&request, seed)?;
        let review = self.review(&request.workspace).await?;
        let (review, prepared) = blocking(move || {
            let prepared = Prepared::new(&home, dir, &review, &to, &request, &seen)?;
            Ok((review, prepared))
        })
        .await?;
        // The workspace goes on; what was read of it is only used if it stood still until now.
        review.release().await?;
        let seen = watch.clone();
        blocking(move || prepared.commit(&seen)).await
    }
}

/// Where to, if the request does not say.
fn destination(request: &ApplyRequest, seed: &Seed) -> Result<PathBuf> {
    if let Some(to) = &request.to {
        return Ok(PathBuf::from(to));
    }
    let (source, why) = match seed {
        Seed::Path { path } => (path, "an archive"),
        Seed::Git { repository, .. } => (repository, "no checkout of this host"),
        Seed::Empty => return Err(nowhere("nothing")),
    };
    let path = Path::new(source);
    // A bare repository has no files to apply to.
    let is_bare = matches!(seed, Seed::Git { .. }) && !path.join(".git").exists();
    if !path.is_dir() || is_bare {
        return Err(nowhere(why).with_cause(format!("the seed was {source}")));
    }
    Ok(path.to_owned())
}

fn nowhere(seed: &str) -> Error {
    Error::new(
        ErrorCode::InvalidArgument,
        format!("the workspace was seeded from {seed}, so there is no directory to apply to"),
    )
    .with_hint("name one: `pyro workspace apply WS --to DIR`")
}

/// An apply that was decided on and made ready, and has changed nothing yet.
struct Prepared {
    applied: Applied,
    ready: Option<Ready>,
}

struct Ready {
    target: Arc<Target>,
    stage: Stage,
    written: write::Written,
    before: state::Seen,
    undo: Undo,
}

impl Prepared {
    /// Compares, and writes what is to be brought beside the host's files. Blocks.
    fn new(
        home: &Home,
        dir: WorkspaceDir,
        review: &Review,
        to: &Path,
        request: &ApplyRequest,
        watch: &Watch,
    ) -> Result<Self> {
        let target = Arc::new(Target::open(home, to)?);
        let diff = review.diff(Detail::Names, watch)?;
        let (workspace, top) = review.tree(b"/workspace")?;
        let Some((baseline, _)) = review.baseline_of(b"/workspace") else {
            return Err(Error::new(ErrorCode::Internal, "the project has no baseline"));
        };
        let decision = Decision {
            workspace: &workspace,
            top,
            baseline: &*baseline,
            host: target.fd(),
            selection: Selection::new(&request.paths)?,
            merge: request.merge,
            include_git: request.include_git,
        };
        let mut decided = decision.make(diff.entries, watch)?;
        decided.applied.to = to.display().to_string();
        decided.applied.dry_run = request.dry_run;
        if request.dry_run || decided.plan.is_empty() {
            return Ok(Self { applied: decided.applied, ready: None });
        }
        let mut stage = Stage::open(&target)?;
        let undo = Undo::begin(dir, to, &target, &decided.plan)?;
        let written = write::ready(&workspace, &decided.plan, &mut stage, watch)?;
        let ready = Ready { target, stage, written, before: decided.seen, undo };
        Ok(Self { applied: decided.applied, ready: Some(ready) })
    }

    /// Makes it so, unless the host's files have changed meanwhile. Blocks.
    fn commit(self, watch: &Watch) -> Result<Applied> {
        let Some(Ready { target, stage, written, before, undo }) = self.ready else {
            return Ok(self.applied);
        };
        if watch.cancelled() {
            return Err(interrupted());
        }
        before.check(target.fd())?;
        undo.keep(&written.states)?;
        stage.commit(written.steps)?;
        Ok(self.applied)
    }
}

/// Of the conflicts, so many are named.
const NAMED: usize = 100;

/// Files of the host that would be lost.
#[derive(Default)]
struct Conflicts(Vec<(BytePath, String)>);

impl Conflicts {
    fn add(&mut self, path: &[u8], why: impl Into<String>) {
        self.0.push((BytePath::new(path), why.into()));
    }

    fn outcome(self, what: &str, hint: &str) -> Result<()> {
        let count = self.0.len();
        if count == 0 {
            return Ok(());
        }
        let mut lines: Vec<String> =
            self.0.iter().take(NAMED).map(|(path, why)| format!("{path}: {why}")).collect();
        if count > NAMED {
            lines.push(format!("… and {} more", count - NAMED));
        }
        let files = if count == 1 { "1 conflict".to_owned() } else { format!("{count} conflicts") };
        Err(Error::new(ErrorCode::Conflict, format!("nothing was {what}: {files}"))
            .with_cause(lines.join("\n"))
            .with_hint(hint))
    }
}
