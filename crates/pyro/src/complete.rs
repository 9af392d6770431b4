//! Completion of what only this host knows: names of workspaces, environments and the like.
//!
//! A shell asks this very program, by an environment variable (`clap_complete`'s dynamic
//! completion); whatever goes wrong then, it has nothing to offer and says nothing.

use std::ffi::OsStr;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::Home;

use crate::cli::Cli;

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";

/// Answers a shell that asks for completions, and ends; returns if none does.
pub(crate) fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// The script with which a shell learns to ask.
pub(crate) fn script(shell: clap_complete::Shell) -> Result<Vec<u8>> {
    let name = shell.to_string();
    let unknown = || {
        Error::new(ErrorCode::Unsupported, format!("there are no completions for {name}"))
            .with_hint("there are some for bash, elvish, fish, powershell and zsh")
    };
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter = shells.completer(&name).ok_or_else(unknown)?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "pyro", "pyro", "pyro", &mut script)
        .map_err(|error| Error::io("cannot write the script", &error))?;
    Ok(script)
}

/// The command line, with completers where an argument names something that exists.
fn command() -> Command {
    completed(Cli::command())
}

fn completed(command: Command) -> Command {
    command.mut_args(with_completer).mut_subcommands(completed)
}

fn with_completer(argument: Arg) -> Arg {
    let completer = match argument.get_id().as_str() {
        "workspace" => ArgValueCompleter::new(workspaces),
        "environment" => ArgValueCompleter::new(|typed: &OsStr| {
            these(typed, &["debian:12", "debian:12-base", "debian:12-build"])
        }),
        "engine" => ArgValueCompleter::new(|typed: &OsStr| {
            these(typed, &["auto", "firecracker", "qemu", "container"])
        }),
        "signal" => ArgValueCompleter::new(|typed: &OsStr| {
            these(typed, &["TERM", "INT", "KILL", "HUP", "USR1", "USR2", "STOP", "CONT"])
        }),
        _ => return argument,
    };
    argument.add(completer)
}

fn these(typed: &OsStr, known: &[&str]) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let fits = known.iter().filter(|name| name.starts_with(&*typed));
    fits.map(|name| CompletionCandidate::new(*name)).collect()
}

/// Names first, ids where there is no name or an id was begun.
fn workspaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let known = Home::from_environment().map(|home| home.names()).unwrap_or_default();
    let mut candidates = Vec::new();
    for (id, name, state) in known {
        let id = id.to_string();
        let shown = match name {
            Some(name) if !typed.starts_with("ws-") => name.to_string(),
            _ => id,
        };
        if shown.starts_with(&*typed) {
            candidates.push(CompletionCandidate::new(shown).help(Some(state.to_string().into())));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_that_names_a_workspace_is_completed() {
        fn check(command: &Command) {
            for argument in command.get_arguments().filter(|one| one.get_id() == "workspace") {
                assert!(argument.get::<ArgValueCompleter>().is_some(), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        let command = command();
        check(&command);
        command.debug_assert();
    }

    #[test]
    fn each_shell_has_a_script_that_asks_pyro() {
        for shell in
            [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
        {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains(VARIABLE) && script.contains("pyro"), "{script}");
        }
    }
}
