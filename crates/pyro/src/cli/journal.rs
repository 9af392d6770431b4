//! Arguments about the journal, and about commands that run without whoever started them.

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use pyro_contract::exec::Stream;
use pyro_contract::name::{Label, Name, WorkspaceName, WorkspaceRef};
use pyro_contract::signal::SignalName;

use super::parse;

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// Only the last N commands
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Only this command, with all of its output that is kept
    #[arg(long, value_name = "N")]
    pub(crate) sequence: Option<u64>,
    /// Only commands since a time (2026-11-24T12:00:00Z) or for so long (90s, 10m, 2h, 3d)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Only lines that match a regular expression
    #[arg(long, value_name = "REGEX", conflicts_with = "follow")]
    pub(crate) grep: Option<String>,
    /// The most bytes of output of each command [default: 65536]
    #[arg(long, value_name = "N")]
    pub(crate) max_output_bytes: Option<u32>,
    /// Go on with what comes, until the workspace stops (with --sequence: until the command ends)
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// Go on where an answer with this `continuation` was cut off
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["sequence", "position", "stream"])]
    pub(crate) continuation: Option<String>,
    /// The number of the command
    #[arg(long, value_name = "N", required_unless_present = "continuation")]
    pub(crate) sequence: Option<u64>,
    /// Begin after so many bytes of both streams
    #[arg(long, value_name = "N")]
    pub(crate) position: Option<u64>,
    /// Only this stream: stdout or stderr
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    pub(crate) stream: Option<Stream>,
    /// The most bytes of output [default: 1048576]
    #[arg(long, value_name = "N")]
    pub(crate) max_output_bytes: Option<u32>,
    /// If there is nothing more yet and the command runs, wait so long for more
    #[arg(long, value_name = "N")]
    pub(crate) wait_seconds: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// Only events with a higher number
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: u64,
    /// Only events since a time (2026-11-24T12:00:00Z) or for so long (90s, 10m, 2h, 3d)
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Only the last N events
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// If there is nothing yet and the workspace runs, wait so long for something to happen
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub(crate) wait_seconds: Option<u32>,
    /// Go on with what comes, one JSON document a line with --json, until the workspace stops
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id or name
    #[arg(value_parser = parse::<WorkspaceRef>)]
    pub(crate) workspace: WorkspaceRef,
    /// Its new name
    #[arg(long, value_parser = parse::<WorkspaceName>)]
    pub(crate) name: Option<WorkspaceName>,
    /// Take its name away
    #[arg(long, conflicts_with = "name")]
    pub(crate) clear_name: bool,
    /// A label to set; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse::<Label>)]
    pub(crate) labels: Vec<Label>,
    /// The key of a label to remove; may be given several times
    #[arg(long = "clear-label", value_name = "KEY", value_parser = parse::<Name>)]
    pub(crate) clear_labels: Vec<Name>,
    /// Stop it after so long: from now if it runs, else from its next start
    #[arg(long, value_name = "N")]
    pub(crate) ttl_seconds: Option<u64>,
    /// Let it run without a time to live
    #[arg(long, conflicts_with = "ttl_seconds")]
    pub(crate) clear_ttl: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CommandCommand {
    /// List the commands that run in a workspace, or all that ran
    #[command(after_help = "\
Examples:
  pyro workspace command list demo
  pyro workspace command list demo --all --tail 20")]
    List {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// Also those that have ended
        #[arg(long)]
        all: bool,
        /// Only the last N
        #[arg(long, value_name = "N")]
        tail: Option<u32>,
    },
    /// Wait until a command has ended, and give its result
    #[command(after_help = "\
Examples:
  N=$(pyro workspace exec demo --detach --id-only -- make test)
  pyro workspace command wait demo $N
  pyro workspace command wait demo 7 --timeout-seconds 60

The exit code is the command's; 124 if it ran out of time, 125 if it still runs or pyro failed.")]
    Wait {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// The number of the command
        sequence: u64,
        /// Give up after so long; the command runs on
        #[arg(long, value_name = "N")]
        timeout_seconds: Option<u64>,
    },
    /// Signal a command and all it started
    #[command(after_help = "\
Examples:
  pyro workspace command signal demo 7
  pyro workspace command signal demo 7 --signal KILL")]
    Signal {
        /// Its id or name
        #[arg(value_parser = parse::<WorkspaceRef>)]
        workspace: WorkspaceRef,
        /// The number of the command
        sequence: u64,
        /// Which signal, by name or number
        #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = parse::<SignalName>)]
        signal: SignalName,
    },
}

/// A time, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: Option<SignedDuration> = text.parse().ok();
    let days = || text.strip_suffix('d')?.parse::<i64>().ok()?.checked_mul(24);
    let ago = ago.or_else(|| days().and_then(SignedDuration::try_from_hours));
    let past = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    past.ok_or_else(|| "write a time such as 2026-11-24T12:00:00Z, or 90s, 10m, 2h, 3d".to_owned())
}

fn stream(text: &str) -> Result<Stream, String> {
    match text {
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("it is stdout or stderr".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_while_ago() {
        assert_eq!(moment("1970-01-01T00:00:00Z").unwrap(), Timestamp::UNIX_EPOCH);
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259_200)] {
            let ago = Timestamp::now().duration_since(moment(text).unwrap()).as_secs();
            assert!((seconds - 1..seconds + 60).contains(&ago), "{text}: {ago}");
        }
        for bad in ["", "soon", "10", "-"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
