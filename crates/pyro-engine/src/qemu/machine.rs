//! A running QEMU machine.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::capture::{Captured, Scope, unwritten};
use crate::console::Tail;
use crate::ending::{self, End, TellEnd, died, hear_out, not_started};
use crate::files::{open, open_by_path};
use crate::jail::{Installed, Jail};
use crate::process::{Confinement, Ending, Process};
use crate::qemu::capture::Subject;
use crate::qemu::command_line::{self, Fds, Layout, Memory, Past, Start};
use crate::qemu::qmp::Monitor;
use crate::qemu::ram::{Origin, Ram};
use crate::qemu::{Acceleration, Maker, memory, tsc};
use crate::{AgentStream, EngineError, Exit, Machine, MachineSpec, Result, Usage};

/// How long QEMU may take to build the machine; some tens of milliseconds on an idle host.
const BUILD_PATIENCE: Duration = Duration::from_secs(20);

/// The set of descriptors that holds the first baseline. Those of the command line are numbered like their
/// descriptors, which are few.
const BASELINE_SET: u32 = 1_000_000;

/// What the agent says when it has let go of a host that is not there any more.
const LOST: &str = "pyro-guest: the host is gone";

/// How long a restored machine may take to notice that it lost whom it was connected to; some tens of
/// milliseconds, if it is not busy with something else.
const NOTICE_PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct QemuMachine {
    process: Process,
    agent: Mutex<Option<UnixStream>>,
    monitor: Monitor,
    console: Tail,
    end: End,
    /// How many baselines it was given.
    baselines: AtomicU32,
    /// Also keeps the memory of a template or capture open: others find it through this process.
    subject: Arc<Subject>,
    /// Whether the machine is paused. Whoever has the lock decides that.
    held: Arc<AsyncMutex<bool>>,
    /// QEMU's end of the agent's stream, for a machine that must first notice that it lost one.
    port: Mutex<Option<OwnedFd>>,
}

/// One end of each of the machine's sockets; the other is QEMU's.
struct Host {
    /// None for a machine that nobody shall be connected to.
    agent: Option<UnixStream>,
    monitor: UnixStream,
    console: UnixStream,
    errors: pipe::Receiver,
}

/// Where a machine begins, and on what memory.
pub(crate) enum Beginning {
    /// At power-on.
    Boot,
    /// At power-on, on memory that stays when the machine is gone. Nobody is there for its agent.
    Freeze {
        /// A memfd of the machine's size.
        memory: File,
    },
    /// Where another machine was frozen; held still.
    Restore {
        /// A sealed memfd. What this machine writes stays its own.
        memory: File,
        /// What [`QemuMachine::save`] wrote.
        state: File,
        /// What the memory is.
        origin: Origin,
    },
    /// Where another machine was captured; held still.
    Recover {
        /// A sealed memfd. What this machine writes stays its own.
        memory: File,
        /// What QEMU wrote of its devices.
        state: File,
        /// What the memory is.
        origin: Origin,
    },
}

impl QemuMachine {
    pub(crate) async fn launch(
        maker: &Maker,
        beginning: Beginning,
        spec: &MachineSpec,
    ) -> Result<Self> {
        let Prepared { command, jail, held, host, state, port, storage, ram } =
            prepare(maker, beginning, spec)?;
        let (process, ending) = Process::start(command, Confinement::Jail(Box::new(jail)), held.0)
            .await
            .map_err(EngineError::io(format!("cannot start {}", maker.program.display())))?;
        let console = Tail::default();
        let errors = Tail::default();
        let monitor = Monitor::default();
        let words = vec![
            tokio::spawn(console.clone().follow(host.console)),
            tokio::spawn(errors.clone().follow(host.errors)),
            tokio::spawn(monitor.clone().attend(host.monitor)),
        ];
        let (tell, end) = ending::end();
        let witness = Witness { console: console.clone(), errors, monitor: monitor.clone(), words };
        tokio::spawn(witness.attend(ending, tell));
        let subject = Subject {
            maker: maker.clone(),
            monitor: monitor.clone(),
            storage,
            ram,
            process: (process.pid, process.start_time),
            vcpu_count: spec.vcpu_count,
            mem_mib: spec.mem_mib,
        };
        let machine = Self {
            process,
            agent: Mutex::new(host.agent),
            monitor,
            console,
            end,
            baselines: AtomicU32::new(0),
            subject: Arc::new(subject),
            held: Arc::new(AsyncMutex::new(state.is_some())),
            port: Mutex::new(port),
        };
        match state {
            None => machine.until_built().await?,
            Some((state, past)) => machine.go_on_from(state, past).await?,
        }
        Ok(machine)
    }

    /// A QEMU that refuses its arguments or files has ended before the guest runs.
    async fn until_built(&self) -> Result<()> {
        let built = async {
            self.monitor.until_built().await;
            Ok(())
        };
        match tokio::time::timeout(BUILD_PATIENCE, self.or_its_end(built)).await {
            Ok(built) => built,
            Err(_) => Err(EngineError::Launch { said: "QEMU does not answer".to_owned() }),
        }
    }

