//! A command on a terminal of its own.
//!
//! The agent holds both ends of a pseudoterminal (pty(7)). The command's session has the one as its
//! controlling terminal; what is written to the other is typed there, and what is read from it is
//! what the command shows.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyro_wire::v1::exec_failed::Reason;
use pyro_wire::v1::exec_input::Input;
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{ExecInput, ExecOutput, ExecStarted, TerminalSize};
use rustix::fs::{Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::exec::cgroup::Cgroup;
use crate::exec::child::{self, Started};
use crate::exec::command::{Clock, Tree, refuse, send};
use crate::exec::output::{Dropped, Reply};
use crate::exec::plan::{Plan, Refusal};
use crate::reaper::Ended;
use crate::sys;

/// Bytes that may wait to be typed before no more are taken from the host. It keeps to less while
/// it wants to be heard with anything else, such as a signal.
const TYPED_AHEAD: usize = 64 * 1024;

/// What is read from a terminal whose command has ended, in case others go on writing: more than
/// the kernel holds of it.
const LAST_WORDS: usize = 256 * 1024;

/// What programs get to save their work once the terminal hung up.
const LEAVE: Duration = Duration::from_millis(1000);

/// What is typed to end the input: ^D, unless the command says otherwise.
const END_OF_INPUT: &[u8] = &[4];

/// A command and its terminal.
pub(super) struct Seat {
    plan: Plan,
    terminal: Terminal,
    started: Started,
}

/// The agent's ends of a terminal.
struct Terminal {
    ours: AsyncFd<OwnedFd>,
    /// Kept, so that a command may close all of its own and open `/dev/tty` again.
    theirs: Option<OwnedFd>,
    hung_up: AtomicBool,
    /// Bytes that were typed by now and the host does not know of.
    typed: AtomicU32,
}

impl Seat {
    /// Makes a terminal and starts what was planned on it.
    pub(super) fn open(
        reaper: &crate::reaper::Reaper,
        plan: Plan,
        cgroup: Option<&Cgroup>,
    ) -> Result<Self, Refusal> {
        let terminal = Terminal::open(plan.terminal.unwrap_or_default(), plan.user.uid)
            .map_err(|e| Refusal::new(Reason::Other, format!("cannot open a terminal: {e}")))?;
        let Some(theirs) = &terminal.theirs else {
            return Err(Refusal::new(Reason::Other, "the terminal has no other end"));
        };
        let started = child::start_on_terminal(reaper, &plan, theirs, cgroup)?;
        Ok(Self { plan, terminal, started })
    }

    pub(super) fn pid(&self) -> i32 {
        self.started.pid
    }

    /// Carries what is typed and shown until the main process has ended, then says how it did.
    pub(super) async fn attend(
        self,
        tree: Tree,
        clock: Clock,
        input: Streaming<ExecInput>,
        replies: &mpsc::Sender<Reply>,
    ) {
        let Self { plan, mut terminal, started } = self;
        let Started { pid, mut ended, mut outcome } = started;
        tokio::select! {
            known = outcome.known(&plan) => if let Err(refusal) = known {
                return refuse(refusal, replies).await;
            },
            // Both are dealt with below.
            () = clock.ran_out() => {}
            () = replies.closed() => {}
        }
        let _ = send(replies, Output::Started(ExecStarted { pid: pid as u32 })).await;
        let mut keyboard = Keyboard { input: Some(input), ..Keyboard::default() };
        let deadline = clock.ran_out();
        tokio::pin!(deadline);
        let (mut timed_out, mut dropped, mut killed) = (false, false, false);
        let how = loop {
            tokio::select! {
                biased;
                how = &mut ended => break how.unwrap_or(Ended::Exited(-1)),
                () = replies.closed(), if !dropped => {
                    dropped = true;
                    tree.kill();
                }
                () = &mut deadline, if !timed_out => {
                    timed_out = true;
                    tree.kill();
                }
                () = leave_taken(keyboard.hung_up), if !killed => {
                    killed = true;
                    tree.kill();
                }
                () = keyboard.turn(&terminal, &tree) => {}
                _ = terminal.forward(replies), if !dropped => {}
            }
        };
        let exit = tree.exit(how, timed_out, &clock);
        if keyboard.hung_up.is_some() {
            // Also those who did not mind.
            tree.kill();
        }
        let told = match terminal.finish(replies).await {
            Ok(()) => send(replies, exit).await,
            Err(dropped) => Err(dropped),
        };
        // Dropped before it was over: then it ends with all that it started. Else those who are
        // left hear that the terminal hung up, as they would anywhere.
        if told.is_err() {
            tree.kill();
        }
    }
}

impl Terminal {
    fn open(size: TerminalSize, owner: u32) -> io::Result<Self> {
        // Not blocking also where somebody put a fifo in its place.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let ours = rustix::fs::open("/dev/ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&ours)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
        resize(theirs.as_fd(), size)?;
        let mut modes = rustix::termios::tcgetattr(&theirs)?;
        // So that the line editor of the kernel erases a character and not a byte.
        modes.input_modes |= InputModes::IUTF8;
        rustix::termios::tcsetattr(&theirs, OptionalActions::Now, &modes)?;
        if sys::is_init() {
            // Programs that open their terminal by its name need to own it.
            rustix::fs::fchown(&theirs, Some(Uid::from_raw(owner)), None)?;
        }
        Ok(Self {
            ours: sys::async_fd(ours)?,
            theirs: Some(theirs),
            hung_up: false.into(),
            typed: 0.into(),
        })
    }

    /// Passes on one chunk of what is shown, or what was typed by now. Nothing is read before there
    /// is room to send it, so a reader that stalls stalls the command. May be cancelled at any
    /// await without losing a byte.
    async fn forward(&self, replies: &mpsc::Sender<Reply>) -> Result<(), Dropped> {
        let room = replies.reserve().await.map_err(|_| Dropped)?;
        let typed = self.typed.swap(0, Ordering::Relaxed);
        if typed > 0 {
            room.send(Ok(ExecOutput { output: Some(Output::Typed(typed)) }));
            return Ok(());
        }
        if self.hung_up.load(Ordering::Relaxed) {
            return pending().await;
        }
        let Ok(mut ready) = self.ours.readable().await else { return pending().await };
        let (shown, state) = read(ready.get_inner().as_fd(), pyro_wire::CHUNK);
        match state {
            Source::Empty => ready.clear_ready(),
            Source::More => {}
            Source::HungUp => self.hung_up.store(true, Ordering::Relaxed),
        }
        if !shown.is_empty() {
            room.send(Ok(ExecOutput { output: Some(Output::Stdout(shown.into())) }));
        }
        Ok(())
    }

    /// Passes on what the ended command left in its terminal.
    async fn finish(&mut self, replies: &mpsc::Sender<Reply>) -> Result<(), Dropped> {
        self.theirs = None;
        // What ended it was perhaps typed.
        let typed = self.typed.swap(0, Ordering::Relaxed);
        if typed > 0 {
            let room = replies.reserve().await.map_err(|_| Dropped)?;
            room.send(Ok(ExecOutput { output: Some(Output::Typed(typed)) }));
        }
        let mut left = LAST_WORDS;
        let mut more = !self.hung_up.load(Ordering::Relaxed);
        while left > 0 && more {
            let room = replies.reserve().await.map_err(|_| Dropped)?;
            // Reading also moves on what the kernel has taken from the command and not yet shown.
            let (shown, state) = read(self.ours.get_ref().as_fd(), left.min(pyro_wire::CHUNK));
            left -= shown.len();
            more = matches!(state, Source::More);
            if !shown.is_empty() {
                room.send(Ok(ExecOutput { output: Some(Output::Stdout(shown.into())) }));
            }
        }
        Ok(())
    }
}

/// What is to be expected of a terminal after a read.
enum Source {
    More,
    Empty,
    HungUp,
}

/// Reads what is there, at most `most` bytes, without waiting. One read(2) gives 4 KiB at most.
fn read(terminal: BorrowedFd<'_>, most: usize) -> (Vec<u8>, Source) {
    let mut buffer = vec![0; most];
    let mut filled = 0;
    let state = loop {
        match rustix::io::read(terminal, &mut buffer[filled..]) {
            Ok(0) | Err(Errno::IO) => break Source::HungUp,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break Source::Empty,
            Err(_) => break Source::HungUp,
        }
        if filled == most {
            break Source::More;
        }
    };
    buffer.truncate(filled);
    (buffer, state)
}

/// What the host types.
#[derive(Default)]
struct Keyboard {
    /// None once the host says no more.
    input: Option<Streaming<ExecInput>>,
    /// Not yet taken by the terminal.
    waiting: VecDeque<u8>,
    /// When the host hung up.
    hung_up: Option<Instant>,
}

impl Keyboard {
    /// Takes one message of the host's, or types some of what waits. May be cancelled at any await.
    async fn turn(&mut self, terminal: &Terminal, tree: &Tree) {
        let hears = self.input.is_some() && self.waiting.len() < TYPED_AHEAD;
        tokio::select! {
            message = next(&mut self.input), if hears => match message {
                Some(message) => self.obey(message, terminal, tree),
                None => self.input = None,
            },
            ready = terminal.ours.writable(), if !self.waiting.is_empty() => {
                let Ok(mut ready) = ready else { return self.waiting.clear() };
                let (first, _) = self.waiting.as_slices();
                match rustix::io::write(ready.get_inner(), first) {
                    Ok(length) => {
                        self.waiting.drain(..length);
                        terminal.typed.fetch_add(length as u32, Ordering::Relaxed);
                    }
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    Err(Errno::INTR) => {}
                    // Nobody will read it.
                    Err(_) => self.waiting.clear(),
                }
            }
            else => pending().await,
        }
    }

    fn obey(&mut self, message: Input, terminal: &Terminal, tree: &Tree) {
        match message {
            Input::Stdin(bytes) => self.waiting.extend(&bytes[..]),
            Input::StdinClosed(true) => self.waiting.extend(END_OF_INPUT),
            Input::Signal(signal) => signal_foreground(terminal, tree, signal),
            Input::Resize(size) => {
                // Tells the command by SIGWINCH, if it is another size.
                let _ = resize(terminal.ours.get_ref().as_fd(), size);
            }
            Input::HangUp(true) => {
                // As the kernel does when a modem hangs up; the second wakes those that are stopped.
                for signal in [Signal::HUP, Signal::CONT] {
                    signal_foreground(terminal, tree, signal.as_raw());
                    tree.reaper.signal_group(tree.pid, signal.as_raw());
                }
                self.hung_up.get_or_insert_with(Instant::now);
            }
            Input::HangUp(false) | Input::StdinClosed(false) | Input::Start(_) => {}
        }
    }
}

/// Resolves once what runs on the terminal has had its time since the host hung up.
async fn leave_taken(hung_up: Option<Instant>) {
    match hung_up {
        Some(since) => tokio::time::sleep(LEAVE.saturating_sub(since.elapsed())).await,
        None => pending().await,
    }
}

async fn next(input: &mut Option<Streaming<ExecInput>>) -> Option<Input> {
    match input.as_mut()?.message().await {
        Ok(Some(message)) => message.input,
        Ok(None) | Err(_) => None,
    }
}

/// Signals what is in the foreground, as a key would; before there is such, the command itself.
fn signal_foreground(terminal: &Terminal, tree: &Tree, signal: i32) {
    let foreground = rustix::termios::tcgetpgrp(terminal.ours.get_ref())
        .map(|group| group.as_raw_nonzero().get());
    match foreground {
        // A negative number means a group, and -1 everybody.
        Ok(group) if group > 1 && sys::kill(-group, signal).is_ok() => {}
        _ => tree.reaper.signal_group(tree.pid, signal),
    }
}

fn resize(terminal: BorrowedFd<'_>, size: TerminalSize) -> rustix::io::Result<()> {
    let bounded = |count: u32| count.clamp(1, u16::MAX.into()) as u16;
    let size = Winsize {
        ws_row: bounded(size.rows),
        ws_col: bounded(size.columns),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}
