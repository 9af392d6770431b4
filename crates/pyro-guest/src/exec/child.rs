//! Starting the process of a command.
//!
//! The standard library's `Command` waits until the new process has exec'd. That can take as long
//! as the disk is frozen, or a network filesystem of the user hangs; and the agent's only thread is
//! the one that has to thaw. So the fork is done here, and the outcome of the exec is awaited like
//! any other event.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, NulError, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use pyro_wire::v1::exec_failed::Reason;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::exec::cgroup::Cgroup;
use crate::exec::plan::{Plan, Refusal};
use crate::exec::privileges;
use crate::reaper::{Ended, Reaper};
use crate::sys;

/// A running command and this side of its pipes.
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) ended: oneshot::Receiver<Ended>,
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    pub(crate) outcome: Outcome,
}

/// What the new process will say of its exec: nothing, if it worked.
pub(crate) struct Outcome(pipe::Receiver);

/// Which step of a start failed.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Settle = 1,
    Become,
    Enter,
    Exec,
}

/// Forks what was planned, into its own session and cgroup.
pub(crate) fn start(
    reaper: &Reaper,
    plan: &Plan,
    cgroup: Option<&Cgroup>,
) -> Result<Child, Refusal> {
    let nul = |_: NulError| Refusal::new(Reason::BadRequest, "a text has a NUL byte");
    let script = Script::new(plan).map_err(nul)?;
    fork(reaper, script, plan.stdin, cgroup)
        .map_err(|error| Refusal::new(Reason::Other, format!("cannot start the command: {error}")))
}

fn fork(
    reaper: &Reaper,
    script: Script,
    with_stdin: bool,
    cgroup: Option<&Cgroup>,
) -> io::Result<Child> {
    let (stdout, out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, err) = pipe_with(PipeFlags::CLOEXEC)?;
    let (input, stdin) = if with_stdin {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        (reader, Some(pipe::Sender::from_owned_fd(writer)?))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let stdout = pipe::Receiver::from_owned_fd(stdout)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr)?;
    let streams = Streams { input, out, err, terminal: false };
    let Started { pid, ended, outcome } = launch(reaper, &script, streams, cgroup)?;
    Ok(Child { pid, ended, stdin, stdout, stderr, outcome })
}

/// The same on a terminal, whose other end this is.
pub(super) fn start_on_terminal(
    reaper: &Reaper,
    plan: &Plan,
    terminal: &OwnedFd,
    cgroup: Option<&Cgroup>,
) -> Result<Started, Refusal> {
    let nul = |_: NulError| Refusal::new(Reason::BadRequest, "a text has a NUL byte");
    let script = Script::new(plan).map_err(nul)?;
    let streams = || {
        let [input, out, err] =
            [terminal.try_clone()?, terminal.try_clone()?, terminal.try_clone()?];
        Ok(Streams { input, out, err, terminal: true })
    };
    streams().and_then(|streams| launch(reaper, &script, streams, cgroup)).map_err(
        |error: io::Error| {
            Refusal::new(Reason::Other, format!("cannot start the command: {error}"))
        },
    )
}

/// A process that was just forked.
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) ended: oneshot::Receiver<Ended>,
    pub(super) outcome: Outcome,
}

/// What a new process reads and writes.
struct Streams {
    input: OwnedFd,
    out: OwnedFd,
    err: OwnedFd,
    /// They are one terminal, which is to control the new session.
    terminal: bool,
}

fn launch(
    reaper: &Reaper,
    script: &Script,
    streams: Streams,
    cgroup: Option<&Cgroup>,
) -> io::Result<Started> {
    let (outcome, report) = pipe_with(PipeFlags::CLOEXEC)?;
    let (entrance, birthplace) = match (cgroup, sys::is_in_container()) {
        (Some(cgroup), true) => (None, Some(cgroup.birthplace()?)),
        (Some(cgroup), false) => (Some(cgroup.entrance()?), None),
        (None, _) => (None, None),
    };
    let ends = Ends { streams, report, entrance };
    let outcome = Outcome(pipe::Receiver::from_owned_fd(outcome)?);
    let (pid, ended) = reaper.spawn(|| {
        // SAFETY: in the child, which has one thread and copies of locks that others may hold, only
        // `Script::perform` runs, which is async-signal-safe (signal-safety(7)) and never returns.
        match unsafe { sys::fork(birthplace.as_ref().map(AsFd::as_fd)) }? {
            0 => script.perform(&ends),
            pid => Ok(pid),
        }
    })?;
    Ok(Started { pid, ended, outcome })
}

/// The child's ends of the pipes. All close at exec; dropped in the parent after the fork.
struct Ends {
    streams: Streams,
    report: OwnedFd,
    entrance: Option<File>,
}

/// All that the child needs, made before the fork, since it may not allocate.
struct Script {
    program: CString,
    argv: Texts,
    env: Texts,
    cwd: CString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// False in a test on somebody's computer, where no other user can be become.
    as_init: bool,
    /// Where nobody may change groups there is but one user, too.
    groups_are_fixed: bool,
    /// The limit of processes, in a container.
    in_container: Option<u64>,
    open_files: Option<u64>,
}

impl Script {
    fn new(plan: &Plan) -> Result<Self, NulError> {
        let pairs = plan
            .env
            .iter()
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        Ok(Self {
            program: c_string(plan.program.as_os_str())?,
            argv: Texts::new(plan.argv.iter().map(|arg| c_string(arg)))?,
            env: Texts::new(pairs)?,
            cwd: c_string(plan.cwd.as_os_str())?,
            uid: plan.user.uid,
            gid: plan.user.gid,
            groups: plan.user.groups.clone(),
            as_init: sys::is_init(),
            groups_are_fixed: sys::groups_are_fixed(),
            in_container: sys::container_limit(),
            open_files: plan.open_files,
        })
    }

