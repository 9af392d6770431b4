//! The walk over two merged trees that visits only what may differ.

use std::{
    collections::{BTreeMap, HashSet},
    vec,
};

use pyro_contract::{
    path::BytePath,
    progress::{Progress, Report, Unit},
};

use super::{Changed, DiffOptions, Visitor, compare};
use crate::{
    content::Content,
    layer::{Layer, LayerError, Node, Result},
    overlay::{Found, Place, Stack},
};

/// Walks two trees made of the same layers, side by side.
///
/// An explicit stack, for the depth is the guest's choice.
pub(super) struct Walk<'w, 'a> {
    stack: &'w Stack<&'a dyn Layer>,
    options: &'w DiffOptions,
    progress: &'w dyn Progress,
    frames: Vec<Frame>,
    /// The directories that lead to the present one: to meet one of them again is to go in circles.
    entered: HashSet<Place>,
    names: u64,
}

/// A directory that is being walked.
struct Frame {
    /// Its path with a `/` at its end; empty for the root.
    prefix: Vec<u8>,
    /// What is left to do in it.
    steps: vec::IntoIter<Step>,
    /// What it added to [`Walk::entered`].
    entered: Vec<Place>,
    /// True if it has lost everything that was in it, but is still there.
    emptied: bool,
    /// What it was and what took its place, if that is no directory.
    replaced: Option<(Found, Found)>,
}

/// Something to do about one name of a directory.
struct Step {
    /// The name; with a `/` at its end for the step into the directory of that name. Ordered by
    /// it, the steps visit full paths in the order of their bytes: `a`, `a.b`, `a/c`, `a0`.
    key: Vec<u8>,
    old: Option<Found>,
    new: Option<Found>,
    /// For a step into a directory that was replaced: by what.
    instead: Option<Found>,
}

impl Step {
    fn is_descent(&self) -> bool {
        self.key.ends_with(b"/")
    }
}

impl<'w, 'a> Walk<'w, 'a> {
    pub(super) fn new(
        stack: &'w Stack<&'a dyn Layer>,
        options: &'w DiffOptions,
        progress: &'w dyn Progress,
    ) -> Self {
        Self { stack, options, progress, frames: Vec::new(), entered: HashSet::new(), names: 0 }
    }

    pub(super) fn run(mut self, old: Found, new: Found, visitor: &mut dyn Visitor) -> Result<()> {
        let root = Step { key: Vec::new(), old: Some(old), new: Some(new), instead: None };
        self.enter(Vec::new(), root)?;
        while let Some(frame) = self.frames.last_mut() {
            let Some(step) = frame.steps.next() else {
                self.leave(visitor)?;
                continue;
            };
            let mut path = frame.prefix.clone();
            path.extend_from_slice(&step.key);
            if step.is_descent() {
                self.enter(path, step)?;
            } else if let Some(changed) = self.compare(&path, step.old, step.new)? {
                visitor.changed(changed)?;
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        path: &[u8],
        old: Option<Found>,
        new: Option<Found>,
    ) -> Result<Option<Changed<'w>>> {
        let (old, new) = (self.content(old), self.content(new));
        compare(path, old, new, self.options.detail, self.progress)
    }

    fn content(&self, found: Option<Found>) -> Option<Content<'w>> {
        found.map(|found| {
            let (layer, node) = self.stack.source(&found);
            Content::of(layer, node, found.meta)
        })
    }

    fn enter(&mut self, prefix: Vec<u8>, step: Step) -> Result<()> {
        let Step { old, new, instead, .. } = step;
        if self.frames.len() > self.options.max_depth {
            return Err(LayerError::TooLarge(format!(
                "directories are nested over {} deep at {}; remove them in the workspace",
                self.options.max_depth,
                BytePath::new(prefix.get(..64).unwrap_or(&prefix)),
            )));
        }
        let mut entered = Vec::new();
        for place in places(old.as_ref()).chain(places(new.as_ref())) {
            if entered.contains(place) {
                continue; // shared by both sides
            }
            if !self.entered.insert(*place) {
                return Err(LayerError::Damaged {
                    what: "layer",
                    detail: format!("directory {} lies inside of itself", BytePath::new(prefix)),
                });
            }
            entered.push(*place);
        }
        let (steps, emptied) = self.steps(old.as_ref(), new.as_ref())?;
        let replaced = old.zip(instead);
        self.frames.push(Frame { prefix, steps: steps.into_iter(), entered, emptied, replaced });
        Ok(())
    }

