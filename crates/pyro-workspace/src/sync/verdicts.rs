//! What the machine said of the host's tree. It is the guest's word: numbers, paths and counts are
//! checked here, and only then used.

use std::collections::HashMap;

use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::TreeStamp;
use pyro_wire::v1::compare_output::Output;

use super::record::{GuestStamp, Sha};
use crate::agent::misbehaved;

/// More names than this that the host does not have are refused: a guest can make them up.
const EXTRA_MAX: usize = 2_000_000;
const EXTRA_BYTES_MAX: usize = 512 << 20;

/// What is known of one entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// It is missing, or of another kind, size or target.
    pub(super) different: bool,
    /// Its mode is another.
    pub(super) mode: bool,
    /// There is a directory in its place.
    pub(super) directory: bool,
}

/// All that was said.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// By number; what was not mentioned is the same.
    said: HashMap<u32, Verdict>,
    pub(super) digests: HashMap<u32, (Option<Sha>, Option<GuestStamp>)>,
    /// What only the machine has, and whether it is a directory.
    pub(super) extra: Vec<(Vec<u8>, bool)>,
    extra_bytes: usize,
}

impl Verdicts {
    pub(super) fn of(&self, number: u32) -> Verdict {
        self.said.get(&number).copied().unwrap_or_default()
    }

    /// Takes one answer; `sent` entries have been asked about.
    pub(super) fn take(&mut self, output: Output, sent: u32) -> Result<()> {
        match output {
            Output::Verdicts(verdicts) => {
                let known = |number: u32| if number < sent { Ok(number) } else { Err(senseless()) };
                for number in verdicts.different {
                    self.said.entry(known(number)?).or_default().different = true;
                }
                for number in verdicts.mode {
                    self.said.entry(known(number)?).or_default().mode = true;
                }
                for number in verdicts.directories {
                    self.said.entry(known(number)?).or_default().directory = true;
                }
                for digest in verdicts.digests {
                    let sha = match digest.sha256.len() {
                        0 => None,
                        _ => Some(Sha::try_from(&digest.sha256[..]).map_err(|_| senseless())?),
                    };
                    let stamp = digest.stamp.map(guest_stamp);
                    self.digests.insert(known(digest.number)?, (sha, stamp));
                }
            }
            Output::Extra(extra) => {
                for one in extra.paths {
                    if !is_proper(&one.path) {
                        return Err(senseless());
                    }
                    self.extra_bytes += one.path.len();
                    self.extra.push((one.path.to_vec(), one.directory));
                }
                if self.extra.len() > EXTRA_MAX || self.extra_bytes > EXTRA_BYTES_MAX {
                    return Err(Error::new(
                        ErrorCode::TooLarge,
                        format!(
                            "over {EXTRA_MAX} files would have to be removed from the workspace"
                        ),
                    )
                    .with_hint("remove them there, or push to another --dest"));
                }
            }
            Output::Compared(_) => return Err(senseless()),
        }
        Ok(())
    }
}

fn guest_stamp(stamp: TreeStamp) -> GuestStamp {
    GuestStamp { inode: stamp.inode, ctime_ns: stamp.ctime_ns }
}

/// A relative path without odd names.
fn is_proper(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    path.len() <= 1 << 16
        && names.all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0))
}

fn senseless() -> Error {
    misbehaved("the machine's answer to a comparison makes no sense")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pyro_wire::v1::{CompareDigest, CompareExtra, CompareVerdicts, ExtraPath};

    use super::*;

    fn extra(paths: &[&[u8]]) -> Output {
        let path = |path: &&[u8]| ExtraPath { path: path.to_vec().into(), directory: false };
        Output::Extra(CompareExtra { paths: paths.iter().map(path).collect() })
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for path in [&b"/etc"[..], b"..", b"a/../b", b"", b"a//b", b"a\0", b"./a", b"a/"] {
            let mut verdicts = Verdicts::default();
            let error = verdicts.take(extra(&[path]), 10).unwrap_err();
            assert_eq!(error.code, ErrorCode::GuestMisbehaved);
            assert!(verdicts.extra.is_empty());
        }
        let digest = |number, sha256: &[u8]| {
            let digest = CompareDigest { number, sha256: sha256.to_vec().into(), stamp: None };
            Output::Verdicts(CompareVerdicts { digests: vec![digest], ..Default::default() })
        };
        assert!(Verdicts::default().take(digest(10, &[0; 32]), 10).is_err());
        assert!(Verdicts::default().take(digest(9, &[0; 31]), 10).is_err());
        assert!(Verdicts::default().take(digest(9, &[0; 32]), 10).is_ok());
    }

    #[test]
    fn a_guest_cannot_make_up_names_without_end() {
        let many: Vec<&[u8]> = vec![b"x"; 100_000];
        let mut verdicts = Verdicts::default();
        let outcome = (0..100).try_for_each(|_| verdicts.take(extra(&many), 0));
        assert_eq!(outcome.unwrap_err().code, ErrorCode::TooLarge);
    }

    proptest! {
        #[test]
        fn any_numbers_are_taken_or_refused(
            numbers in proptest::collection::vec(any::<u32>(), 0..50), sent in 0u32..1000,
        ) {
            let said = CompareVerdicts {
                different: numbers.clone(), mode: numbers.clone(), directories: numbers.clone(),
                ..Default::default()
            };
            let mut verdicts = Verdicts::default();
            let taken = verdicts.take(Output::Verdicts(said), sent);
            prop_assert_eq!(taken.is_ok(), numbers.iter().all(|number| *number < sent));
        }
    }
}
