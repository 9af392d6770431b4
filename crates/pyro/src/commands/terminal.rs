//! A person's terminal, lent to a program in a workspace.

use std::io::{IsTerminal as _, Write as _};
use std::str::FromStr;

use pyro_contract::key::Key;
use pyro_contract::shell::TerminalSize;
use pyro_contract::{Error, ErrorCode, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::ui::write_stdout;

/// Bytes of what is typed in one piece, and pieces that wait while nobody takes them.
const PIECE: usize = 4096;
const PIECES: usize = 16;

/// Our terminal in raw mode: what is typed goes on byte by byte, signals included. Dropping it
/// gives the terminal back as it was.
pub(super) struct RawTerminal {
    before: Termios,
    modes: Modes,
}

impl RawTerminal {
    /// Fails, before anything is changed, unless stdin and stdout are a terminal.
    pub(super) fn check() -> Result<()> {
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Error::new(ErrorCode::InvalidArgument, "this takes a terminal, and there is none here")
            .with_hint("leave out `--tty`, or use `pyro workspace shell write` and `read`"))
    }

    pub(super) fn enter() -> Result<Self> {
        Self::check()?;
        let failed = |error: rustix::io::Errno| {
            Error::io("cannot change the mode of this terminal", &error.into())
        };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed ahead is not thrown away.
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self { before, modes: Modes::default() })
    }

    /// Shows what the program wrote. Blocks while the terminal does not take it.
    pub(super) fn show(&mut self, bytes: &[u8]) -> Result<()> {
        self.modes.watch(bytes);
        tokio::task::block_in_place(|| write_stdout(bytes))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(self.modes.undo().as_bytes()).and_then(|()| stdout.flush());
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// How large our terminal is.
pub(super) fn size() -> TerminalSize {
    let found = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0);
    let (cols, rows) = found.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    TerminalSize { cols, rows }.bounded()
}

/// What happens to a person's terminal, apart from what is typed.
pub(super) struct Happenings {
    resized: Signal,
    ends: [Signal; 4],
}

impl Happenings {
    pub(super) fn watch() -> Result<Self> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::io("cannot listen for signals", &error));
        let ends = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::quit())?,
        ];
        Ok(Self { resized: listen(SignalKind::window_change())?, ends })
    }

    /// Splits it in who waits for another size and who waits for the end.
    pub(super) fn split(self) -> (Signal, Ends) {
        (self.resized, Ends(self.ends))
    }
}

/// Signals that end us.
pub(super) struct Ends([Signal; 4]);

impl Ends {
    /// Resolves when one comes, with what to say.
    pub(super) async fn come(&mut self) -> Error {
        let [int, term, hup, quit] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
            _ = quit.recv() => {}
        }
        Error::new(ErrorCode::Cancelled, "interrupted by a signal")
    }
}

/// How typing ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// The keys were pressed that leave.
    Detached,
    /// Our stdin is at its end.
    Ended,
}

/// Passes on what is typed, until the detach keys, if there are such.
pub(super) async fn type_on(to: mpsc::Sender<Vec<u8>>, keys: Option<DetachKeys>) -> Typed {
    let mut filter = keys.map(DetachFilter::new);
    let mut source = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match source.read(&mut buffer).await {
            Ok(0) | Err(_) => return Typed::Ended,
            Ok(count) => count,
        };
        let typed = buffer.get(..count).unwrap_or_default();
        let (passed, detached) = match &mut filter {
            Some(filter) => filter.pass(typed),
            None => (typed.to_vec(), false),
        };
        if !passed.is_empty() && to.send(passed).await.is_err() {
            // Whoever took it has ended, which is heard of elsewhere.
            return std::future::pending().await;
        }
        if detached {
            return Typed::Detached;
        }
    }
}

/// A line for what is typed: to write to, to read from.
pub(super) fn line() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(PIECES)
}

/// The keys that leave a shell: `ctrl-p,ctrl-q`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let keys = text.split(',').map(|key| key.trim().parse::<Key>());
        let keys = keys.collect::<Result<Vec<_>>>()?;
        Ok(Self(keys.iter().flat_map(|key| key.bytes(false)).collect()))
    }
}

/// Finds the detach keys in what is typed. The first of them are held back until it is known
/// whether the others follow.
struct DetachFilter {
    keys: Vec<u8>,
    held: usize,
}

