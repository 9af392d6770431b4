//! Which ids of the host an ordinary user's containers may have; see subuid(5) and newuidmap(1).
//!
//! ```text
//! in the container   in the namespace around it   on the host
//!        –                      0                 the user
//!   0 … COUNT-1              1 … COUNT            the user's range in /etc/subuid and /etc/subgid
//! ```
//!
//! So a container's root is not even the user. Without such a range it has to be.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::super::ids;
use crate::program::find_program;

const NEWUIDMAP: &str = "newuidmap";
const NEWGIDMAP: &str = "newgidmap";
/// Where Debian's `useradd` begins, above all accounts.
const LOWEST: u32 = 100_000;

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// Consecutive ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// How ids inside appear on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mapping {
    uid: u32,
    gid: u32,
    delegated: Option<Delegated>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Delegated {
    uids: Range,
    gids: Range,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

/// Why containers of this user have one id only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Narrow {
    /// The programs that map a range are missing.
    NoPrograms,
    /// The administrator has given the user no range.
    NoRange,
}

impl Mapping {
    /// What this user has.
    pub(in super::super) fn find() -> Self {
        let (uid, gid) = own_ids();
        Self { uid, gid, delegated: delegated(uid).ok() }
    }

    /// Why there is but one id, if so.
    pub(in super::super) fn narrowness() -> Option<Narrow> {
        delegated(own_ids().0).err()
    }

    /// The container's ids as the namespace around it sees them: the first, and how many.
    pub(in super::super) fn inner(&self) -> (u32, u32) {
        match &self.delegated {
            Some(Delegated { uids, gids, .. }) => (1, uids.count.min(gids.count)),
            None => (0, 1),
        }
    }

    /// Where an id that the container knows belongs in the namespace around it. One that it does
    /// not know goes to who stands for all such, or else to root.
    pub(super) fn outward(&self, id: u32) -> u32 {
        let (first, count) = self.inner();
        let known = [id, NOBODY, 0].into_iter().find(|id| *id < count).unwrap_or(0);
        first + known
    }

    /// The other way round. What belongs to the user himself is shown as root's.
    pub(super) fn inward(&self, id: u32) -> u32 {
        id.saturating_sub(self.inner().0)
    }

    /// Differs where files of one owner would have another on the host.
    pub(super) fn name(&self) -> String {
        match &self.delegated {
            Some(Delegated { uids, gids, .. }) => {
                format!("{}.{}.{}", uids.first, gids.first, uids.count.min(gids.count))
            }
            None => "alone".to_owned(),
        }
    }

    /// Gives a process that has just made a user namespace its ids. It is this user's child.
    pub(in super::super) fn apply(&self, pid: u32) -> io::Result<()> {
        let (uid, gid) = (self.uid, self.gid);
        let Some(Delegated { uids, gids, newuidmap, newgidmap }) = &self.delegated else {
            // See user_namespaces(7): an unprivileged user may map only himself, and his group only
            // once nobody in there can drop groups that deny him something.
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1\n"))?;
            return fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1\n"));
        };
        let count = self.inner().1;
        let start = |program: &PathBuf, own: u32, range: Range| {
            let numbers = [pid, 0, own, 1, 1, range.first, count].map(|number| number.to_string());
            Command::new(program)
                .args(numbers)
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
        };
        // Side by side: each takes some milliseconds.
        let both = [start(newuidmap, uid, *uids), start(newgidmap, gid, *gids)];
        let ended = both.map(|child| child.and_then(std::process::Child::wait_with_output));
        for output in ended {
            let output = output?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
            }
        }
        Ok(())
    }
}

/// `nobody`, who stands for owners that cannot be told.
const NOBODY: u32 = 65_534;

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn delegated(uid: u32) -> Result<Delegated, Narrow> {
    let (Some(newuidmap), Some(newgidmap)) = (find_program(NEWUIDMAP), find_program(NEWGIDMAP))
    else {
        return Err(Narrow::NoPrograms);
    };
    let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
        .or_else(|| std::env::var("USER").ok());
    let range = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        widest(&text, uid, name.as_deref()).ok_or(Narrow::NoRange)
    };
    Ok(Delegated { uids: range(SUBUID)?, gids: range(SUBGID)?, newuidmap, newgidmap })
}

/// Of what `/etc/subuid` or `/etc/subgid` gives a user, the widest part. Both go by the user, not by
/// his group.
fn widest(text: &str, uid: u32, name: Option<&str>) -> Option<Range> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        if Some(whose) != name && whose.parse() != Ok(uid) {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
        (count > 0).then_some(Range { first, count: count.min(ids::COUNT) })
    });
    ranges.max_by_key(|range| range.count)
}

/// The first id above all that anybody was given.
pub(super) fn first_free() -> u32 {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    above(&[read(SUBUID), read(SUBGID)])
}

fn above(files: &[String]) -> u32 {
    let ends = files.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1);
        let (first, count) =
            (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
        first.checked_add(count)
    });
    ends.fold(LOWEST, u32::max)
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: Option<u32>) -> Mapping {
        let range = |count| Range { first: 100_000, count };
        let delegated = count.map(|count| Delegated {
            uids: range(count),
            gids: range(count),
            newuidmap: PathBuf::new(),
            newgidmap: PathBuf::new(),
        });
        Mapping { uid: 1000, gid: 1000, delegated }
    }

    #[test]
    fn the_widest_range_of_a_user_is_found_by_name_or_number() {
        let text = "root:1:2\nann:100000:1000\n1000:300000:65536\nann:500000:99999999\nbob:7\n";
        let found = |first, count| Some(Range { first, count });
        assert_eq!(widest(text, 1000, Some("ann")), found(500_000, ids::COUNT));
        assert_eq!(widest(text, 1000, None), found(300_000, ids::COUNT));
        assert_eq!(widest(text, 1, Some("bob")), None);
        assert_eq!(user_name("root:x:0:0::/root:\nann:x:1000:1000\n", 1000), Some("ann".into()));
        assert_eq!(user_name("garbage\n:::\n", 1000), None);
    }

    #[test]
    fn a_range_that_is_proposed_overlaps_no_other() {
        let files = ["ann:100000:65536\n", "ann:200000:10\ngarbage\nbob:7\n"].map(str::to_owned);
        assert_eq!(above(&files), 200_010);
        assert_eq!(above(&[]), LOWEST);
    }

    #[test]
    fn owners_come_back_as_they_went_out() {
        for count in [Some(ids::COUNT), Some(2000)] {
            let mapping = with(count);
            for id in [0, 1, 42, 1000] {
                assert_eq!(mapping.inward(mapping.outward(id)), id);
                assert_ne!(mapping.outward(id), 0, "nothing inside is the user's own");
            }
        }
        assert_eq!(with(Some(ids::COUNT)).outward(100_000), NOBODY + 1);
        assert_eq!(with(Some(2000)).outward(100_000), 1);
        let alone = with(None);
        assert_eq!((alone.outward(0), alone.outward(42), alone.inward(0)), (0, 0, 0));
    }
}
