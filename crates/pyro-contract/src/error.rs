//! The one error shape that users see: `{code, message, cause, hint}`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stable, machine-readable reason. Doors and scripts may match on it; the words beside it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A name, flag or request does not follow the contract's rules.
    InvalidArgument,
    /// The thing named does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Something is not as the caller had seen it, or expected it; nothing was changed.
    Conflict,
    /// The operation does not fit the workspace's present state.
    WrongState,
    /// Another process holds the workspace and does not let go.
    Busy,
    /// The operation was interrupted by the user, and what it had begun was undone.
    Cancelled,
    /// A time limit ran out.
    Timeout,
    /// No space is left on the device that holds `PYRO_HOME`, or in the guest.
    NoSpace,
    /// The user may not read or write something that the operation needs.
    PermissionDenied,
    /// A program that pyro needs is not installed.
    MissingDependency,
    /// A stored file is damaged.
    Damaged,
    /// The environment could not be fetched or built.
    EnvironmentUnavailable,
    /// The seed cannot be taken as it is.
    InvalidSeed,
    /// The machine did not start, or died.
    MachineFailed,
    /// The guest broke the protocol.
    GuestMisbehaved,
    /// The target of an export exists, or lies outside of the directory it must stay in.
    UnsafeTarget,
    /// What was asked for is larger than a limit allows.
    TooLarge,
    /// This engine or build cannot do that.
    Unsupported,
    /// A file or system call failed on the host.
    Io,
    /// A defect in pyro itself.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the reference.
    pub const ALL: &[Self] = &[
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::WrongState,
        Self::Busy,
        Self::Cancelled,
        Self::Timeout,
        Self::NoSpace,
        Self::PermissionDenied,
        Self::MissingDependency,
        Self::Damaged,
        Self::EnvironmentUnavailable,
        Self::InvalidSeed,
        Self::MachineFailed,
        Self::GuestMisbehaved,
        Self::UnsafeTarget,
        Self::TooLarge,
        Self::Unsupported,
        Self::Io,
        Self::Internal,
    ];

    /// The code as it stands in JSON: `not_found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::WrongState => "wrong_state",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::NoSpace => "no_space",
            Self::PermissionDenied => "permission_denied",
            Self::MissingDependency => "missing_dependency",
            Self::Damaged => "damaged",
            Self::EnvironmentUnavailable => "environment_unavailable",
            Self::InvalidSeed => "invalid_seed",
            Self::MachineFailed => "machine_failed",
            Self::GuestMisbehaved => "guest_misbehaved",
            Self::UnsafeTarget => "unsafe_target",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// The code for a failed system call.
    #[must_use]
    pub fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::PermissionDenied => Self::PermissionDenied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace,
            ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every door shows when something fails.
///
/// ```
/// use pyro_contract::{Error, ErrorCode};
/// let error = Error::new(ErrorCode::NotFound, "there is no workspace named 'demo'")
///     .with_hint("pyro workspace list shows what there is");
/// assert_eq!(serde_json::to_value(&error).unwrap()["code"], "not_found");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable reason.
    pub code: ErrorCode,
    /// What was attempted and could not be done, in one sentence.
    pub message: String,
    /// What lay underneath, if it helps: the system's own words, or a machine's last console lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do next, preferably a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Error {
    /// An error with neither cause nor hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None, hint: None }
    }

    /// A failed system call on the host; `attempt` says what was being done ("cannot read /x").
    pub fn io(attempt: impl Into<String>, error: &std::io::Error) -> Self {
        let code = ErrorCode::from_io(error);
        let made = Self::new(code, attempt).with_cause(error.to_string());
        match code {
            ErrorCode::NoSpace => made.with_hint(
                "free some space where PYRO_HOME lies; `pyro env prune` drops unused environments",
            ),
            ErrorCode::PermissionDenied => {
                made.with_hint("check the owner and mode of that path, or run as its owner")
            }
            _ => made,
        }
    }

    /// Adds what lay underneath.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A result that a door can render as it is.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_codes_is_the_schemas() {
        let schema = schemars::schema_for!(ErrorCode);
        let variants = schema.get("oneOf").and_then(|variants| variants.as_array()).unwrap();
        let listed: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let known: Vec<_> = variants.iter().map(|v| v["const"].as_str().unwrap()).collect();
        assert_eq!(listed, known);
    }
}
