//! The host's tree, numbered, on its way to be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::compare_entry;
use pyro_wire::v1::{CompareDirectory, CompareEntry, TreeStamp};
use tokio::sync::mpsc;

use super::Sent;
use crate::sync::beneath::split;
use crate::sync::record::{GuestStamp, Record};
use crate::sync::scan::{Directory, Entry, Kind};

/// Bytes of entries in one message, roughly; far below what a message may have.
const MESSAGE: usize = 128 << 10;

/// The directories of a tree in the order in which they were sent.
pub(in crate::sync) struct Listing {
    pub(super) directories: Vec<Directory>,
    /// Of each directory's entries, which are files of the host that have not changed since their
    /// content was noted, together with the stamp that the machine was asked about.
    known: Vec<Vec<bool>>,
    /// The number of each directory's first entry.
    firsts: Vec<u32>,
    /// How many entries there are.
    count: Arc<AtomicU32>,
    messages: mpsc::Sender<Result<CompareDirectory>>,
    record: Arc<Record>,
}

impl Listing {
    pub(super) fn new(
        messages: mpsc::Sender<Result<CompareDirectory>>,
        record: Arc<Record>,
    ) -> Self {
        Self {
            directories: Vec::new(),
            known: Vec::new(),
            firsts: Vec::new(),
            count: Arc::default(),
            messages,
            record,
        }
    }

    /// How many entries were sent so far.
    pub(super) fn counter(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.count)
    }

    /// Sends a directory and keeps it. Blocks while the machine is slower.
    pub(super) fn add(&mut self, directory: Directory) -> Result<()> {
        let first = self.count.load(Ordering::Relaxed);
        let many = u32::try_from(directory.entries.len()).ok();
        let Some(after) = many.and_then(|many| first.checked_add(many)) else {
            return Err(Error::new(ErrorCode::TooLarge, "the tree has too many files"));
        };
        // Before it is sent: the answer may be quicker than we are.
        self.count.store(after, Ordering::Release);
        let mut path = directory.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let prefix = path.len();
        let mut stamps = Vec::with_capacity(directory.entries.len());
        let mut known = Vec::with_capacity(directory.entries.len());
        for entry in &directory.entries {
            path.truncate(prefix);
            path.extend(&entry.name);
            let fact = match entry.kind {
                Kind::File { .. } => self.record.facts.get(&path),
                _ => None,
            };
            stamps.push(fact.and_then(|fact| fact.guest));
            known.push(match &entry.kind {
                Kind::File { stamp, .. } => {
                    fact.is_some_and(|fact| stamp.is_some() && fact.host == *stamp)
                }
                _ => false,
            });
        }
        for message in messages(&directory.path, first, &directory.entries, &stamps) {
            if self.messages.blocking_send(Ok(message)).is_err() {
                // The comparison has ended, and says itself why.
                return Err(Error::new(ErrorCode::Internal, "the comparison has ended"));
            }
        }
        self.firsts.push(first);
        self.known.push(known);
        self.directories.push(directory);
        Ok(())
    }

    /// Tells the comparison that this was all, or why there is no more.
    pub(super) fn finish(self, scanned: Result<()>) -> Result<Self> {
        if let Err(error) = scanned {
            let _ = self.messages.blocking_send(Err(error.clone()));
            return Err(error);
        }
        // The channel ends with its sender.
        let (closed, _) = mpsc::channel(1);
        Ok(Self { messages: closed, ..self })
    }

    /// The entry of a number.
    pub(super) fn entry(&self, number: u32) -> Option<&Entry> {
        // Empty directories share their first number with the next; the last of them has it.
        let at = self.firsts.partition_point(|first| *first <= number).checked_sub(1)?;
        let offset = usize::try_from(number - self.firsts[at]).ok()?;
        self.directories[at].entries.get(offset)
    }

    /// Every entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = Listed<'_>> {
        let directories = self.directories.iter().zip(&self.firsts).zip(&self.known);
        directories.flat_map(|((directory, first), known)| {
            let entries = directory.entries.iter().zip(*first..).zip(known);
            entries.map(move |((entry, number), known)| Listed {
                number,
                directory,
                entry,
                is_known: *known,
            })
        })
    }
}

