//! Whole sessions with the clients of the official SDKs and the Inspector, over both transports.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::wire::{OverHttp, TOKEN, host, pyro};
use crate::harness::{Host, PYRO, skip};

/// Where `tests/clients/setup` installed them.
pub(super) fn clients() -> Option<PathBuf> {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-clients");
    let named = std::env::var_os("PYRO_TEST_CLIENTS").map_or_else(|| usual.into(), PathBuf::from);
    if named.join("installed").exists() {
        return Some(named.canonicalize().unwrap());
    }
    skip("no MCP clients are installed; run scripts/setup test");
    None
}

pub(super) fn script(name: &str) -> String {
    format!("{}/../../tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A program of the clients', in the surroundings of the host.
pub(super) fn client(host: &Host, clients: &Path, program: &str) -> Command {
    let mut command = Command::new(clients.join("venv/bin").join(program));
    let own = pyro(host, &[]);
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PYRO_TEST_CLIENTS", clients).current_dir(host.path("."));
    command
}

#[track_caller]
pub(super) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

fn python(mode: &str, over_http: bool) {
    let Some(clients) = clients() else { return };
    let (host, project) = host();
    let mut command = client(&host, &clients, "python");
    let transport = if over_http { "http" } else { "stdio" };
    command.arg(script("session.py")).args([transport, mode, "python"]).arg(&project);
    let server = over_http.then(|| OverHttp::start(&host, &[]));
    match &server {
        Some(server) => command.args(["--roots", "--", &server.url]),
        None => command.args(["--roots", "--", PYRO, "mcp", "serve"]),
    };
    let said = succeed(&mut command);
    let revision = if mode == "legacy" { "2025-11-25" } else { "2026-07-28" };
    assert!(said.contains(revision), "{said}");
}

#[test]
fn the_python_client_drives_a_whole_session_over_stdio() {
    python("auto", false);
}

#[test]
fn the_python_client_drives_a_whole_session_over_http() {
    python("auto", true);
}

#[test]
fn the_python_client_drives_a_whole_session_by_the_older_handshake() {
    python("legacy", false);
    python("legacy", true);
}

fn typescript(over_http: bool) {
    let Some(clients) = clients() else { return };
    let (host, project) = host();
    let mut command = client(&host, &clients, "node");
    let transport = if over_http { "http" } else { "stdio" };
    command.arg(script("session.mjs")).args([transport, "typescript"]).arg(&project);
    let server = over_http.then(|| OverHttp::start(&host, &[]));
    match &server {
        Some(server) => command.args(["--", &server.url]),
        None => command.args(["--", PYRO, "mcp", "serve"]),
    };
    succeed(&mut command);
}

#[test]
fn the_typescript_client_drives_a_whole_session_over_stdio() {
    typescript(false);
}

#[test]
fn the_typescript_client_drives_a_whole_session_over_http() {
    typescript(true);
}

/// Every call is a connection, and over stdio a server, of its own.
struct Inspector<'a> {
    host: &'a Host,
    clients: &'a Path,
    target: Vec<String>,
}

impl Inspector<'_> {
    fn ask(&self, method: &str, more: &[&str]) -> Value {
        let mut command = client(self.host, self.clients, "node");
        command.arg(self.clients.join("node_modules/.bin/mcp-inspector"));
        command.arg("--cli").args(&self.target);
        // Of its own environment it passes on next to nothing to a server that it starts.
        if self.target[0] == PYRO {
            for (name, value) in pyro(self.host, &[]).get_envs() {
                if let Some(value) = value {
                    command.arg("-e").arg(format!("{}={}", name.display(), value.display()));
                }
            }
        }
        command.args(["--quiet", "--method", method]).args(more);
        serde_json::from_str(&succeed(&mut command)).unwrap()
    }

    fn call(&self, tool: &str, arguments: Value) -> Value {
        let arguments = arguments.to_string();
        let answer = self.ask("tools/call", &["--tool-name", tool, "--tool-args-json", &arguments]);
        answer["structuredContent"].clone()
    }
}

