//! `workspace apply`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use pyro_contract::name::WorkspaceRef;

use super::parse;

pub(super) const EXAMPLES: &str = "\
Examples:
  pyro workspace apply demo --dry-run
  pyro workspace apply demo
  pyro workspace apply demo --path src --path README.md
  pyro workspace apply demo --merge
  pyro workspace apply demo --undo

A file that was changed here since the seed, and in the workspace too, is a conflict: then nothing is
written. All changes are made or none, and the last apply can be taken back once.";

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// The directory [default: the one that the workspace was seeded from]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "undo")]
    pub(crate) to: Option<PathBuf>,
    /// Only this file, or what is in this directory; may be given several times
    #[arg(long = "path", value_name = "PATH", conflicts_with = "undo")]
    pub(crate) paths: Vec<String>,
    /// Where a text file was changed on both sides, merge it as `git merge-file` does
    #[arg(long, conflicts_with = "undo")]
    pub(crate) merge: bool,
    /// Also what is named .git, which can make git run programs and is otherwise left alone
    #[arg(long, conflicts_with = "undo")]
    pub(crate) include_git: bool,
    /// Only tell what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take the last apply of this workspace back
    #[arg(long)]
    pub(crate) undo: bool,
}
