//! Taking the ELF kernel out of Debian's `vmlinuz`.
//!
//! Offsets are those of "The Linux/x86 Boot Protocol" (`Documentation/arch/x86/boot.rst`).

use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64};
use object::read::elf::FileHeader;

use super::decompress::decompress;
use crate::{EnvironmentError, Result};

const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The protocol version that brought the two payload fields.
const OLDEST: u16 = 0x0208;

/// The uncompressed ELF kernel inside `vmlinuz`, which QEMU and Firecracker boot directly.
pub(super) fn vmlinux(vmlinuz: &[u8]) -> Result<Vec<u8>> {
    let payload =
        payload(vmlinuz).ok_or_else(|| EnvironmentError::Kernel("it is no bzImage".to_owned()))?;
    let elf = decompress(payload)
        .map_err(|error| EnvironmentError::Kernel(format!("it cannot be unpacked: {error}")))?;
    let header = FileHeader64::<LittleEndian>::parse(elf.as_slice())
        .map_err(|error| EnvironmentError::Kernel(format!("its payload is no ELF: {error}")))?;
    if header.e_machine.get(LittleEndian) != EM_X86_64 {
        return Err(EnvironmentError::Kernel("it is not for x86_64".to_owned()));
    }
    Ok(elf)
}

/// The compressed kernel, or `None` if `image` is not a bzImage.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(MAGIC..)?.get(..4)? != b"HdrS" || u16_at(image, VERSION)? < OLDEST {
        return None;
    }
    // Zero means four, for backwards compatibility; the boot sector itself is not counted.
    let setup_sectors = match image.get(SETUP_SECTS)? {
        0 => 4,
        count => usize::from(*count),
    };
    let start = (setup_sectors + 1) * 512 + u32_at(image, PAYLOAD_OFFSET)?;
    image.get(start..)?.get(..u32_at(image, PAYLOAD_LENGTH)?)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<usize> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize)
}

/// A bzImage around `kernel`, with gzip.
#[cfg(test)]
pub(super) fn wrap(kernel: &[u8]) -> Vec<u8> {
    use std::io::Write;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(kernel).unwrap();
    let payload = gzip.finish().unwrap();
    let mut image = vec![0; 2 * 512 + 16];
    image[SETUP_SECTS] = 1;
    image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
    image[VERSION..VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
    let length = u32::try_from(payload.len()).unwrap();
    image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
    image.extend(payload);
    image
}

/// The smallest thing that passes for an x86_64 ELF.
#[cfg(test)]
pub(super) fn tiny_elf() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[18] = 62;
    elf[20] = 1;
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_found_and_unpacked() {
        assert_eq!(vmlinux(&wrap(&tiny_elf())).unwrap(), tiny_elf());
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let mut arm = tiny_elf();
        arm[18] = 183;
        for (image, why) in [
            (Vec::new(), "no bzImage"),
            (vec![0; 4096], "no bzImage"),
            (wrap(b"\x7fELF but not really"), "no ELF"),
            (wrap(b"plain text"), "no ELF"),
            (wrap(&arm), "x86_64"),
            (wrap(&tiny_elf())[..1060].to_vec(), "no bzImage"),
        ] {
            let error = vmlinux(&image).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
