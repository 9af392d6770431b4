//! Making what is not here.

use pyro_contract::environment::{Digest, EnvironmentRef};
use pyro_contract::progress::Progress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::shelf::{Object, Shelf};
use super::{
    Environment, IMAGE, ImageDetails, KernelDetails, PACKAGES, Pointer, Store, disk, environment,
    kernel_handle, partial,
};
use crate::boot::{self, BootImage};
use crate::{EnvironmentError, KernelHandle, Result, image, kernel};

const KERNEL: &str = "the guest kernel";

/// `kernels/current.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CurrentKernel {
    pub(super) kernel: Digest,
}

/// What a boot image is made from; the digest of this is its name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BootInputs {
    /// Bumped when the layout of the initramfs changes.
    format: u32,
    pub(super) agent: Digest,
    pub(super) kernel: Digest,
}

/// Whether what is here will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Any,
    New,
}

impl Store {
    /// The environment; made first if it is not here, which takes about a minute and needs the
    /// network. If another process is making it, that one's work is awaited and shared. Damaged
    /// parts are made anew.
    ///
    /// # Errors
    /// [`EnvironmentError::Bootstrap`] if it cannot be had, [`EnvironmentError::MissingProgram`],
    /// [`EnvironmentError::Cancelled`]. Whatever was begun is gone then.
    pub fn pull(&self, reference: &EnvironmentRef, progress: &dyn Progress) -> Result<Environment> {
        // The usual case takes no lock, so that it also works on a read-only store.
        match self.get(reference) {
            Ok(Some(environment)) => return Ok(environment),
            Ok(None) | Err(EnvironmentError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        self.make(reference, Freshness::Any, progress)
    }

    /// Makes the environment and the kernel again from the newest packages, though they are here.
    /// Workspaces go on with what they were made from.
    ///
    /// # Errors
    /// As [`Store::pull`]; what is here then stays.
    pub fn refresh(
        &self,
        reference: &EnvironmentRef,
        progress: &dyn Progress,
    ) -> Result<Environment> {
        self.make(reference, Freshness::New, progress)
    }

    /// The image that boots a machine with this kernel and this agent. Made in a fraction of a
    /// second if it is not here.
    ///
    /// # Errors
    /// If it cannot be written, or the kernel's modules cannot be read.
    pub fn boot_image(&self, kernel: &KernelHandle, agent: &[u8]) -> Result<BootImage> {
        let agent_digest = Digest::from_bytes(Sha256::digest(agent).into());
        let inputs =
            BootInputs { format: boot::FORMAT, agent: agent_digest, kernel: kernel.digest.clone() };
        let key = inputs.digest();
        let silent = &pyro_contract::progress::Silent;
        let object = match self.sound::<BootInputs>(&self.boots, &key, silent)? {
            Some(object) => object,
            None => {
                // Several first creates at once: one writes it, the others find it.
                let _lock = self.locks.wait("the boot image", silent)?;
                match self.sound::<BootInputs>(&self.boots, &key, silent)? {
                    Some(object) => object,
                    None => {
                        let partial = self.boots.begin()?;
                        boot::write(&partial.path(boot::INITRAMFS), agent, &kernel.modules)?;
                        partial.publish(&self.boots, Some(key), inputs, silent)?
                    }
                }
            }
        };
        Ok(BootImage {
            kernel: kernel.vmlinux.clone(),
            initramfs: object.dir.join(boot::INITRAMFS),
            kernel_release: kernel.release.clone(),
            digest: object.digest,
            _holds: [kernel._hold.clone(), object.hold],
        })
    }

    fn make(
        &self,
        reference: &EnvironmentRef,
        freshness: Freshness,
        progress: &dyn Progress,
    ) -> Result<Environment> {
        let _lock = self.locks.wait(reference.as_str(), progress)?;
        for shelf in [&self.images, &self.kernels, &self.boots] {
            // Someone else's remains may not be ours to remove; that is no reason not to go on.
            let _ = partial::sweep(&shelf.dir, &self.locks);
        }
        let pointer = self.pointer(reference)?.filter(|_| freshness == Freshness::Any);
        let (image, kernel) = match &pointer {
            Some(pointer) => (
                self.sound::<ImageDetails>(&self.images, &pointer.image, progress)?,
                self.sound::<KernelDetails>(&self.kernels, &pointer.kernel, progress)?,
            ),
            None => (None, None),
        };
        let kernel = match kernel {
            Some(kernel) => kernel,
            None => self.current_kernel(freshness, progress)?,
        };
        let image = match image {
            Some(image) => image,
            None => self.make_image(reference, progress)?,
        };
        disk::create_dir(&self.pointers())?;
        let pointer = Pointer {
            environment: reference.clone(),
            image: image.digest.clone(),
            kernel: kernel.digest.clone(),
        };
        disk::write_json(&self.pointer_path(reference), &pointer)?;
        Ok(environment(reference.clone(), image, kernel_handle(kernel)))
    }

    /// The object if it is here and sound; a damaged one is removed, and the user told.
    pub(super) fn sound<D: DeserializeOwned>(
        &self,
        shelf: &Shelf,
        digest: &Digest,
        progress: &dyn Progress,
    ) -> Result<Option<Object<D>>> {
        match shelf.open(digest) {
            Err(damaged @ EnvironmentError::Damaged { .. }) => {
                progress.stage(&format!("{damaged}; making it anew"));
                shelf.remove(digest)?;
                Ok(None)
            }
            other => other,
        }
    }

    fn make_image(
        &self,
        reference: &EnvironmentRef,
        progress: &dyn Progress,
    ) -> Result<Object<ImageDetails>> {
        let partial = self.images.begin()?;
        let path = partial.path(IMAGE);
        self.bootstrap.root_filesystem(
            reference,
            &partial.scratch(),
            &mut |archive| image::write(archive, &path, progress),
            progress,
        )?;
        let packages = image::packages(&path)?;
        disk::write_json(&partial.path(PACKAGES), &packages)?;
        let package_count = u32::try_from(packages.len()).unwrap_or(u32::MAX);
        let details = ImageDetails { environment: reference.clone(), package_count };
        partial.publish(&self.images, None, details, progress)
    }

    /// The kernel that all environments share, fetched if need be.
    fn current_kernel(
        &self,
        freshness: Freshness,
        progress: &dyn Progress,
    ) -> Result<Object<KernelDetails>> {
        let _lock = self.locks.wait(KERNEL, progress)?;
        let path = self.current_kernel_path();
        if freshness == Freshness::Any
            && let Some(current) = disk::read_json::<CurrentKernel>(&path)?
            && let Some(kernel) = self.sound(&self.kernels, &current.kernel, progress)?
        {
            return Ok(kernel);
        }
        let partial = self.kernels.begin()?;
        let scratch = partial.path("package");
        disk::create_dir(&scratch)?;
        let mut release = String::new();
        self.bootstrap.kernel(
            &partial.scratch(),
            &mut |archive| {
                release = kernel::install(archive, partial.dir(), &scratch)?;
                Ok(())
            },
            progress,
        )?;
        std::fs::remove_dir_all(&scratch).map_err(EnvironmentError::at("remove", &scratch))?;
        let kernel = partial.publish(&self.kernels, None, KernelDetails { release }, progress)?;
        disk::write_json(&path, &CurrentKernel { kernel: kernel.digest.clone() })?;
        Ok(kernel)
    }

    pub(super) fn current_kernel_path(&self) -> std::path::PathBuf {
        self.kernels.dir.join("current.json")
    }
}

impl BootInputs {
    fn digest(&self) -> Digest {
        let text = format!("{} {} {}", self.format, self.agent, self.kernel);
        Digest::from_bytes(Sha256::digest(text).into())
    }
}
