//! `prepare`, and the same in the background.

use pyro_contract::Result;
use pyro_contract::template::{PrepareRequest, Prepared, TemplateState};
use pyro_contract::workspace::Shape;
use pyro_workspace::{Home, Pyro};

use super::supervise::passed_on;
use crate::cli::{FreezeArgs, PrepareArgs};
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, args: PrepareArgs, ui: &Ui) -> Result<u8> {
    let request = PrepareRequest {
        shape: args.kind.shape(),
        environment: args.environment,
        engine: args.kind.engine,
        warm: args.warm,
    };
    let bar = ui.progress();
    let prepared = pyro.prepare(&request, &bar.watch()).await;
    bar.finish();
    let prepared = prepared?;
    print(&prepared, ui)?;
    if request.warm.is_some_and(|count| count > 0) {
        let bar = ui.progress();
        let kept = pyro.keep_warm(&request, &bar.watch()).await;
        bar.finish();
        kept?;
    }
    Ok(0)
}

fn print(prepared: &Prepared, ui: &Ui) -> Result<()> {
    if ui.json() {
        return ui.print_json(prepared);
    }
    let size = show::bytes(prepared.size_bytes);
    let template = match prepared.template {
        TemplateState::Made => format!("a template was made, {size}"),
        TemplateState::Present => format!("the template is there, {size}"),
        TemplateState::Unsupported => "this engine needs no template".to_owned(),
        TemplateState::Disabled => "templates are switched off by configuration".to_owned(),
    };
    let line = format!("{} is ready on {}: {template}\n", prepared.environment, prepared.engine);
    write_stdout(line.as_bytes())
}

/// What a create leaves to be done.
pub(super) async fn freeze(args: FreezeArgs, supervisor: std::path::PathBuf) -> Result<u8> {
    let shape: Shape = passed_on("--shape", &args.shape)?;
    let settings = passed_on("--settings", &args.settings)?;
    let pyro = Pyro::at(Home::from_environment()?, settings, supervisor)?;
    let request = PrepareRequest {
        environment: args.environment,
        engine: Some(args.engine),
        shape: shape.into(),
        warm: None,
    };
    pyro.prepare_aside(&request).await.map(|_| 0)
}
