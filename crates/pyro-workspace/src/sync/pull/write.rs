//! Files of the machine, made ready on the host.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;

use pyro_contract::Result;
use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::{Progress as _, Report, Unit};
use pyro_layers::content::Content;
use pyro_layers::{Layer, LayerError};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use sha2::{Digest as _, Sha256};

use super::decide::Plan;
use super::journal::{Stage, Step};
use crate::sync::beneath::{MODE, failed};
use crate::sync::record::{Sha, link_digest};
use crate::watch::Watch;

/// Runs of zeros of at least this size become holes.
const HOLE: usize = 4096;

/// What was made ready: the steps that bring it into place, and each file's content.
pub(super) struct Ready {
    pub(super) steps: Vec<Step>,
    pub(super) contents: Vec<(Vec<u8>, Sha)>,
}

/// Makes everything ready.
pub(super) fn ready(
    layer: &dyn Layer,
    plan: &Plan,
    stage: &mut Stage,
    watch: &Watch,
) -> Result<Ready> {
    let mut steps = Vec::new();
    for path in &plan.removals {
        steps.push(Step::Remove { path: BytePath::new(path.clone()), number: stage.number() });
    }
    for path in &plan.directories {
        steps.push(Step::Directory { path: BytePath::new(path.clone()) });
    }
    let mut contents = Vec::new();
    let mut bytes = 0;
    for place in &plan.places {
        let number = stage.number();
        watch.report(Report {
            stage: "pulling".to_owned(),
            done: bytes,
            total: Some(plan.bytes),
            unit: Unit::Bytes,
        });
        let content = Content::new(layer, place.node)?;
        let mode = u32::from(content.meta().mode) & MODE;
        let sha256 = put(&content, &place.path, mode, number, stage, watch)?;
        bytes += content.meta().size;
        contents.push((place.path.clone(), sha256));
        steps.push(Step::Place { path: BytePath::new(place.path.clone()), number });
    }
    for (path, mode) in &plan.modes {
        steps.push(Step::Mode { path: BytePath::new(path.clone()), mode: *mode });
    }
    Ok(Ready { steps, contents })
}

/// Writes a file or link into the stage, under a number. `path` is where it will be.
pub(in crate::sync) fn put(
    content: &Content<'_>,
    path: &[u8],
    mode: u32,
    number: u32,
    stage: &Stage,
    watch: &Watch,
) -> Result<Sha> {
    let refused = |errno| failed("write", path, errno);
    let name = number.to_string();
    let time = Timespec { tv_sec: content.meta().mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    if content.meta().kind == FileKind::Symlink {
        let target = content.target()?.unwrap_or_else(|| BytePath::new(&b""[..]));
        rustix::fs::symlinkat(target.as_bytes(), stage.fd(), &name).map_err(refused)?;
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(stage.fd(), &name, &times, flags).map_err(refused)?;
        return Ok(link_digest(target.as_bytes()));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let out = rustix::fs::openat(stage.fd(), &name, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(refused)?;
    let mut digest = Sha256::new();
    let mut offset = 0;
    content.read_blocks(watch, |block| {
        digest.update(block);
        for piece in block.chunks(HOLE) {
            if piece.iter().any(|byte| *byte != 0) {
                let attempt = || format!("cannot write {}", BytePath::new(path));
                out.write_all_at(piece, offset)
                    .map_err(|error| LayerError::io(attempt())(error))?;
            }
            offset += piece.len() as u64;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::ftruncate(&out, offset)
        .and_then(|()| rustix::fs::futimens(&out, &times))
        .and_then(|()| rustix::fs::fchmod(&out, mode))
        .map_err(refused)?;
    Ok(digest.finalize().into())
}
