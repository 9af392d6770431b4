//! One command from start to end.

use std::future::pending;
use std::time::{Duration, Instant};

use pyro_wire::v1::exec_failed::Reason;
use pyro_wire::v1::exec_input::Input;
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{CommandLimits, ExecExit, ExecInput, ExecOutput, ExecStart, ExecStarted};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;

use crate::connection::Connection;
use crate::exec::cgroup::{CannotCreate, Cgroup, Cgroups};
use crate::exec::child::{self, Child};
use crate::exec::output::{Dropped, Outputs, Reply};
use crate::exec::plan::{Plan, Refusal};
use crate::exec::terminal::Seat;
use crate::log;
use crate::reaper::{Ended, Reaper};

/// The call that a command belongs to.
pub(crate) struct Call {
    pub(crate) input: Streaming<ExecInput>,
    pub(crate) replies: mpsc::Sender<Reply>,
    pub(crate) connection: Connection,
}

/// Who listens to a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listener {
    There,
    /// He dropped the call: the command is being ended.
    Gone,
    /// The connection is lost, as in a copy of the machine. The command goes on; what it says is
    /// forgotten, and its stdin stays open and empty.
    Lost,
}

/// Runs what `start` says and reports to the call; returns when the command is over.
pub(crate) async fn run(reaper: &Reaper, cgroups: Option<&Cgroups>, start: ExecStart, call: Call) {
    let cgroup = match cgroup(cgroups, &start.limits.unwrap_or_default()) {
        Ok(cgroup) => cgroup,
        Err(refusal) => return refuse(refusal, &call.replies).await,
    };
    let clock = Clock { begun: Instant::now(), timeout: start.timeout_ms };
    // Looking paths up blocks while the disk is frozen, and a blocked agent could not thaw it.
    let planned = tokio::task::spawn_blocking(move || Plan::new(&start)).await;
    let planned =
        planned.unwrap_or_else(|error| Err(Refusal::new(Reason::Other, error.to_string())));
    if matches!(&planned, Ok(plan) if plan.terminal.is_some()) {
        return match planned.and_then(|plan| Seat::open(reaper, plan, cgroup.as_ref())) {
            Ok(seat) => {
                let tree = Tree { reaper: reaper.clone(), pid: seat.pid(), cgroup };
                seat.attend(tree, clock, call.input, &call.replies).await;
            }
            Err(refusal) => refuse(refusal, &call.replies).await,
        };
    }
    let (plan, child) = match planned.and_then(|plan| {
        let child = child::start(reaper, &plan, cgroup.as_ref())?;
        Ok((plan, child))
    }) {
        Ok(started) => started,
        Err(refusal) => return refuse(refusal, &call.replies).await,
    };
    let tree = Tree { reaper: reaper.clone(), pid: child.pid, cgroup };
    attend(tree, &plan, child, clock, call).await;
}

/// A command without limits goes without a cgroup if there is none to be had.
fn cgroup(cgroups: Option<&Cgroups>, limits: &CommandLimits) -> Result<Option<Cgroup>, Refusal> {
    let limited = limits.memory_bytes > 0 || limits.cpu_percent > 0 || limits.process_count > 0;
    let cannot = |what: &str| {
        let message = format!("this machine cannot limit the {what} of one command");
        Refusal::new(Reason::LimitNotSupported, message)
    };
    match cgroups.map(|all| all.create(limits)) {
        Some(Ok(cgroup)) => Ok(Some(cgroup)),
        Some(Err(CannotCreate::Unsupported("pids"))) => Err(cannot("processes")),
        Some(Err(CannotCreate::Unsupported(what))) => Err(cannot(what)),
        Some(Err(CannotCreate::Failed(error))) if limited => {
            Err(Refusal::new(Reason::Other, format!("cannot limit the command: {error}")))
        }
        Some(Err(CannotCreate::Failed(error))) => {
            log::line(&format!("a command has no cgroup: {error}"));
            Ok(None)
        }
        None if limited => Err(cannot("resources")),
        None => Ok(None),
    }
}

pub(super) async fn refuse(refusal: Refusal, replies: &mpsc::Sender<Reply>) {
    let _ = send(replies, Output::Failed(refusal.into())).await;
}

pub(super) async fn send(replies: &mpsc::Sender<Reply>, output: Output) -> Result<(), Dropped> {
    replies.send(Ok(ExecOutput { output: Some(output) })).await.map_err(|_| Dropped)
}

/// Since when a command runs, and for how many milliseconds it may; 0 for any.
pub(super) struct Clock {
    begun: Instant,
    timeout: u64,
}

impl Clock {
    pub(super) async fn ran_out(&self) {
        if self.timeout == 0 {
            return pending().await;
        }
        let left = Duration::from_millis(self.timeout).saturating_sub(self.begun.elapsed());
        tokio::time::sleep(left).await;
    }
}

/// A command's process and all that came of it.
pub(super) struct Tree {
    pub(super) reaper: Reaper,
    pub(super) pid: i32,
    cgroup: Option<Cgroup>,
}

impl Tree {
    pub(super) fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // Its processes may have moved to another cgroup, or there is none.
        self.reaper.signal_group(self.pid, Signal::KILL.as_raw());
    }
}

