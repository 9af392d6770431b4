//! A running container.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pyro_contract::workspace::EngineKind;
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

use super::cgroup::{Cgroups, Limits, SPARE_PROCESSES};
use super::config::{self, Container};
use super::filter::Kept;
use super::keeper::{self, Gate, Script};
use super::rootless::{self, mapping::Mapping};
use super::runtime::Runtime;
use super::stage::{self, Stage};
use super::stillness::{self, Stopped};
use super::{NO_MEMORY, UNPACKED, agent, cgroup, ids, loop_device, mounts, seccomp};
use crate::capture::{self, Captured, Disk, Partial, Scope, blocking, unwritten};
use crate::console::Tail;
use crate::ending::{self, End, died, hear_out};
use crate::files::open;
use crate::process::{Process, memory_share, usage_of};
use crate::{AgentStream, EngineError, Exit, Machine, MachineSpec, Result, Stillness, Usage};

/// How long a disk may take to be free of who had it before: a killed machine's is unmounted
/// by the kernel after its process is gone.
const DISK_PATIENCE: Duration = Duration::from_secs(20);
const DISK_LOOK: Duration = Duration::from_millis(2);

/// How long a runtime may take to make a container; some tens of milliseconds on an idle host.
const START_PATIENCE: Duration = Duration::from_secs(60);

const ENGINE: EngineKind = EngineKind::Container;

/// Where the project is.
const WORKSPACE: &str = "/workspace";

/// What the runtime calls the container. Each has a state directory to itself.
const ID: &str = "pyro";

/// See the module.
pub(crate) struct ContainerMachine {
    keeper: Process,
    agent: Mutex<Option<UnixStream>>,
    console: Tail,
    end: End,
    files: Arc<Files>,
    control: Arc<UnixStream>,
    takes_mounts_while_running: bool,
    /// A descriptor of the container's PID 1, once there is one.
    init: watch::Receiver<Option<Arc<OwnedFd>>>,
    runtime_dir: PathBuf,
    holds: Arc<Holds>,
    storage: PathBuf,
}

/// What the container's files are made of.
enum Files {
    /// Images that this process mounted.
    Mounted(Layers),
    /// Directories that the keeper stacks.
    Unpacked(rootless::Directory),
}

impl Files {
    /// What was written must still come to the image that is read; a directory is read as it is.
    fn flush(&self) -> rustix::io::Result<()> {
        match self {
            Self::Mounted(layers) => rustix::fs::syncfs(&layers.top),
            Self::Unpacked(_) => Ok(()),
        }
    }
}

/// Mounted as long as this lives.
struct Layers {
    /// Maps owners on disk to the container's.
    ids: OwnedFd,
    disk: OwnedFd,
    /// The disk's top directory, opened: the mount's own descriptor is a mere place.
    top: OwnedFd,
}

/// Who wants the container held still.
struct Holds {
    cgroups: Cgroups,
    keeper: u32,
    state: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    paused: bool,
    readers: u32,
    /// Where no cgroup can hold it, the processes that were stopped instead.
    stopped: Option<Stopped>,
}

/// The container stands still for a reader while this lives.
struct Reader(Arc<Holds>);

/// A keeper that was just started, and what goes with it.
struct Started {
    keeper: Process,
    ends: Ends,
    files: Files,
    cgroups: Cgroups,
    /// Where the filter is to be kept that the runtime compiles.
    filter: Option<Kept>,
}

/// This side of what connects a container to its owner.
struct Ends {
    agent: UnixStream,
    control: UnixStream,
    console: pipe::Receiver,
}

