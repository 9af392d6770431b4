//! `workspace create | list | status | start | stop | delete | logs`.

use pyro_contract::progress::Progress as _;
use pyro_contract::workspace::{CreateRequest, Seed, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::Pyro;

use super::journal;
use crate::cli::{CreateArgs, MachineArgs, WorkspaceCommand};
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: WorkspaceCommand, ui: &Ui) -> Result<u8> {
    match command {
        WorkspaceCommand::Create(args) => return create(pyro, args, ui).await,
        WorkspaceCommand::List => return list(pyro, ui).await,
        WorkspaceCommand::Status { workspace } => {
            let status = pyro.status(&workspace).await?;
            if ui.json() {
                ui.print_json(&status)?;
            } else {
                write_stdout(show::workspace(&status).as_bytes())?;
            }
        }
        WorkspaceCommand::Start { workspace } => {
            let bar = ui.progress();
            let status = pyro.start(&workspace, &bar.watch()).await;
            bar.finish();
            print(&status?, ui)?;
        }
        WorkspaceCommand::Stop { workspace } => {
            let bar = ui.progress();
            bar.watch().stage("ending its processes and flushing its disk");
            let status = pyro.stop(&workspace).await;
            bar.finish();
            let status = status?;
            if let Some(error) = &status.error {
                let hint = error.hint.as_deref().unwrap_or_default();
                ui.note(&format!("{} ({hint})", error.message));
            }
            print(&status, ui)?;
        }
        WorkspaceCommand::Pause { workspace } => print(&pyro.pause(&workspace).await?, ui)?,
        WorkspaceCommand::Resume { workspace } => print(&pyro.resume(&workspace).await?, ui)?,
        WorkspaceCommand::Delete { workspace } => {
            let deleted = pyro.delete(&workspace).await?;
            if ui.json() {
                ui.print_json(&deleted)?;
            } else {
                ui.note(&format!("{} is deleted", deleted.id));
            }
        }
        WorkspaceCommand::Logs(args) => return journal::logs(pyro, args, ui).await,
        WorkspaceCommand::Output(args) => return journal::output(pyro, args, ui).await,
        WorkspaceCommand::Events(args) => return journal::events(pyro, args, ui).await,
        WorkspaceCommand::Summary { workspace } => {
            return journal::summary(pyro, &workspace, ui).await;
        }
        WorkspaceCommand::Update(args) => return journal::update(pyro, args, ui).await,
        WorkspaceCommand::Command(command) => return journal::command(pyro, command, ui).await,
        // Handled where their streams are.
        WorkspaceCommand::Exec { .. }
        | WorkspaceCommand::Apply(_)
        | WorkspaceCommand::Shell(_)
        | WorkspaceCommand::Diff { .. }
        | WorkspaceCommand::Sync(_)
        | WorkspaceCommand::File(_)
        | WorkspaceCommand::Patch(_)
        | WorkspaceCommand::Disk(_)
        | WorkspaceCommand::Export { .. } => {}
    }
    Ok(0)
}

async fn create(pyro: &Pyro, args: CreateArgs, ui: &Ui) -> Result<u8> {
    let request = create_request(args.machine)?;
    let bar = ui.progress();
    let created = pyro.create(request, &bar.watch()).await;
    bar.finish();
    let status = created?;
    ui.note_isolation(&status);
    for skipped in &status.seed.skipped {
        ui.note(&format!("left out of the seed: {skipped}"));
    }
    if args.id_only {
        write_stdout(format!("{}\n", status.id).as_bytes())?;
    } else {
        print(&status, ui)?;
    }
    Ok(0)
}

async fn list(pyro: &Pyro, ui: &Ui) -> Result<u8> {
    let listing = pyro.list().await?;
    if ui.json() {
        ui.print_json(&listing.workspaces)?;
    } else if listing.workspaces.is_empty() {
        ui.note("there are no workspaces; `pyro workspace create debian:12` makes one");
    } else {
        write_stdout(show::workspaces(&listing.workspaces).as_bytes())?;
    }
    for error in &listing.damaged {
        let hint = error.hint.as_deref().unwrap_or_default();
        ui.note(&format!("{} ({hint})", error.message));
    }
    Ok(0)
}

pub(super) fn print(status: &WorkspaceStatus, ui: &Ui) -> Result<()> {
    if ui.json() {
        ui.print_json(status)
    } else {
        let name = status.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        write_stdout(format!("{}{name} is {}\n", status.id, status.state).as_bytes())
    }
}

/// What `create` and `run` ask for.
pub(super) fn create_request(args: MachineArgs) -> Result<CreateRequest> {
    let seed = match (args.seed_path, args.seed_git) {
        (Some(path), _) => {
            let path = path.into_os_string().into_string().map_err(|path| {
                Error::new(
                    ErrorCode::InvalidArgument,
                    format!("the path {} is not UTF-8", path.display()),
                )
                .with_hint("rename it, or seed from a parent directory or an archive")
            })?;
            Seed::Path { path }
        }
        (None, Some(source)) => match source.rsplit_once('#') {
            Some((repository, reference)) => Seed::Git {
                repository: repository.to_owned(),
                reference: Some(reference.to_owned()),
            },
            None => Seed::Git { repository: source, reference: None },
        },
        (None, None) => Seed::Empty,
    };
    Ok(CreateRequest {
        seed,
        name: args.name,
        labels: args.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        engine: args.kind.engine,
        shape: args.kind.shape(),
        limits: args.limits.limits(),
        ttl_seconds: args.ttl_seconds,
        env: args.env,
        ..CreateRequest::new(args.environment)
    })
}
