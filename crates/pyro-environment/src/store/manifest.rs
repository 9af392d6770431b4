//! What an object in the store consists of, and how to see whether it still does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use jiff::Timestamp;
use pyro_contract::environment::Digest;
use pyro_contract::progress::{Progress, Report, Unit};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{EnvironmentError, Result};

/// `manifest.json`: written once, before the object is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest<D> {
    /// When the object was made.
    pub(super) created_at: Timestamp,
    /// What is particular to this kind of object.
    pub(super) details: D,
    /// Every file of the object but the manifest and the stamps, by relative path.
    pub(super) files: BTreeMap<String, FileRecord>,
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    pub(super) size: u64,
    pub(super) sha256: Digest,
}

impl<D> Manifest<D> {
    /// The digest of all files together: of the text that `sha256sum` would print of them, ordered
    /// by path. Anyone can check it with standard tools.
    pub(super) fn content_digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (path, record) in &self.files {
            hasher.update(format!("{}  {path}\n", record.sha256.hex()));
        }
        Digest::from_bytes(hasher.finalize().into())
    }

    /// Bytes of all files.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.values().map(|record| record.size).sum()
    }

    /// Whether every path stays inside of the object's directory. A manifest is our own, but a
    /// garbled one must not lead elsewhere.
    pub(super) fn is_sane(&self) -> bool {
        self.files.keys().all(|path| {
            !path.is_empty()
                && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        })
    }
}

/// What the filesystem says of a file that nobody has touched. A change of content changes at
/// least the ctime, which no program can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    ino: u64,
}

/// `stamps.json`: the stamps of all files at the time when their hashes were last known to be right.
pub(super) type Stamps = BTreeMap<String, Stamp>;

/// The stamps of `files` in `dir` now; `None` if one is missing.
pub(super) fn stamps<'a>(
    dir: &Path,
    files: impl IntoIterator<Item = &'a String>,
) -> Result<Option<Stamps>> {
    let mut stamps = Stamps::new();
    for file in files {
        let path = dir.join(file);
        match fs::symlink_metadata(&path) {
            Ok(meta) => {
                let stamp = Stamp {
                    size: meta.size(),
                    mtime: (meta.mtime(), meta.mtime_nsec()),
                    ctime: (meta.ctime(), meta.ctime_nsec()),
                    ino: meta.ino(),
                };
                stamps.insert(file.clone(), stamp);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EnvironmentError::at("look at", &path)(error)),
        }
    }
    Ok(Some(stamps))
}

/// Reads a whole file and says what it is.
pub(super) fn hash(path: &Path, stage: &str, progress: &dyn Progress) -> Result<FileRecord> {
    let mut file = File::open(path).map_err(EnvironmentError::at("open", path))?;
    let total = file.metadata().map_err(EnvironmentError::at("look at", path))?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        if progress.cancelled() {
            return Err(EnvironmentError::Cancelled);
        }
        let count = file.read(&mut buffer).map_err(EnvironmentError::at("read", path))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
        progress.report(Report {
            stage: stage.to_owned(),
            done: size,
            total: Some(total),
            unit: Unit::Bytes,
        });
    }
    Ok(FileRecord { size, sha256: Digest::from_bytes(hasher.finalize().into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::progress::Silent;

    #[test]
    fn the_digest_is_that_of_sha256sums_output() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        let record = hash(&dir.path().join("a"), "", &Silent).unwrap();
        let manifest = Manifest {
            created_at: Timestamp::UNIX_EPOCH,
            details: (),
            files: BTreeMap::from([("a".to_owned(), record)]),
        };
        // $ printf x > a; sha256sum a | sha256sum
        assert_eq!(
            manifest.content_digest().hex(),
            "4a4b874a1e9776a52e38fd82a053825f309f46187a803a0fc0c6670c6670e768"
        );
        // $ sha256sum a
        assert_eq!(
            manifest.files["a"].sha256.hex(),
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
    }

    #[test]
    fn a_manifest_that_points_elsewhere_is_not_sane() {
        let record = FileRecord { size: 0, sha256: Digest::from_bytes([0; 32]) };
        for (path, sane) in [("a/b", true), ("../a", false), ("/a", false), ("", false)] {
            let manifest = Manifest {
                created_at: Timestamp::UNIX_EPOCH,
                details: (),
                files: BTreeMap::from([(path.to_owned(), record.clone())]),
            };
            assert_eq!(manifest.is_sane(), sane, "{path}");
        }
    }
}
