//! `setup firecracker`.

use pyro_contract::Result;
use pyro_workspace::Pyro;

use crate::cli::SetupCommand;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: SetupCommand, ui: &Ui) -> Result<u8> {
    let SetupCommand::Firecracker = command;
    let bar = ui.progress();
    let installed = pyro.setup_firecracker(&bar.watch()).await;
    bar.finish();
    let installed = installed?;
    if ui.json() {
        ui.print_json(&installed)?;
    } else {
        let how = if installed.already_installed { "is here already" } else { "is installed" };
        let (name, version, path) = (installed.name, installed.version, installed.path);
        write_stdout(format!("{name} {version} {how}: {path}\n").as_bytes())?;
    }
    Ok(0)
}
