//! Making the next `create` fast: templates, made ahead or in the background of the first create.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use pyro_contract::environment::{Digest, EnvironmentRef};
use pyro_contract::progress::Progress as _;
use pyro_contract::template::{PrepareRequest, Prepared, TemplateState};
use pyro_contract::workspace::{EngineChoice, EngineKind, Shape};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::{Engine, EngineError, Image, MachineSpec};
use pyro_environment::{BootImage, Environment, Made, Template, TemplateInputs};
use tokio::process::Command;

use super::{Pyro, birth, blocking};
use crate::engines;
use crate::supervisor::{Boot, machine_user};
use crate::watch::{Watch, interrupted};

/// What a machine can be made from.
pub(super) struct Origin {
    pub(super) environment: Environment,
    boot: BootImage,
    /// Whose template it would be, or whose machines wait; `None` if there are to be none.
    inputs: Option<TemplateInputs>,
    /// The engine has templates.
    freezes: bool,
    /// Its machines can wait warm.
    waits: bool,
    pub(super) template: Option<Template>,
}

impl Origin {
    /// What a supervisor is told of it.
    pub(super) fn boot(&self) -> Boot {
        Boot {
            kernel: self.boot.kernel.clone(),
            initramfs: self.boot.initramfs.clone(),
            environment: self.environment.image.clone(),
            template: self.template.as_ref().map(|template| crate::supervisor::Frozen {
                directory: template.directory.clone(),
                digest: template.digest.clone(),
            }),
        }
    }

    fn image(&self) -> Image {
        Image {
            kernel: self.boot.kernel.clone(),
            initramfs: self.boot.initramfs.clone(),
            environment: self.environment.image.clone(),
        }
    }

    /// True if the next machine could start faster than this one.
    pub(super) fn lacks_template(&self) -> bool {
        self.inputs.is_some() && self.freezes && self.template.is_none()
    }

    /// Under what name its like wait warm, if they can.
    pub(super) fn warm_key(&self) -> Option<Digest> {
        let inputs = self.inputs.as_ref().filter(|_| self.waits && !self.lacks_template());
        inputs.map(TemplateInputs::digest)
    }
}

