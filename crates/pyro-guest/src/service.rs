//! The agent's calls, each handed to the module that carries it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pyro_wire::v1::agent_server::Agent;
use pyro_wire::v1::{
    AdoptReply, AdoptRequest, DirectoryEntries, ExecInput, FileChunk, FileStat, FreezeRequest,
    HoldRequest, ListDirectoryRequest, PingReply, PingRequest, ReadFileRequest, SetClockReply,
    SetClockRequest, ShutdownReply, ShutdownRequest, StatFileRequest, TreeChange, TreeChanged,
    WriteFileInput, WriteFileReply,
};
use tokio::sync::Notify;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::adopt::Kernel;
use crate::connection::Connection;
use crate::exec::{Cgroups, Commands};
use crate::freeze::{Disk, FreezeStream};
use crate::hold::{HoldStream, Holds};
use crate::project::Project;
use crate::reaper::Reaper;
use crate::{adopt, compare, files, shutdown, tree};

/// How long the host may take to read that the machine is done before it powers off regardless.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where the machine is in its life.
const BOOTED: u8 = 0;
const ADOPTED: u8 = 1;
const ENDING: u8 = 2;
const ENDED: u8 = 3;

/// The agent, as it is reached over one connection. Clones share one state.
#[derive(Clone)]
pub(crate) struct AgentService {
    shared: Arc<Shared>,
    /// What the calls of this handle come over.
    connection: Connection,
}

struct Shared {
    stage: AtomicU8,
    commands: Commands,
    holds: Holds,
    reaper: Reaper,
    disk: Disk,
    kernel: Kernel,
    /// Absent in a container, where the host stacks it, and in a test on somebody's computer.
    project: Option<Project>,
    ended: Notify,
}

impl AgentService {
    pub(crate) fn new(
        reaper: Reaper,
        disk: Disk,
        kernel: Kernel,
        project: Option<Project>,
        cgroups: Option<Cgroups>,
    ) -> Self {
        let shared = Shared {
            stage: AtomicU8::new(BOOTED),
            holds: Holds::new(cgroups.clone()),
            commands: Commands::new(reaper.clone(), cgroups),
            reaper,
            disk,
            kernel,
            project,
            ended: Notify::new(),
        };
        Self { shared: Arc::new(shared), connection: Connection::default() }
    }

    /// The same agent over another connection.
    pub(crate) fn over(&self, connection: Connection) -> Self {
        Self { shared: Arc::clone(&self.shared), connection }
    }

    /// An agent that has its identity already.
    #[cfg(test)]
    pub(crate) fn adopted(reaper: Reaper, disk: Disk) -> Self {
        let this = Self::new(reaper, disk, Kernel::Own, None, None);
        this.shared.stage.store(ADOPTED, Ordering::SeqCst);
        this
    }

