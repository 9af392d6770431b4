//! The protocol by hand, for what no proper client would do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Host, fill, git};

/// Nothing here takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A host whose workspaces are containers, with a project that git tracks.
pub(super) fn host() -> (Host, std::path::PathBuf) {
    let host = Host::new();
    let project = host.path("the project ü");
    fill(&project, &[("greeting", "hello\n")]);
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-qm", "first"]);
    (host, project)
}

/// `pyro …` with containers for workspaces.
pub(super) fn pyro(host: &Host, args: &[&str]) -> Command {
    let mut command = host.command(args);
    command.env("PYRO_ENGINE", "container").env("PYRO_MCP_TOKEN", TOKEN);
    command
}

/// A server over stdio, spoken to line by line.
pub(super) struct OverStdio {
    pub(super) child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    id: u64,
}

impl OverStdio {
    pub(super) fn start(host: &Host, args: &[&str]) -> Self {
        let mut server = Self::bare(host, args);
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let welcome = server.request("initialize", hello);
        assert_eq!(welcome["result"]["serverInfo"]["name"], "pyro", "{welcome}");
        server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        server
    }

    /// The same before anything was said.
    pub(super) fn bare(host: &Host, args: &[&str]) -> Self {
        let mut child = pyro(host, &[&["mcp", "serve"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, id: 0 }
    }

    pub(super) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
        stdin.flush().unwrap();
    }

    /// Asks, and does not wait for the answer; the id of the question.
    pub(super) fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.id += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params});
        self.say(&message.to_string());
        self.id
    }

    pub(super) fn ask_tool(&mut self, tool: &str, arguments: Value) -> u64 {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub(super) fn hear(&mut self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("the server says nothing")
    }

    /// The next message that is an answer.
    pub(super) fn answer(&mut self) -> Value {
        loop {
            let message = self.hear();
            if message.get("id").is_some() {
                return message;
            }
        }
    }

    pub(super) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        let answer = self.answer();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The next message that has an id, or says what went wrong with one that had none.
    pub(super) fn answer_to_anything(&mut self) -> Value {
        loop {
            let message = self.hear();
            if message.get("id").is_some() || message.get("error").is_some() {
                return message;
            }
        }
    }

    /// Nothing more will be asked.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Calls a tool, which may fail; its result.
    pub(super) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))["result"].clone()
    }

    /// Calls a tool, which must not fail; its structured result.
    #[track_caller]
    pub(super) fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool, which must fail; its error.
    #[track_caller]
    pub(super) fn error(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool}: {result}");
        let error = result["structuredContent"].clone();
        assert!(error["hint"].is_string(), "an error without a hint: {error}");
        error
    }
}

impl Drop for OverStdio {
    fn drop(&mut self) {
        self.stdin = None;
        if !std::thread::panicking() {
            wait_for_end(&mut self.child);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn wait_for_end(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the server does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until so many commands run in a workspace.
#[track_caller]
pub(super) fn wait_for_commands(host: &Host, workspace: &str, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while host.status(workspace)["running_commands"] != count {
        assert!(Instant::now() < deadline, "{}", host.status(workspace));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True if a program of this name runs in a workspace.
pub(super) fn runs(host: &Host, workspace: &str, program: &str) -> bool {
    let script = format!("pgrep -x {program} || true");
    !host.sh(workspace, &script).trim().is_empty()
}

/// A server over HTTP.
pub(super) struct OverHttp {
    pub(super) child: Child,
    pub(super) url: String,
}

impl OverHttp {
    pub(super) fn start(host: &Host, args: &[&str]) -> Self {
        let all = [&["--json", "mcp", "serve", "--http", "127.0.0.1:0"], args].concat();
        let mut child = pyro(host, &all).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        let started: Value = loop {
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "the server did not start");
            text.push(byte[0]);
            if let Ok(document) = serde_json::from_slice(&text) {
                break document;
            }
        };
        Self { child, url: started["url"].as_str().unwrap().to_owned() }
    }

    pub(super) fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/mcp")
    }

    /// Posts a request of the newest revision, which has no sessions, with further header lines in
    /// the place of the usual ones of the same name.
    pub(super) fn post(&self, method: &str, params: Value, headers: &[(&str, &str)]) -> TcpStream {
        let mut params = params;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let authorization = format!("Bearer {TOKEN}");
        let usual = [
            ("Host", self.address()),
            ("Authorization", &authorization),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", method),
            ("Mcp-Name", &name),
        ];
        let replaced = |name: &str| headers.iter().any(|(one, _)| *one == name);
        let kept = usual.into_iter().filter(|(name, value)| !replaced(name) && !value.is_empty());
        self.send(
            &kept.chain(headers.iter().copied()).collect::<Vec<_>>(),
            message.to_string().as_bytes(),
        )
    }

    pub(super) fn send(&self, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = "POST /mcp HTTP/1.1\r\nConnection: close\r\n".to_owned();
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(body);
        stream
    }
}

/// Status and body of an answer.
pub(super) fn answer_of(mut stream: TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or_else(|| panic!("no answer: {answer}")), body.to_owned())
}

impl Drop for OverHttp {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !std::thread::panicking() {
            wait_for_end(&mut self.child);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
