//! Copying files that are mostly holes: disks and memory images.

use std::fs::File;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::layer::{LayerError, Result};

/// How a file was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Both share their blocks until one is written: nothing was copied.
    Shared,
    /// This many bytes were copied; the rest is holes.
    Bytes(u64),
}

/// Makes `to` the same as `from`: length, content and holes. What was in `to` is lost.
///
/// The filesystem shares the blocks if it can (`FICLONE`: btrfs, xfs); otherwise only what is not
/// a hole is copied. Neither file is synced.
///
/// # Errors
/// [`LayerError::Io`] if a file cannot be read or written, or is not a regular file.
pub fn copy_sparse(from: &File, to: &File) -> Result<Copied> {
    let failed = || LayerError::io("cannot copy a disk");
    to.set_len(0).map_err(failed())?;
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(Copied::Shared);
    }
    let len = from.metadata().map_err(failed())?.len();
    to.set_len(len).map_err(failed())?;
    let mut copied = 0;
    let mut at = 0;
    while at < len {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(failed()(errno.into())),
        };
        let end = seek(from, SeekFrom::Hole(start)).map_err(|errno| failed()(errno.into()))?;
        // A file that grows meanwhile is copied as long as it was.
        let end = end.min(len);
        copied += copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(Copied::Bytes(copied))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<u64> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let left = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), left) {
            // It became shorter; what is missing reads as zeros, as a hole does.
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // Between some filesystems the kernel does not copy by itself.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return copy_by_hand(from, to, read_at, end).map(|more| more + read_at - start);
            }
            Err(errno) => return Err(LayerError::io("cannot copy a disk")(errno.into())),
        }
    }
    Ok(read_at - start)
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let piece = (end - at).min(buffer.len() as u64) as usize;
        let got = from
            .read_at(&mut buffer[..piece], at)
            .map_err(LayerError::io("cannot read a disk to copy it"))?;
        if got == 0 {
            break;
        }
        to.write_all_at(&buffer[..got], at)
            .map_err(LayerError::io("cannot write a disk's copy"))?;
        at += got as u64;
    }
    Ok(at - start)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn temp(directory: &str) -> File {
        tempfile::tempfile_in(directory).unwrap()
    }

    fn check(from: &File, to: &File) {
        to.write_all_at(b"what was here before", 0).unwrap();
        from.write_all_at(b"head", 0).unwrap();
        from.write_all_at(&[7; 10_000], 50 << 20).unwrap();
        from.set_len((100 << 20) + 5).unwrap();
        let copied = copy_sparse(from, to).unwrap();
        assert!(copied == Copied::Shared || matches!(copied, Copied::Bytes(n) if n < 1 << 20));
        let metadata = to.metadata().unwrap();
        assert_eq!(metadata.len(), (100 << 20) + 5);
        assert!(metadata.blocks() * 512 < 1 << 20);
        let mut buffer = [9; 10_002];
        to.read_exact_at(&mut buffer, (50 << 20) - 1).unwrap();
        assert_eq!((buffer[0], buffer[1], buffer[10_000], buffer[10_001]), (0, 7, 7, 0));
        to.read_exact_at(&mut buffer[..20], 0).unwrap();
        assert_eq!(buffer[..20], *b"head\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let here = std::env::temp_dir();
        check(&temp(here.to_str().unwrap()), &temp(here.to_str().unwrap()));
    }

    #[test]
    fn a_copy_between_filesystems_has_the_same_bytes_and_holes() {
        if std::path::Path::new("/dev/shm").is_dir() {
            check(&temp("/dev/shm"), &temp(std::env::temp_dir().to_str().unwrap()));
        } else {
            eprintln!("SKIPPED: there is no second filesystem");
        }
    }

    #[test]
    fn empty_files_are_copied() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        to.set_len(10).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(to.metadata().unwrap().len(), 0);
    }
}
