//! A tree of many small files: pushed, pushed again, and beside it copied.

use std::path::{Path, PathBuf};

use pyro_contract::workspace::EngineKind;
use pyro_contract::{Error, Result};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::Command;

use super::Times;
use super::engines::{Bench, command_time, reference};

/// Files of the tree, and how many of them are in one directory.
const FILES: usize = 5_000;
const IN_ONE: usize = 20;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SyncReport {
    /// How many files the tree has.
    pub(crate) files: usize,
    /// `cp -a` of the tree on the host.
    pub(crate) copy: Option<Times>,
    /// `pyro workspace sync push` into an empty workspace.
    pub(crate) first: Option<Times>,
    /// The same again, after one file was touched.
    pub(crate) second: Option<Times>,
}

impl Bench<'_> {
    /// Through the command line, as a user would.
    pub(super) async fn sync(&self, engine: EngineKind) -> Result<SyncReport> {
        let scratch = tempfile::tempdir().map_err(|error| failed(&error))?;
        let tree = scratch.path().join("tree");
        let touched = make_tree(&tree).map_err(|error| failed(&error))?;
        let rounds = match engine {
            EngineKind::Container => self.rounds.some,
            _ => 1,
        };
        let (mut copy, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let status = self.create(&self.with_templates, engine).await?;
            let workspace = reference(&status);
            let place = TempDir::new_in(scratch.path()).map_err(|error| failed(&error))?;
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(&tree).arg(place.path());
            copy.push(command_time(cp).await?);
            let push = || {
                let mut push = Command::new(self.program);
                push.args(["--quiet", "workspace", "sync", "push", workspace.as_str()]).arg(&tree);
                push
            };
            first.push(command_time(push()).await?);
            let file = std::fs::File::options().write(true).open(&touched);
            let set = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
            set.map_err(|error| failed(&error))?;
            second.push(command_time(push()).await?);
            self.with_templates.delete(&workspace).await?;
        }
        Ok(SyncReport {
            files: FILES,
            copy: Times::of(copy),
            first: Times::of(first),
            second: Times::of(second),
        })
    }
}

/// Small files of unlike sizes; the path of one of them.
fn make_tree(tree: &Path) -> std::io::Result<PathBuf> {
    let mut last = PathBuf::new();
    for number in 0..FILES {
        let directory = number / IN_ONE;
        let directory = tree.join(format!("d{}/e{directory}", directory % 16));
        if number % IN_ONE == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        last = directory.join(format!("f{number}.txt"));
        let size = 200 + number * 37 % 6_000;
        let content: Vec<u8> = (0..size).map(|at| (at * 31 + number * 7) as u8).collect();
        std::fs::write(&last, content)?;
    }
    Ok(last)
}

fn failed(error: &std::io::Error) -> Error {
    Error::io("cannot make a tree to push", error)
}
