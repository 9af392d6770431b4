//! The process that a container lives and dies with.
//!
//! It is a fork of this one and PID 1 of a pid namespace around the container's own: when it ends,
//! for whatever reason, the kernel ends all below it. It builds the stage, runs the OCI runtime
//! there, tells which process the container is, waits for that, and goes as soon as its owner does,
//! of whom it holds the other end of a socket. It removes the cgroups if its owner cannot.
//!
//! Being a fork without exec, it costs next to no time and memory; and between its fork and its end
//! it makes system calls only, on memory that was made before, since another thread of its owner
//! may have held any lock at that moment (signal-safety(7)).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::cgroup::Birthplaces;
use super::rootless::mapping::Mapping;
use super::rootless::stack;
use super::runtime::FIRST_FD;
use super::stage::{FILTER, PID_FILE, Stage};

/// What the keeper will do.
pub(super) struct Script {
    pub(super) stage: Stage,
    /// The runtime's command line.
    pub(super) runtime: Vec<CString>,
    /// What PID 1 gets, from [`FIRST_FD`] up.
    pub(super) passed: Vec<OwnedFd>,
    /// Where the runtime and PID 1 say what they have to say.
    pub(super) console: OwnedFd,
    /// The keeper's end of the socket to its owner.
    pub(super) control: OwnedFd,
    /// The keeper's and the container's cgroup in v2, and whether the runtime, too, is born in the
    /// latter.
    pub(super) birthplaces: Option<Birthplaces>,
    pub(super) runtime_in_machine: bool,
    /// `tasks` of the container's cgroups in v1, and `cgroup.procs` of those that the owner is in.
    pub(super) entrances: Vec<OwnedFd>,
    pub(super) exits: Vec<OwnedFd>,
    /// Whether to wait for the project, a detached mount that comes through the socket, before the
    /// runtime is run: for one that cannot be given it later.
    pub(super) waits: bool,
    /// The container's cgroups: parent and name.
    pub(super) leftovers: Vec<(OwnedFd, CString)>,
    /// Whether the owner wants the filter that the runtime compiled.
    pub(super) wants_filter: bool,
    /// What is different for an ordinary user.
    pub(super) rootless: Option<Gate>,
}

/// Where an ordinary user's keeper waits for its ids.
pub(super) struct Gate {
    pub(super) mapping: Mapping,
    pub(super) shut: OwnedFd,
    pub(super) opener: OwnedFd,
}

/// As in virtual machines: enough for builds and browsers, see `pyro-guest/src/boot.rs`.
const OPEN_FILES: (libc::rlim_t, libc::rlim_t) = (65_536, 1_048_576);

/// The highest priority that is not real time.
const AGENT_NICE: libc::c_int = -20;

/// How the keeper ends when the container did.
pub(super) const ENDED_WELL: i32 = 0;
pub(super) const ENDED_BADLY: i32 = 1;

/// What a descriptor is that the keeper sends.
pub(super) const TAG_INIT: u8 = 0;
pub(super) const TAG_FILTER: u8 = 1;

/// Which step of the start failed; the keeper's exit code is this plus the error number's low bits
/// in its message on the console.
const FAILED: i32 = 2;

