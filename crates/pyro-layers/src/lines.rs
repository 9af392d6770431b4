//! Text compared line by line, and the hunks of a unified diff.

use std::{
    io::{self, Write},
    ops::Range,
    thread,
};

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

use crate::layer::{LayerError, Result};

/// Unchanged lines shown before and after each change.
const CONTEXT: u32 = 3;

/// Up to this many lines the more readable histogram diff is used. It takes quadratic time on
/// texts made to hurt it; the linear-time variant of Myers' algorithm takes over.
const MAX_HISTOGRAM: usize = 16_384;

/// Both algorithms call themselves as deep as there are matching stretches, so texts that could
/// use up a usual stack are compared on one that suffices for [`MAX_HISTOGRAM`] levels.
const SMALL: usize = 1_000;
const STACK: usize = 32 << 20;

/// How one text became another.
pub(crate) struct LineDiff<'a> {
    input: InternedInput<&'a [u8]>,
    diff: Diff,
}

impl<'a> LineDiff<'a> {
    pub(crate) fn new(old: &'a [u8], new: &'a [u8]) -> Result<Self> {
        // Not `InternedInput::new`: it reserves memory by the lengths of the first few lines,
        // which a hostile file can make absurd.
        let mut input = InternedInput::default();
        input.update_before(lines(old));
        input.update_after(lines(new));
        let most = input.before.len().max(input.after.len());
        let algorithm = if most <= MAX_HISTOGRAM { Algorithm::Histogram } else { Algorithm::Myers };
        let compute = || {
            let mut diff = Diff::compute(algorithm, &input);
            diff.postprocess_lines(&input);
            diff
        };
        let diff = if most <= SMALL {
            compute()
        } else {
            thread::scope(|scope| {
                let worker =
                    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compute)?;
                worker.join().map_err(|_| io::Error::other("the comparison of two texts failed"))
            })
            .map_err(LayerError::io("cannot compare two texts"))?
        };
        Ok(Self { input, diff })
    }

    /// Lines added and lines removed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (u64::from(self.diff.count_additions()), u64::from(self.diff.count_removals()))
    }

    /// Writes the hunks, each with its `@@` line.
    pub(crate) fn write_hunks(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut group: Vec<Hunk> = Vec::new();
        for hunk in self.diff.hunks() {
            let apart = |last: &Hunk| hunk.before.start - last.before.end > 2 * CONTEXT;
            if group.last().is_some_and(apart) {
                self.write_group(&group, out)?;
                group.clear();
            }
            group.push(hunk);
        }
        self.write_group(&group, out)
    }

    /// Writes changes that are so close that their context touches, as one hunk.
    fn write_group(&self, group: &[Hunk], out: &mut dyn Write) -> io::Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let lead = first.before.start.min(CONTEXT);
        let before_total = u32::try_from(self.input.before.len()).unwrap_or(u32::MAX);
        let trail = (before_total - last.before.end).min(CONTEXT);
        let before = first.before.start - lead..last.before.end + trail;
        let after = first.after.start - lead..last.after.end + trail;
        writeln!(out, "@@ -{} +{} @@", range(&before), range(&after))?;

        let mut unchanged = before.start;
        for hunk in group {
            self.write_before(b' ', unchanged..hunk.before.start, out)?;
            self.write_before(b'-', hunk.before.clone(), out)?;
            for line in hunk.after.clone() {
                self.write_line(b'+', self.input.after[line as usize], out)?;
            }
            unchanged = hunk.before.end;
        }
        self.write_before(b' ', unchanged..before.end, out)
    }

    fn write_before(&self, sign: u8, lines: Range<u32>, out: &mut dyn Write) -> io::Result<()> {
        lines
            .into_iter()
            .try_for_each(|line| self.write_line(sign, self.input.before[line as usize], out))
    }

    fn write_line(
        &self,
        sign: u8,
        token: imara_diff::Token,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let line: &[u8] = self.input.interner[token];
        out.write_all(&[sign])?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
        Ok(())
    }
}

/// The lines of a text, each with its newline.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// `start,count` as in a `@@` line: the count is left out if it is one, and an empty range is
/// named by the line before it.
fn range(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunks(old: &str, new: &str) -> String {
        let mut out = Vec::new();
        LineDiff::new(old.as_bytes(), new.as_bytes()).unwrap().write_hunks(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_range_of_no_lines_is_named_by_the_line_before_it() {
        assert_eq!(hunks("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(hunks("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(hunks("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(hunks("a\n", "a\nb\n"), "@@ -1 +1,2 @@\n a\n+b\n");
    }

    #[test]
    fn a_last_line_without_newline_is_marked_on_the_side_that_has_it() {
        let mark = "\\ No newline at end of file\n";
        assert_eq!(hunks("a", "a\n"), format!("@@ -1 +1 @@\n-a\n{mark}+a\n"));
        assert_eq!(hunks("x\na", "y\na"), format!("@@ -1,2 +1,2 @@\n-x\n+y\n a\n{mark}"));
    }

    #[test]
    fn changes_share_a_hunk_only_if_their_context_touches() {
        let text = |marks: &[usize]| -> String {
            (0..40).map(|n| format!("{n}{}\n", if marks.contains(&n) { "!" } else { "" })).collect()
        };
        assert_eq!(hunks(&text(&[]), &text(&[10, 17])).matches("@@ -").count(), 1);
        assert_eq!(hunks(&text(&[]), &text(&[10, 18])).matches("@@ -").count(), 2);
    }

    #[test]
    fn texts_made_to_hurt_are_compared_in_bounded_time() {
        let started = std::time::Instant::now();
        let count = 300_000_u64;
        // Every line matches somewhere, but in no useful order.
        let old: String = (0..count).map(|n| format!("{n}\n")).collect();
        let mixed: String = (0..count).map(|n| format!("{}\n", n * 7_919 % count)).collect();
        let rows: String = (0..count).map(|n| format!("{}\n", n % 3)).collect();
        let backwards: String = (0..16_000).rev().map(|n| format!("{n}\n")).collect();
        let forwards: String = (0..16_000).map(|n| format!("{n}\n")).collect();
        for (old, new) in [(&old, &mixed), (&rows, &mixed), (&forwards, &backwards)] {
            LineDiff::new(old.as_bytes(), new.as_bytes()).unwrap();
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
