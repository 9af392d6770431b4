//! One function for each command.

mod apply;
mod disk;
mod doctor;
mod environment;
mod exec;
mod file;
mod interactive;
mod journal;
mod mcp;
mod patch;
mod prepare;
mod review;
mod setup;
mod shell;
mod supervise;
mod sync;
mod terminal;
mod workspace;

use std::path::PathBuf;

use pyro_contract::diff::DiffRequest;
use pyro_contract::journal::ClientName;
use pyro_contract::{Error, Result};
use pyro_workspace::Pyro;

use crate::bench;
use crate::cli::{Command, WorkspaceCommand};
use crate::complete;
use crate::reference;
use crate::ui::{Ui, write_stdout};

pub(crate) use supervise::close_strangers;
pub(crate) use terminal::DetachKeys;

/// Runs a command; its exit code, unless it failed.
pub(crate) async fn dispatch(command: Command, ui: &Ui) -> Result<u8> {
    match command {
        Command::Supervise(args) => return supervise::run(args).await,
        Command::Warm(args) => return supervise::warm(args).await,
        Command::Freeze(args) => return prepare::freeze(args, own_program()?).await,
        Command::Completions { shell } => {
            return write_stdout(&complete::script(shell)?).map(|()| 0);
        }
        Command::Mcp(command) => return mcp::run(command, own_program()?, ui).await,
        Command::Bench(args) => return bench::run(args, own_program()?, ui).await,
        Command::Contract if ui.json() => {
            return ui.print_json(&pyro_contract::document::contract()).map(|()| 0);
        }
        Command::Contract => return write_stdout(reference::markdown().as_bytes()).map(|()| 0),
        _ => {}
    }
    let pyro = Pyro::from_environment(own_program()?)?.for_client(ClientName::new("cli"));
    match command {
        Command::Run(args) => exec::run_once(&pyro, *args, ui).await,
        Command::Prepare(args) => prepare::run(&pyro, args, ui).await,
        Command::Env(command) => environment::run(&pyro, command, ui).await,
        Command::Setup(command) => setup::run(&pyro, command, ui).await,
        Command::Doctor(args) => doctor::run(&pyro, args, ui).await,
        Command::Workspace(command) => match *command {
            WorkspaceCommand::Exec { workspace, exec } => {
                exec::in_workspace(&pyro, &workspace, exec, ui).await
            }
            WorkspaceCommand::Diff {
                workspace,
                stat,
                name_only,
                nul,
                output,
                patch,
                max_patch_bytes,
            } => {
                if ui.json() && output.is_none() {
                    let request = DiffRequest { workspace, patch, max_patch_bytes };
                    return review::diff_document(&pyro, &request, ui).await;
                }
                let form = review::DiffForm::new(stat, name_only, nul, output);
                review::diff(&pyro, &workspace, form, ui).await
            }
            WorkspaceCommand::Export { workspace, path, output, force } => {
                review::export(&pyro, &workspace, path, output, force, ui).await
            }
            WorkspaceCommand::Sync(command) => sync::run(&pyro, command, ui).await,
            WorkspaceCommand::Apply(args) => apply::run(&pyro, args, ui).await,
            WorkspaceCommand::File(command) => file::run(&pyro, command, ui).await,
            WorkspaceCommand::Patch(command) => patch::run(&pyro, command, ui).await,
            WorkspaceCommand::Shell(command) => shell::run(&pyro, command, ui).await,
            WorkspaceCommand::Disk(command) => disk::run(&pyro, command, ui).await,
            other => workspace::run(&pyro, other, ui).await,
        },
        Command::Supervise(_)
        | Command::Freeze(_)
        | Command::Warm(_)
        | Command::Bench(_)
        | Command::Mcp(_)
        | Command::Completions { .. }
        | Command::Contract => Ok(0),
    }
}

/// This program, which is also the supervisor.
fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Error::io("cannot find pyro's own program", &error))
}
