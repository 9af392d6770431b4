//! The operation catalogue: every operation that a door must offer, once.
//!
//! A door (the CLI, and later MCP, the SDKs and HTTP) is derived from this table or tested against
//! it: the CLI's tests walk [`CATALOGUE`] and fail for an operation that has no command.

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

use crate::apply::{Applied, ApplyRequest};
use crate::command::LogsRequest;
use crate::diff::{DiffRequest, WorkspaceDiff};
use crate::disk::{
    DiskExportRequest, DiskFile, DiskImage, DiskListRequest, DiskListing, DiskReadRequest,
};
use crate::environment::EnvironmentRef;
use crate::exec::{ExecRequest, ExecResult, JournalCommand};
use crate::name::WorkspaceRef;
use crate::path::BytePath;
use crate::workspace::{CreateRequest, Deleted, WorkspaceStatus};

/// One operation: its name in every door and the shape of what goes in and comes out.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `workspace_create`: the name of the tool and, with words turned around, of the method.
    pub name: &'static str,
    /// `["workspace", "create"]`: the command.
    pub command: &'static [&'static str],
    /// One sentence for a user who does not know it yet.
    pub summary: &'static str,
    /// True if it changes nothing.
    pub read_only: bool,
    /// True if it can lose something that the user made.
    pub destructive: bool,
    /// True if doing it again changes nothing more.
    pub idempotent: bool,
    /// JSON schema of the request.
    pub request: fn() -> Schema,
    /// JSON schema of the result.
    pub result: fn() -> Schema,
}

/// Names one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfWorkspace {
    /// Its id or name.
    pub workspace: WorkspaceRef,
}

/// Runs one command in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecInWorkspace {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// What to run.
    #[serde(flatten)]
    pub exec: ExecRequest,
}

/// Creates a workspace, runs one command in it, deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequest {
    /// What to create.
    #[serde(flatten)]
    pub create: CreateRequest,
    /// What to run.
    pub exec: ExecRequest,
}

/// Takes something out of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// What to take, absolute or relative to `/workspace`.
    #[serde(flatten)]
    pub path: BytePath,
    /// Where to put it on the host; `-` for a tar stream.
    pub output: String,
    /// Replace what stands there.
    #[serde(default)]
    pub force: bool,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exported {
    /// Regular files, links and fifos.
    pub files: u64,
    /// Directories, the exported one included.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What could not be carried: sockets and devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<BytePath>,
}

/// Names one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfEnvironment {
    /// Its reference.
    pub environment: EnvironmentRef,
}

/// Looks into one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InspectRequest {
    /// Its reference.
    pub environment: EnvironmentRef,
    /// Read all of it and compare it with its digest.
    #[serde(default)]
    pub verify: bool,
}

/// Drops what is not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneRequest {
    /// Also what the next workspace would need again: the current kernel, boot images and templates.
    #[serde(default)]
    pub all: bool,
}

/// Checks this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorRequest {
    /// Run the commands that mend what is missing.
    #[serde(default)]
    pub fix: bool,
}

/// Nothing to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// A program that pyro fetched for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstalledProgram {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub path: String,
    /// The sha256 of the archive that it came in, in hex.
    pub sha256: String,
    /// True if it was there already.
    pub already_installed: bool,
}

/// One finding of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Which check.
    pub name: String,
    /// How it came out.
    pub status: CheckStatus,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// The command that mends it, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// All is well.
    Ok,
    /// It works, but worse than it could.
    Warning,
    /// It does not work here, and nothing depends on it.
    Unavailable,
    /// Something that pyro needs does not work.
    Failed,
}

macro_rules! operations {
    ($($name:literal, [$($word:literal),+], $request:ty => $result:ty, $effect:ident, $summary:literal;)*) => {
        /// Every operation, in the order of the reference.
        pub const CATALOGUE: &[Operation] = &[$(Operation {
            name: $name,
            command: &[$($word),+],
            summary: $summary,
            read_only: matches!(Effect::$effect, Effect::Reads),
            destructive: matches!(Effect::$effect, Effect::Destroys),
            idempotent: !matches!(Effect::$effect, Effect::Writes),
            request: || schema_for!($request),
            result: || schema_for!($result),
        }),*];
    };
}

/// Commands that are for a person at a terminal: a live form of operations above, which other doors
/// offer as those. They are in no other door.
pub const INTERACTIVE: &[&[&str]] = &[
    // workspace_shell_read and workspace_shell_write, both at once.
    &["workspace", "shell", "attach"],
];

