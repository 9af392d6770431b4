//! Capturing a running machine, and bringing it back.
//!
//! ```text
//! memory   the machine's whole memory, a sparse file that its copies map
//! state    all else that Firecracker knows of it
//! ```
//!
//! Firecracker writes only the pages that changed since it began (it keeps track of them for a machine
//! that was restored), and into memory, for it waits until they are through. They become a file together
//! with what the memory was before once the machine goes on.
//!
//! A snapshot ends all connections of the machine, and not only those of its copies.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyro_contract::workspace::EngineKind;
use rustix::fs::ioctl_ficlone;
use rustix::net::{Shutdown, shutdown};
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::api::{Api, Snapshot};
use super::machine::{FirecrackerMachine, Programs};
use super::own::{self, Own};
use super::template::{self, Files};
use crate::capture::{
    self, Captured, Disk, Manifest, MemoryPart, Partial, Scope, Sum, blocking, draft, overlay,
    part, unusable, unwritten,
};
use crate::{EngineError, MachineSpec, Result};

const ENGINE: EngineKind = EngineKind::Firecracker;

/// What of a machine is captured.
pub(super) struct Subject {
    pub(super) api: Api,
    pub(super) own: Arc<Own>,
    pub(super) pid: u32,
    pub(super) storage: File,
    pub(super) base: Mutex<Base>,
    pub(super) line: Line,
    pub(super) vcpu_count: u8,
    pub(super) mem_mib: u32,
    pub(super) fingerprint: String,
}

/// What the memory was when Firecracker began to note which pages change.
pub(super) enum Base {
    /// It was booted: nothing but zeroes. Every page that is there counts as changed.
    Zeroes,
    /// This.
    File(File),
    /// Nobody knows: a capture went wrong after Firecracker had begun anew.
    Lost,
}

/// The connection to the agent, which a snapshot breaks.
pub(super) struct Line {
    /// The host's end of it.
    pub(super) connected: Arc<Mutex<Option<OwnedFd>>>,
    /// Whether the agent can be connected to.
    pub(super) listens: watch::Sender<bool>,
    /// Another knock of the agent is welcome.
    pub(super) welcome: Arc<Notify>,
}

impl Line {
    /// The machine is about to find its connections gone. Whoever uses this one finds that at once,
    /// and the next may connect when the agent knocks again.
    fn cut(&self) {
        self.listens.send_replace(false);
        self.welcome.notify_one();
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connected) = connected {
            let _ = shutdown(connected, Shutdown::Both);
        }
    }
}

/// Copies in the making.
struct Drafts {
    partial: Partial,
    disk: Disk,
}

/// See [`crate::Machine::capture`]. `held` says whether the machine is paused, and keeps others from
/// changing that.
pub(super) async fn capture(
    subject: Arc<Subject>,
    held: OwnedMutexGuard<bool>,
    scope: Scope,
    path: PathBuf,
) -> Result<Captured> {
    let original = subject.storage.try_clone().map_err(unwritten())?;
    let drafts = blocking(move || {
        let partial = Partial::begin(&path)?;
        let disk = Disk::draft(original, &partial).map_err(unwritten())?;
        Ok(Drafts { partial, disk })
    });
    let Drafts { partial, disk } = drafts.await?;
    let begun = Instant::now();
    if !*held && let Err(error) = subject.api.pause().await {
        // It may yet stop.
        let _ = subject.api.resume().await;
        return Err(error);
    }
    let written = match scope {
        Scope::Disk => Ok(()),
        Scope::DiskAndMemory => subject.write_snapshot().await,
    };
    let corrected = blocking(move || disk.correct().map(|()| disk).map_err(unwritten())).await;
    let mut pause = Duration::ZERO;
    if scope == Scope::DiskAndMemory {
        subject.line.cut();
    }
    if !*held {
        // Whatever became of the capture.
        subject.api.resume().await?;
        pause = begun.elapsed();
    }
    written?;
    let disk = corrected?;
    let publishing = Arc::clone(&subject);
    let published = blocking(move || {
        let memory = match scope {
            Scope::Disk => None,
            Scope::DiskAndMemory => Some(publishing.keep(&partial)?),
        };
        capture::publish(partial, ENGINE, &disk, memory, pause)
    });
    let captured = published.await?;
    Ok(Captured { stream_lost: scope == Scope::DiskAndMemory, ..captured })
}

