//! `workspace disk …`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use pyro_contract::disk::{MAX_ENTRIES, MAX_READ_BYTES};
use pyro_contract::name::WorkspaceRef;

use super::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// List a directory of a stopped workspace's disk, without starting it
    #[command(after_help = "\
Examples:
  pyro workspace disk list demo
  pyro workspace disk list demo /etc
  pyro workspace disk list demo / --recursive --json | jq -r '.entries[].path'

Links are not followed. What lies in memory (/run, /proc, /dev) is not on the disk.")]
    List {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which directory, absolute or relative to /workspace [default: .]
        path: Option<OsString>,
        /// Also what is in the directories below it
        #[arg(long, short)]
        recursive: bool,
        /// The most entries to show
        #[arg(long, value_name = "N", default_value_t = MAX_ENTRIES)]
        max_entries: u32,
    },
    /// Read a file of a stopped workspace's disk, without starting it
    #[command(after_help = "\
Examples:
  pyro workspace disk read demo src/main.rs
  pyro workspace disk read demo /var/log/dpkg.log --content-only > dpkg.log
  pyro workspace disk read demo core.bin --offset 1048576 --max-bytes 4096 --json")]
    Read {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Which file, absolute or relative to /workspace
        path: OsString,
        /// Where to begin, in bytes
        #[arg(long, value_name = "N", default_value_t = 0)]
        offset: u64,
        /// The most bytes to read
        #[arg(long, value_name = "N", default_value_t = MAX_READ_BYTES)]
        max_bytes: u32,
        /// The content alone, and no word about it on stderr
        #[arg(long, conflicts_with = "json")]
        content_only: bool,
    },
    /// Write the disk of a stopped workspace as one ext4 image
    #[command(after_help = "\
Examples:
  pyro workspace disk export demo --output demo.ext4
  sudo mount -o loop,ro demo.ext4 /mnt

The image is the root of the whole machine, the project in /workspace: raw, sparse, with room for as
much again as the workspace may write. It holds neither kernel nor boot loader.")]
    Export {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Where to put the image
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
        /// Replace the file that stands there
        #[arg(long)]
        force: bool,
    },
}
