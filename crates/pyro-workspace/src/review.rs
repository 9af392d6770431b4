//! Looking at what a workspace wrote, and taking it out.
//!
//! The host reads the machine's disk itself, read-only, while the machine holds it still (or is
//! off). So a review costs what was written, runs at the host's speed however slow the machine is,
//! and asks the guest for nothing but that stillness.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_contract::diff::Diff;
use pyro_contract::name::WorkspaceId;
use pyro_contract::operation::Exported;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;
use pyro_contract::workspace::WorkspaceState;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::diff::{DiffOptions, summarize};
use pyro_layers::erofs::ErofsLayer;
use pyro_layers::export::{export_to_path, export_to_tar};
use pyro_layers::overlay::{OverlayLayer, lookup_path};
use pyro_layers::patch::write_patch;
use pyro_layers::{Layer, Node};

pub use pyro_layers::diff::Detail;

use crate::client::{self, Freeze};
use crate::engines;
use crate::home::WorkspaceDir;
use crate::lock::Lock;
use crate::possession::{self, For, Possession};
use crate::pyro::blocking;
use crate::record::{Record, paused};
use crate::settings::Settings;

/// Where an export goes.
pub enum ExportTarget<'a> {
    /// A path that does not exist yet, unless `force` allows to replace what stands there.
    Path {
        /// The path itself, not a directory to put it in.
        path: &'a Path,
        /// Replace what stands there.
        force: bool,
    },
    /// A tar archive.
    Tar(&'a mut dyn Write),
}

/// A workspace held still for as long as this lives. Its methods block.
pub struct Review {
    upper: Arc<dyn Layer>,
    baseline: Arc<dyn Layer>,
    machine: Arc<dyn Layer>,
    environment: PathBuf,
    still: Still,
}

/// What keeps others from writing meanwhile.
enum Still {
    /// The machine runs, and its disk is frozen.
    Frozen { freeze: Box<Freeze> },
    /// The machine is off, and nobody can start it.
    AtRest { _lock: Lock },
}

impl Review {
    pub(crate) async fn open(
        dir: WorkspaceDir,
        environment: PathBuf,
        settings: Arc<Settings>,
    ) -> Result<Self> {
        let (record, still) = hold_still(&dir).await?;
        blocking(move || {
            let storage =
                engines::of(record.engine, &settings.programs).open_storage(&dir.storage())?;
            // While the machine runs, whoever holds it still has waited for the change to be made.
            if storage.unfinished && matches!(still, Still::AtRest { .. }) {
                return Err(unfinished(&record.id));
            }
            let baseline: Arc<dyn Layer> = Arc::new(ErofsLayer::open(&dir.baseline_file())?);
            Ok(Self {
                upper: storage.workspace,
                baseline,
                machine: storage.machine,
                environment,
                still,
            })
        })
        .await
    }

    /// Lets the workspace go, and tells whether it really stood still until now: without that, what
    /// was read may be a mixture of before and after.
    pub async fn release(self) -> Result<()> {
        match self.still {
            Still::Frozen { mut freeze } => freeze.confirm().await,
            Still::AtRest { .. } => Ok(()),
        }
    }

    /// What changed in `/workspace` since it was seeded.
    pub fn diff(&self, detail: Detail, progress: &dyn Progress) -> Result<Diff> {
        let options = DiffOptions { detail, ..DiffOptions::default() };
        Ok(summarize(&*self.upper, &*self.baseline, &options, progress)?)
    }

    /// The same as a git patch; what it cannot carry is named in the result.
    pub fn patch(&self, out: &mut dyn Write, progress: &dyn Progress) -> Result<Diff> {
        let options = DiffOptions::default();
        Ok(write_patch(&*self.upper, &*self.baseline, &options, progress, out)?)
    }

    /// Copies a file or tree out. `path` is absolute, or relative to `/workspace`.
    pub fn export(
        &self,
        path: &[u8],
        target: ExportTarget<'_>,
        progress: &dyn Progress,
    ) -> Result<Exported> {
        let (layer, node, name) = self.locate(path)?;
        let report = match target {
            ExportTarget::Path { path, force } => {
                export_to_path(&layer, node, path, force, progress)?
            }
            ExportTarget::Tar(out) => export_to_tar(&layer, node, &name, out, progress)?,
        };
        let pyro_layers::export::Exported { files, directories, bytes, skipped } = report;
        Ok(Exported { files, directories, bytes, skipped })
    }