    /// Becomes the command, or says why not and ends.
    fn perform(&self, ends: &Ends) -> ! {
        let (step, errno) = match self.become_command(ends) {
            Ok(never) => match never {},
            Err((step, error)) => (step, error.raw_os_error().unwrap_or(0)),
        };
        // Linux knows no error number beyond 133.
        write(ends.report.as_raw_fd(), &[step as u8, errno as u8]).ok();
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    fn become_command(&self, ends: &Ends) -> Result<std::convert::Infallible, (Step, io::Error)> {
        self.settle(ends).map_err(|error| (Step::Settle, error))?;
        self.become_user().map_err(|error| (Step::Become, error))?;
        // SAFETY: the string is live and ends in NUL.
        check(unsafe { libc::chdir(self.cwd.as_ptr()) }).map_err(|error| (Step::Enter, error))?;
        // SAFETY: the strings are live and end in NUL, the arrays of pointers to them in null.
        unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
        Err((Step::Exec, io::Error::last_os_error()))
    }

    /// Cgroup, session, standard streams, signals.
    fn settle(&self, ends: &Ends) -> io::Result<()> {
        if let Some(entrance) = &ends.entrance {
            write(entrance.as_raw_fd(), b"0")?;
        }
        if self.as_init {
            reset_oom_score(if self.in_container.is_some() { b"200" } else { b"0" })?;
        }
        if let Some(files) = self.open_files {
            privileges::limit_open_files(files)?;
        }
        if let Some(processes) = self.in_container {
            privileges::limit_processes(processes)?;
            privileges::forbid_clone3()?;
            privileges::give_up()?;
        }
        // SAFETY: no memory is passed but a signal set that lives through its calls.
        unsafe {
            check(libc::setsid())?;
            check(libc::dup2(ends.streams.input.as_raw_fd(), 0))?;
            check(libc::dup2(ends.streams.out.as_raw_fd(), 1))?;
            check(libc::dup2(ends.streams.err.as_raw_fd(), 2))?;
            if ends.streams.terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            // Rust programs ignore it, and ignored signals stay so through exec.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))
        }
    }

    fn become_user(&self) -> io::Result<()> {
        if !self.as_init {
            return Ok(());
        }
        // The library's functions would have every thread of the process change, and it may still
        // count the agent's; the forked child has one. See nptl(7).
        let check = |result: libc::c_long| check(result as libc::c_int);
        // SAFETY: pointer and length are those of a live vector; the other calls pass no memory.
        unsafe {
            let (groups, count) = (self.groups.as_ptr(), self.groups.len());
            if !self.groups_are_fixed {
                check(libc::syscall(libc::SYS_setgroups, count, groups))?;
            }
            check(libc::syscall(libc::SYS_setgid, self.gid))?;
            check(libc::syscall(libc::SYS_setuid, self.uid))
        }
    }
}

/// An array of strings as execve(2) wants it. The pointers are into the heap, so moving this leaves
/// them valid.
struct Texts {
    _owned: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Texts {
    fn new(texts: impl Iterator<Item = Result<CString, NulError>>) -> Result<Self, NulError> {
        let owned = texts.collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { _owned: owned, pointers })
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

impl Outcome {
    /// Resolves when the command runs, or did not come so far.
    pub(crate) async fn known(&mut self, plan: &Plan) -> Result<(), Refusal> {
        let mut said = [0; 2];
        match self.0.read_exact(&mut said).await {
            Ok(_) => Err(refusal(plan, said[0], said[1].into())),
            // Closed by the exec, or by a signal that came before it.
            Err(_) => Ok(()),
        }
    }
}

/// What a failed start means.
fn refusal(plan: &Plan, step: u8, errno: i32) -> Refusal {
    let cause = io::Error::from_raw_os_error(errno);
    let name = std::path::Path::new(&plan.argv[0]).display();
    const BECOME: u8 = Step::Become as u8;
    const ENTER: u8 = Step::Enter as u8;
    const EXEC: u8 = Step::Exec as u8;
    match (step, errno) {
        (EXEC, libc::ENOENT) => Refusal::new(
            Reason::CommandNotFound,
            format!("{name}: the interpreter that it names does not exist"),
        ),
        (EXEC, libc::E2BIG) => Refusal::new(Reason::BadRequest, format!("{name}: {cause}")),
        (EXEC, _) => Refusal::new(Reason::NotExecutable, format!("{name}: {cause}")),
        (ENTER, _) => Refusal::new(
            Reason::NoSuchDirectory,
            format!("cannot enter {}: {cause}", plan.cwd.display()),
        ),
        (BECOME, _) => Refusal::new(
            Reason::Other,
            format!("cannot become the user {:?}: {cause}", plan.user.name),
        ),
        _ => Refusal::new(Reason::Other, format!("cannot start {name}: {cause}")),
    }
}

/// Undoes for the command what protects the agent from the OOM killer. In a container nothing does,
/// for a score below zero would protect it from the host as well; there the commands go first.
fn reset_oom_score(score: &[u8]) -> io::Result<()> {
    const PATH: &CStr = c"/proc/self/oom_score_adj";
    // SAFETY: the path is a static string that ends in NUL.
    let fd = unsafe { libc::open(PATH.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(fd)?;
    write(fd, score)
}

fn write(fd: libc::c_int, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c_string(text: &OsStr) -> Result<CString, NulError> {
    CString::new(text.as_bytes())
}
