//! Engines: what isolates a workspace.
//!
//! An [`Engine`] launches a [`Machine`] from disks and a shape, hands back a byte stream to the
//! agent inside, and says honestly what else it can do. Everything above is engine-blind: it sees
//! disks as [`pyro_layers::Layer`]s and machines as streams, and must not assume that a machine is
//! a local process. This crate knows nothing of workspaces, environments or doors.

mod error;
pub mod kvm;
pub mod qemu;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pyro_contract::workspace::EngineKind;
use pyro_layers::Layer;
use tokio::io::{AsyncRead, AsyncWrite};

pub use error::EngineError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, EngineError>;

/// What to launch. All paths are the host's; nothing is copied.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Kernel, an uncompressed ELF.
    pub kernel: PathBuf,
    /// Initial ramdisk with the agent as `/init` and the kernel's modules.
    pub initramfs: PathBuf,
    /// The environment: an erofs image, read-only, shared by many machines.
    pub environment: PathBuf,
    /// The baseline of `/workspace`: an erofs image, read-only.
    pub baseline: PathBuf,
    /// Where [`Engine::create_storage`] made this machine's own storage.
    pub storage: PathBuf,
    /// A directory for this run's leftovers (console log); emptied by whoever launches.
    pub runtime_dir: PathBuf,
    /// Virtual CPUs.
    pub vcpu_count: u8,
    /// Memory, MiB.
    pub mem_mib: u32,
    /// When the host side is root: run the machine's process under this uid and gid.
    pub run_as: Option<u32>,
}

/// How strong the wall is, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// Hardware virtualization.
    Hardware,
    /// The CPU is emulated in software.
    Emulated,
}

/// What an engine found out about this host, without trying for long.
#[derive(Debug, Clone)]
pub struct Probe {
    /// How it would run here; `None` if it cannot.
    pub acceleration: Option<Acceleration>,
    /// What was found, in words: the program and its version, or what is missing.
    pub found: String,
    /// Why the engine is unusable or slow here, if it is.
    pub reason: Option<String>,
    /// The command that mends it.
    pub fix: Option<String>,
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

    /// Makes the empty writable storage of a new machine at `storage`, at most `disk_mib` large.
    fn create_storage(&self, storage: &Path, disk_mib: u32) -> Result<()>;

    /// Everything a machine wrote to its storage, read without the machine. The machine must be
    /// off, or its disk frozen.
    fn open_storage(&self, storage: &Path) -> Result<Storage>;

    /// Starts a machine. When this returns its process runs; the agent may still be booting.
    async fn launch(&self, spec: &MachineSpec) -> Result<Box<dyn Machine>>;
}

/// The writable layers of a machine.
pub struct Storage {
    /// What was written over the environment, in overlayfs form.
    pub machine: Arc<dyn Layer>,
    /// What was written over the baseline, in overlayfs form.
    pub workspace: Arc<dyn Layer>,
}

/// A running machine. Dropping it kills it.
#[async_trait]
pub trait Machine: Send + Sync {
    /// The one byte stream to the agent. The first call takes it.
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
}
