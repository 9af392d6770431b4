//! Giving disk space back.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use pyro_contract::environment::{Digest, EnvironmentRef, PruneReport};
use pyro_contract::progress::Progress;

use super::pull::{BootInputs, CurrentKernel};
use super::shelf::{MANIFEST, Shelf};
use super::{Store, disk, manifest::Manifest, partial};
use crate::{EnvironmentError, Result};

impl Store {
    /// Removes what nobody needs: environments whose image is not `in_use`, images and kernels that
    /// no environment refers to, boot images of kernels that are gone, templates of what is gone, and the remains of builders
    /// that died. `in_use` holds the digests of images and kernels that workspaces were made from.
    ///
    /// With `all` also what may soon be needed again: the current kernel, every boot image and every
    /// template.
    ///
    /// What a live process builds, or holds as an [`Environment`](super::Environment), a
    /// [`KernelHandle`](crate::KernelHandle) or a [`BootImage`](crate::BootImage), always stays.
    ///
    /// # Errors
    /// If something cannot be removed, or [`EnvironmentError::Cancelled`]; what is gone then is
    /// gone, and the rest is whole.
    pub fn prune(
        &self,
        in_use: &BTreeSet<Digest>,
        all: bool,
        progress: &dyn Progress,
    ) -> Result<PruneReport> {
        let mut report = PruneReport::default();
        progress.stage("looking for unused environments");
        for shelf in [&self.images, &self.kernels, &self.boots, &self.templates] {
            let (count, bytes) = partial::sweep(&shelf.dir, &self.locks)?;
            if count > 0 {
                report.removed.push(format!("{count} unfinished {}s", shelf.kind));
                report.freed_bytes += bytes;
            }
        }
        let mut kept = in_use.clone();
        for reference in EnvironmentRef::known() {
            self.prune_environment(&reference, &mut kept, &mut report)?;
        }
        let current: Option<CurrentKernel> = disk::read_json(&self.current_kernel_path())?;
        kept.extend(current.filter(|_| !all).map(|current| current.kernel));
        clear(&self.images, &kept, &mut report, progress)?;
        clear(&self.kernels, &kept, &mut report, progress)?;
        let boots = if all { BTreeSet::new() } else { self.bootable()? };
        clear(&self.boots, &boots, &mut report, progress)?;
        let templates = if all { BTreeSet::new() } else { self.restorable()? };
        clear(&self.templates, &templates, &mut report, progress)?;
        Ok(report)
    }

    /// Removes the name of an environment whose image is not kept; otherwise keeps its kernel too.
    fn prune_environment(
        &self,
        reference: &EnvironmentRef,
        kept: &mut BTreeSet<Digest>,
        report: &mut PruneReport,
    ) -> Result<()> {
        // Someone who makes it right now will want what it points to.
        let lock = self.locks.try_lock(reference.as_str())?;
        let Some(pointer) = self.pointer(reference)? else { return Ok(()) };
        if lock.is_none() || kept.contains(&pointer.image) {
            kept.extend([pointer.image, pointer.kernel]);
            return Ok(());
        }
        let path = self.pointer_path(reference);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EnvironmentError::at("remove", &path)(error))
            }
            _ => {
                report.removed.push(reference.to_string());
                Ok(())
            }
        }
    }

    /// The templates whose image and boot image are here.
    fn restorable(&self) -> Result<BTreeSet<Digest>> {
        let images: BTreeSet<_> = self.images.digests()?.into_iter().collect();
        let boots: BTreeSet<_> = self.boots.digests()?.into_iter().collect();
        let whole = |digest: &Digest| {
            self.template_inputs(digest).is_some_and(|inputs| {
                images.contains(&inputs.image) && boots.contains(&inputs.boot)
            })
        };
        Ok(self.templates.digests()?.into_iter().filter(whole).collect())
    }

    /// The boot images whose kernel is here.
    fn bootable(&self) -> Result<BTreeSet<Digest>> {
        let kernels: BTreeSet<_> = self.kernels.digests()?.into_iter().collect();
        let mut kept = BTreeSet::new();
        for boot in self.boots.digests()? {
            let path = self.boots.path(&boot).join(MANIFEST);
            let manifest: Option<Manifest<BootInputs>> = disk::read_json(&path)?;
            if manifest.is_some_and(|manifest| kernels.contains(&manifest.details.kernel)) {
                kept.insert(boot);
            }
        }
        Ok(kept)
    }
}

/// Removes every object of a shelf that is neither kept nor held.
fn clear(
    shelf: &Shelf,
    kept: &BTreeSet<Digest>,
    report: &mut PruneReport,
    progress: &dyn Progress,
) -> Result<()> {
    for digest in shelf.digests()?.iter().filter(|digest| !kept.contains(digest)) {
        if progress.cancelled() {
            return Err(EnvironmentError::Cancelled);
        }
        if let Some(bytes) = shelf.remove_unless_held(digest)? {
            report.removed.push(format!("{} {digest}", shelf.kind));
            report.freed_bytes += bytes;
        }
    }
    Ok(())
}