impl ContainerMachine {
    pub(crate) async fn launch(runtime: Runtime, spec: &MachineSpec) -> Result<Self> {
        let runtime_dir = spec.runtime_dir.clone();
        let takes_mounts_while_running =
            runtime.takes_mounts_while_running() && !rootless::applies();
        let (spec, storage) = (spec.clone(), spec.storage.clone());
        let started = tokio::task::spawn_blocking(move || start(&runtime, &spec))
            .await
            .map_err(|error| EngineError::Launch { said: error.to_string() })??;
        let Started { keeper, ends, files, cgroups, filter } = started;
        let Ends { agent, control, console } = ends;
        for note in &cgroups.notes {
            tracing::warn!("{note}");
        }
        let tail = Tail::default();
        let words = tokio::spawn(tail.clone().follow(console));
        let (tell_end, end) = ending::end();
        let (tell_init, init) = watch::channel(None);
        let handle = keeper.handle().map_err(EngineError::io("cannot watch the container"))?;
        let told = tail.clone();
        let holds = Arc::new(Holds { cgroups, keeper: keeper.pid, state: Mutex::default() });
        let left = Arc::clone(&holds);
        tokio::spawn(async move {
            let code = until_ended(handle).await;
            // Nothing is alive in them any more, and the keeper may have been killed.
            left.cgroups.remove();
            hear_out([words]).await;
            tell_end.tell(obituary(code, &told));
        });
        let control = Arc::new(control);
        tokio::spawn(hear(Arc::clone(&control), tell_init, filter));
        Ok(Self {
            keeper,
            agent: Mutex::new(Some(agent)),
            console: tail,
            end,
            files: Arc::new(files),
            control,
            takes_mounts_while_running,
            init,
            runtime_dir,
            holds,
            storage,
        })
    }

    /// The container's PID 1, once the runtime has started it.
    async fn init(&self) -> Result<Arc<OwnedFd>> {
        let mut init = self.init.clone();
        let said = tokio::select! {
            found = async { init.wait_for(Option::is_some).await.ok().and_then(|i| i.clone()) } => {
                match found {
                    Some(found) => return Ok(found),
                    None => self.last_words().await,
                }
            }
            _ = self.exited() => self.last_words().await,
            () = tokio::time::sleep(START_PATIENCE) => "the OCI runtime does not answer".to_owned(),
        };
        Err(EngineError::Launch { said })
    }

    async fn last_words(&self) -> String {
        match tokio::time::timeout(START_PATIENCE, self.exited()).await {
            Ok(Exit::Died(said)) => said,
            _ => "the OCI runtime started nothing".to_owned(),
        }
    }
}

#[async_trait]
impl Machine for ContainerMachine {
    async fn insert_baseline(&self, baseline: &Path) -> Result<()> {
        // A container that runs already gets it into its own namespace.
        let init = match self.takes_mounts_while_running {
            true => Some(self.init().await?),
            false => None,
        };
        let control = Arc::clone(&self.control);
        let (files, baseline) = (Arc::clone(&self.files), baseline.to_owned());
        let scratch = self.runtime_dir.clone();
        let inserted = tokio::task::spawn_blocking(move || {
            let layers = match &*files {
                Files::Mounted(layers) => layers,
                Files::Unpacked(directory) => {
                    directory.insert(&baseline)?;
                    // The keeper waits for this byte, and finds the rest.
                    return control.try_write(&[0]).map(drop);
                }
            };
            let lower = mounts::image(&baseline, layers.ids.as_fd())?;
            let project =
                mounts::overlay(lower.as_fd(), layers.disk.as_fd(), "workspace", &scratch)?;
            match init {
                Some(init) => mounts::attach_in(init.as_fd(), project.as_fd(), WORKSPACE),
                None => send(&control, project.as_fd()),
            }
        });
        match inserted.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // The keeper is gone, and knows why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(EngineError::Launch { said: self.last_words().await })
            }
            inserted => inserted.map_err(EngineError::io(format!("cannot mount {WORKSPACE}"))),
        }
    }

    async fn connect(&self) -> Result<Box<dyn AgentStream>> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(agent.ok_or(EngineError::StreamTaken)?))
    }

    fn process(&self) -> Option<(u32, u64)> {
        Some((self.keeper.pid, self.keeper.start_time))
    }

    fn console_tail(&self) -> String {
        self.console.lines()
    }

    async fn exited(&self) -> Exit {
        self.end.known().await
    }

    async fn kill(&self, patience: Duration) {
        self.end.bring_about(&self.keeper, patience).await;
    }

    async fn pause(&self) -> Result<()> {
        self.hold(|held| held.paused = true).await
    }

    async fn resume(&self) -> Result<()> {
        self.hold(|held| held.paused = false).await
    }

    async fn capture(&self, scope: Scope, capture: &Path) -> Result<Captured> {
        if scope == Scope::DiskAndMemory {
            return Err(EngineError::NoMemory { engine: ENGINE, reason: NO_MEMORY });
        }
        if matches!(*self.files, Files::Unpacked(_)) {
            return Err(EngineError::unsupported(ENGINE, UNPACKED));
        }
        let (holds, files) = (Arc::clone(&self.holds), Arc::clone(&self.files));
        let (storage, path) = (self.storage.clone(), capture.to_owned());
        // Whoever gives up on it leaves a thread behind that comes to its end.
        blocking(move || {
            let partial = Partial::begin(&path)?;
            let flush = || files.flush().map_err(unwritten());
            // Most of what there is to be written is written before anybody has to wait for it.
            flush()?;
            let disk = open(&storage, false)?;
            let disk = Disk::draft(disk, &partial).map_err(unwritten())?;
            let begun = Instant::now();
            let was_still = holds.held().is_still();
            let reader = Holds::read(&holds).map_err(unwritten())?;
            let corrected = flush().and_then(|()| disk.correct().map_err(unwritten()));
            drop(reader);
            let pause = if was_still { Duration::ZERO } else { begun.elapsed() };
            corrected?;
            capture::publish(partial, ENGINE, &disk, None, pause)
        })
        .await
    }

    async fn stand_still(&self) -> Result<Option<Stillness>> {
        let holds = Arc::clone(&self.holds);
        // Made where it freezes: if whoever asked has given up meanwhile, it is dropped there, and thaws.
        let reader = tokio::task::spawn_blocking(move || Holds::read(&holds))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(EngineError::io("cannot hold the container still"))?;
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || files.flush())
            .await
            .map_err(|error| EngineError::io("cannot flush the disk")(io::Error::other(error)))?
            .map_err(EngineError::io("cannot flush the disk"))?;
        Ok(Some(Stillness::new(reader)))
    }

    async fn usage(&self) -> Result<Usage> {
        let failed = || EngineError::io("cannot see what the container takes");
        let cgroups = &self.holds.cgroups;
        if cgroups.machine().is_none() {
            let all = stillness::descendants(self.keeper.pid).into_iter();
            return Ok(all
                .filter_map(|pid| usage_of(pid).ok())
                .fold(Usage::default(), |sum, usage| sum + usage));
        }
        let own = match self.keeper.usage() {
            // An ordinary user may not look into what nobody may look into.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Usage::default(),
            own => own.map_err(failed())?,
        };
        let memory: u64 =
            cgroups.processes().into_iter().filter_map(|pid| memory_share(pid).ok()).sum();
        Ok(Usage {
            cpu: own.cpu + cgroups.cpu().unwrap_or_default(),
            memory_bytes: own.memory_bytes + memory,
        })
    }
}

