//! A piece of a shell's output, cut where no character is halved.

use super::scan::Scanner;

/// What a read returns of the output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// How many bytes of the output it stands for.
    pub(super) length: u64,
    pub(super) text: String,
}

/// The text of `output`, without what steers the terminal: at most `max_chars` characters. A
/// character or sequence that is unfinished at the end is left for another read, unless this is
/// `all` there will ever be.
///
/// Line ends become `\n`, and a return to where a line begins anyhow is left out. Each malformed character becomes one U+FFFD.
pub(super) fn text(output: impl Iterator<Item = u8>, max_chars: usize, all: bool) -> Cut {
    let mut cut = Cut::default();
    let mut scanner = Scanner::default();
    // The bytes of a character that is not complete.
    let mut character = Vec::with_capacity(4);
    // A carriage return is part of the line end if a line feed follows.
    let mut returned = false;
    let mut chars = 0;
    let mut taken = 0;
    for byte in output {
        if returned && byte != b'\n' {
            if byte != b'\r' && !cut.text.ends_with('\n') {
                cut.text.push('\r');
                chars += 1;
            }
            cut.length = taken;
        }
        returned = false;
        if !character.is_empty() && byte & 0xc0 != 0x80 {
            show(&mut cut.text, &mut character);
            cut.length = taken;
            chars += 1;
        }
        if chars >= max_chars {
            return cut;
        }
        taken += 1;
        let is_text = scanner.step(byte);
        if is_text && byte == b'\r' {
            returned = true;
            continue;
        }
        if is_text {
            character.push(byte);
        }
        if scanner.is_between() {
            if !character.is_empty() {
                show(&mut cut.text, &mut character);
                chars += 1;
            }
            cut.length = taken;
        }
    }
    if all {
        if returned && !cut.text.ends_with('\n') {
            cut.text.push('\r');
        }
        if !character.is_empty() {
            show(&mut cut.text, &mut character);
        }
        cut.length = taken;
    }
    cut
}

fn show(text: &mut String, character: &mut Vec<u8>) {
    match std::str::from_utf8(character) {
        // The other form of control codes (C1).
        Ok(complete) if complete.chars().all(|c| c.is_control() && c > '\u{7f}') => {}
        Ok(complete) => text.push_str(complete),
        Err(_) => text.push('\u{fffd}'),
    }
    character.clear();
}

/// How many bytes of `output` are at most `max_chars` whole characters, of which it holds all that
/// matter. A character that is unfinished at the end counts only if this is `all` there will be.
pub(super) fn whole_characters(output: &[u8], max_chars: usize, all: bool) -> usize {
    let mut end = 0;
    let mut left = max_chars;
    for chunk in output.utf8_chunks() {
        for character in chunk.valid().chars() {
            if left == 0 {
                return end;
            }
            left -= 1;
            end += character.len_utf8();
        }
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let unfinished = end + invalid.len() == output.len()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if left == 0 || unfinished && !all {
            return end;
        }
        left -= 1;
        end += invalid.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(output: &[u8]) -> String {
        text(output.iter().copied(), usize::MAX, true).text
    }

    /// A read does not know whether the one before it ended with a line.
    fn without_idle_returns(mut text: String) -> String {
        while text.contains("\n\r") {
            text = text.replace("\n\r", "\n");
        }
        text
    }

    /// Reads as a client does: again and again from where the last read ended, while output comes
    /// in pieces that end at `cuts`.
    fn in_pieces(output: &[u8], cuts: &[usize], max_chars: usize) -> String {
        let mut read = String::new();
        let mut cursor = 0;
        for (arrived, all) in cuts.iter().map(|cut| (*cut, false)).chain([(output.len(), true)]) {
            while cursor < arrived {
                let cut = text(output[cursor..arrived].iter().copied(), max_chars, all);
                assert!(cut.text.chars().count() <= max_chars);
                if cut.length == 0 {
                    break;
                }
                read += &cut.text;
                cursor += cut.length as usize;
            }
        }
        assert_eq!(cursor, output.len());
        without_idle_returns(read)
    }

    const SAMPLE: &str = "a\u{fc}\u{20ac}\u{1f525} \x1b[1;31mr\u{e9}d\x1b[0m\r\n\x1b]2;t\u{ef}tle\x07x\rxy\r\n\x1b(Bz";

    #[test]
    fn what_steers_the_terminal_is_no_text() {
        assert_eq!(whole(SAMPLE.as_bytes()), "a\u{fc}\u{20ac}\u{1f525} r\u{e9}d\nx\rxy\nz");
        assert_eq!(whole(b"a\r\n\x1b[?2004l\rb\r\r\nc\r\rd"), "a\nb\nc\rd");
        assert_eq!(whole(b"\xff\xe2\x82a\xc2\x9bb\xf0\x9f"), "\u{fffd}\u{fffd}ab\u{fffd}");
    }

    #[test]
    fn no_split_of_the_output_changes_the_text() {
        let output = SAMPLE.as_bytes();
        for first in 0..output.len() {
            for second in first..output.len() {
                for max_chars in [1, 3, 100] {
                    let read = in_pieces(output, &[first, second], max_chars);
                    assert_eq!(read, whole(output), "{first} {second} {max_chars}");
                }
            }
        }
    }

    #[test]
    fn raw_reads_end_between_characters() {
        let output = "a\u{fc}\u{1f525}".as_bytes();
        assert_eq!(whole_characters(output, 10, false), 7);
        assert_eq!(whole_characters(output, 2, false), 3);
        for cut in 4..7 {
            assert_eq!(whole_characters(&output[..cut], 10, false), 3);
            assert_eq!(whole_characters(&output[..cut], 10, true), cut);
        }
        assert_eq!(whole_characters(b"\xff\xfe", 10, false), 2, "no beginning of a character");
    }

    proptest! {
        #[test]
        fn no_split_of_any_output_changes_the_text(
            pieces in proptest::collection::vec(prop_oneof![
                ".{0,8}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..8),
                Just(b"\x1b[31m".to_vec()),
                Just(b"\x1b]0;x\x1b\\".to_vec()),
                Just(b"\r\n".to_vec()),
            ], 0..12),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
            max_chars in 1..20_usize,
        ) {
            let output = pieces.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(in_pieces(&output, &cuts, max_chars), whole(&output));
        }

        #[test]
        fn raw_reads_put_together_are_the_output(
            output in proptest::collection::vec(any::<u8>(), 0..64),
            max_chars in 1..9_usize,
        ) {
            let mut read = Vec::new();
            while read.len() < output.len() {
                let rest = &output[read.len()..];
                let length = whole_characters(rest, max_chars, true);
                prop_assert!(length > 0);
                read.extend_from_slice(&rest[..length]);
            }
            prop_assert_eq!(read, output);
        }
    }
}
