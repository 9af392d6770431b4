//! The changes, on their way to the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_contract::progress::{Progress as _, Report, Unit};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{
    TreeBatch, TreeChange, TreeCommit, TreeDirectory, TreeLink, TreeMode, TreePut, TreeRemove,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::decide::Plan;
use super::listing::Listing;
use crate::sync::beneath::{Stamp, split};
use crate::sync::record::Sha;
use crate::sync::scan::{Entry, Kind};
use crate::sync::source::Source;
use crate::watch::{Watch, interrupted};

/// Bytes of content in one message.
const PIECE: usize = 128 << 10;

/// Small changes share messages up to this many bytes, and this many of them.
const BATCH: usize = 128 << 10;
const BATCH_COUNT: usize = 256;

/// A file that changes while it is read is read again, so often, if it fits into one piece.
const TRIES: u32 = 3;

/// A file that was sent, and what is known of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) path: Vec<u8>,
    pub(super) sha256: Sha,
    pub(super) stamp: Option<Stamp>,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
}

/// Reads what is to be sent.
pub(super) struct Sender {
    pub(super) source: Arc<Source>,
    /// The directories that have to be made before the tree's own top exists.
    pub(super) prefix: Vec<Vec<u8>>,
    pub(super) changes: mpsc::Sender<Result<Change>>,
    /// True once it is too late to give up.
    pub(super) committing: Arc<AtomicBool>,
    pub(super) watch: Watch,
    pub(super) batch: Batch,
}

/// Changes that wait to go in one message.
#[derive(Default)]
pub(super) struct Batch {
    changes: Vec<TreeChange>,
    bytes: usize,
}

impl Sender {
    /// Sends everything. A failure goes the same way, and ends the transaction.
    pub(super) fn send(mut self, listing: &Listing, plan: &Plan) -> Result<(Vec<Sent>, u64)> {
        let sent = self.send_all(listing, plan);
        if let Err(error) = &sent {
            let _ = self.changes.blocking_send(Err(error.clone()));
        }
        sent
    }

    fn send_all(&mut self, listing: &Listing, plan: &Plan) -> Result<(Vec<Sent>, u64)> {
        for depth in 1..=self.prefix.len() {
            let path = self.prefix[..depth].join(&b'/').into();
            self.put(Change::Directory(TreeDirectory { path, ..TreeDirectory::default() }))?;
        }
        for (path, recursive) in &plan.removals {
            let path = self.path(path);
            let (recursive, missing_ok) = (*recursive, true);
            self.put(Change::Remove(TreeRemove {
                path,
                recursive,
                missing_ok,
                ..Default::default()
            }))?;
        }
        for (path, mode) in &plan.modes {
            let (path, mode) = (self.path(path), *mode);
            self.put(Change::Mode(TreeMode { path, mode, expected: None }))?;
        }
        let mut sent = Vec::new();
        let mut bytes = 0;
        for (path, number) in &plan.written {
            let Some(entry) = listing.entry(*number) else { continue };
            self.report(bytes, plan.bytes);
            match &entry.kind {
                Kind::Directory => self.directory(path, entry, plan)?,
                Kind::Link(target) => {
                    let (path, target) = (self.path(path), target.clone().into());
                    self.put(Change::Link(TreeLink { path, target, ..TreeLink::default() }))?;
                }
                Kind::File { .. } => {
                    let file = self.file(path, entry, bytes, plan.bytes)?;
                    bytes += file.size;
                    sent.push(file);
                }
            }
        }
        if self.committing.swap(true, Ordering::SeqCst) {
            return Err(interrupted());
        }
        self.put(Change::Commit(TreeCommit { dry_run: false }))?;
        Ok((sent, bytes))
    }

    /// In the place of a file or link that may be there. In a directory that is made, there is none.
    fn directory(&mut self, path: &[u8], entry: &Entry, plan: &Plan) -> Result<()> {
        let (above, _) = split(path);
        if !plan.replaced.contains(above) {
            let path = self.path(path);
            let missing_ok = true;
            self.put(Change::Remove(TreeRemove { path, missing_ok, ..TreeRemove::default() }))?;
        }
        self.put(Change::Directory(TreeDirectory {
            path: self.path(path),
            mode: Some(entry.mode),
            ..TreeDirectory::default()
        }))
    }

