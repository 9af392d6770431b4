//! `doctor`.

use pyro_contract::Result;
use pyro_contract::operation::CheckStatus;
use pyro_workspace::{Pyro, doctor};

use crate::cli::DoctorArgs;
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, args: DoctorArgs, ui: &Ui) -> Result<u8> {
    let checks = if args.fix {
        let noted = *ui;
        doctor::mend(pyro, move |fix| noted.note(&format!("running: {fix}"))).await?
    } else {
        doctor::checks(pyro).await
    };
    if ui.json() {
        ui.print_json(&checks)?;
    } else {
        write_stdout(show::checks(&checks).as_bytes())?;
    }
    Ok(u8::from(checks.iter().any(|check| check.status == CheckStatus::Failed)))
}