impl ContainerMachine {
    async fn hold(&self, change: impl FnOnce(&mut Held) + Send + 'static) -> Result<()> {
        let holds = Arc::clone(&self.holds);
        tokio::task::spawn_blocking(move || holds.change(change))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(EngineError::io("cannot hold the container still"))
    }
}

impl Drop for ContainerMachine {
    fn drop(&mut self) {
        self.keeper.kill();
    }
}

impl Holds {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the container still for one more reader.
    fn read(this: &Arc<Self>) -> io::Result<Reader> {
        this.change(|held| held.readers += 1)?;
        Ok(Reader(Arc::clone(this)))
    }

    /// Changes who wants it still, and makes it so. If that fails nothing has changed.
    fn change(&self, change: impl FnOnce(&mut Held)) -> io::Result<()> {
        let mut held = self.held();
        let before = (held.paused, held.readers);
        let was_still = held.is_still();
        change(&mut held);
        if was_still != held.is_still()
            && let Err(error) = self.make_so(&mut held)
        {
            (held.paused, held.readers) = before;
            return Err(error);
        }
        Ok(())
    }

    fn make_so(&self, held: &mut Held) -> io::Result<()> {
        if self.cgroups.machine().is_some() {
            return self.cgroups.freeze(held.is_still());
        }
        match (held.is_still(), held.stopped.take()) {
            (true, _) => held.stopped = Some(Stopped::stop(self.keeper, cgroup::FREEZE_PATIENCE)?),
            (false, Some(stopped)) => stopped.go_on(),
            (false, None) => {}
        }
        Ok(())
    }
}

impl Held {
    fn is_still(&self) -> bool {
        self.paused || self.readers > 0
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Thawing is one write, which does not wait. A container that has ended meanwhile has no
        // cgroup to thaw.
        let _ = self.0.change(|held| held.readers = held.readers.saturating_sub(1));
    }
}

