//! `workspace sync push` and `workspace sync pull`.

use std::os::unix::ffi::OsStringExt as _;

use pyro_contract::path::BytePath;
use pyro_contract::sync::{SyncAction, SyncPullRequest, SyncPushRequest, Synced};
use pyro_contract::{ErrorCode, Result};
use pyro_workspace::Pyro;

use crate::cli::{PullArgs, PushArgs, SyncCommand};
use crate::show;
use crate::ui::{Ui, write_stdout};

/// Of what was left out, so much is named to a person.
const NAMED_SKIPS: usize = 10;

pub(super) async fn run(pyro: &Pyro, command: SyncCommand, ui: &Ui) -> Result<u8> {
    match command {
        SyncCommand::Push(args) => push(pyro, args, ui).await,
        SyncCommand::Pull(args) => pull(pyro, args, ui).await,
    }
}

async fn push(pyro: &Pyro, args: PushArgs, ui: &Ui) -> Result<u8> {
    let PushArgs { workspace, source, dest, rules, watch: keep } = args;
    let request = SyncPushRequest { workspace, source, dest, rules: rules.into() };
    if keep {
        return watch(pyro, &request, ui).await;
    }
    let bar = ui.progress();
    let synced = pyro.sync_push(&request, &bar.watch()).await;
    bar.finish();
    show(&synced?, "the workspace", ui)
}

/// Until Ctrl-C, which ends it well: nothing that was begun is left half done.
async fn watch(pyro: &Pyro, request: &SyncPushRequest, ui: &Ui) -> Result<u8> {
    let bar = ui.progress();
    let shown = *ui;
    let kept = pyro
        .sync_watch(request, &bar.watch(), move |synced| match synced {
            Ok(synced) if synced.is_nothing() && !shown.json() => Ok(()),
            Ok(synced) => show(&synced, "the workspace", &shown).map(drop),
            Err(error) => {
                shown.note(&format!("{}; waiting for the next change", error.message));
                Ok(())
            }
        })
        .await;
    bar.finish();
    match kept {
        Err(error) if error.code == ErrorCode::Cancelled => Ok(0),
        Err(error) => Err(error),
        Ok(()) => Ok(0),
    }
}

async fn pull(pyro: &Pyro, args: PullArgs, ui: &Ui) -> Result<u8> {
    let PullArgs { workspace, path, dest, rules, force } = args;
    let path = BytePath::new(path.into_vec());
    let request = SyncPullRequest { workspace, path, dest, force, rules: rules.into() };
    let bar = ui.progress();
    let synced = pyro.sync_pull(&request, &bar.watch()).await;
    bar.finish();
    show(&synced?, &request.dest, ui)
}

fn show(synced: &Synced, target: &str, ui: &Ui) -> Result<u8> {
    if ui.json() {
        return ui.print_json(synced).map(|()| 0);
    }
    if synced.dry_run {
        write_stdout(changes(synced).as_bytes())?;
    }
    for skipped in synced.skipped.iter().take(NAMED_SKIPS) {
        ui.note(&format!("left out {}: {}", skipped.path, skipped.reason));
    }
    let unnamed = synced.skipped_count.saturating_sub(NAMED_SKIPS as u64);
    if unnamed > 0 {
        ui.note(&format!("left out {unnamed} more (--json names them)"));
    }
    ui.note(&summary(synced, target));
    Ok(0)
}

/// `+` written or made, `-` removed, `m` only the mode.
fn changes(synced: &Synced) -> String {
    let mut text = String::new();
    for change in &synced.changes {
        let (mark, slash) = match change.action {
            SyncAction::Sent => ('+', ""),
            SyncAction::Made => ('+', "/"),
            SyncAction::Mode => ('m', ""),
            SyncAction::Removed => ('-', ""),
        };
        text += &format!("{mark} {}{slash}\n", change.path);
    }
    let all = synced.sent + synced.made + synced.modes + synced.removed;
    let unnamed = all.saturating_sub(synced.changes.len() as u64);
    if unnamed > 0 {
        text += &format!("… and {unnamed} more\n");
    }
    text
}

fn summary(synced: &Synced, target: &str) -> String {
    if synced.is_nothing() {
        return format!("{target} is up to date ({})", counted(synced.unchanged, "entry"));
    }
    let mut parts = Vec::new();
    if synced.sent > 0 {
        let size = show::bytes(synced.bytes);
        parts.push(format!("{} sent ({size})", counted(synced.sent, "file")));
    }
    if synced.made > 0 {
        parts.push(format!("{} made", counted(synced.made, "directory")));
    }
    if synced.modes > 0 {
        parts.push(format!("{} set", counted(synced.modes, "mode")));
    }
    if synced.removed > 0 {
        parts.push(format!("{} removed", synced.removed));
    }
    parts.push(format!("{} unchanged", synced.unchanged));
    let would = if synced.dry_run { "nothing was done; it would be: " } else { "" };
    format!("{would}{}", parts.join(", "))
}

fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_was_done_and_nothing_else() {
        let mut synced = Synced { unchanged: 7, ..Synced::default() };
        assert_eq!(summary(&synced, "./out"), "./out is up to date (7 entries)");
        synced.record(b"d", SyncAction::Made);
        synced.record(b"d/f", SyncAction::Sent);
        synced.record(b"\x1b", SyncAction::Removed);
        synced.bytes = 10;
        let expected = "1 file sent (10 B), 1 directory made, 1 removed, 7 unchanged";
        assert_eq!(summary(&synced, "x"), expected);
        assert_eq!(changes(&synced), "+ d/\n+ d/f\n- \\u{1b}\n");
    }
}
