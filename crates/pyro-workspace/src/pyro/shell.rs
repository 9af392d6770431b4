//! Shells.

use pyro_contract::Result;
use pyro_contract::exec::ExecRequest;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::shell::{
    OfShell, OpenShell, ReadShell, ResizeShell, ShellInfo, ShellOutput, ShellRef, ShellWritten,
    SignalShell, TerminalSize, WriteShell,
};

use super::{Pyro, not_started, ready};
use crate::client::{self, Attachment, ExecSession, shell};
use crate::home::WorkspaceDir;
use crate::supervisor::shells_at_rest;

impl Pyro {
    /// Opens a terminal that outlives its client, and starts a shell or command on it.
    ///
    /// ```no_run
    /// # async fn example(pyro: pyro_workspace::Pyro) -> Result<(), pyro_contract::Error> {
    /// use pyro_contract::name::WorkspaceRef;
    /// use pyro_contract::shell::{OpenShell, ReadShell, ShellRef, WriteShell};
    ///
    /// let workspace: WorkspaceRef = "demo".parse()?;
    /// let opened = pyro.open_shell(&OpenShell::new(workspace.clone())).await?;
    /// let shell = ShellRef::from(&opened.id);
    /// let written = pyro
    ///     .write_shell(&WriteShell {
    ///         text: Some("make test".into()),
    ///         enter: true,
    ///         ..WriteShell::new(workspace.clone(), shell.clone())
    ///     })
    ///     .await?;
    /// let shown = pyro
    ///     .read_shell(&ReadShell {
    ///         cursor: Some(written.cursor),
    ///         wait_for_idle_ms: Some(500),
    ///         ..ReadShell::new(workspace, shell)
    ///     })
    ///     .await?;
    /// println!("{}", shown.text);
    /// # Ok(()) }
    /// ```
    pub async fn open_shell(&self, request: &OpenShell) -> Result<ShellInfo> {
        request.validate()?;
        let (dir, record) = self.find(&request.workspace).await?;
        ready(&request.workspace, &record)?;
        shell::open(&dir, request).await
    }

    /// The shells of a workspace, in the order of their opening. Those of a workspace at rest have
    /// closed, and nothing can be read of them.
    pub async fn list_shells(&self, workspace: &WorkspaceRef) -> Result<Vec<ShellInfo>> {
        let (dir, record) = self.find(workspace).await?;
        if record.state.is_running() {
            return shell::list(&dir).await;
        }
        Ok(shells_at_rest(&dir))
    }

    /// What a shell has shown since a cursor, or its screen.
    pub async fn read_shell(&self, request: &ReadShell) -> Result<ShellOutput> {
        request.validate()?;
        shell::read(&self.live(&request.workspace).await?, request).await
    }

    /// Types into a shell, and returns once its terminal took it.
    pub async fn write_shell(&self, request: &WriteShell) -> Result<ShellWritten> {
        request.data()?;
        shell::write(&self.live(&request.workspace).await?, request).await
    }

    /// Gives a shell's terminal another size.
    pub async fn resize_shell(&self, request: &ResizeShell) -> Result<ShellInfo> {
        TerminalSize { cols: request.cols, rows: request.rows }.validate()?;
        shell::resize(&self.live(&request.workspace).await?, request).await
    }

    /// Signals what runs in the foreground of a shell.
    pub async fn signal_shell(&self, request: &SignalShell) -> Result<ShellInfo> {
        shell::signal(&self.live(&request.workspace).await?, request).await
    }

    /// Ends a shell and all that runs in it. One that has ended is taken off the list.
    pub async fn close_shell(&self, request: &OfShell) -> Result<ShellInfo> {
        shell::close(&self.live(&request.workspace).await?, request).await
    }

    /// Attaches a person's terminal to a shell, which takes its size if one is given.
    pub async fn attach_shell(
        &self,
        workspace: &WorkspaceRef,
        shell: &ShellRef,
        size: Option<TerminalSize>,
    ) -> Result<Attachment> {
        shell::attach(&self.live(workspace).await?, shell, size).await
    }

    /// Starts a command on a terminal of its own, for a person: what it shows comes as its stdout,
    /// and dropping the session ends it.
    pub async fn exec_on_terminal(
        &self,
        workspace: &WorkspaceRef,
        request: &ExecRequest,
        size: TerminalSize,
    ) -> Result<ExecSession> {
        request.validate()?;
        let (dir, record) = self.find(workspace).await?;
        ready(workspace, &record)?;
        client::exec(&dir, request, Some(size)).await
    }

    /// A workspace that has a supervisor to ask.
    async fn live(&self, workspace: &WorkspaceRef) -> Result<WorkspaceDir> {
        let (dir, record) = self.find(workspace).await?;
        if record.state.is_running() { Ok(dir) } else { Err(not_started(workspace, &record)) }
    }
}
