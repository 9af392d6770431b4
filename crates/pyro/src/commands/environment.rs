//! `env list | pull | inspect | prune`.

use std::sync::Arc;

use pyro_contract::environment::EnvironmentRef;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_environment::Store;
use pyro_workspace::{Pyro, Watch};

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
    let environments = with_store(pyro, &Watch::default(), |store, _| Ok(store.list()?)).await?;
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
    let info = with_store(pyro, &bar.watch(), move |store, watch| {
        store.pull(&reference, watch)?;
        Ok(store.inspect(&reference)?.info)
    })
    .await;
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
    let details = with_store(pyro, &bar.watch(), move |store, watch| {
        if verify {
            store.verify(&reference, watch)?;
        }
        Ok(store.inspect(&reference)?)
    })
    .await;
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
    let in_use = pyro.environments_in_use().await?;
    let bar = ui.progress();
    let report =
        with_store(pyro, &bar.watch(), move |store, watch| Ok(store.prune(&in_use, all, watch)?))
            .await;
    bar.finish();
    let mut report = report?;
    let home = pyro.home().clone();
    let unpacked =
        tokio::task::spawn_blocking(move || home.prune_trees()).await.unwrap_or_default();
    if unpacked > 0 {
        report.removed.push("environments unpacked for containers".into());
        report.freed_bytes += unpacked;
    }
    if ui.json() {
        return ui.print_json(&report);
    }
    for removed in &report.removed {
        write_stdout(format!("removed {removed}\n").as_bytes())?;
    }
    write_stdout(format!("{} freed\n", show::bytes(report.freed_bytes)).as_bytes())
}

/// Runs something that blocks on the store off the async threads.
async fn with_store<T: Send + 'static>(
    pyro: &Pyro,
    watch: &Watch,
    work: impl FnOnce(&Store, &Watch) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (store, watch) = (Arc::clone(pyro.environments()), watch.clone());
    tokio::task::spawn_blocking(move || work(&store, &watch)).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorCode::Internal, "a background task failed")
            .with_cause(error.to_string()))
    })
}
