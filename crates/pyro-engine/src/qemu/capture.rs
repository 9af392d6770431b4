//! Capturing a running machine, and bringing it back.
//!
//! ```text
//! memory   the machine's pages, a sparse file
//! pages    which of them count, one bit each
//! base     what the others are: the memory of the machine's template, packed
//! state    all else that QEMU knows of it
//! ```
//!
//! `base` is the template's own file under another name: it takes no space, and stays when the
//! template goes. The state is not that of a migration, which would have to carry a memory that is
//! mapped privately, but what Xen has QEMU save: the devices alone.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_contract::workspace::EngineKind;
use pyro_layers::sparse::copy_sparse;
use rustix::fs::{AtFlags, CWD, linkat};
use tokio::sync::OwnedMutexGuard;

use super::machine::{Beginning, QemuMachine};
use super::qmp::Monitor;
use super::ram::{Origin, Ram};
use super::{Maker, memory, template};
use crate::capture::{
    self, Captured, Disk, Manifest, MemoryPart, PAGE, PageSet, Partial, Scope, Sum, Summing,
    blocking, copy_verified, correct, draft, part, unusable, unwritten,
};
use crate::{EngineError, MachineSpec, Result, packed};

const ENGINE: EngineKind = EngineKind::Qemu;

const MEMORY: &str = "memory";
const PAGES: &str = "pages";
const BASE: &str = "base";
const STATE: &str = "state";
const HOLDER: &str = "holder.json";

/// What of a machine is captured.
pub(crate) struct Subject {
    pub(crate) maker: Maker,
    pub(crate) monitor: Monitor,
    pub(crate) storage: File,
    pub(crate) ram: Ram,
    /// Process id and start time.
    pub(crate) process: (u32, u64),
    pub(crate) vcpu_count: u8,
    pub(crate) mem_mib: u32,
}

/// Copies in the making.
struct Drafts {
    partial: Partial,
    disk: Disk,
    /// The copied pages.
    memory: Option<File>,
}

/// See [`crate::Machine::capture`]. `held` says whether the machine is paused, and keeps others from
/// changing that.
pub(crate) async fn capture(
    subject: Arc<Subject>,
    held: OwnedMutexGuard<bool>,
    scope: Scope,
    path: PathBuf,
) -> Result<Captured> {
    let drafting = Arc::clone(&subject);
    let drafts = blocking(move || drafting.draft(scope, &path)).await?;
    let begun = Instant::now();
    if !*held && let Err(error) = subject.monitor.stop().await {
        // It may yet stop.
        let _ = subject.monitor.go_on().await;
        return Err(error);
    }
    let corrected = Arc::clone(&subject).correct(drafts).await;
    let mut pause = Duration::ZERO;
    if !*held {
        // Whatever became of the capture.
        subject.monitor.go_on().await?;
        pause = begun.elapsed();
    }
    let (drafts, pages) = corrected?;
    blocking(move || subject.publish(drafts, pages, pause)).await
}

impl Subject {
    fn draft(&self, scope: Scope, path: &Path) -> Result<Drafts> {
        let partial = Partial::begin(path)?;
        // Stopping a machine writes its disk through; most of it is better written before.
        let _ = self.storage.sync_data();
        let drafted = || -> io::Result<_> {
            let memory = match scope {
                Scope::Disk => None,
                Scope::DiskAndMemory => {
                    let copy = partial.create(MEMORY)?;
                    copy.set_len(u64::from(self.mem_mib) << 20)?;
                    draft(&self.ram.look(self.process)?, &copy)?;
                    Some(copy)
                }
            };
            Ok((Disk::draft(self.storage.try_clone()?, &partial)?, memory))
        };
        let (disk, memory) = drafted().map_err(unwritten())?;
        Ok(Drafts { partial, disk, memory })
    }

    /// While the machine stands still.
    async fn correct(self: Arc<Self>, drafts: Drafts) -> Result<(Drafts, Option<PageSet>)> {
        if drafts.memory.is_some() {
            let state = drafts.partial.create(STATE).map_err(unwritten())?;
            let written = File::options().write(true).open(drafts.partial.path().join(STATE));
            self.monitor.save_devices(written.map_err(unwritten())?.as_fd()).await?;
            drop(state);
        }
        blocking(move || {
            let corrected = || -> io::Result<_> {
                let mut pages = None;
                if let Some(copy) = &drafts.memory {
                    let look = self.ram.look(self.process)?;
                    correct(&look, copy)?;
                    pages = Some(look.changed().clone());
                }
                drafts.disk.correct()?;
                Ok(pages)
            };
            let pages = corrected().map_err(unwritten())?;
            Ok((drafts, pages))
        })
        .await
    }

