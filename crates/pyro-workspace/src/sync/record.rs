//! What is known of the files of a tree that was synced before: which content a file of the host or
//! of the machine had when it was last seen.
//!
//! Each entry states facts that stay true for ever: a file with this stamp has this content. So a
//! record that is old, or lost, or whose workspace was set back, makes a sync slower, never wrong.
//! It is kept in the workspace's directory, one file for each pair of trees.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::beneath::Stamp;
use crate::home::WorkspaceDir;

pub(super) type Sha = [u8; 32];

const MAGIC: &[u8] = b"pyro sync record 1\n";

/// So many facts about files that were not part of the last sync are kept in any case.
const OTHERS_MAX: u64 = 10_000;

/// No record is larger; reading it takes as much memory.
const SIZE_MAX: u64 = 1 << 30;

/// What is known of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) sha256: Sha,
    /// A file of the host with this stamp has the content.
    pub(super) host: Option<Stamp>,
    /// A file of the machine with this stamp has the content.
    pub(super) guest: Option<GuestStamp>,
}

impl Fact {
    /// Of a link that was the same on both sides: there is nothing to know but where it leads.
    pub(super) fn of_link(target: &[u8]) -> Self {
        Self { sha256: link_digest(target), host: None, guest: None }
    }
}

/// What stands for the content of a link.
pub(super) fn link_digest(target: &[u8]) -> Sha {
    let mut digest = Sha256::new();
    digest.update(b"link\0");
    digest.update(target);
    digest.finalize().into()
}

/// The machine's word for the state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GuestStamp {
    pub(super) inode: u64,
    pub(super) ctime_ns: i64,
}

/// The facts about one pair of trees.
#[derive(Debug, Clone)]
pub(super) struct Record {
    file: Option<PathBuf>,
    pub(super) facts: HashMap<Vec<u8>, Fact>,
}

impl Record {
    /// The record of these trees; empty if there is none, or it cannot be made sense of.
    pub(super) fn load(dir: &WorkspaceDir, host: &Path, guest: &[u8]) -> Self {
        let mut name = Sha256::new();
        name.update(host.as_os_str().as_bytes());
        name.update([0]);
        name.update(guest);
        let name: String = name.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let file = dir.path().join("sync").join(name);
        let read = || {
            let size = fs::metadata(&file).ok()?.len();
            if size > SIZE_MAX {
                return None;
            }
            parse(&fs::read(&file).ok()?)
        };
        let facts = read().unwrap_or_default();
        Self { file: Some(file), facts }
    }

    /// A record that is not kept.
    pub(super) fn forgotten() -> Self {
        Self { file: None, facts: HashMap::new() }
    }

    /// The content of a file of the host, if it is known.
    pub(super) fn host_content(&self, path: &[u8], stamp: Option<Stamp>) -> Option<Sha> {
        let fact = self.facts.get(path)?;
        (stamp.is_some() && fact.host == stamp).then_some(fact.sha256)
    }

    /// Keeps these facts too, instead of older ones of the same paths. A failure costs time at the next
    /// sync, nothing else.
    ///
    /// Facts about other paths stay, for their files may only have been left out this time, unless there
    /// are far more of them than the tree has files: then they are of files that are no more.
    pub(super) fn learn(&mut self, facts: HashMap<Vec<u8>, Fact>, files: u64) {
        let mut has_changed = false;
        for (path, fact) in facts {
            has_changed |= self.facts.insert(path, fact) != Some(fact);
        }
        if !has_changed {
            return;
        }
        if self.facts.len() as u64 > 2 * files + OTHERS_MAX {
            self.facts.clear();
        }
        let Some(file) = &self.file else { return };
        if let Err(error) = self.write(file) {
            tracing::debug!(%error, "the record of a sync could not be kept");
            // What stands there is true, too.
        }
    }

    fn write(&self, file: &Path) -> std::io::Result<()> {
        let parent = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
        temporary.write_all(&written(&self.facts))?;
        // Not flushed: what a power cut leaves of it does not have its checksum.
        temporary.persist(file)?;
        Ok(())
    }
}

fn written(facts: &HashMap<Vec<u8>, Fact>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (path, fact) in facts {
        bytes.extend((path.len() as u32).to_le_bytes());
        bytes.extend(path);
        bytes.extend(fact.sha256);
        let host = fact.host.unwrap_or(Stamp { inode: 0, ctime_ns: 0, size: 0 });
        let guest = fact.guest.unwrap_or(GuestStamp { inode: 0, ctime_ns: 0 });
        bytes.push(u8::from(fact.host.is_some()) | u8::from(fact.guest.is_some()) << 1);
        for number in
            [host.inode, host.ctime_ns as u64, host.size, guest.inode, guest.ctime_ns as u64]
        {
            bytes.extend(number.to_le_bytes());
        }
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<HashMap<Vec<u8>, Fact>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    if crc32c::crc32c(body).to_le_bytes() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?;
    let mut facts = HashMap::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(take(&mut rest)?) as usize;
        let (path, after) = rest.split_at_checked(length)?;
        rest = after;
        let sha256 = take(&mut rest)?;
        let [which] = take::<1>(&mut rest)?;
        let mut number = || Some(u64::from_le_bytes(take(&mut rest)?));
        let host = Stamp { inode: number()?, ctime_ns: number()? as i64, size: number()? };
        let guest = GuestStamp { inode: number()?, ctime_ns: number()? as i64 };
        let fact = Fact {
            sha256,
            host: (which & 1 != 0).then_some(host),
            guest: (which & 2 != 0).then_some(guest),
        };
        facts.insert(path.to_vec(), fact);
    }
    Some(facts)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fact() -> impl Strategy<Value = Fact> {
        let stamp = any::<(u64, i64, u64)>().prop_map(|(inode, ctime_ns, size)| Stamp {
            inode,
            ctime_ns,
            size,
        });
        let guest =
            any::<(u64, i64)>().prop_map(|(inode, ctime_ns)| GuestStamp { inode, ctime_ns });
        (any::<Sha>(), proptest::option::of(stamp), proptest::option::of(guest))
            .prop_map(|(sha256, host, guest)| Fact { sha256, host, guest })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            facts in proptest::collection::hash_map(any::<Vec<u8>>(), fact(), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = written(&facts);
            prop_assert_eq!(parse(&bytes), Some(facts));
            prop_assert_eq!(parse(&bytes[..cut.index(bytes.len())]), None, "a part is nothing");
        }

        #[test]
        fn anything_else_is_no_record(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(parse(&bytes), None);
        }
    }
}
