//! The machine's disks, known by their order: that is all that every engine can set.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::uevent::Uevents;

/// A disk that is not there by then never comes: its driver is loaded, its bus was scanned.
const PATIENCE: Duration = Duration::from_secs(10);

const BUS: &str = "/sys/bus/virtio";
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_blk";

/// `VIRTIO_ID_BLOCK` of `linux/virtio_ids.h`, as sysfs prints it.
const BLOCK_DEVICE: &str = "0x0002";

/// Which disk, by its place among the machine's virtio disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// The environment, erofs.
    Environment = 0,
    /// The machine's own, ext4.
    Writable = 1,
    /// The baseline of `/workspace`, erofs. The engine puts it in after the machine has booted, or
    /// was restored, so its driver must not look at it before.
    Baseline = 2,
}

/// While this is held, no driver takes a virtio device by itself.
pub(crate) struct ByHand(());

impl ByHand {
    pub(crate) fn begin() -> io::Result<Self> {
        fs::write(format!("{BUS}/drivers_autoprobe"), "0").map(|()| Self(()))
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = fs::write(format!("{BUS}/drivers_autoprobe"), "1");
    }
}

/// Gives the disk to its driver, which reads its size now; the name of its node in devtmpfs.
pub(crate) fn attach(uevents: &Uevents, disk: Disk) -> io::Result<String> {
    let device = uevents.wait_for(PATIENCE, || Ok(devices()?.into_iter().nth(disk as usize)))?;
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if device.join("driver").exists() {
        // The kernel has this driver built in.
        fs::write(format!("{DRIVER}/unbind"), &name)?;
    }
    fs::write(format!("{DRIVER}/bind"), &name)?;
    uevents.wait_for(PATIENCE, || node(&device))
}

/// The virtio disks in their order.
fn devices() -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{BUS}/devices"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_prefix("virtio").and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if fs::read_to_string(entry.path().join("device"))?.trim_end() == BLOCK_DEVICE {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn node(device: &Path) -> io::Result<Option<String>> {
    let Ok(mut blocks) = fs::read_dir(device.join("block")) else { return Ok(None) };
    let Some(block) = blocks.next().transpose()? else { return Ok(None) };
    Ok(block.file_name().into_string().ok())
}
