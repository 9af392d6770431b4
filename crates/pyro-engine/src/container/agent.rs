//! The agent's program, out of the boot image that virtual machines start from.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

/// A header of the "newc" format (`Documentation/driver-api/early-userspace/buffer-format.rst`).
const HEADER: usize = 110;

/// No program is larger, and no name longer.
const PROGRAM_MAX: u64 = 64 << 20;
const NAME_MAX: usize = 4096;

/// A copy of `/init` in memory.
pub(super) fn copy(initramfs: &Path) -> io::Result<OwnedFd> {
    let mut archive = BufReader::with_capacity(1 << 16, File::open(initramfs)?);
    let mut copy: File = memfd_create("agent", MemfdFlags::CLOEXEC)?.into();
    let length = find(&mut archive, b"init")?;
    if io::copy(&mut archive.take(length), &mut copy)? != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    copy.flush()?;
    Ok(copy.into())
}

/// Skips to the content of the file `wanted`; its length.
fn find(archive: &mut impl Read, wanted: &[u8]) -> io::Result<u64> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "it is no boot image");
    loop {
        let mut header = [0; HEADER];
        archive.read_exact(&mut header)?;
        // Fields of eight hexadecimal digits behind the magic: the 7th is the size of the content,
        // the 12th that of the name with its NUL.
        let field = |number: usize| {
            let at = 6 + (number - 1) * 8;
            let digits = std::str::from_utf8(&header[at..at + 8]).ok();
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(odd)
        };
        let (size, name_size) = (field(7)?, field(12)? as usize);
        if &header[..6] != b"070701" || name_size > NAME_MAX || size > PROGRAM_MAX {
            return Err(odd());
        }
        let mut name = vec![0; padded(HEADER + name_size) - HEADER];
        archive.read_exact(&mut name)?;
        name.truncate(name_size.saturating_sub(1));
        if name == wanted {
            return Ok(size);
        }
        if name == b"TRAILER!!!" {
            return Err(odd());
        }
        let skipped = padded(size as usize) as u64;
        io::copy(&mut archive.take(skipped), &mut io::sink())?;
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut fields = [0; 13];
        (fields[6], fields[11]) = (content.len(), name.len() + 1);
        let mut bytes = b"070701".to_vec();
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(padded(bytes.len()), 0);
        bytes.extend(content);
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    #[test]
    fn the_program_is_found_between_others() {
        let parts =
            [member("dev", b""), member("a", b"12345"), member("init", b"agent"), member("z", b"")];
        let archive = parts.concat();
        let mut rest = &archive[..];
        assert_eq!(find(&mut rest, b"init").unwrap(), 5);
        assert!(rest.starts_with(b"agent"));
        assert!(find(&mut &member("TRAILER!!!", b"")[..], b"init").is_err());
        assert!(find(&mut &b"garbage"[..], b"init").is_err());
        assert!(find(&mut &[b'0'; 200][..], b"init").is_err());
    }
}
