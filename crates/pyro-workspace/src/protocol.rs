//! What clients and the supervisor say to each other over the control socket.
//!
//! Requests with one answer are HTTP with JSON. A command, and a freeze that lasts as long as
//! somebody reads the disk, are WebSockets: text frames carry these messages, binary frames carry
//! bytes behind one byte that names the channel (as Kubernetes' exec protocol does).

use pyro_contract::Error;
use pyro_contract::diff::FileKind;
use pyro_contract::exec::{ExecOutcome, ExecRequest, Stream};
use pyro_contract::file::{FileEntry, LineRange, Sha256};
use pyro_contract::path::BytePath;
use pyro_contract::shell::{ShellInfo, ShellRef, TerminalSize};
use serde::{Deserialize, Serialize};

pub(crate) const STATUS: &str = "/v1/status";
pub(crate) const USAGE: &str = "/v1/usage";
pub(crate) const STOP: &str = "/v1/stop";
pub(crate) const HOLD: &str = "/v1/hold";
pub(crate) const EXEC: &str = "/v1/exec";
pub(crate) const FREEZE: &str = "/v1/freeze";
pub(crate) const FILES: &str = "/v1/files";
pub(crate) const TREE: &str = "/v1/tree";
pub(crate) const SYNC: &str = "/v1/sync";
pub(crate) const SHELL_OPEN: &str = "/v1/shell/open";
pub(crate) const SHELL_LIST: &str = "/v1/shell/list";
pub(crate) const SHELL_READ: &str = "/v1/shell/read";
pub(crate) const SHELL_WRITE: &str = "/v1/shell/write";
pub(crate) const SHELL_RESIZE: &str = "/v1/shell/resize";
pub(crate) const SHELL_SIGNAL: &str = "/v1/shell/signal";
pub(crate) const SHELL_CLOSE: &str = "/v1/shell/close";
pub(crate) const SHELL_ATTACH: &str = "/v1/shell/attach";
pub(crate) const FOLLOW: &str = "/v1/follow";
pub(crate) const UPDATE: &str = "/v1/update";
pub(crate) const SIGNAL: &str = "/v1/signal";

/// The largest frame either side sends or takes.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// How many frames of stdin a client may have sent that were not yet [taken](ExecReport::StdinTaken).
pub(crate) const STDIN_WINDOW: usize = 8;
/// The most bytes of stdin in one frame.
pub(crate) const STDIN_FRAME: usize = 32 << 10;

/// The channel byte of a binary frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
}

impl From<Stream> for Channel {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

impl Channel {
    /// A binary frame of this channel.
    pub(crate) fn frame(self, bytes: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(bytes.len() + 1);
        frame.push(self as u8);
        frame.extend_from_slice(bytes);
        frame
    }
}

/// What a client says on the exec socket, besides stdin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExecCommand {
    Start(ExecRequest),
    /// The same on a terminal of its own: what it shows comes as its stdout.
    StartOnTerminal(ExecRequest, TerminalSize),
    StdinClosed,
    Signal(i32),
    Resize(TerminalSize),
}

/// What the supervisor says on the exec socket, besides output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExecReport {
    Started {
        sequence: u64,
    },
    /// One frame of stdin has reached the agent; the client may send another.
    StdinTaken,
    Exit(ExecOutcome),
    Failed(Error),
}

/// The answer to a request of which there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer<T> {
    Done(T),
    Failed(Error),
}

/// What a client says on the socket of somebody attached to a shell, besides what he types.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttachCommand {
    /// The shell's terminal takes the size of the client's.
    Start(ShellRef, Option<TerminalSize>),
    Resize(TerminalSize),
}

/// What the supervisor says there, besides what the shell shows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttachReport {
    Attached(ShellInfo),
    /// One frame of what was typed has reached the terminal; the client may send another.
    Typed,
    /// The shell has ended; nothing follows.
    Closed(ShellInfo),
    Failed(Error),
}

/// What the supervisor says on the freeze socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FreezeReport {
    Frozen,
    Failed(Error),
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopMode {
    /// End processes, flush, power off.
    Orderly,
    /// At once; the disk is about to be thrown away.
    Discard,
}

