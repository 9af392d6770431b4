//! Running commands.

mod cgroup;
mod child;
mod command;
mod output;
mod plan;
mod privileges;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyro_wire::v1::exec_input::Input;
use pyro_wire::v1::{ExecInput, ExecStart};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

pub(crate) use cgroup::Cgroups;
use command::Call;
use output::Reply;

use crate::connection::Connection;
use crate::reaper::Reaper;
use crate::sys;

/// Commands at once. Each holds up to two chunks and a stream window of output.
const COMMANDS_MAX: usize = 200;

/// Request ids that are remembered.
const IDS_MAX: usize = 4096;

/// All commands of this machine.
pub(crate) struct Commands {
    reaper: Reaper,
    cgroups: Option<Cgroups>,
    slots: Arc<Semaphore>,
    /// How many files each process may have open, unless its command says otherwise; 0 for any.
    open_files: AtomicU32,
    seen: Mutex<SeenIds>,
}

impl Commands {
    pub(crate) fn new(reaper: Reaper, cgroups: Option<Cgroups>) -> Self {
        Self {
            reaper,
            cgroups,
            slots: Arc::new(Semaphore::new(COMMANDS_MAX)),
            open_files: AtomicU32::new(0),
            seen: Mutex::default(),
        }
    }

    /// What all commands of this machine may have.
    pub(crate) fn limit(&self, processes: u32, open_files: u32) -> std::io::Result<()> {
        self.open_files.store(open_files, Ordering::Relaxed);
        if processes == 0 {
            return Ok(());
        }
        sys::limit_container(processes.into());
        match &self.cgroups {
            // In a container the limit of each user holds, whatever its cgroup can do.
            Some(cgroups) if sys::is_in_container() => {
                let _ = cgroups.limit_processes(processes);
                Ok(())
            }
            Some(cgroups) => cgroups.limit_processes(processes),
            None => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Starts the command of a call, which came over `connection`, and returns its output.
    pub(crate) async fn run(
        &self,
        mut input: Streaming<ExecInput>,
        connection: Connection,
    ) -> Result<ReceiverStream<Reply>, Status> {
        let mut start = first(&mut input).await?;
        let limits = start.limits.get_or_insert_default();
        if limits.open_file_count == 0 {
            limits.open_file_count = self.open_files.load(Ordering::Relaxed);
        }
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many commands are running"))?;
        if !self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(&start.request_id) {
            return Err(Status::already_exists("this request was already carried out"));
        }
        // One message in the channel and one on its way: more would only be memory.
        let (replies, stream) = mpsc::channel(1);
        let (reaper, cgroups) = (self.reaper.clone(), self.cgroups.clone());
        tokio::spawn(async move {
            let call = Call { input, replies, connection };
            command::run(&reaper, cgroups.as_ref(), start, call).await;
            drop(slot);
        });
        Ok(ReceiverStream::new(stream))
    }
}

async fn first(input: &mut Streaming<ExecInput>) -> Result<ExecStart, Status> {
    match input.message().await?.and_then(|message| message.input) {
        Some(Input::Start(start)) if start.request_id.is_empty() => {
            Err(Status::invalid_argument("a request needs an id"))
        }
        Some(Input::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message must say what to start")),
    }
}

/// The last ids. A snapshot may hold a request in flight, and its copies replay it.
#[derive(Default)]
struct SeenIds {
    set: HashSet<String>,
    order: VecDeque<String>,
}

impl SeenIds {
    /// False if it is known.
    fn insert(&mut self, id: &str) -> bool {
        if !self.set.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }
}
