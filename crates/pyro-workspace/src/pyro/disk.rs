//! The whole disk of a stopped workspace: listed, read and exported without booting anything.
//!
//! What is seen is what a process in the machine would see: the environment with what was written
//! over it, and the project in `/workspace`. What lay in memory (`/run`, `/proc`, `/dev`, secrets)
//! is not on the disk, and so in no listing and no image.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use pyro_contract::diff::FileKind;
use pyro_contract::disk::{
    DiskEntry, DiskExportRequest, DiskFile, DiskImage, DiskListRequest, DiskListing,
    DiskReadRequest,
};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::disk::{add_journal, format_image};
use pyro_layers::erofs::ErofsLayer;
use pyro_layers::ext4::image;
use pyro_layers::overlay::{GraftLayer, OverlayLayer, lookup_path};
use pyro_layers::{Layer, LayerError, Node};

use super::{Pyro, blocking};
use crate::engines;
use crate::lock::Lock;
use crate::possession::{self, For, Possession};
use crate::review::{components, unfinished};
use crate::watch::{Watch, interrupted};

/// What an image has beyond what lies in it: superblocks, bitmaps, journal.
const OVERHEAD: u64 = 64 << 20;

/// However much is asked for at once, no answer is larger than these.
const MOST_ENTRIES: u32 = 1_000_000;
const MOST_BYTES: u32 = 64 << 20;

/// Directories nested deeper than this are not listed: a guest can nest without end.
const MAX_DEPTH: usize = 512;

impl Pyro {
    /// What lies in a directory of a stopped workspace.
    pub async fn list_disk(&self, request: &DiskListRequest, watch: &Watch) -> Result<DiskListing> {
        let disk = self.disk(&request.workspace).await?;
        let (request, watch) = (request.clone(), watch.clone());
        blocking(move || disk.list(&request, &watch)).await
    }

    /// Part of a file of a stopped workspace.
    pub async fn read_disk(&self, request: &DiskReadRequest) -> Result<DiskFile> {
        let disk = self.disk(&request.workspace).await?;
        let request = request.clone();
        blocking(move || disk.read(&request)).await
    }

    /// Writes the disk of a stopped workspace as one raw ext4 image, all or nothing.
    pub async fn export_disk(
        &self,
        request: &DiskExportRequest,
        watch: &Watch,
    ) -> Result<DiskImage> {
        let disk = self.disk(&request.workspace).await?;
        let (request, watch) = (request.clone(), watch.clone());
        blocking(move || disk.export(&request, &watch)).await
    }

    /// The disk of a workspace at rest, which nobody can start while this lives.
    async fn disk(&self, workspace: &WorkspaceRef) -> Result<Disk> {
        let (dir, record) = self.find(workspace).await?;
        let environment = self.installed(&record).await?;
        let (record, lock) = match possession::take(&dir, For::Reading).await? {
            Possession::AtRest(record, lock) => (record, lock),
            Possession::Running(record) => {
                return Err(Error::new(
                    ErrorCode::WrongState,
                    format!(
                        "the disk of {:?} is in use, because the workspace is {}",
                        workspace.as_str(),
                        record.state
                    ),
                )
                .with_hint(format!(
                    "`pyro workspace stop {}` first; diff and export read a running one",
                    workspace.as_str()
                )));
            }
        };
        let settings = Arc::clone(&self.settings);
        blocking(move || {
            let engine = engines::of(record.engine, &settings.programs);
            let storage = engine.open_storage(&dir.storage())?;
            if storage.unfinished {
                return Err(unfinished(&record.id));
            }
            let overlay = |upper: Arc<dyn Layer>, lower: &Path| -> Result<Arc<dyn Layer>> {
                let lower: Arc<dyn Layer> = Arc::new(ErofsLayer::open(lower)?);
                Ok(Arc::new(OverlayLayer::new(vec![upper, lower])?))
            };
            let project = overlay(storage.workspace, &dir.baseline_file())?;
            let machine = overlay(storage.machine, &environment.image)?;
            let tree = GraftLayer::new(machine, b"/", b"workspace", project)?;
            let limit = u64::from(record.shape.disk_mib) << 20;
            Ok(Disk { tree, limit, _lock: lock })
        })
        .await
    }
}

/// The merged tree of a machine that is off.
struct Disk {
    tree: GraftLayer,
    /// How much the machine may write.
    limit: u64,
    _lock: Lock,
}

