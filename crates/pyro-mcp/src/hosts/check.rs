//! Trying what a host is configured to start, as the host would.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pyro_contract::{Error, ErrorCode, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::{ChatHost, Scope, Surroundings, file, in_file};

/// Hosts give a server about so long to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The revision that every host speaks.
const REVISION: &str = "2025-06-18";

/// Of what a server said to stderr before it failed, so much is shown.
const WORDS_BYTES: u64 = 2 << 10;

/// No answer to these questions is longer.
const ANSWER_BYTES: u64 = 4 << 20;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// Whose configuration.
    pub client: ChatHost,
    /// Which file.
    pub file: PathBuf,
    /// What was started.
    pub command: Vec<String>,
    /// Name and version that the server gave.
    pub server: String,
    /// The revision of the protocol that was agreed on.
    pub protocol: String,
    /// The tools that it offers.
    pub tools: Vec<String>,
}

/// Starts what the host's file says and asks it for its tools.
pub async fn check(host: ChatHost, scope: Scope, around: &Surroundings) -> Result<Checked> {
    let path = around.file(host, scope);
    let absent = || {
        Error::new(ErrorCode::NotFound, format!("{} has no entry for pyro", path.display()))
            .with_hint(format!("`pyro mcp install {}` adds it", host.as_str()))
    };
    let text = file::read(&path)?.ok_or_else(absent)?;
    let entry = host.format().get(&text, &host.path()).map_err(|error| in_file(error, &path))?;
    let entry = entry.ok_or_else(absent)?;
    let command = words(&entry).ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidArgument,
            format!("{} starts no command for pyro", path.display()),
        )
        .with_hint(format!("`pyro mcp install {}` sets it right", host.as_str()))
    })?;
    let asked = tokio::time::timeout(PATIENCE, ask(&command, &entry)).await;
    let Answers { server, protocol, tools } = asked.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorCode::Timeout,
            format!("{:?} did not answer within {} s", command.join(" "), PATIENCE.as_secs()),
        )
        .with_hint("run it by hand to see why"))
    })?;
    Ok(Checked { client: host, file: path, command, server, protocol, tools })
}

/// Program and arguments, in either shape that hosts have.
fn words(entry: &Value) -> Option<Vec<String>> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
    };
    if let Some(all) = texts(&entry["command"]) {
        return (!all.is_empty()).then_some(all);
    }
    let program = entry["command"].as_str()?.to_owned();
    Some(std::iter::once(program).chain(texts(&entry["args"]).unwrap_or_default()).collect())
}

struct Answers {
    server: String,
    protocol: String,
    tools: Vec<String>,
}

async fn ask(words: &[String], entry: &Value) -> Result<Answers> {
    let (program, arguments) =
        words.split_first().map(|(p, a)| (p.as_str(), a)).unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let variables = entry["env"].as_object().or(entry["environment"].as_object());
    for (name, value) in variables.into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    let mut child = command.spawn().map_err(|error| {
        Error::io(format!("cannot start {program}"), &error)
            .with_hint("`pyro mcp install` writes the path of the program as it is now")
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::new(ErrorCode::Internal, "a child process has no pipes"));
    };
    let mut talk = Talk { stdin, stdout: BufReader::new(stdout) };
    match talk.through().await {
        Some(answers) => Ok(answers),
        None => {
            drop(talk);
            let mut said = String::new();
            let _ = stderr.take(WORDS_BYTES).read_to_string(&mut said).await;
            Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{:?} does not speak MCP", words.join(" ")),
            )
            .with_cause(said.trim().to_owned())
            .with_hint("run it by hand to see why"))
        }
    }
}

struct Talk {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Talk {
    async fn through(&mut self) -> Option<Answers> {
        let me = json!({"name": "pyro mcp check", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": REVISION, "capabilities": {}, "clientInfo": me});
        let welcome = self.request(1, "initialize", hello).await?;
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        let listed = self.request(2, "tools/list", json!({})).await?;
        let name = |tool: &Value| tool["name"].as_str().map(str::to_owned);
        let info = &welcome["serverInfo"];
        Some(Answers {
            server: format!("{} {}", info["name"].as_str()?, info["version"].as_str()?),
            protocol: welcome["protocolVersion"].as_str()?.to_owned(),
            tools: listed["tools"].as_array()?.iter().filter_map(name).collect(),
        })
    }

    async fn request(&mut self, id: u32, method: &str, params: Value) -> Option<Value> {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        loop {
            let mut line = String::new();
            (&mut self.stdout).take(ANSWER_BYTES).read_line(&mut line).await.ok()?;
            let mut message: Value = serde_json::from_str(&line).ok()?;
            if message["id"] == id {
                return Some(message["result"].take()).filter(|result| !result.is_null());
            }
        }
    }

    async fn say(&mut self, message: &Value) -> Option<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.ok()?;
        self.stdin.flush().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_in_the_shape_of_every_host() {
        let expected = vec!["pyro".to_owned(), "mcp".to_owned()];
        assert_eq!(words(&json!({"command": ["pyro", "mcp"]})), Some(expected.clone()));
        assert_eq!(words(&json!({"command": "pyro", "args": ["mcp"]})), Some(expected));
        assert_eq!(words(&json!({"url": "https://example.org"})), None);
    }

    #[tokio::test]
    async fn a_server_that_says_something_else_is_found_out() {
        let command = ["sh", "-c", "echo hello; echo oops >&2"].map(str::to_owned);
        let error = ask(&command, &json!({})).await.err().unwrap();
        assert!(error.cause.unwrap().contains("oops"), "{}", error.message);
        assert!(ask(&["/none".to_owned()], &json!({})).await.is_err());
    }
}
