//! Calls that are given up: their commands end, and nothing else does.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::wire::{OverHttp, OverStdio, host, pyro, runs, wait_for_commands, wait_for_end};
use crate::harness::{Host, is_root, skip};

fn workspace(host: &Host) -> String {
    let output = pyro(host, &["workspace", "create", "debian:12", "--id-only"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn endless(workspace: &str) -> Value {
    json!({"workspace": workspace, "command": "sleep 1000 & sleep 1000"})
}

#[test]
fn a_cancelled_call_ends_its_command_and_is_not_answered() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let workspace = workspace(&host);
    let mut server = OverStdio::start(&host, &[]);
    let id = server.ask_tool("workspace_exec", endless(&workspace));
    wait_for_commands(&host, &workspace, 1);
    let params = json!({"requestId": id, "reason": "enough"});
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    server.say(&cancel.to_string());
    wait_for_commands(&host, &workspace, 0);
    assert!(!runs(&host, &workspace, "sleep"));
    // The next answer is that of the next question.
    let status = server.ok("workspace_status", json!({"workspace": workspace}));
    assert_eq!(status["state"], "started");
}

#[test]
fn a_cancelled_creation_leaves_nothing() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    let id = server.ask_tool("workspace_create", json!({"environment": "debian:12"}));
    let params = json!({"requestId": id});
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    server.say(&cancel.to_string());
    drop(server);
    // It may have been done before it was cancelled, and then nobody was told of it: all or nothing.
    for left in host.leftovers() {
        assert_eq!(host.status(&left)["state"], "started");
    }
}

#[test]
fn the_death_of_a_client_ends_its_command_and_the_server() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let workspace = workspace(&host);
    // A client of its own process, so that its death closes both pipes.
    let script = format!(
        r#"exec 3<&1; coproc "$0" mcp serve
        say() {{ printf '%s\n' "$1" >&"${{COPROC[1]}}"; }}
        say '{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}}}'
        read -r _ <&"${{COPROC[0]}}"
        say '{{"jsonrpc":"2.0","method":"notifications/initialized"}}'
        say '{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"workspace_exec","arguments":{{"workspace":"{workspace}","command":"sleep 1000"}}}}}}'
        echo "$COPROC_PID"; read -r _ <&"${{COPROC[0]}}""#
    );
    let own = pyro(&host, &[]);
    let mut client = Command::new("bash");
    client.args(["-c", &script]).arg(crate::harness::PYRO).stdout(Stdio::piped());
    for (name, value) in own.get_envs() {
        if let Some(value) = value {
            client.env(name, value);
        }
    }
    let mut client = client.spawn().unwrap();
    wait_for_commands(&host, &workspace, 1);
    let mut said = String::new();
    let stdout = client.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for_commands(&host, &workspace, 0);
    assert!(!runs(&host, &workspace, "sleep"));
    let server = format!("/proc/{}/stat", said.trim());
    let ended = || std::fs::read_to_string(&server).map_or(true, |stat| stat.contains(") Z "));
    let deadline = std::time::Instant::now() + super::wire::PATIENCE;
    while !ended() {
        assert!(std::time::Instant::now() < deadline, "the server lives on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_client_that_closes_stdin_is_still_answered() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let workspace = workspace(&host);
    let mut server = OverStdio::start(&host, &[]);
    let id = server.ask_tool(
        "workspace_exec",
        json!({"workspace": workspace, "command": "sleep 1; echo done"}),
    );
    server.close_stdin();
    let answer = server.answer();
    assert_eq!(answer["id"], id);
    assert_eq!(answer["result"]["structuredContent"]["stdout"], "done\n", "{answer}");
}

#[test]
fn a_killed_server_takes_its_commands_along_and_the_next_finds_the_workspace() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let mut server = OverStdio::start(&host, &[]);
    server.ok("workspace_create", json!({"environment": "debian:12", "name": "kept"}));
    server.ok(
        "workspace_exec",
        json!({"workspace": "kept", "command": "echo work > /workspace/file"}),
    );
    server.ask_tool("workspace_exec", endless("kept"));
    wait_for_commands(&host, "kept", 1);
    server.child.kill().unwrap();
    wait_for_end(&mut server.child);
    wait_for_commands(&host, "kept", 0);
    assert!(!runs(&host, "kept", "sleep"));
    let mut next = OverStdio::start(&host, &[]);
    let found = next.ok("workspace_list", json!({}));
    assert_eq!(found["workspaces"][0]["name"], "kept");
    let read = next.ok("workspace_exec", json!({"workspace": "kept", "command": "cat file"}));
    assert_eq!(read["stdout"], "work\n");
}

#[test]
fn a_connection_that_ends_ends_its_command_over_http_too() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let workspace = workspace(&host);
    let server = OverHttp::start(&host, &[]);
    let call = json!({"name": "workspace_exec", "arguments": endless(&workspace)});
    let connection = server.post("tools/call", call, &[]);
    wait_for_commands(&host, &workspace, 1);
    drop(connection);
    wait_for_commands(&host, &workspace, 0);
    assert!(!runs(&host, &workspace, "sleep"));
}

#[test]
fn a_server_that_is_asked_to_end_ends_its_commands_first() {
    if !is_root() {
        return skip("containers need root");
    }
    let (host, _) = host();
    let workspace = workspace(&host);
    let server = OverHttp::start(&host, &[]);
    let call = json!({"name": "workspace_exec", "arguments": endless(&workspace)});
    let _connection = server.post("tools/call", call, &[]);
    wait_for_commands(&host, &workspace, 1);
    drop(server);
    wait_for_commands(&host, &workspace, 0);
}
