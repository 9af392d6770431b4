//! `workspace file` and `workspace patch`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use pyro_contract::file::{Encoding, EncodingChoice, FileMode, LIST_LIMIT, LineRange, Sha256};
use pyro_contract::name::WorkspaceRef;

use super::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// List files of a workspace, also by patterns and without what git ignores
    #[command(after_help = "\
Examples:
  pyro workspace file list demo
  pyro workspace file list demo src --recursive --glob '*.rs'
  pyro workspace file list demo --recursive --gitignore --json | jq -r '.entries[].path'

Paths are relative to /workspace, or absolute. Without --json it lists all that there is, however much.")]
    List {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which directory
        #[arg(default_value = ".")]
        path: OsString,
        /// Also what is in the directories below it
        #[arg(long, short)]
        recursive: bool,
        /// Only what matches: `*.rs` names, `src/**/*.rs` paths; may be given several times
        #[arg(long, value_name = "PATTERN")]
        glob: Vec<String>,
        /// Leave out .git and what the .gitignore files say
        #[arg(long)]
        gitignore: bool,
        /// With --json: so many entries at most, up to 10000
        #[arg(long, value_name = "N", default_value_t = LIST_LIMIT)]
        limit: u32,
        /// With --json: go on where an earlier list ended
        #[arg(long, value_name = "TOKEN")]
        continuation: Option<String>,
    },
    /// Show what a file of a workspace is: kind, size, mode, time, checksum
    #[command(after_help = "\
Examples:
  pyro workspace file stat demo src/main.rs
  pyro workspace file stat demo /etc/localtime --follow --json")]
    Stat {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which file
        path: OsString,
        /// Look at what a link leads to, instead of the link
        #[arg(long)]
        follow: bool,
    },
    /// Read a file of a workspace, or some lines or bytes of it
    #[command(after_help = "\
Examples:
  pyro workspace file read demo README.md
  pyro workspace file read demo src/main.rs --lines 10:40
  pyro workspace file read demo image.png > image.png
  pyro workspace file read demo build.log --json --max-bytes 65536 | jq .next_offset

Without --json the bytes go to stdout as they are, all of them unless --max-bytes says otherwise.")]
    Read {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which file
        path: OsString,
        /// From which byte on
        #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "lines")]
        offset: u64,
        /// Only these lines, counted from 1: 10:20, 10: or :20
        #[arg(long, value_name = "A:B", value_parser = parse::<LineRange>)]
        lines: Option<LineRange>,
        /// So many bytes at most; with --json 262144 unless given, and up to 4194304
        #[arg(long, value_name = "N")]
        max_bytes: Option<u64>,
        /// With --json: how to write the content: auto, text, base64
        #[arg(long, value_parser = parse::<EncodingChoice>, default_value_t)]
        encoding: EncodingChoice,
    },
    /// Write a file of a workspace, whole or not at all
    #[command(after_help = "\
Examples:
  pyro workspace file write demo notes.txt --content 'hello'
  pyro workspace file write demo bin/run.sh --mode 755 < run.sh
  pyro workspace file write demo a.txt --expected-sha256 $SUM < new.txt

Without --content it takes its stdin, of any size. Directories that are missing are made.")]
    Write {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which file
        path: OsString,
        /// What is to be in it, instead of stdin
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        content: Option<String>,
        /// How --content is written: text, base64
        #[arg(long, value_parser = parse::<Encoding>, default_value_t)]
        encoding: Encoding,
        /// Permission bits in octal [default: those it has, else 644]
        #[arg(long, value_name = "MODE", value_parser = parse::<FileMode>)]
        mode: Option<FileMode>,
        /// Write only if the file's content has this checksum, as read before
        #[arg(long, value_name = "SUM", value_parser = parse::<Sha256>)]
        expected_sha256: Option<Sha256>,
        /// Write only if there is nothing yet
        #[arg(long, conflicts_with = "expected_sha256")]
        create_only: bool,
    },
    /// Replace an exact piece of text in a file of a workspace
    #[command(after_help = "\
Examples:
  pyro workspace file edit demo src/main.rs --old 'let x = 1;' --new 'let x = 2;'
  pyro workspace file edit demo config.toml --old localhost --new 127.0.0.1 --all

The text must stand in the file exactly so, white space included, and only once unless --all is given.")]
    Edit {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which file
        path: OsString,
        /// The text to replace
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        old: String,
        /// What to put in its place
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        new: String,
        /// Replace it wherever it stands
        #[arg(long)]
        all: bool,
        /// Edit only if the file's content has this checksum, as read before
        #[arg(long, value_name = "SUM", value_parser = parse::<Sha256>)]
        expected_sha256: Option<Sha256>,
    },
    /// Remove a file or directory of a workspace
    #[command(after_help = "\
Examples:
  pyro workspace file remove demo old.txt
  pyro workspace file remove demo build --recursive --missing-ok")]
    Remove {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which one
        path: OsString,
        /// Also a directory that is not empty, with all that is in it
        #[arg(long, short)]
        recursive: bool,
        /// Nothing there is as good
        #[arg(long)]
        missing_ok: bool,
        /// Remove only if the file's content has this checksum, as read before
        #[arg(long, value_name = "SUM", value_parser = parse::<Sha256>)]
        expected_sha256: Option<Sha256>,
    },
    /// Move or rename a file or directory of a workspace
    #[command(after_help = "\
Examples:
  pyro workspace file move demo old.rs src/new.rs
  pyro workspace file move demo draft.md README.md --force")]
    Move {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// What
        from: OsString,
        /// Where to: the new path itself, not a directory to put it in
        to: OsString,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PatchCommand {
    /// Apply a patch to /workspace, all of it or nothing
    #[command(after_help = "\
Examples:
  pyro workspace patch apply demo --patch-file fix.patch
  git diff --binary | pyro workspace patch apply demo --patch-file -
  pyro workspace patch apply demo --patch-file fix.patch --dry-run

It takes what `git apply` takes: git's format with renames, modes and binary files, and plain unified
diffs. If it does not apply, the error says where, and what stands there instead.")]
    Apply {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// The patch itself
        #[arg(
            long,
            value_name = "TEXT",
            allow_hyphen_values = true,
            required_unless_present = "patch_file",
            conflicts_with = "patch_file"
        )]
        patch: Option<String>,
        /// A file with the patch, or `-` for stdin
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        patch_file: Option<PathBuf>,
        /// Apply it below this directory instead of /workspace
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
        /// Take so many names from the front of each path [default: found out]
        #[arg(long, short = 'p', value_name = "N")]
        strip: Option<u32>,
        /// How many lines of context around a change may differ
        #[arg(long, value_name = "N", default_value_t = 0)]
        fuzz: u32,
        /// Only find out whether it applies
        #[arg(long, visible_alias = "check")]
        dry_run: bool,
    },
}