    /// Takes over the state of a frozen machine.
    async fn go_on_from(&self, state: RawFd, past: Past) -> Result<()> {
        let restored = self.or_its_end(self.monitor.migrate_from(state)).await;
        // What QEMU says while it reads a state is about that state.
        restored.map_err(|error| match error {
            EngineError::Launch { said } | EngineError::Order { said, .. } => match past {
                Past::Unconnected => EngineError::Template { said },
                Past::Connected => EngineError::Capture { said },
            },
            error => error,
        })
    }

    /// Writes all that the machine is, but its shared memory and its disks. It must be held still.
    pub(crate) async fn save(&self, state: BorrowedFd<'_>) -> Result<()> {
        self.monitor.migrate_to(state).await
    }

    /// Resolves once these words stand on the machine's console.
    pub(crate) async fn until_said(&self, words: &str) -> Result<()> {
        self.or_its_end(async {
            self.console.until_said(words).await;
            Ok(())
        })
        .await
    }

    async fn or_its_end<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            exit = self.exited() => Err(not_started(exit)),
        }
    }

    /// A machine that was captured holds its agent's port open, to somebody who is not there any more.
    /// Once it has noticed it is given the new one; before, that one's first words would be taken for
    /// the old one's next.
    fn reconnect(&self) {
        let port = self.port.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(port) = port else { return };
        let (monitor, console) = (self.monitor.clone(), self.console.clone());
        tokio::spawn(async move {
            // QEMU has an event for it, of which it swallows what comes too soon after another.
            let noticed = console.until_said(LOST);
            if tokio::time::timeout(NOTICE_PATIENCE, noticed).await.is_err() {
                // Then its agent was not connected, or is no more.
                tracing::warn!("a machine did not notice that it was restored");
            }
            if let Err(error) = monitor.connect_agent(port.as_fd()).await {
                tracing::warn!(%error, "a restored machine's agent cannot be reached");
            }
        });
    }
}

#[async_trait]
impl Machine for QemuMachine {
    async fn insert_baseline(&self, baseline: &Path) -> Result<()> {
        let file = open(baseline, false)?;
        let number = self.baselines.fetch_add(1, Ordering::Relaxed);
        let (set, name) = (BASELINE_SET + number, format!("baseline{number}"));
        self.monitor.execute("add-fd", json!({"fdset-id": set}), Some(file.as_fd())).await?;
        let node = json!({
            "driver": "raw",
            "node-name": name,
            "read-only": true,
            "file": {
                "driver": "file",
                "filename": format!("/dev/fdset/{set}"),
                "locking": "off",
                "read-only": true,
            },
        });
        self.monitor.execute("blockdev-add", node, None).await?;
        let drive = json!({
            "path": format!("/machine/peripheral/{}", command_line::BASELINE),
            "property": "drive",
            "value": name,
        });
        self.monitor.execute("qom-set", drive, None).await?;
        if let Some(before) = number.checked_sub(1) {
            let node = json!({"node-name": format!("baseline{before}")});
            self.monitor.execute("blockdev-del", node, None).await?;
            let set = json!({"fdset-id": BASELINE_SET + before});
            self.monitor.execute("remove-fd", set, None).await?;
        }
        Ok(())
    }

    async fn pause(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        self.monitor.stop().await?;
        *held = true;
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        self.monitor.go_on().await?;
        *held = false;
        self.reconnect();
        Ok(())
    }

    async fn capture(&self, scope: Scope, capture: &Path) -> Result<Captured> {
        let held = Arc::clone(&self.held).lock_owned().await;
        let work =
            super::capture::capture(Arc::clone(&self.subject), held, scope, capture.to_owned());
        // On its own: were it dropped half way, the machine would stay paused.
        tokio::spawn(work).await.unwrap_or_else(|error| Err(unwritten()(io::Error::other(error))))
    }

    async fn usage(&self) -> Result<Usage> {
        self.process.usage().map_err(EngineError::io("cannot see what the machine takes"))
    }

    async fn connect(&self) -> Result<Box<dyn AgentStream>> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(agent.ok_or(EngineError::StreamTaken)?))
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
}

/// Who hears the machine's last words.
struct Witness {
    console: Tail,
    errors: Tail,
    monitor: Monitor,
    words: Vec<JoinHandle<()>>,
}

impl Witness {
    async fn attend(self, ending: Ending, tell: TellEnd) {
        let status = ending.await;
        hear_out(self.words).await;
        let clean = matches!(&status, Ok(Ok(status)) if status.success());
        tell.tell(if clean && self.monitor.is_power_off() {
            Exit::PoweredOff
        } else if self.monitor.is_disk_full() {
            Exit::Died("the host has no space left for what the machine wrote".to_owned())
        } else {
            let how = match status {
                Ok(Ok(status)) => describe(status),
                Ok(Err(error)) => format!("QEMU is lost: {error}"),
                Err(_) => "QEMU is lost".to_owned(),
            };
            died(how, [self.errors.lines(), self.console.lines()])
        });
    }
}

