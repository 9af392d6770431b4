//! A running Firecracker machine.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pyro_contract::workspace::EngineKind;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

use crate::capture::{Captured, Scope, unwritten};
use crate::console::Tail;
use crate::ending::{self, End, LAST_WORDS, TellEnd, died, hear_out, not_started};
use crate::files::open;
use crate::firecracker::FIX;
use crate::firecracker::api::{
    Api, Balloon, BootSource, CacheType, Drive, MachineConfig, Snapshot, Vsock,
};
use crate::firecracker::capture::{self, Base, Line, Subject};
use crate::firecracker::link::{self, Link};
use crate::firecracker::own::{self, Own};
use crate::firecracker::template::{self, Files};
use crate::firecracker::version::{self, Version};
use crate::guard::Guard;
use crate::jail::{Installed, Jail};
use crate::process::{Confinement, Ending, Process};
use crate::{AgentStream, EngineError, Exit, Machine, MachineSpec, Result, Usage};

/// How long Firecracker may take until it takes orders; milliseconds on an idle host.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Between a socket that exists and one that listens.
const ALMOST: Duration = Duration::from_millis(1);

/// What the agent says last on the console of a machine that powers off: Firecracker ends in the same
/// way whether the guest is done or was reset.
const GOODBYE: &str = "pyro-guest: powers off";

/// `reboot=k`, `panic=-1`: both end Firecracker, through its keyboard controller, the only switch it
/// has. `pci=off` and the `i8042` options: do not look for what is not there.
const CMDLINE: &str = "console=ttyS0 reboot=k panic=-1 quiet nokaslr audit=0 lsm= \
    cryptomgr.notests init_on_alloc=0 rcupdate.rcu_expedited=1 random.trust_cpu=on \
    8250.nr_uarts=1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd";

/// The machine's address on its vsock; the host is 2. All have the same: each has a bus of its own.
const GUEST_CID: u32 = 3;

/// See the module.
pub(super) struct FirecrackerMachine {
    process: Process,
    api: Api,
    own: Arc<Own>,
    taken: Arc<AtomicBool>,
    /// Whether the agent can be connected to: it has booted, or knows that it was restored.
    listens: watch::Receiver<bool>,
    knock: JoinHandle<()>,
    console: Tail,
    end: End,
    subject: Arc<Subject>,
    /// Whether the machine is paused. Whoever has the lock decides that.
    held: Arc<Mutex<bool>>,
}

/// What to run.
pub(super) struct Programs {
    pub(super) firecracker: PathBuf,
    /// Firecracker's own jail, to be used instead of pyro's.
    pub(super) jailer: Option<PathBuf>,
}

impl Programs {
    /// The jailer makes Firecracker another user, so it must be root and told which.
    fn jailer(&self, spec: &MachineSpec) -> Option<(&Path, u32)> {
        let root = rustix::process::geteuid().is_root();
        Some((self.jailer.as_deref()?, spec.run_as.filter(|_| root)?))
    }

    fn place(&self, spec: &MachineSpec) -> Result<Own> {
        match self.jailer(spec) {
            Some((_, id)) => Own::in_jailer(&jailer_base(spec), &self.firecracker, id),
            None => Own::new(&spec.runtime_dir, spec.run_as),
        }
    }

    /// The command up to Firecracker's own arguments.
    fn command(&self, own: &Own, spec: &MachineSpec) -> Result<(Command, Confinement)> {
        let Some((jailer, id)) = self.jailer(spec) else {
            let mut command = Command::new(&self.firecracker);
            command.args(["--id", own::ID]);
            let program = (self.firecracker.as_path(), Installed::File);
            let jail =
                Jail::new(&Own::root(&spec.runtime_dir), program, spec.run_as, own.numbers())
                    .and_then(|jail| jail.with_own(own.path()))
                    .map_err(EngineError::io("cannot prepare the machine's confinement"))?;
            return Ok((command, Confinement::Jail(Box::new(jail))));
        };
        let mut command = Command::new(jailer);
        command.args(["--id", own::ID, "--exec-file"]).arg(&self.firecracker);
        command.args(["--uid", &id.to_string(), "--gid", &id.to_string()]);
        command.arg("--chroot-base-dir").arg(jailer_base(spec)).arg("--");
        Ok((command, Confinement::Guard(Guard::new())))
    }
}

