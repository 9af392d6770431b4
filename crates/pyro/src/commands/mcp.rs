//! `mcp serve | install | print-config | check`.

use std::path::{Path, PathBuf};

use pyro_contract::env_vars::{PYRO_CONFIG, PYRO_HOME};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_mcp::hosts::{self, Change, ChatHost, Launch, Outcome, Scope, Surroundings};
use pyro_mcp::{HttpOptions, Offer, Options, Server, Token, listen, serve_stdio};
use pyro_workspace::Pyro;

use crate::cli::{McpCommand, OfferArgs, ServeArgs};
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(command: McpCommand, program: PathBuf, ui: &Ui) -> Result<u8> {
    match command {
        McpCommand::Serve(args) => serve(args, program, ui).await?,
        McpCommand::Install { entry, undo: true, dry_run } => {
            let around = Surroundings::of_this_process()?;
            show(&hosts::uninstall(entry.client, entry.scope, &around, dry_run)?, ui)?;
        }
        McpCommand::Install { entry, undo: false, dry_run } => {
            let launch = launch(&entry.offer, entry.scope, &program)?;
            let around = Surroundings::of_this_process()?;
            let change = hosts::install(entry.client, entry.scope, &around, &launch, dry_run)?;
            show(&change, ui)?;
        }
        McpCommand::PrintConfig { entry } => {
            let launch = launch(&entry.offer, entry.scope, &program)?;
            let file = Surroundings::of_this_process()?.file(entry.client, entry.scope);
            let text = hosts::snippet(entry.client, &launch)?;
            if ui.json() {
                ui.print_json(&serde_json::json!({"file": file, "text": text}))?;
            } else {
                ui.note(&format!("{} reads {}", entry.client.as_str(), file.display()));
                write_stdout(text.as_bytes())?;
            }
        }
        McpCommand::Check { client, scope } => {
            let checked = hosts::check(client, scope, &Surroundings::of_this_process()?).await?;
            if ui.json() {
                ui.print_json(&checked)?;
            } else {
                let text = format!(
                    "{} starts {} ({})\n{}, MCP {}, {} tools: {}\n",
                    client.as_str(),
                    checked.command.join(" "),
                    checked.file.display(),
                    checked.server,
                    checked.protocol,
                    checked.tools.len(),
                    checked.tools.join(", ")
                );
                write_stdout(text.as_bytes())?;
            }
        }
    }
    Ok(0)
}

async fn serve(args: ServeArgs, program: PathBuf, ui: &Ui) -> Result<()> {
    let pyro = Pyro::from_environment(program)?;
    let home = pyro.home().root().to_owned();
    let offered = Options { remote_clients: args.allow_remote, ..options(&args.offer)? };
    let server = Server::new(pyro, offered);
    let Some(address) = args.http else { return serve_stdio(server).await };
    let token_file = args.token_file.unwrap_or_else(|| home.join("mcp-token"));
    let (token, source) = match Token::from_environment()? {
        Some(token) => (token, None),
        None => (Token::from_file(&token_file)?, Some(token_file)),
    };
    let options = HttpOptions {
        address,
        allow_remote: args.allow_remote,
        hosts: args.allowed_hosts,
        origins: args.allowed_origins,
    };
    let listening = listen(options).await?;
    if ui.json() {
        let document = serde_json::json!({"url": listening.url, "token_file": source});
        ui.print_json(&document)?;
    } else {
        let place = match &source {
            Some(file) => format!("in {}", file.display()),
            None => format!("${}", pyro_contract::env_vars::PYRO_MCP_TOKEN),
        };
        ui.note(&format!("serving MCP at {}; the bearer token is {place}", listening.url));
    }
    listening.serve(server, token).await
}

fn options(args: &OfferArgs) -> Result<Options> {
    let offer = match args.mode {
        Some(mode) => Offer::Mode(mode),
        None => Offer::Profile(args.profile.unwrap_or_default()),
    };
    Ok(Options {
        offer,
        project: args.project_path.as_deref().map(directory).transpose()?,
        allowed_paths: args
            .allowed_paths
            .iter()
            .map(|path| directory(path))
            .collect::<Result<_>>()?,
        remote_clients: false,
    })
}

/// A directory that is there, by its real path.
fn directory(path: &Path) -> Result<PathBuf> {
    let real = path
        .canonicalize()
        .map_err(|error| Error::io(format!("cannot use {}", path.display()), &error))?;
    if real.is_dir() {
        return Ok(real);
    }
    Err(Error::new(ErrorCode::InvalidArgument, format!("{} is not a directory", path.display()))
        .with_hint("name a directory"))
}

/// How a host starts the server that these arguments describe.
fn launch(args: &OfferArgs, scope: Scope, program: &Path) -> Result<Launch> {
    let mut arguments: Vec<String> = ["mcp", "serve"].map(str::to_owned).into();
    let mut option = |name: &str, value: &str| {
        arguments.extend([name.to_owned(), value.to_owned()]);
    };
    if let Some(mode) = args.mode {
        option("--mode", mode.as_str());
    }
    if let Some(profile) = args.profile {
        option("--profile", profile.as_str());
    }
    for (name, path) in args
        .project_path
        .iter()
        .map(|path| ("--project-path", path))
        .chain(args.allowed_paths.iter().map(|path| ("--allow-path", path)))
    {
        option(name, text(&directory(path)?)?);
    }
    // A file that a project shares must not name the paths of one machine.
    let (command, variables) = match scope {
        Scope::Project => ("pyro".to_owned(), Vec::new()),
        Scope::User => (text(program)?.to_owned(), variables()),
    };
    Ok(Launch { command, arguments, variables })
}

/// What this shell knows and a host that was started elsewhere would not.
fn variables() -> Vec<(String, String)> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut found = Vec::new();
    for name in [PYRO_HOME, PYRO_CONFIG] {
        found.extend(set(name).map(|value| (name.to_owned(), value)));
    }
    found
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidArgument,
            format!("{} is not UTF-8, and no configuration can hold it", path.display()),
        )
        .with_hint("choose another path")
    })
}

fn show(change: &Change, ui: &Ui) -> Result<()> {
    if ui.json() {
        return ui.print_json(change);
    }
    let (client, file) = (change.client.as_str(), change.file.display());
    let would = if change.dry_run { "would be " } else { "" };
    let done = match change.outcome {
        Outcome::Added => format!("pyro {would}added to {file}"),
        Outcome::Updated => format!("pyro {would}set right in {file}"),
        Outcome::Removed => format!("pyro {would}taken out of {file}"),
        Outcome::Unchanged => format!("{file} is as it should be"),
    };
    ui.note(&format!("{client}: {done}"));
    if !change.dry_run && matches!(change.outcome, Outcome::Added | Outcome::Updated) {
        let scope = if change.scope == Scope::Project { " --scope project" } else { "" };
        ui.note(&format!(
            "restart {}; `pyro mcp check {client}{scope}` tries it",
            program_of(change.client)
        ));
    }
    Ok(())
}

fn program_of(client: ChatHost) -> &'static str {
    match client {
        ChatHost::ClaudeCode => "Claude Code",
        ChatHost::Codex => "Codex",
        ChatHost::OpenCode => "OpenCode",
        ChatHost::Cursor => "Cursor",
        ChatHost::VsCode => "VS Code",
        ChatHost::Gemini => "the Gemini CLI",
    }
}
