//! What a machine's process gives up before it becomes a virtual machine monitor (VMM).
//!
//! The guest is hostile and may one day take the VMM over. Then it shall find: no network, no other
//! machine's IPC, a root filesystem with nothing but system libraries, no capability, no way to
//! gain one, and, where the host side is root, a user of its own. The VMM's own filter of
//! system calls comes on top.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::kvm;
use crate::root::{Root, SYSTEM, Seal, c_string, check};

/// Devices that a VMM opens.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", kvm::DEVICE];

/// Where the machine's own directory is in the new root.
const OWN: &CStr = c"machine";

/// What a jailed program may see of where it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// All of `PREFIX`, for a program `PREFIX/bin/NAME`: it has files beside it.
    Prefix,
    /// The program's file alone.
    File,
}

/// Set up before the fork, where memory may still be allocated; carried out after it.
pub(crate) struct Jail {
    /// The only process that may go on to wait for this one: the machine dies with it.
    parent: libc::pid_t,
    run_as: Option<RunAs>,
    /// Maps of a user namespace, for an ordinary user.
    id_maps: Option<[(CString, CString); 2]>,
    root: Root,
    /// A directory that the program may write to, and starts in.
    own: Option<CString>,
    keep: Vec<RawFd>,
    last_capability: libc::c_ulong,
    small_pages: bool,
}

struct RunAs {
    id: u32,
    /// The group that may open `/dev/kvm`, where there is one.
    groups: Vec<libc::gid_t>,
}

impl Jail {
    /// `directory` exists and is of no other use to the machine; `program` is what will be run;
    /// `keep` stays open for it.
    pub(crate) fn new(
        directory: &Path,
        (program, installed): (&Path, Installed),
        run_as: Option<u32>,
        keep: Vec<RawFd>,
    ) -> io::Result<Self> {
        let uid = rustix::process::geteuid();
        let gid = rustix::process::getegid();
        let run_as = run_as
            .filter(|_| uid.is_root())
            .map(|id| RunAs { id, groups: kvm_group().into_iter().collect() });
        let map = |file: &str, id: u32| {
            Ok::<_, io::Error>((c_string(Path::new(file))?, CString::new(format!("{id} {id} 1"))?))
        };
        let id_maps = if uid.is_root() {
            None
        } else {
            Some([
                map("/proc/self/uid_map", uid.as_raw())?,
                map("/proc/self/gid_map", gid.as_raw())?,
            ])
        };
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        Ok(Self {
            parent: std::process::id() as libc::pid_t,
            run_as,
            id_maps,
            root: root(directory, program, installed)?,
            own: None,
            keep,
            last_capability: last.trim().parse().unwrap_or(63),
            small_pages: false,
        })
    }

    /// Keeps the kernel from giving the process two megabytes where it touches a byte.
    pub(crate) fn with_small_pages(mut self) -> Self {
        self.small_pages = true;
        self
    }

    /// Lets the program write to this directory, which it finds as its current one: it must not need
    /// any other name of it.
    pub(crate) fn with_own(mut self, directory: &Path) -> io::Result<Self> {
        let source = c_string(directory)?;
        self.root.directory(OWN);
        self.root.bind_own(&source, OWN);
        self.own = Some(source);
        Ok(self)
    }

    /// Everything, in the forked child. Only system calls on memory made before the fork: nothing
    /// here may allocate or take a lock (signal-safety(7)).
    pub(crate) fn enter(&self) -> io::Result<()> {
        // SAFETY: none of these calls passes memory, except `limit`, which lives through its call.
        unsafe {
            // Its own session: a terminal's Ctrl-C is for the user's program, not for machines.
            check(libc::setsid())?;
            // The new root is for everybody in it to read; what the VMM may make later is not.
            libc::umask(0o022);
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            check(libc::setrlimit(libc::RLIMIT_CORE, &raw const limit))?;
        }
        let own = if self.unshare()? {
            self.root.enter()?;
            self.own.as_ref().map(|_| OWN)
        } else {
            self.own.as_deref()
        };
        if let Some(own) = own {
            // SAFETY: the pointer comes from a string that is live and ends in NUL.
            check(unsafe { libc::chdir(own.as_ptr()) })?;
        }
        // SAFETY: no memory is passed.
        unsafe { libc::umask(0o077) };
        self.drop_privileges()?;
        self.tie_to_parent()?;
        self.keep_only()
    }

