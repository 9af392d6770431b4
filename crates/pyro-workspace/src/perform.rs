//! Every operation of the catalogue by its name: JSON in, JSON out.
//!
//! Doors that are not compiled against the facade (MCP, the SDKs of other languages, HTTP) are
//! derived from the catalogue and call [`Pyro::perform`]; so what one of them offers, all offer. A
//! test holds the table below against the catalogue.

mod collect;
mod review;

use std::sync::Arc;

pub use collect::Collected;

use futures_util::future::BoxFuture;
use pyro_contract::command::{self, LogsRequest};
use pyro_contract::environment::EnvironmentRef;
use pyro_contract::exec::Stream;
use pyro_contract::journal::EventsRequest;
use pyro_contract::operation::{
    CATALOGUE, DoctorRequest, ExecInWorkspace, InspectRequest, Nothing, OfEnvironment, OfWorkspace,
    Operation, PruneRequest, RunRequest,
};
use pyro_contract::shell;
use pyro_contract::template::PrepareRequest;
use pyro_contract::update::UpdateRequest;
use pyro_contract::{Error, ErrorCode, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::doctor;
use crate::pyro::Pyro;
use crate::watch::Watch;

/// Takes what a running command writes, in order of arrival. Must be quick: the command waits.
pub type OutputSink = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// Who performs an operation, besides what the request says.
#[derive(Clone, Default)]
pub struct Call {
    /// Looks at the progress, and may interrupt.
    pub watch: Watch,
    /// Hears what a command writes while it runs. The result holds it too, up to its cap.
    pub output: Option<OutputSink>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("output", &self.output.is_some()).finish_non_exhaustive()
    }
}

impl Pyro {
    /// Performs an operation of the catalogue. `request` and the result have its schemas.
    ///
    /// Dropping the future gives it up: a command that it runs is ended, and what it had begun is
    /// undone, as it is when the caller dies.
    ///
    /// # Errors
    /// `invalid_argument` for an operation, a field or a value that does not exist; else the
    /// operation's own.
    ///
    /// ```no_run
    /// # async fn example(pyro: pyro_workspace::Pyro) -> Result<(), pyro_contract::Error> {
    /// use pyro_workspace::Call;
    /// use serde_json::json;
    ///
    /// let request = json!({"workspace": "demo", "argv": ["git", "status"]});
    /// let result = pyro.perform("workspace_exec", request, &Call::default()).await?;
    /// println!("{}", result["stdout"]);
    /// # Ok(()) }
    /// ```
    pub async fn perform(&self, operation: &str, request: Value, call: &Call) -> Result<Value> {
        let unknown = || {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("there is no operation named {operation:?}"),
            )
            .with_hint("`pyro contract` lists them")
        };
        let known = CATALOGUE.iter().find(|known| known.name == operation).ok_or_else(unknown)?;
        let (_, perform) = TABLE.iter().find(|(name, _)| *name == operation).ok_or_else(unknown)?;
        refuse_unknown_fields(known, &request)?;
        perform(self, request, call).await
    }
}

/// The operations that can be performed: all of the catalogue.
pub fn operations() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// A misspelt field would otherwise be ignored without a word.
fn refuse_unknown_fields(operation: &Operation, request: &Value) -> Result<()> {
    let schema = (operation.request)();
    let properties = schema.get("properties").and_then(Value::as_object);
    let known = |name: &str| properties.is_some_and(|properties| properties.contains_key(name));
    let Some(stranger) = request.as_object().into_iter().flatten().find(|(name, _)| !known(name))
    else {
        return Ok(());
    };
    let names: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| &**name).collect();
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("{} has no field named {:?}", operation.name, stranger.0),
    )
    .with_hint(match names.as_slice() {
        [] => "it takes none".to_owned(),
        names => format!("it takes {}", names.join(", ")),
    }))
}

fn parse<T: DeserializeOwned>(operation: &str, request: Value) -> Result<T> {
    // An object without fields may be left out.
    let request = if request.is_null() { Value::Object(Default::default()) } else { request };
    serde_json::from_value(request).map_err(|error| {
        Error::new(ErrorCode::InvalidArgument, format!("the request of {operation} is not right"))
            .with_cause(error.to_string())
            .with_hint("`pyro contract` has its schema")
    })
}

