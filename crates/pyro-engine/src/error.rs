//! What can go wrong with a machine.

use std::io;

use pyro_contract::workspace::EngineKind;
use pyro_contract::{Error, ErrorCode};
use pyro_layers::LayerError;

/// A failure of an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A program is not installed.
    #[error("{program} is not installed")]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program that no package has is not installed.
    #[error("{program} is not installed")]
    NotSetUp {
        /// Its name.
        program: &'static str,
        /// The command that installs it.
        fix: &'static str,
    },
    /// A program is not of a version that this engine can speak to.
    #[error("{program} is {found}, which the {engine} engine does not work with")]
    WrongVersion {
        /// Which engine.
        engine: EngineKind,
        /// Its path.
        program: String,
        /// What it says it is.
        found: String,
        /// Which versions there may be, in words.
        supported: &'static str,
        /// What gives the right one.
        fix: &'static str,
    },
    /// The host has no hardware virtualization for this user, and the engine needs it.
    #[error("the {engine} engine needs hardware virtualization")]
    NoVirtualization {
        /// Which engine.
        engine: EngineKind,
        /// Why there is none.
        reason: String,
        /// The command that mends it, where there is one.
        fix: Option<String>,
    },
    /// The machine's process did not start, or ended at once.
    #[error("the machine did not start")]
    Launch {
        /// What it said.
        said: String,
    },
    /// A file or system call failed.
    #[error("{attempt}")]
    Io {
        /// What was being done: "cannot …".
        attempt: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program that makes the machine's storage failed.
    #[error("cannot make the machine's disk")]
    Storage {
        /// What it said.
        said: String,
    },
    /// The machine's storage could not be read.
    #[error("cannot read the machine's disk: {0}")]
    Layer(#[from] LayerError),
    /// A frozen machine cannot be brought back.
    #[error("the template is damaged")]
    Template {
        /// What is wrong with it.
        said: String,
    },
    /// A capture cannot be used.
    #[error("the capture is damaged")]
    Capture {
        /// What is wrong with it.
        said: String,
    },
    /// A capture is sound, but of another kind of machine.
    #[error("the capture does not fit this machine")]
    Misfit {
        /// Why.
        said: String,
    },
    /// The machine's byte stream was taken before.
    #[error("the machine's stream is taken")]
    StreamTaken,
    /// The machine's monitor refused an order, or did not answer.
    #[error("the machine did not carry out {order:?}")]
    Order {
        /// Which.
        order: &'static str,
        /// What it said.
        said: String,
    },
    /// This engine cannot capture memory.
    #[error("the {engine} engine keeps disks, and no memory")]
    NoMemory {
        /// Which engine.
        engine: EngineKind,
        /// Why.
        reason: &'static str,
    },
    /// This engine cannot do that, here or at all.
    #[error("the {engine} engine has no {what} here")]
    Unsupported {
        /// Which engine.
        engine: EngineKind,
        /// What was asked for, a plural.
        what: &'static str,
    },
}

impl EngineError {
    /// A failed system call with what was being attempted.
    pub fn io<E: Into<io::Error>>(attempt: impl Into<String>) -> impl FnOnce(E) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source: source.into() }
    }

    pub(crate) fn unsupported(engine: EngineKind, what: &'static str) -> Self {
        Self::Unsupported { engine, what }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::MissingProgram { package, .. } => {
                Self::new(ErrorCode::MissingDependency, message)
                    .with_hint(format!("sudo apt-get install {package}"))
            }
            EngineError::NotSetUp { fix, .. } => {
                Self::new(ErrorCode::MissingDependency, message).with_hint(fix)
            }
            EngineError::WrongVersion { supported, fix, .. } => {
                Self::new(ErrorCode::MissingDependency, message)
                    .with_cause(format!("it works with {supported}"))
                    .with_hint(fix)
            }
            EngineError::NoVirtualization { reason, fix, .. } => {
                Self::new(ErrorCode::MissingDependency, message).with_cause(reason).with_hint(
                    fix.unwrap_or_else(|| "`--engine qemu` emulates a machine instead".to_owned()),
                )
            }
            EngineError::Launch { said } => Self::new(ErrorCode::MachineFailed, message)
                .with_cause(said)
                .with_hint("`pyro doctor` checks what this host offers"),
            EngineError::Order { said, .. } => Self::new(ErrorCode::MachineFailed, message)
                .with_cause(said)
                .with_hint("stop and start the workspace; if it stays so, `pyro doctor`"),
            EngineError::Io { source, .. } => Self::io(message, &source),
            EngineError::Storage { said } => Self::new(ErrorCode::Io, message)
                .with_cause(said)
                .with_hint("`pyro doctor` checks what this host offers"),
            EngineError::Template { said } => Self::new(ErrorCode::Damaged, message)
                .with_cause(said)
                .with_hint("`pyro prepare` makes it anew"),
            EngineError::Capture { said } => Self::new(ErrorCode::Damaged, message)
                .with_cause(said)
                .with_hint("nothing was changed; other captures of the workspace are not affected"),
            EngineError::Misfit { said } => Self::new(ErrorCode::Unsupported, message)
                .with_cause(said)
                .with_hint("its disk alone can be restored wherever its engine runs"),
            EngineError::Layer(source) => Self::from(source),
            EngineError::StreamTaken => Self::new(ErrorCode::Internal, message),
            EngineError::NoMemory { reason, .. } => Self::new(ErrorCode::Unsupported, message)
                .with_cause(reason)
                .with_hint("without memory it works; virtual machines (`--engine qemu`) have both"),
            EngineError::Unsupported { .. } => Self::new(ErrorCode::Unsupported, message)
                .with_hint("`pyro doctor` lists what each engine can do on this host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_comes_with_the_command_that_installs_it() {
        let error: Error = EngineError::MissingProgram {
            program: "qemu-system-x86_64",
            package: "qemu-system-x86",
        }
        .into();
        assert_eq!(error.code, ErrorCode::MissingDependency);
        assert_eq!(error.hint.as_deref(), Some("sudo apt-get install qemu-system-x86"));
    }

    #[test]
    fn a_full_disk_is_no_space() {
        let full = io::Error::from_raw_os_error(28);
        let error: Error = EngineError::io("cannot make a disk")(full).into();
        assert_eq!(error.code, ErrorCode::NoSpace);
        assert!(error.hint.is_some());
    }
}
