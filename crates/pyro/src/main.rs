//! The command line: parses, asks the facade, shows. No logic of its own.

mod bench;
mod cli;
mod commands;
mod complete;
#[cfg(test)]
mod parity;
mod reference;
mod show;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;
use pyro_contract::env_vars::PYRO_LOG;
use pyro_contract::{Error, ErrorCode, Result};

use cli::{Cli, Command};
use ui::Ui;

/// pyro itself failed, in `run` and `exec`, whose exit codes are otherwise the command's.
const FAILED_AROUND_COMMAND: u8 = 125;
const FAILED: u8 = 1;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    complete::answer();
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env(PYRO_LOG)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default_filter(&cli.command)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain of a log that cannot be written with `eprintln!`, which panics if
        // stderr is that log; and a full disk must not end a supervisor.
        .log_internal_errors(false)
        .init();

    let ui = Ui::new(cli.global);
    let failed = match cli.command {
        Command::Run(_) => FAILED_AROUND_COMMAND,
        Command::Workspace(ref command)
            if matches!(
                **command,
                cli::WorkspaceCommand::Exec { .. }
                    | cli::WorkspaceCommand::Command(cli::CommandCommand::Wait { .. })
            ) =>
        {
            FAILED_AROUND_COMMAND
        }
        _ => FAILED,
    };
    let code = run(cli, &ui).unwrap_or_else(|error| {
        if error.code == ErrorCode::Io && ui::is_closed_pipe(&error) {
            // Whoever read our output has had enough; that is no failure of ours.
            return 0;
        }
        ui.error(&error);
        if error.code == ErrorCode::Cancelled { INTERRUPTED } else { failed }
    });
    // A thread may sit in a read of stdin that never ends.
    std::process::exit(i32::from(code));
}

fn default_filter(command: &Command) -> &'static str {
    match command {
        Command::Supervise(_) | Command::Warm(_) => "info",
        _ => "error",
    }
}

fn run(cli: Cli, ui: &Ui) -> Result<u8> {
    match &cli.command {
        Command::Supervise(args) => commands::close_strangers(args.lock_fd)?,
        Command::Warm(args) => commands::close_strangers(args.keeper_fd)?,
        _ => {}
    }
    let runtime = match cli.command {
        // One thread is enough for a supervisor, and small.
        Command::Supervise(_) | Command::Warm(_) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let runtime = runtime.map_err(|error| Error::io("cannot start the runtime", &error))?;
    let ended = runtime.block_on(commands::dispatch(cli.command, ui));
    // Not by dropping it, which would wait for threads that sit in a read for ever.
    runtime.shutdown_background();
    ended
}
