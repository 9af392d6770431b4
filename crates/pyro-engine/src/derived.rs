//! What engines derive from images and programs and keep in [`MachineSpec::cache_dir`], so that the
//! next machine starts sooner: unpacked environments, empty disks, compiled filters.
//!
//! [`MachineSpec::cache_dir`]: crate::MachineSpec::cache_dir

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::container::rootless;
use crate::{container, disk, storage};

/// Removes from `cache` the environments whose image is gone, what was left unfinished, and with `all`
/// also what is quickly made again; the bytes that were freed. `images` is the directory of the images,
/// each in one that is named by its digest.
#[must_use]
pub fn prune(cache: &Path, images: &Path, all: bool) -> u64 {
    // Where they cannot be seen, nothing is known of what is needed.
    let Ok(images) = fs::read_dir(images) else { return 0 };
    let images: Vec<_> = images.flatten().map(|image| image.file_name()).collect();
    let mut freed = 0;
    for kept in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = kept.file_name();
        let is_needed = images.iter().any(|image| rootless::is_tree_of(&name, image));
        if is_needed || (is_small(&name) && !all) {
            continue;
        }
        let own = kept.metadata().map_or(0, |meta| meta.blocks() * 512);
        let bytes = own + storage::bytes_in(&kept.path());
        match storage::remove(&kept.path()) {
            Ok(()) => freed += bytes,
            Err(error) => tracing::warn!(%error, "what was made of an image stays"),
        }
    }
    freed
}

/// An empty disk or a filter. Whoever writes one under a name of his own, which has a dot, may have
/// been killed.
fn is_small(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let kinds = [disk::KEPT, container::KEPT_FILTER];
    kinds.iter().any(|kind| name.starts_with(kind.as_bytes())) && !name.contains(&b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_what_is_quickly_made_goes_only_with_all() {
        let temp = tempfile::tempdir().unwrap();
        let (cache, images) = (temp.path().join("derived"), temp.path().join("images"));
        fs::create_dir_all(images.join("sha256-0123456789abcdef01")).unwrap();
        let names =
            ["0123456789abcdef-9.1-x", "fedcba9876543210-9.1-x", "disk-64-1", "disk-64-1.77"];
        let fill = || {
            fs::create_dir_all(&cache).unwrap();
            for name in names {
                fs::write(cache.join(name), [7; 5000]).unwrap();
            }
        };
        let left = || names.map(|name| cache.join(name).exists());
        fill();
        assert_eq!(prune(&cache, &temp.path().join("nowhere"), true), 0);
        assert_eq!(left(), [true; 4]);
        assert!(prune(&cache, &images, false) > 0);
        assert_eq!(left(), [true, false, true, false]);
        fill();
        assert!(prune(&cache, &images, true) > 0);
        assert_eq!(left(), [true, false, false, false]);
    }
}