/// Starts a keeper; its pid. It is this process's child.
pub(super) fn start(script: &Script) -> io::Result<u32> {
    let argv: Vec<*const libc::c_char> =
        script.runtime.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let keep = script.kept();
    // SAFETY: `all` and `before` are plain signal sets that live through the calls. The new process
    // is a copy of this one with one thread, and runs `Script::perform`, which is written for that
    // and never returns.
    unsafe {
        // A handler of this process must not run in the new one.
        let (mut all, mut before) = (zeroed(), zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let mut namespaces =
            libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if script.rootless.is_some() {
            // Who owns no network and no cgroups may mount neither `/sys` nor their hierarchy.
            namespaces |= libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP;
        }
        let birthplace = script.birthplaces.as_ref().map(|places| places.keeper.as_raw_fd());
        let pid = fork(namespaces, birthplace);
        if matches!(pid, Ok(0)) {
            script.perform(&argv, &keep);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        let pid = pid? as u32;
        if let Some(gate) = &script.rootless
            && let Err(error) = gate.open(pid)
        {
            libc::kill(pid as libc::pid_t, libc::SIGKILL);
            libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0);
            return Err(error);
        }
        Ok(pid)
    }
}

impl Gate {
    /// For a keeper that will have the ids of `mapping`.
    pub(super) fn new(mapping: Mapping) -> io::Result<Self> {
        let (shut, opener) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Self { mapping, shut, opener })
    }

    fn open(&self, pid: u32) -> io::Result<()> {
        self.mapping.apply(pid)?;
        write(self.opener.as_raw_fd(), b"0")
    }

    /// In the keeper: waits until it has its ids.
    fn pass(&self) -> io::Result<()> {
        let mut byte = [0_u8; 1];
        // SAFETY: the buffer lives through its call and is as long as it is said to be. Dropping
        // groups is refused where nobody may drop any.
        unsafe {
            if libc::read(self.shut.as_raw_fd(), byte.as_mut_ptr().cast(), 1) != 1 {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
        }
        Ok(())
    }
}

impl Script {
    /// Every descriptor that the keeper needs, in order.
    fn kept(&self) -> Vec<RawFd> {
        let own = [&self.console, &self.control].into_iter();
        let lists = own.chain(&self.passed).chain(&self.entrances).chain(&self.exits);
        let mut kept: Vec<RawFd> = lists.map(AsRawFd::as_raw_fd).collect();
        if let Some(places) = &self.birthplaces {
            kept.extend([places.keeper.as_raw_fd(), places.machine.as_raw_fd()]);
        }
        kept.extend(self.leftovers.iter().map(|(parent, _)| parent.as_raw_fd()));
        kept.extend(self.rootless.iter().map(|gate| gate.shut.as_raw_fd()));
        kept.extend(self.stage.descriptors());
        kept.sort_unstable();
        kept
    }

    fn perform(&self, argv: &[*const libc::c_char], keep: &[RawFd]) -> ! {
        let ready = self.settle(keep).and_then(|()| self.take_project());
        let ended = ready.and_then(|()| self.run_runtime(argv));
        let code = match ended {
            Ok(Some(container)) => self.attend(container),
            Ok(None) => FAILED,
            Err(error) => {
                say(self.console.as_raw_fd(), error.raw_os_error().unwrap_or(0));
                FAILED
            }
        };
        self.clean_up();
        exit(code)
    }

    fn settle(&self, keep: &[RawFd]) -> io::Result<()> {
        // SAFETY: no memory is passed but static strings and a live limit.
        unsafe {
            check(libc::setsid())?;
            libc::umask(0o022);
            // Here, since a runtime that has entered the container's user namespace may raise none.
            let limit = |soft, hard| libc::rlimit { rlim_cur: soft, rlim_max: hard };
            let (core, mut files) = (limit(0, 0), limit(OPEN_FILES.0, OPEN_FILES.1));
            check(libc::setrlimit(libc::RLIMIT_CORE, &raw const core))?;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == -1 {
                // Not even root may raise it everywhere; then as much as there is.
                check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files))?;
                files.rlim_cur = OPEN_FILES.0.min(files.rlim_max);
                check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files))?;
            }
            libc::prctl(libc::PR_SET_NAME, c"pyro-keeper".as_ptr());
        }
        close_all_but(keep);
        if let Some(gate) = &self.rootless {
            gate.pass()?;
            self.delegate(gate.mapping.inner().0);
        }
        // What this process has in memory is its owner's: nobody else may look at it. Not earlier,
        // for the maps of a process that none may look at are root's to write.
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
        // Its owner's standard streams are not its own.
        // SAFETY: a static string; the numbers are those of the standard streams.
        unsafe {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            for stream in 0..3 {
                if null != stream {
                    check(libc::dup2(null, stream))?;
                }
            }
            if null > 2 {
                libc::close(null);
            }
        }
        for entrance in &self.entrances {
            write(entrance.as_raw_fd(), b"0")?;
        }
        self.stage.enter()?;
        match self.rootless {
            Some(_) => stack::mount_root(),
            None => Ok(()),
        }
    }

    /// Gives the container's root its part of the v2 tree to divide, which its owner cannot do: those
    /// ids are not his. See `cgroup.rs`; without it commands have no cgroups of their own.
    fn delegate(&self, owner: u32) {
        let Some(places) = &self.birthplaces else { return };
        let machine = places.machine.as_raw_fd();
        for file in [c".", c"cgroup.procs", c"cgroup.subtree_control", c"cgroup.threads"] {
            // SAFETY: the string is static and ends in NUL.
            unsafe { libc::fchownat(machine, file.as_ptr(), owner, owner, 0) };
        }
    }

    /// Puts the project where the runtime will find it.
    fn take_project(&self) -> io::Result<()> {
        if self.rootless.is_some() {
            let mut byte = [0_u8; 1];
            let control = self.control.as_raw_fd();
            // SAFETY: the buffer lives through its call and is as long as it is said to be.
            if unsafe { libc::read(control, byte.as_mut_ptr().cast(), 1) } != 1 {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            return stack::mount_project(PROJECT);
        }
        if !self.waits {
            return Ok(());
        }
        let tree = receive_descriptor(self.control.as_raw_fd())?;
        // Not through a link, which an earlier run of this container may have left there.
        // SAFETY: both strings are static and end in NUL; the descriptor is open.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                PROJECT.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        check(result as libc::c_int)
    }

    /// Runs the OCI runtime; the container's process, unless the runtime failed and said why.
    fn run_runtime(&self, argv: &[*const libc::c_char]) -> io::Result<Option<libc::pid_t>> {
        let machine = self.birthplaces.as_ref().filter(|_| self.runtime_in_machine);
        // SAFETY: this process has one thread; the child calls only `become_runtime`.
        let child = unsafe { fork(0, machine.map(|places| places.machine.as_raw_fd())) }?;
        if child == 0 {
            self.become_runtime(argv);
        }
        loop {
            let mut status = 0;
            // SAFETY: the status lives through the call.
            let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
            if ended == -1 {
                return Err(io::Error::last_os_error());
            }
            if ended == child {
                return if status == 0 { self.present() } else { Ok(None) };
            }
        }
    }

    fn become_runtime(&self, argv: &[*const libc::c_char]) -> ! {
        let environment = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), std::ptr::null()];
        let console = self.console.as_raw_fd();
        // SAFETY: the strings are live and end in NUL, the arrays in null; the signal set is plain
        // data that lives through its call.
        unsafe {
            libc::dup2(console, 1);
            libc::dup2(console, 2);
            // First out of the way of the numbers that they are to have.
            let mut moved = [0; 8];
            let count = self.passed.len().min(moved.len());
            for (to, from) in moved.iter_mut().zip(&self.passed) {
                *to = libc::fcntl(from.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 64);
            }
            for (number, from) in (FIRST_FD..).zip(&moved[..count]) {
                libc::dup2(*from, number);
            }
            let next = FIRST_FD as libc::c_uint + count as libc::c_uint;
            libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, 0);
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none = zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::execve(argv[0], argv.as_ptr(), environment.as_ptr());
        }
        say(2, io::Error::last_os_error().raw_os_error().unwrap_or(0));
        exit(127)
    }

    /// Hands a descriptor of the container's PID 1 to the owner. Its number is this namespace's.
    fn present(&self) -> io::Result<Option<libc::pid_t>> {
        let mut text = [0_u8; 16];
        // SAFETY: the path is static and ends in NUL; the buffer is as long as it is said to be.
        let length = unsafe {
            let fd = libc::open(PID_FILE.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            check(fd)?;
            let length = libc::read(fd, text.as_mut_ptr().cast(), text.len());
            libc::close(fd);
            check(length as libc::c_int)?;
            length as usize
        };
        let digits = text[..length].iter().take_while(|byte| byte.is_ascii_digit());
        let pid = digits.fold(0, |pid, byte| pid * 10 + i32::from(byte - b'0'));
        if self.wants_filter {
            // SAFETY: the path is static and ends in NUL.
            let filter = unsafe { libc::open(FILTER.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
            if filter >= 0 {
                // SAFETY: it was just opened, and is nobody else's.
                let filter = unsafe { OwnedFd::from_raw_fd(filter) };
                send_descriptor(self.control.as_raw_fd(), filter.as_raw_fd(), TAG_FILTER)?;
            }
        }
        // Commands that take all of the processor shall not keep the agent from ending them. What it
        // starts does not inherit this. A host that forbids it has a slower agent.
        // SAFETY: the parameters live through the call; the other call passes no memory.
        unsafe {
            let parameters: libc::sched_param = zeroed();
            let policy = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;
            libc::sched_setscheduler(pid, policy, &raw const parameters);
            libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, AGENT_NICE);
        }
        // SAFETY: no memory is passed.
        let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd;
        check(handle)?;
        // SAFETY: it was just opened, and is nobody else's.
        let handle = unsafe { OwnedFd::from_raw_fd(handle) };
        send_descriptor(self.control.as_raw_fd(), handle.as_raw_fd(), TAG_INIT)?;
        Ok(Some(pid))
    }

    /// Waits until the container has ended, or its owner is gone; the exit code to end with.
    fn attend(&self, container: libc::pid_t) -> i32 {
        // SAFETY: the signal set and the two descriptors to watch live through the calls.
        unsafe {
            let mut children = zeroed();
            libc::sigemptyset(&raw mut children);
            libc::sigaddset(&raw mut children, libc::SIGCHLD);
            let signals = libc::signalfd(-1, &raw const children, libc::SFD_CLOEXEC);
            let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut watched = [watch(self.control.as_raw_fd()), watch(signals)];
            loop {
                // Before waiting, for it may have ended before anybody listened.
                let mut status = 0;
                let ended = libc::waitpid(-1, &raw mut status, libc::WNOHANG);
                if ended == container {
                    return if status == 0 { ENDED_WELL } else { ENDED_BADLY };
                }
                if ended > 0 {
                    continue;
                }
                libc::poll(watched.as_mut_ptr(), 2, -1);
                if watched[0].revents != 0 {
                    return ENDED_BADLY;
                }
                let mut said = [0_u8; size_of::<libc::signalfd_siginfo>()];
                if watched[1].revents != 0 {
                    libc::read(signals, said.as_mut_ptr().cast(), said.len());
                }
            }
        }
    }

    /// Ends whatever is left and takes the cgroups away.
    fn clean_up(&self) {
        // SAFETY: no memory is passed; the status may be null.
        unsafe {
            libc::kill(-1, libc::SIGKILL);
            while libc::waitpid(-1, std::ptr::null_mut(), 0) > 0 {}
        }
        for exit in &self.exits {
            let _ = write(exit.as_raw_fd(), b"0");
        }
        for (parent, name) in &self.leftovers {
            remove_cgroup(parent.as_raw_fd(), name, 0);
        }
    }
}

/// Where the project belongs in the root that the runtime is given.
const PROJECT: &CStr = c"/bundle/rootfs/workspace";

/// `struct clone_args` of `linux/sched.h`.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// fork(2) into new namespaces, and into the cgroup of v2 whose directory is open as `cgroup`.
///
/// # Safety
/// As fork(2): the child may only make system calls on memory that was made before.
unsafe fn fork(namespaces: libc::c_int, cgroup: Option<RawFd>) -> io::Result<libc::pid_t> {
    let arguments = CloneArguments {
        flags: namespaces as u64 | cgroup.map_or(0, |_| INTO_CGROUP),
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd as u64),
        ..CloneArguments::default()
    };
    // SAFETY: the kernel reads one `clone_args` of the size given.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>())
    };
    if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid as libc::pid_t) }
}

