//! What the client says its user has open.
#![expect(deprecated, reason = "roots are deprecated by the newest revision, which still has them")]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use pyro_contract::Result;
use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, InputRequest, InputRequiredResult, ListRootsRequest, ListRootsResult,
    ProtocolVersion,
};
use rmcp::service::RequestContext;

use crate::project::Places;

/// A client that does not answer has nothing open.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of our question among those that a call may ask.
const QUESTION: &str = "roots";

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Roots {
    /// Asked and answered.
    Known(Places),
    /// Newer clients are asked by an answer, and call again with theirs.
    Ask(InputRequiredResult),
}

/// The project that the client has open; the first if it has several, which may all be reached.
pub(crate) async fn of_client(
    params: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
    allowed: Vec<PathBuf>,
) -> Result<Roots> {
    let can_tell = context.client_capabilities().is_some_and(|client| client.roots.is_some());
    if !can_tell {
        return Ok(Roots::Known(Places { project: None, allowed }));
    }
    let answered = params.input_responses.as_ref().and_then(|answers| answers.get(QUESTION));
    if let Some(answer) = answered {
        let listed = serde_json::from_value(answer.clone()).unwrap_or_default();
        return Ok(Roots::Known(places(&listed, allowed)));
    }
    let is_asked_by_answer = context
        .protocol_version()
        .is_some_and(|version| version.as_str() >= ProtocolVersion::NO_INITIALIZE.as_str());
    if is_asked_by_answer {
        let question = InputRequest::ListRoots(ListRootsRequest::default());
        let questions = BTreeMap::from([(QUESTION.to_owned(), question)]);
        return Ok(Roots::Ask(InputRequiredResult::from_input_requests(questions)));
    }
    let listed = match tokio::time::timeout(PATIENCE, context.peer.list_roots()).await {
        Ok(Ok(listed)) => listed,
        _ => ListRootsResult::default(),
    };
    Ok(Roots::Known(places(&listed, allowed)))
}

fn places(listed: &ListRootsResult, mut allowed: Vec<PathBuf>) -> Places {
    let mut open = listed.roots.iter().filter_map(|root| path_of(&root.uri));
    let project = open.next();
    allowed.extend(open);
    Places { project, allowed }
}

/// The path of a `file://` URI of this host (RFC 8089); anything else is not ours to open.
fn path_of(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(left.next()?)?, digit(left.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    path.is_dir().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::Root;

    #[test]
    fn a_root_is_a_directory_of_this_host() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a b ü");
        std::fs::create_dir(&dir).unwrap();
        let uri = format!("file://{}/a%20b%20%C3%BC", temp.path().display());
        assert_eq!(path_of(&uri), Some(dir.clone()));
        assert_eq!(
            path_of(&format!("file://localhost{}", temp.path().display())),
            Some(temp.path().into())
        );
        for stranger in
            ["https://example.org/", "file://elsewhere/tmp", "file:///none%2", "file://"]
        {
            assert_eq!(path_of(stranger), None, "{stranger}");
        }
        let listed = ListRootsResult::new(vec![Root::new("https://x"), Root::new(uri)]);
        assert_eq!(places(&listed, Vec::new()).project, Some(dir));
    }
}