fn jailer_base(spec: &MachineSpec) -> PathBuf {
    spec.runtime_dir.join("jailer")
}

impl FirecrackerMachine {
    /// Boots a machine.
    pub(super) async fn launch(programs: &Programs, spec: &MachineSpec) -> Result<Self> {
        let mut own = programs.place(spec)?;
        own.lend_copy(own::KERNEL, &spec.image.kernel)?;
        own.lend_copy(own::INITRAMFS, &spec.image.initramfs)?;
        own.lend_shared(own::ENVIRONMENT, &spec.image.environment)?;
        own.lend_own(own::STORAGE, &spec.storage)?;
        let beginning = (Base::Zeroes, open(&spec.storage, false)?);
        let machine = Self::start(programs, own, spec, beginning).await?;
        machine.describe(spec).await?;
        machine.order(machine.api.start()).await?;
        Ok(machine)
    }

    /// Brings a frozen machine back, held still.
    pub(super) async fn restore(
        programs: &Programs,
        files: &Files,
        spec: &MachineSpec,
    ) -> Result<Self> {
        let damaged = |error: EngineError| EngineError::Template { said: chain(&error) };
        let mut own = programs.place(spec)?;
        own.lend_shared(own::STATE, &files.state).map_err(damaged)?;
        own.lend_shared(own::MEMORY, &files.memory).map_err(damaged)?;
        own.lend_shared(own::ENVIRONMENT, &spec.image.environment)?;
        own.lend_own(own::STORAGE, &spec.storage)?;
        own.expect_baseline()?;
        let base = open(&files.memory, false).map_err(damaged)?;
        let beginning = (Base::File(base), open(&spec.storage, false)?);
        let machine = Self::start(programs, own, spec, beginning).await?;
        *machine.held.lock().await = true;
        let loaded = machine.api.load_snapshot(own::STATE, own::MEMORY);
        machine.order(loaded).await.map_err(|error| match error {
            EngineError::Order { said, .. } | EngineError::Launch { said } => {
                EngineError::Template { said }
            }
            other => other,
        })?;
        Ok(machine)
    }

    /// From the program to a process that takes orders, and is of a version that pyro knows.
    async fn start(
        programs: &Programs,
        mut own: Own,
        spec: &MachineSpec,
        (base, storage): (Base, File),
    ) -> Result<Self> {
        own.lend_targets()?;
        let knocks = own.listen(&format!("{}_{}", own::AGENT, link::PORT))?;
        let (console_reader, console_writer) = text_pipe()?;
        let (errors_reader, errors_writer) = text_pipe()?;
        let (mut command, confinement) = programs.command(&own, spec)?;
        command.args(["--api-sock", own::API, "--level", "Error"]);
        command.stdin(Stdio::null()).stdout(console_writer).stderr(errors_writer).env_clear();
        let created = own.watch().map_err(EngineError::io("cannot watch a directory"))?;
        let (process, ending) = Process::start(command, confinement, own.hand_over())
            .await
            .map_err(EngineError::io(format!("cannot start {}", programs.firecracker.display())))?;

        let (console, errors) = (Tail::default(), Tail::default());
        let words = vec![
            tokio::spawn(console.clone().follow(console_reader)),
            tokio::spawn(errors.clone().follow(errors_reader)),
        ];
        let (tell, end) = ending::end();
        let witness = Witness { console: console.clone(), errors, words };
        tokio::spawn(witness.attend(ending, tell));
        let (tell_listens, listens) = watch::channel(false);

        let connected = tokio::select! {
            connected = connect(&own, &created) => connected,
            exit = end.known() => Err(not_started(exit)),
        };
        let api = Api::over(connected?).await?;
        check(&api.version().await?, &programs.firecracker)?;
        let (own, welcome) = (Arc::new(own), Arc::new(Notify::new()));
        let knock = tokio::spawn(hear(knocks, tell_listens.clone(), Arc::clone(&welcome)));
        let subject = Subject {
            api: api.clone(),
            own: Arc::clone(&own),
            pid: process.pid,
            storage,
            base: base.into(),
            line: Line { connected: Arc::default(), listens: tell_listens, welcome },
            vcpu_count: spec.vcpu_count,
            mem_mib: spec.mem_mib,
            fingerprint: template::fingerprint(programs)?,
        };
        Ok(Self {
            process,
            api,
            own,
            taken: Arc::default(),
            listens,
            knock,
            console,
            end,
            subject: Arc::new(subject),
            held: Arc::default(),
        })
    }

