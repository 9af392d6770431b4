//! Workspaces as resources: what a client shows its user, or attaches to a conversation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Call, Pyro};
use rmcp::model::{Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};
use std::fmt::Write as _;

use crate::journal;

const ALL: &str = "pyro://workspaces";

/// The most bytes that one resource gives.
const MOST_BYTES: u64 = 1 << 20;

/// So many of the newest commands are read.
const NEWEST: u32 = 200;

/// Workspaces on one page of the list.
const PAGE: usize = 50;

/// What a URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uri {
    Workspaces,
    Workspace(String),
    Diff(String),
    Logs(String),
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ALL)?;
        if rest.is_empty() {
            return Some(Self::Workspaces);
        }
        let mut parts = rest.strip_prefix('/')?.split('/');
        let workspace = parts.next().filter(|name| !name.is_empty())?.to_owned();
        match (parts.next(), parts.next()) {
            (None, _) => Some(Self::Workspace(workspace)),
            (Some("diff"), None) => Some(Self::Diff(workspace)),
            (Some("logs"), None) => Some(Self::Logs(workspace)),
            _ => None,
        }
    }
}

/// The resources of one page, and the cursor of the next.
pub(crate) async fn list(
    pyro: &Pyro,
    cursor: Option<&str>,
) -> Result<(Vec<Resource>, Option<String>)> {
    let skip = match cursor {
        None => 0,
        Some(cursor) => cursor.parse::<usize>().map_err(|_| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("the cursor {cursor:?} is not one of ours"),
            )
            .with_hint("list again from the start")
        })?,
    };
    let workspaces = pyro.list().await?.workspaces;
    let mut made = Vec::new();
    if skip == 0 {
        made.push(
            Resource::new(ALL, "workspaces")
                .with_description("All workspaces, the most recently active first")
                .with_mime_type("application/json"),
        );
    }
    for workspace in workspaces.iter().skip(skip).take(PAGE) {
        let id = workspace.id.as_str();
        let name = workspace.name.as_ref().map_or(id, |name| name.as_str());
        let uri = format!("{ALL}/{name}");
        let about = format!("{} ({}), {}", name, workspace.environment, workspace.state);
        made.push(
            Resource::new(&uri, name).with_description(about).with_mime_type("application/json"),
        );
        made.push(
            Resource::new(format!("{uri}/diff"), format!("{name}: changes"))
                .with_description("What changed in /workspace, as a git patch")
                .with_mime_type("text/x-diff"),
        );
        made.push(
            Resource::new(format!("{uri}/logs"), format!("{name}: commands"))
                .with_description("The commands that ran, with their output")
                .with_mime_type("text/plain"),
        );
    }
    let next = skip + PAGE;
    Ok((made, (next < workspaces.len()).then(|| next.to_string())))
}

/// The shapes that resources have.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = |path: &str, name: &str, about: &str, mime: &str| {
        ResourceTemplate::new(format!("{ALL}/{{workspace}}{path}"), name)
            .with_description(about)
            .with_mime_type(mime)
    };
    vec![
        template("", "workspace", "One workspace: state, machine, seed", "application/json"),
        template("/diff", "changes", "What changed in it, as a git patch", "text/x-diff"),
        template("/logs", "commands", "The commands that ran in it, with output", "text/plain"),
    ]
}

/// What a URI holds. `None` if nothing has such a URI.
pub(crate) async fn read(pyro: &Pyro, text: &str, call: &Call) -> Result<Option<ResourceContents>> {
    let Some(uri) = Uri::parse(text) else { return Ok(None) };
    let json = |value: Value| {
        ResourceContents::text(format!("{value:#}"), text).with_mime_type("application/json")
    };
    let ask = |operation: &'static str, request: Value| pyro.perform(operation, request, call);
    Ok(Some(match uri {
        Uri::Workspaces => json(ask("workspace_list", Value::Null).await?),
        Uri::Workspace(workspace) => {
            json(ask("workspace_status", json!({"workspace": workspace})).await?)
        }
        Uri::Diff(workspace) => {
            let request =
                json!({"workspace": workspace, "patch": true, "max_patch_bytes": MOST_BYTES});
            patch(ask("workspace_diff", request).await?, text)
        }
        Uri::Logs(workspace) => {
            let commands =
                ask("workspace_logs", json!({"workspace": workspace, "tail": NEWEST})).await?;
            ResourceContents::text(
                journal::text(commands.as_array().map_or(&[], Vec::as_slice)),
                text,
            )
        }
    }))
}

/// A patch that is not UTF-8 is given as the bytes it is.
fn patch(diff: Value, uri: &str) -> ResourceContents {
    let contents = match diff["patch_base64"].as_str() {
        Some(exact) if STANDARD.decode(exact).is_ok() => ResourceContents::blob(exact, uri),
        _ => {
            let mut text = diff["patch"].as_str().unwrap_or_default().to_owned();
            if let Some(omitted) = diff["patch_omitted_bytes"].as_u64().filter(|count| *count > 0) {
                let _ = writeln!(text, "# {omitted} bytes left out: `pyro workspace diff` has all");
            }
            ResourceContents::text(text, uri)
        }
    };
    contents.with_mime_type("text/x-diff")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_what_it_says_and_nothing_else() {
        assert_eq!(Uri::parse("pyro://workspaces"), Some(Uri::Workspaces));
        assert_eq!(Uri::parse("pyro://workspaces/a"), Some(Uri::Workspace("a".into())));
        assert_eq!(Uri::parse("pyro://workspaces/a/diff"), Some(Uri::Diff("a".into())));
        assert_eq!(Uri::parse("pyro://workspaces/a/logs"), Some(Uri::Logs("a".into())));
        for stranger in [
            "pyro://workspaces/",
            "pyro://workspacesx",
            "pyro://workspaces/a/b",
            "pyro://workspaces/a/diff/x",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(Uri::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn every_template_is_a_uri_that_is_read() {
        for template in templates() {
            assert!(Uri::parse(&template.uri_template.replace("{workspace}", "demo")).is_some());
        }
    }

    #[test]
    fn a_patch_that_is_no_text_is_given_as_bytes() {
        let exact = STANDARD.encode(b"\xff\n");
        let contents = patch(json!({"patch": "?\n", "patch_base64": exact}), "u");
        assert!(matches!(contents, ResourceContents::BlobResourceContents { .. }));
    }
}
