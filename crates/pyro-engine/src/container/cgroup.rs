//! The container's cgroups, in whatever layout this host has.
//!
//! Limits are set where their controller is: in the second version (v2), or in one hierarchy each
//! of the first (v1). Holding still and ending need no controller but only the v2 hierarchy, which
//! every kernel has even where nobody mounted it; v1's freezer is not used, since what it holds
//! cannot be killed.
//!
//! ```text
//! v1  memory|pids|cpu/…/pyro.PID.N           everything
//! v2  pyro.PID.N/keeper                      the keeper and the runtime
//!     pyro.PID.N/machine                     the container; the agent's own part of the tree
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::rootless;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Processes and threads of one container: some for each MiB that they could live in, and as many
/// as a build or a browser has even in a small one.
const PROCESSES_PER_MIB: u64 = 2;
const PROCESSES: std::ops::RangeInclusive<u64> = 1024..=32_768;

/// Of these, what user code leaves to the agent.
pub(super) const SPARE_PROCESSES: u64 = 128;

/// `cpu.max` and `cpu.cfs_period_us`.
const PERIOD_US: u64 = 100_000;

/// How long holding a container still may take; one whose processes hang in the kernel cannot be.
pub(super) const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// Names of this engine's cgroups begin so.
const PREFIX: &str = "pyro.";

/// Where supervisors are in a delegated tree.
const BESIDE: &str = "supervisors";

pub(super) const KEEPER: &str = "keeper";
pub(super) const MACHINE: &str = "machine";

/// What a container may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) vcpu_count: u8,
    pub(super) mem_mib: u32,
}

impl Limits {
    pub(super) fn processes(self) -> u64 {
        let wanted = u64::from(self.mem_mib) * PROCESSES_PER_MIB;
        wanted.clamp(*PROCESSES.start(), *PROCESSES.end())
    }
}

/// Where this host's cgroups are.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The mount of v2.
    unified: Option<PathBuf>,
    /// A mount of v2 that only this has: on a host that mounted none.
    _own: Option<OwnedFd>,
    /// The v1 hierarchies of the controllers that are of use here, and this process's place in each.
    split: Vec<(&'static str, PathBuf)>,
    /// It is that of an ordinary user, part of a larger one.
    delegated: bool,
}

/// True if this process may make cgroups there and move itself into them.
fn is_ours(cgroup: &Path) -> bool {
    let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    may_write(cgroup) && may_write(&cgroup.join("cgroup.procs"))
}

impl Layout {
    /// Reads it from `/proc`; see cgroups(7).
    pub(super) fn find() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut layout = Self::parse(&mounts, &places);
        if !rustix::process::geteuid().is_root() {
            layout.keep_delegated(&places);
            return layout;
        }
        if layout.unified.is_none()
            && let Ok(own) = mount_unified()
        {
            layout.unified = Some(format!("/proc/self/fd/{}", own.as_raw_fd()).into());
            layout._own = Some(own);
        }
        layout
    }

    /// Leaves what an ordinary user was given to divide: in v2 the cgroup that he is in, see
    /// "Delegation" in the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
    fn keep_delegated(&mut self, places: &str) {
        let place = places.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        self.unified = self.unified.take().map(|top| top.join(place)).filter(|own| is_ours(own));
        self.split.retain(|(_, own)| is_ours(own));
        self.delegated = true;
    }

    /// What could not be limited on this host, in words.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let unified = self.unified.as_ref().map(|top| top.join("cgroup.controllers"));
        let unified = unified.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let has = |controller: &str| {
            self.split.iter().any(|(name, _)| *name == controller)
                || unified.split_whitespace().any(|name| name == controller)
        };
        let missing = ["memory", "pids", "cpu"].into_iter().filter(|name| !has(name));
        if self.delegated {
            let missing: Vec<&str> = missing.map(subject).collect();
            return match missing.as_slice() {
                [] => Vec::new(),
                missing => vec![format!(
                    "not limited for want of delegated cgroups: {}; `systemd-run --user --scope \
                     --property Delegate=yes pyro …` has some",
                    missing.join(", ")
                )],
            };
        }
        missing.map(|controller| unlimited(controller, self.delegated)).collect()
    }

    fn parse(mounts: &str, places: &str) -> Self {
        let mut layout = Self::default();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            // Octal escapes stand for spaces; such a mount point is nobody's cgroup.
            let Some(point) = left.split(' ').nth(4).filter(|point| !point.contains('\\')) else {
                continue;
            };
            match kind {
                Some("cgroup2") if layout.unified.is_none() => layout.unified = Some(point.into()),
                Some("cgroup") => {
                    for controller in ["memory", "pids", "cpu"] {
                        let known = layout.split.iter().any(|(name, _)| *name == controller);
                        if !known && options.split(',').any(|option| option == controller) {
                            let place = place(places, controller).trim_start_matches('/');
                            let own = Path::new(point).join(place);
                            // In a container of its own this process may see only the top.
                            let own = if own.is_dir() { own } else { point.into() };
                            layout.split.push((controller, own));
                        }
                    }
                }
                _ => {}
            }
        }
        layout
    }
}