    /// What the machine is made of. The agent knows its disks by their order.
    async fn describe(&self, spec: &MachineSpec) -> Result<()> {
        let api = &self.api;
        let described = async {
            let (vcpu_count, mem_size_mib) = (spec.vcpu_count, spec.mem_mib);
            api.machine_config(&MachineConfig { vcpu_count, mem_size_mib }).await?;
            api.boot_source(&BootSource {
                kernel_image_path: own::KERNEL,
                initrd_path: own::INITRAMFS,
                boot_args: CMDLINE,
            })
            .await?;
            for (drive_id, path_on_host, is_read_only) in [
                (own::ENVIRONMENT, own::ENVIRONMENT, true),
                (own::STORAGE, own::STORAGE, false),
                (own::BASELINE, own::EMPTY, true),
            ] {
                let cache_type =
                    if is_read_only { CacheType::Unsafe } else { CacheType::Writeback };
                let is_root_device = false;
                let drive =
                    Drive { drive_id, path_on_host, is_root_device, is_read_only, cache_type };
                api.drive(&drive).await?;
            }
            api.vsock(&Vsock { guest_cid: GUEST_CID, uds_path: own::AGENT }).await?;
            api.entropy().await?;
            // Takes nothing from the guest, but gives back what that has freed.
            let (amount_mib, deflate_on_oom, free_page_reporting) = (0, true, true);
            api.balloon(&Balloon { amount_mib, deflate_on_oom, free_page_reporting }).await
        };
        self.order(described).await
    }

    /// An order on which the machine's life depends: if it ended over it, how is what counts.
    async fn order(&self, order: impl Future<Output = Result<()>>) -> Result<()> {
        match order.await {
            Ok(()) => Ok(()),
            Err(error) => match tokio::time::timeout(LAST_WORDS, self.exited()).await {
                Ok(exit) => Err(not_started(exit)),
                Err(_) => Err(error),
            },
        }
    }

    /// Resolves when the agent has said that it listens.
    pub(super) async fn until_agent_listens(&self) -> Result<()> {
        until(self.listens.clone()).await.map_err(EngineError::io("the agent was not heard"))
    }

    /// Writes a machine that is held still to these files.
    pub(super) async fn freeze_into(&self, files: &Files) -> Result<()> {
        self.api.create_snapshot(Snapshot::Diff, own::STATE, own::MEMORY).await?;
        self.own.take(own::STATE, &files.state)?;
        self.own.take(own::MEMORY, &files.memory)
    }
}

#[async_trait]
impl Machine for FirecrackerMachine {
    async fn insert_baseline(&self, baseline: &Path) -> Result<()> {
        self.own.show(own::BASELINE, baseline)?;
        self.api.change_drive(own::BASELINE, own::BASELINE).await
    }

    async fn connect(&self) -> Result<Box<dyn AgentStream>> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(EngineError::StreamTaken);
        }
        let (own, listens) = (Arc::clone(&self.own), self.listens.clone());
        let (end, line) = (self.end.clone(), Arc::clone(&self.subject.line.connected));
        let connected = async move {
            until(listens).await?;
            let stream = link::open_port(own.connect(own::AGENT).await?).await?;
            let again = rustix::io::fcntl_dupfd_cloexec(&stream, 3)?;
            *line.lock().unwrap_or_else(PoisonError::into_inner) = Some(again);
            Ok(stream)
        };
        Ok(Box::new(Link::once(async move {
            tokio::select! {
                connected = connected => connected,
                _ = end.known() => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        })))
    }

    fn process(&self) -> Option<(u32, u64)> {
        Some((self.process.pid, self.process.start_time))
    }

    fn console_tail(&self) -> String {
        self.console.lines()
    }

    async fn exited(&self) -> Exit {
        self.end.known().await
    }

    async fn kill(&self, patience: Duration) {
        self.end.bring_about(&self.process, patience).await;
    }

    async fn pause(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        self.api.pause().await?;
        *held = true;
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        self.api.resume().await?;
        *held = false;
        Ok(())
    }

    async fn capture(&self, scope: Scope, capture: &Path) -> Result<Captured> {
        let held = Arc::clone(&self.held).lock_owned().await;
        let (subject, taken) = (Arc::clone(&self.subject), Arc::clone(&self.taken));
        let path = capture.to_owned();
        // On its own: were it dropped half way, the machine would stay paused.
        let work = tokio::spawn(async move {
            let captured = capture::capture(subject, held, scope, path).await;
            if scope == Scope::DiskAndMemory {
                taken.store(false, Ordering::Relaxed);
            }
            captured
        });
        work.await.unwrap_or_else(|error| Err(unwritten()(io::Error::other(error))))
    }

    async fn usage(&self) -> Result<Usage> {
        self.process.usage().map_err(EngineError::io("cannot see what the machine takes"))
    }
}

