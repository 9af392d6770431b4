//! What users see of this crate's errors.

use pyro_contract::{Error, ErrorCode};

use crate::layer::LayerError;

impl From<LayerError> for Error {
    fn from(error: LayerError) -> Self {
        let message = error.to_string();
        match error {
            LayerError::Io { attempt, source } => Self::io(attempt, &source),
            LayerError::Damaged { what, detail } => {
                let made = Self::new(ErrorCode::Damaged, format!("the {what} is damaged"));
                made.with_cause(detail).with_hint(match what {
                    "writable disk" => {
                        "nothing else is affected; copy the `disk` file of the workspace if you \
                         want to look into it, and give it up with `pyro workspace delete`"
                    }
                    _ => "check the host's disk; `pyro env pull` makes a damaged environment anew",
                })
            }
            LayerError::TooLarge(_) => Self::new(ErrorCode::TooLarge, message)
                .with_hint("take a part of the tree, or remove from it what is not needed"),
            LayerError::Seed { path, reason, hint } => {
                let message = format!("cannot take {path} into the workspace");
                Self::new(ErrorCode::InvalidSeed, message).with_cause(reason).with_hint(hint)
            }
            LayerError::UnsafeTarget(_) => Self::new(ErrorCode::UnsafeTarget, message)
                .with_hint("choose a target that does not exist yet, or replace it with --force"),
            LayerError::NotFound(_) => Self::new(ErrorCode::NotFound, message)
                .with_hint("`pyro workspace exec WS -- ls -la` shows what there is"),
            LayerError::Cancelled => Self::new(ErrorCode::Cancelled, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_seed_tells_path_reason_and_remedy() {
        let error = Error::from(LayerError::Seed {
            path: "/x/secret".to_owned(),
            reason: "Permission denied (os error 13)".to_owned(),
            hint: "chmod",
        });
        assert_eq!(error.code, ErrorCode::InvalidSeed);
        assert_eq!(error.message, "cannot take /x/secret into the workspace");
        assert_eq!(error.cause.as_deref(), Some("Permission denied (os error 13)"));
        assert_eq!(error.hint.as_deref(), Some("chmod"));
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::from(LayerError::io("cannot write the image")(source));
        assert_eq!(error.code, ErrorCode::NoSpace);
        assert!(error.hint.is_some());
    }
}
