//! The guest agent: PID 1 of every pyro machine, the same in every engine.
//!
//! In a virtual machine it boots from an initramfs and stacks the disks into the root that user
//! code sees; in a container it finds that root made. It serves [`pyro_wire::v1`] over one byte
//! stream to the host. What never lives here: anything about
//! workspaces, hosts or engines. User code is root in this machine and may do to it what it likes;
//! the agent only takes care not to be ended by accident.

mod adopt;
mod boot;
mod compare;
mod connection;
mod container;
mod disks;
mod exec;
mod files;
mod freeze;
mod hold;
mod log;
mod project;
mod reaper;
mod root;
mod service;
mod shutdown;
mod sys;
mod transport;
mod tree;
mod uevent;
mod users;

use std::process::ExitCode;

use crate::connection::Connection;
use crate::reaper::Reaper;
use crate::service::AgentService;
use crate::transport::Transport;

fn main() -> ExitCode {
    if !sys::is_init() {
        eprintln!("pyro-guest runs as PID 1 of a pyro machine and does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    let mut arguments = std::env::args().skip(1);
    let booted = match arguments.next().as_deref() {
        Some(container::MODE) => container::boot(arguments),
        _ => boot::boot(),
    };
    let machine = match booted {
        Ok(machine) => machine,
        Err(error) => log::fatal(&error),
    };
    // One thread: machines are small and may be emulated. It must never block, for it is the one
    // that thaws the disk; what may block runs on threads of which every call can have one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(pyro_wire::MAX_CALLS as usize)
        .thread_stack_size(256 * 1024)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(machine)),
        Err(error) => log::fatal(&boot::BootError::new("cannot start the runtime", error)),
    }
}

/// Serves one host after the other until the machine is told to go.
async fn serve(machine: boot::Machine) -> ! {
    let reaper = Reaper::default();
    match reaper.clone().watch_children() {
        Ok(watch) => drop(tokio::spawn(watch)),
        Err(error) => log::fatal(&boot::BootError::new("cannot watch children", error)),
    }
    let mut transport = match Transport::open(machine.channel) {
        Ok(transport) => transport,
        Err(error) => log::fatal(&boot::BootError::new("cannot listen for the host", error)),
    };
    let agent =
        AgentService::new(reaper, machine.disk, machine.kernel, machine.project, machine.cgroups);
    log::line("ready");
    loop {
        let stream = match transport.accept().await {
            Ok(stream) => stream,
            Err(error) => log::fatal(&boot::BootError::new("cannot reach the host", error)),
        };
        let connection = Connection::default();
        let stream = connection.watch(stream);
        let lost = async {
            transport.lost().await;
            // Known before the calls are dropped with what serves them.
            connection.lose();
        };
        tokio::select! {
            result = pyro_wire::serve(stream, agent.over(connection.clone())) => if let Err(error) = result {
                log::line(&format!("the host's connection failed: {error}"));
            },
            () = agent.power_off_due() => {}
            () = lost => {}
        }
        if agent.is_shut_down() {
            transport.power_off();
        }
        // The engine of a restored machine waits for this: the stream is let go of.
        log::line("the host is gone");
    }
}