fn answer(result: &impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|error| {
        Error::new(ErrorCode::Internal, "a result could not be written as JSON")
            .with_cause(error.to_string())
    })
}

type Perform = for<'a> fn(&'a Pyro, Value, &'a Call) -> BoxFuture<'a, Result<Value>>;

macro_rules! table {
    ($($name:literal: |$pyro:ident, $request:ident: $type:ty, $call:ident| $work:expr;)*) => {
        const TABLE: &[(&str, Perform)] = &[$(
            ($name, |$pyro, request, $call| Box::pin(async move {
                let $request: $type = parse($name, request)?;
                answer(&$work)
            })),
        )*];
    };
}

table! {
    "run": |pyro, request: RunRequest, call| collect::run(pyro, request, call).await?;
    "env_list": |pyro, _request: Nothing, _call| pyro.list_environments().await?;
    "env_pull": |pyro, request: OfEnvironment, call|
        pyro.pull_environment(&request.environment, &call.watch).await?;
    "env_inspect": |pyro, request: InspectRequest, call|
        pyro.inspect_environment(&request.environment, request.verify, &call.watch).await?;
    "env_prune": |pyro, request: PruneRequest, call|
        pyro.prune_environments(request.all, &call.watch).await?;
    "prepare": |pyro, request: PrepareRequest, call| {
        refuse_warm(&request.environment, request.warm)?;
        pyro.prepare(&request, &call.watch).await?
    };
    "workspace_create": |pyro, request: pyro_contract::workspace::CreateRequest, call|
        pyro.create(request, &call.watch).await?;
    "workspace_list": |pyro, _request: Nothing, _call| pyro.list().await?.workspaces;
    "workspace_status": |pyro, request: OfWorkspace, _call| pyro.status(&request.workspace).await?;
    "workspace_start": |pyro, request: OfWorkspace, call|
        pyro.start(&request.workspace, &call.watch).await?;
    "workspace_stop": |pyro, request: OfWorkspace, _call| pyro.stop(&request.workspace).await?;
    "workspace_pause": |pyro, request: OfWorkspace, _call| pyro.pause(&request.workspace).await?;
    "workspace_resume": |pyro, request: OfWorkspace, _call| pyro.resume(&request.workspace).await?;
    "workspace_delete": |pyro, request: OfWorkspace, _call| pyro.delete(&request.workspace).await?;
    "workspace_exec": |pyro, request: ExecInWorkspace, call|
        collect::exec(pyro, request, call).await?;
    "workspace_logs": |pyro, request: LogsRequest, _call|
        pyro.logs(&request).await?;
    "workspace_output": |pyro, request: command::OutputRequest, _call| pyro.output(&request).await?;
    "workspace_events": |pyro, request: EventsRequest, _call| pyro.events(&request).await?;
    "workspace_summary": |pyro, request: OfWorkspace, call|
        pyro.summary(&request.workspace, &call.watch).await?;
    "workspace_update": |pyro, request: UpdateRequest, _call| pyro.update(&request).await?;
    "workspace_command_list": |pyro, request: command::ListCommands, _call|
        pyro.list_commands(&request).await?;
    "workspace_command_wait": |pyro, request: command::WaitForCommand, _call|
        pyro.wait_for_command(&request).await?;
    "workspace_command_signal": |pyro, request: command::SignalCommand, _call|
        pyro.signal_command(&request).await?;
    "workspace_diff": |pyro, request: pyro_contract::diff::DiffRequest, call|
        pyro.diff(&request, &call.watch).await?;
    "workspace_apply": |pyro, request: pyro_contract::apply::ApplyRequest, call|
        pyro.apply(&request, &call.watch).await?;
    "workspace_export": |pyro, request: pyro_contract::operation::ExportRequest, call|
        pyro.export(&request, &call.watch).await?;
    "workspace_sync_push": |pyro, request: pyro_contract::sync::SyncPushRequest, call|
        pyro.sync_push(&request, &call.watch).await?;
    "workspace_sync_pull": |pyro, request: pyro_contract::sync::SyncPullRequest, call|
        pyro.sync_pull(&request, &call.watch).await?;
    "workspace_file_list": |pyro, request: pyro_contract::file::FileListRequest, _call|
        pyro.list_files(&request).await?;
    "workspace_file_stat": |pyro, request: pyro_contract::file::FileStatRequest, _call|
        pyro.stat_file(&request).await?;
    "workspace_file_read": |pyro, request: pyro_contract::file::FileReadRequest, _call|
        pyro.read_file(&request).await?;
    "workspace_file_write": |pyro, request: pyro_contract::file::FileWriteRequest, _call|
        pyro.write_file(&request).await?;
    "workspace_file_edit": |pyro, request: pyro_contract::file::FileEditRequest, _call|
        pyro.edit_file(&request).await?;
    "workspace_file_remove": |pyro, request: pyro_contract::file::FileRemoveRequest, _call|
        pyro.remove_file(&request).await?;
    "workspace_file_move": |pyro, request: pyro_contract::file::FileMoveRequest, _call|
        pyro.move_file(&request).await?;
    "workspace_patch_apply": |pyro, request: pyro_contract::patch::PatchApplyRequest, _call|
        pyro.apply_patch(&request).await?;
    "workspace_shell_open": |pyro, request: shell::OpenShell, _call|
        pyro.open_shell(&request).await?;
    "workspace_shell_list": |pyro, request: OfWorkspace, _call|
        pyro.list_shells(&request.workspace).await?;
    "workspace_shell_read": |pyro, request: shell::ReadShell, _call|
        pyro.read_shell(&request).await?;
    "workspace_shell_write": |pyro, request: shell::WriteShell, _call|
        pyro.write_shell(&request).await?;
    "workspace_shell_resize": |pyro, request: shell::ResizeShell, _call|
        pyro.resize_shell(&request).await?;
    "workspace_shell_signal": |pyro, request: shell::SignalShell, _call|
        pyro.signal_shell(&request).await?;
    "workspace_shell_close": |pyro, request: shell::OfShell, _call|
        pyro.close_shell(&request).await?;
    "workspace_disk_list": |pyro, request: pyro_contract::disk::DiskListRequest, call|
        pyro.list_disk(&request, &call.watch).await?;
    "workspace_disk_read": |pyro, request: pyro_contract::disk::DiskReadRequest, _call|
        pyro.read_disk(&request).await?;
    "workspace_disk_export": |pyro, request: pyro_contract::disk::DiskExportRequest, call|
        pyro.export_disk(&request, &call.watch).await?;
    "setup_firecracker": |pyro, _request: Nothing, call|
        pyro.setup_firecracker(&call.watch).await?;
    "doctor": |pyro, request: DoctorRequest, _call| {
        if request.fix { doctor::mend(pyro, |_| ()).await? } else { doctor::checks(pyro).await }
    };
}