/// Waits for the container's PID 1, and keeps the socket open: the keeper lives as long.
async fn hear(
    control: Arc<UnixStream>,
    tell: watch::Sender<Option<Arc<OwnedFd>>>,
    filter: Option<Kept>,
) {
    loop {
        if control.readable().await.is_err() {
            return;
        }
        match control.try_io(tokio::io::Interest::READABLE, || receive(&control)) {
            Ok(Some((keeper::TAG_FILTER, compiled))) => {
                let kept = filter.as_ref().map(|filter| filter.store(compiled));
                if let Some(Err(error)) = kept {
                    tracing::debug!(%error, "the compiled filter is not kept");
                }
            }
            Ok(Some((_, init))) => {
                tell.send_replace(Some(Arc::new(init)));
            }
            // The keeper has ended.
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn send(control: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let byte = [io::IoSlice::new(&[0])];
    sendmsg(control, &byte, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A descriptor, and what it is; `None` if the other side is gone.
fn receive(control: &UnixStream) -> io::Result<Option<(u8, OwnedFd)>> {
    let mut byte = [0; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut vectors = [io::IoSliceMut::new(&mut byte)];
    recvmsg(control, &mut vectors, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor.map(|descriptor| (byte[0], descriptor)))
}

/// The keeper's exit code, or -1 if it was killed.
async fn until_ended(handle: OwnedFd) -> i32 {
    let (tell, told) = oneshot::channel();
    let wait = move || {
        let status = waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED);
        let code = status.ok().flatten().and_then(|status| status.exit_status());
        let _ = tell.send(code.unwrap_or(-1));
    };
    let thread = std::thread::Builder::new().name("machine".into()).stack_size(128 * 1024);
    match thread.spawn(wait) {
        Ok(_) => told.await.unwrap_or(-1),
        Err(_) => -1,
    }
}

fn obituary(code: i32, console: &Tail) -> Exit {
    if code == keeper::ENDED_WELL {
        return Exit::PoweredOff;
    }
    let how = match code {
        keeper::ENDED_BADLY => "PID 1 of the container ended",
        -1 => "the container was killed",
        _ => "the OCI runtime failed",
    };
    died(how.to_owned(), [console.lines()])
}

/// What the stage is furnished with.
struct Furniture {
    files: Files,
    /// The container's root, where this process mounts it.
    root: Option<OwnedFd>,
    /// The environment's directory, where the keeper does.
    environment: Option<PathBuf>,
    /// The container's ids as the runtime sees them: the first, and how many.
    ids: (u32, u32),
    gate: Option<Gate>,
}

/// Mounts all there is to mount; for root.
fn mounted(spec: &MachineSpec) -> Result<Furniture> {
    if spec.storage.is_dir() {
        return Err(EngineError::Launch {
            said: "its disk is a directory, which an ordinary user's containers have; start it as \
                   that user"
                .into(),
        });
    }
    let base = ids::base(spec.run_as);
    let ids = ids::on_disk(base).map_err(EngineError::io("cannot map the container's user ids"))?;
    let storage = unused(&spec.storage)?;
    let disk = mounts::disk(&storage, ids.as_fd())
        .map_err(EngineError::io(format!("cannot mount {}", spec.storage.display())))?;
    drop(storage);
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(&disk, ".", directory, Mode::empty())
        .map_err(EngineError::io("cannot open the container's disk"))?;
    let environment = mounts::image(&spec.image.environment, ids.as_fd())
        .map_err(EngineError::io("cannot mount the environment"))?;
    let root = mounts::overlay(environment.as_fd(), disk.as_fd(), "machine", &spec.runtime_dir)
        .map_err(EngineError::io("cannot stack the container's root"))?;
    Ok(Furniture {
        files: Files::Mounted(Layers { ids, disk, top }),
        root: Some(root),
        environment: None,
        ids: (base, ids::COUNT),
        gate: None,
    })
}

/// Unpacks what has to be unpacked; for an ordinary user.
fn unpacked(spec: &MachineSpec) -> Result<Furniture> {
    let mapping = Mapping::find();
    let directory = rootless::Directory::take(&spec.storage, mapping.clone(), DISK_PATIENCE)
        .map_err(EngineError::io(format!("cannot open {}", spec.storage.display())))?;
    let environment = rootless::environment(&mapping, &spec.cache_dir, &spec.image.environment)
        .map_err(EngineError::io("cannot unpack the environment"))?;
    let ids = mapping.inner();
    let gate = Gate::new(mapping).map_err(EngineError::io("cannot make a pipe"))?;
    Ok(Furniture {
        files: Files::Unpacked(directory),
        root: None,
        environment: Some(environment),
        ids,
        gate: Some(gate),
    })
}

/// Everything up to a running keeper. Blocks for some milliseconds.
fn start(runtime: &Runtime, spec: &MachineSpec) -> Result<Started> {
    let furniture = if rootless::applies() { unpacked(spec)? } else { mounted(spec)? };
    let Furniture { files, root, environment, ids, gate } = furniture;
    let limits = Limits { vcpu_count: spec.vcpu_count, mem_mib: spec.mem_mib };
    let cgroups = Cgroups::create(limits, gate.is_none().then_some(ids.0));
    let oom_events = cgroups.oom_events();
    let mut filter = Kept::of(runtime, &seccomp::profile(), &spec.cache_dir);
    let compiled = filter.as_ref().and_then(Kept::load);
    if compiled.is_some() {
        filter = None;
    }
    let document = config::document(&Container {
        filter: compiled,
        ids,
        cgroup: cgroups.machine_path(),
        mem_mib: spec.mem_mib,
        processes: limits.processes() - SPARE_PROCESSES,
        oom_events: oom_events.is_some(),
    });

    let prepare = || -> io::Result<(Script, Ends)> {
        let agent = agent::copy(&spec.image.initramfs)?;
        let mut stage = Stage::new(&spec.runtime_dir, &runtime.program)?
            .copy(agent, stage::AGENT, 0o555)?
            .copy(memory_file(&document.to_string())?, "/bundle/config.json", 0o444)?;
        if let Some(root) = root {
            stage = stage.attach(root, stage::ROOTFS)?;
        }
        if let Some(environment) = &environment {
            stage = stage.with_layers(environment, &spec.storage)?;
        }
        // Runtimes insist on seeing a hierarchy, though they are to leave it alone.
        if cgroups.machine_path().is_some() || gate.is_some() {
            stage = stage.with_cgroups();
        }
        let (agent, agent_fd) = socket()?;
        let (control, control_fd) = socket()?;
        let (console, console_fd) = pipe_with(PipeFlags::CLOEXEC)?;
        let console = pipe::Receiver::from_owned_fd(console)?;
        let passed: Vec<OwnedFd> =
            [agent_fd].into_iter().chain(oom_events.map(OwnedFd::from)).collect();
        let leftovers = cgroups.leftovers()?.into_iter();
        let script = Script {
            stage,
            runtime: runtime.arguments(ID, passed.len()),
            passed,
            console: console_fd,
            control: control_fd,
            birthplaces: cgroups.birthplaces()?,
            runtime_in_machine: !runtime.moves_into_cgroup(),
            entrances: cgroups.entrances()?,
            exits: cgroups.exits()?,
            waits: !runtime.takes_mounts_while_running(),
            leftovers: leftovers
                .map(|left| Ok((left.parent, CString::new(left.name)?)))
                .collect::<io::Result<_>>()?,
            wants_filter: filter.is_some(),
            rootless: gate,
        };
        Ok((script, Ends { agent, control, console }))
    };
    let (script, ends) =
        prepare().map_err(EngineError::io("cannot prepare the container's confinement"))?;
    let attempt = "cannot start the container";
    let pid = keeper::start(&script).map_err(EngineError::io(attempt))?;
    drop(script);
    let keeper = Process::of(pid).map_err(EngineError::io(attempt))?;
    Ok(Started { keeper, ends, files, cgroups, filter })
}

/// Opens the disk once nobody has it any more.
fn unused(storage: &Path) -> Result<File> {
    let failed = || EngineError::io(format!("cannot open {}", storage.display()));
    let file = File::options().read(true).write(true).open(storage).map_err(failed())?;
    let deadline = Instant::now() + DISK_PATIENCE;
    while !loop_device::is_unused(&file).map_err(failed())? {
        if Instant::now() >= deadline {
            return Err(failed()(io::Error::from(io::ErrorKind::ResourceBusy)));
        }
        std::thread::sleep(DISK_LOOK);
    }
    Ok(file)
}

fn memory_file(content: &str) -> io::Result<OwnedFd> {
    let mut file: File = memfd_create("config", MemfdFlags::CLOEXEC)?.into();
    file.write_all(content.as_bytes())?;
    Ok(file.into())
}

fn socket() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, OwnedFd::from(theirs)))
}
