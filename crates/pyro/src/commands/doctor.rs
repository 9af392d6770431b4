//! `doctor`.

use std::process::{Command, Stdio};

use pyro_contract::operation::CheckStatus;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Pyro, doctor};

use crate::cli::DoctorArgs;
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, args: DoctorArgs, ui: &Ui) -> Result<u8> {
    let mut checks = doctor::checks(pyro).await;
    if args.fix {
        let broken = checks.iter().filter(|check| check.status == CheckStatus::Failed);
        let fixes: Vec<String> = broken.filter_map(|check| check.fix.clone()).collect();
        for fix in &fixes {
            mend(fix, ui)?;
        }
        if !fixes.is_empty() {
            checks = doctor::checks(pyro).await;
        }
    }
    if ui.json() {
        ui.print_json(&checks)?;
    } else {
        write_stdout(show::checks(&checks).as_bytes())?;
    }
    Ok(u8::from(checks.iter().any(|check| check.status == CheckStatus::Failed)))
}

/// Runs one command that a check named. Its output goes to stderr: stdout is for the result.
fn mend(fix: &str, ui: &Ui) -> Result<()> {
    ui.note(&format!("running: {fix}"));
    let status = Command::new("sh")
        .args(["-c", fix])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| Error::io(format!("cannot run {fix:?}"), &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::MissingDependency, format!("{fix:?} failed with {status}"))
        .with_hint("run it by hand to see more"))
}
