//! One workspace in hand, so that callers need not name it again and again.

use std::path::Path;

use pyro_contract::diff::WorkspaceDiff;
use pyro_contract::exec::{ExecRequest, ExecResult, JournalCommand};
use pyro_contract::name::{WorkspaceId, WorkspaceRef};
use pyro_contract::operation::Exported;
use pyro_contract::path::BytePath;
use pyro_contract::workspace::{CreateRequest, Deleted, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::client::ExecSession;
use crate::perform::Call;
use crate::pyro::Pyro;
use crate::watch::Watch;

/// How much of a patch [`Workspace::diff`] gives: half a patch is of no use to a program.
const MAX_PATCH_BYTES: u64 = 64 << 20;

/// A workspace, by its permanent id: it stays the same if its name changes. Cheap to clone;
/// dropping it does nothing to the workspace.
///
/// ```no_run
/// # async fn example(pyro: pyro_workspace::Pyro) -> pyro_contract::Result<()> {
/// use pyro_contract::exec::ExecRequest;
///
/// let workspace = pyro.workspace(&"demo".parse()?).await?;
/// let tests = workspace.run(&ExecRequest::new(["make", "test"])).await?;
/// if tests.outcome.exit_code == Some(0) {
///     print!("{}", workspace.diff().await?.patch.unwrap_or_default());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Workspace {
    pyro: Pyro,
    id: WorkspaceId,
}

impl Pyro {
    /// The workspace of this id or name.
    pub async fn workspace(&self, workspace: &WorkspaceRef) -> Result<Workspace> {
        let id = self.status(workspace).await?.id;
        Ok(Workspace { pyro: self.clone(), id })
    }

    /// Creates and starts a workspace. It stays until somebody deletes it.
    pub async fn create_workspace(
        &self,
        request: CreateRequest,
        watch: &Watch,
    ) -> Result<Workspace> {
        let id = self.create(request, watch).await?.id;
        Ok(Workspace { pyro: self.clone(), id })
    }
}

impl Workspace {
    /// The permanent id.
    #[must_use]
    pub fn id(&self) -> &WorkspaceId {
        &self.id
    }

    /// The same, where a request wants a workspace.
    #[must_use]
    pub fn reference(&self) -> WorkspaceRef {
        WorkspaceRef::Id(self.id.clone())
    }

    /// The client that it was made with, which has every operation.
    #[must_use]
    pub fn pyro(&self) -> &Pyro {
        &self.pyro
    }

    /// How it is now.
    pub async fn status(&self) -> Result<WorkspaceStatus> {
        self.pyro.status(&self.reference()).await
    }

    /// Starts it on its kept disk, or lets it go on where it was paused.
    pub async fn start(&self, watch: &Watch) -> Result<WorkspaceStatus> {
        self.pyro.start(&self.reference(), watch).await
    }

    /// Ends its processes, flushes and keeps its disk.
    pub async fn stop(&self) -> Result<WorkspaceStatus> {
        self.pyro.stop(&self.reference()).await
    }

    /// Holds it still, with all that runs in it.
    pub async fn pause(&self) -> Result<WorkspaceStatus> {
        self.pyro.pause(&self.reference()).await
    }

    /// Lets it go on.
    pub async fn resume(&self) -> Result<WorkspaceStatus> {
        self.pyro.resume(&self.reference()).await
    }

    /// Deletes it and everything in it.
    pub async fn delete(self) -> Result<Deleted> {
        self.pyro.delete(&self.reference()).await
    }

    /// Starts a command, to be listened to while it runs.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecSession> {
        self.pyro.exec(&self.reference(), request).await
    }

    /// Runs a command and waits for its end. Of each stream the result holds 1 MiB at most.
    pub async fn run(&self, request: &ExecRequest) -> Result<ExecResult> {
        self.ask("workspace_exec", json!(request)).await
    }

    /// The commands that ran in it; the last `tail` if given.
    pub async fn logs(&self, tail: Option<u32>) -> Result<Vec<JournalCommand>> {
        self.ask("workspace_logs", json!({ "tail": tail })).await
    }

    /// What changed in `/workspace` since it was seeded, with the patch up to 64 MiB.
    pub async fn diff(&self) -> Result<WorkspaceDiff> {
        let request = json!({ "patch": true, "max_patch_bytes": MAX_PATCH_BYTES });
        self.ask("workspace_diff", request).await
    }

    /// Copies a file or tree to a path of the host that does not exist yet. `path` is absolute, or
    /// relative to `/workspace`.
    pub async fn export(&self, path: impl Into<Vec<u8>>, output: &Path) -> Result<Exported> {
        let output = output.to_str().ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("the path {} is not UTF-8", output.display()),
            )
            .with_hint("open a review: `Pyro::review` exports to any path")
        })?;
        let mut request = json!(BytePath::new(path));
        request["output"] = output.into();
        self.ask("workspace_export", request).await
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &str, request: Value) -> Result<T> {
        let answer = self.perform(operation, request, &Call::default()).await?;
        serde_json::from_value(answer).map_err(|error| {
            Error::new(ErrorCode::Internal, format!("the answer of {operation} makes no sense"))
                .with_cause(error.to_string())
        })
    }

    /// Any operation on a workspace, by the name that the catalogue has for it: its request without
    /// the field `workspace`.
    ///
    /// ```no_run
    /// # async fn example(workspace: pyro_workspace::Workspace) -> pyro_contract::Result<()> {
    /// use pyro_workspace::Call;
    /// let request = serde_json::json!({"tail": 1});
    /// let last = workspace.perform("workspace_logs", request, &Call::default()).await?;
    /// println!("{}", last[0]["argv"]);
    /// # Ok(()) }
    /// ```
    pub async fn perform(&self, operation: &str, mut request: Value, call: &Call) -> Result<Value> {
        if request.is_null() {
            request = Value::Object(Default::default());
        }
        if let Some(request) = request.as_object_mut() {
            request.insert("workspace".to_owned(), self.id.as_str().into());
        }
        self.pyro.perform(operation, request, call).await
    }
}
