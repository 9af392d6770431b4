//! The command line, as types.

pub(crate) mod apply;
pub(crate) mod disk;
mod file;
mod journal;
mod limits;
mod mcp;
mod shell;
mod sync;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueHint};
use pyro_contract::Error;
use pyro_contract::diff::MAX_PATCH_BYTES;
use pyro_contract::environment::EnvironmentRef;
use pyro_contract::name::{EnvVar, Label, WorkspaceId, WorkspaceName, WorkspaceRef};
use pyro_contract::workspace::{EngineChoice, EngineKind, ShapeRequest};

pub(crate) use file::{FileCommand, PatchCommand};
pub(crate) use journal::{CommandCommand, EventsArgs, LogsArgs, OutputArgs, UpdateArgs};
pub(crate) use limits::{CommandLimitArgs, WorkspaceLimitArgs};
pub(crate) use mcp::{McpCommand, OfferArgs, ServeArgs};
pub(crate) use shell::{InteractiveArgs, OfArgs, OpenArgs, ReadArgs, ShellCommand, WriteArgs};
pub(crate) use sync::{PullArgs, PushArgs, SyncCommand};

/// A computer of its own for a coding agent: a persistent, isolated Linux workspace.
#[derive(Debug, Parser)]
#[command(
    name = "pyro",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  pyro run debian:12 -- git --version
  pyro workspace create debian:12 --seed-path . --name demo
  pyro workspace exec demo -- make test
  pyro workspace diff demo
  pyro workspace delete demo

State lies under $PYRO_HOME (default: ~/.local/share/pyro), defaults in ~/.config/pyro/config.toml.
`pyro doctor` checks this host."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Global {
    /// Print one JSON document on stdout, errors included
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No colour, no spinner
    #[arg(long, global = true)]
    pub(crate) plain: bool,
    /// No progress and no notes on stderr, only errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a workspace, run one command in it, and delete it
    #[command(after_help = "\
Examples:
  pyro run debian:12 -- git --version
  pyro run debian:12 --seed-path . -- sh -c 'python3 -m unittest && git status'
  echo 'print(6*7)' | pyro run debian:12 -- python3 -

The exit code is the command's; 124 if it ran out of time, 125 if pyro itself failed.")]
    Run(Box<RunArgs>),
    /// Environments: the root filesystems that workspaces are made from
    #[command(subcommand)]
    Env(EnvCommand),
    /// Make the next create fast: fetch the environment and freeze a machine to start from
    #[command(after_help = "\
Examples:
  pyro prepare
  pyro prepare debian:12-build --mem-mib 4096 --vcpu-count 2
  pyro prepare --warm 4 &

A template serves machines of exactly this engine and size. The first create of a kind makes one in
the background too; it takes about 80 MiB of disk, and `pyro env prune --all` drops it.")]
    Prepare(PrepareArgs),
    /// Workspaces: create, use, review, delete
    #[command(subcommand, visible_alias = "ws")]
    Workspace(Box<WorkspaceCommand>),
    /// Let models use workspaces: serve MCP, and connect chat hosts
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Programs that pyro works with and no package has: fetch them
    #[command(subcommand)]
    Setup(SetupCommand),
    /// Check what this host offers, and say how to mend what is missing
    #[command(after_help = "\
Examples:
  pyro doctor
  pyro doctor --fix
  pyro doctor --json | jq '.[] | select(.status != \"ok\")'

The exit code is 1 if a check failed.")]
    Doctor(DoctorArgs),
    /// Measure each engine on this host, and its peers in the same run
    #[command(after_help = "\
Examples:
  pyro bench
  pyro bench --engine container --quick
  pyro bench --json | jq .ratios

It creates and deletes some dozens of workspaces, which takes a minute or two. Peers (podman, runsc)
are measured where they are installed.")]
    Bench(BenchArgs),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  pyro completions bash > /etc/bash_completion.d/pyro
  pyro completions zsh > \"${fpath[1]}/_pyro\"

