//! Frozen machines: kept here under what they were made from, made elsewhere.

use std::path::{Path, PathBuf};

use pyro_contract::environment::Digest;
use pyro_contract::progress::Progress;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::shelf::Object;
use super::{Store, disk, manifest::Manifest, partial};
use crate::store::shelf::MANIFEST;
use crate::{EnvironmentError, Result};

/// Everything that a template depends on. If anything of it changes, it is another template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateInputs {
    /// The root filesystem.
    pub image: Digest,
    /// The boot image, and with it kernel and agent.
    pub boot: Digest,
    /// The engine's name.
    pub engine: String,
    /// What else the engine says that its templates depend on.
    pub fingerprint: String,
    /// Virtual CPUs of the machine.
    pub vcpu_count: u8,
    /// Its memory, MiB.
    pub mem_mib: u32,
    /// The size of its writable disk, MiB.
    pub disk_mib: u32,
}

/// A frozen machine. It stays in the store while this value lives.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where the engine's files are.
    pub directory: PathBuf,
    /// Its name: the digest of what it was made from.
    pub digest: Digest,
    /// Bytes of its files.
    pub size_bytes: u64,
    _hold: super::Hold,
}

/// What became of a wish for a template.
#[derive(Debug)]
pub enum Made {
    /// It was there.
    Present(Template),
    /// It was made.
    New(Template),
}

impl TemplateInputs {
    /// The name of the template.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(self).unwrap_or_default();
        Digest::from_bytes(Sha256::digest(text).into())
    }

    /// Whether `other` is what this became, or was: the same machine of the same environment.
    fn is_kin(&self, other: &Self) -> bool {
        (&self.image, &self.engine, self.vcpu_count, self.mem_mib, self.disk_mib)
            == (&other.image, &other.engine, other.vcpu_count, other.mem_mib, other.disk_mib)
    }
}

impl Store {
    /// The template that was made from these inputs, if it is here and sound.
    ///
    /// # Errors
    /// If the store cannot be read. A damaged template is removed and counts as none.
    pub fn template(&self, inputs: &TemplateInputs) -> Result<Option<Template>> {
        let silent = &pyro_contract::progress::Silent;
        Ok(self.sound(&self.templates, &inputs.digest(), silent)?.map(template))
    }

    /// The template; if it is not here, `freeze` makes its files in the empty directory that it is
    /// given first, and may leave what it likes in the second. If another process is making it,
    /// that one's work is awaited and shared. Templates that this one replaces are removed.
    ///
    /// # Errors
    /// Those of `freeze`; [`EnvironmentError::Cancelled`]. Whatever was begun is gone then.
    pub fn make_template<E: From<EnvironmentError>>(
        &self,
        inputs: &TemplateInputs,
        freeze: impl FnOnce(&Path, &Path) -> std::result::Result<(), E>,
        progress: &dyn Progress,
    ) -> std::result::Result<Made, E> {
        let digest = inputs.digest();
        let _lock = self.locks.wait(&lock_name(&digest), progress)?;
        if let Some(object) = self.sound::<TemplateInputs>(&self.templates, &digest, progress)? {
            return Ok(Made::Present(template(object)));
        }
        // Someone else's remains may not be ours to remove; that is no reason not to go on.
        let _ = partial::sweep(&self.templates.dir, &self.locks);
        let partial = self.templates.begin()?;
        freeze(partial.dir(), &partial.scratch())?;
        let made = partial.publish(&self.templates, Some(digest), inputs.clone(), progress)?;
        self.replace_kin(inputs, &made.digest);
        Ok(Made::New(template(made)))
    }

    /// True if somebody is making the template at this moment.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn is_template_in_the_making(&self, inputs: &TemplateInputs) -> Result<bool> {
        Ok(self.locks.try_lock(&lock_name(&inputs.digest()))?.is_none())
    }

    /// Removes a template that turned out to be of no use.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard_template(&self, digest: &Digest) -> Result<()> {
        if self.templates.path(digest).exists() {
            self.templates.remove(digest)?;
        }
        Ok(())
    }

    /// What this one replaces: it will not be asked for again. What cannot be removed now is pruned
    /// later.
    fn replace_kin(&self, inputs: &TemplateInputs, newest: &Digest) {
        for digest in self.templates.digests().unwrap_or_default() {
            let kin = self.template_inputs(&digest).is_some_and(|other| inputs.is_kin(&other));
            if kin && digest != *newest {
                let _ = self.templates.remove_unless_held(&digest);
            }
        }
    }

    /// What a template says that it was made from.
    pub(super) fn template_inputs(&self, digest: &Digest) -> Option<TemplateInputs> {
        let path = self.templates.path(digest).join(MANIFEST);
        let manifest: Option<Manifest<TemplateInputs>> = disk::read_json(&path).ok()?;
        manifest.map(|manifest| manifest.details)
    }
}

fn template(object: Object<TemplateInputs>) -> Template {
    Template {
        size_bytes: object.manifest.size_bytes(),
        directory: object.dir,
        digest: object.digest,
        _hold: object.hold,
    }
}

fn lock_name(digest: &Digest) -> String {
    format!("template-{}", &digest.hex()[..16])
}