/// This process's cgroup in the hierarchy of a v1 controller.
fn place<'a>(places: &'a str, controller: &str) -> &'a str {
    let line = places.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers.split(',').any(|name| name == controller).then_some(parts.next()?)
    });
    line.unwrap_or("/")
}

/// What a controller limits.
fn subject(controller: &str) -> &'static str {
    match controller {
        "memory" => "memory",
        "pids" => "the number of processes",
        _ => "processor time",
    }
}

/// What it means that a controller is not to be had.
fn unlimited(controller: &str, delegated: bool) -> String {
    let what = subject(controller);
    match delegated {
        true => format!("{what} is not limited: no {controller} controller was delegated to you"),
        false => format!("{what} is not limited: this host has no {controller} controller to use"),
    }
}

fn mount_unified() -> io::Result<OwnedFd> {
    let filesystem = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(filesystem.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(filesystem.as_fd(), flags, MountAttrFlags::empty())?)
}

/// The cgroups of one container. Dropped, they are removed, if nothing lives in them any more.
#[derive(Debug)]
pub(super) struct Cgroups {
    name: String,
    layout: Layout,
    /// Limits that this host would not set, and why.
    pub(super) notes: Vec<String>,
}

/// See [`Cgroups::birthplaces`].
pub(super) struct Birthplaces {
    pub(super) keeper: OwnedFd,
    pub(super) machine: OwnedFd,
}

/// A cgroup directory that somebody else may have to remove: its parent, and its name there.
pub(super) struct Leftover {
    pub(super) parent: OwnedFd,
    pub(super) name: String,
}

