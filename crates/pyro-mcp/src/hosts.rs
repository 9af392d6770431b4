//! pyro's entry in the configuration of chat hosts: added, looked at, tried, taken out again.
//!
//! A host's file is edited as text: what else is in it, comments and order included, stays as it is.

mod check;
mod file;
mod json;
mod toml;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use pyro_contract::{Error, ErrorCode, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use check::{Checked, check};

/// What our entry is called.
const NAME: &str = "pyro";

/// Codex gives a tool 60 seconds unless told otherwise; fetching an environment takes minutes.
const CODEX_TOOL_SECONDS: u64 = 3600;

/// A program that starts MCP servers for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChatHost {
    /// Anthropic's Claude Code.
    ClaudeCode,
    /// OpenAI's Codex: command line, app and extension.
    Codex,
    /// OpenCode.
    #[serde(rename = "opencode")]
    OpenCode,
    /// The editor Cursor.
    Cursor,
    /// Visual Studio Code.
    #[serde(rename = "vscode")]
    VsCode,
    /// Google's Gemini CLI.
    Gemini,
}

impl ChatHost {
    /// Every host.
    pub const ALL: &[Self] =
        &[Self::ClaudeCode, Self::Codex, Self::OpenCode, Self::Cursor, Self::VsCode, Self::Gemini];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Gemini => "gemini",
        }
    }
}

impl FromStr for ChatHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().find(|host| host.as_str() == text).copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|host| host.as_str()).collect();
            Error::new(ErrorCode::InvalidArgument, format!("there is no client named {text:?}"))
                .with_hint(format!(
                    "choose one of {}; for any other, let it start `pyro mcp serve`",
                    names.join(", ")
                ))
        })
    }
}

/// For whom an entry is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// For this user, whatever project is open.
    #[default]
    User,
    /// For everybody who opens the project in the current directory.
    Project,
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "user" => Ok(Self::User),
            "project" => Ok(Self::Project),
            _ => Err(Error::new(ErrorCode::InvalidArgument, format!("there is no scope {text:?}"))
                .with_hint("choose user or project")),
        }
    }
}

/// How a host starts the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub command: String,
    /// `mcp serve` and its options.
    pub arguments: Vec<String>,
    /// Variables that the host would not pass on by itself.
    pub variables: Vec<(String, String)>,
}

/// Where hosts keep their files.
#[derive(Debug, Clone)]
pub struct Surroundings {
    home: PathBuf,
    config: PathBuf,
    claude: Option<PathBuf>,
    codex: Option<PathBuf>,
    project: PathBuf,
}

impl Surroundings {
    /// Of the user whose process this is, and of the current directory.
    pub fn of_this_process() -> Result<Self> {
        let variable =
            |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = variable("HOME").ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, "HOME is not set, so no file can be found")
                .with_hint("set HOME to your home directory")
        })?;
        let project = std::env::current_dir()
            .map_err(|error| Error::io("cannot find the current directory", &error))?;
        Ok(Self {
            config: variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            claude: variable("CLAUDE_CONFIG_DIR"),
            codex: variable("CODEX_HOME"),
            home,
            project,
        })
    }

    /// The file that a host reads.
    #[must_use]
    pub fn file(&self, host: ChatHost, scope: Scope) -> PathBuf {
        let (home, project) = (&self.home, &self.project);
        match (host, scope) {
            (ChatHost::ClaudeCode, Scope::User) => {
                self.claude.as_ref().unwrap_or(home).join(".claude.json")
            }
            (ChatHost::ClaudeCode, Scope::Project) => project.join(".mcp.json"),
            (ChatHost::Codex, Scope::User) => {
                self.codex.clone().unwrap_or_else(|| home.join(".codex")).join("config.toml")
            }
            (ChatHost::Codex, Scope::Project) => project.join(".codex/config.toml"),
            (ChatHost::OpenCode, Scope::User) => either(&self.config.join("opencode")),
            (ChatHost::OpenCode, Scope::Project) => either(project),
            (ChatHost::Cursor, Scope::User) => home.join(".cursor/mcp.json"),
            (ChatHost::Cursor, Scope::Project) => project.join(".cursor/mcp.json"),
            (ChatHost::VsCode, Scope::User) => self.config.join("Code/User/mcp.json"),
            (ChatHost::VsCode, Scope::Project) => project.join(".vscode/mcp.json"),
            (ChatHost::Gemini, Scope::User) => home.join(".gemini/settings.json"),
            (ChatHost::Gemini, Scope::Project) => project.join(".gemini/settings.json"),
        }
    }
}

/// OpenCode reads either name; the one that is there.
fn either(directory: &Path) -> PathBuf {
    let commented = directory.join("opencode.jsonc");
    if commented.exists() { commented } else { directory.join("opencode.json") }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There was no entry.
    Added,
    /// There was another.
    Updated,
    /// The entry was there as it should be, or was not there and should not be.
    Unchanged,
    /// There was an entry.
    Removed,
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whose file.
    pub client: ChatHost,
    /// For whom.
    pub scope: Scope,
    /// Which file.
    pub file: PathBuf,
    /// What became of it.
    pub outcome: Outcome,
    /// True if nothing was written.
    pub dry_run: bool,
}

