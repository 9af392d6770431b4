//! The guest kernel: a bootable ELF and the modules that a machine loads from its initramfs.

mod bzimage;
mod decompress;
mod modules;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};

use pyro_contract::environment::Digest;

use crate::store::Hold;
use crate::{EnvironmentError, Result};

#[cfg(test)]
pub(crate) use unpack::fake_package;

/// The file of the kernel itself, relative to its directory.
pub(crate) const VMLINUX: &str = "vmlinux";
/// The directory of modules, relative to the kernel's.
pub(crate) const MODULES: &str = "modules";

/// A guest kernel in the store. It stays there while this value lives.
#[derive(Debug, Clone)]
pub struct KernelHandle {
    /// The kernel, an uncompressed x86_64 ELF with a PVH entry.
    pub vmlinux: PathBuf,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The digest of kernel and modules together.
    pub digest: Digest,
    /// The modules, uncompressed, in load order.
    pub modules: Vec<PathBuf>,
    pub(crate) _hold: Hold,
}

/// Takes kernel and modules out of a tar archive of the kernel package and lays them out in
/// `target`; `scratch` is an empty directory. Returns the release.
pub(crate) fn install(
    archive: &mut dyn std::io::Read,
    target: &Path,
    scratch: &Path,
) -> Result<String> {
    let package = unpack::unpack(archive, scratch)?;
    let vmlinux = target.join(VMLINUX);
    fs::write(&vmlinux, bzimage::vmlinux(&package.vmlinuz)?)
        .map_err(EnvironmentError::at("write", &vmlinux))?;
    // Nothing reads this file, but through it the digest tells two releases apart.
    let release = target.join("release");
    fs::write(&release, &package.release).map_err(EnvironmentError::at("write", &release))?;
    let directory = target.join(MODULES);
    fs::create_dir(&directory).map_err(EnvironmentError::at("create", &directory))?;
    let order = modules::load_order(&package.builtin, &mut |name| {
        let Some(module) = package.module(name)? else { return Ok(None) };
        modules::dependencies(&module).map(Some).ok_or_else(|| {
            EnvironmentError::Kernel(format!("its module {name} does not say what it needs"))
        })
    })?;
    for (number, name) in order.iter().enumerate() {
        let Some(module) = package.module(name)? else { continue };
        let path = directory.join(format!("{number:02}-{name}.ko"));
        fs::write(&path, module).map_err(EnvironmentError::at("write", &path))?;
    }
    Ok(package.release)
}
