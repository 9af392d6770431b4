//! Why an environment could not be had.

use std::io;
use std::path::Path;

use pyro_contract::ErrorCode;
use pyro_layers::LayerError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, EnvironmentError>;

/// Everything that can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// This host or build cannot do that.
    #[error("{message}")]
    Unsupported {
        /// What cannot be done.
        message: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An environment variable has a value that makes no sense.
    #[error("{variable} is {value:?}, which is no {expected}")]
    InvalidSetting {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A program is not installed.
    #[error("{program} is needed to make environments, and it is not installed")]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The command that installs it.
        fix: &'static str,
    },
    /// The bootstrap failed; the packages could not be had or not be installed.
    #[error("cannot fetch {what}")]
    Bootstrap {
        /// What was being made.
        what: String,
        /// The last words of the program that failed.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// The kernel package does not hold what it should.
    #[error("the guest kernel cannot be used: {0}")]
    Kernel(String),
    /// The host could not read or write.
    #[error("{attempt}")]
    Io {
        /// What was being done.
        attempt: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An image could not be written or read.
    #[error("{attempt}")]
    Image {
        /// What was being done.
        attempt: String,
        /// What was wrong.
        #[source]
        source: LayerError,
    },
    /// A stored file is not what was stored.
    #[error("the stored {what} is damaged: {detail}")]
    Damaged {
        /// Which.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The thing is not in the store.
    #[error("there is no {0} in the store")]
    NotFound(String),
    /// The user interrupted; what was begun is undone.
    #[error("interrupted")]
    Cancelled,
}

impl EnvironmentError {
    /// An I/O failure with what was being attempted.
    pub(crate) fn io(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source }
    }

    /// An I/O failure on `path`; `attempt` is a verb: "read", "create".
    pub(crate) fn at<'a>(attempt: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { attempt: format!("cannot {attempt} {}", path.display()), source }
    }
}

impl From<EnvironmentError> for pyro_contract::Error {
    fn from(error: EnvironmentError) -> Self {
        let message = error.to_string();
        match error {
            EnvironmentError::Unsupported { hint, .. } => {
                Self::new(ErrorCode::Unsupported, message).with_hint(hint)
            }
            EnvironmentError::InvalidSetting { hint, .. } => {
                Self::new(ErrorCode::InvalidArgument, message).with_hint(hint)
            }
            EnvironmentError::MissingProgram { fix, .. } => {
                Self::new(ErrorCode::MissingDependency, message).with_hint(fix)
            }
            EnvironmentError::Bootstrap { cause, hint, .. } => {
                Self::new(ErrorCode::EnvironmentUnavailable, message)
                    .with_cause(cause)
                    .with_hint(hint)
            }
            EnvironmentError::Kernel(_) => Self::new(ErrorCode::EnvironmentUnavailable, message)
                .with_hint("this may be a defect of the kernel package: try again, or report it"),
            EnvironmentError::Io { source, .. } => Self::io(message, &source),
            EnvironmentError::Image { source: LayerError::Io { attempt, source }, .. } => {
                Self::io(format!("{message}: {attempt}"), &source)
            }
            EnvironmentError::Image { source: LayerError::Cancelled, .. }
            | EnvironmentError::Cancelled => Self::new(ErrorCode::Cancelled, "interrupted"),
            EnvironmentError::Image { source, .. } => {
                Self::new(ErrorCode::EnvironmentUnavailable, message).with_cause(source.to_string())
            }
            EnvironmentError::Damaged { .. } => Self::new(ErrorCode::Damaged, message)
                .with_hint("`pyro env pull` makes it anew; a failing disk may be the reason"),
            EnvironmentError::NotFound(_) => Self::new(ErrorCode::NotFound, message)
                .with_hint("`pyro env pull` fetches an environment"),
        }
    }
}
