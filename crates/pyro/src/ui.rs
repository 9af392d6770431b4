//! What a person sees: progress, notes and errors on stderr, results on stdout.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pyro_contract::env_vars::NO_COLOR;
use pyro_contract::progress::{Progress, Report, Unit};
use pyro_contract::workspace::{Isolation, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{Interrupt, Watch};
use serde::Serialize;

use crate::cli::Global;

/// Without a terminal, a stage is named once it has taken this long.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// How to talk, decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    /// stderr is a terminal that may be drawn on.
    lively: bool,
    colour: bool,
}

impl Ui {
    pub(crate) fn new(global: Global) -> Self {
        let plain = global.plain
            || std::env::var_os(NO_COLOR).is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json: global.json,
            quiet: global.quiet,
            lively: !plain && std::io::stderr().is_terminal(),
            colour: !plain && std::io::stdout().is_terminal(),
        }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// True if stdout is a terminal that takes colour.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// A command gets our stdin unless that is the keyboard.
    #[allow(clippy::unused_self)] // one place for all such decisions
    pub(crate) fn passes_stdin(&self) -> bool {
        !std::io::stdin().is_terminal()
    }

    /// One JSON document on stdout.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> Result<()> {
        let mut text =
            if self.colour { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) }
                .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        text.push(b'\n');
        write_stdout(&text)
    }

    /// One of many JSON documents on stdout, one a line.
    #[allow(clippy::unused_self)] // beside the others
    pub(crate) fn print_line(&self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(value)
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        text.push(b'\n');
        write_stdout(&text)
    }

    /// Something worth knowing that is not the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "pyro: {text}");
        }
    }

    /// Isolation is never less than asked for, but speed may be; say so.
    pub(crate) fn note_isolation(&self, status: &WorkspaceStatus) {
        if status.isolation == Some(Isolation::EmulatedVm) {
            self.note(
                "the machine is emulated, for want of hardware virtualization: as well isolated, \
                 but 6 to 20 times slower (`pyro doctor` says why; `--engine container` is fast, \
                 and shares the host's kernel)",
            );
        }
    }

    /// An error in the one shape that all doors share.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            let _ = self.print_json(&serde_json::json!({ "error": error }));
            return;
        }
        let mut text = format!("pyro: {}\n", error.message);
        for line in error.cause.iter().flat_map(|cause| cause.lines()) {
            text += &format!("  {line}\n");
        }
        if let Some(hint) = &error.hint {
            text += &format!("  hint: {hint}\n");
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Shows progress until the returned value is finished or dropped.
    pub(crate) fn progress(&self) -> Bar {
        let shown: Arc<dyn Shows> = if self.quiet {
            Arc::new(Nothing)
        } else if self.lively {
            Arc::new(Spinner::new())
        } else {
            Arc::new(Lines::new())
        };
        let interrupt = Interrupt::default();
        let trigger = interrupt.clone();
        let listener = tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            trigger.trigger();
        });
        Bar { shown, interrupt, listener: listener.abort_handle() }
    }
}

/// Writes to stdout; the error is recognised by [`is_closed_pipe`] if the reader has gone.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Error {
        hint: Some("check where the output goes".into()),
        ..Error::io(STDOUT_FAILED, &error)
    })
}

const STDOUT_FAILED: &str = "cannot write to stdout";

/// True for a failed write to a stdout whose reader has gone.
pub(crate) fn is_closed_pipe(error: &Error) -> bool {
    let closed = std::io::Error::from_raw_os_error(32).to_string(); // EPIPE
    error.message == STDOUT_FAILED && error.cause.as_deref() == Some(&closed)
}

/// Progress on the screen, and Ctrl-C as an interrupt while it is there.
pub(crate) struct Bar {
    shown: Arc<dyn Shows>,
    interrupt: Interrupt,
    listener: tokio::task::AbortHandle,
}

impl Bar {
    /// What long operations of the facade take.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(Arc::new(Shown(Arc::clone(&self.shown))), self.interrupt.clone())
    }

    /// Takes it off the screen; Ctrl-C means what it meant before.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.shown.clear();
        self.listener.abort();
    }
}

/// A way to show progress.
trait Shows: Send + Sync {
    fn show(&self, report: Report);
    fn clear(&self);
}

struct Shown(Arc<dyn Shows>);

impl Progress for Shown {
    fn report(&self, report: Report) {
        self.0.show(report);
    }
}

struct Nothing;

impl Shows for Nothing {
    fn show(&self, _: Report) {}
    fn clear(&self) {}
}

/// A line on the terminal that redraws itself.
struct Spinner(ProgressBar);

impl Spinner {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Shows for Spinner {
    fn show(&self, report: Report) {
        let template = match (report.total, report.unit) {
            (Some(_), Unit::Bytes) => "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes}",
            (Some(_), Unit::Items) => "{spinner} {msg} [{bar:24}] {pos}/{len}",
            (None, Unit::Bytes) => "{spinner} {msg} {bytes} ({elapsed})",
            (None, Unit::Items) if report.done > 0 => "{spinner} {msg} {pos} ({elapsed})",
            (None, Unit::Items) => "{spinner} {msg} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        match report.total {
            Some(total) => self.0.set_length(total),
            None => self.0.unset_length(),
        }
        if self.0.message() != report.stage {
            self.0.reset_elapsed();
            self.0.set_message(report.stage);
        }
        self.0.set_position(report.done);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// One line for each stage that takes a while, for logs.
struct Lines {
    shared: Arc<(Mutex<Stage>, Condvar)>,
}

#[derive(Default)]
struct Stage {
    /// The stage that has not been named yet.
    unnamed: Option<String>,
    current: String,
    ended: bool,
}

impl Lines {
    fn new() -> Self {
        let shared = Arc::new((Mutex::new(Stage::default()), Condvar::new()));
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || name_slow_stages(&watched.0, &watched.1));
        Self { shared }
    }
}

/// Waits for a stage, then for it to take long; a new stage starts the clock anew.
fn name_slow_stages(stage: &Mutex<Stage>, changed: &Condvar) {
    let mut now = stage.lock().unwrap_or_else(PoisonError::into_inner);
    while !now.ended {
        let Some(name) = now.unnamed.clone() else {
            now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let same = |stage: &mut Stage| !stage.ended && stage.unnamed.as_ref() == Some(&name);
        let (after, waited) = changed
            .wait_timeout_while(now, WORTH_A_LINE, same)
            .unwrap_or_else(PoisonError::into_inner);
        now = after;
        if waited.timed_out() {
            let _ = writeln!(std::io::stderr(), "pyro: {name} …");
            now.unnamed = None;
        }
    }
}

impl Shows for Lines {
    fn show(&self, report: Report) {
        let mut stage = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stage.current != report.stage {
            stage.current.clone_from(&report.stage);
            stage.unnamed = Some(report.stage);
            self.shared.1.notify_all();
        }
    }

    fn clear(&self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.shared.1.notify_all();
    }
}
