//! Commands after they were started: their output, their end, and what can be said to them.

use base64::Engine as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::exec::{CommandInfo, JournalCommand, MAX_OUTPUT_BYTES, OutputChunk, Stream};
use crate::name::{WorkspaceId, WorkspaceRef};
use crate::signal::SignalName;

/// Which commands of the journal, and how much of their output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogsRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Only the last so many commands.
    #[serde(default)]
    pub tail: Option<u32>,
    /// Only this command.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// Only commands that were started at this moment or later.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// Only lines that match this regular expression, of the commands that have such.
    #[serde(default)]
    pub grep: Option<String>,
    /// The most bytes of output of each command; 64 KiB unless said otherwise.
    #[serde(default)]
    #[schemars(range(max = 4_194_304))]
    pub max_output_bytes: Option<u32>,
}

impl LogsRequest {
    /// All commands of a workspace.
    #[must_use]
    pub fn new(workspace: WorkspaceRef) -> Self {
        Self {
            workspace,
            tail: None,
            sequence: None,
            since: None,
            grep: None,
            max_output_bytes: None,
        }
    }

    /// How many bytes of output each command has at most.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.max_output_bytes.unwrap_or(64 << 10).min(MAX_OUTPUT_BYTES) as usize
    }
}

/// Where in a command's output to read, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Go on where an answer with this `continuation` ended. Or else:
    #[serde(default)]
    pub continuation: Option<String>,
    /// The number of the command.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// Begin after so many bytes, counted over both streams; 0 unless said otherwise.
    #[serde(default)]
    pub position: Option<u64>,
    /// Only this stream.
    #[serde(default)]
    pub stream: Option<Stream>,
    /// The most bytes of output; 1 MiB unless said otherwise.
    #[serde(default)]
    #[schemars(range(max = 4_194_304))]
    pub max_output_bytes: Option<u32>,
    /// If there is nothing more yet and the command still runs, wait so long for more.
    #[serde(default)]
    #[schemars(range(max = 3600))]
    pub wait_seconds: Option<u32>,
}

impl OutputRequest {
    /// The output of a command from its beginning.
    #[must_use]
    pub fn new(workspace: WorkspaceRef, sequence: u64) -> Self {
        Self {
            workspace,
            continuation: None,
            sequence: Some(sequence),
            position: None,
            stream: None,
            max_output_bytes: None,
            wait_seconds: None,
        }
    }

    /// Where to begin, in the workspace of this id.
    pub fn begin(&self, id: &WorkspaceId) -> Result<Continuation, Error> {
        match (&self.continuation, self.sequence) {
            (Some(token), None) if self.position.is_none() && self.stream.is_none() => {
                Continuation::parse(token, id)
            }
            (None, Some(sequence)) => Ok(Continuation {
                sequence,
                position: self.position.unwrap_or(0),
                stream: self.stream,
            }),
            _ => Err(Error::new(ErrorCode::InvalidArgument, "it is not clear where to begin")
                .with_hint(
                    "give either `continuation`, or `sequence` and perhaps `position` and `stream`",
                )),
        }
    }
}

/// A stretch of a command's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputPage {
    /// The number of the command.
    pub sequence: u64,
    /// Output in order of arrival.
    pub output: Vec<OutputChunk>,
    /// Where the next page begins: so many bytes of both streams came before.
    pub position: u64,
    /// Bytes on the way that the journal did not keep, or has dropped since.
    pub dropped_bytes: u64,
    /// True while the command runs, and may write more.
    pub running: bool,
    /// What gets the next page; absent once the command has ended and there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
}

/// A place in the output of a workspace's command. Its text is opaque, and made so that a wrong or
/// damaged one, or one of another workspace, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// The number of the command.
    pub sequence: u64,
    /// How many bytes came before.
    pub position: u64,
    /// Of which stream, unless of both.
    pub stream: Option<Stream>,
}

const TOKEN: base64::engine::GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;

impl Continuation {
    const VERSION: u8 = 1;
    const LENGTH: usize = 22;

