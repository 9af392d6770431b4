//! `workspace apply`.

use pyro_contract::apply::{ApplyAction, ApplyRequest};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::Pyro;

use crate::cli::apply::ApplyArgs;
use crate::ui::{Ui, write_stdout};

/// Of what was left out, so much is named.
const NAMED: usize = 20;

pub(super) async fn run(pyro: &Pyro, args: ApplyArgs, ui: &Ui) -> Result<u8> {
    let to = match args.to.map(|to| to.into_os_string().into_string()) {
        None => None,
        Some(Ok(to)) => Some(to),
        Some(Err(to)) => {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("the path {} is not UTF-8", to.display()),
            )
            .with_hint("apply to a parent directory, or rename it"));
        }
    };
    let request = ApplyRequest {
        workspace: args.workspace,
        to,
        paths: args.paths,
        merge: args.merge,
        include_git: args.include_git,
        dry_run: args.dry_run,
        undo: args.undo,
    };
    let bar = ui.progress();
    let applied = pyro.apply(&request, &bar.watch()).await;
    bar.finish();
    let applied = applied?;
    if ui.json() {
        return ui.print_json(&applied).map(|()| 0);
    }
    let mut text = String::new();
    for change in &applied.changes {
        let letter = match change.action {
            ApplyAction::Added => 'A',
            ApplyAction::Modified => 'M',
            ApplyAction::Merged => 'G',
            ApplyAction::ModeChanged => 'm',
            ApplyAction::Deleted => 'D',
        };
        text += &format!("{letter} {}\n", change.path);
    }
    write_stdout(text.as_bytes())?;
    for skipped in applied.skipped.iter().take(NAMED) {
        ui.note(&format!("left out: {}: {}", skipped.path, skipped.reason));
    }
    if applied.skipped.len() > NAMED {
        ui.note(&format!("… and {} more (--json lists them)", applied.skipped.len() - NAMED));
    }
    let count = applied.changes.len();
    let what = match (request.undo, applied.dry_run) {
        (false, false) => "applied",
        (false, true) => "would be applied",
        (true, false) => "taken back",
        (true, true) => "would be taken back",
    };
    let already = match applied.already {
        0 => String::new(),
        count => format!("; {count} were there already"),
    };
    ui.note(&format!("{count} changes {what} in {}{already}", applied.to));
    Ok(0)
}
