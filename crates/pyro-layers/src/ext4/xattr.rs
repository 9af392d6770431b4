//! The one extended attribute that matters: whether a directory is opaque.
//!
//! Read by hand, because names are any bytes, and a strange one elsewhere on the directory must
//! not hide the answer. The format: the kernel's `Documentation/filesystems/ext4/attributes.rst`.

use fs_ext4::inode::Inode;
use fs_ext4::{Error, Filesystem, Result};

const MAGIC: u32 = 0xEA02_0000;
const ENTRY_LEN: usize = 16;
const NAME: &[u8] = b"overlay.opaque";
/// `user.` and `trusted.`: what overlayfs uses with and without a user namespace.
const NAMESPACES: [u8; 2] = [1, 4];
/// Where an inode's fixed first part ends.
const BASE_LEN: usize = 128;
/// Bytes before the entries of an attribute block.
const BLOCK_HEADER_LEN: usize = 32;

/// True if the directory carries the mark.
pub(super) fn is_opaque(filesystem: &Filesystem, inode: &Inode, raw: &[u8]) -> Result<bool> {
    if let Some(area) = in_inode(raw)
        && marked(area, 0)?
    {
        return Ok(true);
    }
    if inode.file_acl == 0 {
        return Ok(false);
    }
    let block = filesystem.read_block(inode.file_acl)?;
    if u32_at(&block, 0) != Some(MAGIC) {
        return Err(Error::Corrupt("an attribute block is none"));
    }
    marked(&block, BLOCK_HEADER_LEN)
}

/// The attributes behind the inode's fields; `None` if there are none.
fn in_inode(raw: &[u8]) -> Option<&[u8]> {
    let extra = usize::from(u16::from_le_bytes([*raw.get(BASE_LEN)?, *raw.get(BASE_LEN + 1)?]));
    let area = raw.get(BASE_LEN + extra..)?;
    (extra != 0 && u32_at(area, 0) == Some(MAGIC)).then(|| &area[4..])
}

/// Goes through entries from `at` on. Values are found from the start of the area.
fn marked(area: &[u8], mut at: usize) -> Result<bool> {
    const ENDLESS: Error = Error::Corrupt("an attribute is larger than its place");
    while u32_at(area, at).is_some_and(|start| start != 0) {
        let entry = area.get(at..at + ENTRY_LEN).ok_or(ENDLESS)?;
        let name_end = at + ENTRY_LEN + usize::from(entry[0]);
        let name = area.get(at + ENTRY_LEN..name_end).ok_or(ENDLESS)?;
        if NAMESPACES.contains(&entry[1]) && name == NAME {
            let start = usize::from(u16::from_le_bytes([entry[2], entry[3]]));
            let in_another_inode = u32_at(entry, 4) != Some(0);
            let len = u32_at(entry, 8).unwrap_or(0) as usize;
            let value = area.get(start..).and_then(|rest| rest.get(..len)).ok_or(ENDLESS)?;
            if !in_another_inode && value == b"y" {
                return Ok(true);
            }
        }
        at = name_end.next_multiple_of(4);
    }
    Ok(false)
}

fn u32_at(raw: &[u8], at: usize) -> Option<u32> {
    let bytes = raw.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