    /// The text.
    #[must_use]
    pub fn token(&self, workspace: &WorkspaceId) -> String {
        let mut bytes = vec![Self::VERSION];
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.position.to_le_bytes());
        bytes.push(match self.stream {
            None => 0,
            Some(Stream::Stdout) => 1,
            Some(Stream::Stderr) => 2,
        });
        let check = check(&bytes, workspace);
        bytes.extend(check.to_le_bytes());
        TOKEN.encode(bytes)
    }

    /// What the text says.
    pub fn parse(token: &str, workspace: &WorkspaceId) -> Result<Self, Error> {
        let invalid = || {
            Error::new(ErrorCode::InvalidArgument, "this is no continuation of this workspace's")
                .with_hint(
                    "give the `continuation` of an answer as it is, or `sequence` and `position`",
                )
        };
        let bytes = TOKEN.decode(token).map_err(|_| invalid())?;
        let bytes: [u8; Self::LENGTH] = bytes.try_into().map_err(|_| invalid())?;
        let (said, sum) = bytes.split_last_chunk::<4>().ok_or_else(invalid)?;
        if u32::from_le_bytes(*sum) != check(said, workspace) {
            return Err(invalid());
        }
        let [Self::VERSION, numbers @ .., stream] = said else { return Err(invalid()) };
        let (sequence, position) = numbers.split_first_chunk::<8>().ok_or_else(invalid)?;
        Ok(Self {
            sequence: u64::from_le_bytes(*sequence),
            position: u64::from_le_bytes(position.try_into().map_err(|_| invalid())?),
            stream: match stream {
                0 => None,
                1 => Some(Stream::Stdout),
                2 => Some(Stream::Stderr),
                _ => return Err(invalid()),
            },
        })
    }
}

/// FNV-1a: against mistakes, not against anybody; who may read the journal may read all of it.
fn check(bytes: &[u8], workspace: &WorkspaceId) -> u32 {
    bytes
        .iter()
        .chain(workspace.as_str().as_bytes())
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Which commands to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListCommands {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Also those that have ended.
    #[serde(default)]
    pub all: bool,
    /// Only the last so many.
    #[serde(default)]
    pub tail: Option<u32>,
}

/// Waits for the end of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitForCommand {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// The number of the command.
    pub sequence: u64,
    /// Give up after so long; the command runs on.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
}

/// Signals a command and all it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalCommand {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// The number of the command.
    pub sequence: u64,
    /// Which signal: a name with or without `SIG`, or a number; TERM unless said otherwise.
    #[serde(default = "SignalName::terminate")]
    pub signal: SignalName,
}

/// A command that was signalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalledCommand {
    /// The number of the command.
    pub sequence: u64,
    /// Which signal.
    pub signal: SignalName,
}

/// What happened in a workspace, for somebody who has to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceSummary {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// How many commands were run.
    pub command_count: u64,
    /// How many of them did not exit with 0.
    pub failed_count: u64,
    /// How many run now.
    pub running_count: u64,
    /// For how long commands ran, all together.
    pub busy_ms: u64,
    /// The last commands, oldest first; at most a hundred.
    pub commands: Vec<CommandInfo>,
    /// The last commands that failed, with the end of their output; at most ten.
    pub failures: Vec<JournalCommand>,
    /// What else happened, oldest first: starts, stops, edits, patches, syncs, shells; at most a
    /// hundred.
    pub events: Vec<crate::journal::Event>,
    /// Files of `/workspace` that differ from the seed; absent if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ChangedFiles>,
    /// Why `changes` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_error: Option<Error>,
}

/// How `/workspace` differs from the seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedFiles {
    /// Files that are new.
    pub added: u64,
    /// Files whose content, mode or kind changed.
    pub modified: u64,
    /// Files that are gone.
    pub deleted: u64,
    /// The first hundred, each with what became of it.
    pub files: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> WorkspaceId {
        text.parse().unwrap()
    }

    proptest! {
        #[test]
        fn a_token_says_what_it_was_made_of_and_nothing_else_is_one(
            sequence: u64, position: u64, stream in 0u8..3, garbage in ".{0,40}", flip in 0usize..30,
        ) {
            let stream = [None, Some(Stream::Stdout), Some(Stream::Stderr)][usize::from(stream)];
            let place = Continuation { sequence, position, stream };
            let (ours, theirs) = (id("ws-aaaaaaaaaa"), id("ws-bbbbbbbbbb"));
            let token = place.token(&ours);
            prop_assert_eq!(Continuation::parse(&token, &ours).unwrap(), place);
            prop_assert!(Continuation::parse(&token, &theirs).is_err());
            prop_assert!(Continuation::parse(&garbage, &ours).is_err());
            let mut damaged = token.into_bytes();
            let at = flip % damaged.len();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            prop_assert!(Continuation::parse(&String::from_utf8(damaged).unwrap(), &ours).is_err());
        }
    }

    #[test]
    fn a_request_begins_either_at_a_token_or_at_a_command() {
        let workspace = id("ws-aaaaaaaaaa");
        let place = Continuation { sequence: 3, position: 9, stream: None };
        let mut request = OutputRequest::new("demo".parse().unwrap(), 3);
        assert_eq!(request.begin(&workspace).unwrap(), Continuation { position: 0, ..place });
        request.continuation = Some(place.token(&workspace));
        assert!(request.begin(&workspace).is_err());
        request.sequence = None;
        assert_eq!(request.begin(&workspace).unwrap(), place);
        request.continuation = None;
        assert!(request.begin(&workspace).is_err());
    }
}
