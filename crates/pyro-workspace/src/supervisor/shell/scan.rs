//! Which bytes of a terminal's output are text, and where it may be cut.
//!
//! A small reading of ECMA-48: it knows where control sequences begin and end and nothing of what
//! they mean. Whoever reads from a place where [`Scanner::is_between`] holds to another such place
//! sees whole characters and whole sequences.

/// A control string (a title, an image) that does not end within this is none.
const LONGEST_STRING: u32 = 1 << 20;
/// The same of a sequence.
const LONGEST_SEQUENCE: u32 = 4096;

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;

/// Reads output byte by byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scanner {
    state: State,
    /// Bytes since the last place between.
    length: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    /// Within a character of UTF-8, so many bytes from its end.
    Character(u8),
    Escape,
    /// Escape and characters that only a last one completes.
    EscapeSequence,
    ControlSequence,
    String,
    /// An escape within a string, which ends it.
    StringEscape,
}

impl Scanner {
    /// True if neither a character nor a sequence is left unfinished.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Between
    }

    /// Takes the next byte; true if it belongs to the text.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        let (state, is_text) = self.next(byte);
        self.length = if state == State::Between { 0 } else { self.length + 1 };
        let longest = match state {
            State::String | State::StringEscape => LONGEST_STRING,
            _ => LONGEST_SEQUENCE,
        };
        self.state = if self.length > longest { State::Between } else { state };
        is_text
    }

    fn next(&self, byte: u8) -> (State, bool) {
        let hidden = |state| (state, false);
        match (self.state, byte) {
            (State::Character(1), 0x80..=0xbf) => (State::Between, true),
            (State::Character(left), 0x80..=0xbf) => (State::Character(left - 1), true),
            (State::Between | State::Character(_), _) => match byte {
                ESC => hidden(State::Escape),
                b'\n' | b'\r' | b'\t' => (State::Between, true),
                0x00..=0x1f | 0x7f => hidden(State::Between),
                0xc2..=0xdf => (State::Character(1), true),
                0xe0..=0xef => (State::Character(2), true),
                0xf0..=0xf4 => (State::Character(3), true),
                _ => (State::Between, true),
            },
            (_, CAN | SUB) => hidden(State::Between),
            (State::String, ESC) => hidden(State::StringEscape),
            (State::StringEscape, b'\\') | (State::String, BEL) => hidden(State::Between),
            (State::String, _) => hidden(State::String),
            (_, ESC) => hidden(State::Escape),
            (State::Escape | State::StringEscape, b'[') => hidden(State::ControlSequence),
            (State::Escape | State::StringEscape, b']' | b'P' | b'X' | b'^' | b'_') => {
                hidden(State::String)
            }
            (State::Escape | State::StringEscape, 0x20..=0x2f) => hidden(State::EscapeSequence),
            (State::Escape | State::StringEscape | State::EscapeSequence, 0x00..=0x1f) => {
                hidden(self.state)
            }
            (State::EscapeSequence, 0x20..=0x2f) => hidden(State::EscapeSequence),
            (State::Escape | State::StringEscape | State::EscapeSequence, _) => {
                hidden(State::Between)
            }
            (State::ControlSequence, 0x40..=0x7e) => hidden(State::Between),
            (State::ControlSequence, _) => hidden(State::ControlSequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &[u8]) -> String {
        let mut scanner = Scanner::default();
        let bytes = output.iter().copied().filter(|byte| scanner.step(*byte)).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_told_from_sequences() {
        assert_eq!(text(b"\x1b[1;31mred\x1b[0m\r\n"), "red\r\n");
        assert_eq!(text(b"\x1b]0;title\x07a\x1b]2;title\x1b\\b"), "ab");
        assert_eq!(text(b"\x1bPq#0;2;0;0;0\x1b\\c"), "c");
        assert_eq!(text(b"\x1b(B\x1b=d\x1b[?2004h"), "d");
        assert_eq!(text(b"a\x07\x08\0b\x7f"), "ab");
        assert_eq!(text("\u{fc}\u{1f525}\u{4f60}".as_bytes()), "\u{fc}\u{1f525}\u{4f60}");
        // Interrupted ones.
        assert_eq!(text(b"\x1b[12\x18e"), "e");
        assert_eq!(text(b"\x1b]0;tit\x1b[31mf"), "f");
        assert_eq!(text(b"\x1b[1\x1b[2mg"), "g");
    }

    #[test]
    fn a_sequence_without_end_ends_all_the_same() {
        let mut scanner = Scanner::default();
        for byte in [&b"\x1b["[..], &[b'0'; LONGEST_SEQUENCE as usize]].concat() {
            scanner.step(byte);
        }
        assert!(scanner.is_between());
        let string = [&b"\x1b]"[..], &vec![b'x'; LONGEST_STRING as usize]].concat();
        for byte in string {
            scanner.step(byte);
        }
        assert!(scanner.is_between());
    }
}