/// Closes what is above the standard streams and not among `keep`, which is in order.
pub(super) fn close_all_but(keep: &[RawFd]) {
    let mut next = 3;
    for fd in keep.iter().map(|fd| *fd as libc::c_uint).chain([libc::c_uint::MAX]) {
        if fd > next {
            // SAFETY: no memory is passed.
            unsafe { libc::syscall(libc::SYS_close_range, next, fd - 1, 0) };
        }
        next = fd.saturating_add(1).max(next);
    }
}

/// See cmsg(3), SCM_RIGHTS.
fn send_descriptor(socket: RawFd, descriptor: RawFd, tag: u8) -> io::Result<()> {
    let mut byte = [tag];
    let mut control = [0_u64; 8];
    // SAFETY: header, vector, byte and control buffer are live and as long as they are said to be;
    // the buffer is aligned for a `cmsghdr` and has room for one with one descriptor.
    unsafe {
        let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        check(libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) as libc::c_int)
    }
}

/// See cmsg(3). An end of the socket without a descriptor is an error.
fn receive_descriptor(socket: RawFd) -> io::Result<OwnedFd> {
    let mut byte = [0_u8; 1];
    let mut control = [0_u64; 8];
    // SAFETY: header, vector, byte and control buffer are live and as long as they are said to be;
    // a descriptor that the kernel put there is this process's own.
    unsafe {
        let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        check(libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) as libc::c_int)?;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}

