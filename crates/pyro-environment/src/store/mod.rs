//! The cache of environments, kernels, boot images and templates in `PYRO_HOME`.
//!
//! ```text
//! environments/v1/debian_12.json   name → digests of image and kernel
//! images/sha256-…/                 image.erofs, packages.json
//! kernels/sha256-…/                vmlinux, modules/NN-NAME.ko
//! kernels/current.json             the kernel that new environments get
//! boot/sha256-…/                   initramfs.cpio, named by the digest of what it is made from
//! templates/sha256-…/              a frozen machine: an engine's own files, named the same way
//! locks/                           files to flock
//! ```
//!
//! Objects (`sha256-…`) carry a `manifest.json` with the hash of each file and a `stamps.json` with
//! what `stat` says of them. Looking at an object compares stamps only; hashing happens when they
//! differ. Whatever is found damaged is made anew; nothing here is precious.

mod disk;
mod lock;
mod manifest;
mod partial;
mod prune;
mod pull;
mod shelf;
mod template;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pyro_contract::environment::{
    Digest, EnvironmentDetails, EnvironmentInfo, EnvironmentRef, Package,
};
use pyro_contract::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Mmdebstrap};
use crate::{EnvironmentError, KernelHandle, Result, kernel, recipe};
use lock::Locks;
use shelf::{Naming, Object, Shelf};

pub(crate) use lock::Hold;
pub use template::{Made, Template, TemplateInputs};

const IMAGE: &str = "image.erofs";
const PACKAGES: &str = "packages.json";

/// An environment in the store, ready to be booted. It stays there while this value lives.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name.
    pub reference: EnvironmentRef,
    /// The digest of its image.
    pub digest: Digest,
    /// The root filesystem, an erofs image.
    pub image: PathBuf,
    /// Length of the image.
    pub size_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many packages are installed in it.
    pub package_count: u32,
    /// The kernel to boot it with.
    pub kernel: KernelHandle,
    _hold: Hold,
}

/// `environments/v1/NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    environment: EnvironmentRef,
    image: Digest,
    kernel: Digest,
}

/// What an image's manifest says beyond its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImageDetails {
    environment: EnvironmentRef,
    package_count: u32,
}

/// What a kernel's manifest says beyond its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KernelDetails {
    release: String,
}

/// The environments of one `PYRO_HOME`. Any number of threads and processes may use the same.
pub struct Store {
    home: PathBuf,
    locks: Locks,
    images: Shelf,
    kernels: Shelf,
    boots: Shelf,
    templates: Shelf,
    bootstrap: Box<dyn Bootstrap>,
}