    fn leave(&mut self, visitor: &mut dyn Visitor) -> Result<()> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        for place in &frame.entered {
            self.entered.remove(place);
        }
        let Some(path) = frame.prefix.strip_suffix(b"/") else { return Ok(()) };
        if frame.emptied {
            visitor.emptied(BytePath::new(path))?;
        }
        let Some((old, new)) = frame.replaced else { return Ok(()) };
        match self.compare(path, Some(old), Some(new))? {
            Some(changed) => visitor.replaced(changed),
            None => Ok(()),
        }
    }

    /// What may differ in a directory, and whether the new side of it was emptied.
    fn steps(&mut self, old: Option<&Found>, new: Option<&Found>) -> Result<(Vec<Step>, bool)> {
        let shared = shared_places(old, new);

        // What stands in the places that the sides do not share is all that can differ.
        let mut touched: BTreeMap<Vec<u8>, Vec<(Place, Node)>> = BTreeMap::new();
        let mut read = Vec::new();
        for place in places(old).chain(places(new)).filter(|place| !shared.contains(place)) {
            if read.contains(place) {
                continue;
            }
            read.push(*place);
            for entry in self.stack.entries(*place)? {
                touched.entry(entry.name).or_default().push((*place, entry.node));
            }
        }
        self.count(touched.len())?;

        let mut steps = Vec::new();
        let (mut lost, mut kept) = (false, false);
        for (name, in_places) in &mut touched {
            // Once for both sides, so that what they share has the same node on both.
            for place in &shared {
                let node = self.stack.lookup_in(*place, name)?;
                in_places.extend(node.map(|node| (*place, node)));
            }
            let in_place = |place: &Place| {
                Ok(in_places.iter().find(|(at, _)| at == place).map(|(_, node)| *node))
            };
            let resolve = |side: Option<&Found>| match side {
                Some(dir) => self.stack.resolve(dir, in_place),
                None => Ok(None),
            };
            let (old, new) = (resolve(old)?, resolve(new)?);
            lost |= old.is_some() && new.is_none();
            kept |= new.is_some();
            push_steps(&mut steps, name.clone(), old, new);
        }
        steps.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let emptied = new.is_some()
            && lost
            && !kept
            && self.all_names(&shared, |name| touched.contains_key(name))?;
        Ok((steps, emptied))
    }

    /// True if `holds` for each name in these directories.
    fn all_names(&self, places: &[Place], holds: impl Fn(&Vec<u8>) -> bool) -> Result<bool> {
        for place in places {
            if !self.stack.entries(*place)?.iter().all(|entry| holds(&entry.name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn count(&mut self, names: usize) -> Result<()> {
        if self.progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        self.names += names as u64;
        if self.names > self.options.max_names {
            return Err(LayerError::TooLarge(format!(
                "over {} files were touched; remove what need not be kept, or export the \
                 directories of interest instead",
                self.options.max_names
            )));
        }
        self.progress.report(Report {
            stage: "comparing with the baseline".to_owned(),
            done: self.names,
            total: None,
            unit: Unit::Items,
        });
        Ok(())
    }
}

fn push_steps(steps: &mut Vec<Step>, name: Vec<u8>, old: Option<Found>, new: Option<Found>) {
    let same = match (&old, &new) {
        (Some(old), Some(new)) => old.places == new.places,
        (None, None) => true,
        _ => false,
    };
    if same {
        return; // a whiteout of nothing, or a name that only resolves to what both share
    }
    let (old_dir, new_dir) = (old.clone().filter(Found::is_dir), new.clone().filter(Found::is_dir));
    if old_dir.is_some() || new_dir.is_some() {
        let key = [&name, &b"/"[..]].concat();
        let instead = new.clone().filter(|new| !new.is_dir());
        steps.push(Step { key, old: old_dir, new: new_dir, instead });
    }
    steps.push(Step { key: name, old, new, instead: None });
}

fn places(found: Option<&Found>) -> impl Iterator<Item = &Place> {
    found.into_iter().flat_map(|found| found.places.iter())
}

/// The lowest places of both sides, as far as they are the same. A name that stands only there
/// resolves to the same thing on both sides.
fn shared_places(old: Option<&Found>, new: Option<&Found>) -> Vec<Place> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let pairs = old.places.iter().rev().zip(new.places.iter().rev());
    pairs.take_while(|(old, new)| old == new).map(|(place, _)| *place).collect()
}