    /// True once all has ended and the disk is clean.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shared.stage.load(Ordering::SeqCst) == ENDED
    }

    /// Resolves some time after the machine has ended, in case the host does not hang up.
    pub(crate) async fn power_off_due(&self) {
        while !self.is_shut_down() {
            self.shared.ended.notified().await;
        }
        tokio::time::sleep(FAREWELL).await;
    }

    /// Nothing but [`Agent::adopt`] is served before the machine is unique.
    fn check_adopted(&self) -> Result<(), Status> {
        match self.shared.stage.load(Ordering::SeqCst) {
            ADOPTED => Ok(()),
            BOOTED => Err(Status::failed_precondition("this machine was not adopted yet")),
            _ => Err(Status::unavailable("this machine is shutting down")),
        }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptReply>, Status> {
        if self.shared.stage.load(Ordering::SeqCst) >= ENDING {
            return Err(Status::unavailable("this machine is shutting down"));
        }
        let request = request.into_inner();
        let limits = (request.process_count, request.open_file_count);
        let shared = Arc::clone(&self.shared);
        let adopted = move || adopt::adopt(&request, shared.kernel, shared.project.as_ref());
        let (processes, open_files) = limits;
        self.shared
            .commands
            .limit(processes, open_files)
            .map_err(|error| Status::internal(format!("cannot limit the commands: {error}")))?;
        let reply = tokio::task::spawn_blocking(adopted)
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        let _ =
            self.shared.stage.compare_exchange(BOOTED, ADOPTED, Ordering::SeqCst, Ordering::SeqCst);
        Ok(Response::new(reply))
    }

    async fn set_clock(
        &self,
        request: Request<SetClockRequest>,
    ) -> Result<Response<SetClockReply>, Status> {
        self.check_adopted()?;
        // The host's own clock is right by definition.
        if self.shared.kernel == Kernel::Own {
            adopt::set_clock(request.into_inner().realtime_ns)?;
        }
        self.shared.holds.go_on();
        Ok(Response::new(SetClockReply {}))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        Ok(Response::new(PingReply {}))
    }

    type ExecStream = ReceiverStream<Result<pyro_wire::v1::ExecOutput, Status>>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.check_adopted()?;
        Ok(Response::new(
            self.shared.commands.run(request.into_inner(), self.connection.clone()).await?,
        ))
    }

    type FreezeStream = FreezeStream;

    async fn freeze(&self, _: Request<FreezeRequest>) -> Result<Response<FreezeStream>, Status> {
        self.check_adopted()?;
        Ok(Response::new(FreezeStream::begin(self.shared.disk.clone()).await?))
    }

    type HoldStream = HoldStream;

    async fn hold(&self, _: Request<HoldRequest>) -> Result<Response<HoldStream>, Status> {
        self.check_adopted()?;
        if self.shared.kernel == Kernel::Hosts {
            return Err(Status::unimplemented("the host holds a container still by itself"));
        }
        let (holds, connection) = (self.shared.holds.clone(), self.connection.clone());
        Ok(Response::new(HoldStream::begin(holds, connection).await?))
    }

    type CompareTreeStream = ReceiverStream<Result<pyro_wire::v1::CompareOutput, Status>>;

    async fn compare_tree(
        &self,
        request: Request<Streaming<pyro_wire::v1::CompareInput>>,
    ) -> Result<Response<Self::CompareTreeStream>, Status> {
        self.check_adopted()?;
        Ok(Response::new(compare::run(request.into_inner()).await?))
    }

    type ReadFileStream = ReceiverStream<Result<FileChunk, Status>>;

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        self.check_adopted()?;
        Ok(Response::new(files::read::answer(request.into_inner())))
    }

    async fn stat_file(
        &self,
        request: Request<StatFileRequest>,
    ) -> Result<Response<FileStat>, Status> {
        self.check_adopted()?;
        Ok(Response::new(files::stat::answer(request.into_inner()).await?))
    }

    type ListDirectoryStream = ReceiverStream<Result<DirectoryEntries, Status>>;

    async fn list_directory(
        &self,
        request: Request<ListDirectoryRequest>,
    ) -> Result<Response<Self::ListDirectoryStream>, Status> {
        self.check_adopted()?;
        Ok(Response::new(files::list::answer(request.into_inner())))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileInput>>,
    ) -> Result<Response<WriteFileReply>, Status> {
        self.check_adopted()?;
        Ok(Response::new(files::write(request.into_inner()).await?))
    }

    async fn change_tree(
        &self,
        request: Request<Streaming<TreeChange>>,
    ) -> Result<Response<TreeChanged>, Status> {
        self.check_adopted()?;
        Ok(Response::new(tree::change(request.into_inner()).await?))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownReply>, Status> {
        if self.shared.stage.swap(ENDING, Ordering::SeqCst) >= ENDING {
            return Err(Status::unavailable("this machine is shutting down"));
        }
        self.shared.holds.give_up();
        let grace = Duration::from_millis(request.into_inner().grace_ms.into());
        // On its own, so that a host that hangs up meanwhile does not leave it half done.
        let this = self.clone();
        let work = tokio::spawn(async move {
            let result =
                shutdown::shut_down(&this.shared.reaper, this.shared.disk.clone(), grace).await;
            this.shared.stage.store(ENDED, Ordering::SeqCst);
            this.shared.ended.notify_one();
            result
        });
        work.await.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(ShutdownReply {}))
    }
}