    fn publish(&self, drafts: Drafts, pages: Option<PageSet>, pause: Duration) -> Result<Captured> {
        let Drafts { partial, disk, memory } = drafts;
        let memory = match (memory, pages) {
            (Some(content), Some(pages)) => Some(self.describe(&partial, &content, &pages)?),
            _ => None,
        };
        capture::publish(partial, ENGINE, &disk, memory, pause)
    }

    fn describe(&self, partial: &Partial, content: &File, pages: &PageSet) -> Result<MemoryPart> {
        let described = || -> io::Result<_> {
            let list = partial.create(PAGES)?;
            list.write_all_at(&pages.to_bytes(), 0)?;
            if let Some(base) = self.ram.base() {
                keep(base, &partial.path().join(BASE))?;
            }
            let state = File::open(partial.path().join(STATE))?;
            Ok((Sum::of(content)?, Sum::of(&state)?, Sum::of(&list)?))
        };
        let (content, state, pages) = described().map_err(unwritten())?;
        Ok(MemoryPart {
            fingerprint: template::fingerprint(&self.maker)?,
            vcpu_count: self.vcpu_count,
            mem_mib: self.mem_mib,
            content,
            state,
            pages: Some(pages),
            based: self.ram.base().is_some(),
        })
    }
}

/// Gives a file another name; where that is impossible, a copy: it was removed meanwhile, or is on
/// another filesystem.
fn keep(file: &File, name: &Path) -> io::Result<()> {
    let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    if linkat(CWD, by_descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW).is_ok() {
        return Ok(());
    }
    copy_sparse(file, &File::create_new(name)?).map(drop).map_err(io::Error::other)
}

/// See [`crate::Engine::recover`].
pub(crate) async fn recover(
    maker: &Maker,
    capture: &Path,
    spec: &MachineSpec,
) -> Result<QemuMachine> {
    let fingerprint = template::fingerprint(maker)?;
    let (capture, taking) = (capture.to_owned(), spec.clone());
    let beginning = blocking(move || {
        let manifest = Manifest::read(&capture, ENGINE)?;
        take(&capture, manifest.memory(&taking, &fingerprint)?)
    });
    QemuMachine::launch(maker, beginning.await?, spec).await
}

/// Copies of all that a machine begins with.
fn take(capture: &Path, known: &MemoryPart) -> Result<Beginning> {
    let sound = |name: &'static str, sum: &Sum| -> Result<File> {
        let file = part(capture, name)?;
        Sum::of(&file)
            .and_then(|seen| sum.check(seen))
            .map_err(|error| unusable(name, error, EngineError::io("cannot read the capture")))?;
        Ok(file)
    };
    let failed =
        |name| move |error| unusable(name, error, EngineError::io("cannot take the capture"));
    let mut state = sound(STATE, &known.state)?;
    let state = state.rewind().and_then(|()| memory::sealed(&mut state)).map_err(failed(STATE))?;
    let base = if known.based { Some(part(capture, BASE)?) } else { None };
    let content = part(capture, MEMORY)?;
    let length = u64::from(known.mem_mib) << 20;
    let differs = match &known.pages {
        Some(sum) => {
            let list = sound(PAGES, sum)?;
            let mut text = vec![0; sum.length.min(length) as usize];
            list.read_exact_at(&mut text, 0)
                .and_then(|()| PageSet::from_bytes(&text, length))
                .map_err(failed(PAGES))?
        }
        None => PageSet::none(length),
    };
    let fill = |memory: &File| match &base {
        Some(base) => {
            packed::unpack(base, memory)?;
            lay_over(&content, &differs, memory, &known.content)
        }
        None => copy_verified(&content, memory, &known.content),
    };
    let memory =
        memory::attach(&capture.join(HOLDER), known.mem_mib, fill).map_err(failed(MEMORY))?;
    Ok(Beginning::Recover { memory, state, origin: Origin { base, differs } })
}

/// Replaces the pages that are not the base's.
fn lay_over(content: &File, pages: &PageSet, memory: &File, sum: &Sum) -> io::Result<()> {
    let mut summing = Summing::default();
    let mut buffer = vec![0; 64 * PAGE];
    let mut at = 0;
    while let Some(run) = pages.next(at) {
        at = run.start;
        while at < run.end {
            let length = buffer.len().min((run.end - at) as usize);
            let piece = &mut buffer[..length];
            content.read_exact_at(piece, at)?;
            summing.add(at, piece);
            memory.write_all_at(piece, at)?;
            at += length as u64;
        }
    }
    sum.check(summing.done(content.metadata()?.len()))
}
