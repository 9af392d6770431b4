//! The facade, by name and JSON.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyro_contract::exec::ExecRequest;
use pyro_contract::journal::ClientName;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::{Error, ErrorCode};
use pyro_workspace::{Call, Home, Pyro, Settings};
use serde_json::Value;

use crate::failure::{not_json, raise};
use crate::pending::{GRACE, NO_GRACE, Outcome, Pending};

/// A client of everything under one `PYRO_HOME`.
#[pyclass(frozen)]
pub(crate) struct Client {
    pyro: Pyro,
}

#[pymethods]
impl Client {
    /// `program` is the `pyro` that becomes the supervisor of workspaces.
    #[new]
    #[pyo3(signature = (program, home=None))]
    fn new(program: PathBuf, home: Option<PathBuf>) -> PyResult<Self> {
        let open = || {
            let home = match &home {
                Some(root) => Home::at(Path::new(root))?,
                None => Home::from_environment()?,
            };
            let pyro = Pyro::at(home, Settings::from_environment()?, program)?;
            Ok(pyro.for_client(ClientName::new("python")))
        };
        Ok(Self { pyro: open().map_err(raise)? })
    }

    /// Where the state lies.
    #[getter]
    fn home(&self) -> PathBuf {
        self.pyro.home().root().to_owned()
    }

    /// Begins an operation of the catalogue; its result is a JSON document.
    fn perform(&self, operation: String, request: &str) -> PyResult<Pending> {
        let request: Value = serde_json::from_str(request).map_err(|error| not_json(&error))?;
        let pyro = self.pyro.clone();
        Pending::begin(GRACE, move |watch| async move {
            let call = Call { watch, ..Call::default() };
            let result = pyro.perform(&operation, request, &call).await?;
            Ok(Outcome::Json(result.to_string()))
        })
    }

    /// Begins to start a command; its result is a `Session`.
    fn exec(&self, workspace: &str, request: &str) -> PyResult<Pending> {
        let workspace: WorkspaceRef = workspace.parse().map_err(raise)?;
        let request: ExecRequest =
            serde_json::from_str(request).map_err(|error| not_json(&error))?;
        if request.detach {
            return Err(raise(
                Error::new(ErrorCode::InvalidArgument, "a detached command has nothing to stream")
                    .with_hint("use `run(..., detach=True)`"),
            ));
        }
        let pyro = self.pyro.clone();
        Pending::begin(NO_GRACE, move |_| async move {
            pyro.exec(&workspace, &request).await.map(Outcome::Session)
        })
    }
}
