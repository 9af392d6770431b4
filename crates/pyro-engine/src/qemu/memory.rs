//! The memory of frozen machines: sealed, and shared by all that are restored from it.
//!
//! QEMU insists on opening its memory's file for writing, even if it maps it privately. A memfd
//! that is sealed (memfd_create(2), F_SEAL_WRITE) lets it, and nobody can write to it all the same.
//! A memfd has no name, so whoever has one open says so beside the template, and the next one opens
//! it through `/proc/PID/fd`: all machines of a template, whoever runs them, share the pages that
//! they have not written to. When the last one goes, the memory goes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::{Deserialize, Serialize};

use crate::packed;
use crate::process::start_time_of;

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Who has the memory of a template open.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    start_time: u64,
    fd: i32,
    ino: u64,
}

/// New memory, all zeroes.
pub(crate) fn create(mem_mib: u32) -> io::Result<File> {
    let memory: File =
        memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
    memory.set_len(u64::from(mem_mib) << 20)?;
    Ok(memory)
}

/// The same bytes in a memfd that nobody can change any more.
pub(crate) fn sealed(content: &mut impl io::Read) -> io::Result<File> {
    let mut copy: File =
        memfd_create("state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
    io::copy(content, &mut copy)?;
    io::Seek::rewind(&mut copy)?;
    fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}

/// The memory that `fill` makes out of an empty one: that which others use already, else a copy of its
/// own. What is kept in `holder` says who has it; that file is a hint, and whatever it says is checked.
pub(crate) fn attach(
    holder: &Path,
    mem_mib: u32,
    fill: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let memory = match shared(holder, mem_mib) {
        Some(memory) => memory,
        None => {
            let memory: File =
                memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into();
            fill(&memory)?;
            if memory.metadata()?.len() != u64::from(mem_mib) << 20 {
                let why = "it is not of the machine's size";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            fcntl_add_seals(&memory, SEALS)?;
            memory
        }
    };
    // The newest lives longest, most likely. Where this cannot be written, each has a copy.
    let _ = announce(&memory, holder);
    Ok(memory)
}

/// The memory of a template, which is packed in `file`.
pub(crate) fn unpacked(file: &Path, holder: &Path, mem_mib: u32) -> io::Result<File> {
    attach(holder, mem_mib, |memory| packed::unpack(&File::open(file)?, memory))
}

/// The memory of somebody who lives.
fn shared(holder: &Path, mem_mib: u32) -> Option<File> {
    let known: Holder = serde_json::from_slice(&fs::read(holder).ok()?).ok()?;
    let path = format!("/proc/{}/fd/{}", known.pid, known.fd);
    let memory = File::options().read(true).write(true).open(path).ok()?;
    let meta = memory.metadata().ok()?;
    let right = start_time_of(known.pid) == Some(known.start_time)
        && meta.ino() == known.ino
        && meta.len() == u64::from(mem_mib) << 20
        // Only a memfd has seals.
        && fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS));
    right.then_some(memory)
}

fn announce(memory: &File, holder: &Path) -> io::Result<()> {
    let pid = std::process::id();
    let start_time = start_time_of(pid).ok_or(io::ErrorKind::NotFound)?;
    let (fd, ino) = (memory.as_fd().as_raw_fd(), memory.metadata()?.ino());
    let text = serde_json::to_vec(&Holder { pid, start_time, fd, ino })?;
    let new = holder.with_extension(format!("{pid}-{fd}"));
    File::create(&new)?.write_all(&text)?;
    fs::rename(&new, holder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn memory_is_shared_while_somebody_has_it_and_never_written_to() {
        let temp = tempfile::tempdir().unwrap();
        let (file, holder) = (temp.path().join("memory"), temp.path().join("holder.json"));
        let memory = create(2).unwrap();
        memory.write_all_at(b"content", 1 << 20).unwrap();
        packed::pack(&memory, &File::create(&file).unwrap()).unwrap();

        let first = unpacked(&file, &holder, 2).unwrap();
        let second = unpacked(&file, &holder, 2).unwrap();
        let ino = |file: &File| file.metadata().unwrap().ino();
        assert_eq!(ino(&first), ino(&second));
        assert!(second.write_all_at(b"x", 0).is_err() && second.set_len(1).is_err());
        let mut bytes = [0; 7];
        second.read_exact_at(&mut bytes, 1 << 20).unwrap();
        assert_eq!(&bytes, b"content");
        drop(first);
        let third = unpacked(&file, &holder, 2).unwrap();
        assert_eq!(ino(&third), ino(&second), "the second says so too");
        let old = ino(&third);
        drop((second, third));
        // Its number may stand for any file by now.
        let _other = [File::open("/dev/null").unwrap(), create(2).unwrap(), create(2).unwrap()];
        assert_ne!(ino(&unpacked(&file, &holder, 2).unwrap()), old);
        fs::write(&holder, "garbage").unwrap();
        unpacked(&file, &holder, 2).unwrap();
        assert!(unpacked(&file, &temp.path().join("none"), 4).is_err(), "the size is wrong");
    }

    #[test]
    fn a_sealed_copy_begins_at_its_beginning() {
        let mut copy = sealed(&mut &b"state"[..]).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut copy, &mut text).unwrap();
        assert_eq!(text, "state");
        assert!(copy.write_all(b"x").is_err());
    }
}