/// One entry of a listing.
pub(super) struct Listed<'a> {
    pub(super) number: u32,
    pub(super) directory: &'a Directory,
    pub(super) entry: &'a Entry,
    /// If the machine says nothing of it, both sides are as they were.
    pub(super) is_known: bool,
}

fn messages(
    path: &[u8],
    first: u32,
    entries: &[Entry],
    stamps: &[Option<GuestStamp>],
) -> Vec<CompareDirectory> {
    let mut all =
        vec![CompareDirectory { path: path.to_vec().into(), first, ..Default::default() }];
    let mut bytes = path.len();
    for ((entry, stamp), number) in entries.iter().zip(stamps).zip(first..) {
        let message = compare_entry(entry, *stamp);
        bytes += message.name.len() + message.target.len() + 48;
        if bytes > MESSAGE
            && let Some(last) = all.last_mut()
        {
            last.more = true;
            let path = path.to_vec().into();
            all.push(CompareDirectory { path, first: number, ..Default::default() });
            bytes = 0;
        }
        if let Some(last) = all.last_mut() {
            last.entries.push(message);
        }
    }
    all
}

fn compare_entry(entry: &Entry, stamp: Option<GuestStamp>) -> CompareEntry {
    let stamp = stamp.map(|stamp| TreeStamp { inode: stamp.inode, ctime_ns: stamp.ctime_ns });
    let mut message = CompareEntry {
        name: entry.name.clone().into(),
        mode: entry.mode,
        mtime_ns: entry.mtime_ns,
        stamp,
        ..CompareEntry::default()
    };
    match &entry.kind {
        Kind::File { size, .. } => {
            message.set_kind(compare_entry::Kind::File);
            message.size = *size;
        }
        Kind::Directory => message.set_kind(compare_entry::Kind::Directory),
        Kind::Link(target) => {
            message.set_kind(compare_entry::Kind::Link);
            message.target = target.clone().into();
        }
    }
    message
}

/// What was sent, to be asked for its stamps. Numbers are places in `sent`, which is ordered by path.
pub(super) fn to_stamp(sent: &[Sent]) -> Vec<CompareDirectory> {
    let mut all: Vec<CompareDirectory> = Vec::new();
    let mut bytes = 0;
    for (file, number) in sent.iter().zip(0..) {
        let (directory, name) = split(&file.path);
        let entry = CompareEntry {
            name: name.to_vec().into(),
            size: file.size,
            mtime_ns: file.mtime_ns,
            ..CompareEntry::default()
        };
        bytes += name.len() + 48;
        match all.last_mut() {
            Some(last) if last.path == directory && bytes <= MESSAGE => last.entries.push(entry),
            _ => {
                bytes = 0;
                let path = directory.to_vec().into();
                all.push(CompareDirectory {
                    path,
                    first: number,
                    entries: vec![entry],
                    more: false,
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: String) -> Entry {
        Entry { name: name.into(), kind: Kind::Directory, mode: 0o755, mtime_ns: 0 }
    }

    #[test]
    fn a_large_directory_goes_in_parts_whose_numbers_follow_one_another() {
        let entries: Vec<Entry> =
            (0..10_000).map(|number| entry(format!("{number:0200}"))).collect();
        let parts = messages(b"d", 7, &entries, &vec![None; entries.len()]);
        assert!(parts.len() > 10);
        let mut next = 7;
        for (part, is_last) in parts.iter().zip((1..).map(|number| number == parts.len())) {
            assert_eq!((part.first, part.more), (next, !is_last));
            assert!(prost::Message::encoded_len(part) < pyro_wire::MAX_MESSAGE_SIZE / 2);
            next += part.entries.len() as u32;
        }
        assert_eq!(next, 10_007);
    }

    #[test]
    fn what_was_sent_is_asked_about_directory_by_directory() {
        let file = |path: &str| Sent {
            path: path.into(),
            sha256: [0; 32],
            stamp: None,
            size: 1,
            mtime_ns: 2,
        };
        let asked = to_stamp(&[file("a"), file("b"), file("d/a"), file("d/b"), file("e/x")]);
        let shape: Vec<_> =
            asked.iter().map(|one| (one.path.to_vec(), one.first, one.entries.len())).collect();
        assert_eq!(shape, [(b"".to_vec(), 0, 2), (b"d".to_vec(), 2, 2), (b"e".to_vec(), 4, 1)]);
    }
}
