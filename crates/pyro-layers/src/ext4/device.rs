//! The image as a device that can be written to without being changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use fs_ext4::block_io::BlockDevice;
use fs_ext4::{Error, Result};

use crate::layer::LayerError;

const PAGE: usize = 4096;
/// What a replayed journal may write. Ours have 64 MiB at most, a hostile one what it likes.
const WRITTEN_MAX: usize = (256 << 20) / PAGE;

/// Reads the image, and keeps in memory what a journal's replay writes.
pub(super) struct ReplayDevice {
    file: File,
    len: u64,
    replaying: AtomicBool,
    full: AtomicBool,
    written: RwLock<BTreeMap<u64, Box<[u8; PAGE]>>>,
}

impl ReplayDevice {
    pub(super) fn new(file: File) -> crate::layer::Result<Self> {
        let len = file.metadata().map_err(LayerError::io("cannot read the disk"))?.len();
        Ok(Self {
            file,
            len,
            replaying: AtomicBool::new(false),
            full: AtomicBool::new(false),
            written: RwLock::default(),
        })
    }

    /// Writes are taken only while a journal is replayed.
    pub(super) fn set_replaying(&self, replaying: bool) {
        self.replaying.store(replaying, Ordering::SeqCst);
    }

    /// True if a write was refused because there were too many.
    pub(super) fn overflowed(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    fn written(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Box<[u8; PAGE]>>> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.len) { Ok(()) } else { Err(Error::OutOfBounds) }
    }
}

impl BlockDevice for ReplayDevice {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len())?;
        self.file.read_exact_at(buffer, offset)?;
        let end = offset + buffer.len() as u64;
        let pages = offset / PAGE as u64..end.div_ceil(PAGE as u64);
        for (page, bytes) in self.written().range(pages) {
            let page_at = page * PAGE as u64;
            let (from, to) = (offset.max(page_at), end.min(page_at + PAGE as u64));
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - page_at) as usize..(to - page_at) as usize]);
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Err(Error::ReadOnly);
        }
        self.check(offset, bytes.len())?;
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let page = at / PAGE as u64;
            let within = (at % PAGE as u64) as usize;
            let (piece, after) = rest.split_at(rest.len().min(PAGE - within));
            let mut whole = Box::new([0; PAGE]);
            // The last page of an image whose length is odd is short.
            let page_at = page * PAGE as u64;
            let there = (self.len - page_at).min(PAGE as u64) as usize;
            self.read_at(page_at, &mut whole[..there])?;
            whole[within..within + piece.len()].copy_from_slice(piece);
            let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
            if written.len() >= WRITTEN_MAX && !written.contains_key(&page) {
                self.full.store(true, Ordering::SeqCst);
                return Err(Error::NoSpaceLeftOnDevice);
            }
            written.insert(page, whole);
            at += piece.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn is_writable(&self) -> bool {
        self.replaying.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_seen_and_the_file_stays_as_it_was() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 3 * PAGE + 100], 0).unwrap();
        let device = ReplayDevice::new(file.try_clone().unwrap()).unwrap();
        assert!(device.write_at(0, b"x").is_err());
        device.set_replaying(true);
        device.write_at(4000, &[2; 5000]).unwrap();
        device.write_at(3 * PAGE as u64 + 50, &[3; 50]).unwrap();
        assert!(device.write_at(3 * PAGE as u64 + 51, &[3; 50]).is_err());
        device.set_replaying(false);

        let mut expected = vec![1; 3 * PAGE + 100];
        expected[4000..9000].fill(2);
        expected[3 * PAGE + 50..].fill(3);
        for (from, to) in [(0, expected.len()), (3999, 4001), (4096, 8192), (8999, 12_388)] {
            let mut buffer = vec![0; to - from];
            device.read_at(from as u64, &mut buffer).unwrap();
            assert_eq!(buffer, expected[from..to]);
        }
        assert!(device.read_at(u64::MAX, &mut [0]).is_err());
        let mut raw = vec![0; 3 * PAGE + 100];
        file.read_exact_at(&mut raw, 0).unwrap();
        assert_eq!(raw, vec![1; 3 * PAGE + 100]);
    }
}
