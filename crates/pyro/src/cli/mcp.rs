//! `pyro mcp`: the server for models, and its entry in chat hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use pyro_mcp::hosts::{ChatHost, Scope};
use pyro_mcp::{Mode, Profile};

use super::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Serve workspaces to a model over MCP: on stdin and stdout, or over HTTP
    #[command(after_help = "\
Examples:
  pyro mcp serve
  pyro mcp serve --profile full --project-path ~/src/project
  pyro mcp serve --mode repro-fix
  pyro mcp serve --http 127.0.0.1:8931

Profiles: run (one command in a machine of its own), core (the life of a workspace), full (everything).
Modes have fewer tools and a prompt for one job: repro-fix, inspect, cold-start, review-eval.
A workspace that is created without a seed holds the tracked files of the project, which is
--project-path, else what the client has open. Calls reach no other path of this host.")]
    Serve(ServeArgs),
    /// Let a chat host start pyro: add it to the host's configuration
    #[command(after_help = "\
Examples:
  pyro mcp install claude-code
  pyro mcp install codex --profile full
  pyro mcp install vscode --scope project
  pyro mcp install cursor --dry-run
  pyro mcp install gemini --undo

What else is in the file stays, comments too. Done again, it does nothing.")]
    Install {
        #[command(flatten)]
        entry: EntryArgs,
        /// Take the entry out again
        #[arg(long)]
        undo: bool,
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Print what `install` would write, to add it by hand
    #[command(after_help = "Example:\n  pyro mcp print-config opencode")]
    PrintConfig {
        #[command(flatten)]
        entry: EntryArgs,
    },
    /// Start what a chat host is configured to start, and ask it for its tools
    #[command(after_help = "\
Examples:
  pyro mcp check claude-code
  pyro mcp check vscode --scope project --json | jq .tools")]
    Check {
        /// Which client: claude-code, codex, opencode, cursor, vscode, gemini
        #[arg(value_parser = parse::<ChatHost>)]
        client: ChatHost,
        /// The configuration of the user, or of the project in the current directory
        #[arg(long, value_name = "user|project", value_parser = parse::<Scope>, default_value = "user")]
        scope: Scope,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) offer: OfferArgs,
    /// Listen here for Streamable HTTP instead (ADDRESS:PORT; port 0 takes any that is free)
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,
    /// With --http: also listen where other machines can connect
    #[arg(long, requires = "http")]
    pub(crate) allow_remote: bool,
    /// With --http: another name by which clients call this host; may be given several times
    #[arg(long = "allow-host", value_name = "NAME", requires = "http")]
    pub(crate) allowed_hosts: Vec<String>,
    /// With --http: let web pages of this origin connect; may be given several times
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http")]
    pub(crate) allowed_origins: Vec<String>,
    /// With --http: the file of the token, made if it is not there [default: $PYRO_HOME/mcp-token]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "http")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What a server offers, and what of the host it reaches.
#[derive(Debug, Args)]
pub(crate) struct OfferArgs {
    /// Which tools: run, core, full [default: core]
    #[arg(long, value_parser = parse::<Profile>)]
    pub(crate) profile: Option<Profile>,
    /// The tools and the prompt of one job: repro-fix, inspect, cold-start, review-eval
    #[arg(long, value_parser = parse::<Mode>, conflicts_with = "profile")]
    pub(crate) mode: Option<Mode>,
    /// The user's project; without it, what the client says it has open
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) project_path: Option<PathBuf>,
    /// Another directory that seeds come from and exports go to; may be given several times
    #[arg(long = "allow-path", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) allowed_paths: Vec<PathBuf>,
}

/// An entry in the configuration of a host.
#[derive(Debug, Args)]
pub(crate) struct EntryArgs {
    /// Which client: claude-code, codex, opencode, cursor, vscode, gemini
    #[arg(value_parser = parse::<ChatHost>)]
    pub(crate) client: ChatHost,
    /// For the user, or for everybody who opens the project in the current directory
    #[arg(long, value_name = "user|project", value_parser = parse::<Scope>, default_value = "user")]
    pub(crate) scope: Scope,
    #[command(flatten)]
    pub(crate) offer: OfferArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| "write it as 127.0.0.1:8931".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port() {
        assert_eq!(address("localhost:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(address("[::1]:0").unwrap().to_string(), "[::1]:0");
        assert!(address("127.0.0.1").is_err());
        assert!(address("example.org:80").is_err());
    }
}
