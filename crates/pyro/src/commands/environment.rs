//! `env list | pull | inspect | prune`.

use pyro_contract::Result;
use pyro_contract::environment::EnvironmentRef;
use pyro_workspace::Pyro;

use crate::cli::EnvCommand;
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: EnvCommand, ui: &Ui) -> Result<u8> {
    match command {
        EnvCommand::List => list(pyro, ui).await?,
        EnvCommand::Pull { environment } => pull(pyro, environment, ui).await?,
        EnvCommand::Inspect { environment, verify } => {
            inspect(pyro, environment, verify, ui).await?;
        }
        EnvCommand::Prune { all } => prune(pyro, all, ui).await?,
    }
    Ok(0)
}

async fn list(pyro: &Pyro, ui: &Ui) -> Result<()> {
    let environments = pyro.list_environments().await?;
    if ui.json() {
        return ui.print_json(&environments);
    }
    let rows: Vec<Vec<String>> = environments
        .iter()
        .map(|environment| {
            vec![
                environment.name.to_string(),
                environment.size_bytes.map_or("not cached".into(), show::bytes),
                environment.description.clone(),
            ]
        })
        .collect();
    write_stdout(show::table(&["ENVIRONMENT", "SIZE", "WHAT IT HOLDS"], &rows).as_bytes())
}

async fn pull(pyro: &Pyro, reference: EnvironmentRef, ui: &Ui) -> Result<()> {
    let bar = ui.progress();
    let info = pyro.pull_environment(&reference, &bar.watch()).await;
    bar.finish();
    let info = info?;
    if ui.json() {
        return ui.print_json(&info);
    }
    let size = info.size_bytes.map_or(String::new(), |size| format!(", {}", show::bytes(size)));
    write_stdout(format!("{} is ready{size}\n", info.name).as_bytes())
}

async fn inspect(pyro: &Pyro, reference: EnvironmentRef, verify: bool, ui: &Ui) -> Result<()> {
    let bar = ui.progress();
    let details = pyro.inspect_environment(&reference, verify, &bar.watch()).await;
    bar.finish();
    let details = details?;
    if ui.json() {
        return ui.print_json(&details);
    }
    let mut text = format!("name         {}\n", details.info.name);
    text += &format!("holds        {}\n", details.info.description);
    let optional = [
        ("digest", details.info.digest.as_ref().map(ToString::to_string)),
        ("size", details.info.size_bytes.map(show::bytes)),
        ("made", details.info.created_at.as_ref().map(ToString::to_string)),
        ("kernel", details.info.kernel_release.clone()),
    ];
    for (key, value) in optional {
        text += &format!("{key:12} {}\n", value.unwrap_or_else(|| "not cached".into()));
    }
    text += &format!("packages     {}\n", details.packages.len());
    for package in &details.packages {
        text += &format!("  {} {}\n", package.name, package.version);
    }
    if verify {
        text += "verified     every byte matches the digest\n";
    }
    write_stdout(text.as_bytes())
}

async fn prune(pyro: &Pyro, all: bool, ui: &Ui) -> Result<()> {
    let bar = ui.progress();
    let report = pyro.prune_environments(all, &bar.watch()).await;
    bar.finish();
    let report = report?;
    if ui.json() {
        return ui.print_json(&report);
    }
    for removed in &report.removed {
        write_stdout(format!("removed {removed}\n").as_bytes())?;
    }
    write_stdout(format!("{} freed\n", show::bytes(report.freed_bytes)).as_bytes())
}
