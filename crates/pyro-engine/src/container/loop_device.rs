//! Files as block devices, for filesystems that are only on such. See loop(4).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// `LOOP_CTL_GET_FREE` and `LOOP_CONFIGURE` of `linux/loop.h`.
const GET_FREE: libc::Ioctl = 0x4C82;
const CONFIGURE: libc::Ioctl = 0x4C0A;

/// `LO_FLAGS_READ_ONLY` and `LO_FLAGS_AUTOCLEAR`: the device lets go of the file with its last user.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// Between asking for a free device and taking it another process may take it.
const ATTEMPTS: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A file as a device. It stays one as long as this lives or something is mounted from it.
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    _open: File,
}

/// Makes a device of `file`.
pub(super) fn attach(file: &File, read_only: bool) -> io::Result<LoopDevice> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::ErrorKind::ResourceBusy.into();
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE has no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(!read_only).open(&path)?;
        // SAFETY: `Config` is plain data, for which all zeroes is a valid value.
        let mut config: Config = unsafe { std::mem::zeroed() };
        config.fd = file.as_raw_fd() as u32;
        config.info.flags = AUTOCLEAR | if read_only { READ_ONLY } else { 0 };
        // SAFETY: the kernel reads one `struct loop_config` from a valid pointer during the call.
        if unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) } == 0 {
            return Ok(LoopDevice { path, _open: device });
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            break;
        }
    }
    Err(last)
}

/// True if nothing else has the file open, so that it is safe to mount it: a filesystem that is
/// still being unmounted somewhere must not be mounted a second time. See F_SETLEASE(2const).
pub(super) fn is_unused(file: &File) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } == 0 {
        // SAFETY: no memory is passed.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        error => Err(error),
    }
}