It completes commands, options, and the names of workspaces and environments.")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the public contract: operations, types, errors, as Markdown or with --json as JSON
    #[command(
        after_help = "Examples:\n  pyro contract | less\n  pyro contract --json | jq '.operations[].name'"
    )]
    Contract,
    /// Own a workspace while it runs (started by pyro itself)
    #[command(hide = true)]
    Supervise(SuperviseArgs),
    /// Make a template that nobody waits for (started by pyro itself)
    #[command(hide = true)]
    Freeze(FreezeArgs),
    /// Own a machine that waits for a workspace (started by pyro itself)
    #[command(hide = true)]
    Warm(WarmArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SetupCommand {
    /// Fetch the release of Firecracker that pyro works with, verified by its digest
    #[command(after_help = "\
Examples:
  pyro setup firecracker
  PYRO_FIRECRACKER_MIRROR=https://mirror.example.org/firecracker pyro setup firecracker

It goes to $PYRO_HOME/programs and is used from there, unless PYRO_FIRECRACKER or the configuration
file names another. Done again, it does nothing.")]
    Firecracker,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// List the environments that are cached, and those that can be
    #[command(after_help = "Example:\n  pyro env list --json")]
    List,
    /// Fetch an environment into the cache
    #[command(after_help = "Example:\n  pyro env pull debian:12-build")]
    Pull {
        /// Which environment
        #[arg(value_parser = parse::<EnvironmentRef>)]
        environment: EnvironmentRef,
    },
    /// Show what an environment holds
    #[command(
        after_help = "Examples:\n  pyro env inspect debian:12\n  pyro env inspect debian:12 --verify"
    )]
    Inspect {
        /// Which environment
        #[arg(value_parser = parse::<EnvironmentRef>)]
        environment: EnvironmentRef,
        /// Read all of it and compare it with its digest
        #[arg(long)]
        verify: bool,
    },
    /// Drop cached environments that no workspace uses
    #[command(after_help = "Examples:\n  pyro env prune\n  pyro env prune --all")]
    Prune {
        /// Also what the next workspace would need again: the current kernel, boot images and templates
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Create and start a workspace from an environment and a seed
    #[command(after_help = "\
Examples:
  pyro workspace create debian:12
  pyro workspace create debian:12 --seed-path . --name demo --label team=core
  pyro workspace create debian:12 --seed-git https://example.org/project.git#v1.2
  WS=$(pyro workspace create debian:12 --id-only)")]
    Create(CreateArgs),
    /// List the workspaces, the most recently active first
    #[command(after_help = "Example:\n  pyro workspace list --json | jq -r '.[].id'")]
    List,
    /// Show one workspace
    #[command(after_help = "Example:\n  pyro workspace status demo")]
    Status {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Start a stopped workspace on its kept disk
    #[command(after_help = "Example:\n  pyro workspace start demo")]
    Start {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Stop a workspace: end its processes, flush and keep its disk
    #[command(after_help = "Example:\n  pyro workspace stop demo")]
    Stop {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Hold a workspace still, with all that runs in it; its memory stays
    #[command(after_help = "\
Examples:
  pyro workspace pause demo
  pyro workspace resume demo

While paused it takes no processor time, and nothing in it can be run or read. Its time to live runs on.")]
    Pause {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Let a paused workspace go on where it was
    #[command(after_help = "Example:\n  pyro workspace resume demo")]
    Resume {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Delete a workspace and everything in it
    #[command(after_help = "Example:\n  pyro workspace delete demo")]
    Delete {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Run a command in a workspace
    #[command(after_help = "\
Examples:
  pyro workspace exec demo -- make test
  pyro workspace exec demo --cwd src --env DEBUG=1 --timeout-seconds 60 -- python3 main.py
  pyro workspace exec demo -c 'grep -r TODO . | wc -l'
  pyro workspace exec demo --memory-mib 512 --process-count 100 -- ./untrusted
  pyro workspace exec demo --detach -- make test   # then: pyro workspace command list demo
  tar c data | pyro workspace exec demo -- tar x
  pyro workspace exec -it demo -- bash

The exit code is the command's; 124 if it ran out of time, 125 if pyro itself failed.
Ctrl-C is passed on to the command; a second one ends it and all it started, and so does the end of
this process, unless it is detached.")]
    Exec {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        #[command(flatten)]
        exec: ExecArgs,
    },
    /// Terminals in a workspace that outlive their clients: open, type, read, attach
    #[command(subcommand)]
    Shell(ShellCommand),
    /// Show the commands that ran in a workspace, with their output
    #[command(after_help = "\
Examples:
  pyro workspace logs demo
  pyro workspace logs demo --tail 1
  pyro workspace logs demo --since 10m --grep 'error|warning'
  pyro workspace logs demo --sequence 7            # all of its output
  pyro workspace logs demo --sequence 7 --follow   # until it ends
  pyro workspace logs demo --follow                # until the workspace stops")]
    Logs(LogsArgs),
    /// Read a command's output from anywhere in it, or go on where an answer was cut off
    #[command(after_help = "\
Examples:
  pyro workspace output demo --sequence 7
  pyro workspace output demo --sequence 7 --position 1048576 --stream stderr
  pyro --json workspace output demo --continuation AQcAAAAAAAAA…

What the command wrote to stdout goes to stdout, and the rest to stderr.")]
    Output(OutputArgs),
    /// Show everything that happened in a workspace, and who asked for it
    #[command(after_help = "\
Examples:
  pyro workspace events demo
  pyro workspace events demo --since 1h
  pyro --json workspace events demo --follow | jq .kind")]
    Events(EventsArgs),
    /// Sum up what was done in a workspace, for somebody who has to judge it
    #[command(after_help = "Example:\n  pyro workspace summary demo")]
    Summary {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Change a workspace's name, labels or time to live
    #[command(after_help = "\
Examples:
  pyro workspace update demo --name review --label team=core
  pyro workspace update demo --clear-label team --ttl-seconds 3600
  pyro workspace update demo --clear-ttl")]
    Update(UpdateArgs),
    /// Commands that run, or ran: list them, wait for them, signal them
    #[command(subcommand)]
    Command(CommandCommand),
    /// Show what changed in /workspace since it was seeded, as a patch that `git apply` takes
    #[command(after_help = "\
Examples:
  pyro workspace diff demo
  pyro workspace diff demo --stat
  pyro workspace diff demo > changes.patch && git apply changes.patch
  pyro workspace diff demo --json --patch | jq -r .patch")]
    Diff {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Files and how many lines came and went
        #[arg(long, conflicts_with = "name_only")]
        stat: bool,
        /// Only the paths of what changed
        #[arg(long)]
        name_only: bool,
        /// With --name-only: exact names, each ended by a NUL, for `xargs -0`
        #[arg(long = "null", short = 'z', requires = "name_only")]
        nul: bool,
        /// Write the patch to a file, which must not exist yet
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["stat", "name_only"])]
        output: Option<PathBuf>,
        /// With --json: the patch too
        #[arg(long, requires = "json", conflicts_with = "output")]
        patch: bool,
        /// With --json --patch: the most bytes of it
        #[arg(long, value_name = "N", default_value_t = MAX_PATCH_BYTES)]
        max_patch_bytes: u64,
    },
    /// Bring a tree of the host into a workspace, or one of a workspace to the host
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Bring what changed in /workspace back to the directory that it was seeded from
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::ApplyArgs),
    /// Files of a workspace: list, look at, read, write, edit, remove, move
    #[command(subcommand)]
    File(FileCommand),
    /// Patches: apply them to a workspace
    #[command(subcommand)]
    Patch(PatchCommand),
    /// Look into the disk of a stopped workspace, or take it whole
    #[command(subcommand)]
    Disk(disk::DiskCommand),
    /// Copy a file or tree out of a workspace
    #[command(after_help = "\
Examples:
  pyro workspace export demo dist --output ./dist
  pyro workspace export demo /etc/os-release --output os-release
  pyro workspace export demo . --output - | tar t")]
    Export {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// What to copy, absolute or relative to /workspace
        path: std::ffi::OsString,
        /// Where to, or `-` for a tar stream on stdout
        #[arg(long, short, value_name = "OUT", value_hint = ValueHint::AnyPath)]
        output: PathBuf,
        /// Replace what stands there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Print the bare id
    #[arg(long, conflicts_with = "json")]
    pub(crate) id_only: bool,
}

/// What `create` and `run` share.
#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// The environment, such as debian:12 (`pyro env list` shows them)
    #[arg(value_parser = parse::<EnvironmentRef>)]
    pub(crate) environment: EnvironmentRef,
    /// Start /workspace as this directory or .tar[.gz|.zst] archive
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with = "seed_git")]
    pub(crate) seed_path: Option<PathBuf>,
    /// Start /workspace as the files that git tracks at a commit (HEAD, unless #REF names another)
    #[arg(long, value_name = "PATH-or-URL[#REF]")]
    pub(crate) seed_git: Option<String>,
    #[command(flatten)]
    pub(crate) kind: KindArgs,
    #[command(flatten)]
    pub(crate) limits: WorkspaceLimitArgs,
    /// A name to find it by
    #[arg(long, value_parser = parse::<WorkspaceName>)]
    pub(crate) name: Option<WorkspaceName>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::<Label>)]
    pub(crate) labels: Vec<Label>,
    /// Stop it (never delete it) after it has run this long
    #[arg(long, value_name = "N")]
    pub(crate) ttl_seconds: Option<u64>,
    /// A variable for every command; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse::<EnvVar>)]
    pub(crate) env: Vec<EnvVar>,
}

