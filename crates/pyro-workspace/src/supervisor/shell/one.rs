//! One shell: what it has shown, its screen, its keyboard.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use pyro_contract::name::Name;
use pyro_contract::shell::{
    OpenShell, ReadShell, ShellId, ShellInfo, ShellOutput, ShellRef, ShellState, ShellWritten,
    TerminalSize, encode_base64,
};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::{self, ExecInput, exec_input};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::cut;
use super::ring::Ring;
use super::scan::Scanner;
use super::screen::Screen;

/// Bytes that are typed before the terminal has to have taken them. The agent hears signals as
/// long as less than its own bound waits.
const PIECE: usize = 4096;

/// Output that is taken to the screen before anybody else gets a turn: a few bytes may ask the
/// emulator for much work.
const MOUTHFUL: usize = 512;

/// See the module.
pub(super) struct Shell {
    /// What never changes, and what is only known at the end.
    about: Mutex<ShellInfo>,
    id: ShellId,
    name: Option<Name>,
    seen: Mutex<Seen>,
    progress: watch::Sender<Progress>,
    /// To the agent, once it has started.
    inputs: OnceLock<mpsc::Sender<ExecInput>>,
    /// Held by who types, so that nobody types between.
    keyboard: tokio::sync::Mutex<()>,
    /// Bytes sent to be typed, and bytes that the terminal took.
    sent: AtomicU64,
    typed: watch::Sender<u64>,
    attached: AtomicU32,
    /// True once it is given up.
    lost: watch::Sender<bool>,
}

/// What a shell has shown.
struct Seen {
    ring: Ring,
    screen: Screen,
    scanner: Scanner,
    /// The last place in the output where neither character nor sequence was unfinished.
    between: u64,
}

/// How far a shell has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of the next byte that it shows.
    pub(super) end: u64,
    pub(super) closed: bool,
}

/// How a shell ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    /// Why, if not by itself.
    pub(super) reason: Option<String>,
}

/// Counts somebody attached for as long as this lives.
pub(super) struct Attached<'a>(&'a Shell);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shell {
    pub(super) fn new(request: &OpenShell, cwd: &str) -> Self {
        let id = ShellId::random();
        let size = TerminalSize { cols: request.cols, rows: request.rows };
        let about = ShellInfo {
            id: id.clone(),
            name: request.name.clone(),
            state: ShellState::Running,
            argv: request.argv.clone(),
            cwd: cwd.to_owned(),
            user: request.user.clone(),
            cols: request.cols,
            rows: request.rows,
            opened_at: Timestamp::now(),
            closed_at: None,
            exit_code: None,
            signal: None,
            reason: None,
            output_bytes: 0,
            dropped_bytes: 0,
            attached: 0,
        };
        Self {
            id,
            name: request.name.clone(),
            about: Mutex::new(about),
            seen: Mutex::new(Seen {
                ring: Ring::default(),
                screen: Screen::new(size),
                scanner: Scanner::default(),
                between: 0,
            }),
            progress: watch::Sender::new(Progress { end: 0, closed: false }),
            inputs: OnceLock::new(),
            keyboard: tokio::sync::Mutex::new(()),
            sent: AtomicU64::new(0),
            typed: watch::Sender::new(0),
            attached: AtomicU32::new(0),
            lost: watch::Sender::new(false),
        }
    }

    pub(super) fn id(&self) -> &ShellId {
        &self.id
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(Name::as_str)
    }

    pub(super) fn is_called(&self, reference: &ShellRef) -> bool {
        [Some(self.id.as_str()), self.name()].contains(&Some(reference.as_str()))
    }

    pub(super) fn is_running(&self) -> bool {
        !self.progress.borrow().closed
    }

    pub(super) fn info(&self) -> ShellInfo {
        let mut info = self.about().clone();
        let seen = self.seen();
        let size = seen.screen.size();
        (info.cols, info.rows) = (size.cols, size.rows);
        (info.output_bytes, info.dropped_bytes) = (seen.ring.end(), seen.ring.start());
        info.attached = self.attached.load(Ordering::Relaxed);
        info
    }

