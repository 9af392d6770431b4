//! The host's side of the conversation with the agent. All that comes back is the guest's word:
//! it is bounded in size and time here, and only then believed.

pub(crate) mod files;
pub(crate) mod tree;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use futures_util::Stream;
use pyro_contract::exec::ExecRequest;
use pyro_contract::limits::{CommandLimits, WorkspaceLimits};
use pyro_contract::name::EnvVar;
use pyro_contract::shell::TerminalSize;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::AgentStream;
use pyro_wire::v1::agent_client::AgentClient;
use pyro_wire::v1::{
    AdoptRequest, ExecInput, ExecOutput, ExecStart, FreezeRequest, PingRequest, SetClockRequest,
    ShutdownRequest, exec_input,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Holding the disk still means writing out what is in the guest's memory, which is its size at most.
const FREEZE_PATIENCE: Duration = Duration::from_secs(120);

/// How far behind the host's a machine's clock may be set, if the host is not too busy for it.
const CLOCK_ERROR: Duration = Duration::from_millis(20);

/// How often the clock is set in the hope of a quick call.
const CLOCK_TRIES: u32 = 4;

/// What a healthy machine tells of itself, cut to what a kernel would say.
pub(crate) struct Greeting {
    pub(crate) kernel_release: String,
}

/// A client of one machine's agent. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Agent {
    client: AgentClient<Channel>,
}

impl Agent {
    pub(crate) fn over(stream: Box<dyn AgentStream>) -> Self {
        let client = AgentClient::new(pyro_wire::channel(stream))
            .max_decoding_message_size(pyro_wire::MAX_MESSAGE_SIZE)
            .max_encoding_message_size(pyro_wire::MAX_MESSAGE_SIZE);
        Self { client }
    }

    /// Makes the machine unique, and then sets its clock. A machine with a kernel of its own that does not take the entropy
    /// is refused: it could produce the same random numbers as its siblings. One that shares the
    /// host's kernel (`host_kernel`, which the host knows from its engine and the agent must
    /// confirm) has the host's generator, which never was anybody's copy, and the host's clock.
    pub(crate) async fn adopt(
        &self,
        hostname: &str,
        limits: WorkspaceLimits,
        host_kernel: bool,
        patience: Duration,
    ) -> Result<Greeting> {
        let entropy: [u8; 64] = rand::random();
        let machine_id: [u8; 16] = rand::random();
        let request = AdoptRequest {
            hostname: hostname.to_owned(),
            entropy: Bytes::copy_from_slice(&entropy),
            machine_id: machine_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            boot_id: uuid(rand::random()),
            process_count: limits.process_count.unwrap_or(0),
            open_file_count: limits.open_file_count.unwrap_or(0),
            goes_on: false,
        };
        let mut client = self.client.clone();
        let reply = tokio::time::timeout(patience, client.adopt(request))
            .await
            .map_err(|_| {
                Error::new(
                    ErrorCode::Timeout,
                    format!("the machine did not get ready within {} s", patience.as_secs()),
                )
                .with_hint("`pyro doctor` checks what this host offers")
            })?
            .map_err(|status| broken("the machine did not get ready", &status))?
            .into_inner();
        if reply.host_kernel != host_kernel {
            return Err(misbehaved("the machine is not what its engine makes"));
        }
        if reply.entropy_bytes == 0 && !host_kernel {
            return Err(Error::new(
                ErrorCode::GuestMisbehaved,
                "the machine did not take fresh entropy, so it must not run",
            )
            .with_hint("create the workspace again; if it stays so, rebuild the environment"));
        }
        if !host_kernel {
            self.set_clock(patience).await?;
        }
        Ok(Greeting { kernel_release: printable(&reply.kernel_release, 64) })
    }

    /// Tells the machine what time it is.
    ///
    /// Its clock is then behind by what the message took to arrive: by no more than the whole call,
    /// so a slow call is made again, up to [`CLOCK_TRIES`] times.
    pub(crate) async fn set_clock(&self, patience: Duration) -> Result<()> {
        let attempt = "the machine's clock could not be set";
        let set = async {
            for _ in 0..CLOCK_TRIES {
                let mut client = self.client.clone();
                let begun = Instant::now();
                let request = SetClockRequest { realtime_ns: realtime_ns() };
                client.set_clock(request).await.map_err(|status| broken(attempt, &status))?;
                if begun.elapsed() <= CLOCK_ERROR {
                    break;
                }
            }
            Ok(())
        };
        tokio::time::timeout(patience, set)
            .await
            .map_err(|_| Error::new(ErrorCode::Timeout, attempt))?
    }

    /// Whether the agent still answers.
    pub(crate) async fn ping(&self, patience: Duration) -> Result<()> {
        let attempt = "the machine's agent does not answer";
        let mut client = self.client.clone();
        tokio::time::timeout(patience, client.ping(PingRequest {}))
            .await
            .map_err(|_| misbehaved(attempt))?
            .map(drop)
            .map_err(|status| broken(attempt, &status))
    }