impl Disk {
    /// The absolute path that is meant, and what is there.
    fn locate(&self, path: &BytePath) -> Result<(Vec<u8>, Node)> {
        let parts = components(path.as_bytes()).ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, format!("the path {path} leads out of the disk"))
                .with_hint("name a path without `..`")
        })?;
        let base = if path.as_bytes().starts_with(b"/") { None } else { Some(&b"workspace"[..]) };
        let parts: Vec<&[u8]> = base.into_iter().chain(parts).collect();
        let absolute = [b"/", &parts.join(&b'/')[..]].concat();
        let node = lookup_path(&self.tree, &absolute)?.ok_or_else(|| {
            Error::new(
                ErrorCode::NotFound,
                format!("there is no {} on the disk", BytePath::new(absolute.clone())),
            )
            .with_hint(
                "paths are absolute or relative to /workspace, and links are not followed; \
                 `pyro workspace disk list WS /` shows what there is",
            )
        })?;
        Ok((absolute, node))
    }

    fn entry(&self, path: Vec<u8>, node: Node) -> Result<DiskEntry> {
        let meta = self.tree.meta(node)?;
        let target = match meta.kind {
            FileKind::Symlink => Some(BytePath::new(self.tree.read_link(node)?)),
            _ => None,
        };
        Ok(DiskEntry {
            path: BytePath::new(path),
            kind: meta.kind,
            mode: meta.mode,
            size: if meta.kind == FileKind::File { meta.size } else { 0 },
            uid: meta.uid,
            gid: meta.gid,
            // The guest may have set any time; one that no calendar has is shown as the earliest.
            modified_at: Timestamp::from_second(meta.mtime).unwrap_or(Timestamp::MIN),
            target,
        })
    }

    fn list(&self, request: &DiskListRequest, watch: &Watch) -> Result<DiskListing> {
        let (path, node) = self.locate(&request.path)?;
        let room = usize::try_from(request.max_entries.min(MOST_ENTRIES)).unwrap_or(usize::MAX);
        let mut listing = DiskListing { entries: Vec::new(), truncated: false };
        if self.tree.meta(node)?.kind != FileKind::Directory {
            listing.entries.push(self.entry(path, node)?);
            return Ok(listing);
        }
        let mut inside = vec![(path.clone(), self.tree.read_dir(node)?.into_iter())];
        while let Some((dir, entries)) = inside.last_mut() {
            let Some(found) = entries.next() else {
                inside.pop();
                continue;
            };
            if watch.cancelled() {
                return Err(interrupted());
            }
            if listing.entries.len() >= room {
                listing.truncated = true;
                break;
            }
            let mut path = dir.clone();
            if path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(&found.name);
            let entry = self.entry(path.clone(), found.node)?;
            let enters = request.recursive && entry.kind == FileKind::Directory;
            listing.entries.push(entry);
            if enters && inside.len() >= MAX_DEPTH {
                listing.truncated = true;
            } else if enters {
                inside.push((path, self.tree.read_dir(found.node)?.into_iter()));
            }
        }
        Ok(listing)
    }

    fn read(&self, request: &DiskReadRequest) -> Result<DiskFile> {
        let (path, node) = self.locate(&request.path)?;
        let entry = self.entry(path, node)?;
        if entry.kind != FileKind::File {
            let error = Error::new(
                ErrorCode::InvalidArgument,
                format!("{} is no regular file", entry.path),
            );
            return Err(match &entry.target {
                Some(target) => error.with_hint(format!("it is a link to {target}")),
                None => error.with_hint("`pyro workspace disk list` lists a directory"),
            });
        }
        let left = entry.size.saturating_sub(request.offset);
        let wanted = left.min(u64::from(request.max_bytes.min(MOST_BYTES)));
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let room = rest.len();
            match self.tree.read_at(node, request.offset + filled as u64, rest)? {
                0 => break,
                count => filled += count.min(room),
            }
        }
        bytes.truncate(filled);
        let end = request.offset.saturating_add(filled as u64);
        Ok(DiskFile::new(entry.clone(), bytes, (end < entry.size && filled > 0).then_some(end)))
    }

    fn export(&self, request: &DiskExportRequest, watch: &Watch) -> Result<DiskImage> {
        let output = PathBuf::from(&request.output);
        refuse_existing(&output, request.force)?;
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |error: &std::io::Error| {
            let made = Error::io(format!("cannot write {}", output.display()), error);
            if made.code == ErrorCode::NotFound {
                return made.with_hint("make the directory that it is to be in first");
            }
            made
        };
        // Dropped unless it is whole, it leaves nothing.
        let image = tempfile::Builder::new()
            .prefix(".pyro-disk-")
            .tempfile_in(parent)
            .map_err(|error| failed(&error))?;
        watch.stage("measuring the disk");
        let root = self.tree.root();
        let footprint = image::measure(&self.tree, root, watch)?;
        let content = footprint.bytes.saturating_add(OVERHEAD);
        let bytes = content.saturating_add(self.limit);
        format_image(image.path(), bytes, footprint.inodes.saturating_mul(2))?;
        let file = image.reopen().map_err(|error| failed(&error))?;
        let exported = image::fill(&self.tree, root, file, watch)?;
        add_journal(image.path())?;
        let file = publish(image, &output, request.force).map_err(|error| failed(&error))?;
        let meta = file.metadata().map_err(|error| failed(&error))?;
        Ok(DiskImage {
            output: request.output.clone(),
            bytes: meta.len(),
            disk_bytes: meta.blocks() * 512,
            files: exported.files,
            directories: exported.directories,
            skipped: exported.skipped,
        })
    }
}

fn refuse_existing(output: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(output) {
        Ok(meta) if force && meta.is_file() => Ok(()),
        Ok(_) => {
            Err(LayerError::UnsafeTarget(format!("{} exists already", output.display())).into())
        }
        Err(_) => Ok(()),
    }
}

fn publish(image: tempfile::NamedTempFile, output: &Path, force: bool) -> std::io::Result<File> {
    image.as_file().sync_all()?;
    let published = if force { image.persist(output) } else { image.persist_noclobber(output) };
    published.map_err(|error| error.error)
}
