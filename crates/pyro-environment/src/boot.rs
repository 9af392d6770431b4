//! The boot image: an initramfs with the guest agent as `/init` and the kernel's modules.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cpio::NewcBuilder;
use cpio::newc::{ModeFileType, trailer};
use pyro_contract::environment::Digest;

use crate::store::Hold;
use crate::{EnvironmentError, Result};

/// Bumped when the layout below changes.
pub(crate) const FORMAT: u32 = 1;

/// The file of the initramfs, relative to the boot image's directory.
pub(crate) const INITRAMFS: &str = "initramfs.cpio";

/// What a machine is booted with. It stays in the store while this value lives.
#[derive(Debug, Clone)]
pub struct BootImage {
    /// The kernel, an uncompressed ELF.
    pub kernel: PathBuf,
    /// The initramfs: `/init`, and the modules to load as `/modules/NN-NAME.ko` in order.
    pub initramfs: PathBuf,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel_release: String,
    /// Changes whenever the kernel or the agent does: a key for what depends on both.
    pub digest: Digest,
    pub(crate) _holds: [Hold; 2],
}

/// Mount points, and where the modules are.
const DIRECTORIES: [&str; 8] = ["dev", "mnt", "modules", "proc", "root", "run", "sys", "tmp"];

/// Writes the initramfs, a "newc" archive (`Documentation/driver-api/early-userspace/
/// buffer-format.rst`). It is not compressed: an emulated CPU unpacks slower than it reads.
pub(crate) fn write(path: &Path, agent: &[u8], modules: &[PathBuf]) -> Result<()> {
    let file = File::create(path).map_err(EnvironmentError::at("create", path))?;
    let mut archive = Archive { out: BufWriter::new(file), count: 0 };
    let mut write = || -> io::Result<()> {
        for directory in DIRECTORIES {
            archive.add(directory, ModeFileType::Directory, 0o755, &[])?;
        }
        // The kernel opens it as the agent's standard streams before the agent can mount /dev.
        archive.add("dev/console", ModeFileType::Char, 0o600, &[])?;
        archive.add("init", ModeFileType::Regular, 0o755, agent)?;
        for module in modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let content = fs::read(module)?;
            archive.add(&format!("modules/{name}"), ModeFileType::Regular, 0o644, &content)?;
        }
        trailer(&mut archive.out)?;
        archive.out.flush()
    };
    write().map_err(EnvironmentError::at("write", path))
}

struct Archive {
    out: BufWriter<File>,
    count: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> io::Result<()> {
        // Files with the same number would be taken for links of each other.
        self.count += 1;
        let device = if matches!(kind, ModeFileType::Char) { (5, 1) } else { (0, 0) };
        let size = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut entry = NewcBuilder::new(name)
            .ino(self.count)
            .mode(mode)
            .set_mode_file_type(kind)
            .rdev_major(device.0)
            .rdev_minor(device.1)
            .write(&mut self.out, size);
        entry.write_all(content)?;
        entry.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    struct Member {
        name: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    fn members(path: &Path) -> Vec<Member> {
        let mut rest = File::open(path).unwrap();
        let mut members = Vec::new();
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return members;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            let entry = reader.entry();
            let device = (entry.rdev_major(), entry.rdev_minor());
            members.push(Member {
                name: entry.name().to_owned(),
                mode: entry.mode(),
                device,
                content,
            });
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn the_agent_is_init_and_modules_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let modules: Vec<_> = ["00-virtio.ko", "01-erofs.ko"]
            .iter()
            .map(|name| {
                fs::write(dir.path().join(name), name).unwrap();
                dir.path().join(name)
            })
            .collect();
        let path = dir.path().join(INITRAMFS);
        write(&path, b"agent", &modules).unwrap();
        let members = members(&path);
        let find = |name: &str| members.iter().find(|member| member.name == name).unwrap();
        assert_eq!((find("init").mode, &*find("init").content), (0o100_755, b"agent".as_slice()));
        assert_eq!(find("dev/console").mode, 0o020_600);
        assert_eq!(find("dev/console").device, (5, 1));
        assert_eq!(find("proc").mode, 0o040_755);
        let order: Vec<_> =
            members.iter().filter_map(|member| member.name.strip_prefix("modules/")).collect();
        assert_eq!(order, ["00-virtio.ko", "01-erofs.ko"]);
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("b")];
        for path in &paths {
            write(path, b"agent", &[]).unwrap();
        }
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
    }
}