    /// Starts a command, on a terminal if it is to have one. Dropping what comes back ends it.
    pub(crate) async fn exec(
        &self,
        request: &ExecRequest,
        cwd: &str,
        workspace_env: &[EnvVar],
        terminal: Option<TerminalSize>,
    ) -> Result<(mpsc::Sender<ExecInput>, Streaming<ExecOutput>)> {
        let (sender, receiver) = mpsc::channel(1);
        let env = workspace_env.iter().chain(&request.env);
        let start = ExecStart {
            request_id: format!("{:032x}", rand::random::<u128>()),
            argv: request.command().into_iter().map(Bytes::from).collect(),
            cwd: Bytes::copy_from_slice(cwd.as_bytes()),
            env: env
                .map(|var| pyro_wire::v1::EnvVar {
                    name: var.name.clone(),
                    value: var.value.clone(),
                })
                .collect(),
            user: request.user.clone().unwrap_or_default(),
            timeout_ms: request.timeout_seconds.unwrap_or(0).saturating_mul(1000),
            stdin: request.stdin,
            terminal: terminal.map(|size| pyro_wire::v1::TerminalSize {
                rows: size.rows.into(),
                columns: size.cols.into(),
            }),
            limits: Some(limits_of(&request.limits)),
        };
        let first = ExecInput { input: Some(exec_input::Input::Start(start)) };
        sender.send(first).await.map_err(|_| internal("the exec stream closed"))?;
        let mut client = self.client.clone();
        let output = client
            .exec(ReceiverStream::new(receiver))
            .await
            .map_err(|status| broken("the command could not be started", &status))?
            .into_inner();
        Ok((sender, output))
    }

    /// Holds the disk still until the returned stream is dropped.
    pub(crate) async fn freeze(&self) -> Result<impl Stream + Unpin + Send + use<>> {
        let attempt = "the machine's disk could not be held still";
        let mut client = self.client.clone();
        let frozen = async {
            let mut held = client
                .freeze(FreezeRequest {})
                .await
                .map_err(|e| broken(attempt, &e))?
                .into_inner();
            let still = held.message().await.map_err(|e| broken(attempt, &e))?;
            still.map(|_| held).ok_or_else(|| misbehaved(attempt))
        };
        tokio::time::timeout(FREEZE_PATIENCE, frozen).await.unwrap_or_else(|_| {
            Err(misbehaved(attempt)
                .with_cause(format!("it took longer than {} s", FREEZE_PATIENCE.as_secs())))
        })
    }

    /// Compares a tree; see the protocol for what is said on both sides.
    pub(crate) async fn compare_tree(
        &self,
        inputs: mpsc::Receiver<pyro_wire::v1::CompareInput>,
    ) -> Result<Streaming<pyro_wire::v1::CompareOutput>> {
        let mut client = self.client.clone();
        client
            .compare_tree(ReceiverStream::new(inputs))
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| broken("the trees could not be compared", &status))
    }

    /// Ends everything in the machine and flushes its disks.
    pub(crate) async fn shutdown(&self, grace: Duration) -> Result<()> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let mut client = self.client.clone();
        client
            .shutdown(ShutdownRequest { grace_ms })
            .await
            .map(drop)
            .map_err(|status| broken("the machine did not shut down", &status))
    }
}

fn limits_of(limits: &CommandLimits) -> pyro_wire::v1::CommandLimits {
    pyro_wire::v1::CommandLimits {
        memory_bytes: u64::from(limits.memory_mib.unwrap_or(0)) << 20,
        cpu_percent: limits.cpu_percent.unwrap_or(0),
        process_count: limits.process_count.unwrap_or(0),
        open_file_count: limits.open_file_count.unwrap_or(0),
    }
}

/// A failed call, as users see it.
pub(crate) fn broken(attempt: &str, status: &Status) -> Error {
    let cause = printable(status.message(), 400);
    match status.code() {
        Code::ResourceExhausted => Error::new(ErrorCode::TooLarge, attempt)
            .with_cause(cause)
            .with_hint("wait for some of the running commands to end"),
        Code::InvalidArgument => Error::new(ErrorCode::InvalidArgument, attempt).with_cause(cause),
        Code::Unavailable | Code::Cancelled | Code::Unknown => {
            Error::new(ErrorCode::MachineFailed, attempt)
                .with_cause(cause)
                .with_hint("`pyro workspace status` tells whether its machine still runs")
        }
        _ => misbehaved(attempt).with_cause(cause),
    }
}

pub(crate) fn misbehaved(attempt: &str) -> Error {
    Error::new(ErrorCode::GuestMisbehaved, attempt)
        .with_hint("the machine's agent did not follow the protocol; stop and start the workspace")
}

fn internal(message: &str) -> Error {
    Error::new(ErrorCode::Internal, message)
}

/// The guest's words, short and without control characters.
pub(crate) fn printable(text: &str, at_most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(at_most).collect()
}

/// A random UUID, version 4 of RFC 9562.
fn uuid(random: u128) -> String {
    let bits = random & !(0xf000 << 64) & !(0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn realtime_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_which_version_it_is() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
