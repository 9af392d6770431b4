//! The disk of a stopped workspace, without starting it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diff::FileKind;
use crate::exact;
use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// How many entries a listing has, unless the request says otherwise.
pub const MAX_ENTRIES: u32 = 10_000;

/// How much of a file is read at once, unless the request says otherwise: 1 MiB.
pub const MAX_READ_BYTES: u32 = 1 << 20;

/// Lists a directory of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskListRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which directory, absolute or relative to `/workspace`.
    #[serde(flatten)]
    pub path: BytePath,
    /// Also what is in the directories below it.
    #[serde(default)]
    pub recursive: bool,
    /// The most entries to give.
    #[serde(default = "max_entries")]
    pub max_entries: u32,
}

fn max_entries() -> u32 {
    MAX_ENTRIES
}

/// What lies in a directory, a file if the path names one, ordered by path bytes within each
/// directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskListing {
    /// The entries, each directory before what is in it.
    pub entries: Vec<DiskEntry>,
    /// True if there are more than were asked for.
    pub truncated: bool,
}

/// One thing on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskEntry {
    /// Its absolute path.
    #[serde(flatten)]
    pub path: BytePath,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// Bytes of content; 0 for anything but a regular file.
    pub size: u64,
    /// Owner, as the machine numbers its users.
    pub uid: u32,
    /// Group, likewise.
    pub gid: u32,
    /// When it was last written.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BytePath>,
}

/// Reads a file of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskReadRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which file, absolute or relative to `/workspace`.
    #[serde(flatten)]
    pub path: BytePath,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub offset: u64,
    /// The most bytes to give.
    #[serde(default = "max_bytes")]
    pub max_bytes: u32,
}

fn max_bytes() -> u32 {
    MAX_READ_BYTES
}

/// Part of a file of a disk, or all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskFile {
    /// What is known of it.
    #[serde(flatten)]
    pub entry: DiskEntry,
    /// Its bytes from the offset on, as text; what is not UTF-8 is replaced.
    pub content: String,
    /// The exact bytes, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Where the next read begins, unless this one came to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
}

impl DiskFile {
    /// The bytes that were read, followed by `next_offset` if the file goes on.
    #[must_use]
    pub fn new(entry: DiskEntry, bytes: Vec<u8>, next_offset: Option<u64>) -> Self {
        let (content, content_base64) = exact::split(bytes);
        Self { entry, content, content_base64, next_offset }
    }

    /// The exact bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        exact::join(self.content.clone(), self.content_base64.as_deref())
    }
}

/// Writes the disk of a machine as an image that other machines can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskExportRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Where to put the image on the host.
    pub output: String,
    /// Replace what stands there.
    #[serde(default)]
    pub force: bool,
}

/// An image that was written: a raw ext4 filesystem, the root of the whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskImage {
    /// Where it is.
    pub output: String,
    /// How long it is. It is sparse.
    pub bytes: u64,
    /// What it takes on the host.
    pub disk_bytes: u64,
    /// Regular files, links and fifos in it.
    pub files: u64,
    /// Directories in it.
    pub directories: u64,
    /// What could not be carried: sockets and devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<BytePath>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_bytes_survive_the_result() {
        let entry = DiskEntry {
            path: BytePath::new(&b"/x"[..]),
            kind: FileKind::File,
            mode: 0o644,
            size: 3,
            uid: 0,
            gid: 0,
            modified_at: Timestamp::UNIX_EPOCH,
            target: None,
        };
        for bytes in [&b"plain"[..], "ü".as_bytes(), b"\xff\0\xfe", b""] {
            let file = DiskFile::new(entry.clone(), bytes.to_vec(), None);
            let json = serde_json::to_string(&file).unwrap();
            let back: DiskFile = serde_json::from_str(&json).unwrap();
            assert_eq!((&back, back.bytes()), (&file, bytes.to_vec()));
        }
    }
}
