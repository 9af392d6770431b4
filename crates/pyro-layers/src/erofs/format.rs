//! The on-disk structures, as bytes. All numbers are little-endian.

use pyro_contract::diff::FileKind;

/// Bytes of a block; the kernel asks for at most the page size.
pub(super) const BLOCK: u64 = 4096;
/// [`BLOCK`] where a length in memory is meant.
pub(super) const BLOCK_LEN: usize = 4096;
/// Where the superblock starts; what lies before is left to boot loaders.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Bytes of the superblock.
pub(super) const SUPERBLOCK_LEN: usize = 128;
/// Bytes of an extended inode.
pub(super) const INODE_LEN: usize = 64;
/// A node number is an inode's offset in units of this many bytes.
pub(super) const NID_UNIT: u64 = 32;
/// Where an inode holds its link count, known only once all names are.
pub(super) const NLINK_AT: u64 = 44;
/// The longest name.
pub(super) const NAME_MAX: usize = 255;

const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;

/// What pyro puts into a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
}

impl Superblock {
    /// The bytes, without the checksum, which covers the rest of the block as well.
    pub(super) fn encode(self) -> [u8; SUPERBLOCK_LEN] {
        let mut raw = [0; SUPERBLOCK_LEN];
        put(&mut raw, 0, &MAGIC.to_le_bytes());
        put(&mut raw, 8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        raw[12] = BLOCK.trailing_zeros() as u8;
        put(&mut raw, 14, &self.root_nid.to_le_bytes());
        put(&mut raw, 16, &self.inodes.to_le_bytes());
        put(&mut raw, 36, &self.blocks.to_le_bytes());
        raw
    }

    /// Reads the block that holds the superblock; says what is wrong with it otherwise.
    pub(super) fn decode(first_block: &[u8; BLOCK_LEN]) -> Result<Self, &'static str> {
        let raw = &first_block[SUPERBLOCK_AT as usize..];
        if u32_at(raw, 0) != MAGIC {
            return Err("it is not an erofs image");
        }
        if raw[12] != BLOCK.trailing_zeros() as u8 || u32_at(raw, 80) != 0 || u32_at(raw, 40) != 0 {
            return Err("it uses features of erofs that pyro does not write");
        }
        if u32_at(raw, 4) != checksum(first_block) {
            return Err("the checksum of its superblock is wrong");
        }
        Ok(Self { root_nid: u16_at(raw, 14), inodes: u64_at(raw, 16), blocks: u32_at(raw, 36) })
    }
}

/// Writes the superblock's checksum into the image's first block.
pub(super) fn seal(first_block: &mut [u8; BLOCK_LEN]) {
    let sum = checksum(first_block);
    put(first_block, SUPERBLOCK_AT as usize + 4, &sum.to_le_bytes());
}

/// CRC-32C of the first block from the superblock on, its own field taken as zero. The kernel
/// leaves out the final inversion that the usual definition has.
fn checksum(first_block: &[u8; BLOCK_LEN]) -> u32 {
    let raw = &first_block[SUPERBLOCK_AT as usize..];
    let sum = crc32c::crc32c(&raw[..4]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    !crc32c::crc32c_append(sum, &raw[8..])
}

/// Where an inode's data lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// All of it in consecutive blocks.
    Plain,
    /// The last, partial block behind the inode and its attributes, the rest in consecutive blocks.
    Inline,
}

