//! What in a file is most like lines that do not stand in it.

use std::fmt;

use pyro_contract::path::BytePath;

use super::apply_lines as lines;

/// Lines that are compared: beyond these, nobody would wait for it.
const FILE_LINES: usize = 100_000;
const WANTED_LINES: usize = 200;

/// As much of a line as is shown.
const SHOWN: usize = 120;

/// The place in a file that is most like what was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The line at which it begins, counted from 1.
    pub line: u64,
    /// The first line that differs there, counted from 1.
    pub differs_at: u64,
    /// What that line should be.
    pub wanted: BytePath,
    /// What it is; nothing, if the file ends before.
    pub found: Option<BytePath>,
    /// Only white space or the end of the line differs.
    pub only_white_space: bool,
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, differs_at, wanted, found, only_white_space } = self;
        write!(f, "most like it is what begins at line {line}, where line {differs_at} ")?;
        match found {
            None => write!(f, "is missing: `{wanted}`"),
            Some(found) => {
                write!(f, "is `{found}` instead of `{wanted}`")?;
                if *only_white_space { f.write_str(" (only white space differs)") } else { Ok(()) }
            }
        }
    }
}

/// The place most like `wanted`, if any is like it at all.
#[must_use]
pub fn nearest(content: &[u8], wanted: &[u8]) -> Option<Near> {
    let file: Vec<&[u8]> = lines(content).take(FILE_LINES).collect();
    let wanted: Vec<&[u8]> = lines(wanted).take(WANTED_LINES).collect();
    let squeezed = |lines: &[&[u8]]| lines.iter().map(|line| squeeze(line)).collect::<Vec<_>>();
    let (file_squeezed, wanted_squeezed) = (squeezed(&file), squeezed(&wanted));
    // Empty lines are like each other everywhere, and tell nothing.
    let telling = |line: &[u8]| !line.is_empty();
    let score = |at: usize| -> usize {
        let pairs = wanted_squeezed.iter().zip(&file_squeezed[at..]);
        let telling = pairs.enumerate().filter(|(_, (one, _))| telling(one));
        telling
            .map(|(place, (one, other))| match () {
                () if wanted[place] == file[at + place] => 6,
                () if one == other => 4,
                () if alike(one, other) => 1,
                () => 0,
            })
            .sum()
    };
    let best = (0..file.len())
        .map(|at| (score(at), at))
        .max_by_key(|(score, at)| (*score, std::cmp::Reverse(*at)));
    let (score, at) = best?;
    let lines_wanted = wanted_squeezed.iter().filter(|line| telling(line)).count();
    // Every line is a bit like it, or some are just so.
    if score == 0 || score < lines_wanted {
        return None;
    }
    let place = (0..wanted.len()).find(|place| file.get(at + place) != Some(&wanted[*place]))?;
    let found = file.get(at + place);
    Some(Near {
        line: at as u64 + 1,
        differs_at: (at + place) as u64 + 1,
        wanted: shown(wanted[place]),
        found: found.map(|line| shown(line)),
        only_white_space: found.is_some_and(|line| squeeze(line) == wanted_squeezed[place]),
    })
}

/// True if most of a line is the same from its beginning and its end.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let same = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| {
        pairs.take_while(|(one, other)| one == other).count()
    };
    let front = same(&mut one.iter().zip(other));
    let back = same(&mut one.iter().rev().zip(other.iter().rev()));
    let shorter = one.len().min(other.len());
    (front + back).min(shorter) * 3 >= one.len().max(other.len()) * 2
}

/// Without white space.
fn squeeze(line: &[u8]) -> Vec<u8> {
    line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

fn shown(line: &[u8]) -> BytePath {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    BytePath::new(&line[..line.len().min(SHOWN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_alone_is_said_to_be_so() {
        let near = nearest(b"a\n\tif x {\n\t}\n", b"    if x {\n    }\n").unwrap();
        assert_eq!((near.line, near.differs_at, near.only_white_space), (2, 2, true));
        assert!(near.to_string().contains("`\\tif x {` instead of `    if x {`"), "{near}");
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let near = nearest(b"one\ntwo\nthree\nfour\n", b"two\n3\nfour\n").unwrap();
        assert_eq!((near.line, near.differs_at), (2, 3));
        assert_eq!(near.found, Some(BytePath::new("three")));
        let end = nearest(b"one\ntwo\n", b"two\nthree\n").unwrap();
        assert_eq!((end.differs_at, end.found), (3, None));
    }

    #[test]
    fn nothing_alike_is_nothing() {
        assert_eq!(nearest(b"a\nb\n", b"x\ny\nz\n"), None);
        assert_eq!(nearest(b"", b"x\n"), None);
        assert_eq!(nearest(b"\n\n\n", b"\nx\n"), None);
    }
}
