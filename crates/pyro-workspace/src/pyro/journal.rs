//! What happened in a workspace, running or not.

use pyro_contract::Result;
use pyro_contract::journal::{Event, EventsRequest};

use super::{Pyro, blocking};
use crate::journal::{self, Which};

impl Pyro {
    /// What happened in a workspace, oldest first.
    pub async fn events(&self, request: &EventsRequest) -> Result<Vec<Event>> {
        let (dir, _) = self.find(&request.workspace).await?;
        let which = Which { after: request.after, since: request.since, tail: request.tail };
        blocking(move || journal::events(&dir.journal_file(), which)).await
    }
}