/// An inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) layout: DataLayout,
    pub(super) kind: FileKind,
    /// Permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) size: u64,
    /// First data block, or the device number of a device.
    pub(super) start: u32,
    pub(super) number: u32,
    pub(super) links: u32,
    /// Bytes of extended attributes that follow, header included.
    pub(super) xattr_len: usize,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; INODE_LEN] {
        let layout = match self.layout {
            DataLayout::Plain => 0,
            DataLayout::Inline => 2,
        };
        let mut raw = [0; INODE_LEN];
        put(&mut raw, 0, &(1u16 | layout << 1).to_le_bytes());
        put(&mut raw, 2, &xattr_count(self.xattr_len).to_le_bytes());
        put(&mut raw, 4, &(type_bits(self.kind) | self.mode & 0o7777).to_le_bytes());
        put(&mut raw, 8, &self.size.to_le_bytes());
        put(&mut raw, 16, &self.start.to_le_bytes());
        put(&mut raw, 20, &self.number.to_le_bytes());
        put(&mut raw, 24, &self.uid.to_le_bytes());
        put(&mut raw, 28, &self.gid.to_le_bytes());
        put(&mut raw, 32, &self.mtime.to_le_bytes());
        put(&mut raw, NLINK_AT as usize, &self.links.to_le_bytes());
        raw
    }

    /// `None` if these bytes are not an inode that pyro writes.
    pub(super) fn decode(raw: &[u8; INODE_LEN]) -> Option<Self> {
        let layout = match u16_at(raw, 0) {
            1 => DataLayout::Plain,
            5 => DataLayout::Inline,
            _ => return None,
        };
        let mode = u16_at(raw, 4);
        let xattr_len = match usize::from(u16_at(raw, 2)) {
            0 => 0,
            count => XATTR_HEADER_LEN + (count - 1) * 4,
        };
        Some(Self {
            layout,
            kind: kind_of(mode)?,
            mode: mode & 0o7777,
            uid: u32_at(raw, 24),
            gid: u32_at(raw, 28),
            mtime: u64_at(raw, 32) as i64,
            size: u64_at(raw, 8),
            start: u32_at(raw, 16),
            number: u32_at(raw, 20),
            links: u32_at(raw, NLINK_AT as usize),
            xattr_len,
        })
    }
}

/// Bytes of the header before inline attributes.
pub(super) const XATTR_HEADER_LEN: usize = 12;
/// The most bytes of attributes that an inode's 16-bit count can express.
pub(super) const XATTR_MAX: usize = XATTR_HEADER_LEN + 4 * (u16::MAX as usize - 1);

/// The inode counts the header as one, and then every four bytes.
fn xattr_count(len: usize) -> u16 {
    match len {
        0 => 0,
        len => ((len - XATTR_HEADER_LEN) / 4 + 1) as u16,
    }
}

/// The type as it stands in a directory entry.
pub(super) fn dirent_type(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => 1,
        FileKind::Directory => 2,
        FileKind::CharDevice => 3,
        FileKind::BlockDevice => 4,
        FileKind::Fifo => 5,
        FileKind::Socket => 6,
        FileKind::Symlink => 7,
    }
}

fn type_bits(kind: FileKind) -> u16 {
    match kind {
        FileKind::File => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::CharDevice => 0o020_000,
        FileKind::BlockDevice => 0o060_000,
        FileKind::Fifo => 0o010_000,
        FileKind::Socket => 0o140_000,
        FileKind::Symlink => 0o120_000,
    }
}

fn kind_of(mode: u16) -> Option<FileKind> {
    Some(match mode & 0o170_000 {
        0o100_000 => FileKind::File,
        0o040_000 => FileKind::Directory,
        0o020_000 => FileKind::CharDevice,
        0o060_000 => FileKind::BlockDevice,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        0o120_000 => FileKind::Symlink,
        _ => return None,
    })
}

/// The kernel's 32-bit form of a device number; `None` if the numbers do not fit it.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The inverse of [`encode_device`].
pub(super) fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00))
}

fn put(raw: &mut [u8], at: usize, bytes: &[u8]) {
    raw[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

pub(super) fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

pub(super) fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from(u32_at(raw, at)) | u64::from(u32_at(raw, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_encoding() {
        for pair in [(0, 0), (1, 3), (8, 1), (4095, 1_048_575), (259, 70_000)] {
            assert_eq!(decode_device(encode_device(pair.0, pair.1).unwrap()), pair);
        }
        assert_eq!(encode_device(4096, 0), None);
    }
}