impl Tree {
    /// How the main process ended, for the host.
    pub(super) fn exit(&self, how: Ended, timed_out: bool, clock: &Clock) -> Output {
        let duration_ms = clock.begun.elapsed().as_millis() as u64;
        let (code, signal) = match how {
            Ended::Exited(code) => (code, 0),
            Ended::Killed(signal) => (0, signal),
        };
        let failed = (code, signal) != (0, 0);
        let verdict = self.cgroup.as_ref().map(|cgroup| cgroup.verdict(failed)).unwrap_or_default();
        Output::Exit(ExecExit {
            code,
            signal,
            timed_out,
            oom_killed: verdict.oom_killed,
            duration_ms,
            own_memory_limit: verdict.own_memory,
            own_process_limit: verdict.own_processes,
            machine_process_limit: verdict.machine_processes,
            disk_full: failed && disk_is_full(),
        })
    }
}

/// Passes output on until the main process has ended, then says how it did.
async fn attend(tree: Tree, plan: &Plan, child: Child, clock: Clock, call: Call) {
    let Call { input, replies, connection } = call;
    let replies = &replies;
    let Child { pid, mut ended, stdin, stdout, stderr, mut outcome } = child;
    tokio::select! {
        known = outcome.known(plan) => if let Err(refusal) = known {
            return refuse(refusal, replies).await;
        },
        // Both are dealt with below.
        () = clock.ran_out() => {}
        () = replies.closed() => {}
    }
    let mut outputs = Outputs::new(stdout, stderr);
    let feeder = tokio::spawn(feed(input, stdin, tree.reaper.clone(), pid, connection.clone()));
    let _ = send(replies, Output::Started(ExecStarted { pid: pid as u32 })).await;
    let (how, timed_out) =
        until_ended(&tree, &mut ended, &mut outputs, &clock, replies, &connection).await;
    // Nobody reads stdin any more; a daemon that kept it sees its end.
    feeder.abort();
    let exit = tree.exit(how, timed_out, &clock);
    let told = match outputs.finish(replies).await {
        Ok(()) => send(replies, exit).await,
        Err(dropped) => Err(dropped),
    };
    match told {
        Ok(()) => outputs.discard(),
        Err(Dropped) if connection.is_lost() => outputs.discard(),
        // Dropped before it was over: then it ends with all that it started.
        Err(Dropped) => tree.kill(),
    }
}

/// True if next to nothing can be written to the machine's disk any more. See statvfs(3): this asks
/// for numbers in memory, and does not wait for a disk that is held still.
fn disk_is_full() -> bool {
    const NOTHING: u64 = 512 << 10;
    rustix::fs::statvfs("/").is_ok_and(|disk| {
        disk.f_bavail.saturating_mul(disk.f_frsize) < NOTHING
            || (disk.f_files > 0 && disk.f_favail == 0)
    })
}

/// Returns how the main process ended, and whether its time ran out.
async fn until_ended(
    tree: &Tree,
    ended: &mut oneshot::Receiver<Ended>,
    outputs: &mut Outputs,
    clock: &Clock,
    replies: &mpsc::Sender<Reply>,
    connection: &Connection,
) -> (Ended, bool) {
    let deadline = clock.ran_out();
    tokio::pin!(deadline);
    let mut timed_out = false;
    let mut listener = Listener::There;
    loop {
        tokio::select! {
            biased;
            how = &mut *ended => return (how.unwrap_or(Ended::Exited(-1)), timed_out),
            () = replies.closed(), if listener == Listener::There => {
                if connection.is_lost() {
                    listener = Listener::Lost;
                } else {
                    listener = Listener::Gone;
                    tree.kill();
                }
            }
            () = &mut deadline, if !timed_out => {
                timed_out = true;
                tree.kill();
            }
            () = listen(outputs, listener, replies), if listener != Listener::Gone => {}
        }
    }
}

/// One chunk of what the command says. A dropped call is noticed elsewhere.
async fn listen(outputs: &mut Outputs, listener: Listener, replies: &mpsc::Sender<Reply>) {
    match listener {
        Listener::There => drop(outputs.forward(replies).await),
        Listener::Gone | Listener::Lost => outputs.forget().await,
    }
}

/// Carries out what the host sends while the command runs. One message at a time: while the command
/// does not read its stdin, the host is not read either, signals included.
async fn feed(
    mut input: Streaming<ExecInput>,
    mut stdin: Option<pipe::Sender>,
    reaper: Reaper,
    pid: i32,
    connection: Connection,
) {
    while let Ok(Some(message)) = input.message().await {
        match message.input {
            Some(Input::Stdin(bytes)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    // Closed by the command, which may go on without it.
                    stdin = None;
                }
            }
            Some(Input::StdinClosed(true)) => stdin = None,
            Some(Input::Signal(signal)) => reaper.signal_group(pid, signal),
            Some(
                Input::StdinClosed(false) | Input::Start(_) | Input::Resize(_) | Input::HangUp(_),
            )
            | None => {}
        }
    }
    if connection.is_lost() {
        // Nobody said that there is no more to come.
        let _open = stdin;
        pending::<()>().await;
    }
}
