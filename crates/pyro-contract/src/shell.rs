//! Shells: programs on terminals of their own, which outlive whoever opened them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::key::Key;
use crate::name::{EnvVar, Name, WorkspaceRef};
use crate::signal::SignalName;

/// RFC 4648 base32, lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_PREFIX: &str = "sh-";
const ID_RANDOM: usize = 6;

/// The fewest and the most rows of a terminal.
pub const ROWS: std::ops::RangeInclusive<u16> = 2..=300;
/// The fewest and the most columns of a terminal.
pub const COLS: std::ops::RangeInclusive<u16> = 2..=500;

/// The most bytes of arguments that a shell may be opened with: lists show them.
const MAX_ARGV: usize = 16 << 10;

/// What one read holds at most.
pub const MAX_READ_CHARS: u32 = 100_000;
/// What one write may type at most.
pub const MAX_WRITE_BYTES: usize = 256 << 10;
/// The longest that one read or write may wait.
pub const MAX_WAIT_MS: u64 = 3_600_000;

/// The identity of a shell: `sh-` and 6 random base32 characters.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct ShellId(#[schemars(regex(pattern = r"^sh-[a-z2-7]{6}$"))] String);

impl ShellId {
    /// A new id from the system's random generator.
    #[must_use]
    pub fn random() -> Self {
        let bytes: [u8; ID_RANDOM] = rand::random();
        let tail = bytes.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)]));
        Self(ID_PREFIX.chars().chain(tail).collect())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShellId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.strip_prefix(ID_PREFIX).is_some_and(|tail| {
            tail.len() == ID_RANDOM && tail.bytes().all(|b| BASE32.contains(&b))
        });
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a shell's id"))
            .with_hint("ids look like sh-k3v9q2; `pyro workspace shell list` shows them"))
    }
}

/// What a user may write where a shell is meant: its id or its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct ShellRef(#[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))] Name);

impl ShellRef {
    /// The id or name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ShellRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self)
    }
}

impl From<&ShellId> for ShellRef {
    fn from(id: &ShellId) -> Self {
        // An id keeps to the rules of names.
        id.as_str().parse().unwrap_or_else(|_| unreachable!("an id is a name"))
    }
}

macro_rules! text_type {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }
    )*};
}
text_type!(ShellId, ShellRef);

/// Opens a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// What to run on the terminal, exactly; the user's login shell if empty.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Where to run it, absolute or relative to `/workspace`.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables for it, over those of the workspace.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// A user of the guest, by name or number, optionally `:group`; root by default.
    #[serde(default)]
    pub user: Option<String>,
    /// A name to find it by; unique among the workspace's running shells.
    #[serde(default)]
    pub name: Option<Name>,
    /// Columns of the terminal, 2 to 500.
    #[serde(default = "default_cols")]
    pub cols: u16,
    /// Rows of the terminal, 2 to 300.
    #[serde(default = "default_rows")]
    pub rows: u16,
}

fn default_cols() -> u16 {
    80
}

fn default_rows() -> u16 {
    24
}

impl OpenShell {
    /// A login shell with every default.
    #[must_use]
    pub fn new(workspace: WorkspaceRef) -> Self {
        Self {
            workspace,
            argv: Vec::new(),
            cwd: None,
            env: Vec::new(),
            user: None,
            name: None,
            cols: default_cols(),
            rows: default_rows(),
        }
    }

    /// Refuses what no guest could run.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        if self.argv.first().is_some_and(String::is_empty) {
            return invalid("the command to run has no name", "leave it out for a login shell");
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return invalid("an argument holds a NUL byte", "write such data to the shell instead");
        }
        if self.argv.iter().map(|argument| argument.len() + 1).sum::<usize>() > MAX_ARGV {
            return invalid(
                "the arguments are longer than 16 KiB together",
                "write long input to the shell instead",
            );
        }
        TerminalSize { cols: self.cols, rows: self.rows }.validate()
    }
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TerminalSize {
    /// Columns, 2 to 500.
    pub cols: u16,
    /// Rows, 2 to 300.
    pub rows: u16,
}

impl TerminalSize {
    /// The nearest size that a terminal may have.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            cols: self.cols.clamp(*COLS.start(), *COLS.end()),
            rows: self.rows.clamp(*ROWS.start(), *ROWS.end()),
        }
    }

    /// Refuses sizes that no terminal may have.
    pub fn validate(self) -> Result<(), Error> {
        if self == self.bounded() {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("a terminal cannot have {} columns and {} rows", self.cols, self.rows),
        )
        .with_hint("columns are 2 to 500, rows 2 to 300"))
    }
}

