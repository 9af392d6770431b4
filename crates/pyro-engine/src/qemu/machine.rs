//! A running QEMU machine.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::console::Tail;
use crate::files::{open, open_by_path};
use crate::jail::{Installed, Jail};
use crate::process::{Confinement, Ending, Process};
use crate::qemu::command_line::{self, Fds, Layout, Memory, Start};
use crate::qemu::qmp::Monitor;
use crate::qemu::{Acceleration, Maker, tsc};
use crate::{AgentStream, EngineError, Exit, Machine, MachineSpec, Result, Usage};

/// How long QEMU may take to build the machine; some tens of milliseconds on an idle host.
const BUILD_PATIENCE: Duration = Duration::from_secs(20);

/// The set of descriptors that holds the first baseline. Those of the command line are numbered like their
/// descriptors, which are few.
const BASELINE_SET: u32 = 1_000_000;

/// How long the last words of an ended process may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct QemuMachine {
    process: Process,
    agent: Mutex<Option<UnixStream>>,
    monitor: Monitor,
    console: Tail,
    exit: watch::Receiver<Option<Exit>>,
    /// How many baselines it was given.
    baselines: AtomicU32,
    /// Others of the same template find it through this process.
    _memory: Option<File>,
}

/// One end of each of the machine's sockets; the other is QEMU's.
struct Host {
    agent: UnixStream,
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
    },
}

impl QemuMachine {
    pub(crate) async fn launch(
        maker: &Maker,
        beginning: Beginning,
        spec: &MachineSpec,
    ) -> Result<Self> {
        let Prepared { command, jail, held, host, state } = prepare(maker, &beginning, spec)?;
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
        let (tell, exit) = watch::channel(None);
        let witness = Witness { console: console.clone(), errors, monitor: monitor.clone(), words };
        tokio::spawn(witness.attend(ending, tell));
        let (agent, memory) = match beginning {
            Beginning::Boot => (Some(host.agent), None),
            Beginning::Freeze { .. } => (None, None),
            Beginning::Restore { memory, .. } => (Some(host.agent), Some(memory)),
        };
        let agent = Mutex::new(agent);
        let machine = Self {
            process,
            agent,
            monitor,
            console,
            exit,
            baselines: AtomicU32::new(0),
            _memory: memory,
        };
        match state {
            None => machine.until_built().await?,
            Some(state) => machine.go_on_from(state).await?,
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
    async fn go_on_from(&self, state: RawFd) -> Result<()> {
        let restored = self.or_its_end(self.monitor.migrate_from(state)).await;
        // What QEMU says while it reads a state is about that state.
        restored.map_err(|error| match error {
            EngineError::Launch { said } | EngineError::Order { said, .. } => {
                EngineError::Template { said }
            }
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
            exit = self.exited() => Err(EngineError::Launch {
                said: match exit {
                    Exit::Died(said) => said,
                    Exit::PoweredOff => "the machine switched itself off".to_owned(),
                },
            }),
        }
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
        self.monitor.execute("stop", json!({}), None).await
    }

    async fn resume(&self) -> Result<()> {
        self.monitor.execute("cont", json!({}), None).await
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
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
        // The witness never leaves without a word, unless the runtime itself is going down.
        ended.ok().flatten().unwrap_or_else(|| Exit::Died("nobody saw how".to_owned()))
    }

    async fn kill(&self, patience: Duration) {
        self.process.kill();
        let _ = tokio::time::timeout(patience, self.exited()).await;
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
    async fn attend(self, ending: Ending, tell: watch::Sender<Option<Exit>>) {
        let status = ending.await;
        // Its ends are closed now, so these end too, once they have read what is left.
        let _ = tokio::time::timeout(LAST_WORDS, async {
            for word in self.words {
                let _ = word.await;
            }
        })
        .await;
        let clean = matches!(&status, Ok(Ok(status)) if status.success());
        let exit = if clean && self.monitor.is_power_off() {
            Exit::PoweredOff
        } else if self.monitor.is_disk_full() {
            Exit::Died("the host has no space left for what the machine wrote".to_owned())
        } else {
            let how = match status {
                Ok(Ok(status)) => describe(status),
                Ok(Err(error)) => format!("QEMU is lost: {error}"),
                Err(_) => "QEMU is lost".to_owned(),
            };
            let said = [how, self.errors.lines(), self.console.lines()];
            Exit::Died(said.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n"))
        };
        tell.send_replace(Some(exit));
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
    /// Where QEMU finds the state to go on from.
    state: Option<RawFd>,
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
fn prepare(maker: &Maker, beginning: &Beginning, spec: &MachineSpec) -> Result<Prepared> {
    let mut held = Held::default();
    let (agent, agent_fd) = socket()?;
    let (monitor, monitor_fd) = socket()?;
    let (console, console_fd) = socket()?;
    let (errors, errors_fd) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(EngineError::io("cannot make a pipe"))?;
    let errors =
        pipe::Receiver::from_owned_fd(errors).map_err(EngineError::io("cannot make a pipe"))?;

    let fds = Fds {
        agent: held.add(agent_fd),
        monitor: held.add(monitor_fd),
        console: held.add(console_fd),
        environment: held.add(open(&spec.image.environment, false)?),
        storage: held.add(open(&spec.storage, true)?),
    };
    let again = |file: &File| file.try_clone().map_err(EngineError::io("cannot share a file"));
    let (start, memory, state) = match beginning {
        Beginning::Restore { memory, state } => {
            let state = held.add(again(state)?);
            let memory = Memory { file: held.add(again(memory)?), shared: false };
            (Start::Incoming, Some(memory), Some(state))
        }
        Beginning::Boot | Beginning::Freeze { .. } => {
            let memory = match beginning {
                Beginning::Freeze { memory } => {
                    Some(Memory { file: held.add(again(memory)?), shared: true })
                }
                _ => None,
            };
            let start = Start::Boot {
                kernel: held.add(open_by_path(&spec.image.kernel, spec.run_as)?),
                initramfs: held.add(open_by_path(&spec.image.initramfs, spec.run_as)?),
                tsc_khz: match maker.acceleration {
                    Acceleration::Emulated => tsc::khz(),
                    Acceleration::Hardware => 0,
                },
            };
            (start, memory, None)
        }
    };
    let layout = Layout {
        acceleration: maker.acceleration,
        vcpu_count: spec.vcpu_count,
        mem_mib: spec.mem_mib,
        memory,
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
    Ok(Prepared { command, jail, held, host: Host { agent, monitor, console, errors }, state })
}

fn socket() -> Result<(UnixStream, OwnedFd)> {
    let pair = || {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok::<_, io::Error>((UnixStream::from_std(ours)?, OwnedFd::from(theirs)))
    };
    pair().map_err(EngineError::io("cannot make a socket"))
}
