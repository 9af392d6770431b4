//! What is given to the writer: attributes and content of one file.

use std::io::Read;

use super::format::{XATTR_HEADER_LEN, XATTR_MAX};
use crate::layer::{LayerError, Result};

/// Attributes of a file to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification, seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl NewNode {
    /// A node of root's, without extended attributes.
    #[must_use]
    pub fn of_root(mode: u16, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }
}

/// What a file to be added holds.
pub enum Content<'a> {
    /// A directory; added again, it keeps what is in it.
    Directory,
    /// A regular file of exactly `size` bytes.
    File {
        /// Bytes of content.
        size: u64,
        /// Where they come from.
        source: &'a mut dyn Source,
    },
    /// A symbolic link with this target.
    Symlink(&'a [u8]),
    /// A character device `(major, minor)`.
    CharDevice(u32, u32),
    /// A block device `(major, minor)`.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Where the bytes of a regular file come from, in order.
pub trait Source {
    /// Fills the buffer from its start and returns how much; 0 only at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// Steps over bytes that are known to be zero without reading them: at most `limit`, in whole
    /// blocks of 4096. Returns how many.
    fn skip_hole(&mut self, _limit: u64) -> Result<u64> {
        Ok(0)
    }
}

/// A [`Source`] over anything that can be read.
pub struct ReadSource<R>(pub R);

impl<R: Read> Source for ReadSource<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.map_err(LayerError::io("cannot read a file's content")),
            }
        }
    }
}

/// An extended attribute in a namespace that erofs can express.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    namespace: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The kernel's numbers for what a name starts with. The two access control lists are whole
/// names: nothing follows.
const NAMESPACES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

impl Xattr {
    /// `None` if erofs cannot hold it: another namespace, or a name over 255 or a value over
    /// 65,535 bytes.
    #[must_use]
    pub fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let (rest, namespace) =
            NAMESPACES.iter().find_map(|(start, n)| Some((name.strip_prefix(*start)?, *n)))?;
        let whole_name = matches!(namespace, 2 | 3);
        let fits = rest.len() <= 255 && value.len() <= usize::from(u16::MAX);
        (rest.is_empty() == whole_name && fits).then(|| Self {
            namespace,
            name: rest.to_vec(),
            value: value.to_vec(),
        })
    }
}

/// The attributes as they follow an inode: a header, then every entry padded to four bytes.
pub(super) fn encode_xattrs(xattrs: &[Xattr]) -> Result<Vec<u8>> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut raw = vec![0; XATTR_HEADER_LEN];
    for xattr in xattrs {
        raw.extend([xattr.name.len() as u8, xattr.namespace]);
        raw.extend((xattr.value.len() as u16).to_le_bytes());
        raw.extend(&xattr.name);
        raw.extend(&xattr.value);
        raw.resize(raw.len().next_multiple_of(4), 0);
    }
    if raw.len() > XATTR_MAX {
        return Err(LayerError::TooLarge(
            "a file's extended attributes are larger than an image can hold".to_owned(),
        ));
    }
    Ok(raw)
}

/// The value of one attribute among those that follow an inode; `None` also if they are damaged.
pub(super) fn find_xattr<'a>(raw: &'a [u8], wanted: &Xattr) -> Option<&'a [u8]> {
    let shared = usize::from(*raw.get(4)?);
    let mut rest = raw.get(XATTR_HEADER_LEN + 4 * shared..)?;
    while let [name_len, namespace, low, high, ..] = *rest {
        let name_end = 4 + usize::from(name_len);
        let end = name_end + usize::from(u16::from_le_bytes([low, high]));
        if namespace == wanted.namespace && rest.get(4..name_end)? == wanted.name {
            return rest.get(name_end..end);
        }
        rest = rest.get(end.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let some = [
            Xattr::new(b"user.a", b"1").unwrap(),
            Xattr::new(b"security.capability", &[7; 20]).unwrap(),
            Xattr::new(b"trusted.overlay.opaque", b"y").unwrap(),
        ];
        let raw = encode_xattrs(&some).unwrap();
        assert_eq!(find_xattr(&raw, &some[0]), Some(&b"1"[..]));
        assert_eq!(find_xattr(&raw, &some[1]), Some(&[7; 20][..]));
        assert_eq!(find_xattr(&raw, &some[2]), Some(&b"y"[..]));
        assert_eq!(find_xattr(&raw, &Xattr::new(b"user.b", b"").unwrap()), None);
        assert_eq!(find_xattr(b"", &some[0]), None);
    }

    #[test]
    fn attributes_of_unknown_namespaces_are_refused() {
        assert_eq!(Xattr::new(b"system.nfs4_acl", b""), None);
        assert_eq!(Xattr::new(b"user.", b""), None);
        assert!(Xattr::new(b"system.posix_acl_access", b"x").is_some());
    }
}
