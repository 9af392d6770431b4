//! The container's filter of system calls, as the kernel takes it.
//!
//! To compile it from the profile takes `crun` a third of the time that it needs for a container, and
//! comes to the same each time. So what it compiled once is kept, and handed to it the next time
//! (its annotation `run.oci.seccomp_bpf_data`). The profile goes along: a version that does not know
//! the annotation compiles that.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use super::runtime::{Dialect, Runtime};

/// A newer library may know calls that are newer; so the filter is compiled anew from time to time.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The kernel takes no more than 4096 instructions of eight bytes.
const MAX: u64 = 8 * 4096;

/// Where a compiled filter is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

impl Kept {
    /// For this profile as `runtime` compiles it; `None` if it cannot be handed one.
    pub(super) fn of(runtime: &Runtime, profile: &Value, cache: &Path) -> Option<Self> {
        if runtime.dialect != Dialect::Crun {
            return None;
        }
        let release = rustix::system::uname();
        let depends = [
            runtime.fingerprint().ok()?,
            release.release().to_string_lossy().into_owned(),
            profile.to_string(),
        ];
        let key = depends.iter().fold(0, |key, part| crc32c::crc32c_append(key, part.as_bytes()));
        Some(Self(cache.join(format!("{KEPT}{key:08x}"))))
    }

    /// What was kept, if that was not long ago and is undamaged.
    pub(super) fn load(&self) -> Option<Vec<u8>> {
        let file = fs::File::open(&self.0).ok()?;
        let age = file.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok()?;
        let mut bytes = Vec::new();
        file.take(MAX + 5).read_to_end(&mut bytes).ok()?;
        let (sum, filter) = bytes.split_first_chunk()?;
        let sound = is_filter(filter) && crc32c::crc32c(filter) == u32::from_le_bytes(*sum);
        (sound && age < FRESH).then(|| filter.to_vec())
    }

    /// Keeps what the runtime left in the open file `compiled`.
    pub(super) fn store(&self, compiled: OwnedFd) -> io::Result<()> {
        let mut filter = Vec::new();
        fs::File::from(compiled).take(MAX + 1).read_to_end(&mut filter)?;
        if !is_filter(&filter) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let directory = self.0.parent().unwrap_or(Path::new("/"));
        super::rootless::private_directory(directory)?;
        let unfinished = self.0.with_extension(std::process::id().to_string());
        // Not synced: a file that a loss of power damages has a wrong sum.
        let sum = crc32c::crc32c(&filter).to_le_bytes();
        fs::write(&unfinished, [&sum, &filter[..]].concat())?;
        fs::rename(&unfinished, &self.0).inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
    }
}

/// What the names of kept filters begin with.
pub(crate) const KEPT: &str = "seccomp-";

/// Whole instructions, and not too many.
fn is_filter(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() as u64 <= MAX && bytes.len().is_multiple_of(8)
}

/// As the annotation has it.
pub(super) fn encoded(filter: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_unless_it_is_damaged_or_old() {
        let temp = tempfile::tempdir().unwrap();
        let kept = Kept(temp.path().join("cache/seccomp-1"));
        let open = |bytes: &[u8]| {
            let path = temp.path().join("compiled");
            fs::write(&path, bytes).unwrap();
            OwnedFd::from(fs::File::open(path).unwrap())
        };
        assert!(kept.load().is_none());
        kept.store(open(&[7; 16])).unwrap();
        assert_eq!(kept.load().unwrap(), [7; 16]);
        assert!(kept.store(open(&[7; 15])).is_err());
        assert!(kept.store(open(&[])).is_err());
        assert!(kept.store(open(&vec![0; MAX as usize + 8])).is_err());
        assert_eq!(kept.load().unwrap(), [7; 16]);

        let mut bytes = fs::read(&kept.0).unwrap();
        bytes[10] ^= 1;
        fs::write(&kept.0, &bytes).unwrap();
        assert!(kept.load().is_none());

        kept.store(open(&[7; 16])).unwrap();
        let old = std::time::SystemTime::now() - FRESH - Duration::from_secs(1);
        fs::File::options().write(true).open(&kept.0).unwrap().set_modified(old).unwrap();
        assert!(kept.load().is_none());
        assert_eq!(fs::read_dir(temp.path().join("cache")).unwrap().count(), 1);
    }
}