/// The two shapes of configuration file, as text in and text out.
trait Format {
    /// The text with the entry in it; `None` if it is there already.
    fn put(
        &self,
        text: &str,
        path: &[&str],
        entry: &Map<String, Value>,
    ) -> Result<Option<(String, Outcome)>>;
    /// The text without the entry; `None` if it is not there. What only held the entry goes too.
    fn take(&self, text: &str, path: &[&str]) -> Result<Option<String>>;
    /// The entry.
    fn get(&self, text: &str, path: &[&str]) -> Result<Option<Value>>;
    /// True if nothing is left in it.
    fn is_empty(&self, text: &str) -> bool;
}

impl ChatHost {
    fn format(self) -> &'static dyn Format {
        match self {
            Self::Codex => &toml::Toml,
            _ => &json::Json,
        }
    }

    /// Where in the file our entry stands.
    fn path(self) -> [&'static str; 2] {
        match self {
            Self::Codex => ["mcp_servers", NAME],
            Self::OpenCode => ["mcp", NAME],
            Self::VsCode => ["servers", NAME],
            Self::ClaudeCode | Self::Cursor | Self::Gemini => ["mcpServers", NAME],
        }
    }

    fn entry(self, launch: &Launch) -> Map<String, Value> {
        let Launch { command, arguments, variables } = launch;
        let variables: Map<String, Value> =
            variables.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let words: Vec<&String> = std::iter::once(command).chain(arguments).collect();
        let (entry, variables_key) = match self {
            Self::OpenCode => {
                (json!({"type": "local", "command": words, "enabled": true}), "environment")
            }
            Self::ClaudeCode | Self::VsCode => {
                (json!({"type": "stdio", "command": command, "args": arguments}), "env")
            }
            Self::Codex => (
                json!({
                    "command": command, "args": arguments, "tool_timeout_sec": CODEX_TOOL_SECONDS,
                }),
                "env",
            ),
            Self::Cursor | Self::Gemini => (json!({"command": command, "args": arguments}), "env"),
        };
        let Value::Object(mut entry) = entry else { return Map::new() };
        if !variables.is_empty() {
            entry.insert(variables_key.into(), variables.into());
        }
        entry
    }
}

/// Adds our entry to a host's file, or sets it right.
pub fn install(
    host: ChatHost,
    scope: Scope,
    around: &Surroundings,
    launch: &Launch,
    dry_run: bool,
) -> Result<Change> {
    let path = around.file(host, scope);
    let kept = file::read(&path)?;
    let text = kept.as_deref().unwrap_or_default();
    let put = host.format().put(text, &host.path(), &host.entry(launch));
    let outcome = match put.map_err(|error| in_file(error, &path))? {
        None => Outcome::Unchanged,
        Some((text, outcome)) => {
            if !dry_run {
                file::write(&path, &text, scope == Scope::User)?;
            }
            outcome
        }
    };
    Ok(Change { client: host, scope, file: path, outcome, dry_run })
}

/// Takes our entry out of a host's file. A file in which nothing else was is removed.
pub fn uninstall(
    host: ChatHost,
    scope: Scope,
    around: &Surroundings,
    dry_run: bool,
) -> Result<Change> {
    let path = around.file(host, scope);
    let change = |outcome| Change { client: host, scope, file: path.clone(), outcome, dry_run };
    let Some(text) = file::read(&path)? else { return Ok(change(Outcome::Unchanged)) };
    let taken = host.format().take(&text, &host.path()).map_err(|error| in_file(error, &path))?;
    let Some(text) = taken else { return Ok(change(Outcome::Unchanged)) };
    if !dry_run {
        match host.format().is_empty(&text) {
            true => file::remove(&path)?,
            false => file::write(&path, &text, scope == Scope::User)?,
        }
    }
    Ok(change(Outcome::Removed))
}

/// What a file would hold with our entry alone, for those who edit it themselves.
pub fn snippet(host: ChatHost, launch: &Launch) -> Result<String> {
    let put = host.format().put("", &host.path(), &host.entry(launch))?;
    Ok(put.map(|(text, _)| text).unwrap_or_default())
}

