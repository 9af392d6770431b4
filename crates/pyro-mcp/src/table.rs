//! What the catalogue does not say: which operation a model sees where, in which words, and what it
//! may not do with it. One entry for each operation; a test refuses an operation without.

use crate::profile::Mode::{self, ColdStart, Inspect, ReproFix, ReviewEval};
use crate::profile::Profile::{self, Core, Run};

/// How one operation of the catalogue is offered to models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The operation, and the name of the tool.
    pub(crate) operation: &'static str,
    /// What it does and when to use it, as short as can be; or why no model is offered it.
    pub(crate) offered: Offered,
    /// Fields that a model may not set, and what it is told who tries.
    pub(crate) withheld: &'static [(&'static str, &'static str)],
    /// Values, as JSON, of fields that models mostly want otherwise than the contract's default.
    pub(crate) presets: &'static [(&'static str, &'static str)],
    /// Fields that name a path of the host: they must stay where the server may read and write.
    pub(crate) host_paths: &'static [&'static str],
    /// The field for a directory of the host that is the project unless it is named.
    pub(crate) project: Option<&'static str>,
    /// Words for fields whose own are too long, or speak of the command line.
    pub(crate) words: &'static [(&'static str, &'static str)],
    /// What a list is called in the result, which MCP wants to be an object.
    pub(crate) list: &'static str,
}

/// Whether and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offered {
    /// In these profiles, besides `full`, and in these modes.
    As { description: &'static str, profiles: &'static [Profile], modes: &'static [Mode] },
    /// To no model, for this reason.
    Never(&'static str),
}

impl Entry {
    const BARE: Self = Self {
        operation: "",
        offered: Offered::Never(""),
        withheld: &[],
        presets: &[],
        host_paths: &[],
        project: None,
        words: &[],
        list: "items",
    };

    const fn new(
        operation: &'static str,
        profiles: &'static [Profile],
        modes: &'static [Mode],
        description: &'static str,
    ) -> Self {
        let offered = Offered::As { description, profiles, modes };
        Self { operation, offered, ..Self::BARE }
    }

    const fn never(operation: &'static str, reason: &'static str) -> Self {
        Self { operation, offered: Offered::Never(reason), ..Self::BARE }
    }

    const fn withholds(self, withheld: &'static [(&'static str, &'static str)]) -> Self {
        Self { withheld, ..self }
    }

    const fn presets(self, presets: &'static [(&'static str, &'static str)]) -> Self {
        Self { presets, ..self }
    }

    const fn host_paths(self, host_paths: &'static [&'static str]) -> Self {
        Self { host_paths, ..self }
    }

    const fn project(self, field: &'static str) -> Self {
        Self { project: Some(field), ..self }
    }

    const fn says(self, words: &'static [(&'static str, &'static str)]) -> Self {
        Self { words, ..self }
    }

    const fn lists(self, list: &'static str) -> Self {
        Self { list, ..self }
    }
}

/// True if it is decided whether and how models are offered an operation of the catalogue. Its fields,
/// defaults and result come from there.
#[must_use]
pub fn decides(operation: &str) -> bool {
    entry(operation).is_some()
}

/// The entry of an operation.
pub(crate) fn entry(operation: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.operation == operation)
}

/// What of a command is not for a model to set.
const OF_COMMANDS: &[(&str, &str)] = &[
    ("stdin", "a call cannot send input as it goes: write it to a file, or use a here-document"),
    ("max_output_bytes", "long output is cut by itself; output_read has the rest"),
    ("limits", LIMITS),
];

const LIMITS: &str = "the user sets limits, with pyro's command line";

/// What of a machine is not for a model to set.
const OF_MACHINES: &[(&str, &str)] = &[("limits", LIMITS), ("labels", "they are the user's")];

/// As much of a file as a result shows of it.
const PIECE: &[(&str, &str)] = &[("max_bytes", "12288")];

const ABOUT_MACHINES: &[(&str, &str)] = &[
    ("engine", "What isolates; leave out unless asked for."),
    ("seed", "What /workspace starts as; the user's project (its tracked files) if left out."),
    ("shape", "Machine size; leave out for the host's default."),
    ("name", "A name of your own to find it by again."),
    ("ttl_seconds", "Stop it, never delete it, after it has run this long."),
    ("env", "Environment variables of every command."),
];

const ABOUT_COMMANDS: &[(&str, &str)] = &[
    ("detach", "Return at once and let it run; workspace_logs has its output."),
    ("timeout_seconds", "End it after this long; no limit if left out."),
    ("user", "User of the guest; root if left out."),
    ("cwd", "Directory, relative to /workspace."),
    ("env", "Environment variables for this command."),
];