impl Subject {
    fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While the machine stands still.
    async fn write_snapshot(&self) -> Result<()> {
        let kind = match &*self.base() {
            Base::Lost => Snapshot::Full,
            // What is swapped out does not count as there.
            Base::Zeroes if has_swapped(self.pid) => Snapshot::Full,
            Base::Zeroes | Base::File(_) => Snapshot::Diff,
        };
        let (state, memory) = (own::NEW_STATE, own::NEW_MEMORY);
        let written = self.api.create_snapshot(kind, state, memory).await;
        let mut base = self.base();
        if written.is_err() && !matches!(*base, Base::Zeroes) {
            *base = Base::Lost;
        } else if kind == Snapshot::Full && matches!(*base, Base::Lost) {
            *base = Base::Zeroes;
        }
        written
    }

    /// Makes files of what Firecracker has written.
    fn keep(&self, partial: &Partial) -> Result<MemoryPart> {
        let kept = || -> io::Result<(Sum, Sum, File)> {
            let changed = self.own.written(own::NEW_MEMORY)?;
            let memory = partial.create(own::MEMORY)?;
            match &*self.base() {
                Base::File(base) => {
                    if ioctl_ficlone(&memory, base).is_err() {
                        memory.set_len(base.metadata()?.len())?;
                        draft(base, &memory)?;
                    }
                    overlay(&changed, &memory)?;
                }
                Base::Zeroes | Base::Lost => {
                    memory.set_len(changed.metadata()?.len())?;
                    draft(&changed, &memory)?;
                }
            }
            let new_state = self.own.written(own::NEW_STATE)?;
            let state = partial.create(own::STATE)?;
            state.set_len(new_state.metadata()?.len())?;
            draft(&new_state, &state)?;
            for file in [&memory, &state] {
                // For the machine's user to read, who cannot find it.
                file.set_permissions(fs::Permissions::from_mode(0o444))?;
            }
            Ok((Sum::of(&memory)?, Sum::of(&state)?, memory))
        };
        let kept = kept().map_err(unwritten());
        self.own.forget_written();
        let mut base = self.base();
        let tracked = !matches!(*base, Base::Zeroes);
        let (content, state, memory) = match kept {
            Ok(kept) => kept,
            Err(error) => {
                if tracked {
                    *base = Base::Lost;
                }
                return Err(error);
            }
        };
        if tracked {
            *base = Base::File(memory);
        }
        Ok(MemoryPart {
            fingerprint: self.fingerprint.clone(),
            vcpu_count: self.vcpu_count,
            mem_mib: self.mem_mib,
            content,
            state,
            pages: None,
            based: false,
        })
    }
}

/// See proc_pid_status(5). If that cannot be told it counts as so.
fn has_swapped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let swapped = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    swapped.is_none_or(|size| size.trim() != "0 kB")
}

/// See [`crate::Engine::recover`].
pub(super) async fn recover(
    programs: &Programs,
    capture: &Path,
    spec: &MachineSpec,
) -> Result<FirecrackerMachine> {
    let fingerprint = template::fingerprint(programs)?;
    let (checked, wanted) = (capture.to_owned(), spec.clone());
    blocking(move || {
        let manifest = Manifest::read(&checked, ENGINE)?;
        let known = manifest.memory(&wanted, &fingerprint)?;
        // They are used as they are, so they are read once before.
        for (name, sum) in [(own::STATE, &known.state), (own::MEMORY, &known.content)] {
            let file = part(&checked, name)?;
            Sum::of(&file).and_then(|seen| sum.check(seen)).map_err(|error| {
                unusable(name, error, EngineError::io("cannot read the capture"))
            })?;
        }
        Ok(())
    })
    .await?;
    let recovered = FirecrackerMachine::restore(programs, &Files::of(capture), spec).await;
    recovered.map_err(|error| match error {
        EngineError::Template { said } => EngineError::Capture { said },
        error => error,
    })
}
