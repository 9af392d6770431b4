//! What commands in a container may not do, though they be root there.
//!
//! In a virtual machine root is root: the machine is the wall. In a container the agent itself
//! needs some power over the namespaces (mounts, host name, cgroups), and commands get less.
#![allow(unsafe_code)]

use std::io;

/// What package managers, `su` and daemons need, and nothing that opens up more of the kernel.
/// All of it counts only against what belongs to the container's own range of user ids.
const KEPT: &[u32] = &[
    0,  // CAP_CHOWN
    1,  // CAP_DAC_OVERRIDE
    3,  // CAP_FOWNER
    4,  // CAP_FSETID
    5,  // CAP_KILL
    6,  // CAP_SETGID
    7,  // CAP_SETUID
    8,  // CAP_SETPCAP
    10, // CAP_NET_BIND_SERVICE
    18, // CAP_SYS_CHROOT
    31, // CAP_SETFCAP
];

/// Numbers above the last one that the kernel knows are refused, which does no harm.
const CAPABILITIES: u32 = 64;

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const fn mask() -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < KEPT.len() {
        mask |= 1 << KEPT[at];
        at += 1;
    }
    mask
}

/// Gives up, for good, every capability that commands do not get. Runs between fork and exec:
/// system calls only.
pub(crate) fn give_up() -> io::Result<()> {
    for capability in 0..CAPABILITIES {
        if mask() & (1 << capability) == 0 {
            // SAFETY: no memory is passed.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        }
    }
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = Header { version: VERSION, pid: 0 };
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(mask() & 0xffff_ffff), half(mask() >> 32)];
    // SAFETY: capset(2) reads one header and, for this version, two data structures.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes clone3(2) away, for good, as if the kernel did not have it. Its flags, which may ask for a
/// new user namespace, are in memory, where no filter sees them; programs take clone(2) instead,
/// whose flags the container's own filter checks. Only the agent needs it, to start commands.
pub(crate) fn forbid_clone3() -> io::Result<()> {
    /// The same on every architecture; x32 adds [`X32`].
    const CLONE3: u32 = 435;
    const X32: u32 = 0x4000_0000;
    /// See seccomp(2) and `linux/bpf_common.h`.
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = [
        // The number of the call is the first thing in `struct seccomp_data`.
        step(LOAD, 0, 0),
        step(AND, 0, !X32),
        step(IF_EQUAL, 1, CLONE3),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads one `sock_fprog` and the steps that it points to during the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many files each process may have open.
pub(crate) fn limit_open_files(most: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the kernel reads one `rlimit` from a valid pointer during the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The most processes that the user of a command may have, so that a fork bomb leaves the agent
/// some. Inherited; in a container not even root can raise it again.
pub(crate) fn limit_processes(most: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the kernel reads one `rlimit` from a valid pointer during the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
