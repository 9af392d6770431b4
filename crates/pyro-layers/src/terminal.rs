//! A patch for a terminal: coloured, and unable to drive it.

use std::io::{self, Write};

use pyro_contract::path::BytePath;

/// Longer lines are shown in pieces, so that memory stays bounded.
const MAX_LINE: usize = 64 << 10;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[m";

/// Shows a git patch that is written to it. Control characters and bytes that are not UTF-8 are
/// escaped, for the content is a hostile guest's; so what comes out is for eyes, not for
/// `git apply`.
pub struct TerminalPatch<W: Write> {
    out: W,
    colour: bool,
    line: Vec<u8>,
    /// The present line's beginning was shown already.
    continued: Option<&'static str>,
    /// Lines still to come in the present hunk, old and new.
    left: (u64, u64),
}

impl<W: Write> TerminalPatch<W> {
    /// Shows on `out`, in colour or without. Escaping happens in both cases.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, line: Vec::new(), continued: None, left: (0, 0) }
    }

    /// Shows what is left, and gives the writer back.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.line.is_empty() {
            self.show(true)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Shows the bytes at hand; `ends` if the line ends with them.
    fn show(&mut self, ends: bool) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let style = match self.continued {
            Some(style) => style,
            None => self.style(&line),
        };
        // Tabs and the line's end are harmless, and carriage returns would hide what precedes them.
        let shown: Vec<String> =
            line.split(|&byte| byte == b'\t').map(|part| BytePath::new(part).to_string()).collect();
        let shown = shown.join("\t");
        if self.colour && !style.is_empty() && !shown.is_empty() {
            write!(self.out, "{style}{shown}{RESET}")?;
        } else {
            self.out.write_all(shown.as_bytes())?;
        }
        self.continued = (!ends).then_some(style);
        if ends { self.out.write_all(b"\n") } else { Ok(()) }
    }

    /// Inside of a hunk the first character tells; outside, a line that begins with `-` is a name.
    fn style(&mut self, line: &[u8]) -> &'static str {
        let (old, new) = &mut self.left;
        if (*old, *new) != (0, 0) {
            let (style, takes) = match line.first() {
                Some(b'+') => (GREEN, (0, 1)),
                Some(b'-') => (RED, (1, 0)),
                Some(b'\\') => ("", (0, 0)),
                _ => ("", (1, 1)),
            };
            (*old, *new) = (old.saturating_sub(takes.0), new.saturating_sub(takes.1));
            return style;
        }
        if let Some(left) = hunk_size(line) {
            self.left = left;
            return CYAN;
        }
        let header: [&[u8]; 9] = [
            b"diff --git ",
            b"index ",
            b"--- ",
            b"+++ ",
            b"new ",
            b"old ",
            b"deleted ",
            b"GIT binary",
            b"literal ",
        ];
        if header.iter().any(|start| line.starts_with(start)) { BOLD } else { "" }
    }
}

/// The numbers of old and new lines that a `@@ -1,2 +3,4 @@` announces.
fn hunk_size(line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("@@ -")?;
    let (ranges, _) = text.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some((count(old)?, count(new)?))
}

impl<W: Write> Write for TerminalPatch<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            for part in text.chunks(MAX_LINE) {
                if self.line.len() + part.len() > MAX_LINE {
                    self.show(false)?;
                }
                self.line.extend_from_slice(part);
            }
            if ends {
                self.show(true)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(patch: &[u8], colour: bool, at_once: usize) -> String {
        let mut terminal = TerminalPatch::new(Vec::new(), colour);
        for part in patch.chunks(at_once) {
            terminal.write_all(part).unwrap();
        }
        String::from_utf8(terminal.finish().unwrap()).unwrap()
    }

    const PATCH: &[u8] =
        b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n--- gone\n \x1b]0;evil\x07\r\n\
\\ No newline at end of file\ndiff --git a/g b/g\n";

    #[test]
    fn lines_are_coloured_by_what_they_mean() {
        let text = shown(PATCH, true, 7);
        assert!(text.contains("\x1b[1m--- a/f\x1b[m\n"), "a name is not a removed line");
        assert!(text.contains("\x1b[31m--- gone\x1b[m\n"), "a removed line is not a name");
        assert!(text.contains("\x1b[36m@@ -1,2 +1 @@\x1b[m\n"));
        assert!(text.ends_with("\x1b[1mdiff --git a/g b/g\x1b[m\n"), "the hunk is over");
    }

    #[test]
    fn content_cannot_drive_the_terminal() {
        let text = shown(PATCH, false, 1000);
        assert!(text.contains(" \\u{1b}]0;evil\\u{7}\\r\n"), "{text}");
        assert!(!text.contains('\x1b'));
        assert_eq!(shown(b"+\xff\ttab\x9b", false, 1), "+\\xff\ttab\\x9b\n");
    }

    #[test]
    fn an_endless_line_is_shown_without_being_held() {
        let mut long = b"@@ -0,0 +1 @@\n+".to_vec();
        long.resize(1_000_000, b'x');
        let text = shown(&long, true, 8192);
        assert_eq!(text.matches('x').count(), 1_000_000 - 15);
        assert_eq!(text.lines().count(), 2);
    }
}