/// What is to become of a running machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hold {
    /// It is to be held still.
    Pause,
    /// It is to go on.
    Resume,
}

/// What became of it. Either way the record says so by now.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HoldReport {
    Done,
    Failed(Error),
}

/// What became of an update.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpdateReport {
    Done,
    Failed(Error),
}

/// A signal for a command, whoever started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SignalOrder {
    pub(crate) sequence: u64,
    pub(crate) signal: i32,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SignalReport {
    Done,
    Failed(Error),
}

/// What only the supervisor knows of a running workspace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LiveStatus {
    pub(crate) running_commands: u64,
}

/// What a supervisor that was just spawned writes to its stdout, one JSON text a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Birth {
    Stage(String),
    Ready,
    Failed(Error),
    /// It has a machine and waits for a workspace.
    Warm {
        memory_bytes: u64,
    },
}

/// The line on a new supervisor's stdin that makes it outlive its parent. Without it, the end of
/// stdin means that the parent died before anybody learnt of the workspace.
pub(crate) const KEEP: &[u8] = b"keep\n";

/// What a client says first on the socket of a transaction. Then come binary frames, each a change as
/// the agent takes it; the last one commits. A text frame before that is the event that is to stand in
/// the journal once it has happened.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TreeStart {
    /// Absolute; paths of changes are relative to it.
    pub(crate) root: BytePath,
}

/// What became of a transaction.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TreeReport {
    /// All of it has happened or, in a dry run, would have.
    Done,
    /// Nothing has happened.
    Conflicts {
        /// The first of them.
        first: Vec<TreeConflict>,
        /// How many there are.
        count: u64,
    },
    /// Nothing has happened, unless the error says otherwise.
    Failed(Error),
}

/// Something in the way of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeConflict {
    pub(crate) path: BytePath,
    pub(crate) reason: ConflictReason,
}

/// Why something is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConflictReason {
    Changed,
    Missing,
    Exists,
    IsDirectory,
    NotADirectory,
    NotEmpty,
    LeadsElsewhere,
    Fixed,
    Contradiction,
}

/// What the supervisor says on the sync socket, besides the binary frames, each of which is a message
/// of the comparison that is under way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SyncReport {
    /// Somebody else syncs with this workspace; it goes on once that is done.
    Waiting,
    /// It is the client's turn.
    Ready,
    Failed(Error),
}

/// What a client asks about files. Paths are absolute.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilesRequest {
    Stat(StatQuery),
    Read(ReadQuery),
    List(ListQuery),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatQuery {
    pub(crate) path: BytePath,
    pub(crate) follow: bool,
    pub(crate) may_be_absent: bool,
    /// Find the checksum of a file that has no more bytes.
    pub(crate) examine_up_to: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadQuery {
    pub(crate) path: BytePath,
    pub(crate) offset: u64,
    pub(crate) lines: Option<LineRange>,
    pub(crate) max_bytes: u64,
    pub(crate) examine_up_to: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListQuery {
    pub(crate) path: BytePath,
    /// Nothing outside of `/workspace`, wherever links lead.
    pub(crate) confined: bool,
    pub(crate) recursive: bool,
    pub(crate) glob: Vec<String>,
    pub(crate) gitignore: bool,
    pub(crate) limit: u32,
    /// Only what comes after this path, which is relative to the listed directory.
    pub(crate) after: Option<BytePath>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilesReport {
    Stat(Found),
    Content(Content),
    List(Listed),
    Failed(Error),
}

/// What is at a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Absent if nothing is there.
    pub(crate) kind: Option<FileKind>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_ns: i64,
    pub(crate) target: Option<BytePath>,
    /// Absolute, links resolved.
    pub(crate) resolved: BytePath,
    /// If nothing is there: the nearest directory above that is.
    pub(crate) existing: BytePath,
    pub(crate) sha256: Option<Sha256>,
    pub(crate) lines: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) of: Found,
    pub(crate) offset: u64,
    /// In base64.
    pub(crate) data: String,
    /// There is more of what was asked for.
    pub(crate) more: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) entries: Vec<FileEntry>,
    /// If there is more: what the next list is to come after.
    pub(crate) next: Option<BytePath>,
}