/// Names one shell of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// The shell's id or name.
    pub shell: ShellRef,
}

/// Whether a shell still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShellState {
    /// Its program runs.
    Running,
    /// Its program has ended; what it showed can be read until the shell is closed once more, the
    /// workspace stops, or many others were closed since.
    Closed,
}

impl fmt::Display for ShellState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Closed => "closed",
        })
    }
}

/// One shell of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellInfo {
    /// Its id.
    pub id: ShellId,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Whether its program runs.
    pub state: ShellState,
    /// What runs on it; empty for a login shell.
    pub argv: Vec<String>,
    /// Where it was started.
    pub cwd: String,
    /// As whom, if not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Columns of its terminal.
    pub cols: u16,
    /// Rows of its terminal.
    pub rows: u16,
    /// When it was opened.
    #[schemars(with = "String")]
    pub opened_at: Timestamp,
    /// When its program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub closed_at: Option<Timestamp>,
    /// What its program exited with; absent while it runs, or if a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it ended, if not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes that it has shown so far: the cursor of its end.
    pub output_bytes: u64,
    /// Of these, how many of the oldest are not kept any more: the cursor of its beginning.
    pub dropped_bytes: u64,
    /// How many people are attached to it.
    pub attached: u32,
}

/// Reads what a shell has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// The shell's id or name.
    pub shell: ShellRef,
    /// From which byte of its output on: the `next_cursor` of another read, or the `cursor` of a
    /// write; its beginning by default.
    #[serde(default)]
    pub cursor: Option<u64>,
    /// The most characters to return, up to 100000.
    #[serde(default = "default_max_chars")]
    pub max_chars: u32,
    /// The screen as a person would see it now, as text, instead of what was shown since the cursor.
    #[serde(default)]
    pub plain: bool,
    /// Keep control sequences (colours, movements), which are left out by default.
    #[serde(default)]
    pub raw: bool,
    /// First wait until nothing new was shown for this long.
    #[serde(default)]
    pub wait_for_idle_ms: Option<u64>,
    /// The longest to wait for that.
    #[serde(default = "default_read_timeout")]
    pub timeout_ms: u64,
}

fn default_max_chars() -> u32 {
    20_000
}

fn default_read_timeout() -> u64 {
    30_000
}

impl ReadShell {
    /// A read with every default.
    #[must_use]
    pub fn new(workspace: WorkspaceRef, shell: ShellRef) -> Self {
        Self {
            workspace,
            shell,
            cursor: None,
            max_chars: default_max_chars(),
            plain: false,
            raw: false,
            wait_for_idle_ms: None,
            timeout_ms: default_read_timeout(),
        }
    }

    /// Refuses what makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        if self.plain && self.raw {
            return invalid("the plain screen has no control sequences", "choose plain or raw");
        }
        if self.max_chars == 0 || self.max_chars > MAX_READ_CHARS {
            return invalid(
                "max_chars is 1 to 100000",
                "read on from next_cursor to get more than one read holds",
            );
        }
        let waits = [self.wait_for_idle_ms.unwrap_or(0), self.timeout_ms];
        if waits.iter().any(|wait| *wait > MAX_WAIT_MS) {
            return invalid("a read waits an hour at most", "read again to wait longer");
        }
        Ok(())
    }
}

/// What a shell has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellOutput {
    /// Which shell.
    pub id: ShellId,
    /// From which byte of its output on this is.
    pub cursor: u64,
    /// Where to read on.
    pub next_cursor: u64,
    /// How many bytes between the cursor asked for and `cursor` are not kept any more.
    pub dropped_bytes: u64,
    /// What was shown, or the screen. Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// In a raw read, the exact bytes if they are not UTF-8, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// True if there is more to read at `next_cursor` now.
    pub more: bool,
    /// True if the wait for silence ran out of time.
    pub timed_out: bool,
    /// Whether its program runs.
    pub state: ShellState,
    /// What its program exited with.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What else there is to know of the screen, in a plain read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen: Option<ScreenState>,
}

/// A terminal's screen, besides its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScreenState {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// The cursor's row, from 1.
    pub cursor_row: u16,
    /// The cursor's column, from 1.
    pub cursor_col: u16,
    /// True if the program has hidden the cursor.
    pub cursor_hidden: bool,
    /// True if the program has taken the whole screen, as editors and pagers do.
    pub full_screen: bool,
    /// The title that the program has set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
}

