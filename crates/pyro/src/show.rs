//! Results as a person reads them.

mod journal;

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pyro_contract::diff::FileKind;
use pyro_contract::file::{FileEntry, FileStat};
use pyro_contract::operation::{Check, CheckStatus};
use pyro_contract::workspace::{Seed, WorkspaceStatus};

pub(crate) use journal::{FollowedLines, command_line, commands, ended, events, journal, summary};

/// Columns as wide as their widest cell, two spaces apart; the last is not padded.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let head = header.get(column).map_or(0, |cell| cell.len());
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(head)
    };
    let mut text = String::new();
    let head: Vec<String> = header.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

pub(crate) fn workspaces(list: &[WorkspaceStatus]) -> String {
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|workspace| {
            vec![
                workspace.id.to_string(),
                workspace.name.as_ref().map_or("-".into(), ToString::to_string),
                workspace.state.to_string(),
                workspace.environment.to_string(),
                bytes(workspace.disk_used_bytes),
                ago(now, workspace.last_activity_at),
            ]
        })
        .collect();
    table(&["ID", "NAME", "STATE", "ENVIRONMENT", "DISK", "ACTIVE"], &rows)
}

/// One line each: mode, size, time, path, and where a link leads.
pub(crate) fn files(entries: &[FileEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let time = entry.modified_at.strftime("%Y-%m-%d %H:%M");
        let size = match entry.kind {
            FileKind::File => bytes(entry.size),
            _ => "-".to_owned(),
        };
        let _ = write!(
            text,
            "{}{:<4} {size:>9}  {time}  {}",
            letter(entry.kind),
            entry.mode.to_string(),
            entry.path
        );
        if let Some(target) = &entry.target {
            let _ = write!(text, " -> {target}");
        } else if entry.kind == FileKind::Directory {
            text.push('/');
        }
        text.push('\n');
    }
    text
}

/// As in ls(1).
pub(crate) fn letter(kind: FileKind) -> char {
    match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    }
}

pub(crate) fn file(stat: &FileStat) -> String {
    let kind = match stat.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    };
    let mut rows = vec![("path", stat.path.to_string()), ("type", kind.to_owned())];
    if let Some(target) = &stat.target {
        rows.push(("target", target.to_string()));
    }
    if stat.kind == FileKind::File {
        rows.push(("size", stat.size.to_string()));
    }
    rows.push(("mode", stat.mode.to_string()));
    rows.push(("owner", format!("{}:{}", stat.uid, stat.gid)));
    rows.push(("modified", stat.modified_at.to_string()));
    if let Some(sum) = &stat.sha256 {
        rows.push(("sha256", sum.clone()));
    }
    rows.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
}

pub(crate) fn workspace(status: &WorkspaceStatus) -> String {
    let now = Timestamp::now();
    let mut rows: Vec<(&str, String)> = vec![("id", status.id.to_string())];
    if let Some(name) = &status.name {
        rows.push(("name", name.to_string()));
    }
    rows.push(("state", status.state.to_string()));
    rows.push(("environment", status.environment.to_string()));
    let engine = match status.isolation {
        Some(isolation) => format!("{} ({})", status.engine, isolation.describe()),
        None => status.engine.to_string(),
    };
    rows.push(("engine", engine));
    if let Some(kernel) = &status.kernel_release {
        rows.push(("kernel", kernel.clone()));
    }
    let shape = status.shape;
    rows.push((
        "machine",
        format!(
            "{} vCPU, {} MiB memory, {} MiB disk",
            shape.vcpu_count, shape.mem_mib, shape.disk_mib
        ),
    ));
    rows.push(("seed", seed(status)));
    for (key, value) in &status.labels {
        rows.push(("label", format!("{key}={value}")));
    }
    rows.push(("created", ago(now, status.created_at)));
    rows.push(("active", ago(now, status.last_activity_at)));
    if let Some(stops_at) = status.stops_at {
        rows.push(("stops at", stops_at.to_string()));
    }
    rows.push(("disk used", bytes(status.disk_used_bytes)));
    if let Some(usage) = status.usage {
        let cpu = Duration::from_millis(usage.cpu_ms);
        rows.push(("takes", format!("{} memory, {cpu:.1?} of CPU", bytes(usage.memory_bytes))));
    }
    if status.running_commands > 0 {
        rows.push(("running", format!("{} commands", status.running_commands)));
    }
    if let Some(error) = &status.error {
        rows.push(("reason", error.message.clone()));
        for line in error.cause.iter().flat_map(|cause| cause.lines()) {
            rows.push(("", line.to_owned()));
        }
        if let Some(hint) = &error.hint {
            rows.push(("hint", hint.clone()));
        }
    }
    rows.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key:12} {value}");
        text
    })
}

fn seed(status: &WorkspaceStatus) -> String {
    let seed = &status.seed;
    let source = match &seed.source {
        Seed::Empty => return "nothing".into(),
        Seed::Path { path } => path.clone(),
        Seed::Git { repository, .. } => match &seed.commit {
            Some(commit) => format!("{repository} at {}", commit.get(..12).unwrap_or(commit)),
            None => repository.clone(),
        },
    };
    let mut text = format!("{source} ({} entries, {})", seed.entries, bytes(seed.bytes));
    if seed.skipped_count > 0 {
        let _ = write!(text, ", {} left out", seed.skipped_count);
    }
    text
}

/// The words as a shell would take them.
pub(crate) fn shell_words(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", harmless(word).replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Text of the guest's that cannot drive the terminal.
pub(crate) fn harmless(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

pub(crate) fn checks(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.status {
            CheckStatus::Ok => "ok     ",
            CheckStatus::Warning => "warning",
            CheckStatus::Unavailable => "absent ",
            CheckStatus::Failed => "FAILED ",
        };
        let _ = writeln!(text, "{mark}  {}: {}", check.name, check.found);
        if check.status != CheckStatus::Ok {
            let _ = writeln!(text, "         why: {}", check.why);
            if let Some(fix) = &check.fix {
                let _ = writeln!(text, "         fix: {fix}");
            }
        }
    }
    text
}

/// `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `3 min ago`.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    bb\nccc  d\n");
    }

    #[test]
    fn what_the_guest_printed_cannot_drive_the_terminal() {
        assert_eq!(harmless("\u{1b}[2Jx\ty"), "\\u{1b}[2Jx\ty");
        assert_eq!(shell_words(&["sh".into(), "-c".into(), "it's".into()]), r"sh -c 'it'\''s'");
    }

    #[test]
    fn ages_are_rounded_to_one_unit() {
        let now = Timestamp::now();
        let then = |seconds| now - jiff::SignedDuration::from_secs(seconds);
        assert_eq!(ago(now, then(5)), "5 s ago");
        assert_eq!(ago(now, then(125)), "2 min ago");
        assert_eq!(ago(now, then(90_000)), "1 days ago");
    }
}