    fn file(&mut self, path: &[u8], entry: &Entry, before: u64, total: u64) -> Result<Sent> {
        let mut tries = 1;
        loop {
            match self.try_file(path, entry, before, total) {
                Err((error, Begun::No)) if error.code == ErrorCode::Busy && tries < TRIES => {
                    tries += 1;
                }
                Ok(sent) => return Ok(sent),
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn try_file(
        &mut self,
        path: &[u8],
        entry: &Entry,
        before: u64,
        total: u64,
    ) -> Result<Sent, (Error, Begun)> {
        let not_begun = |error| (error, Begun::No);
        let source = Arc::clone(&self.source);
        let content = source.open_file(path).map_err(not_begun)?;
        let size = content.size().map_err(not_begun)?;
        let (mode, mtime_ns) = content.now().unwrap_or((entry.mode, entry.mtime_ns));
        let mut digest = Sha256::new();
        let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
        let whole = content.fill(path, 0, &mut piece).map_err(not_begun)?;
        digest.update(&piece[..whole]);
        piece.truncate(whole);
        let (path_, data) = (self.path(path), piece.into());
        let put = TreePut { path: path_, mode: Some(mode), mtime_ns, data, ..TreePut::default() };
        if size <= PIECE as u64 {
            let stamp = content.confirm(path).map_err(not_begun)?;
            self.put(Change::Put(put)).map_err(not_begun)?;
            let sha256 = digest.finalize().into();
            return Ok(Sent { path: path.to_vec(), sha256, stamp, size, mtime_ns });
        }
        let begun = |error| (error, Begun::Yes);
        self.put(Change::Put(put)).map_err(begun)?;
        let mut offset = whole as u64;
        while offset < size {
            self.report(before + offset, total);
            let left = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; left];
            if content.fill(path, offset, &mut piece).map_err(begun)? < left {
                return Err(begun(crate::sync::source::changed(path)));
            }
            digest.update(&piece);
            offset += left as u64;
            self.put(Change::Data(piece.into())).map_err(begun)?;
        }
        let stamp = content.confirm(path).map_err(begun)?;
        let sha256 = digest.finalize().into();
        Ok(Sent { path: path.to_vec(), sha256, stamp, size, mtime_ns })
    }

    fn path(&self, path: &[u8]) -> axum::body::Bytes {
        let names = self.prefix.iter().map(Vec::as_slice).chain(std::iter::once(path));
        names.collect::<Vec<_>>().join(&b'/').into()
    }

    fn report(&self, done: u64, total: u64) {
        let stage = "pushing".to_owned();
        self.watch.report(Report { stage, done, total: Some(total), unit: Unit::Bytes });
    }

    /// In one message with others, if it is small.
    fn put(&mut self, change: Change) -> Result<()> {
        if self.watch.cancelled() && !self.committing.load(Ordering::SeqCst) {
            return Err(interrupted());
        }
        let is_last = matches!(change, Change::Commit(_));
        let change = TreeChange { change: Some(change) };
        let bytes = prost::Message::encoded_len(&change) + 8;
        let is_full =
            self.batch.bytes + bytes > BATCH || self.batch.changes.len() == BATCH_COUNT || is_last;
        if is_full {
            self.flush()?;
        }
        if is_last || bytes > BATCH {
            return self.pass_on(change.change);
        }
        self.batch.bytes += bytes;
        self.batch.changes.push(change);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Batch { changes, .. } = std::mem::take(&mut self.batch);
        if changes.is_empty() {
            return Ok(());
        }
        self.pass_on(Some(Change::Batch(TreeBatch { changes })))
    }

    fn pass_on(&self, change: Option<Change>) -> Result<()> {
        let Some(change) = change else { return Ok(()) };
        self.changes.blocking_send(Ok(change)).map_err(|_| {
            // The transaction has ended, and says itself why.
            Error::new(ErrorCode::Internal, "the transaction has ended")
        })
    }
}

/// Whether some of a file has been sent.
enum Begun {
    No,
    Yes,
}