impl Store {
    /// The store in `home`, which is made if it is not there. Nothing is read yet.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(home: &Path) -> Result<Self> {
        Self::with_bootstrap(home, Box::new(Mmdebstrap))
    }

    fn with_bootstrap(home: &Path, bootstrap: Box<dyn Bootstrap>) -> Result<Self> {
        // Relative paths would change their meaning with the working directory, and machines are
        // started in others.
        let home = std::path::absolute(home).map_err(EnvironmentError::at("find", home))?;
        std::fs::create_dir_all(&home).map_err(EnvironmentError::at("create", &home))?;
        let locks = Locks { dir: home.join("locks") };
        let shelf =
            |kind, dir, naming| Shelf { kind, dir: home.join(dir), naming, locks: locks.clone() };
        Ok(Self {
            images: shelf("image", "images", Naming::Content),
            kernels: shelf("kernel", "kernels", Naming::Content),
            boots: shelf("boot image", "boot", Naming::Inputs),
            templates: shelf("template", "templates", Naming::Inputs),
            locks,
            home,
            bootstrap,
        })
    }

    /// The environment, if it is here. Costs some `stat`s; never the network, and no hashing unless
    /// files were touched.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] if it is here but not what it was; [`Store::pull`] mends it.
    pub fn get(&self, reference: &EnvironmentRef) -> Result<Option<Environment>> {
        let Some(pointer) = self.pointer(reference)? else { return Ok(None) };
        self.pinned(reference, &pointer.image, &pointer.kernel)
    }

    /// The environment exactly as it once was, whatever its name means by now: for a workspace that
    /// was made from it and goes on.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] if it is here but not what it was.
    pub fn pinned(
        &self,
        reference: &EnvironmentRef,
        image: &Digest,
        kernel: &Digest,
    ) -> Result<Option<Environment>> {
        let Some(image) = self.images.open::<ImageDetails>(image)? else { return Ok(None) };
        let Some(kernel) = self.kernels.open::<KernelDetails>(kernel)? else { return Ok(None) };
        Ok(Some(environment(reference.clone(), image, kernel_handle(kernel))))
    }

    /// All environments: those that are here, and those that could be.
    ///
    /// # Errors
    /// If the store cannot be read. A damaged environment counts as one that is not here.
    pub fn list(&self) -> Result<Vec<EnvironmentInfo>> {
        EnvironmentRef::known()
            .map(|reference| match self.get(&reference) {
                Ok(environment) => Ok(info(&reference, environment.as_ref())),
                Err(EnvironmentError::Damaged { .. }) => Ok(info(&reference, None)),
                Err(error) => Err(error),
            })
            .collect()
    }

    /// Everything there is to know of one environment, here or not.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] if it is here but not what it was.
    pub fn inspect(&self, reference: &EnvironmentRef) -> Result<EnvironmentDetails> {
        let environment = self.get(reference)?;
        let info = info(reference, environment.as_ref());
        let packages = match &environment {
            Some(environment) => packages(environment)?,
            None => Vec::new(),
        };
        let shown = |path: &Path| path.display().to_string();
        Ok(EnvironmentDetails {
            info,
            image: environment.as_ref().map(|environment| shown(&environment.image)),
            kernel_digest: environment.as_ref().map(|it| it.kernel.digest.clone()),
            kernel: environment.as_ref().map(|it| shown(&it.kernel.vmlinux)),
            packages,
        })
    }

    /// Hashes everything of an environment again.
    ///
    /// # Errors
    /// [`EnvironmentError::Damaged`] if something is not what it was,
    /// [`EnvironmentError::NotFound`] if the environment is not here.
    pub fn verify(&self, reference: &EnvironmentRef, progress: &dyn Progress) -> Result<()> {
        let absent = || EnvironmentError::NotFound(reference.to_string());
        let pointer = self.pointer(reference)?.ok_or_else(absent)?;
        self.images.verify::<ImageDetails>(&pointer.image, progress)?.ok_or_else(absent)?;
        self.kernels.verify::<KernelDetails>(&pointer.kernel, progress)?.ok_or_else(absent)?;
        Ok(())
    }

    fn pointer(&self, reference: &EnvironmentRef) -> Result<Option<Pointer>> {
        let pointer: Option<Pointer> = disk::read_json(&self.pointer_path(reference))?;
        Ok(pointer.filter(|pointer| pointer.environment == *reference))
    }

    fn pointer_path(&self, reference: &EnvironmentRef) -> PathBuf {
        let file = format!("{}.json", reference.as_str().replace(':', "_"));
        self.pointers().join(file)
    }

    fn pointers(&self) -> PathBuf {
        self.home.join("environments").join(format!("v{}", recipe::FORMAT))
    }
}

fn environment(
    reference: EnvironmentRef,
    image: Object<ImageDetails>,
    kernel: KernelHandle,
) -> Environment {
    Environment {
        reference,
        image: image.dir.join(IMAGE),
        size_bytes: image.manifest.size_bytes(),
        created_at: image.manifest.created_at,
        package_count: image.manifest.details.package_count,
        digest: image.digest,
        kernel,
        _hold: image.hold,
    }
}

fn kernel_handle(kernel: Object<KernelDetails>) -> KernelHandle {
    // The map is ordered, and so are the numbers that begin the modules' names.
    let modules = kernel.manifest.files.keys().filter(|path| path.starts_with(kernel::MODULES));
    KernelHandle {
        vmlinux: kernel.dir.join(kernel::VMLINUX),
        modules: modules.map(|path| kernel.dir.join(path)).collect(),
        release: kernel.manifest.details.release,
        digest: kernel.digest,
        _hold: kernel.hold,
    }
}

fn packages(environment: &Environment) -> Result<Vec<Package>> {
    let path = environment.image.with_file_name(PACKAGES);
    Ok(disk::read_json(&path)?.unwrap_or_default())
}

fn info(reference: &EnvironmentRef, environment: Option<&Environment>) -> EnvironmentInfo {
    EnvironmentInfo {
        name: reference.clone(),
        description: reference.description().to_owned(),
        cached: environment.is_some(),
        digest: environment.map(|it| it.digest.clone()),
        size_bytes: environment.map(|it| it.size_bytes),
        created_at: environment.map(|it| it.created_at),
        kernel_release: environment.map(|it| it.kernel.release.clone()),
        package_count: environment.map(|it| it.package_count),
    }
}

#[cfg(test)]
mod tests;
