//! Engines: what isolates a workspace.
//!
//! An [`Engine`] launches a [`Machine`] from disks and a shape, hands back a byte stream to the
//! agent inside, and says honestly what else it can do. Everything above is engine-blind: it sees
//! disks as [`pyro_layers::Layer`]s and machines as streams, and must not assume that a machine is
//! a local process. This crate knows nothing of workspaces, environments or doors.

mod capture;
mod console;
pub mod container;
pub mod derived;
pub mod disk;
mod ending;
mod error;
mod files;
pub mod firecracker;
mod guard;
mod jail;
pub mod kvm;
mod packed;
mod process;
mod processor;
mod program;
pub mod qemu;
mod readiness;
mod root;
pub mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pyro_contract::workspace::{EngineKind, Isolation};
use pyro_layers::Layer;
use tokio::io::{AsyncRead, AsyncWrite};

pub use capture::{Captured, Scope, sweep_captures};
pub use error::EngineError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, EngineError>;

/// What a machine starts from: files of the environment cache, read-only and shared by many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Kernel, an uncompressed ELF. An engine that shares the host's kernel has no use for it.
    pub kernel: PathBuf,
    /// Initial ramdisk with the agent as `/init` and the kernel's modules.
    pub initramfs: PathBuf,
    /// The root filesystem: an erofs image.
    pub environment: PathBuf,
}

/// What to launch.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// What it starts from.
    pub image: Image,
    /// Where [`Engine::create_storage`] or [`Engine::clone_storage`] made this machine's storage.
    pub storage: PathBuf,
    /// A directory for this run's leftovers; emptied by whoever launches.
    pub runtime_dir: PathBuf,
    /// A directory for what an engine derives from images and uses again; it need not be there.
    pub cache_dir: PathBuf,
    /// Virtual CPUs.
    pub vcpu_count: u8,
    /// Memory, MiB.
    pub mem_mib: u32,
    /// When the host side is root: run the machine's process under this uid and gid.
    pub run_as: Option<u32>,
}

/// What an engine found out about this host, without trying for long.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What would stand between a machine and this host; `None` if the engine cannot run here.
    pub isolation: Option<Isolation>,
    /// What was found, in words: the program and its version, or what is missing.
    pub found: String,
    /// Why the engine is unusable or slow here, if it is.
    pub reason: Option<String>,
    /// The command that mends it.
    pub fix: Option<String>,
}

/// What an engine's machines can do besides running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Machine::pause`] and [`Machine::resume`].
    pub pause: bool,
    /// [`Engine::prepare`] and [`Engine::restore`].
    pub templates: bool,
    /// A machine can wait for its workspace: it is given its baseline late, and, if it comes from a
    /// template, anew.
    pub waits: bool,
    /// The most that [`Machine::capture`] can keep of a running machine; `None` if it keeps nothing.
    /// What is at rest can be captured wherever anything can.
    pub captures: Option<Scope>,
    /// Why that is not its memory too, if it is not.
    pub no_memory_because: Option<&'static str>,
}

/// What a machine takes from the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Duration,
    /// Its share of the host's memory, bytes: pages that it shares with others count in part.
    pub memory_bytes: u64,
}

impl Usage {
    /// What the calling process takes.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn own() -> std::io::Result<Self> {
        process::usage_of(std::process::id())
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered itself off, or was asked to.
    PoweredOff,
    /// The machine's process died: what it said last.
    Died(String),
}

/// A byte stream to the agent.
pub trait AgentStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentStream for T {}

