//! What stands at a path: on the host, in the workspace, or in its baseline.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};

use pyro_contract::diff::FileKind;
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::content::Content;
use pyro_layers::{Layer, Node};
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sync::beneath::{self, Stamp, failed, split};
use crate::watch::Watch;

/// The permission bits that an apply carries. No setuid: it would lend the rights of whoever applies.
pub(super) const PERMISSIONS: u32 = 0o777;

/// Something at a path, as far as two of them are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum State {
    /// Nothing.
    Absent,
    /// A directory, whatever is in it.
    Directory { mode: u32 },
    /// A regular file.
    File { sha256: String, mode: u32 },
    /// A symbolic link.
    Link { target: BytePath },
    /// A pipe, socket or device.
    Special,
}

impl State {
    /// Of a layer's node.
    pub(super) fn of_layer(layer: &dyn Layer, node: Option<Node>, watch: &Watch) -> Result<Self> {
        let Some(node) = node else { return Ok(Self::Absent) };
        let content = Content::new(layer, node)?;
        let mode = u32::from(content.meta().mode) & PERMISSIONS;
        Ok(match content.meta().kind {
            FileKind::Directory => Self::Directory { mode },
            FileKind::Symlink => Self::Link { target: BytePath::new(layer.read_link(node)?) },
            FileKind::File => {
                let mut digest = Sha256::new();
                content.read_blocks(watch, |block| {
                    digest.update(block);
                    Ok(ControlFlow::Continue(()))
                })?;
                Self::File { sha256: hex(&digest.finalize()), mode }
            }
            _ => Self::Special,
        })
    }

    /// Of the host's, and what it must still be when it is changed. No link is followed.
    pub(super) fn of_host(top: BorrowedFd<'_>, path: &[u8]) -> Result<(Self, Before)> {
        let (parent, name) = split(path);
        let refused = |errno| failed("read", path, errno);
        let parent = match beneath::directory(top, parent) {
            Ok(parent) => parent,
            Err(errno) if beneath::is_other_kind(errno) => {
                return Ok((Self::Absent, Before::Absent));
            }
            Err(errno) => return Err(refused(errno)),
        };
        let Some(stat) = beneath::look(parent.as_fd(), name).map_err(refused)? else {
            return Ok((Self::Absent, Before::Absent));
        };
        let mode = stat.st_mode & PERMISSIONS;
        let state = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory { mode },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(refused)?;
                Self::Link { target: BytePath::new(target.into_bytes()) }
            }
            FileType::RegularFile => {
                let (mut file, _) = beneath::file(parent.as_fd(), name).map_err(refused)?;
                let mut digest = Sha256::new();
                std::io::copy(&mut file, &mut digest).map_err(|error| {
                    Error::io(format!("cannot read {}", BytePath::new(path)), &error)
                })?;
                Self::File { sha256: hex(&digest.finalize()), mode }
            }
            _ => Self::Special,
        };
        Ok((state, Before::of(&stat)))
    }

    /// True if both have the same content and may be run by the same. Git knows no more of a mode,
    /// and the host's umask decides on the rest.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { sha256: a, mode: m }, Self::File { sha256: b, mode: n }) => {
                a == b && (m ^ n) & 0o100 == 0
            }
            (Self::Directory { .. }, Self::Directory { .. }) => true,
            (Self::Special, Self::Special) => false,
            (a, b) => a == b,
        }
    }

    pub(super) fn mode(&self) -> Option<u32> {
        match self {
            Self::File { mode, .. } | Self::Directory { mode } => Some(*mode),
            _ => None,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What was at a path when it was decided what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Absent,
    Directory,
    Other(Stamp),
}

impl Before {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            // Its own time changes with everything in it.
            FileType::Directory => Self::Directory,
            _ => Self::Other(Stamp::of(stat)),
        }
    }
}

/// What was at every path that is to be changed.
#[derive(Debug, Default)]
pub(super) struct Seen(pub(super) BTreeMap<Vec<u8>, Before>);

impl Seen {
    /// Fails unless all is as it was.
    pub(super) fn check(&self, top: BorrowedFd<'_>) -> Result<()> {
        for (path, before) in &self.0 {
            let (parent, name) = split(path);
            let found = match beneath::directory(top, parent) {
                Ok(parent) => beneath::look(parent.as_fd(), name),
                Err(errno) if beneath::is_other_kind(errno) => Ok(None),
                Err(errno) => Err(errno),
            };
            let found = found.map_err(|errno| failed("look at", path, errno))?;
            if found.map_or(Before::Absent, |stat| Before::of(&stat)) != *before {
                let shown = BytePath::new(path.clone());
                return Err(Error::new(
                    ErrorCode::Conflict,
                    format!("nothing was changed: {shown} changed just now"),
                )
                .with_hint("try again"));
            }
        }
        Ok(())
    }
}
