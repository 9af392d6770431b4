//! Questions about files, answered by the agent and bounded here.

mod filter;
mod walk;

use pyro_contract::Result;

use super::Shared;
use crate::protocol::{FilesReport, FilesRequest};

pub(super) async fn answer(shared: &Shared, request: FilesRequest) -> FilesReport {
    ask(shared, request).await.unwrap_or_else(FilesReport::Failed)
}

async fn ask(shared: &Shared, request: FilesRequest) -> Result<FilesReport> {
    shared.holds.check()?;
    Ok(match request {
        FilesRequest::Stat(query) => FilesReport::Stat(shared.agent.stat_file(&query).await?),
        FilesRequest::Read(query) => FilesReport::Content(shared.agent.read_content(&query).await?),
        FilesRequest::List(query) => FilesReport::List(walk::list(&shared.agent, query).await?),
    })
}