impl Pyro {
    /// Fetches the environment, builds the boot image, and freezes a machine of this size, so that
    /// the next `create` of its like takes a fraction of the time.
    pub async fn prepare(&self, request: &PrepareRequest, watch: &Watch) -> Result<Prepared> {
        let begun = Instant::now();
        let shape = request.shape.or(self.settings().shape);
        shape.validate()?;
        let engine = self.engine_for(request.engine).await?;
        let environment = self.environment(&request.environment, watch).await?;
        let origin = self.origin(engine, environment, shape).await?;
        let (template, size_bytes) = match (&origin.template, &origin.inputs) {
            (Some(template), _) => (TemplateState::Present, template.size_bytes),
            (None, Some(_)) if origin.freezes => {
                let (state, template) = match self.freeze(engine, origin, shape, watch).await? {
                    Made::Present(template) => (TemplateState::Present, template),
                    Made::New(template) => (TemplateState::Made, template),
                };
                (state, template.size_bytes)
            }
            (None, _) if self.settings().templates.enabled => (TemplateState::Unsupported, 0),
            (None, _) => (TemplateState::Disabled, 0),
        };
        Ok(Prepared {
            environment: request.environment.clone(),
            engine,
            shape,
            template,
            size_bytes,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The same in a process that is there for nothing else: everybody else goes first, and nobody's
    /// Ctrl-C is its own.
    pub async fn prepare_aside(&self, request: &PrepareRequest) -> Result<Prepared> {
        let _ = rustix::process::setsid();
        let _ = rustix::process::nice(19);
        self.prepare(request, &Watch::default()).await
    }

    /// What the request's choice of an engine, or the host's, means here.
    pub(super) async fn engine_for(&self, choice: Option<EngineChoice>) -> Result<EngineKind> {
        let choice = choice.unwrap_or(self.settings.engine);
        let settings = Arc::clone(&self.settings);
        blocking(move || engines::choose(choice, &settings.programs)).await
    }

    /// What a machine of this environment and size starts from: the template, if there is one.
    pub(super) async fn origin(
        &self,
        engine: EngineKind,
        environment: Environment,
        shape: Shape,
    ) -> Result<Origin> {
        let (store, settings) = (Arc::clone(&self.store), Arc::clone(&self.settings));
        blocking(move || {
            let boot = store.boot_image(&environment.kernel, pyro_environment::GUEST_AGENT)?;
            let engine = engines::of(engine, &settings.programs);
            let able = engine.capabilities();
            let wanted = settings.templates.enabled && (able.templates || able.waits);
            let inputs = match wanted.then(|| engine.fingerprint()).transpose()? {
                None => None,
                Some(fingerprint) => Some(TemplateInputs {
                    image: environment.digest.clone(),
                    boot: boot.digest.clone(),
                    engine: engine.kind().to_string(),
                    fingerprint,
                    vcpu_count: shape.vcpu_count,
                    mem_mib: shape.mem_mib,
                    disk_mib: shape.disk_mib,
                }),
            };
            // A template that cannot be had is no reason not to boot.
            let frozen = inputs.as_ref().filter(|_| able.templates);
            let template = frozen.and_then(|inputs| {
                store.template(inputs).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the template cannot be used");
                    None
                })
            });
            let (freezes, waits) = (able.templates, able.waits);
            Ok(Origin { environment, boot, inputs, freezes, waits, template })
        })
        .await
    }

    async fn freeze(
        &self,
        engine: EngineKind,
        origin: Origin,
        shape: Shape,
        watch: &Watch,
    ) -> Result<Made> {
        let inputs = origin.inputs.clone().ok_or_else(|| {
            Error::new(ErrorCode::Internal, "there is nothing to make a template from")
        })?;
        let (store, settings) = (Arc::clone(&self.store), Arc::clone(&self.settings));
        let (watch, runtime) = (watch.clone(), tokio::runtime::Handle::current());
        blocking(move || {
            let engine = engines::of(engine, &settings.programs);
            let freeze = |template: &Path, scratch: &Path| -> Result<()> {
                watch.stage("booting a machine to freeze");
                let work = freeze(&*engine, &origin, shape, template, scratch);
                runtime.block_on(async {
                    tokio::select! {
                        frozen = work => Ok(frozen?),
                        () = watch.interrupt().triggered() => Err(interrupted()),
                    }
                })
            };
            store.make_template(&inputs, freeze, &watch)
        })
        .await
    }

    /// Makes the template that was missing, in a process of its own that nobody waits for. That is
    /// a favour to the next create; this one does not depend on it.
    pub(super) fn freeze_in_background(
        &self,
        engine: EngineKind,
        environment: &EnvironmentRef,
        shape: Shape,
        inputs: &Origin,
    ) {
        let Some(inputs) = &inputs.inputs else { return };
        if self.store.is_template_in_the_making(inputs).unwrap_or(true) {
            return;
        }
        let Ok(settings) = serde_json::to_string(self.settings()) else { return };
        let Ok(shape) = serde_json::to_string(&shape) else { return };
        let mut command = Command::new(&self.supervisor);
        command
            .args(["freeze", "--environment", environment.as_str(), "--engine", engine.as_str()])
            .args(["--shape", &shape, "--settings", &settings])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        birth::pass_on(&mut command, self.home());
        if let Err(error) = command.spawn() {
            tracing::warn!(%error, "no template is made in the background");
        }
    }
}

async fn freeze(
    engine: &dyn Engine,
    origin: &Origin,
    shape: Shape,
    template: &Path,
    scratch: &Path,
) -> std::result::Result<(), EngineError> {
    let spec = MachineSpec {
        image: origin.image(),
        storage: scratch.join("disk"),
        runtime_dir: scratch.join("run"),
        cache_dir: scratch.join("derived"),
        vcpu_count: shape.vcpu_count,
        mem_mib: shape.mem_mib,
        run_as: machine_user(&origin.environment.digest.to_string()),
    };
    std::fs::create_dir(&spec.runtime_dir)
        .map_err(EngineError::io(format!("cannot create {}", spec.runtime_dir.display())))?;
    engine.create_storage(&spec.storage, shape.disk_mib, &spec.cache_dir)?;
    engine.prepare(&spec, template).await
}
