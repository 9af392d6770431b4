//! System calls that have no safe wrapper. All `unsafe` of the agent that is not about starting a
//! command lives here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::system::RebootCommand;
use tokio::io::unix::AsyncFd;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)` of `linux/fs.h`.
const FIFREEZE: libc::Ioctl = 0xC004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xC004_5878_u32 as libc::Ioctl;

/// `_IOW('R', 0x03, int[2])` and `_IO('R', 0x07)` of `linux/random.h`; see random(4).
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// Most bytes that [`add_entropy`] takes at once.
pub(crate) const ENTROPY_MAX: usize = 512;

/// `struct rand_pool_info` with room for [`ENTROPY_MAX`] bytes.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; ENTROPY_MAX],
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// True in the machine, false in a test on somebody's computer: guards what would end that.
pub(crate) fn is_init() -> bool {
    std::process::id() == 1
}

/// Set once, at the start, in a container.
static IN_CONTAINER: OnceLock<InContainer> = OnceLock::new();

/// What a container is like.
struct InContainer {
    /// The most processes that one of its users may have.
    processes: AtomicU64,
    /// Nobody in there may change groups.
    groups_are_fixed: bool,
}

/// From now on the machine is a container, whose kernel is not this agent's to power off, and
/// none of whose users may have more than so many processes.
pub(crate) fn be_in_container(processes: u64) {
    // So it is where an ordinary user of the host, who has no ids but his own, runs it; see
    // user_namespaces(7).
    let setgroups = std::fs::read("/proc/self/setgroups").unwrap_or_default();
    let _ = IN_CONTAINER.set(InContainer {
        processes: AtomicU64::new(processes),
        groups_are_fixed: setgroups.starts_with(b"deny"),
    });
}

/// Lowers that limit, if the machine is a container.
pub(crate) fn limit_container(processes: u64) {
    if let Some(container) = IN_CONTAINER.get() {
        container.processes.fetch_min(processes, Ordering::Relaxed);
    }
}

/// True if the machine is a container.
pub(crate) fn is_in_container() -> bool {
    container_limit().is_some()
}

/// The limit of processes, if the machine is a container.
pub(crate) fn container_limit() -> Option<u64> {
    IN_CONTAINER.get().map(|container| container.processes.load(Ordering::Relaxed))
}

/// True if nobody in this machine may change groups.
pub(crate) fn groups_are_fixed() -> bool {
    IN_CONTAINER.get().is_some_and(|container| container.groups_are_fixed)
}

/// A descriptor that the engine handed to PID 1 by its number; no command inherits it.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; a number that is not open is an error.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as was just seen, and each number is taken once, before anything else
    // of this process opens or closes descriptors.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes this process to the others in the machine: no ptrace(2), no look at its memory,
/// environment or descriptors, also not for root, which lacks CAP_SYS_PTRACE there.
pub(crate) fn hide() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// Readiness of a descriptor, told by the runtime.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the `AsyncFd` owns it until it is dropped, so it stays so.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

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

/// fork(2), into the cgroup whose directory is given, if one is.
///
/// # Safety
/// As for fork(2) in a process of several threads: the child may only do what is
/// async-signal-safe (signal-safety(7)), and must not rely on the C library's idea of its threads.
pub(crate) unsafe fn fork(cgroup: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    let Some(cgroup) = cgroup else {
        // SAFETY: the caller's promise.
        let pid = unsafe { libc::fork() };
        return if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid) };
    };
    let arguments = CloneArguments {
        flags: INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArguments::default()
    };
    // SAFETY: the kernel reads one `clone_args` of the size given; the rest is the caller's promise.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>())
    };
    if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// kill(2): a process, or the group `-target`, or with -1 all but PID 1.
pub(crate) fn kill(target: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill has no memory arguments; a wrong number is an error.
    check(unsafe { libc::kill(target, signal) })
}

/// Flushes the filesystem of `fd` and holds all writes to it; ext4 is left with an empty journal.
pub(crate) fn freeze(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, and FIFREEZE ignores its argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FIFREEZE, 0) })
}

/// Undoes [`freeze`].
pub(crate) fn thaw(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, and FITHAW ignores its argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FITHAW, 0) })
}

/// Credits `entropy` (its first [`ENTROPY_MAX`] bytes) to the kernel's pool through `random`, an
/// open `/dev/random`, and makes the generator use it at once. Returns how many bytes it took.
pub(crate) fn add_entropy(random: BorrowedFd<'_>, entropy: &[u8]) -> io::Result<usize> {
    let length = entropy.len().min(ENTROPY_MAX);
    let mut info = RandPoolInfo {
        entropy_bits: (length * 8) as libc::c_int,
        size: length as libc::c_int,
        bytes: [0; ENTROPY_MAX],
    };
    info.bytes[..length].copy_from_slice(&entropy[..length]);
    // SAFETY: `info` has the layout of `struct rand_pool_info`, whose `size` bytes are initialised
    // and lie within it; the kernel only reads it, during the call.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    // SAFETY: the descriptor is open for the length of the call; RNDRESEEDCRNG has no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG, 0) })?;
    Ok(length)
}

/// Makes this thread run ahead of all ordinary ones; what it starts does not inherit that. See
/// sched(7).
pub(crate) fn run_first() -> io::Result<()> {
    // SAFETY: `sched_param` is plain data, for which all zeroes is a valid value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads one `sched_param` from a valid pointer during the call.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) })
}

/// Brings the loopback interface up; the kernel gives it its addresses by itself. See netdevice(7).
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one `ifreq` from a valid pointer during the call.
    check(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request)
    })
}

/// A listening, non-blocking vsock; see vsock(7).
pub(crate) fn vsock_listen(port: u32) -> io::Result<OwnedFd> {
    let socket = vsock(libc::SOCK_NONBLOCK)?;
    let address = vsock_address(libc::VMADDR_CID_ANY, port);
    // SAFETY: the address is a live `sockaddr_vm` of the length that is named, and only read.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), VSOCK_ADDRESS) })?;
    // SAFETY: no memory is passed; the descriptor is open for the length of the call.
    check(unsafe { libc::listen(socket.as_raw_fd(), 1) })?;
    Ok(socket)
}

/// Connects to a port of the host. Blocks for two seconds at most (vsock(7),
/// `SO_VM_SOCKETS_CONNECT_TIMEOUT`); usually the host's side accepts at once, or refuses.
pub(crate) fn vsock_knock(port: u32) -> io::Result<OwnedFd> {
    let socket = vsock(0)?;
    let address = vsock_address(libc::VMADDR_CID_HOST, port);
    // SAFETY: the address is a live `sockaddr_vm` of the length that is named, and only read.
    check(unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), VSOCK_ADDRESS)
    })?;
    Ok(socket)
}

/// A connection from the host; `None` for one from anybody else.
pub(crate) fn vsock_accept(listening: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut peer = vsock_address(0, 0);
    let mut length = VSOCK_ADDRESS;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the kernel writes at most `length` bytes, the size of `peer`, during the call.
    let accepted = unsafe {
        let (peer, length) = ((&raw mut peer).cast(), &raw mut length);
        libc::accept4(listening.as_raw_fd(), peer, length, flags)
    };
    check(accepted)?;
    // SAFETY: the call has just made this descriptor, and nobody else owns it.
    let stream = unsafe { OwnedFd::from_raw_fd(accepted) };
    Ok((peer.svm_cid == libc::VMADDR_CID_HOST).then_some(stream))
}

fn vsock(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    check(socket)?;
    // SAFETY: the call has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

const VSOCK_ADDRESS: libc::socklen_t = std::mem::size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn vsock_address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: `sockaddr_vm` is plain data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

/// Ends the machine as one that is done. The disks must be clean by now.
pub(crate) fn power_off() -> ! {
    if is_in_container() {
        std::process::exit(0);
    }
    end(RebootCommand::PowerOff)
}

/// Ends the machine as one that failed: engines take a reset for a death.
pub(crate) fn reset() -> ! {
    if is_in_container() {
        std::process::exit(1);
    }
    end(RebootCommand::Restart)
}

fn end(command: RebootCommand) -> ! {
    if is_init() {
        let _ = rustix::system::reboot(command);
    }
    // PID 1 that exits panics the kernel, which ends the machine as well.
    std::process::abort()
}
