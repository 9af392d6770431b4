//! The journal as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pyro_contract::command::WorkspaceSummary;
use pyro_contract::exec::{CommandInfo, ExecOutcome, JournalCommand, Stream};
use pyro_contract::journal::{Event, EventKind, StopReason};
use pyro_workspace::Followed;

use super::{ago, bytes, harmless, shell_words, table};

/// How a command ended, in a word or two.
pub(crate) fn ended(command: &CommandInfo) -> String {
    match (&command.outcome, &command.error) {
        (Some(outcome), _) => how(outcome),
        (None, Some(error)) => harmless(error),
        (None, None) => "running".into(),
    }
}

fn how(outcome: &ExecOutcome) -> String {
    if outcome.timed_out {
        return "timed out".into();
    }
    let mut text = match (outcome.exit_code, outcome.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".into(),
    };
    if outcome.oom_killed {
        text += ", out of memory";
    }
    text
}

fn took(outcome: &ExecOutcome) -> String {
    format!("{:.1} s", Duration::from_millis(outcome.duration_ms).as_secs_f64())
}

/// The line above a command's output.
pub(crate) fn command_line(command: &CommandInfo) -> String {
    let duration = command.outcome.as_ref().map_or(String::new(), |o| format!(", {}", took(o)));
    format!(
        "#{} {} {} [{}{duration}]\n",
        command.sequence,
        command.started_at.strftime("%F %T"),
        shell_words(&command.argv),
        ended(command)
    )
}

pub(crate) fn journal(commands: &[JournalCommand], workspace: &str) -> String {
    let mut text = String::new();
    for entry in commands {
        let command = &entry.command;
        text += &command_line(command);
        for hit in command.outcome.iter().flat_map(|outcome| &outcome.limits_hit) {
            let _ = writeln!(text, "  … {} …", hit.describe());
        }
        let gap = gap(entry, workspace);
        // The beginning is a chunk of its own if something was left out after it.
        let after = entry.output.len().min(1);
        for (index, chunk) in entry.output.iter().enumerate() {
            if index == after {
                text += &gap;
            }
            let mark = if chunk.stream == Stream::Stderr { "! " } else { "  " };
            for line in chunk.text.lines() {
                let _ = writeln!(text, "{mark}{}", harmless(line));
            }
        }
        if entry.output.len() <= after {
            text += &gap;
        }
    }
    text
}

fn gap(entry: &JournalCommand, workspace: &str) -> String {
    let (omitted, dropped) = (entry.omitted_bytes, entry.command.dropped_bytes);
    let sequence = entry.command.sequence;
    let mut text = String::new();
    if omitted > dropped {
        let _ = writeln!(
            text,
            "  … {} left out: pyro workspace logs {workspace} --sequence {sequence} …",
            bytes(omitted - dropped)
        );
    }
    if dropped > 0 {
        let _ = writeln!(text, "  … {} not in the journal (any more) …", bytes(dropped));
    }
    text
}

pub(crate) fn commands(commands: &[CommandInfo]) -> String {
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = commands
        .iter()
        .map(|command| {
            vec![
                command.sequence.to_string(),
                ended(command),
                ago(now, command.started_at),
                command.outcome.as_ref().map_or("-".into(), took),
                bytes(command.output_bytes),
                command.client.clone().unwrap_or_else(|| "-".into()),
                shell_words(&command.argv),
            ]
        })
        .collect();
    table(&["COMMAND", "STATE", "STARTED", "TOOK", "OUTPUT", "CLIENT", "ARGUMENTS"], &rows)
}

pub(crate) fn events(events: &[Event]) -> String {
    events.iter().fold(String::new(), |mut text, event| {
        let client = event.client.as_deref().unwrap_or("-");
        let at = event.at.strftime("%F %T");
        let _ = writeln!(text, "{at}  {:<12} {}", harmless(client), told(&event.kind));
        text
    })
}

/// An event in words.
fn told(kind: &EventKind) -> String {
    let name = kind.as_str().replace('_', " ");
    let moved = |source: &str, target: &str, written: u64, removed: u64, length: u64| {
        let length = bytes(length);
        format!("{source} to {target}: {written} written, {removed} removed, {length}")
    };
    let detail = match kind {
        EventKind::Created { environment, engine } => format!("from {environment} on {engine}"),
        EventKind::Stopped { error: Some(error), .. } | EventKind::Failed { error } => {
            error.message.clone()
        }
        EventKind::Stopped { reason, .. } => match reason {
            StopReason::Asked => String::new(),
            StopReason::TimeToLive => "its time to live was up".into(),
            StopReason::PoweredOff => "the machine switched itself off".into(),
            StopReason::Orphaned => "its client is gone".into(),
        },
        EventKind::Updated { fields } => fields.join(", "),
        EventKind::CommandStarted { sequence, argv, detached } => {
            let detached = if *detached { " (detached)" } else { "" };
            format!("#{sequence} {}{detached}", shell_words(argv))
        }
        EventKind::CommandEnded { outcome: Some(outcome), sequence, .. } => {
            format!("#{sequence} {}, {}", how(outcome), took(outcome))
        }
        EventKind::CommandEnded { sequence, error, .. } => {
            format!("#{sequence} {}", error.as_deref().unwrap_or_default())
        }
        EventKind::FileWritten { path, bytes: length } => format!("{path} ({})", bytes(*length)),
        EventKind::FileRemoved { path } => path.to_string(),
        EventKind::FileMoved { from, to } => format!("{from} to {to}"),
        EventKind::PatchApplied { files, .. } => format!("{files} files"),
        EventKind::SyncPushed { source, destination, written, removed, bytes } => {
            moved(source, &destination.to_string(), *written, *removed, *bytes)
        }
        EventKind::Applied { to, changed, undone } => {
            let what = if *undone { "taken back in" } else { "in" };
            format!("{changed} changes {what} {to}")
        }
        EventKind::SyncPulled { source, destination, written, removed, bytes } => {
            moved(&source.to_string(), destination, *written, *removed, *bytes)
        }
        EventKind::ShellOpened { shell, argv } => format!("{shell} {}", shell_words(argv)),
        EventKind::ShellClosed { shell, exit_code, signal, error } => {
            match (exit_code, signal, error) {
                (_, _, Some(error)) => format!("{shell} {error}"),
                (Some(code), ..) => format!("{shell} exit {code}"),
                (_, Some(signal), _) => format!("{shell} signal {signal}"),
                _ => shell.clone(),
            }
        }
        EventKind::SnapshotCreated { snapshot }
        | EventKind::SnapshotDeleted { snapshot }
        | EventKind::Reset { snapshot } => snapshot.clone(),
        EventKind::ServiceChanged { service, state } => format!("{service} is {state}"),
        EventKind::JournalTrimmed { output_bytes, commands, events } => {
            format!("{} of output of {commands} commands, {events} events", bytes(*output_bytes))
        }
        EventKind::Started | EventKind::Paused | EventKind::Resumed | EventKind::Unknown => {
            String::new()
        }
    };
    format!("{name} {}", harmless(&detail)).trim_end().to_owned()
}