    /// The merged tree that holds `path`, and where in it that is.
    pub(crate) fn tree(&self, path: &[u8]) -> Result<(OverlayLayer, Node)> {
        self.locate(path).map(|(layer, node, _)| (layer, node))
    }

    /// What the workspace began with, and where in it an absolute path of the project is.
    pub(crate) fn baseline_of(&self, path: &[u8]) -> Option<(Arc<dyn Layer>, Vec<u8>)> {
        let inner = path.strip_prefix(b"/workspace")?;
        let inner = if inner.is_empty() { inner } else { inner.strip_prefix(b"/")? };
        Some((Arc::clone(&self.baseline), inner.to_vec()))
    }

    /// The merged tree that holds `path`, and where in it that is.
    fn locate(&self, path: &[u8]) -> Result<(OverlayLayer, Node, Vec<u8>)> {
        let shown = BytePath::new(path);
        let parts = components(path).ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("the path {shown} leads out of the workspace"),
            )
            .with_hint("name a path without `..`")
        })?;
        let (layers, inner) = match (path.first(), parts.split_first()) {
            (Some(b'/'), Some((&b"workspace", inner))) => (self.project(), inner),
            (Some(b'/'), Some(_)) => (self.root()?, &parts[..]),
            (Some(b'/'), None) => {
                return Err(Error::new(
                    ErrorCode::InvalidArgument,
                    "the whole machine cannot be exported in one piece",
                )
                .with_hint("name a directory of it, such as /etc, or `.` for the project"));
            }
            _ => (self.project(), &parts[..]),
        };
        let layer = OverlayLayer::new(layers)?;
        let node = lookup_path(&layer, &inner.join(&b'/'))?.ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("there is no {shown} in the workspace")).with_hint(
                "paths are relative to /workspace; what lies in memory (/proc, /run, /dev) is not on \
                 the disk, and links are not followed",
            )
        })?;
        let name = inner.last().map_or(b"workspace".to_vec(), |last| last.to_vec());
        Ok((layer, node, name))
    }

    fn project(&self) -> Vec<Arc<dyn Layer>> {
        vec![Arc::clone(&self.upper), Arc::clone(&self.baseline)]
    }

    fn root(&self) -> Result<Vec<Arc<dyn Layer>>> {
        let environment: Arc<dyn Layer> = Arc::new(ErofsLayer::open(&self.environment)?);
        Ok(vec![Arc::clone(&self.machine), environment])
    }
}

/// What is on the disk is neither what was before a change of files nor what was to be.
pub(crate) fn unfinished(workspace: &WorkspaceId) -> Error {
    Error::new(ErrorCode::WrongState, "the workspace ended in the middle of a change of its files")
        .with_hint(format!("`pyro workspace start {workspace}` finishes the change"))
}

/// The names of a path; `None` if one of them is `..`.
pub(crate) fn components(path: &[u8]) -> Option<Vec<&[u8]>> {
    let named = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    named.map(|part| (part != b"..").then_some(part)).collect()
}

async fn hold_still(dir: &WorkspaceDir) -> Result<(Record, Still)> {
    loop {
        match possession::take(dir, For::Reading).await? {
            Possession::AtRest(record, lock) => return Ok((record, Still::AtRest { _lock: lock })),
            Possession::Running(record) if record.state == WorkspaceState::Paused => {
                return Err(paused(record.id.as_str()));
            }
            Possession::Running(record) => match client::freeze(dir).await {
                Ok(freeze) => return Ok((record, Still::Frozen { freeze: Box::new(freeze) })),
                // It stopped just now, and its supervisor is about to write that down.
                Err(error) if error.code == ErrorCode::WrongState => {
                    tokio::time::sleep(crate::lock::ASK_AGAIN).await;
                }
                Err(error) => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_climb() {
        assert_eq!(components(b"/a//./b"), Some(vec![&b"a"[..], b"b"]));
        assert_eq!(components(b"."), Some(vec![]));
        assert_eq!(components(b"a/../b"), None);
        assert_eq!(components(b".."), None);
    }
}
