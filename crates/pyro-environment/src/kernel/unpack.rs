//! Reading the kernel package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::decompress::decompress;
use super::modules::{canonical, parse_builtin};
use crate::{EnvironmentError, Result};

/// What the package holds that matters here.
pub(super) struct Package {
    /// The release, as `uname -r` prints it.
    pub(super) release: String,
    /// The kernel, a bzImage.
    pub(super) vmlinuz: Vec<u8>,
    /// Names of modules that are part of the kernel.
    pub(super) builtin: BTreeSet<String>,
    /// The other modules by name, as the package has them: perhaps compressed.
    modules: BTreeMap<String, PathBuf>,
}

impl Package {
    /// A module, uncompressed, if the kernel has it.
    pub(super) fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.modules.get(name) else { return Ok(None) };
        let bytes = fs::read(path).map_err(EnvironmentError::at("read", path))?;
        decompress(&bytes).map(Some).map_err(|error| {
            EnvironmentError::Kernel(format!("its module {name} cannot be unpacked: {error}"))
        })
    }
}

/// Reads an archive in which the kernel package is unpacked among others. Which modules matter is
/// known only after their dependencies are, so all of them go to `scratch`, about 60 MB.
pub(super) fn unpack(archive: &mut dyn Read, scratch: &Path) -> Result<Package> {
    let attempt = || EnvironmentError::io("cannot unpack the guest kernel");
    let mut kernels = BTreeMap::new();
    let mut builtin = BTreeSet::new();
    let mut modules = BTreeMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(attempt())? {
        let mut entry = entry.map_err(attempt())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(attempt())?.to_string_lossy().into_owned();
        let file = path.rsplit('/').next().unwrap_or_default();
        if let Some(release) = file.strip_prefix("vmlinuz-") {
            let mut vmlinuz = Vec::new();
            entry.read_to_end(&mut vmlinuz).map_err(attempt())?;
            kernels.insert(release.to_owned(), vmlinuz);
        } else if file == "modules.builtin" {
            let mut list = String::new();
            entry.read_to_string(&mut list).map_err(attempt())?;
            builtin = parse_builtin(&list);
        } else if let Some(name) = module_name(&path) {
            let path = scratch.join(format!("{name}.ko"));
            let mut out = File::create(&path).map_err(EnvironmentError::at("create", &path))?;
            io::copy(&mut entry, &mut out).map_err(EnvironmentError::at("write", &path))?;
            modules.insert(name, path);
        }
    }
    let (Some((release, vmlinuz)), true) = (kernels.pop_first(), kernels.is_empty()) else {
        return Err(EnvironmentError::Kernel("the package does not hold exactly one".to_owned()));
    };
    Ok(Package { release, vmlinuz, builtin, modules })
}

/// The name of the module that a path of the archive holds.
fn module_name(path: &str) -> Option<String> {
    let (_, below) = path.split_once("lib/modules/")?;
    let file = below.rsplit('/').next()?;
    let name = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))?;
    Some(canonical(name))
}

/// An archive that passes for the kernel package: a tiny ELF for a kernel, everything built in but
/// what `modules` lists, each with its `depends`.
#[cfg(test)]
pub(crate) fn fake_package(release: &str) -> Vec<u8> {
    let builtin = "virtio_pci virtio_mmio virtio_net virtio_blk virtio_console erofs overlay ext4";
    let builtin: String = builtin.split(' ').map(|name| format!("kernel/x/{name}.ko\n")).collect();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [
        (format!("boot/vmlinuz-{release}"), super::bzimage::wrap(&super::bzimage::tiny_elf())),
        (format!("lib/modules/{release}/modules.builtin"), builtin.into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_by_their_path_whatever_they_are_compressed_with() {
        for (path, name) in [
            ("./lib/modules/6.1/kernel/fs/erofs/erofs.ko", Some("erofs")),
            ("usr/lib/modules/6.12/kernel/drivers/virtio-rng.ko.xz", Some("virtio_rng")),
            ("lib/modules/6.1/modules.order", None),
            ("usr/share/erofs.ko", None),
        ] {
            assert_eq!(module_name(path).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn a_package_without_a_kernel_or_with_two_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let mut empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
        empty.resize(1024, 0);
        assert!(unpack(&mut empty.as_slice(), scratch.path()).is_err());
        // The first archive's two blocks of end marker are cut off to join them.
        let first = fake_package("6.1.0-1");
        let joined = [&first[..first.len() - 1024], &fake_package("6.1.0-2")].concat();
        assert!(unpack(&mut joined.as_slice(), scratch.path()).is_err());
        let package = unpack(&mut first.as_slice(), scratch.path()).unwrap();
        assert_eq!(package.release, "6.1.0-1");
    }
}
