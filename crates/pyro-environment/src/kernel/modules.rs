//! Which kernel modules a machine loads, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use crate::{EnvironmentError, Result};

/// Without these a machine has no disks, no root filesystem or no channel to its agent.
const NEEDED: [&str; 8] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_net",
    "virtio_blk",
    "virtio_console",
    "erofs",
    "overlay",
    "ext4",
];

/// Loaded if the kernel has them: entropy from the host, the channel that firecracker offers, and what
/// tells the host which memory is free.
const WELCOME: [&str; 3] = ["virtio_rng", "vmw_vsock_virtio_transport", "virtio_balloon"];

/// What a module says it must be loaded after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// Names whose symbols it uses.
    hard: Vec<String>,
    /// Names that it would like to find, modules or not (`softdep: pre`).
    soft: Vec<String>,
}

/// A module's name as the kernel knows it: file names may have dashes where names have underscores.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads what an uncompressed module tells of itself.
///
/// The kernel package has no `modules.dep` before `depmod` has run on the installed system, so the
/// dependencies come from the same place where `depmod` gets them: the `.modinfo` section, a list
/// of `key=value` strings that end with NUL.
pub(super) fn dependencies(module: &[u8]) -> Option<Dependencies> {
    let elf = ElfFile64::<object::Endianness>::parse(module).ok()?;
    let modinfo = elf.section_by_name(".modinfo")?.data().ok()?;
    Some(parse_modinfo(modinfo))
}

fn parse_modinfo(modinfo: &[u8]) -> Dependencies {
    let mut found = Dependencies::default();
    for entry in modinfo.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        if let Some(names) = entry.strip_prefix("depends=") {
            found.hard.extend(names.split(',').filter(|name| !name.is_empty()).map(canonical));
        }
        if let Some(list) = entry.strip_prefix("softdep=") {
            // `pre: a b post: c`
            let pre = list.split("post:").next().unwrap_or_default().trim();
            let names = pre.strip_prefix("pre:").unwrap_or_default().split_whitespace();
            found.soft.extend(names.map(canonical));
        }
    }
    found
}

/// The names in `modules.builtin`: one path of a `.ko` that was linked into the kernel per line.
pub(super) fn parse_builtin(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|path| path.rsplit('/').next()?.strip_suffix(".ko"))
        .map(canonical)
        .collect()
}

/// All that a machine loads, each module after what it depends on.
///
/// `read` gives a module's dependencies, or `None` if the kernel has no such module.
pub(super) fn load_order(
    builtin: &BTreeSet<String>,
    read: &mut dyn FnMut(&str) -> Result<Option<Dependencies>>,
) -> Result<Vec<String>> {
    let mut walk = Walk { builtin, read, state: BTreeMap::new(), order: Vec::new() };
    for name in NEEDED {
        if !walk.visit(name)? {
            return Err(EnvironmentError::Kernel(format!("it lacks the module {name}")));
        }
    }
    for name in WELCOME {
        walk.visit(name)?;
    }
    Ok(walk.order)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Begun,
    Done,
    Absent,
}

/// A depth-first walk: a module is listed when all that it depends on is.
struct Walk<'a> {
    builtin: &'a BTreeSet<String>,
    read: &'a mut dyn FnMut(&str) -> Result<Option<Dependencies>>,
    state: BTreeMap<String, Visit>,
    order: Vec<String>,
}

impl Walk<'_> {
    /// Lists `name` and what it needs; false if the kernel does not have it.
    fn visit(&mut self, name: &str) -> Result<bool> {
        if self.builtin.contains(name) {
            return Ok(true);
        }
        match self.state.get(name) {
            Some(Visit::Done) => return Ok(true),
            Some(Visit::Absent) => return Ok(false),
            Some(Visit::Begun) => {
                return Err(EnvironmentError::Kernel(format!(
                    "its modules depend on each other in a circle around {name}"
                )));
            }
            None => {}
        }
        let Some(dependencies) = (self.read)(name)? else {
            self.state.insert(name.to_owned(), Visit::Absent);
            return Ok(false);
        };
        self.state.insert(name.to_owned(), Visit::Begun);
        for soft in &dependencies.soft {
            self.visit(soft)?;
        }
        for hard in &dependencies.hard {
            if !self.visit(hard)? {
                return Err(EnvironmentError::Kernel(format!(
                    "it lacks the module {hard}, which {name} needs"
                )));
            }
        }
        self.state.insert(name.to_owned(), Visit::Done);
        self.order.push(name.to_owned());
        Ok(true)
    }
}

#[cfg(test)]
#[path = "modules_tests.rs"]
mod tests;