fn in_file(error: Error, path: &Path) -> Error {
    let cause = error.message.clone();
    Error::new(error.code, format!("{} cannot be edited; nothing was written", path.display()))
        .with_cause(cause)
        .with_hint("mend the file, or add what `pyro mcp print-config` prints by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(arguments: &[&str]) -> Launch {
        Launch {
            command: "/usr/bin/pyro".into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            variables: vec![("PYRO_HOME".into(), "/srv/ü \"pyro\"".into())],
        }
    }

    fn around(root: &Path) -> Surroundings {
        let (home, project) = (root.join("home"), root.join("project"));
        std::fs::create_dir_all(&project).unwrap();
        Surroundings { config: home.join(".config"), claude: None, codex: None, home, project }
    }

    fn every() -> impl Iterator<Item = (ChatHost, Scope)> {
        let scopes = [Scope::User, Scope::Project];
        ChatHost::ALL.iter().flat_map(move |host| scopes.map(|scope| (*host, scope)))
    }

    #[test]
    fn an_entry_comes_once_is_set_right_and_goes_without_a_trace() {
        for (host, scope) in every() {
            let temp = tempfile::tempdir().unwrap();
            let around = around(temp.path());
            let file = around.file(host, scope);
            let put = |arguments: &[&str], dry| {
                install(host, scope, &around, &launch(arguments), dry).unwrap().outcome
            };
            assert_eq!(put(&["mcp", "serve"], true), Outcome::Added);
            assert!(!file.exists(), "{host:?}: a dry run wrote");
            assert_eq!(put(&["mcp", "serve"], false), Outcome::Added);
            assert_eq!(put(&["mcp", "serve"], false), Outcome::Unchanged);
            assert_eq!(put(&["mcp", "serve", "--profile", "full"], false), Outcome::Updated);
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text.matches("full").count(), 1, "{text}");
            let taken = |dry| uninstall(host, scope, &around, dry).unwrap().outcome;
            assert_eq!(taken(true), Outcome::Removed);
            assert!(file.exists());
            assert_eq!(taken(false), Outcome::Removed);
            assert!(!file.exists(), "{host:?}: {}", std::fs::read_to_string(&file).unwrap());
            assert_eq!(taken(false), Outcome::Unchanged);
        }
    }

    #[test]
    fn what_else_is_in_a_file_stays_to_the_byte() {
        let json = "// mine\n{\n  /* a */ \"theme\": \"dark\", // b\n  \"KEY\": {\n    \"other\": {\n      \
                    \"command\": \"x\" // c\n    }\n  },\n  \"last\": [1, 2]\n}\n";
        let toml = "# mine\nmodel = \"m\" # a\n\n[mcp_servers.other]\ncommand = \"x\" # b\n\n[tui]\nx = 1 # c\n";
        for (host, scope) in every() {
            let temp = tempfile::tempdir().unwrap();
            let around = around(temp.path());
            let file = around.file(host, scope);
            let text = match host {
                ChatHost::Codex => toml.to_owned(),
                _ => json.replace("KEY", host.path()[0]),
            };
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
            install(host, scope, &around, &launch(&["mcp", "serve"]), false).unwrap();
            let edited = std::fs::read_to_string(&file).unwrap();
            for comment in ["mine", "a", "b", "c"] {
                assert!(edited.contains(comment), "{edited}");
            }
            assert!(edited.contains("/usr/bin/pyro"), "{edited}");
            uninstall(host, scope, &around, false).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{host:?}");
        }
    }

    #[test]
    fn what_the_user_added_to_our_entry_stays() {
        let temp = tempfile::tempdir().unwrap();
        let around = around(temp.path());
        let file = around.file(ChatHost::Cursor, Scope::User);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = "{\"mcpServers\": {\"pyro\": {\"command\": \"old\", \"disabled\": true}}}";
        std::fs::write(&file, text).unwrap();
        let change = install(ChatHost::Cursor, Scope::User, &around, &launch(&["mcp"]), false);
        assert_eq!(change.unwrap().outcome, Outcome::Updated);
        let edited: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let entry = &edited["mcpServers"]["pyro"];
        assert_eq!(
            (&entry["command"], &entry["disabled"]),
            (&json!("/usr/bin/pyro"), &json!(true))
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_left_as_it_is() {
        for (host, scope) in every() {
            for text in [
                "{ \"a\": ",
                "= 3",
                "[1]",
                "{\"mcpServers\": 3, \"mcp\": 3, \"servers\": 3}",
                "mcp_servers = 3",
                "\"text\"",
                "{}}",
            ] {
                let temp = tempfile::tempdir().unwrap();
                let around = around(temp.path());
                let file = around.file(host, scope);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, text).unwrap();
                let tried = install(host, scope, &around, &launch(&["mcp"]), false);
                if let Err(error) = tried {
                    assert!(error.hint.is_some() && error.cause.is_some(), "{error:?}");
                    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{host:?}");
                } else {
                    // TOML takes `[1]` as a table of that name.
                    assert_eq!((host, text), (ChatHost::Codex, "[1]"));
                }
            }
        }
    }

    #[test]
    fn what_is_printed_is_what_would_be_written() {
        for host in ChatHost::ALL {
            let temp = tempfile::tempdir().unwrap();
            let around = around(temp.path());
            let launch = launch(&["mcp", "serve"]);
            install(*host, Scope::User, &around, &launch, false).unwrap();
            let written = std::fs::read_to_string(around.file(*host, Scope::User)).unwrap();
            assert_eq!(snippet(*host, &launch).unwrap(), written);
        }
    }
}