/// Every operation, in the order of the catalogue.
pub(crate) const TABLE: &[Entry] = &[
    Entry::new(
        "run",
        &[Run],
        &[],
        "Run one command in a fresh isolated Linux machine that is deleted afterwards. Use it for \
         one-off checks and untrusted code. Nothing is kept: all work has to be in the one command.",
    )
    .withholds(&[
        ("stdin", "a call cannot send input as it goes: put it into the command"),
        ("detach", "the machine is deleted when its one command ends"),
        ("labels", "the machine is deleted when its one command ends"),
        ("name", "the machine is deleted when its one command ends"),
        ("ttl_seconds", "use timeout_seconds"),
    ])
    .says(&[
        ("engine", "What isolates; leave out unless asked for."),
        ("seed", "What /workspace starts as; the user's project (its tracked files) if left out."),
        ("shape", "Machine size; leave out for the host's default."),
        ("env", "Environment variables of the command."),
        ("timeout_seconds", "End it after this long; no limit if left out."),
        ("user", "User of the guest; root if left out."),
        ("cwd", "Directory, relative to /workspace."),
    ]),
    Entry::new("env_list", &[], &[], "List the environments (root filesystems) that can be used.")
        .lists("environments"),
    Entry::new(
        "env_pull",
        &[],
        &[],
        "Fetch an environment into the cache. workspace_create does it by itself.",
    ),
    Entry::new("env_inspect", &[], &[], "Show what an environment holds: packages, size, kernel."),
    Entry::new("env_prune", &[], &[], "Drop cached environments that no workspace uses."),
    Entry::new(
        "prepare",
        &[],
        &[],
        "Make the next workspace_create fast. Use it once before many creates of one kind.",
    )
    .withholds(&[("warm", "machines that wait need a process that outlives the call")]),
    Entry::new(
        "workspace_create",
        &[Core],
        &[ReproFix, ColdStart],
        "Create and start an isolated Linux machine with the project at /workspace. Its changes \
         stay inside until exported. It lives until deleted: name it, and find it again by name.",
    )
    .withholds(OF_MACHINES)
    .says(ABOUT_MACHINES),
    Entry::new(
        "workspace_list",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "List all workspaces, the most recently active first. Use it to find one again.",
    )
    .lists("workspaces"),
    Entry::new(
        "workspace_status",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "Show a workspace's state, and why it stopped or failed.",
    ),
    Entry::new(
        "workspace_start",
        &[Core],
        &[ReproFix, ReviewEval],
        "Start a stopped workspace. Files are as they were; processes are not.",
    ),
    Entry::new(
        "workspace_stop",
        &[Core],
        &[ColdStart],
        "Stop a workspace and keep its disk. Ends all that runs in it.",
    ),
    Entry::new(
        "workspace_pause",
        &[],
        &[],
        "Hold a workspace still with all that runs in it. Resume it before using it.",
    ),
    Entry::new("workspace_resume", &[], &[], "Let a paused workspace go on."),
    Entry::new(
        "workspace_delete",
        &[Core],
        &[ReproFix, ColdStart],
        "Delete a workspace and everything in it, for good. Export first what is to be kept.",
    ),
    Entry::new(
        "workspace_exec",
        &[Core],
        &[ReproFix, ColdStart, ReviewEval],
        "Run a command in a workspace and wait for its end. Files stay between commands; shell state \
         (cd, variables) does not. Long output is cut: output_read has the rest.",
    )
    .withholds(OF_COMMANDS)
    .says(ABOUT_COMMANDS),
    Entry::new(
        "workspace_logs",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "Show the commands that ran in a workspace, with their output, detached ones too.",
    )
    .presets(&[("tail", "20")])
    .says(&[("tail", "Only the last so many commands; 20 if left out.")])
    .lists("commands"),
    Entry::new(
        "workspace_diff",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "Show what changed in /workspace since it was created: paths, and a patch that git apply \
         takes. Use it to check work before exporting it.",
    )
    .withholds(&[("max_patch_bytes", "long patches are cut by themselves; output_read has the rest")])
    .presets(&[("patch", "true")])
    .says(&[("patch", "false for the list of paths alone.")]),
    Entry::new(
        "workspace_apply",
        &[],
        &[],
        "Bring the workspace's changes back into the user's project, all of them or none. Use it only when \
         the user approved what workspace_diff shows. undo takes the last one back.",
    )
    .withholds(&[("include_git", "git would run programs that it names")])
    .host_paths(&["to"])
    .project("to")
    .says(&[
        ("to", "Directory of the host; the user's project if left out."),
        ("paths", "Only these files or directories, relative to /workspace."),
    ]),
    Entry::new(
        "workspace_export",
        &[Core],
        &[ReproFix],
        "Copy a file or directory from a workspace to the user's host. Use it only for what the \
         user wants there.",
    )
    .host_paths(&["output"])
    .says(&[
        ("output", "Where to on the host; relative to the project."),
        ("path", "What to copy; relative to /workspace."),
        ("force", "Replace what stands there."),
    ]),
    Entry::new(
        "workspace_output",
        &[],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "Read more of a command's output: from a continuation, or by its sequence. wait_seconds waits \
         for that of a detached command.",
    )
    .presets(&[("max_output_bytes", "12000")]),
    Entry::new(
        "workspace_events",
        &[],
        &[Inspect, ReviewEval],
        "Show everything that happened in a workspace, and who asked for it.",
    )
    .presets(&[("tail", "100")])
    .lists("events"),
    Entry::new(
        "workspace_summary",
        &[],
        &[Inspect, ReviewEval],
        "Sum up what was done in a workspace: commands, failures, changed files. Start here to judge it.",
    ),
    Entry::new("workspace_update", &[], &[], "Change a workspace's name, labels or time to live."),
    Entry::new("workspace_command_list", &[], &[], "List the commands that run in a workspace.")
        .lists("commands"),
    Entry::new(
        "workspace_command_wait",
        &[],
        &[],
        "Wait until a detached command has ended, and give its result.",
    ),
    Entry::new("workspace_command_signal", &[], &[], "Signal a command and all it started."),
    Entry::new(
        "workspace_file_list",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "List files below a directory, by glob if wanted. Use it to find your way in a project.",
    )
    .presets(&[("limit", "500"), ("gitignore", "true")])
    .says(&[
        ("glob", "Such as *.rs (in any directory) or src/**/*.rs."),
        ("gitignore", "false to see .git and what .gitignore names."),
    ]),
    Entry::new("workspace_file_stat", &[], &[Inspect], "Show a file's kind, size, mode, time, checksum."),
    Entry::new(
        "workspace_file_read",
        &[Core],
        &[ReproFix, Inspect, ColdStart, ReviewEval],
        "Read a file, or some lines of it. Go on with next_offset or next_line.",
    )
    .presets(PIECE),
    Entry::new(
        "workspace_file_write",
        &[Core],
        &[ReproFix],
        "Write a whole file; missing directories are made. For a small change use workspace_file_edit.",
    ),
    Entry::new(
        "workspace_file_edit",
        &[Core],
        &[ReproFix],
        "Replace an exact piece of text in a file, which must stand there once (or all of them).",
    ),
    Entry::new("workspace_file_remove", &[], &[], "Remove a file or directory of a workspace."),
    Entry::new("workspace_file_move", &[], &[], "Move or rename a file or directory of a workspace."),
    Entry::new(
        "workspace_patch_apply",
        &[Core],
        &[ReproFix],
        "Apply a git patch or unified diff to /workspace, all of it or nothing.",
    ),
    Entry::new(
        "workspace_sync_push",
        &[],
        &[],
        "Bring a directory of the user's host into a workspace, sending only what changed.",
    )
    .host_paths(&["source"])
    .says(&[("source", "Directory or archive of the host; relative to the project.")]),
    Entry::new(
        "workspace_sync_pull",
        &[],
        &[],
        "Bring a directory of a workspace to the user's host. Use it only for what the user wants there.",
    )
    .host_paths(&["dest"])
    .says(&[("dest", "Directory of the host; relative to the project.")]),
    Entry::new(
        "workspace_shell_open",
        &[Core],
        &[],
        "Open a terminal that keeps its state: for REPLs, debuggers, programs that ask. For single \
         commands use workspace_exec.",
    )
    .withholds(&[
        ("env", "set variables in the shell itself"),
        ("cols", "its terminal has 80 columns and 24 rows; workspace_shell_resize changes that"),
        ("rows", "its terminal has 80 columns and 24 rows; workspace_shell_resize changes that"),
    ])
    .says(&[
        ("argv", "What to run on it; a login shell if left out."),
        ("cwd", "Directory, relative to /workspace."),
        ("user", "User of the guest; root if left out."),
        ("name", "A name to find it by."),
    ]),
    Entry::new("workspace_shell_list", &[], &[], "List the shells of a workspace.").lists("shells"),
    Entry::new(
        "workspace_shell_read",
        &[Core],
        &[],
        "Read what a shell has shown since a cursor; plain gives the screen of full-screen programs.",
    ),
    Entry::new(
        "workspace_shell_write",
        &[Core],
        &[],
        "Type text or press keys in a shell. End a line with \\n.",
    ),
    Entry::new("workspace_shell_resize", &[], &[], "Give a shell's terminal another size."),
    Entry::new("workspace_shell_signal", &[], &[], "Signal what runs in the foreground of a shell."),
    Entry::new("workspace_shell_close", &[], &[], "End everything that runs in a shell."),
    Entry::new(
        "workspace_disk_list",
        &[],
        &[Inspect],
        "List a directory of a stopped workspace without starting it.",
    )
    .presets(&[("max_entries", "500")]),
    Entry::new(
        "workspace_disk_read",
        &[],
        &[Inspect],
        "Read a file of a stopped workspace without starting it. Go on with its next_offset.",
    )
    .presets(PIECE),
    Entry::new(
        "workspace_disk_export",
        &[],
        &[],
        "Write the whole disk of a stopped workspace to the user's host, as an ext4 image.",
    )
    .host_paths(&["output"])
    .says(&[("output", "Where to on the host; relative to the project.")]),
    Entry::never(
        "setup_firecracker",
        "it installs a program on the host: its owner runs `pyro setup firecracker`",
    ),
    Entry::new(
        "doctor",
        &[],
        &[],
        "Check what this host offers. Use it when machines do not start.",
    )
    .withholds(&[("fix", "it changes the host: its owner runs `pyro doctor --fix`")])
    .lists("checks"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::operation::CATALOGUE;
    use serde_json::Value;

    #[test]
    fn every_operation_has_an_entry_or_a_reason_why_not() {
        let lacking: Vec<&str> = CATALOGUE
            .iter()
            .map(|operation| operation.name)
            .filter(|name| entry(name).is_none())
            .collect();
        assert!(
            lacking.is_empty(),
            "table.rs lacks {lacking:?}: describe them for models, or refuse them with a reason"
        );
        for entry in TABLE {
            let known = CATALOGUE.iter().any(|operation| operation.name == entry.operation);
            assert!(known, "{} is in no catalogue", entry.operation);
        }
    }

    #[test]
    fn an_entry_speaks_of_fields_that_exist() {
        for entry in TABLE {
            let Some(operation) = CATALOGUE.iter().find(|one| one.name == entry.operation) else {
                continue;
            };
            let known = crate::schema::fields(&operation.request);
            let named = entry.withheld.iter().chain(entry.words).chain(entry.presets);
            for name in named.map(|(name, _)| name).chain(entry.host_paths).chain(&entry.project) {
                assert!(known.iter().any(|known| known == name), "{}: {name}", entry.operation);
            }
            for (name, json) in entry.presets {
                assert!(serde_json::from_str::<Value>(json).is_ok(), "{}: {name}", entry.operation);
            }
        }
    }

    #[test]
    fn a_field_that_may_name_a_host_path_is_said_to_be_one_or_not() {
        // Of the guest, in spite of their names.
        const OF_THE_GUEST: &[(&str, &str)] = &[
            ("workspace_file_move", "to"),
            ("workspace_sync_push", "dest"),
            ("workspace_patch_apply", "directory"),
        ];
        let suspicious = ["output", "source", "destination", "dest", "to", "archive", "directory"];
        for entry in TABLE.iter().filter(|one| matches!(one.offered, Offered::As { .. })) {
            let operation = CATALOGUE.iter().find(|one| one.name == entry.operation).unwrap();
            for name in crate::schema::fields(&operation.request) {
                let cleared = entry.host_paths.contains(&&*name)
                    || entry.withheld.iter().any(|(withheld, _)| *withheld == name)
                    || OF_THE_GUEST.contains(&(entry.operation, &name));
                assert!(
                    cleared || !suspicious.contains(&&*name),
                    "{}: is {name} a path of the host?",
                    entry.operation
                );
            }
        }
    }

    #[test]
    fn descriptions_are_short_and_refusals_have_reasons() {
        for entry in TABLE {
            match entry.offered {
                Offered::As { description, .. } => {
                    assert!(description.ends_with('.'), "{}", entry.operation);
                    assert!(description.len() < 240, "{}", entry.operation);
                }
                Offered::Never(reason) => assert!(reason.len() > 20, "{}", entry.operation),
            }
        }
    }
}