impl Cgroups {
    /// Makes them and sets the limits. `owner` gets the container's part of the v2 tree, to divide
    /// it further.
    pub(super) fn create(limits: Limits, owner: Option<u32>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let layout = Layout::find();
        layout.sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}.{number}", std::process::id());
        let mut cgroups = Self { name, layout, notes: Vec::new() };
        cgroups.make(limits, owner);
        cgroups
    }

    fn make(&mut self, limits: Limits, owner: Option<u32>) {
        let processes = limits.processes().to_string();
        let memory = (u64::from(limits.mem_mib) << 20).to_string();
        let quota = u64::from(limits.vcpu_count) * PERIOD_US;
        let mut missing = vec!["memory", "pids", "cpu"];
        let mut refused = Vec::new();
        let mut set =
            |controller: &'static str, path: PathBuf, value: &str| match fs::write(&path, value) {
                Ok(()) => missing.retain(|name| *name != controller),
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            };
        for (controller, parent) in &self.layout.split {
            let own = parent.join(&self.name);
            if fs::create_dir(&own).is_err() && !own.is_dir() {
                continue;
            }
            match *controller {
                "memory" => {
                    set("memory", own.join("memory.limit_in_bytes"), &memory);
                    // Absent unless the kernel counts swap.
                    let _ = fs::write(own.join("memory.memsw.limit_in_bytes"), &memory);
                }
                "pids" => set("pids", own.join("pids.max"), &processes),
                _ => set("cpu", own.join("cpu.cfs_quota_us"), &quota.to_string()),
            }
        }
        if let Some(top) = &self.layout.unified {
            let own = top.join(&self.name);
            match fs::create_dir(&own) {
                Ok(()) => {
                    if self.layout.delegated {
                        leave(top);
                    }
                    // One at a time: one that is missing must not take the others along.
                    for controller in ["memory", "pids", "cpu"] {
                        let enable = format!("+{controller}");
                        let _ = fs::write(top.join("cgroup.subtree_control"), &enable);
                    }
                    let has =
                        fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
                    for controller in has.split_whitespace() {
                        match controller {
                            "memory" => {
                                set("memory", own.join("memory.max"), &memory);
                                let _ = fs::write(own.join("memory.swap.max"), "0");
                            }
                            "pids" => set("pids", own.join("pids.max"), &processes),
                            "cpu" => {
                                set("cpu", own.join("cpu.max"), &format!("{quota} {PERIOD_US}"))
                            }
                            _ => continue,
                        }
                        let enable = format!("+{controller}");
                        let _ = fs::write(own.join("cgroup.subtree_control"), &enable);
                    }
                    let machine = own.join(MACHINE);
                    let made =
                        fs::create_dir(own.join(KEEPER)).and_then(|()| fs::create_dir(&machine));
                    if made.is_ok()
                        && let Some(owner) = owner
                    {
                        delegate(&machine, owner);
                    }
                }
                Err(error) => {
                    self.notes.push(format!("it cannot be held still: {}: {error}", own.display()))
                }
            }
        }
        self.notes
            .extend(missing.iter().map(|controller| unlimited(controller, self.layout.delegated)));
        self.notes.extend(refused);
    }

    /// The container's cgroup in v2 as the runtime names it; `None` if it has none.
    pub(super) fn machine_path(&self) -> Option<String> {
        self.machine().map(|_| format!("/{}/{MACHINE}", self.name))
    }

    /// The directory of the container's cgroup in v2.
    pub(super) fn machine(&self) -> Option<PathBuf> {
        let path = self.layout.unified.as_ref()?.join(&self.name).join(MACHINE);
        path.is_dir().then_some(path)
    }

    /// Files that move the thread that writes `0` to them into the cgroups of v1. A thread that
    /// moves itself waits for nobody; a process would, some milliseconds for each.
    pub(super) fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let split = self.layout.split.iter().map(|(_, parent)| parent.join(&self.name));
        let open = |own: PathBuf| Ok(File::options().write(true).open(own.join("tasks"))?.into());
        split.filter(|own| own.is_dir()).map(open).collect()
    }

    /// The directories of v2 that the keeper and the container are born in.
    pub(super) fn birthplaces(&self) -> io::Result<Option<Birthplaces>> {
        let Some(machine) = self.machine() else { return Ok(None) };
        let keeper = File::open(machine.with_file_name(KEEPER))?.into();
        Ok(Some(Birthplaces { keeper, machine: File::open(machine)?.into() }))
    }

    /// Files that move whoever writes `0` to them out again.
    pub(super) fn exits(&self) -> io::Result<Vec<OwnedFd>> {
        let split = self.layout.split.iter().map(|(_, parent)| parent.clone());
        let unified = self.layout.unified.clone().map(|top| match self.layout.delegated {
            true => beside(&top),
            false => top,
        });
        procs(split.chain(unified))
    }

    /// What has to be removed, should this process not come to it.
    pub(super) fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let split = self.layout.split.iter().map(|(_, parent)| parent.clone());
        split
            .chain(self.layout.unified.clone())
            .map(|parent| {
                Ok(Leftover { parent: File::open(parent)?.into(), name: self.name.clone() })
            })
            .collect()
    }

    /// The kernel's counter of the container's deaths for lack of memory, as `oom_kill N` among
    /// other lines.
    pub(super) fn oom_events(&self) -> Option<File> {
        let split = self.layout.split.iter().find(|(name, _)| *name == "memory");
        let path = match split {
            Some((_, parent)) => parent.join(&self.name).join("memory.oom_control"),
            None => self.layout.unified.as_ref()?.join(&self.name).join("memory.events"),
        };
        File::open(path).ok()
    }

    /// Holds the container still, or lets it go on. Waits until it is so.
    pub(super) fn freeze(&self, still: bool) -> io::Result<()> {
        let Some(machine) = self.machine() else { return Err(io::ErrorKind::Unsupported.into()) };
        // Opened first, so that no change is missed.
        let mut events = File::open(machine.join("cgroup.events"))?;
        fs::write(machine.join("cgroup.freeze"), if still { "1" } else { "0" })?;
        if still && !until_frozen(&mut events)? {
            let _ = fs::write(machine.join("cgroup.freeze"), "0");
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "one of its processes hangs in the kernel",
            ));
        }
        Ok(())
    }

    /// Processor time so far.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.machine()?.join("cpu.stat")).ok()?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        Some(Duration::from_micros(usage.trim().parse().ok()?))
    }

    /// Every process of the container, by its number on this host.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut left = Vec::from_iter(self.machine());
        while let Some(directory) = left.pop() {
            let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
            left.extend(subdirectories(&directory));
        }
        found
    }
}