impl DetachFilter {
    fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, held: 0 }
    }

    /// What is to be passed on, and whether the keys are complete.
    fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            let mut so_far = self.keys.get(..self.held).unwrap_or_default().to_vec();
            so_far.push(*byte);
            // The longest end of what was typed that may be their beginning.
            let begins = (0..so_far.len())
                .find(|from| self.keys.starts_with(so_far.get(*from..).unwrap_or_default()));
            let begins = begins.unwrap_or(so_far.len());
            passed.extend(so_far.drain(..begins));
            self.held = so_far.len();
            if self.held == self.keys.len() {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

/// The modes that a program has set on our terminal (DECSET and DECKPAM), so that they can be
/// undone if it does not do so itself.
#[derive(Debug, Default)]
struct Modes {
    shown: bool,
    state: Reading,
    numbers: Vec<u16>,
    number: u16,
    /// In the order in which they were set.
    set: Vec<u16>,
    keypad: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    Text,
    Escape,
    Bracket,
    Numbers,
}

/// Shown cursor: the one mode that is on by itself.
const CURSOR: u16 = 25;

/// What outlives a program that did not tidy up, and does harm: cursor keys, mouse, focus, alternate
/// screen, paste.
const UNDONE: &[u16] =
    &[1, 9, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004, CURSOR];

impl Modes {
    fn watch(&mut self, bytes: &[u8]) {
        self.shown |= !bytes.is_empty();
        for byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => Reading::Escape,
                (Reading::Escape, b'=') => {
                    self.keypad = true;
                    Reading::Text
                }
                (Reading::Escape, b'>' | b'c') => {
                    self.keypad = false;
                    Reading::Text
                }
                (Reading::Escape, b'[') => Reading::Bracket,
                (Reading::Bracket, b'?') => {
                    self.numbers.clear();
                    self.number = 0;
                    Reading::Numbers
                }
                (Reading::Numbers, b'0'..=b'9') => {
                    let digit = u16::from(byte - b'0');
                    self.number = self.number.saturating_mul(10).saturating_add(digit);
                    Reading::Numbers
                }
                (Reading::Numbers, b';') if self.numbers.len() < 16 => {
                    self.numbers.push(std::mem::take(&mut self.number));
                    Reading::Numbers
                }
                (Reading::Numbers, b'h' | b'l') => {
                    self.numbers.push(self.number);
                    self.note(*byte == b'h');
                    Reading::Text
                }
                _ => Reading::Text,
            };
        }
    }

    fn note(&mut self, on: bool) {
        for mode in self.numbers.drain(..).filter(|mode| UNDONE.contains(mode)) {
            self.set.retain(|set| *set != mode);
            if on != (mode == CURSOR) {
                self.set.push(mode);
            }
        }
    }

    /// What puts our terminal back.
    fn undo(&self) -> String {
        if !self.shown {
            return String::new();
        }
        let mut undo = String::from("\x1b[0m");
        for mode in self.set.iter().rev() {
            let letter = if *mode == CURSOR { 'h' } else { 'l' };
            undo += &format!("\x1b[?{mode}{letter}");
        }
        if self.keypad {
            undo += "\x1b>";
        }
        undo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(keys: &str) -> DetachFilter {
        DetachFilter::new(keys.parse().unwrap())
    }

    #[test]
    fn the_keys_detach_however_they_arrive() {
        assert_eq!(filter("ctrl-p,ctrl-q").pass(b"ab\x10\x11cd"), (b"ab".to_vec(), true));
        let mut filter = filter("ctrl-p,ctrl-q");
        assert_eq!(filter.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(filter.pass(b"\x11"), (vec![], true));
    }

    #[test]
    fn what_only_begins_like_the_keys_is_passed_on() {
        let mut filter = filter("ctrl-p,ctrl-q");
        assert_eq!(filter.pass(b"\x10"), (vec![], false));
        assert_eq!(filter.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(filter.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(filter.pass(b"\x11"), (vec![], true));
        let mut same = self::filter("a,a,b");
        assert_eq!(same.pass(b"aaab"), (b"a".to_vec(), true));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert!("".parse::<DetachKeys>().is_err());
        assert!("ctrl-p,,".parse::<DetachKeys>().is_err());
        assert_eq!("ctrl-a, d".parse::<DetachKeys>().unwrap().0, b"\x01d");
    }

    #[test]
    fn modes_that_a_program_left_are_undone() {
        let mut modes = Modes::default();
        assert_eq!(modes.undo(), "");
        modes.watch(b"text");
        assert_eq!(modes.undo(), "\x1b[0m");
        for byte in
            b"\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b=\x1b[?7h\x1b[31m\x1b[?2004h\x1b[?2004l"
        {
            modes.watch(&[*byte]);
        }
        assert_eq!(modes.undo(), "\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?25h\x1b[?1049l\x1b>");
        modes.watch(b"\x1b[?1006;1000l\x1b[?1049l\x1b[?25h\x1b>");
        assert_eq!(modes.undo(), "\x1b[0m");
    }
}
