//! A file that was changed on both sides.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pyro_contract::{Error, ErrorCode, Result};

/// Larger files are not merged: git reads all three sides into memory.
const LARGEST: u64 = 32 << 20;

/// The three sides of a merge.
pub(super) struct Sides {
    pub(super) host: Vec<u8>,
    pub(super) baseline: Vec<u8>,
    pub(super) workspace: Vec<u8>,
}

impl Sides {
    /// True if a file of this size can be merged at all.
    pub(super) fn fits(size: u64) -> bool {
        size <= LARGEST
    }

    /// Both changes in one, if they do not touch the same lines and are text.
    pub(super) fn merge(&self) -> Result<Option<Vec<u8>>> {
        let scratch = tempfile::tempdir().map_err(|error| refused(&error))?;
        let mut names = Vec::new();
        let sides =
            [("host", &self.host), ("seed", &self.baseline), ("workspace", &self.workspace)];
        for (name, bytes) in sides {
            let path = scratch.path().join(name);
            std::fs::File::create(&path)
                .and_then(|mut file| file.write_all(bytes))
                .map_err(|error| refused(&error))?;
            names.push(path);
        }
        // Not in the directory of the host: its attributes could name a merge driver to be run.
        let output = Command::new("git")
            .args(["merge-file", "-p", "-q"])
            .args(&names)
            .current_dir(scratch.path())
            .env("GIT_DIR", "/nonexistent")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                Error::new(ErrorCode::MissingDependency, "merging needs git, which does not run")
                    .with_cause(error.to_string())
                    .with_hint("install git, or apply without --merge")
            })?;
        // git-merge-file(1): 0 if it is clean, else the number of conflicts, or 255 for an error such
        // as a side that is not text.
        Ok((output.status.code() == Some(0)).then_some(output.stdout))
    }
}

fn refused(error: &std::io::Error) -> Error {
    Error::io("cannot write what is to be merged", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(host: &str, baseline: &str, workspace: &str) -> Sides {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Sides { host: bytes(host), baseline: bytes(baseline), workspace: bytes(workspace) }
    }

    #[test]
    fn changes_of_different_lines_are_merged_and_of_the_same_are_not() {
        let base = "1\n2\n3\n4\n5\n6\n7\n";
        let clean = sides("one\n2\n3\n4\n5\n6\n7\n", base, "1\n2\n3\n4\n5\n6\nseven\n");
        assert_eq!(clean.merge().unwrap().unwrap(), b"one\n2\n3\n4\n5\n6\nseven\n");
        assert_eq!(sides("x\n2\n", "1\n2\n", "y\n2\n").merge().unwrap(), None);
        assert_eq!(sides("\0a", "\0b", "\0c").merge().unwrap(), None);
    }
}
