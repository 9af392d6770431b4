//! Opening the filesystem, its journal replayed if need be.

use std::sync::Arc;

use fs_ext4::{Filesystem, jbd2};

use super::device::ReplayDevice;
use super::{damaged, guarded};
use crate::layer::{LayerError, Result};

/// The longest journal that is followed. `mke2fs` makes none over 1 GiB.
const JOURNAL_MAX: u64 = 1 << 30;

/// Opens the filesystem. What a replay writes goes to the device's memory.
///
/// Like the kernel, only a filesystem that says it needs recovery is recovered: a journal may hold
/// old transactions that are not to be replayed. Files that were deleted while open are left alone
/// (the kernel would reclaim them): they have no names, so nothing here meets them.
pub(super) fn mount(device: &Arc<ReplayDevice>, dirty: bool) -> Result<Filesystem> {
    // Lazily, which neither replays nor reclaims. As writable, or it would replay into a cache
    // without bounds.
    device.set_replaying(true);
    let mounted = guarded(|| Filesystem::mount_lazy(device.clone())).and_then(|mut filesystem| {
        if dirty {
            replay(&mut filesystem)?;
        }
        Ok(filesystem)
    });
    // From here on nothing is written: also not the state that the parser puts back in the end.
    device.set_replaying(false);
    if device.overflowed() {
        return Err(LayerError::TooLarge(
            "the disk's journal holds more than can be replayed in memory".to_owned(),
        ));
    }
    mounted
}

fn replay(filesystem: &mut Filesystem) -> Result<()> {
    if let Some(journal) = guarded(|| jbd2::read_superblock(filesystem))? {
        let block_size = u64::from(filesystem.sb.block_size());
        let blocks = u64::from(journal.max_len);
        if blocks > filesystem.sb.blocks_count || blocks * block_size > JOURNAL_MAX {
            return Err(damaged("its journal claims an impossible length"));
        }
        guarded(|| filesystem.replay_journal_if_dirty())?;
    }
    Ok(())
}