    fn about(&self) -> MutexGuard<'_, ShellInfo> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It runs; this is how to type.
    pub(super) fn begin(&self, inputs: mpsc::Sender<ExecInput>) {
        let _ = self.inputs.set(inputs);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Resolves once it has ended.
    pub(super) async fn ended(&self) {
        let _ = self.watch().wait_for(|progress| progress.closed).await;
    }

    /// Takes what its program wrote.
    pub(super) async fn show(&self, output: &[u8]) {
        for mouthful in output.chunks(MOUTHFUL) {
            let (end, answers) = {
                let mut seen = self.seen();
                let seen = &mut *seen;
                seen.ring.push(mouthful);
                seen.screen.show(mouthful);
                let begin = seen.ring.end() - mouthful.len() as u64;
                for (at, byte) in (begin + 1..).zip(mouthful) {
                    seen.scanner.step(*byte);
                    if seen.scanner.is_between() {
                        seen.between = at;
                    }
                }
                (seen.ring.end(), seen.screen.take_answers())
            };
            // Where somebody's terminal shows it too, that one answers.
            if !answers.is_empty() && self.attached.load(Ordering::Relaxed) == 0 {
                self.answer(answers);
            }
            self.progress.send_modify(|progress| progress.end = end);
            tokio::task::yield_now().await;
        }
    }

    /// Types what a terminal types by itself, unless too much waits already.
    fn answer(&self, bytes: Vec<u8>) {
        let Some(inputs) = self.inputs.get() else { return };
        let length = bytes.len() as u64;
        self.sent.fetch_add(length, Ordering::Relaxed);
        let input = exec_input::Input::Stdin(bytes.into());
        if inputs.try_send(ExecInput { input: Some(input) }).is_err() {
            self.sent.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// The terminal took so many bytes more.
    pub(super) fn took(&self, bytes: u32) {
        self.typed.send_modify(|typed| *typed = typed.saturating_add(bytes.into()));
    }

    /// Its program ended so, or is given up.
    pub(super) fn close(&self, ended: &Ended) {
        {
            let mut about = self.about();
            about.state = ShellState::Closed;
            about.closed_at = Some(Timestamp::now());
            (about.exit_code, about.signal) = (ended.exit_code, ended.signal);
            about.reason.clone_from(&ended.reason);
        }
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Asks the agent to end all that runs on it.
    pub(super) fn hang_up(&self, reason: &str) {
        self.about().reason.get_or_insert_with(|| reason.to_owned());
        if let Some(inputs) = self.inputs.get().cloned() {
            tokio::spawn(async move {
                let input = exec_input::Input::HangUp(true);
                let _ = inputs.send(ExecInput { input: Some(input) }).await;
            });
        }
    }

    /// Why it is being ended, if somebody does.
    pub(super) fn reason(&self) -> Option<String> {
        self.about().reason.clone()
    }

    /// Gives it up, whatever its program does.
    pub(super) fn lose(&self, reason: &str) {
        self.about().reason.get_or_insert_with(|| reason.to_owned());
        self.lost.send_replace(true);
    }

    /// Resolves once it is given up.
    pub(super) async fn given_up(&self) {
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Waits until nothing was shown for so long, or it ended; false if that takes too long.
    pub(super) async fn idle(&self, quiet: Duration, patience: Duration) -> bool {
        let mut progress = self.watch();
        let deadline = Instant::now() + patience;
        while !progress.borrow_and_update().closed {
            if Instant::now() >= deadline {
                return false;
            }
            let quiet_at = Instant::now() + quiet;
            match timeout_at(quiet_at.min(deadline), progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                Err(_) => return quiet_at <= deadline,
            }
        }
        true
    }

    /// What was shown since the cursor, or the screen.
    pub(super) fn read(&self, request: &ReadShell) -> Result<ShellOutput> {
        let closed = !self.is_running();
        let about = self.about().clone();
        let mut seen = self.seen();
        let (start, end) = (seen.ring.start(), seen.ring.end());
        let asked = request.cursor.unwrap_or(0);
        if asked > end {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("the cursor {asked} is beyond the end of the output, {end}"),
            )
            .with_hint("take the `next_cursor` of a read of the same shell"));
        }
        let mut output = ShellOutput {
            id: self.id.clone(),
            cursor: asked,
            next_cursor: end,
            dropped_bytes: 0,
            text: String::new(),
            data_base64: None,
            more: false,
            timed_out: false,
            state: about.state,
            exit_code: about.exit_code,
            signal: about.signal,
            screen: None,
        };
        let most = usize::try_from(request.max_chars).unwrap_or(usize::MAX);
        if request.plain {
            output.cursor = end;
            output.text = seen.screen.text().chars().take(most).collect();
            output.screen = Some(seen.screen.state());
            return Ok(output);
        }
        if asked < start {
            // The first bytes that are kept may be the end of a character.
            let halved = seen.ring.since(start).take(3).take_while(|byte| byte & 0xc0 == 0x80);
            output.cursor = start + halved.count() as u64;
            output.dropped_bytes = output.cursor - asked;
        }
        if request.raw {
            let bytes = seen.ring.copy(output.cursor, most.saturating_mul(4));
            let all = closed && output.cursor + bytes.len() as u64 == end;
            let whole = cut::whole_characters(&bytes, most, all);
            let bytes = bytes.get(..whole).unwrap_or_default();
            output.next_cursor = output.cursor + whole as u64;
            output.text = String::from_utf8_lossy(bytes).into_owned();
            if std::str::from_utf8(bytes).is_err() {
                output.data_base64 = Some(encode_base64(bytes));
            }
        } else {
            let cut = cut::text(seen.ring.since(output.cursor), most, closed);
            output.next_cursor = output.cursor + cut.length;
            output.text = cut.text;
        }
        // What is unfinished cannot be read yet.
        let readable = if closed || request.raw { end } else { seen.between };
        output.more = output.next_cursor < readable;
        Ok(output)
    }

    /// The bytes from a place on, and how many are dropped between.
    pub(super) fn since(&self, from: u64, most: usize) -> (Vec<u8>, u64) {
        let seen = self.seen();
        (seen.ring.copy(from, most), seen.ring.start().saturating_sub(from))
    }

    /// What makes a terminal show the same as this one, and from where on to go on. Nothing of a
    /// sequence that is not complete is in the former.
    pub(super) fn redraw(&self) -> (Vec<u8>, u64) {
        let mut seen = self.seen();
        let begun = seen.between.max(seen.ring.start());
        (seen.screen.redraw(), begun)
    }

    pub(super) fn attach(&self) -> Attached<'_> {
        self.attached.fetch_add(1, Ordering::Relaxed);
        Attached(self)
    }

    /// True if arrow keys are to be sent in their other form.
    pub(super) fn application_cursor(&self) -> bool {
        self.seen().screen.application_cursor()
    }

    pub(super) async fn resize(&self, size: TerminalSize) -> Result<()> {
        let bounded = size.bounded();
        let message = v1::TerminalSize { rows: bounded.rows.into(), columns: bounded.cols.into() };
        self.tell(exec_input::Input::Resize(message)).await?;
        self.seen().screen.resize(bounded);
        Ok(())
    }

    pub(super) async fn signal(&self, number: i32) -> Result<()> {
        self.tell(exec_input::Input::Signal(number)).await
    }

    async fn tell(&self, input: exec_input::Input) -> Result<()> {
        let inputs = self.inputs.get().filter(|_| self.is_running()).ok_or_else(|| self.gone())?;
        inputs.send(ExecInput { input: Some(input) }).await.map_err(|_| self.gone())
    }

    /// Types, and returns once the terminal took it all, or the deadline has passed.
    pub(super) async fn write(
        &self,
        bytes: &[u8],
        deadline: Option<Instant>,
    ) -> Result<ShellWritten> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FOREVER);
        let late = |written: usize| {
            Error::new(
                ErrorCode::Timeout,
                format!("the terminal took {written} of {} bytes in time", bytes.len()),
            )
            .with_cause("what runs in the shell does not read its input")
            .with_hint("look at the screen (`shell read --plain`); `shell signal` and `shell close` work all the same")
        };
        let Ok(_keyboard) = timeout_at(deadline, self.keyboard.lock()).await else {
            return Err(late(0));
        };
        let cursor = self.progress.borrow().end;
        let mut typed = self.typed.subscribe();
        let mut progress = self.watch();
        let mut written = 0;
        for piece in bytes.chunks(PIECE) {
            let length = piece.len() as u64;
            let goal = self.sent.fetch_add(length, Ordering::Relaxed) + length;
            let taken = async {
                let input = exec_input::Input::Stdin(Bytes::copy_from_slice(piece));
                self.tell(input).await?;
                tokio::select! {
                    biased;
                    _ = typed.wait_for(|typed| *typed >= goal) => Ok(()),
                    _ = progress.wait_for(|progress| progress.closed) => Err(self.gone()),
                }
            };
            match timeout_at(deadline, taken).await {
                Ok(taken) => taken?,
                Err(_) => return Err(late(written)),
            }
            written += piece.len();
        }
        Ok(ShellWritten { id: self.id.clone(), written_bytes: written as u64, cursor })
    }

    fn gone(&self) -> Error {
        let reason = self.reason();
        let error = Error::new(ErrorCode::WrongState, format!("the shell {} has closed", self.id))
            .with_hint("`pyro workspace shell read` still shows its output; `open` another");
        match reason {
            Some(reason) => error.with_cause(reason),
            None => error,
        }
    }
}

/// Longer than any supervisor lives.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