impl Cgroups {
    /// Removes them, if nothing lives in them any more.
    pub(super) fn remove(&self) {
        for top in self.layout.tops() {
            let own = top.join(&self.name);
            remove(&own);
            // What the container made in there is not an ordinary user's to remove.
            if self.layout.delegated && own.exists() {
                let _ = rootless::with_all_ids(|| remove(&own));
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Layout {
    fn tops(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.split.iter().map(|(_, parent)| parent.clone()).chain(self.unified.clone())
    }

    /// Removes what is left where both a container's keeper and its owner were killed at once. One
    /// that still has processes stays, for the kernel refuses to remove it.
    fn sweep(&self) {
        for top in self.tops() {
            for directory in subdirectories(&top) {
                let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let owner = name.strip_prefix(PREFIX).and_then(|name| name.split('.').next());
                if owner.is_some_and(|pid| pid != BESIDE && !is_alive(pid)) {
                    remove(&directory);
                }
            }
        }
    }
}

/// One that has ended may still be there for its parent to collect.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn procs(directories: impl Iterator<Item = PathBuf>) -> io::Result<Vec<OwnedFd>> {
    let open =
        |directory: PathBuf| File::options().write(true).open(directory.join("cgroup.procs"));
    directories.filter(|directory| directory.is_dir()).map(|d| Ok(open(d)?.into())).collect()
}

/// Removes a cgroup with all below it. Those in which something lives stay.
fn remove(cgroup: &Path) {
    for below in subdirectories(cgroup) {
        remove(&below);
    }
    let _ = fs::remove_dir(cgroup);
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Takes this process out of a cgroup that is to be divided, which must have no processes of its
/// own for that.
fn leave(top: &Path) {
    let beside = beside(top);
    let _ = fs::create_dir(&beside);
    let _ = fs::write(beside.join("cgroup.procs"), "0");
}

fn beside(top: &Path) -> PathBuf {
    top.join(format!("{PREFIX}{BESIDE}"))
}

/// Gives the container's root what it needs to divide its cgroup: see "Delegation" in the kernel's
/// `Documentation/admin-guide/cgroup-v2.rst`. Its limits stand above it and are not its own.
fn delegate(cgroup: &Path, owner: u32) {
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let _ = chown(cgroup.join(file), Some(owner), Some(owner));
    }
}

/// The kernel says so in `cgroup.events`, and wakes whoever polls it.
fn until_frozen(events: &mut File) -> io::Result<bool> {
    let deadline = Instant::now() + FREEZE_PATIENCE;
    loop {
        let mut text = String::new();
        io::Seek::rewind(events)?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 20 0:27 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
32 20 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 20 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
";

    #[test]
    fn the_layout_of_a_hybrid_host_is_understood() {
        let places = "4:memory:/no/such\n3:cpuset:/\n1:cpu,cpuacct:/\n0::/\n";
        let layout = Layout::parse(HYBRID, places);
        assert_eq!(layout.unified, Some("/sys/fs/cgroup/unified".into()));
        let expected = [
            ("cpu", PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
            ("memory", PathBuf::from("/sys/fs/cgroup/memory")),
        ];
        assert_eq!(layout.split, expected);
    }

    #[test]
    fn a_process_that_only_waits_to_be_collected_is_not_alive() {
        assert!(is_alive("self"));
        assert!(!is_alive("0"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().to_string();
        while is_alive(&pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn the_layout_of_a_host_with_the_second_version_alone_is_understood() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(mounts, "0::/user.slice\n");
        assert_eq!(layout.unified, Some("/sys/fs/cgroup".into()));
        assert!(layout.split.is_empty());
    }
}
