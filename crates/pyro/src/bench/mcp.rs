//! What a tool call over MCP adds to the operation that it calls.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pyro_contract::name::WorkspaceRef;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Call, Pyro};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Times, timed};

/// Over HTTP, the revision without sessions.
const REVISION: &str = "2026-07-28";

/// `true` in a workspace, three ways, turn about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct McpReport {
    /// The operation by itself, in this process.
    pub(crate) operation: Option<Times>,
    /// A tool call over stdin and stdout.
    pub(crate) stdio: Option<Times>,
    /// A tool call over HTTP, on a connection of its own.
    pub(crate) http: Option<Times>,
    /// What the middle call over stdio takes longer than the operation.
    pub(crate) stdio_adds_ms: Option<f64>,
    /// The same over HTTP.
    pub(crate) http_adds_ms: Option<f64>,
}

impl McpReport {
    /// A call may add so much.
    pub(super) const WANTED_MS: f64 = 5.0;
}

/// Measures in a workspace that is started.
pub(super) async fn measure(
    pyro: &Pyro,
    program: &Path,
    workspace: &WorkspaceRef,
    rounds: u32,
) -> Result<McpReport> {
    let request = json!({"workspace": workspace.as_str(), "argv": ["true"]});
    let mut stdio = OverStdio::start(program).await?;
    let mut http = OverHttp::start(program).await?;
    let (mut operation, mut over_stdio, mut over_http) = (Vec::new(), Vec::new(), Vec::new());
    let call = Call::default();
    for _ in 0..rounds {
        operation.push(timed(pyro.perform("workspace_exec", request.clone(), &call)).await?.1);
        over_stdio.push(timed(stdio.call(&request)).await?.1);
        over_http.push(timed(http.call(&request)).await?.1);
    }
    let adds = |longer: &[Duration]| {
        let p50 = |times: &[Duration]| Some(Times::of(times.to_vec())?.p50_ms);
        Some(p50(longer)? - p50(&operation)?)
    };
    Ok(McpReport {
        stdio_adds_ms: adds(&over_stdio),
        http_adds_ms: adds(&over_http),
        operation: Times::of(operation),
        stdio: Times::of(over_stdio),
        http: Times::of(over_http),
    })
}

fn failed(what: &str) -> Error {
    Error::new(ErrorCode::Internal, format!("the MCP server {what}"))
        .with_hint("`pyro mcp serve` by hand shows why")
}

fn check(answer: &Value) -> Result<()> {
    if answer["result"]["structuredContent"]["exit_code"] == 0 {
        return Ok(());
    }
    Err(failed("did not run the command").with_cause(answer.to_string()))
}

struct OverStdio {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    id: u64,
}

impl OverStdio {
    async fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["mcp", "serve"]).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| Error::io("cannot start pyro", &error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("has no pipes"));
        };
        let mut server = Self { _child: child, stdin, stdout: BufReader::new(stdout), id: 0 };
        let me = json!({"name": "pyro bench", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": me});
        server.request("initialize", &hello).await?;
        server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        Ok(server)
    }

    async fn call(&mut self, request: &Value) -> Result<()> {
        let params = json!({"name": "workspace_exec", "arguments": request});
        check(&self.request("tools/call", &params).await?)
    }

    async fn request(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.id += 1;
        let id = self.id;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.map_err(|_| failed("is gone"))?;
        serde_json::from_str(&line).map_err(|_| failed("gave no answer"))
    }

    async fn say(&mut self, message: &Value) -> Result<()> {
        let line = format!("{message}\n");
        self.stdin.write_all(line.as_bytes()).await.map_err(|_| failed("is gone"))
    }
}

struct OverHttp {
    _child: Child,
    address: String,
    token: String,
}

impl OverHttp {
    async fn start(program: &Path) -> Result<Self> {
        let token: String = format!("{:032x}", rand::random::<u128>());
        let mut command = Command::new(program);
        command.args(["--json", "mcp", "serve", "--http", "127.0.0.1:0"]).kill_on_drop(true);
        command.env(pyro_contract::env_vars::PYRO_MCP_TOKEN, &token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| Error::io("cannot start pyro", &error))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("has no pipes"))?;
        // The document ends with a brace at the beginning of a line, or is one line.
        let mut lines = BufReader::new(stdout).lines();
        let mut text = String::new();
        let started: Value = loop {
            let line = lines.next_line().await.ok().flatten().ok_or_else(|| failed("is gone"))?;
            text += &line;
            if let Ok(document) = serde_json::from_str(&text) {
                break document;
            }
        };
        let url = started["url"].as_str().unwrap_or_default();
        let address = url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        Ok(Self { _child: child, address, token })
    }

    async fn call(&mut self, request: &Value) -> Result<()> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo":
                {"name": "pyro bench", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": "workspace_exec", "arguments": request, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            .to_string();
        let (address, token, length) = (&self.address, &self.token, body.len());
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             MCP-Protocol-Version: {REVISION}\r\nMcp-Method: tools/call\r\n\
             Mcp-Name: workspace_exec\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let gone = |_| failed("is gone");
        let mut stream = TcpStream::connect(address).await.map_err(gone)?;
        stream.set_nodelay(true).map_err(gone)?;
        stream.write_all(format!("{head}{body}").as_bytes()).await.map_err(gone)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(gone)?;
        let data = answer.lines().filter_map(|line| line.strip_prefix("data:"));
        let found = data.filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok());
        let answered = found.into_iter().find(|message| message["id"] == 1);
        check(&answered.ok_or_else(|| failed("gave no answer").with_cause(answer.clone()))?)
    }
}