/// Machines wait for as long as somebody keeps them, and a call has to end.
fn refuse_warm(environment: &EnvironmentRef, warm: Option<u32>) -> Result<()> {
    if warm.is_none_or(|count| count == 0) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Unsupported,
        "machines that wait need a process that keeps them, which outlasts this call",
    )
    .with_hint(format!("run `pyro prepare {environment} --warm N` beside it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_catalogue_can_be_performed() {
        let known: Vec<&str> = CATALOGUE.iter().map(|operation| operation.name).collect();
        let performed: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        assert_eq!(performed, known);
    }

    #[tokio::test]
    async fn what_does_not_exist_is_refused_with_what_does() {
        let temp = tempfile::tempdir().unwrap();
        let home = crate::Home::at(temp.path()).unwrap();
        let pyro = Pyro::at(home, crate::Settings::default(), "/none".into()).unwrap();
        let call = Call::default();
        let ask = async |name: &str, request: Value| {
            pyro.perform(name, request, &call).await.unwrap_err()
        };
        let error = ask("workspace_fly", Value::Null).await;
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let error = ask("workspace_status", serde_json::json!({"workpsace": "x"})).await;
        assert!(error.message.contains("workpsace"), "{error}");
        assert_eq!(error.hint.as_deref(), Some("it takes workspace"));
        let error = ask("workspace_status", serde_json::json!({"workspace": 7})).await;
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        let error = ask("workspace_status", serde_json::json!({"workspace": "none"})).await;
        assert_eq!(error.code, ErrorCode::NotFound);
    }
}