    /// New namespaces; false if this host or user is refused them, as in most containers.
    fn unshare(&self) -> io::Result<bool> {
        let mut flags =
            libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if self.id_maps.is_some() {
            flags |= libc::CLONE_NEWUSER;
        }
        // SAFETY: no memory is passed; the forked child has one thread, as CLONE_NEWUSER demands.
        if unsafe { libc::unshare(flags) } == -1 {
            return Ok(false);
        }
        if let Some(maps) = &self.id_maps {
            // Without this an ordinary user may not write the second map; see user_namespaces(7).
            write(c"/proc/self/setgroups", b"deny")?;
            for (file, map) in maps {
                write(file, map.as_bytes())?;
            }
        }
        Ok(true)
    }

    fn drop_privileges(&self) -> io::Result<()> {
        if self.small_pages {
            // SAFETY: no memory is passed.
            check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) })?;
        }
        // Fails only for one who has no CAP_SETPCAP, and so no capability worth dropping.
        for capability in 0..=self.last_capability {
            // SAFETY: no memory is passed.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        if let Some(RunAs { id, groups }) = &self.run_as {
            // SAFETY: the pointer and length are those of a live vector; the other calls pass no
            // memory. The raw calls are right here: the forked child has one thread.
            unsafe {
                check(libc::setgroups(groups.len(), groups.as_ptr()))?;
                check(libc::setresgid(*id, *id, *id))?;
                check(libc::setresuid(*id, *id, *id))?;
            }
        }
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
    }

    /// Dies with the thread that forked it. To be asked for after the last change of user, which
    /// resets it; see PR_SET_PDEATHSIG(2const).
    fn tie_to_parent(&self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
        // SAFETY: no memory is passed.
        if unsafe { libc::getppid() } != self.parent {
            // It died before the request.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    }

    /// Closes at exec whatever is not meant for the VMM, were it opened without O_CLOEXEC by somebody.
    fn keep_only(&self) -> io::Result<()> {
        // SAFETY: no memory is passed. Older kernels lack the call or its flag; then O_CLOEXEC,
        // which the standard library sets on all it opens, has to be enough.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        for &fd in &self.keep {
            // SAFETY: no memory is passed.
            check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
        }
        Ok(())
    }
}

/// System libraries, the program, and nothing else.
fn root(directory: &Path, program: &Path, installed: Installed) -> io::Result<Root> {
    let mut root = Root::new(directory, c"mode=0755,size=64k", Seal::Tried)?;
    let program = fs::canonicalize(program)?;
    let mut parts: Vec<PathBuf> = SYSTEM.iter().chain(DEVICES).map(PathBuf::from).collect();
    if !parts.iter().any(|part| program.starts_with(part)) {
        match installed {
            Installed::File => parts.push(program),
            // PREFIX/bin/qemu-system-x86_64 has its firmware in PREFIX/share.
            Installed::Prefix => {
                parts.extend(program.parent().and_then(Path::parent).map(Path::to_owned));
            }
        }
    }
    for part in parts {
        root.show(&part)?;
    }
    // For descriptors by path. The child resolves the link, so it gets its own directory and
    // sees no other process, not even those of the same user.
    root.directory(c"proc");
    root.directory(c"proc/self");
    root.bind(c"/proc/self", c"proc/self");
    Ok(root)
}

/// Never root's own group, which may do more than that.
fn kvm_group() -> Option<libc::gid_t> {
    let meta = fs::metadata(kvm::DEVICE).ok()?;
    (meta.gid() != 0 && meta.mode() & 0o060 == 0o060).then(|| meta.gid())
}

fn write(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the path is live and ends in NUL; pointer and length are those of a live slice; the
    // descriptor is this function's own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd)?;
        let written = libc::write(fd, bytes.as_ptr().cast(), bytes.len());
        let result = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(fd);
        result
    }
}