/// Makes machines of one kind.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Its name in the contract.
    fn kind(&self) -> EngineKind;

    /// Whether and how it works on this host. Takes milliseconds, never hangs.
    fn probe(&self) -> Probe;

    /// What would stand between a machine and this host; `None` if the engine cannot run here. The
    /// same as [`Engine::probe`] finds, for those who need not know more.
    fn isolation(&self) -> Option<Isolation> {
        self.probe().isolation
    }

    /// What its machines can do on this host.
    fn capabilities(&self) -> Capabilities;

    /// Makes the empty writable storage of a new machine at `storage`, at most `disk_mib` large.
    /// What stands there, a file or a directory, is the engine's own affair. It is not durable yet.
    /// `cache` is as [`MachineSpec::cache_dir`].
    fn create_storage(&self, storage: &Path, disk_mib: u32, cache: &Path) -> Result<()>;

    /// Everything a machine wrote to its storage, read without the machine. The machine must be
    /// off, or its disk frozen.
    fn open_storage(&self, storage: &Path) -> Result<Storage>;

    /// Starts a machine. When this returns it runs; the agent may still be booting.
    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>>;

    /// What a template, or a machine that waits, depends on besides its image and shape: the engine's
    /// program, this host's processor. Text without a meaning of its own.
    fn fingerprint(&self) -> Result<String> {
        Err(EngineError::unsupported(self.kind(), "templates"))
    }

    /// Boots a machine until its agent waits to be adopted and freezes it into the directory
    /// `template`, which is there and empty, disk included. `spec.storage` is used up.
    async fn prepare(&self, spec: &MachineSpec, template: &Path) -> Result<()> {
        let _ = (spec, template);
        Err(EngineError::unsupported(self.kind(), "templates"))
    }

    /// Makes the storage of a machine that will be restored from `template`.
    fn clone_storage(&self, template: &Path, storage: &Path) -> Result<()> {
        let _ = (template, storage);
        Err(EngineError::unsupported(self.kind(), "templates"))
    }

    /// Brings a frozen machine back, held still until [`Machine::resume`]. It differs from its
    /// siblings in nothing but its storage until it is adopted. Nothing that it does can change
    /// the template.
    ///
    /// # Errors
    /// [`EngineError::Template`] if the template is damaged, and has to be made anew.
    async fn restore(&self, template: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        let _ = (template, spec);
        Err(EngineError::unsupported(self.kind(), "templates"))
    }

    /// Keeps the storage of a machine that is off as `capture`, where nothing is yet. What stands there
    /// afterwards is the engine's own affair; removing it is all that others may do with it. It is
    /// whole or not there, whenever this ends.
    async fn capture(&self, storage: &Path, capture: &Path) -> Result<Captured> {
        let _ = (storage, capture);
        Err(EngineError::unsupported(self.kind(), "captures"))
    }

    /// Everything that was on the disk when it was captured.
    fn open_capture(&self, capture: &Path) -> Result<Storage> {
        let _ = capture;
        Err(EngineError::unsupported(self.kind(), "captures"))
    }

    /// Makes `storage` what it was when it was captured, be it new or in place of what is there: that
    /// is then lost, or, should this fail, untouched. No machine may be using it.
    ///
    /// # Errors
    /// [`EngineError::Capture`] if the capture is damaged.
    async fn recover_storage(&self, capture: &Path, storage: &Path) -> Result<()> {
        let _ = (capture, storage);
        Err(EngineError::unsupported(self.kind(), "captures"))
    }

    /// Brings a machine back that was captured with its memory, held still until [`Machine::resume`].
    /// `spec` is that of the captured machine with a storage of its own, made by
    /// [`Engine::recover_storage`] from the same capture and not used since. It must be given the
    /// baseline that it had before it is let go, and be adopted as one that goes on: what was
    /// running in it runs again from then on.
    ///
    /// # Errors
    /// [`EngineError::Capture`] if the capture is damaged, [`EngineError::Misfit`] if it has no memory
    /// or one that `spec`, the engine's program or this host's processor cannot run.
    async fn recover(&self, capture: &Path, spec: &MachineSpec) -> Result<Box<dyn Machine>> {
        let _ = (capture, spec);
        Err(EngineError::unsupported(self.kind(), "captures of memory"))
    }
}

/// The writable layers of a machine.
pub struct Storage {
    /// What was written over the environment, in overlayfs form.
    pub machine: Arc<dyn Layer>,
    /// What was written over the baseline, in overlayfs form.
    pub workspace: Arc<dyn Layer>,
    /// The machine ended in the middle of a change that is all or nothing. Starting it finishes
    /// that; until then both layers show something in between.
    pub unfinished: bool,
}

/// Keeps a machine from writing while it lives.
pub struct Stillness {
    _held: Box<dyn Send + Sync>,
}

impl Stillness {
    pub(crate) fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// A running machine. Dropping it kills it.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Gives the machine the baseline of `/workspace`, an erofs image on this host. To be called
    /// before the agent is asked to adopt; again, with another, before it is asked again.
    async fn insert_baseline(&self, baseline: &Path) -> Result<()>;

    /// The one byte stream to the agent. The first call takes it; another is there only after a
    /// capture that broke it.
    async fn connect(&self) -> Result<Box<dyn AgentStream>>;

    /// The process on this host that carries the machine, if it is one, as `(pid, start time)`:
    /// enough to recognise and end it later even if its parent is gone.
    fn process(&self) -> Option<(u32, u64)>;

    /// The last lines of the machine's console, made printable.
    fn console_tail(&self) -> String;

    /// Resolves when the machine has ended, however it did. May be awaited by several.
    async fn exited(&self) -> Exit;

    /// Ends it now, and waits for that at most `patience`.
    async fn kill(&self, patience: Duration);

    /// Holds the whole machine still; its memory stays.
    async fn pause(&self) -> Result<()>;

    /// Lets a machine go on that was paused, or restored.
    async fn resume(&self) -> Result<()>;

    /// Holds still whatever writes to the storage and flushes it, so that
    /// [`Engine::open_storage`] may read it, until the result is dropped. Several may ask at once.
    /// `None` if it is the agent that has to be asked: it froze its own disk.
    async fn stand_still(&self) -> Result<Option<Stillness>> {
        Ok(None)
    }

    /// Keeps what the machine is now as `capture`, where nothing is yet, and lets it go on; one that
    /// was paused stays so. As long as this takes, pausing and resuming wait. If it fails, or its
    /// caller is gone, the machine goes on all the same, and nothing is left behind.
    ///
    /// Its clock stands still meanwhile, and is to be set.
    ///
    /// A disk alone is as it would be found after a power cut, unless whoever asks has its agent
    /// freeze it first. Processes that shall not run in a copy before that is adopted are held by the
    /// agent.
    async fn capture(&self, scope: Scope, capture: &Path) -> Result<Captured>;

    /// What it takes from the host at this moment.
    async fn usage(&self) -> Result<Usage>;
}
