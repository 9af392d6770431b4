//! Questions about files of a running workspace.

use hyper::Method;
use pyro_contract::Result;

use super::{handshake, send_for, unexpected};
use crate::home::WorkspaceDir;
use crate::protocol::{
    Content, FILES, FilesReport, FilesRequest, Found, ListQuery, Listed, ReadQuery, StatQuery,
};

/// The largest answer: as much of a file as may be asked for, in base64.
const MAX_ANSWER: usize = 16 << 20;

async fn ask(dir: &WorkspaceDir, request: &FilesRequest) -> Result<FilesReport> {
    let (mut sender, _connection) = handshake(dir).await?;
    let answer = send_for(&mut sender, dir, Method::POST, FILES, request, MAX_ANSWER).await?;
    match serde_json::from_slice(&answer).map_err(|_| unexpected())? {
        FilesReport::Failed(error) => Err(error),
        report => Ok(report),
    }
}

pub(crate) async fn stat(dir: &WorkspaceDir, query: StatQuery) -> Result<Found> {
    match ask(dir, &FilesRequest::Stat(query)).await? {
        FilesReport::Stat(found) => Ok(found),
        _ => Err(unexpected()),
    }
}

pub(crate) async fn read(dir: &WorkspaceDir, query: ReadQuery) -> Result<(Content, Vec<u8>)> {
    use base64::Engine as _;
    match ask(dir, &FilesRequest::Read(query)).await? {
        FilesReport::Content(mut content) => {
            let data = std::mem::take(&mut content.data);
            let data = base64::engine::general_purpose::STANDARD.decode(data);
            Ok((content, data.map_err(|_| unexpected())?))
        }
        _ => Err(unexpected()),
    }
}

pub(crate) async fn list(dir: &WorkspaceDir, query: ListQuery) -> Result<Listed> {
    match ask(dir, &FilesRequest::List(query)).await? {
        FilesReport::List(listed) => Ok(listed),
        _ => Err(unexpected()),
    }
}
