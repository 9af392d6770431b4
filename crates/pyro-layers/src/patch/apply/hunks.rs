//! Finding where hunks apply, as `git apply` does.

use pyro_contract::patch::MovedHunk;

use super::parse::{Hunk, Kind};

/// A line of the file as it becomes.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a [u8],
    hash: u64,
    /// A hunk has been here.
    patched: bool,
}

impl<'a> Line<'a> {
    fn new(text: &'a [u8], patched: bool) -> Self {
        Self { text, hash: hash(text), patched }
    }
}

/// FNV-1a: to tell most unequal lines apart without reading them again.
fn hash(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

/// The file with all hunks applied; or the number of the one that does not, and the line at which it
/// should.
pub(super) fn apply(
    content: &[u8],
    hunks: &[Hunk],
    fuzz: u32,
) -> Result<(Vec<u8>, Vec<MovedHunk>), (usize, u64)> {
    let mut image: Vec<Line<'_>> = lines(content).map(|text| Line::new(text, false)).collect();
    let mut moved = Vec::new();
    for (number, hunk) in hunks.iter().enumerate() {
        // Of no lines at all it is the line before them that is named.
        let is_gone = hunk.lines.iter().all(|(kind, _)| *kind == Kind::Delete);
        let expected = hunk.new_start + u64::from(is_gone);
        let Some((at, fuzz)) = apply_one(&mut image, hunk, fuzz) else {
            return Err((number, hunk.old_start.max(1)));
        };
        let line = at as u64 + 1;
        if line != expected || fuzz > 0 {
            let hunk = number as u32 + 1;
            moved.push(MovedHunk { hunk, expected_line: expected, line, fuzz });
        }
    }
    Ok((image.iter().flat_map(|line| line.text).copied().collect(), moved))
}

/// A hunk on its way into the image, perhaps with some of its context cut off.
struct Fragment<'a> {
    old: Vec<Line<'a>>,
    new: Vec<&'a [u8]>,
    leading: usize,
    trailing: usize,
    at: usize,
}

fn apply_one<'a>(image: &mut Vec<Line<'a>>, hunk: &'a Hunk, fuzz: u32) -> Option<(usize, u32)> {
    let side = |without: Kind| {
        hunk.lines.iter().filter(move |(kind, _)| *kind != without).map(|(_, line)| &line[..])
    };
    let is_context = |line: &&(Kind, Vec<u8>)| line.0 == Kind::Context;
    let mut fragment = Fragment {
        old: side(Kind::Insert).map(|text| Line::new(text, false)).collect(),
        new: side(Kind::Delete).collect(),
        leading: hunk.lines.iter().take_while(is_context).count(),
        trailing: hunk.lines.iter().rev().take_while(is_context).count(),
        at: usize::try_from(hunk.new_start.saturating_sub(1)).unwrap_or(usize::MAX),
    };
    let (at, cut) = find_with_fuzz(image, hunk, &mut fragment, fuzz)?;
    let new: Vec<_> = fragment.new.iter().map(|text| Line::new(text, true)).collect();
    image.splice(at..at + fragment.old.len(), new);
    Some((at, cut))
}

/// Where it applies, and how much had to be overlooked for that.
fn find_with_fuzz(
    image: &[Line<'_>],
    hunk: &Hunk,
    fragment: &mut Fragment<'_>,
    fuzz: u32,
) -> Option<(usize, u32)> {
    // Without context before or after it, it is for the beginning or the end.
    let (first, last) = (hunk.old_start <= 1, fragment.trailing == 0);
    if let Some(at) = find(image, fragment, first, last) {
        return Some((at, 0));
    }
    for cut in 1..=fuzz {
        if cut == 1
            && !fragment.old.is_empty()
            && let Some(at) = find(image, fragment, false, false)
        {
            return Some((at, cut));
        }
        fragment.cut();
        if fragment.old.is_empty() {
            return None;
        }
        if let Some(at) = find(image, fragment, false, false) {
            return Some((at, cut));
        }
    }
    None
}

impl Fragment<'_> {
    /// Takes a line of context from the longer end, or from both.
    fn cut(&mut self) {
        let (leading, trailing) = (self.leading, self.trailing);
        if leading >= trailing && leading > 0 {
            self.old.remove(0);
            self.new.remove(0);
            self.leading -= 1;
            self.at += 1;
        }
        if trailing >= leading && trailing > 0 {
            self.old.pop();
            self.new.pop();
            self.trailing -= 1;
        }
    }
}

/// The nearest place, later ones first, as git has it.
fn find(image: &[Line<'_>], fragment: &Fragment<'_>, first: bool, last: bool) -> Option<usize> {
    let old = &fragment.old;
    let room = image.len().checked_sub(old.len())?;
    let fits = |at: usize| {
        at <= room
            && (!first || at == 0)
            && (!last || at == room)
            && image[at..]
                .iter()
                .zip(old)
                .all(|(is, wanted)| !is.patched && is.hash == wanted.hash && is.text == wanted.text)
    };
    let start = match (first, last) {
        (true, _) => 0,
        (false, true) => room,
        (false, false) => fragment.at.min(image.len()),
    };
    if first || last {
        return fits(start).then_some(start);
    }
    let furthest = start.max(image.len() - start);
    (0..=furthest).find_map(|distance| {
        let after = start.checked_add(distance).filter(|at| fits(*at));
        after.or_else(|| start.checked_sub(distance).filter(|at| fits(*at)))
    })
}
