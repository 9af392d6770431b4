//! Many at once.

use std::collections::BTreeSet;

use serde_json::json;

use super::wire::{OverStdio, host};
use crate::harness::{is_root, skip};

#[test]
fn a_thousand_calls_at_once_are_answered_once_each() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    server.ok("workspace_create", json!({"environment": "debian:12", "name": "busy"}));
    let mut asked = BTreeSet::new();
    for n in 0..1000 {
        let call = json!({"workspace": "busy", "command": format!("echo {n}")});
        asked.insert((server.ask_tool("workspace_exec", call), n));
    }
    for (id, n) in asked.clone() {
        let _ = (id, n);
        let answer = server.answer();
        let id = answer["id"].as_u64().unwrap();
        let said = answer["result"]["structuredContent"]["stdout"].as_str();
        let n: i32 = said.unwrap_or_else(|| panic!("{answer}")).trim().parse().unwrap();
        assert!(asked.remove(&(id, n)), "{answer}");
    }
    assert!(asked.is_empty());
    assert_eq!(host.status("busy")["running_commands"], 0);
}

#[test]
fn two_clients_work_in_one_workspace() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let (mut one, mut other) = (OverStdio::start(&host, &[]), OverStdio::start(&host, &[]));
    one.ok("workspace_create", json!({"environment": "debian:12", "name": "shared"}));
    let ws = |command: &str| json!({"workspace": "shared", "command": command});
    // One waits for what only the other can do.
    let waiting =
        one.ask_tool("workspace_exec", ws("until [ -e go ]; do sleep 0.05; done; cat go"));
    other.ok("workspace_exec", ws("echo from the other > go.new; mv go.new go"));
    let answer = one.answer();
    assert_eq!(answer["id"], waiting);
    assert_eq!(answer["result"]["structuredContent"]["stdout"], "from the other\n");
    // A name is taken for both.
    let taken =
        other.error("workspace_create", json!({"environment": "debian:12", "name": "shared"}));
    assert_eq!(taken["code"], "already_exists");
    one.ok("workspace_delete", json!({"workspace": "shared"}));
    assert_eq!(other.error("workspace_exec", ws("true"))["code"], "not_found");
}

#[test]
fn output_that_is_no_text_arrives_as_far_as_it_is() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    server.ok("workspace_create", json!({"environment": "debian:12", "name": "bytes"}));
    let command =
        r#"printf 'a\377\376\000b'; printf '\033[2J' >&2; printf '\377' > "$(printf 'f\377')""#;
    let ran = server.ok("workspace_exec", json!({"workspace": "bytes", "command": command}));
    assert_eq!(ran["stdout"], "a\u{fffd}\u{fffd}\0b");
    assert_eq!(ran["stderr"], "\u{1b}[2J");
    let diff = server.ok("workspace_diff", json!({"workspace": "bytes"}));
    assert_eq!(diff["entries"][0]["path"], "f\u{fffd}");
    let read = server.request("resources/read", json!({"uri": "pyro://workspaces/bytes/diff"}));
    assert!(read["result"]["contents"][0].is_object(), "{read}");
}
