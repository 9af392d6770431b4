//! Running commands, and the journal of those that ran.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::name::EnvVar;

/// The most bytes that all arguments of one command may have together: what a Linux guest takes.
pub const MAX_ARGV_BYTES: usize = 128 * 1024;

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecRequest {
    /// The exact arguments; the first is looked up in `PATH`. No shell is involved.
    pub argv: Vec<String>,
    /// Where to run it, absolute or relative to `/workspace`.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables for this command, over those of the workspace.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// A user of the guest, by name or number, optionally `:group`; root by default.
    #[serde(default)]
    pub user: Option<String>,
    /// End the command and all it started after this long.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// True if the caller will send input; otherwise the command reads an empty stdin.
    #[serde(default)]
    pub stdin: bool,
    /// Let it run on without a caller; its output is in the journal.
    #[serde(default)]
    pub detach: bool,
}

impl ExecRequest {
    /// Runs `argv` with every default.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: Vec::new(),
            user: None,
            timeout_seconds: None,
            stdin: false,
            detach: false,
        }
    }

    /// Refuses what no guest could run.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        if self.argv.first().is_none_or(String::is_empty) {
            return invalid("there is no command to run", "name one after `--`");
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return invalid("an argument holds a NUL byte", "pass such data on stdin");
        }
        if self.argv.iter().map(|argument| argument.len() + 1).sum::<usize>() > MAX_ARGV_BYTES {
            return invalid(
                "the arguments are longer than 128 KiB together",
                "pass long input on stdin or in a file",
            );
        }
        if self.timeout_seconds == Some(0) {
            return invalid("a timeout of 0 seconds leaves no time", "leave it out for none");
        }
        Ok(())
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecOutcome {
    /// The command's number in this workspace's journal, from 1.
    pub sequence: u64,
    /// What it exited with; absent if a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// True if the time limit ended it.
    pub timed_out: bool,
    /// True if the guest ran out of memory and killed it.
    pub oom_killed: bool,
    /// Wall-clock time in the guest.
    pub duration_ms: u64,
}

impl ExecOutcome {
    /// What a shell would report: the exit code, 124 on timeout, 128 + the signal otherwise.
    #[must_use]
    pub fn shell_code(&self) -> u8 {
        if self.timed_out {
            return 124;
        }
        let code = self.exit_code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(125);
        u8::try_from(code & 0xff).unwrap_or(125)
    }
}

/// A command's whole result, for callers that want it in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecResult {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: ExecOutcome,
    /// What it wrote, as text; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// The same of its other stream.
    pub stderr: String,
    /// True if a stream was longer than the cap and its rest was left out here.
    pub truncated: bool,
}

/// One of a command's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One command of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalCommand {
    /// Its number, from 1, never reused.
    pub sequence: u64,
    /// What ran.
    pub argv: Vec<String>,
    /// Where.
    pub cwd: String,
    /// As whom, if not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ExecOutcome>,
    /// Why it never ran or how it was lost, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The output that the journal kept, in order of arrival.
    pub output: Vec<OutputChunk>,
    /// Bytes that it wrote in all.
    pub output_bytes: u64,
    /// Bytes left out between the kept head and the kept tail.
    pub omitted_bytes: u64,
}

/// A piece of output as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputChunk {
    /// Which stream.
    pub stream: Stream,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        let outcome = |exit_code, signal, timed_out| ExecOutcome {
            sequence: 1,
            exit_code,
            signal,
            timed_out,
            oom_killed: false,
            duration_ms: 0,
        };
        assert_eq!(outcome(Some(7), None, false).shell_code(), 7);
        assert_eq!(outcome(None, Some(9), false).shell_code(), 137);
        assert_eq!(outcome(None, Some(9), true).shell_code(), 124);
    }

    #[test]
    fn a_command_that_no_guest_could_run_is_refused() {
        assert!(ExecRequest::new::<&str>([]).validate().is_err());
        assert!(ExecRequest::new([""]).validate().is_err());
        assert!(ExecRequest::new(["a\0b"]).validate().is_err());
        assert!(ExecRequest::new(["x".repeat(MAX_ARGV_BYTES)]).validate().is_err());
        assert!(ExecRequest::new(["true"]).validate().is_ok());
    }
}
