//! `pyro mcp install | print-config | check`, in a home of its own.

use serde_json::Value;

use crate::harness::Host;

const CLIENTS: [&str; 6] = ["claude-code", "codex", "opencode", "cursor", "vscode", "gemini"];

/// Runs `pyro --json mcp …` at home in the test; its document, or its error.
fn mcp(host: &Host, args: &[&str]) -> Result<Value, Value> {
    let home = host.path("user");
    std::fs::create_dir_all(&home).unwrap();
    let output = host
        .command([&["--json", "mcp"], args].concat())
        .env("HOME", &home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("CODEX_HOME")
        .env_remove("CLAUDE_CONFIG_DIR")
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
    if output.status.success() { Ok(document) } else { Err(document["error"].clone()) }
}

#[test]
fn a_client_is_connected_tried_and_disconnected() {
    let host = Host::new();
    for client in CLIENTS {
        let absent = mcp(&host, &["check", client]).unwrap_err();
        assert_eq!(absent["code"], "not_found", "{client}");
        let added = mcp(&host, &["install", client]).unwrap();
        assert_eq!(added["outcome"], "added", "{client}");
        // What was written starts a server, with the PYRO_HOME of whoever installed it.
        let checked = mcp(&host, &["check", client]).unwrap();
        let tools = checked["tools"].as_array().unwrap();
        assert!(tools.iter().any(|tool| tool == "workspace_exec"), "{client}: {checked}");
        assert!(checked["server"].as_str().unwrap().starts_with("pyro "));
        let again = mcp(&host, &["install", client]).unwrap();
        assert_eq!(again["outcome"], "unchanged", "{client}");
        let other = mcp(&host, &["install", client, "--profile", "run"]).unwrap();
        assert_eq!(other["outcome"], "updated", "{client}");
        let tools = mcp(&host, &["check", client]).unwrap()["tools"].clone();
        assert_eq!(tools, serde_json::json!(["run", "output_read"]), "{client}");
        let undone = mcp(&host, &["install", client, "--undo"]).unwrap();
        assert_eq!(undone["outcome"], "removed", "{client}");
        assert!(!std::path::Path::new(undone["file"].as_str().unwrap()).exists(), "{client}");
    }
}

#[test]
fn a_dry_run_writes_nothing_and_print_config_says_what_would_be_written() {
    let host = Host::new();
    for client in CLIENTS {
        let would = mcp(&host, &["install", client, "--dry-run"]).unwrap();
        assert_eq!((&would["outcome"], &would["dry_run"]), (&"added".into(), &true.into()));
        assert!(!std::path::Path::new(would["file"].as_str().unwrap()).exists());
        let printed = mcp(&host, &["print-config", client]).unwrap();
        assert_eq!(printed["file"], would["file"]);
        mcp(&host, &["install", client]).unwrap();
        let written = std::fs::read_to_string(would["file"].as_str().unwrap()).unwrap();
        assert_eq!(printed["text"], written);
    }
}

#[test]
fn a_file_that_does_not_parse_is_left_alone() {
    let host = Host::new();
    let file = host.path("user/.cursor/mcp.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{ \"mcpServers\": {").unwrap();
    let error = mcp(&host, &["install", "cursor"]).unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("nothing was written"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ \"mcpServers\": {");
}

#[test]
fn a_project_shares_an_entry_that_names_no_path_of_this_machine() {
    let host = Host::new();
    let added = mcp(&host, &["install", "vscode", "--scope", "project"]).unwrap();
    let file = added["file"].as_str().unwrap();
    assert!(file.ends_with(".vscode/mcp.json"), "{file}");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let expected =
        serde_json::json!({"type": "stdio", "command": "pyro", "args": ["mcp", "serve"]});
    assert_eq!(written["servers"]["pyro"], expected);
}