fn inspector(over_http: bool) {
    let Some(clients) = clients() else { return };
    let (host, project) = host();
    let place = project.to_str().unwrap();
    let server = over_http.then(|| OverHttp::start(&host, &["--project-path", place]));
    let header = format!("Authorization: Bearer {TOKEN}");
    let target: Vec<String> = match &server {
        Some(server) => ["--transport", "http", "--server-url", &server.url, "--header", &header]
            .map(str::to_owned)
            .into(),
        None => [PYRO, "mcp", "serve", "--project-path", place].map(str::to_owned).into(),
    };
    let inspector = Inspector { host: &host, clients: &clients, target };

    // `--strict` fails for a schema that some host could not take.
    let listed = inspector.ask("tools/list", &["--strict"]);
    assert!(listed["tools"].as_array().unwrap().len() > 5);
    let named = json!({"environment": "debian:12", "name": "inspected"});
    assert_eq!(inspector.call("workspace_create", named)["seed"]["kind"], "git");
    let ws = |more: Value| {
        let mut arguments = json!({"workspace": "inspected"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let ran =
        inspector.call("workspace_exec", ws(json!({"command": "cat greeting; echo b > made"})));
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("hello\n"), &json!(0)));
    let logs = inspector.call("workspace_logs", ws(json!({})));
    assert_eq!(logs["commands"][0]["sequence"], 1);
    let diff = inspector.call("workspace_diff", ws(json!({})));
    assert_eq!(diff["entries"][0]["path"], "made");
    inspector.call("workspace_export", ws(json!({"path": "made", "output": "made"})));
    assert_eq!(std::fs::read_to_string(project.join("made")).unwrap(), "b\n");
    let read = inspector.ask("resources/read", &["--uri", "pyro://workspaces/inspected/diff"]);
    assert!(read["contents"][0]["text"].as_str().unwrap().contains("+b"));
    let prompt = inspector.ask("prompts/get", &["--prompt-name", "cold-start"]);
    assert!(
        prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("workspace_create")
    );
    assert_eq!(inspector.call("workspace_stop", ws(json!({})))["state"], "stopped");
    assert_eq!(inspector.call("workspace_start", ws(json!({})))["state"], "started");
    inspector.call("workspace_delete", ws(json!({})));
    assert_eq!(inspector.call("workspace_list", json!({}))["workspaces"], json!([]));
}

#[test]
fn the_inspector_drives_a_whole_session_over_stdio() {
    inspector(false);
}

#[test]
fn the_inspector_drives_a_whole_session_over_http() {
    inspector(true);
}

/// The examples of the documentation, as they stand there.
#[test]
fn every_example_runs_as_it_is() {
    let Some(clients) = clients() else { return };
    for example in ["main_job.py", "cold_start.py", "repro_fix.py"] {
        let (host, project) = host();
        crate::harness::fill(
            &project,
            &[
                ("README.md", "# Sums\n\nRun the tests:\n\n    python3 -m unittest\n"),
                ("sums.py", "def total(numbers):\n    return sum(numbers[1:])\n"),
                (
                    "test_sums.py",
                    "import unittest\n\nfrom sums import total\n\n\nclass Total(unittest.TestCase):\n    \
                     def test_one(self):\n        self.assertEqual(total([2, 1]), 3)\n",
                ),
            ],
        );
        crate::harness::git(&project, &["add", "."]);
        crate::harness::git(&project, &["commit", "-qm", "sums"]);
        let mut command = client(&host, &clients, "python");
        let path = format!("{}/../../examples/mcp/{example}", env!("CARGO_MANIFEST_DIR"));
        let directory = Path::new(PYRO).parent().unwrap().display();
        let search = format!("{directory}:{}", std::env::var("PATH").unwrap());
        command.arg(path).arg(&project).env("PATH", search);
        let said = succeed(&mut command);
        assert!(!said.is_empty());
    }
}
