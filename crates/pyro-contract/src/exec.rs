//! Running commands, and the journal of those that ran.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};
use crate::limits::{CommandLimits, LimitHit};
use crate::name::EnvVar;

/// The most bytes of output in one answer.
pub const MAX_OUTPUT_BYTES: u32 = 4 << 20;

/// The same where nobody says otherwise.
pub const DEFAULT_OUTPUT_BYTES: u32 = 1 << 20;

/// What is meant by a `max_output_bytes`.
#[must_use]
pub fn cap(max_output_bytes: Option<u32>) -> usize {
    max_output_bytes.unwrap_or(DEFAULT_OUTPUT_BYTES).min(MAX_OUTPUT_BYTES) as usize
}

/// The most bytes that all arguments of one command may have together: what a Linux guest takes.
pub const MAX_ARGV_BYTES: usize = 128 * 1024;

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecRequest {
    /// The exact arguments; the first is looked up in `PATH`. No shell is involved.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Instead of `argv`: a text for a login shell, which runs as `sh -lc TEXT`.
    #[serde(default)]
    pub shell: Option<String>,
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
    /// What it may take, less than the workspace may.
    #[serde(default)]
    pub limits: CommandLimits,
    /// The most bytes of output in the result, both streams together; 1 MiB unless said otherwise.
    /// A `continuation` gets the rest.
    #[serde(default)]
    #[schemars(range(max = 4_194_304))]
    pub max_output_bytes: Option<u32>,
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
            shell: None,
            limits: CommandLimits::default(),
            max_output_bytes: None,
        }
    }

    /// What is to be run, as arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        match &self.shell {
            Some(text) => vec!["sh".into(), "-lc".into(), text.clone()],
            None => self.argv.clone(),
        }
    }

    /// How many bytes of output the result has at most.
    #[must_use]
    pub fn output_cap(&self) -> usize {
        cap(self.max_output_bytes)
    }

    /// Refuses what no guest could run.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str, hint: &str| {
            Err(Error::new(ErrorCode::InvalidArgument, message).with_hint(hint))
        };
        if self.shell.is_some() && !self.argv.is_empty() {
            return invalid(
                "there are both arguments and a text for a shell",
                "give `argv` for exact arguments, or `shell` for a text, not both",
            );
        }
        let argv = self.command();
        if argv.first().is_none_or(String::is_empty) || self.shell.as_deref() == Some("") {
            return invalid(
                "there is no command to run",
                "name one in `argv` (after `--` on the command line), or a text in `shell`",
            );
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            return invalid("an argument holds a NUL byte", "pass such data on stdin");
        }
        if argv.iter().map(|argument| argument.len() + 1).sum::<usize>() > MAX_ARGV_BYTES {
            return invalid(
                "the arguments are longer than 128 KiB together",
                "pass long input on stdin or in a file",
            );
        }
        if self.timeout_seconds == Some(0) {
            return invalid("a timeout of 0 seconds leaves no time", "leave it out for none");
        }
        if self.max_output_bytes.is_some_and(|bytes| bytes > MAX_OUTPUT_BYTES) {
            return invalid(
                "max_output_bytes is more than one answer can hold",
                "it takes at most 4194304; the continuation gets the rest",
            );
        }
        self.limits.validate()
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
    /// True if memory ran out and the kernel killed it; `limits_hit` says how much there was.
    pub oom_killed: bool,
    /// Limits that it ran into, be that why it ended or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits_hit: Vec<LimitHit>,
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
    /// True if there was more output than the cap, and the rest was left out here.
    pub truncated: bool,
    /// What `workspace_output` takes to give the rest, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
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

/// One command, without its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandInfo {
    /// Its number, from 1, never reused.
    pub sequence: u64,
    /// What ran.
    pub argv: Vec<String>,
    /// Where.
    pub cwd: String,
    /// As whom, if not root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Who asked for it, as the door named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// True if it runs on without whoever started it.
    #[serde(default)]
    pub detached: bool,
    /// When it was started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// True while it runs.
    #[serde(default)]
    pub running: bool,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ExecOutcome>,
    /// Why it never ran or how it was lost, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Bytes that it wrote in all.
    pub output_bytes: u64,
    /// Bytes of these that the journal did not keep, or has dropped since.
    #[serde(default)]
    pub dropped_bytes: u64,
}

/// One command of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalCommand {
    /// What ran, and how it ended.
    #[serde(flatten)]
    pub command: CommandInfo,
    /// Its output in order of arrival: if it is longer than was asked for, its beginning and its end.
    pub output: Vec<OutputChunk>,
    /// Bytes left out between the two.
    pub omitted_bytes: u64,
    /// What `workspace_output` takes to give what was left out, as far as it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
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
            limits_hit: Vec::new(),
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
        let shell = |text: &str, argv: &[&str]| ExecRequest {
            shell: Some(text.into()),
            ..ExecRequest::new(argv.iter().copied())
        };
        assert!(shell("ls | wc", &[]).validate().is_ok());
        assert!(shell("", &[]).validate().is_err());
        assert!(shell("ls", &["ls"]).validate().is_err());
        let greedy = ExecRequest {
            max_output_bytes: Some(MAX_OUTPUT_BYTES + 1),
            ..ExecRequest::new(["true"])
        };
        assert!(greedy.validate().is_err());
    }

    #[test]
    fn a_text_is_for_a_login_shell() {
        let request: ExecRequest = serde_json::from_str(r#"{"shell": "a  'b'"}"#).unwrap();
        assert_eq!(request.command(), ["sh", "-lc", "a  'b'"]);
    }
}