/// How deep a container's cgroups go: `NAME/machine/pyro/COMMAND`, and what v1 may have.
const CGROUP_DEPTH: u32 = 6;

/// Removes a cgroup with all below it. Directories of cgroups hold files that cannot be removed,
/// and vanish with them.
fn remove_cgroup(parent: RawFd, name: &CStr, depth: u32) {
    // SAFETY: names are live and end in NUL; the buffer is as long as it is said to be, and what
    // getdents64(2) wrote there are whole records of the length that each begins with.
    unsafe {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let directory = libc::openat(parent, name.as_ptr(), flags);
        if directory >= 0 && depth < CGROUP_DEPTH {
            let mut buffer = [0_u64; 512];
            loop {
                let length = libc::syscall(
                    libc::SYS_getdents64,
                    directory,
                    buffer.as_mut_ptr(),
                    size_of_val(&buffer),
                );
                if length <= 0 {
                    break;
                }
                let mut at = 0;
                while at < length as usize {
                    let record = buffer.as_ptr().cast::<u8>().add(at).cast::<libc::dirent64>();
                    let inner = CStr::from_ptr((&raw const (*record).d_name).cast());
                    let plain = !matches!(inner.to_bytes(), b"." | b"..");
                    if plain && (*record).d_type == libc::DT_DIR {
                        remove_cgroup(directory, inner, depth + 1);
                    }
                    at += usize::from((*record).d_reclen);
                }
            }
        }
        if directory >= 0 {
            libc::close(directory);
        }
        libc::unlinkat(parent, name.as_ptr(), libc::AT_REMOVEDIR);
    }
}

/// `pyro-keeper: error N` on the console: numbers only, for nothing may be allocated here.
fn say(console: RawFd, errno: i32) {
    let mut text = *b"pyro-keeper: cannot make the container: error 000\n";
    let end = text.len() - 1;
    for (digit, value) in text[end - 3..end].iter_mut().zip([errno / 100, errno / 10, errno]) {
        *digit = b'0' + (value % 10) as u8;
    }
    let _ = write(console, &text);
}

fn write(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process without running anything of its owner's.
    unsafe { libc::_exit(code) }
}
