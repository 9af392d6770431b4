//! `prepare`, and the same in the background.

use pyro_contract::template::{PrepareRequest, TemplateState};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Home, Pyro};

use crate::cli::{FreezeArgs, PrepareArgs};
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, args: PrepareArgs, ui: &Ui) -> Result<u8> {
    let request = PrepareRequest {
        shape: args.kind.shape(),
        environment: args.environment,
        engine: args.kind.engine,
    };
    let bar = ui.progress();
    let prepared = pyro.prepare(&request, &bar.watch()).await;
    bar.finish();
    let prepared = prepared?;
    if ui.json() {
        return ui.print_json(&prepared).map(|()| 0);
    }
    let size = show::bytes(prepared.size_bytes);
    let template = match prepared.template {
        TemplateState::Made => format!("a template was made, {size}"),
        TemplateState::Present => format!("the template is there, {size}"),
        TemplateState::Unsupported => "this engine needs no template".to_owned(),
        TemplateState::Disabled => "templates are switched off by configuration".to_owned(),
    };
    let line = format!("{} is ready on {}: {template}\n", prepared.environment, prepared.engine);
    write_stdout(line.as_bytes()).map(|()| 0)
}

/// What a create leaves to be done.
pub(super) async fn freeze(args: FreezeArgs, supervisor: std::path::PathBuf) -> Result<u8> {
    let strange = |error: serde_json::Error| {
        Error::new(ErrorCode::InvalidArgument, "this is not what pyro passes on")
            .with_cause(error.to_string())
    };
    let shape: pyro_contract::workspace::Shape =
        serde_json::from_str(&args.shape).map_err(strange)?;
    let settings = serde_json::from_str(&args.settings).map_err(strange)?;
    let pyro = Pyro::at(Home::from_environment()?, settings, supervisor)?;
    let request = PrepareRequest {
        environment: args.environment,
        engine: Some(args.engine),
        shape: shape.into(),
    };
    pyro.prepare_aside(&request).await.map(|_| 0)
}
