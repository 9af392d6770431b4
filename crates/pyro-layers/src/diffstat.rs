//! A diff for people: how much changed where, as `git diff --stat` shows it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use pyro_contract::diff::{Change, Diff, DiffEntry, FileKind, Side};
use unicode_width::UnicodeWidthStr as _;

/// The narrowest graph of `+` and `-`, however little room there is.
const MIN_GRAPH: usize = 10;

/// Renders one line for each entry and a line of totals, at most `width` columns wide (but never
/// narrower than what makes sense). Needs a diff with line counts ([`crate::diff::Detail::Lines`]).
/// File names are escaped, so that they cannot drive a terminal.
#[must_use]
pub fn render(diff: &Diff, width: usize) -> String {
    let rows: Vec<_> = diff.entries.iter().filter_map(Row::new).collect();
    let is_number = |row: &&Row| row.bytes.is_none();
    let numbers =
        rows.iter().filter(is_number).map(|row| row.count.len()).max().unwrap_or(0).max(3);
    let least = rows.iter().filter_map(|row| row.bytes.as_ref().map(String::len)).max();
    let least = least.unwrap_or(0).max(MIN_GRAPH);
    let longest = rows.iter().map(|row| row.name.width()).max().unwrap_or(0);
    // " name | count graph"
    let room = width.saturating_sub(numbers + 5);
    let names = longest.min(room.saturating_sub(least).max(MIN_GRAPH));
    let graph = room.saturating_sub(names).max(least);
    let most = rows.iter().map(|row| row.added + row.removed).max().unwrap_or(0);

    let mut out = String::new();
    for row in &rows {
        let name = shortened(&row.name, names);
        let pad = " ".repeat(names.saturating_sub(name.width()));
        let tail = row.bytes.clone().unwrap_or_else(|| row.bars(graph, most));
        let line = format!(" {name}{pad} | {:>numbers$} {tail}", row.count);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str(&totals(diff, rows.len()));
    out
}

/// Writes the changed paths alone, each ended by a newline and escaped for a person, or, with
/// `nul`, exactly and ended by a NUL, for `xargs -0` and the like.
///
/// # Errors
/// If `out` fails.
pub fn write_names(diff: &Diff, nul: bool, out: &mut dyn Write) -> io::Result<()> {
    for entry in &diff.entries {
        if nul {
            out.write_all(entry.path.as_bytes())?;
            out.write_all(b"\0")?;
        } else {
            writeln!(out, "{}", entry.path)?;
        }
    }
    Ok(())
}

struct Row {
    name: String,
    /// The number of changed lines, or `Bin`.
    count: String,
    /// For binary files, how large they were and are.
    bytes: Option<String>,
    added: u64,
    removed: u64,
}

impl Row {
    /// `None` for directories that come and go with the files in them.
    fn new(entry: &DiffEntry) -> Option<Self> {
        let is_dir =
            |side: &Option<Side>| side.as_ref().is_none_or(|side| side.kind == FileKind::Directory);
        let mode_only = entry.change == Change::ModeChanged;
        if is_dir(&entry.old) && is_dir(&entry.new) && !mode_only {
            return None;
        }
        let mut name = entry.path.to_string();
        if let (true, Some(old), Some(new)) = (mode_only, &entry.old, &entry.new) {
            let _ = write!(name, " (mode {:o} => {:o})", old.mode, new.mode);
        }
        let size = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.size);
        let (added, removed) = (entry.insertions.unwrap_or(0), entry.deletions.unwrap_or(0));
        let bytes = (entry.binary && !mode_only)
            .then(|| format!("{} -> {} bytes", size(&entry.old), size(&entry.new)));
        let count = match bytes {
            Some(_) => "Bin".to_owned(),
            None => (added + removed).to_string(),
        };
        Some(Self { name, count, bytes, added, removed })
    }

    /// The signs to draw. Whatever is not zero gets at least one.
    fn bars(&self, graph: usize, most: u64) -> String {
        let graph = graph as u64;
        let scale = |count: u64| match count {
            0 => 0,
            _ if most <= graph => count,
            _ => (count.saturating_mul(graph - 1) / most).max(1),
        };
        let (added, removed) = (scale(self.added), scale(self.removed));
        let clip = |count: u64| usize::try_from(count.min(graph)).unwrap_or(0);
        "+".repeat(clip(added)) + &"-".repeat(clip(removed))
    }
}

/// Keeps the end of a name, which tells more than its beginning.
fn shortened(name: &str, width: usize) -> String {
    if name.width() <= width {
        return name.to_owned();
    }
    let mut kept = 0;
    let mut start = name.len();
    for (at, c) in name.char_indices().rev() {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if kept + wide + 3 > width {
            break;
        }
        kept += wide;
        start = at;
    }
    format!("...{}", &name[start..])
}

fn totals(diff: &Diff, files: usize) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let mut line = format!(" {files} file{} changed", plural(files as u64));
    if diff.insertions > 0 {
        let _ = write!(line, ", {} insertion{}(+)", diff.insertions, plural(diff.insertions));
    }
    if diff.deletions > 0 {
        let _ = write!(line, ", {} deletion{}(-)", diff.deletions, plural(diff.deletions));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use pyro_contract::progress::Silent;

    use super::*;
    use crate::{
        diff::{Detail, DiffOptions, summarize},
        mem::MemLayer,
    };

    fn diff() -> Diff {
        let lower = MemLayer::new().file("f", "1\n2\n3\n").file("bin", "\0").file("m", "");
        let upper = MemLayer::new()
            .file("f", "1\n2\n4\n5\n")
            .file("bin", "\0more")
            .with("m", FileKind::File, 0o755, "")
            .file("d/\u{1b}[31mevil\nname", "x\n")
            .file(
                "a/very/long/path/that/does/not/fit/into/the/given/width/名前.txt",
                "x\n".repeat(500),
            );
        let options = DiffOptions { detail: Detail::Lines, ..DiffOptions::default() };
        summarize(&upper, &lower, &options, &Silent).unwrap()
    }

    #[test]
    fn a_stat_fits_its_width_and_cannot_drive_the_terminal() {
        let text = render(&diff(), 60);
        let expected = [
            " ...not/fit/into/the/given/width/名前.txt | 500 +++++++++++",
            " bin                                      | Bin 1 -> 5 bytes",
            " d/\\u{1b}[31mevil\\nname                   |   1 +",
            " f                                        |   3 +-",
            " m (mode 644 => 755)                      |   0",
            " 5 files changed, 503 insertions(+), 1 deletion(-)",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(text.lines().all(|line| line.width() <= 60));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn any_width_will_do() {
        for width in 0..200 {
            assert!(
                render(&diff(), width)
                    .ends_with("5 files changed, 503 insertions(+), 1 deletion(-)\n")
            );
        }
    }

    #[test]
    fn names_are_exact_between_nuls_and_safe_between_newlines() {
        let (mut exact, mut safe) = (Vec::new(), Vec::new());
        write_names(&diff(), true, &mut exact).unwrap();
        write_names(&diff(), false, &mut safe).unwrap();
        assert!(exact.windows(10).any(|bytes| bytes == b"evil\nname\0"));
        assert!(!safe.contains(&0x1b));
        assert_eq!(safe.iter().filter(|byte| **byte == b'\n').count(), diff().entries.len());
    }
}
