//! Making records true again after something died.
//!
//! A record may say `creating`, `started` or `deleting` only while somebody holds the workspace's
//! lock. Whoever finds such a record with the lock free settles it, under the lock.

use std::fs;
use std::time::Duration;

use pyro_contract::journal::EventKind;
use pyro_contract::workspace::WorkspaceState;
use pyro_contract::{Error, ErrorCode, Result};

use crate::caller::Caller;
use crate::home::WorkspaceDir;
use crate::journal;
use crate::lock::Lock;
use crate::record::Record;

const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// The record of a workspace as it truly stands; `None` if it turned out to be a leftover of an
/// interrupted creation or deletion, which is then gone.
pub(crate) fn load(dir: &WorkspaceDir) -> Result<Option<Record>> {
    let record = match Record::load(dir) {
        Ok(record) => record,
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        // The power was lost while it was being created.
        Err(error) if error.code == ErrorCode::Damaged && dir.unborn_file().exists() => {
            let Some(_lock) = dir.try_take()? else { return Err(error) };
            dir.remove()?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if is_at_rest(&record) {
        return Ok(Some(record));
    }
    match dir.try_take() {
        Ok(Some(lock)) => settle(dir, &lock),
        Ok(None) => Ok(Some(record)),
        // Removed meanwhile.
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for a caller that has the lock.
pub(crate) fn settle(dir: &WorkspaceDir, _held: &Lock) -> Result<Option<Record>> {
    // Read again: its last owner may have finished in the meantime.
    let mut record = match Record::load(dir) {
        Ok(record) => record,
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if is_at_rest(&record) {
        return Ok(Some(record));
    }
    let run = record.run.take();
    if let Some(machine) = run.and_then(|run| run.machine) {
        machine.outlive(KILL_PATIENCE);
    }
    match record.state {
        WorkspaceState::Creating | WorkspaceState::Deleting => {
            dir.remove()?;
            return Ok(None);
        }
        _ => {
            let _ = fs::remove_file(dir.socket_file());
            record.state = WorkspaceState::Failed;
            record.error = Some(
                Error::new(ErrorCode::MachineFailed, "its supervisor ended unexpectedly")
                    .with_hint("its disk is kept: `pyro workspace start` starts it again"),
            );
            if let Some(error) = record.error.clone() {
                let kind = EventKind::Failed { error };
                if let Err(error) = journal::append(&dir.journal_file(), &kind, &Caller::default())
                {
                    tracing::warn!(%error, "a failure could not be entered in the journal");
                }
            }
            match record.save(dir) {
                // Whoever asks is told the truth; it is written down once there is space.
                Err(error) if error.code == ErrorCode::NoSpace => {
                    tracing::warn!(%error, "the settled record cannot be saved");
                }
                saved => saved?,
            }
        }
    }
    Ok(Some(record))
}

/// A record with a run is that of a workspace on its way up, or up.
fn is_at_rest(record: &Record) -> bool {
    matches!(record.state, WorkspaceState::Stopped | WorkspaceState::Failed) && record.run.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use pyro_contract::name::WorkspaceId;

    fn workspace(home: &Home, state: WorkspaceState) -> (WorkspaceDir, Lock) {
        let id = WorkspaceId::random();
        let (dir, lock) = home.new_workspace(&id).unwrap().publish().unwrap();
        let mut record = Record::sample(id);
        record.state = state;
        record.save(&dir).unwrap();
        (dir, lock)
    }

    #[test]
    fn a_record_is_believed_while_somebody_holds_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let (dir, lock) = workspace(&home, WorkspaceState::Started);
        assert_eq!(load(&dir).unwrap().unwrap().state, WorkspaceState::Started);
        drop(lock);
        let settled = load(&dir).unwrap().unwrap();
        assert_eq!(settled.state, WorkspaceState::Failed);
        assert!(settled.error.unwrap().hint.unwrap().contains("workspace start"));
    }

    #[test]
    fn what_a_loss_of_power_leaves_of_a_creation_is_removed_and_nothing_else_is() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        for (unborn, removed) in [(true, true), (false, false)] {
            let (dir, lock) = workspace(&home, WorkspaceState::Creating);
            fs::write(dir.record_file(), "").unwrap();
            if !unborn {
                fs::remove_file(dir.unborn_file()).unwrap();
            }
            assert!(load(&dir).is_err(), "somebody is at work there");
            drop(lock);
            assert_eq!(load(&dir).is_ok_and(|record| record.is_none()), removed);
            assert_eq!(!dir.exists(), removed);
        }
    }

    #[test]
    fn an_interrupted_creation_or_deletion_is_finished() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        for state in [WorkspaceState::Creating, WorkspaceState::Deleting] {
            let (dir, lock) = workspace(&home, state);
            assert!(load(&dir).unwrap().is_some());
            drop(lock);
            assert!(load(&dir).unwrap().is_none());
            assert!(!dir.exists());
        }
    }
}
