//! Bringing trees of the host into a workspace, and trees of a workspace to the host.
//!
//! A push asks the machine which names of the host's tree it does not have as they are, sends those,
//! and has the agent make all changes or none. A pull reads the machine's disk as a review does, and
//! writes what differs beside the host's tree before it is renamed into it, by a journal that the
//! next sync of that directory completes. What both sides are known to have had in common is
//! remembered ([`record`]), so that an unchanged file need not be read, and a host's file that was
//! changed since is not overwritten unasked.

mod apply;
mod beneath;
mod follow;
mod guest_path;
mod pull;
mod push;
mod record;
mod removal;
mod rules;
mod scan;
mod source;
mod verdicts;

use std::sync::Arc;

use pyro_contract::Result;
use pyro_contract::journal::EventKind;
use pyro_contract::sync::{SyncPullRequest, SyncPushRequest, Synced};

use crate::client::sync::SyncSession;
use crate::home::WorkspaceDir;
use crate::journal;
use crate::pyro::{Pyro, blocking, ready};
use crate::watch::Watch;

impl Pyro {
    /// Makes a tree of a started workspace like one of the host. Either all of it happens or nothing
    /// does, also if this process, the supervisor or the machine is killed at any moment.
    ///
    /// Files that only the machine has stay, unless the request says `delete`; what is excluded stays
    /// in any case. What has the same content and mode is left alone, its time too.
    pub async fn sync_push(&self, request: &SyncPushRequest, watch: &Watch) -> Result<Synced> {
        let (dir, record) = self.find(&request.workspace).await?;
        ready(&request.workspace, &record)?;
        let (home, request, seen) = (self.home().clone(), request.clone(), watch.clone());
        let mut push = blocking(move || {
            push::Push::open(&home, dir, &request, Arc::new(|_, _| Ok(())), &seen)
        })
        .await?;
        push.run(watch).await
    }

    /// Pushes again and again, whenever something in the tree has changed, until it is interrupted. Each
    /// push is told to `tell`, also one that failed because of what the tree is like just now.
    pub async fn sync_watch(
        &self,
        request: &SyncPushRequest,
        watch: &Watch,
        tell: impl FnMut(Result<Synced>) -> Result<()>,
    ) -> Result<()> {
        let (dir, record) = self.find(&request.workspace).await?;
        ready(&request.workspace, &record)?;
        follow::follow(self.home(), dir, request, watch, tell).await
    }

    /// Makes a directory of the host like one of a workspace, which may be stopped. Either all of it
    /// happens or nothing does; if this process is killed amid it, the next sync of that directory
    /// completes it.
    ///
    /// A file of the host that is to be replaced or removed must be known from an earlier sync, or be
    /// what the workspace began with; else it is a conflict, and nothing happens, unless the request
    /// says `force`.
    pub async fn sync_pull(&self, request: &SyncPullRequest, watch: &Watch) -> Result<Synced> {
        let (dir, _) = self.find(&request.workspace).await?;
        let (journaled, asked) = (dir.clone(), request.clone());
        let review = self.review(&request.workspace).await?;
        let (home, request, seen) = (self.home().clone(), request.clone(), watch.clone());
        let prepared = blocking(move || {
            let pull = pull::Pull::prepare(&home, &dir, &review, &request, &seen)?;
            Ok((pull, review))
        })
        .await;
        let (pull, review) = prepared?;
        // The workspace goes on; what was read of it is only used if it stood still until now.
        review.release().await?;
        let seen = watch.clone();
        let synced = blocking(move || pull.commit(&seen)).await?;
        if !synced.dry_run && !synced.is_nothing() {
            self.note_here(&journaled, pulled(&asked, &synced)).await;
        }
        Ok(synced)
    }

    /// The host's files are what they are: a journal that cannot be written to is no failure of that.
    pub(crate) async fn note_here(&self, dir: &WorkspaceDir, event: EventKind) {
        let running = async { SyncSession::open(dir, || ()).await?.note(&event).await };
        if running.await.is_ok() {
            return;
        }
        let (dir, caller) = (dir.clone(), dir.caller().clone());
        let noted = blocking(move || match dir.try_take()? {
            Some(_lock) => journal::append(&dir.journal_file(), &event, &caller),
            None => Ok(()),
        });
        if let Err(error) = noted.await {
            tracing::debug!(%error, "what was done on the host could not be entered in the journal");
        }
    }
}

fn pulled(request: &SyncPullRequest, synced: &Synced) -> EventKind {
    let dest = std::path::Path::new(&request.dest);
    let dest = std::path::absolute(dest).unwrap_or_else(|_| dest.to_owned());
    EventKind::SyncPulled {
        source: request.path.clone(),
        destination: dest.to_string_lossy().into_owned(),
        written: synced.sent + synced.made + synced.modes,
        removed: synced.removed,
        bytes: synced.bytes,
    }
}