pub(crate) fn summary(summary: &WorkspaceSummary) -> String {
    let mut text = String::new();
    let busy = Duration::from_millis(summary.busy_ms).as_secs_f64();
    let _ = writeln!(
        text,
        "{}: {} commands, {} failed, {} running, {busy:.1} s in commands",
        summary.workspace, summary.command_count, summary.failed_count, summary.running_count
    );
    match (&summary.changes, &summary.changes_error) {
        (Some(changes), _) => {
            let _ = writeln!(
                text,
                "\nfiles: {} added, {} modified, {} deleted",
                changes.added, changes.modified, changes.deleted
            );
            for file in &changes.files {
                let _ = writeln!(text, "  {}", harmless(file));
            }
            let all = changes.added + changes.modified + changes.deleted;
            more(&mut text, all, changes.files.len());
        }
        (None, Some(error)) => {
            let _ = writeln!(text, "\nfiles: {}", error.message);
        }
        (None, None) => {}
    }
    if !summary.commands.is_empty() {
        text += "\ncommands\n";
        more(&mut text, summary.command_count, summary.commands.len());
        for command in &summary.commands {
            let _ = write!(text, "  {}", command_line(command));
        }
    }
    if !summary.failures.is_empty() {
        text += "\nfailures\n";
        for line in journal(&summary.failures, summary.workspace.as_str()).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if !summary.events.is_empty() {
        text += "\nevents\n";
        for line in events(&summary.events).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn more(text: &mut String, all: u64, shown: usize) {
    let rest = all.saturating_sub(shown as u64);
    if rest > 0 {
        let _ = writeln!(text, "  … and {rest} more …");
    }
}

/// What several commands write, line by line, each with the number of its command.
#[derive(Debug, Default)]
pub(crate) struct FollowedLines {
    /// Of each stream, the line that has not ended yet.
    begun: BTreeMap<(u64, bool), Vec<u8>>,
}

/// A longer line is shown in parts.
const LONGEST_LINE: usize = 16 << 10;

impl FollowedLines {
    pub(crate) fn show(&mut self, next: &Followed) -> String {
        let mut text = String::new();
        match next {
            Followed::Event(event) => {
                if let EventKind::CommandStarted { sequence, argv, .. } = &event.kind {
                    let at = event.at.strftime("%F %T");
                    let _ = writeln!(text, "#{sequence} {at} {}", shell_words(argv));
                }
            }
            Followed::Output { sequence, stream, bytes } => {
                let key = (*sequence, *stream == Stream::Stderr);
                let line = self.begun.entry(key).or_default();
                for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(part);
                    if line.ends_with(b"\n") || line.len() > LONGEST_LINE {
                        line_of(&mut text, key, line);
                        line.clear();
                    }
                }
            }
            Followed::Dropped { .. } => {}
            Followed::Ended(command) => {
                for error in [false, true] {
                    let key = (command.sequence, error);
                    let left = self.begun.remove(&key).filter(|line| !line.is_empty());
                    if let Some(line) = left {
                        line_of(&mut text, key, &line);
                    }
                }
                let duration =
                    command.outcome.as_ref().map_or(String::new(), |o| format!(", {}", took(o)));
                let _ = writeln!(text, "#{} [{}{duration}]", command.sequence, ended(command));
            }
        }
        text
    }
}

fn line_of(text: &mut String, (sequence, error): (u64, bool), line: &[u8]) {
    let mark = if error { "!" } else { " " };
    let shown = String::from_utf8_lossy(line);
    let shown = harmless(shown.trim_end_matches(['\n', '\r']));
    let _ = writeln!(text, "#{sequence}{mark}{shown}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_commands_that_write_at_once_are_not_mixed() {
        let mut lines = FollowedLines::default();
        let mut say = |sequence, stream, text: &str| {
            lines.show(&Followed::Output { sequence, stream, bytes: text.into() })
        };
        assert_eq!(say(1, Stream::Stdout, "one "), "");
        assert_eq!(say(2, Stream::Stdout, "two\n"), "#2 two\n");
        assert_eq!(say(1, Stream::Stderr, "oh\n"), "#1!oh\n");
        assert_eq!(say(1, Stream::Stdout, "line\nnext"), "#1 one line\n");
    }
}