impl Drop for FirecrackerMachine {
    fn drop(&mut self) {
        self.knock.abort();
    }
}

fn text_pipe() -> Result<(pipe::Receiver, OwnedFd)> {
    let made = || {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok::<_, io::Error>((pipe::Receiver::from_owned_fd(reader)?, writer))
    };
    made().map_err(EngineError::io("cannot make a pipe"))
}

/// Connects to the API as soon as there is one.
async fn connect(own: &Own, created: &AsyncFd<OwnedFd>) -> Result<UnixStream> {
    let connected = async {
        loop {
            match own.connect(own::API).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mut ready = created.readable().await?;
                    let mut events = [0; 4096];
                    while rustix::io::read(created.get_ref(), &mut events).is_ok() {}
                    ready.clear_ready();
                }
                // It is bound, and listens in a moment.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tokio::time::sleep(ALMOST).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(START_PATIENCE, connected).await {
        Ok(connected) => connected.map_err(EngineError::io("cannot reach Firecracker")),
        Err(_) => Err(EngineError::Launch { said: "Firecracker does not answer".to_owned() }),
    }
}

/// A version that pyro does not know may understand its orders otherwise.
fn check(version: &str, program: &Path) -> Result<()> {
    if Version::parse(version).is_some_and(Version::is_supported) {
        return Ok(());
    }
    Err(EngineError::WrongVersion {
        engine: EngineKind::Firecracker,
        program: program.display().to_string(),
        found: format!("Firecracker {}", version.chars().take(40).collect::<String>()),
        supported: version::SUPPORTED,
        fix: FIX,
    })
}

/// The agent's knock. It is held, and nothing is read from it: the agent notices by its loss that it
/// was restored. Nobody accepts what else the guest may send here, until its next knock is welcome.
async fn hear(knocks: UnixListener, listens: watch::Sender<bool>, welcome: Arc<Notify>) {
    while let Ok(_held) = knocks.accept().await {
        listens.send_replace(true);
        welcome.notified().await;
    }
}

async fn until(mut told: watch::Receiver<bool>) -> io::Result<()> {
    let lost = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    told.wait_for(|told| *told).await.map(drop).map_err(lost)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Who hears the machine's last words.
struct Witness {
    console: Tail,
    errors: Tail,
    words: Vec<JoinHandle<()>>,
}

impl Witness {
    async fn attend(self, ending: Ending, tell: TellEnd) {
        let status = ending.await;
        hear_out(self.words).await;
        let console = self.console.lines();
        tell.tell(match status {
            Ok(Ok(status)) if status.success() && console.lines().any(|line| line == GOODBYE) => {
                Exit::PoweredOff
            }
            status => {
                let how = match status {
                    Ok(Ok(status)) => describe(status),
                    Ok(Err(error)) => format!("Firecracker is lost: {error}"),
                    Err(_) => "Firecracker is lost".to_owned(),
                };
                died(how, [self.errors.lines(), console])
            }
        });
    }
}

/// See `FcExitCode` of Firecracker's sources.
fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(0) => "the machine reset itself".to_owned(),
        Some(148) => "Firecracker was ended for a forbidden system call".to_owned(),
        _ => format!("Firecracker ended: {status}"),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