/// What a machine is like.
#[derive(Debug, Args)]
pub(crate) struct KindArgs {
    /// What isolates it: auto, firecracker, qemu, container [default: auto, unless configured]
    #[arg(long, value_parser = parse::<EngineChoice>)]
    pub(crate) engine: Option<EngineChoice>,
    /// Virtual CPUs [default: 1, unless configured]
    #[arg(long, value_name = "N")]
    pub(crate) vcpu_count: Option<u8>,
    /// Memory [default: 1024, unless configured]
    #[arg(long, value_name = "MIB")]
    pub(crate) mem_mib: Option<u32>,
    /// The most it may write to its disk [default: 10240, unless configured]
    #[arg(long, value_name = "MIB")]
    pub(crate) disk_mib: Option<u32>,
}

impl KindArgs {
    pub(crate) fn shape(&self) -> ShapeRequest {
        ShapeRequest { vcpu_count: self.vcpu_count, mem_mib: self.mem_mib, disk_mib: self.disk_mib }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// The environment
    #[arg(value_parser = parse::<EnvironmentRef>, default_value = "debian:12")]
    pub(crate) environment: EnvironmentRef,
    #[command(flatten)]
    pub(crate) kind: KindArgs,
    /// Then keep so many machines waiting, until Ctrl-C; a create that finds one takes it
    #[arg(long, value_name = "N")]
    pub(crate) warm: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct WarmArgs {
    #[arg(long)]
    pub(crate) directory: PathBuf,
    #[arg(long)]
    pub(crate) keeper_fd: i32,
    #[arg(long)]
    pub(crate) engine: String,
    #[arg(long)]
    pub(crate) shape: String,
    #[arg(long)]
    pub(crate) boot: String,
    #[arg(long)]
    pub(crate) settings: String,
}

#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    #[arg(long, value_parser = parse::<EnvironmentRef>)]
    pub(crate) environment: EnvironmentRef,
    #[arg(long, value_parser = parse::<EngineChoice>)]
    pub(crate) engine: EngineChoice,
    #[arg(long)]
    pub(crate) shape: String,
    #[arg(long)]
    pub(crate) settings: String,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Where to run it, absolute or relative to /workspace
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// As which user of the guest, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// End the command and all it started after this long
    #[arg(long, value_name = "N")]
    pub(crate) timeout_seconds: Option<u64>,
    #[command(flatten)]
    pub(crate) interactive: InteractiveArgs,
    /// With --json: the most bytes of output, both streams together [default: 1048576]
    #[arg(long, value_name = "N")]
    pub(crate) max_output_bytes: Option<u32>,
    /// Instead of CMD: a text for a login shell, run as `sh -lc TEXT`
    #[arg(long, short = 'c', value_name = "TEXT", conflicts_with = "argv")]
    pub(crate) shell: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "shell", value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Where to run it, absolute or relative to /workspace
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// A variable for this command; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse::<EnvVar>)]
    pub(crate) env: Vec<EnvVar>,
    /// As which user of the guest, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// End the command and all it started after this long
    #[arg(long, value_name = "N")]
    pub(crate) timeout_seconds: Option<u64>,
    /// Return at once and let it run; its output is in the logs
    #[arg(long, short, conflicts_with_all = ["interactive", "tty"])]
    pub(crate) detach: bool,
    /// With --detach: print the bare number of the command
    #[arg(long, requires = "detach", conflicts_with = "json")]
    pub(crate) id_only: bool,
    #[command(flatten)]
    pub(crate) limits: CommandLimitArgs,
    /// With --json: the most bytes of output, both streams together [default: 1048576]
    #[arg(long, value_name = "N")]
    pub(crate) max_output_bytes: Option<u32>,
    /// Instead of CMD: a text for a login shell, run as `sh -lc TEXT`
    #[arg(long, short = 'c', value_name = "TEXT", conflicts_with = "argv")]
    pub(crate) shell: Option<String>,
    #[command(flatten)]
    pub(crate) interactive: InteractiveArgs,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "shell", value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The environment
    #[arg(value_parser = parse::<EnvironmentRef>, default_value = "debian:12")]
    pub(crate) environment: EnvironmentRef,
    /// Only this engine, and no peers
    #[arg(long, value_parser = crate::bench::engine)]
    pub(crate) engine: Option<EngineKind>,
    /// Fewer rounds
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Run the commands that mend what is missing
    #[arg(long)]
    pub(crate) fix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    #[arg(long, value_parser = parse::<WorkspaceId>)]
    pub(crate) id: WorkspaceId,
    #[arg(long)]
    pub(crate) lock_fd: i32,
    #[arg(long)]
    pub(crate) boot: String,
    #[arg(long)]
    pub(crate) settings: String,
    #[arg(long)]
    pub(crate) ephemeral: bool,
    #[arg(long)]
    pub(crate) client: Option<String>,
}

/// Parses a value of the contract; what is wrong is said together with what to do.
fn parse<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use pyro_contract::operation::{CATALOGUE, INTERACTIVE};

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_operation_of_the_catalogue_has_a_command_with_help_and_examples() {
        for operation in CATALOGUE {
            let mut command = &Cli::command();
            for word in operation.command {
                command = command.find_subcommand(word).unwrap_or_else(|| {
                    panic!("the CLI lacks `pyro {}`", operation.command.join(" "))
                });
            }
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "{} has no help", operation.name);
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("Example"), "{} has no example", operation.name);
            assert!(examples.contains("pyro "), "{} has no example", operation.name);
        }
    }

    #[test]
    fn interactive_commands_have_help_and_examples() {
        for words in INTERACTIVE {
            let command = Cli::command();
            let found = words.iter().try_fold(&command, |at, word| at.find_subcommand(word));
            let examples = found.and_then(clap::Command::get_after_help).unwrap().to_string();
            assert!(examples.contains("pyro "), "{words:?}");
        }
    }

    #[test]
    fn the_cli_has_no_operation_that_the_catalogue_lacks() {
        let known: Vec<String> = CATALOGUE.iter().map(|o| o.command.join(" ")).collect();
        let command = Cli::command();
        for top in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let leaves = leaves(top);
            // These are about the command line or this host, and need no other door.
            let own = [
                "bench",
                "completions",
                "contract",
                "mcp serve",
                "mcp install",
                "mcp print-config",
                "mcp check",
            ];
            let mut own: Vec<String> = own.map(str::to_owned).to_vec();
            own.extend(INTERACTIVE.iter().map(|words| words.join(" ")));
            for leaf in leaves.iter().filter(|leaf| !own.contains(leaf)) {
                assert!(known.contains(leaf), "`pyro {leaf}` is not in the catalogue");
            }
        }
    }

    /// The commands below this one that do something themselves: `workspace shell open`.
    fn leaves(command: &clap::Command) -> Vec<String> {
        let name = command.get_name();
        let below: Vec<String> = command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set())
            .flat_map(|sub| leaves(sub).into_iter().map(|leaf| format!("{name} {leaf}")))
            .collect();
        if below.is_empty() { vec![name.to_owned()] } else { below }
    }
}
