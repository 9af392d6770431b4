//! `workspace sync`.

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueHint};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::sync::SyncRules;

use super::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// Bring a directory or archive of the host into a workspace, sending only what changed
    #[command(after_help = "\
Examples:
  pyro workspace sync push demo .
  pyro workspace sync push demo ./data --dest data --exclude '*.tmp' --exclude /cache/
  pyro workspace sync push demo . --delete --dry-run
  pyro workspace sync push demo . --watch
  pyro workspace sync push demo release.tar.zst --dest /opt/release

Either all of it happens or nothing does. Files that only the workspace has stay, unless --delete.
Patterns are those of .gitignore; a `.pyroignore` file in a directory holds for all below it. What is
excluded is neither sent nor removed. `.git` is left alone unless --include-git.")]
    Push(PushArgs),
    /// Bring a directory of a workspace to the host, writing only what changed
    #[command(after_help = "\
Examples:
  pyro workspace sync pull demo . .
  pyro workspace sync pull demo dist ./dist --delete
  pyro workspace sync pull demo /var/log ./logs --exclude '*.gz'
  pyro workspace sync pull demo src ./src --dry-run

Either all of it happens or nothing does. A file of the host that was changed there since the last sync
is a conflict, and nothing is written, unless --force. Nothing is written through a link. The host's
`.pyroignore` files hold, not the workspace's. `.git` is left alone unless --include-git: git runs
what is written in there.")]
    Pull(PullArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// A directory, or a .tar, .tar.gz or .tar.zst archive
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) source: String,
    /// The directory that it becomes, absolute or relative to /workspace
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dest: String,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
    /// Keep pushing whatever changes, until Ctrl-C
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// A directory of it, absolute or relative to /workspace
    pub(crate) path: OsString,
    /// The directory of the host that it becomes
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dest: String,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
    /// Also replace and remove files of the host that were changed there since the last sync
    #[arg(long)]
    pub(crate) force: bool,
}

/// What both directions take.
#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// Leave this alone on both sides, a pattern as in .gitignore; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Also sync what is named .git
    #[arg(long)]
    include_git: bool,
    /// Remove from the target what the source does not have, but never what is excluded
    #[arg(long)]
    delete: bool,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
}

impl From<RulesArgs> for SyncRules {
    fn from(args: RulesArgs) -> Self {
        let RulesArgs { exclude, include_git, delete, dry_run } = args;
        Self { exclude, include_git, delete, dry_run }
    }
}
