//! Files made ready on the host, and the steps that bring them into place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use pyro_contract::path::BytePath;
use pyro_contract::progress::{Progress as _, Report, Unit};
use pyro_contract::{Error, Result};
use pyro_layers::Layer;
use pyro_layers::content::Content;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::decide::{Place, Plan, Source};
use super::state::{State, hex};
use crate::sync::beneath::failed;
use crate::sync::pull::{Stage, Step, put};
use crate::watch::Watch;

/// What was made ready.
pub(super) struct Written {
    pub(super) steps: Vec<Step>,
    /// What will be at each changed path.
    pub(super) states: BTreeMap<Vec<u8>, State>,
}

pub(super) fn ready(
    workspace: &dyn Layer,
    plan: &Plan,
    stage: &mut Stage,
    watch: &Watch,
) -> Result<Written> {
    let mut writer = Writer { stage, steps: Vec::new(), states: BTreeMap::new(), watch };
    // Whatever is not named again below will be gone, or has only its mode set.
    for (path, before) in &plan.before {
        writer.states.insert(
            path.clone(),
            match plan.modes.get(path) {
                Some(mode) => with_mode(before, *mode),
                None => State::Absent,
            },
        );
    }
    writer.remove(plan);
    let total = plan.places.len() as u64;
    for (done, place) in (0..).zip(&plan.places) {
        let stage = "applying".to_owned();
        watch.report(Report { stage, done, total: Some(total), unit: Unit::Items });
        writer.place(workspace, place)?;
    }
    writer.modes(plan);
    Ok(Written { steps: writer.steps, states: writer.states })
}

fn with_mode(state: &State, mode: u32) -> State {
    match state {
        State::File { sha256, .. } => State::File { sha256: sha256.clone(), mode },
        State::Directory { .. } => State::Directory { mode },
        other => other.clone(),
    }
}

struct Writer<'a> {
    stage: &'a mut Stage,
    steps: Vec<Step>,
    states: BTreeMap<Vec<u8>, State>,
    watch: &'a Watch,
}

impl Writer<'_> {
    /// What is in a directory goes before it; then the new directories come, those above first.
    fn remove(&mut self, plan: &Plan) {
        for path in plan.removals.iter().rev() {
            let number = self.stage.number();
            self.steps.push(Step::Remove { path: BytePath::new(path.clone()), number });
        }
        for (path, mode) in &plan.directories {
            self.steps.push(Step::Directory { path: BytePath::new(path.clone()) });
            self.states.insert(path.clone(), State::Directory { mode: *mode });
        }
    }

    fn place(&mut self, workspace: &dyn Layer, place: &Place) -> Result<()> {
        let number = self.stage.number();
        let Place { path, content, mode } = place;
        let state = match content {
            Source::Workspace(node) => {
                let content = Content::new(workspace, *node)?;
                let target = content.target()?;
                let sha256 = put(&content, path, *mode, number, self.stage, self.watch)?;
                match target {
                    Some(target) => State::Link { target },
                    None => State::File { sha256: hex(&sha256), mode: *mode },
                }
            }
            Source::Merged(bytes) => {
                put_bytes(bytes, path, *mode, number, self.stage)?;
                State::File { sha256: hex(&Sha256::digest(bytes)), mode: *mode }
            }
        };
        self.states.insert(path.clone(), state);
        self.steps.push(Step::Place { path: BytePath::new(path.clone()), number });
        Ok(())
    }

    /// The mode of a directory may forbid what is still to be done in it, so inner ones come first.
    fn modes(&mut self, plan: &Plan) {
        let modes: BTreeMap<&Vec<u8>, &u32> = plan.directories.iter().chain(&plan.modes).collect();
        for (path, mode) in modes.into_iter().rev() {
            self.steps.push(Step::Mode { path: BytePath::new(path.clone()), mode: *mode });
        }
    }
}

/// Writes bytes as a file into the stage, under a number.
pub(super) fn put_bytes(
    bytes: &[u8],
    path: &[u8],
    mode: u32,
    number: u32,
    stage: &Stage,
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refused = |errno| failed("write", path, errno);
    let name = number.to_string();
    let file = rustix::fs::openat(stage.fd(), &name, flags, Mode::RUSR | Mode::WUSR);
    let mut file = file.map(File::from).map_err(refused)?;
    file.write_all(bytes)
        .map_err(|error| Error::io(format!("cannot write {}", BytePath::new(path)), &error))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(refused)
}
