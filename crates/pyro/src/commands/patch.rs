//! `workspace patch apply`.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_contract::diff::Change;
use pyro_contract::patch::{PATCH_BYTES_MAX, PatchApplied, PatchApplyRequest};
use pyro_contract::{Error, Result};
use pyro_workspace::Pyro;

use crate::cli::PatchCommand;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: PatchCommand, ui: &Ui) -> Result<u8> {
    let PatchCommand::Apply { workspace, patch, patch_file, directory, strip, fuzz, dry_run } =
        command;
    let exact = patch_file.as_deref().map(read).transpose()?;
    let request = PatchApplyRequest {
        workspace,
        patch: patch.unwrap_or_default(),
        patch_base64: exact.map(|bytes| STANDARD.encode(bytes)),
        directory,
        strip,
        fuzz,
        dry_run,
    };
    let applied = pyro.apply_patch(&request).await?;
    if ui.json() {
        ui.print_json(&applied)?;
    } else {
        write_stdout(listed(&applied).as_bytes())?;
        let files = applied.files.len();
        let verb = if dry_run { "would be changed" } else { "changed" };
        ui.note(&format!("{files} {} {verb}", if files == 1 { "file" } else { "files" }));
    }
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: &std::io::Error| {
        Error::io(format!("cannot read the patch {}", path.display()), error)
    };
    let mut patch = Vec::new();
    // One byte more than may be: the facade says so.
    if path == Path::new("-") {
        std::io::stdin().lock().take(PATCH_BYTES_MAX + 1).read_to_end(&mut patch)
    } else {
        let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
        file.take(PATCH_BYTES_MAX + 1).read_to_end(&mut patch)
    }
    .map_err(|error| failed(&error))?;
    Ok(patch)
}

/// As `git status --short` has it.
fn listed(applied: &PatchApplied) -> String {
    let mut text = String::new();
    for file in &applied.files {
        let letter = match file.change {
            Change::Added => 'A',
            Change::Modified => 'M',
            Change::Deleted => 'D',
            Change::TypeChanged => 'T',
            Change::ModeChanged => 'm',
        };
        text.push_str(&format!("{letter} {}", file.path));
        if let Some(from) = &file.from {
            text.push_str(&format!(" (from {from})"));
        }
        for moved in &file.moved_hunks {
            text.push_str(&format!(
                " (hunk {} at line {} instead of {})",
                moved.hunk, moved.line, moved.expected_line
            ));
        }
        text.push('\n');
    }
    text
}
