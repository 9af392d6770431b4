//! What a tree takes on the host.
//!
//! It was written by a hostile guest, and may change at this moment: no link is followed, and there
//! are bounds to how deep and how far is counted.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::helper;
use super::mapping::Mapping;

/// Each level keeps a descriptor open.
const DEPTH_MAX: usize = 128;
const NAMES_MAX: u64 = 1_000_000;

/// The bytes of all files below `top`; as far as it is counted.
pub(super) fn bytes(top: &Path) -> u64 {
    let count = |strict| count(top, strict);
    match count(true) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let counted = helper::perform(&Mapping::find(), || {
                count(false).map(|bytes| bytes.to_le_bytes().to_vec())
            });
            let counted = counted.ok().and_then(|bytes| bytes.try_into().ok());
            counted.map_or(0, u64::from_le_bytes)
        }
        counted => counted.unwrap_or(0),
    }
}

/// Counts what can be entered; if `strict`, what cannot is an error.
fn count(top: &Path, strict: bool) -> io::Result<u64> {
    let mut counting = Counting { strict, names: 0, bytes: 0 };
    counting.enter(open(CWD, top.as_os_str().as_encoded_bytes())?, 0)?;
    Ok(counting.bytes)
}

struct Counting {
    strict: bool,
    names: u64,
    bytes: u64,
}

impl Counting {
    fn enter(&mut self, directory: OwnedFd, depth: usize) -> io::Result<()> {
        let mut directory = Dir::new(directory)?;
        while let Some(entry) = directory.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            self.names += 1;
            if self.names > NAMES_MAX {
                return Ok(());
            }
            let at = directory.fd()?;
            let nofollow = AtFlags::SYMLINK_NOFOLLOW;
            let Ok(stat) = rustix::fs::statat(at, name, nofollow) else { continue };
            // Where overlayfs works nobody may look, and nothing stays.
            let skipped = matches!(name, b"." | b"..") || (name == b"work" && depth == 1);
            if skipped {
                continue;
            }
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || depth == DEPTH_MAX {
                continue;
            }
            match open(at, name) {
                Ok(inner) => self.enter(inner, depth + 1)?,
                Err(Errno::ACCESS) if self.strict => return Err(Errno::ACCESS.into()),
                // It is gone.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn open(at: impl rustix::fd::AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_by_what_they_take_and_links_lead_nowhere() {
        let temp = tempfile::tempdir().unwrap();
        let inner = temp.path().join("machine/upper");
        std::fs::create_dir_all(&inner).unwrap();
        let before = bytes(temp.path());
        std::fs::write(inner.join("file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", inner.join("link")).unwrap();
        let taken = bytes(temp.path()) - before;
        assert!((1 << 20..2 << 20).contains(&taken), "{taken}");
    }
}