fn describe(status: ExitStatus) -> String {
    if status.success() {
        "the machine reset itself".to_owned()
    } else {
        format!("QEMU ended: {status}")
    }
}

/// What is started, and what it needs while it starts.
struct Prepared {
    command: Command,
    jail: Jail,
    /// QEMU's descriptors; ours are closed once it has them.
    held: Held,
    host: Host,
    /// Where QEMU finds the state to go on from, and whom that knows.
    state: Option<(RawFd, Past)>,
    /// QEMU's end of the agent's stream, where it gets that later.
    port: Option<OwnedFd>,
    storage: File,
    ram: Ram,
}

/// Descriptors for QEMU, under their own numbers.
#[derive(Default)]
struct Held(Vec<OwnedFd>);

impl Held {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.0.push(fd);
        number
    }
}

/// Opens all that the machine needs and writes its command line.
fn prepare(maker: &Maker, beginning: Beginning, spec: &MachineSpec) -> Result<Prepared> {
    let mut held = Held::default();
    let (agent, agent_fd) = socket()?;
    let (monitor, monitor_fd) = socket()?;
    let (console, console_fd) = socket()?;
    let (errors, errors_fd) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(EngineError::io("cannot make a pipe"))?;
    let errors =
        pipe::Receiver::from_owned_fd(errors).map_err(EngineError::io("cannot make a pipe"))?;

    let again = |file: &File| file.try_clone().map_err(EngineError::io("cannot share a file"));
    let storage = open(&spec.storage, true)?;
    let (port, agent_number) = match beginning {
        Beginning::Recover { .. } => (Some(agent_fd), -1),
        _ => (None, held.add(agent_fd)),
    };
    let fds = Fds {
        agent: agent_number,
        monitor: held.add(monitor_fd),
        console: held.add(console_fd),
        environment: held.add(open(&spec.image.environment, false)?),
        storage: held.add(again(&storage)?),
    };
    let is_freeze = matches!(beginning, Beginning::Freeze { .. });
    let (start, state, ram) = match beginning {
        Beginning::Restore { memory, state, origin } => {
            let state = held.add(state);
            let past = Past::Unconnected;
            (Start::Incoming(past), Some((state, past)), Ram::Private(memory, origin))
        }
        Beginning::Recover { memory, state, origin } => {
            let state = held.add(state);
            let past = Past::Connected;
            (Start::Incoming(past), Some((state, past)), Ram::Private(memory, origin))
        }
        Beginning::Boot | Beginning::Freeze { .. } => {
            let memory = match beginning {
                Beginning::Freeze { memory } => memory,
                _ => memory::create(spec.mem_mib).map_err(EngineError::io("cannot make memory"))?,
            };
            let start = Start::Boot {
                kernel: held.add(open_by_path(&spec.image.kernel, spec.run_as)?),
                initramfs: held.add(open_by_path(&spec.image.initramfs, spec.run_as)?),
                tsc_khz: match maker.acceleration {
                    Acceleration::Emulated => tsc::khz(),
                    Acceleration::Hardware => 0,
                },
            };
            (start, None, Ram::Own(memory))
        }
    };
    let memory = match &ram {
        Ram::Own(file) => Memory { file: held.add(again(file)?), shared: true },
        Ram::Private(file, _) => Memory { file: held.add(again(file)?), shared: false },
    };
    let layout = Layout {
        acceleration: maker.acceleration,
        vcpu_count: spec.vcpu_count,
        mem_mib: spec.mem_mib,
        memory: Some(memory),
        start,
        fds,
    };
    let mut command = Command::new(&maker.program);
    command.args(command_line::arguments(&layout)).stderr(errors_fd);
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
    let numbers = held.0.iter().map(AsRawFd::as_raw_fd).collect();
    let jail =
        Jail::new(&spec.runtime_dir, (&maker.program, Installed::Prefix), spec.run_as, numbers)
            .map_err(EngineError::io("cannot prepare the machine's confinement"))?;
    let jail = match maker.acceleration {
        Acceleration::Hardware => jail,
        // What an emulator translates is scattered; its guest gains nothing from large pages.
        Acceleration::Emulated => jail.with_small_pages(),
    };
    let host = Host { agent: (!is_freeze).then_some(agent), monitor, console, errors };
    Ok(Prepared { command, jail, held, host, state, port, storage, ram })
}

fn socket() -> Result<(UnixStream, OwnedFd)> {
    let pair = || {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok::<_, io::Error>((UnixStream::from_std(ours)?, OwnedFd::from(theirs)))
    };
    pair().map_err(EngineError::io("cannot make a socket"))
}
