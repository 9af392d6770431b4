//! Paths within a tree.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use tonic::Status;

/// As long as a path may be, see path_resolution(7).
const LONGEST: usize = 4095;

/// One or more names that are neither empty nor `.` nor `..`. Ordered so that whatever is in a
/// directory follows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TreePath(Box<[u8]>);

impl TreePath {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        if bytes.len() > LONGEST || !bytes.split(|byte| *byte == b'/').all(plain) {
            return Err(Status::invalid_argument(format!(
                "{:?} is no path within a tree",
                String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)])
            )));
        }
        Ok(Self(bytes.into()))
    }

    /// `prefix` is empty or such a path itself.
    pub(super) fn below(prefix: &[u8], bytes: &[u8]) -> Result<Self, Status> {
        let inner = Self::parse(bytes)?;
        if prefix.is_empty() {
            return Ok(inner);
        }
        Self::parse(&[prefix, b"/", &inner.0].concat())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn os(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The directory that it is in, unless that is the top.
    pub(super) fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// The last name.
    pub(super) fn name(&self) -> &OsStr {
        let from = self.0.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        OsStr::from_bytes(&self.0[from..])
    }

    /// Itself and all directories that it is in, the nearest first.
    pub(super) fn and_above(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let slash = |byte: &u8| *byte == b'/';
        self.0.split(slash).cmp(other.0.split(slash))
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
