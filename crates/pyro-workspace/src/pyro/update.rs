//! Changing the name, labels and time to live of a workspace, running or not.

use pyro_contract::Result;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::update::UpdateRequest;
use pyro_contract::workspace::WorkspaceStatus;

use super::{Pyro, blocking, ensure_free};
use crate::possession::{self, For, Possession};
use crate::{client, journal, update};

impl Pyro {
    /// Makes all of the changes, or none.
    pub async fn update(&self, request: &UpdateRequest) -> Result<WorkspaceStatus> {
        request.changes.validate()?;
        let home = self.home.clone();
        // From here until it is saved nobody else can take that name.
        let names = blocking(move || home.lock_names()).await?;
        let (dir, record) = self.find(&request.workspace).await?;
        let id = record.id.clone();
        if let Some(name) =
            request.changes.name.clone().filter(|name| Some(name) != record.name.as_ref())
        {
            let home = self.home.clone();
            blocking(move || ensure_free(&home, &name)).await?;
        }
        match possession::take(&dir, For::Change).await? {
            Possession::Running(_) => client::update(&dir, &request.changes).await?,
            Possession::AtRest(mut record, lock) => {
                let kind = update::apply(&request.changes, &mut record);
                blocking(move || {
                    record.save(&dir)?;
                    journal::append(&dir.journal_file(), &kind, dir.caller())?;
                    drop(lock);
                    Ok(())
                })
                .await?;
            }
        }
        drop(names);
        self.status(&WorkspaceRef::Id(id)).await
    }
}
