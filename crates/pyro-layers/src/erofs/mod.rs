//! EROFS images: what environments and baselines are stored as.
//!
//! The kernel mounts these images read-only and shares their pages between machines. Pyro writes
//! a plain subset of the format, so that an image can be built in one pass over its sources: no
//! compression, 64-byte inodes, file data as whole blocks, and the last part of each file packed
//! behind its inode (50,000 small files would otherwise waste 4 KiB each).
//!
//! The format is documented in the kernel tree (`Documentation/filesystems/erofs.rst`,
//! `fs/erofs/erofs_fs.h`). [`ErofsWriter`] writes it, [`ErofsLayer`] reads what the writer wrote.

mod directories;
mod dirents;
mod format;
mod node;
mod reader;
mod space;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use node::{Content, NewNode, ReadSource, Source, Xattr};
pub use reader::ErofsLayer;
pub use writer::{ErofsWriter, ImageStats};