/// Types into a shell: the text or data, then the keys, then Enter if asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WriteShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// The shell's id or name.
    pub shell: ShellRef,
    /// Text to type, as it is.
    #[serde(default)]
    pub text: Option<String>,
    /// Bytes to type, in base64, instead of text.
    #[serde(default)]
    pub data_base64: Option<String>,
    /// Keys to press after that, by name: `enter`, `ctrl-c`, `up`, `escape`, `alt-x`, `f1`.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Press Enter at the end.
    #[serde(default)]
    pub enter: bool,
    /// The longest to wait for the terminal to take it all.
    #[serde(default = "default_write_timeout")]
    pub timeout_ms: u64,
}

fn default_write_timeout() -> u64 {
    10_000
}

impl WriteShell {
    /// Types nothing yet.
    #[must_use]
    pub fn new(workspace: WorkspaceRef, shell: ShellRef) -> Self {
        Self {
            workspace,
            shell,
            text: None,
            data_base64: None,
            keys: Vec::new(),
            enter: false,
            timeout_ms: default_write_timeout(),
        }
    }

    /// The bytes of text or data; refuses what makes no sense.
    pub fn data(&self) -> Result<Vec<u8>, Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        let data = match (&self.text, &self.data_base64) {
            (Some(_), Some(_)) => return invalid("text and data exclude each other", "send one"),
            (Some(text), None) => text.clone().into_bytes(),
            (None, None) => Vec::new(),
            (None, Some(data)) => decode_base64(data)?,
        };
        if data.is_empty() && self.keys.is_empty() && !self.enter {
            return invalid("there is nothing to type", "give text, data, keys or enter");
        }
        if data.len() > MAX_WRITE_BYTES || self.keys.len() > 1024 {
            return invalid(
                "that is more than one write may type (256 KiB and 1024 keys)",
                "write it in pieces, or into a file",
            );
        }
        if self.timeout_ms > MAX_WAIT_MS {
            return invalid("a write waits an hour at most", "take a shorter timeout");
        }
        Ok(data)
    }
}

/// Bytes as `data_base64` carries them.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes that `data_base64` carries.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, Error> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| {
        Error::new(ErrorCode::InvalidArgument, "the data is not base64")
            .with_cause(error.to_string())
            .with_hint("send text as `text`")
    })
}

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellWritten {
    /// Which shell.
    pub id: ShellId,
    /// Bytes that its terminal took.
    pub written_bytes: u64,
    /// Where its output stood before: read from here to see what came of it.
    pub cursor: u64,
}

/// Gives a terminal another size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResizeShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// The shell's id or name.
    pub shell: ShellRef,
    /// Columns, 2 to 500.
    pub cols: u16,
    /// Rows, 2 to 300.
    pub rows: u16,
}

/// Signals what runs in the foreground of a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalShell {
    /// The workspace's id or name.
    pub workspace: WorkspaceRef,
    /// The shell's id or name.
    pub shell: ShellRef,
    /// Which signal: a name with or without `SIG`, or a number.
    pub signal: SignalName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_stand_where_a_shell_is_named() {
        let id = ShellId::random();
        assert_eq!(id.as_str().parse::<ShellId>().unwrap(), id);
        assert_eq!(ShellRef::from(&id).as_str(), id.as_str());
        assert_ne!(id, ShellId::random());
        for bad in ["", "sh-", "sh-ABCDEF", "sh-abcdefg", "ws-abcdef"] {
            assert!(bad.parse::<ShellId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_out_of_a_request_has_its_default() {
        let request = serde_json::json!({"workspace": "demo"});
        let request: OpenShell = serde_json::from_value(request).unwrap();
        assert_eq!(request, OpenShell::new("demo".parse().unwrap()));
        assert!(request.validate().is_ok());
        let read = serde_json::json!({"workspace": "demo", "shell": "main"});
        let read: ReadShell = serde_json::from_value(read).unwrap();
        assert_eq!(read, ReadShell::new("demo".parse().unwrap(), "main".parse().unwrap()));
        assert!(read.validate().is_ok());
        let write = serde_json::json!({"workspace": "demo", "shell": "main", "keys": ["ctrl-c"]});
        let write: WriteShell = serde_json::from_value(write).unwrap();
        assert_eq!(write.data().unwrap(), b"");
    }

    #[test]
    fn sizes_are_bounded() {
        for (cols, rows) in [(1, 24), (80, 1), (501, 24), (80, 301), (0, 0)] {
            assert!(TerminalSize { cols, rows }.validate().is_err(), "{cols}x{rows}");
            assert!(TerminalSize { cols, rows }.bounded().validate().is_ok());
        }
    }
}
