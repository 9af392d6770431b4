//! Creating a workspace: it either comes to be whole, or nothing is left of it.

use std::path::Path;
use std::sync::Arc;

use pyro_contract::exec::ExecRequest;
use pyro_contract::name::{WorkspaceId, WorkspaceRef};
use pyro_contract::shell::TerminalSize;
use pyro_contract::workspace::{CreateRequest, EngineKind, WorkspaceStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_environment::{Environment, Template};

use super::{Pyro, birth, blocking, ensure_free};
use crate::client::{self, ExecSession};
use crate::engines;
use crate::home::WorkspaceDir;
use crate::lock::Lock;
use crate::record::Record;
use crate::seed;
use crate::settings::Programs;
use crate::warm;
use crate::watch::{Watch, interrupted};

/// A workspace for one command: it is deleted when this is ended, and also when this process dies.
pub struct Ephemeral {
    /// The workspace as it was created.
    pub status: WorkspaceStatus,
    dir: WorkspaceDir,
    newborn: birth::Newborn,
}

impl Ephemeral {
    /// Starts a command in it.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecSession> {
        request.validate()?;
        if request.detach {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "a workspace for one command has nothing left to be detached from",
            )
            .with_hint("create a workspace, and run the command in it with `--detach`"));
        }
        client::exec(&self.dir, request, None).await
    }

    /// The same on a terminal of its own, for a person.
    pub async fn exec_on_terminal(
        &self,
        request: &ExecRequest,
        size: TerminalSize,
    ) -> Result<ExecSession> {
        request.validate()?;
        client::exec(&self.dir, request, Some(size)).await
    }

    /// Deletes it; when this returns nothing of it is left.
    pub async fn end(self) {
        self.newborn.end().await;
    }
}

impl Pyro {
    /// Creates and starts a workspace.
    pub async fn create(&self, request: CreateRequest, watch: &Watch) -> Result<WorkspaceStatus> {
        let (id, newborn) = self.bring_up(request, false, watch).await?;
        newborn.keep().await?;
        self.status(&WorkspaceRef::Id(id)).await
    }

    /// Creates and starts a workspace that ends with the caller.
    pub async fn create_ephemeral(
        &self,
        request: CreateRequest,
        watch: &Watch,
    ) -> Result<Ephemeral> {
        let (id, mut newborn) = self.bring_up(request, true, watch).await?;
        newborn.hold().await?;
        let status = self.status(&WorkspaceRef::Id(id.clone())).await?;
        Ok(Ephemeral { status, dir: self.home.workspace(&id), newborn })
    }

    async fn bring_up(
        &self,
        request: CreateRequest,
        ephemeral: bool,
        watch: &Watch,
    ) -> Result<(WorkspaceId, birth::Newborn)> {
        let shape = request.shape.or(self.settings.shape);
        shape.validate()?;
        request.limits.validate()?;
        let engine = self.engine_for(request.engine).await?;
        // A seed that cannot be is refused before anything is fetched for it.
        seed::check(&request.seed)?;
        let environment = self.environment(&request.environment, watch).await?;
        let reference = request.environment.clone();
        let mut origin = self.origin(engine, environment, shape).await?;
        let draft = self.draft(request, engine, &origin.environment).await?;
        let id = draft.record.id.clone();

        let (worker, settings) = (watch.clone(), Arc::clone(&self.settings));
        let (template, key, home) = (origin.template.clone(), origin.warm_key(), self.home.clone());
        let (draft, warm, template) = blocking(move || {
            let mut draft = draft;
            let warm = key.and_then(|key| warm::reserve(&home, &key));
            let disk = match (&warm, template) {
                (Some(_), _) => Disk::Warm,
                (None, Some(template)) => Disk::Clone(template),
                (None, None) => Disk::New,
            };
            let template = draft.fill(&settings.programs, disk, &home.derived(), &worker)?;
            Ok((draft, warm, template))
        })
        .await?;
        origin.template = template;
        if watch.interrupt().is_triggered() {
            return Err(interrupted());
        }
        let Some(lock) = draft.hand_over() else {
            return Err(Error::new(ErrorCode::Internal, "a draft lost its lock"));
        };
        if let Some(warm) = warm {
            let newborn = birth::give_warm(self, &id, lock, warm, ephemeral, watch).await?;
            return Ok((id, newborn));
        }
        let newborn = birth::give(self, &id, lock, &origin.boot(), ephemeral, watch).await?;
        if origin.lacks_template() {
            self.freeze_in_background(engine, &reference, shape, &origin);
        }
        Ok((id, newborn))
    }

    /// Claims the id and the name.
    async fn draft(
        &self,
        request: CreateRequest,
        engine: EngineKind,
        environment: &Environment,
    ) -> Result<Draft> {
        let (home, settings) = (self.home.clone(), Arc::clone(&self.settings));
        let digests = (environment.digest.clone(), environment.kernel.digest.clone());
        blocking(move || {
            let _names = home.lock_names()?;
            home.sweep();
            if let Some(name) = &request.name {
                ensure_free(&home, name)?;
            }
            let id = WorkspaceId::random();
            let mut record = Record::new(id.clone(), request.environment, digests, engine);
            record.name = request.name;
            record.labels = request.labels;
            record.shape = request.shape.or(settings.shape);
            record.limits = request.limits;
            record.env = request.env;
            record.ttl_seconds = request.ttl_seconds;
            record.seed.source = seed::absolute(request.seed)?;
            let new = home.new_workspace(&id)?;
            record.save(&new.dir)?;
            let (dir, lock) = new.publish()?;
            Ok(Draft { dir, record, lock: Some(lock) })
        })
        .await
    }
}

/// Where the writable disk comes from.
enum Disk {
    /// It is made.
    New,
    /// It is a copy of a template's.
    Clone(Template),
    /// A machine that waits has one already.
    Warm,
}

/// A workspace that exists on disk and has no supervisor yet. Dropped, it leaves nothing.
struct Draft {
    dir: WorkspaceDir,
    record: Record,
    lock: Option<Lock>,
}

impl Draft {
    /// Packs the seed and makes the disk. Returns the template that the disk is from, if any.
    fn fill(
        &mut self,
        programs: &Programs,
        disk: Disk,
        cache: &Path,
        watch: &Watch,
    ) -> Result<Option<Template>> {
        let source = self.record.seed.source.clone();
        self.record.seed = seed::pack(&source, &self.dir.baseline_file(), self.dir.path(), watch)?;
        let warm = matches!(disk, Disk::Warm);
        let (engine, storage) = (engines::of(self.record.engine, programs), self.dir.storage());
        let template = match disk {
            Disk::Clone(template) => engine
                .clone_storage(&template.directory, &storage)
                .inspect_err(|error| tracing::warn!(%error, "the template is not used"))
                .map_or(None, |()| Some(template)),
            Disk::New | Disk::Warm => None,
        };
        if template.is_none() && !warm {
            engine.create_storage(&storage, self.record.shape.disk_mib, cache)?;
        }
        std::fs::File::create(self.dir.activity_file()).map_err(|error| {
            let path = self.dir.activity_file();
            Error::io(format!("cannot create {}", path.display()), &error)
        })?;
        self.record.save(&self.dir)?;
        Ok(template)
    }

    /// Gives the lock to a supervisor, which from now on is the one to clean up.
    fn hand_over(mut self) -> Option<Lock> {
        self.lock.take()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = self.dir.remove()
        {
            tracing::warn!(%error, "a creation that failed could not be undone; it is swept later");
        }
    }
}