/// What an operation may do to what the user has.
enum Effect {
    Reads,
    Writes,
    /// Brings about a state, and leaves alone what is in it already.
    Settles,
    /// Loses something that the user made; once it is lost, it cannot be lost again.
    Destroys,
}

operations! {
    "run", ["run"], RunRequest => ExecResult, Writes,
        "Create a workspace, run one command in it, and delete it.";
    "env_list", ["env", "list"], Nothing => Vec<crate::environment::EnvironmentInfo>, Reads,
        "List the environments that are cached, and those that can be.";
    "env_pull", ["env", "pull"], OfEnvironment => crate::environment::EnvironmentInfo, Settles,
        "Fetch an environment into the cache.";
    "env_inspect", ["env", "inspect"], InspectRequest => crate::environment::EnvironmentDetails, Reads,
        "Show what an environment holds.";
    "env_prune", ["env", "prune"], PruneRequest => crate::environment::PruneReport, Destroys,
        "Drop cached environments that no workspace uses.";
    "prepare", ["prepare"], crate::template::PrepareRequest => crate::template::Prepared, Settles,
        "Make the next create fast: fetch the environment and freeze a machine to start from.";
    "workspace_create", ["workspace", "create"], CreateRequest => WorkspaceStatus, Writes,
        "Create and start a workspace from an environment and a seed.";
    "workspace_list", ["workspace", "list"], Nothing => Vec<WorkspaceStatus>, Reads,
        "List the workspaces, the most recently active first.";
    "workspace_status", ["workspace", "status"], OfWorkspace => WorkspaceStatus, Reads,
        "Show one workspace.";
    "workspace_start", ["workspace", "start"], OfWorkspace => WorkspaceStatus, Settles,
        "Start a stopped workspace on its kept disk.";
    "workspace_stop", ["workspace", "stop"], OfWorkspace => WorkspaceStatus, Settles,
        "Stop a workspace: end its processes, flush and keep its disk.";
    "workspace_pause", ["workspace", "pause"], OfWorkspace => WorkspaceStatus, Settles,
        "Hold a workspace still, with all that runs in it; its memory stays.";
    "workspace_resume", ["workspace", "resume"], OfWorkspace => WorkspaceStatus, Settles,
        "Let a paused workspace go on where it was.";
    "workspace_delete", ["workspace", "delete"], OfWorkspace => Deleted, Destroys,
        "Delete a workspace and everything in it.";
    "workspace_exec", ["workspace", "exec"], ExecInWorkspace => ExecResult, Writes,
        "Run a command in a workspace.";
    "workspace_logs", ["workspace", "logs"], LogsRequest => Vec<JournalCommand>, Reads,
        "Show the commands that ran in a workspace, with their output.";
    "workspace_output", ["workspace", "output"], crate::command::OutputRequest => crate::command::OutputPage, Reads,
        "Read a command's output from anywhere in it, or go on where an answer was cut off.";
    "workspace_events", ["workspace", "events"], crate::journal::EventsRequest => Vec<crate::journal::Event>, Reads,
        "Show everything that happened in a workspace, and who asked for it.";
    "workspace_summary", ["workspace", "summary"], OfWorkspace => crate::command::WorkspaceSummary, Reads,
        "Sum up what was done in a workspace, for somebody who has to judge it.";
    "workspace_update", ["workspace", "update"], crate::update::UpdateRequest => WorkspaceStatus, Writes,
        "Change a workspace's name, labels or time to live.";
    "workspace_command_list", ["workspace", "command", "list"], crate::command::ListCommands => Vec<crate::exec::CommandInfo>, Reads,
        "List the commands that run in a workspace, or all that ran.";
    "workspace_command_wait", ["workspace", "command", "wait"], crate::command::WaitForCommand => ExecResult, Reads,
        "Wait until a command has ended, and give its result.";
    "workspace_command_signal", ["workspace", "command", "signal"], crate::command::SignalCommand => crate::command::SignalledCommand, Writes,
        "Signal a command and all it started.";
    "workspace_diff", ["workspace", "diff"], DiffRequest => WorkspaceDiff, Reads,
        "Show what changed in /workspace since it was seeded.";
    "workspace_apply", ["workspace", "apply"], ApplyRequest => Applied, Destroys,
        "Bring what changed in /workspace back to the directory that it was seeded from.";
    "workspace_export", ["workspace", "export"], ExportRequest => Exported, Writes,
        "Copy a file or tree out of a workspace.";
    "workspace_sync_push", ["workspace", "sync", "push"],
        crate::sync::SyncPushRequest => crate::sync::Synced, Destroys,
        "Bring a tree of the host into a workspace, sending what changed.";
    "workspace_sync_pull", ["workspace", "sync", "pull"],
        crate::sync::SyncPullRequest => crate::sync::Synced, Destroys,
        "Bring a tree of a workspace to the host, writing what changed.";
    "workspace_file_list", ["workspace", "file", "list"], crate::file::FileListRequest => crate::file::FileList, Reads,
        "List files of a workspace, also by patterns and without what git ignores.";
    "workspace_file_stat", ["workspace", "file", "stat"], crate::file::FileStatRequest => crate::file::FileStat, Reads,
        "Show what a file of a workspace is: kind, size, mode, time, checksum.";
    "workspace_file_read", ["workspace", "file", "read"], crate::file::FileReadRequest => crate::file::FileContent, Reads,
        "Read a file of a workspace, or some lines or bytes of it.";
    "workspace_file_write", ["workspace", "file", "write"], crate::file::FileWriteRequest => crate::file::FileWritten, Writes,
        "Write a file of a workspace, whole or not at all.";
    "workspace_file_edit", ["workspace", "file", "edit"], crate::file::FileEditRequest => crate::file::FileEdited, Writes,
        "Replace an exact piece of text in a file of a workspace.";
    "workspace_file_remove", ["workspace", "file", "remove"], crate::file::FileRemoveRequest => crate::file::FileRemoved, Destroys,
        "Remove a file or directory of a workspace.";
    "workspace_file_move", ["workspace", "file", "move"], crate::file::FileMoveRequest => crate::file::FileMoved, Writes,
        "Move or rename a file or directory of a workspace.";
    "workspace_patch_apply", ["workspace", "patch", "apply"], crate::patch::PatchApplyRequest => crate::patch::PatchApplied, Writes,
        "Apply a patch to /workspace, all of it or nothing.";
    "workspace_shell_open", ["workspace", "shell", "open"], crate::shell::OpenShell => crate::shell::ShellInfo, Writes,
        "Open a terminal in a workspace that outlives its client, and start a shell or command on it.";
    "workspace_shell_list", ["workspace", "shell", "list"], OfWorkspace => Vec<crate::shell::ShellInfo>, Reads,
        "List the shells of a workspace, also those that have closed.";
    "workspace_shell_read", ["workspace", "shell", "read"], crate::shell::ReadShell => crate::shell::ShellOutput, Reads,
        "Read what a shell has shown since a cursor, or its screen as text.";
    "workspace_shell_write", ["workspace", "shell", "write"], crate::shell::WriteShell => crate::shell::ShellWritten, Writes,
        "Type text or press keys in a shell.";
    "workspace_shell_resize", ["workspace", "shell", "resize"], crate::shell::ResizeShell => crate::shell::ShellInfo, Writes,
        "Give a shell's terminal another size.";
    "workspace_shell_signal", ["workspace", "shell", "signal"], crate::shell::SignalShell => crate::shell::ShellInfo, Writes,
        "Signal what runs in the foreground of a shell.";
    "workspace_shell_close", ["workspace", "shell", "close"], crate::shell::OfShell => crate::shell::ShellInfo, Destroys,
        "End everything that runs in a shell; a shell that has closed is taken off the list.";
    "workspace_disk_list", ["workspace", "disk", "list"], DiskListRequest => DiskListing, Reads,
        "List a directory of a stopped workspace's disk, without starting it.";
    "workspace_disk_read", ["workspace", "disk", "read"], DiskReadRequest => DiskFile, Reads,
        "Read a file of a stopped workspace's disk, without starting it.";
    "workspace_disk_export", ["workspace", "disk", "export"], DiskExportRequest => DiskImage, Writes,
        "Write the disk of a stopped workspace as one ext4 image.";
    "setup_firecracker", ["setup", "firecracker"], Nothing => InstalledProgram, Settles,
        "Fetch the release of Firecracker that pyro works with, verified by its digest.";
    "doctor", ["doctor"], DoctorRequest => Vec<Check>, Settles,
        "Check what this host offers, and say how to mend what is missing.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_follow_the_command() {
        let mut seen = BTreeSet::new();
        for operation in CATALOGUE {
            assert_eq!(operation.name, operation.command.join("_"));
            assert!(seen.insert(operation.name));
            assert!(operation.summary.ends_with('.'));
        }
    }

    #[test]
    fn every_request_and_result_has_a_schema() {
        for operation in CATALOGUE {
            for schema in [(operation.request)(), (operation.result)()] {
                assert!(schema.as_object().is_some(), "{}", operation.name);
            }
        }
    }
}
