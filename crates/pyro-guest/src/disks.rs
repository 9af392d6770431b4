//! The machine's disks, found by the serial that the engine gave each.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::uevent::Uevents;

/// A disk that is not there by then never comes: its driver is loaded, its bus was scanned.
const PATIENCE: Duration = Duration::from_secs(10);

/// The environment, erofs.
pub(crate) const ENVIRONMENT: &str = "env";
/// The baseline of `/workspace`, erofs.
pub(crate) const BASELINE: &str = "base";
/// The machine's own, ext4.
pub(crate) const WRITABLE: &str = "rw";

/// The device node of the disk with this serial.
pub(crate) fn find(uevents: &Uevents, serial: &str) -> io::Result<PathBuf> {
    uevents.wait_for(PATIENCE, || {
        for entry in fs::read_dir("/sys/block")? {
            let entry = entry?;
            let Ok(found) = fs::read_to_string(entry.path().join("serial")) else { continue };
            let node = PathBuf::from("/dev").join(entry.file_name());
            if found.trim_end() == serial && node.exists() {
                return Ok(Some(node));
            }
        }
        Ok(None)
    })
}
