//! Transactions on a tree: many changes of files that all happen, or none does.
//!
//! What is put is first made ready in a *stage*, a directory at the top of the same filesystem, so
//! that a rename brings it into place ([`stage`]). Then everything is checked ([`check`]): what is
//! expected, and whatever could make a change fail. Then the changes are written down, and from that
//! moment on they happen, if need be when the machine starts the next time ([`commit`]).
//!
//! Only the merged view of the overlays is used, as the kernel wants it. There a directory of a lower
//! layer cannot be renamed, so a directory that moves is made anew and its files are linked into it.
//!
//! The guard is against other clients of pyro and against what has changed since the client looked.
//! A process that writes to the same files in the very moment of the commit is not held up; what the
//! changes demand is put over what it did.

mod check;
mod commit;
mod fs;
mod path;
mod stage;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{TreeChange, TreeChanged};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

pub(crate) use commit::recover;
use fs::Root;
use stage::Stage;

/// The directory at the top of a filesystem in which changes are made ready. The host leaves it out
/// of whatever it reads from the disk.
pub(crate) const STAGES: &str = ".pyro-transaction";

/// One commit after the other: what one has checked, another must not change.
static COMMITS: Mutex<()> = Mutex::new(());

/// Takes changes one by one, no faster than they can be made ready, and makes them all at once.
pub(crate) async fn change(mut input: Streaming<TreeChange>) -> Result<TreeChanged, Status> {
    let Some(Change::Begin(begin)) = input.message().await?.and_then(|message| message.change)
    else {
        return Err(Status::invalid_argument("the first message must begin the transaction"));
    };
    let (changes, mut received) = mpsc::channel::<Change>(4);
    let worker = tokio::task::spawn_blocking(move || {
        let mut stage = Stage::open(Root::find(&begin.root)?)?;
        while let Some(change) = received.blocking_recv() {
            match change {
                Change::Commit(commit) => return stage.finish(commit.dry_run),
                Change::Batch(batch) => {
                    for change in batch.changes.into_iter().filter_map(|it| it.change) {
                        stage.add(change)?;
                    }
                }
                change => stage.add(change)?,
            }
        }
        // The end of the channel without a word may mean that the call was dropped.
        Err(Status::cancelled("the changes did not come whole"))
    });
    let passed_on = pass_on(&mut input, &changes).await;
    drop(changes);
    let changed = worker.await.map_err(|error| Status::internal(error.to_string()))?;
    passed_on.and(changed)
}

async fn pass_on(
    input: &mut Streaming<TreeChange>,
    changes: &mpsc::Sender<Change>,
) -> Result<(), Status> {
    while let Some(message) = input.message().await? {
        let Some(change) = message.change else {
            return Err(Status::invalid_argument("a change that is none"));
        };
        let last = matches!(change, Change::Commit(_));
        // The worker has given up; its own error says why.
        if changes.send(change).await.is_err() || last {
            break;
        }
    }
    Ok(())
}

/// Held while a commit is made.
fn one_at_a_time() -> std::sync::MutexGuard<'static, ()> {
    COMMITS.lock().unwrap_or_else(PoisonError::into_inner)
}
