//! `workspace shell …` and what makes a command interactive.

use clap::{Args, Subcommand};
use pyro_contract::env_vars::PYRO_DETACH_KEYS;
use pyro_contract::key::Key;
use pyro_contract::name::{EnvVar, Name, WorkspaceRef};
use pyro_contract::shell::ShellRef;
use pyro_contract::signal::SignalName;

use super::parse;
use crate::commands::DetachKeys;

#[derive(Debug, Subcommand)]
pub(crate) enum ShellCommand {
    /// Open a terminal that outlives its client, and start a shell or command on it
    #[command(after_help = "\
Examples:
  pyro workspace shell open demo
  pyro workspace shell open demo --name repl --cols 120 --rows 40 -- python3
  pyro workspace shell open demo --user dev --attach
  SH=$(pyro workspace shell open demo --id-only)

Without a command it is the user's login shell. It ends when its program does, when it is closed, or
when the workspace stops. `pyro workspace shell attach` connects your terminal to it.")]
    Open(Box<OpenArgs>),
    /// List the shells of a workspace, also those that have closed
    #[command(after_help = "Example:\n  pyro workspace shell list demo")]
    List {
        /// The workspace's id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
    },
    /// Show what a shell has shown since a cursor, or its screen
    #[command(after_help = "\
Examples:
  pyro workspace shell read demo main
  pyro workspace shell read demo main --cursor 4096 --wait-for-idle-ms 500
  pyro workspace shell read demo main --plain
  pyro workspace shell read demo main --raw > typescript

The last 8 MiB of a shell's output are kept; --json says what was dropped, and where to read on.")]
    Read(ReadArgs),
    /// Type text or press keys in a shell
    #[command(after_help = "\
Examples:
  pyro workspace shell write demo main 'make test' --enter
  pyro workspace shell write demo main --key ctrl-c
  pyro workspace shell write demo main --key escape ':wq' --enter
  pyro workspace shell write demo main < script.py

The text is typed first, then the keys, then Enter. Keys: enter, tab, escape, space, backspace, delete,
up, down, left, right, home, end, page-up, page-down, f1 to f12, and single characters, with ctrl-,
alt- or shift- before them. Without text and keys, or with `-`, stdin is typed, whatever bytes it has.")]
    Write(WriteArgs),
    /// Give a shell's terminal another size
    #[command(
        after_help = "Example:\n  pyro workspace shell resize demo main --cols 120 --rows 40"
    )]
    Resize {
        #[command(flatten)]
        of: OfArgs,
        /// Columns, 2 to 500
        #[arg(long, value_name = "N")]
        cols: u16,
        /// Rows, 2 to 300
        #[arg(long, value_name = "N")]
        rows: u16,
    },
    /// Signal what runs in the foreground of a shell
    #[command(after_help = "\
Examples:
  pyro workspace shell signal demo main TERM
  pyro workspace shell signal demo main USR1")]
    Signal {
        #[command(flatten)]
        of: OfArgs,
        /// A name, with or without SIG, or a number
        #[arg(value_parser = parse::<SignalName>)]
        signal: SignalName,
    },
    /// End everything that runs in a shell; one that has closed is taken off the list
    #[command(after_help = "Example:\n  pyro workspace shell close demo main")]
    Close {
        #[command(flatten)]
        of: OfArgs,
    },
    /// Connect your terminal to a shell; ctrl-p ctrl-q leaves it running
    #[command(after_help = "\
Examples:
  pyro workspace shell attach demo main
  pyro workspace shell attach demo main --detach-keys ctrl-a,d

Several may be attached at once: all see the same, all may type, and the terminal has the size of whoever
attached or resized last. The exit code is that of the shell's program if it ends meanwhile, else 0.")]
    Attach {
        #[command(flatten)]
        of: OfArgs,
        #[command(flatten)]
        detach: DetachArgs,
    },
}

/// Names one shell.
#[derive(Debug, Args)]
pub(crate) struct OfArgs {
    /// The workspace's id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// The shell's id or name
    #[arg(value_parser = parse::<ShellRef>)]
    pub(crate) shell: ShellRef,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// The keys that leave the shell, pressed one after the other
    #[arg(long, value_name = "KEYS", env = PYRO_DETACH_KEYS, default_value = "ctrl-p,ctrl-q", value_parser = parse::<DetachKeys>)]
    pub(crate) detach_keys: DetachKeys,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The workspace's id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// A name to find it by
    #[arg(long, value_parser = parse::<Name>)]
    pub(crate) name: Option<Name>,
    /// Where to start it, absolute or relative to /workspace
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// A variable for it; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse::<EnvVar>)]
    pub(crate) env: Vec<EnvVar>,
    /// As which user of the guest, by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Columns of its terminal, 2 to 500
    #[arg(long, value_name = "N", default_value_t = 80)]
    pub(crate) cols: u16,
    /// Rows of its terminal, 2 to 300
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) rows: u16,
    /// Print the bare id
    #[arg(long, conflicts_with = "json")]
    pub(crate) id_only: bool,
    /// Then connect your terminal to it
    #[arg(long, conflicts_with_all = ["json", "id_only"])]
    pub(crate) attach: bool,
    #[command(flatten)]
    pub(crate) detach: DetachArgs,
    /// What to run instead of a login shell
    #[arg(last = true, value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) of: OfArgs,
    /// From which byte of its output on [default: its beginning]
    #[arg(long, value_name = "N")]
    pub(crate) cursor: Option<u64>,
    /// The most characters to show, up to 100000
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) max_chars: u32,
    /// The screen as a person would see it now, as text
    #[arg(long)]
    pub(crate) plain: bool,
    /// Keep control sequences (colours, movements), which are left out otherwise
    #[arg(long, conflicts_with = "plain")]
    pub(crate) raw: bool,
    /// First wait until nothing new was shown for this long
    #[arg(long, value_name = "N")]
    pub(crate) wait_for_idle_ms: Option<u64>,
    /// The longest to wait for that
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    pub(crate) timeout_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) of: OfArgs,
    /// What to type; `-` for stdin
    pub(crate) text: Option<String>,
    /// Press a key after that, such as ctrl-c, up or escape; may be given several times
    #[arg(long = "key", value_name = "KEY", value_parser = parse::<Key>)]
    pub(crate) keys: Vec<Key>,
    /// Press Enter at the end
    #[arg(long)]
    pub(crate) enter: bool,
    /// The longest to wait for the terminal to take it
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) timeout_ms: u64,
}

/// What makes a command interactive.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct InteractiveArgs {
    /// Pass stdin on also if it is the keyboard
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the command a terminal, connected to yours
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) tty: bool,
}
