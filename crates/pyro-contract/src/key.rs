//! Keys by name, so that nobody has to know control codes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// A key, perhaps with modifiers: `enter`, `ctrl-c`, `up`, `shift-tab`, `alt-x`, `ctrl-right`, `f5`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    #[schemars(with = "String")]
    name: String,
    #[schemars(skip)]
    press: Press,
}

/// What a terminal sends for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Press {
    /// These bytes, after an escape with Alt.
    Char { alt: bool, first: u8, length: u8, rest: [u8; 3] },
    /// `ESC [ X`, or `ESC O X` where the program wants it so; with modifiers `ESC [ 1 ; M X`.
    Letter { letter: u8, modifiers: u8 },
    /// `ESC O X` without modifiers: the first four function keys.
    Function { letter: u8, modifiers: u8 },
    /// `ESC [ N ~`, with modifiers `ESC [ N ; M ~`.
    Number { number: u8, modifiers: u8 },
    /// `ESC [ Z`.
    BackTab,
}

const SHIFT: u8 = 1;
const ALT: u8 = 2;
const CTRL: u8 = 4;

/// Keys with one byte of their own.
const PLAIN: &[(&str, u8)] = &[
    ("enter", b'\r'),
    ("return", b'\r'),
    ("tab", b'\t'),
    ("escape", 0x1b),
    ("esc", 0x1b),
    ("space", b' '),
    ("backspace", 0x7f),
];

const LETTERS: &[(&str, u8)] =
    &[("up", b'A'), ("down", b'B'), ("right", b'C'), ("left", b'D'), ("home", b'H'), ("end", b'F')];

const FUNCTIONS: &[(&str, u8)] = &[("f1", b'P'), ("f2", b'Q'), ("f3", b'R'), ("f4", b'S')];

const NUMBERS: &[(&str, u8)] = &[
    ("insert", 2),
    ("delete", 3),
    ("del", 3),
    ("page-up", 5),
    ("pageup", 5),
    ("page-down", 6),
    ("pagedown", 6),
    ("f5", 15),
    ("f6", 17),
    ("f7", 18),
    ("f8", 19),
    ("f9", 20),
    ("f10", 21),
    ("f11", 23),
    ("f12", 24),
];

impl Key {
    /// The bytes that xterm sends for it; `application` if the program has asked for application
    /// cursor keys (DECCKM).
    #[must_use]
    pub fn bytes(&self, application: bool) -> Vec<u8> {
        // CSI 1 ; M: see "PC-Style Function Keys" in xterm's control sequences.
        let modified = |modifiers: u8| modifiers + 1;
        match self.press {
            Press::Char { alt, first, length, rest } => {
                let escape = alt.then_some(0x1b);
                let rest = rest.into_iter().take(usize::from(length));
                escape.into_iter().chain([first]).chain(rest).collect()
            }
            Press::Letter { letter, modifiers: 0 } if application => vec![0x1b, b'O', letter],
            Press::Letter { letter, modifiers: 0 } => vec![0x1b, b'[', letter],
            Press::Function { letter, modifiers: 0 } => vec![0x1b, b'O', letter],
            Press::Letter { letter, modifiers } | Press::Function { letter, modifiers } => {
                format!("\x1b[1;{}{}", modified(modifiers), char::from(letter)).into_bytes()
            }
            Press::Number { number, modifiers: 0 } => format!("\x1b[{number}~").into_bytes(),
            Press::Number { number, modifiers } => {
                format!("\x1b[{number};{}~", modified(modifiers)).into_bytes()
            }
            Press::BackTab => b"\x1b[Z".to_vec(),
        }
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let press = parse(text).ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not the name of a key"))
                .with_hint(
                    "keys are enter, tab, escape, space, backspace, delete, up, down, left, right, \
                     home, end, page-up, page-down, f1 to f12 and single characters, with ctrl-, \
                     alt- or shift- before them, such as ctrl-c",
                )
        })?;
        Ok(Self { name: text.to_owned(), press })
    }
}

fn parse(text: &str) -> Option<Press> {
    let mut modifiers = 0;
    let mut rest = text;
    // `-` alone is a key too, and so is `ctrl--`.
    while let Some((prefix, after)) = rest.split_once('-').filter(|(_, after)| !after.is_empty()) {
        let modifier = match prefix.to_ascii_lowercase().as_str() {
            "ctrl" | "control" | "c" => CTRL,
            "alt" | "meta" | "m" => ALT,
            "shift" | "s" => SHIFT,
            _ => break,
        };
        if modifiers & modifier != 0 {
            return None;
        }
        modifiers |= modifier;
        rest = after;
    }
    let lower = rest.to_ascii_lowercase();
    let among = |table: &[(&str, u8)]| {
        table.iter().find(|(name, _)| *name == lower).map(|(_, value)| *value)
    };
    if let Some(letter) = among(LETTERS) {
        return Some(Press::Letter { letter, modifiers });
    }
    if let Some(letter) = among(FUNCTIONS) {
        return Some(Press::Function { letter, modifiers });
    }
    if let Some(number) = among(NUMBERS) {
        return Some(Press::Number { number, modifiers });
    }
    let alt = modifiers & ALT != 0;
    let byte = |first| Some(Press::Char { alt, first, length: 0, rest: [0; 3] });
    if let Some(plain) = among(PLAIN) {
        return match (plain, modifiers & !ALT) {
            (b'\t', SHIFT) if !alt => Some(Press::BackTab),
            (b' ', CTRL) => byte(0),
            (0x7f, CTRL) => byte(8),
            (_, 0 | SHIFT) => byte(plain),
            _ => None,
        };
    }
    let mut chars = rest.chars();
    let (character, None) = (chars.next()?, chars.next()) else { return None };
    if character.is_control() {
        return None;
    }
    match modifiers & !ALT {
        0 => {}
        CTRL => {
            return match character.to_ascii_uppercase() {
                // What the key of this character sends with Ctrl: its lowest five bits.
                upper @ ('@'..='_') => byte(upper as u8 & 0x1f),
                '?' => byte(0x7f),
                '/' => byte(0x1f),
                _ => None,
            };
        }
        SHIFT if character.is_ascii_alphabetic() => {
            return byte(character.to_ascii_uppercase() as u8);
        }
        _ => return None,
    }
    let mut buffer = [0; 4];
    let length = character.encode_utf8(&mut buffer).len();
    let [first, rest @ ..] = buffer;
    Some(Press::Char { alt, first, length: (length - 1) as u8, rest })
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(name: &str) -> Vec<u8> {
        name.parse::<Key>().unwrap().bytes(false)
    }

    #[test]
    fn keys_send_what_xterm_sends() {
        for (name, sent) in [
            ("enter", &b"\r"[..]),
            ("ctrl-c", b"\x03"),
            ("Ctrl-C", b"\x03"),
            ("ctrl-d", b"\x04"),
            ("ctrl-space", b"\0"),
            ("ctrl-@", b"\0"),
            ("ctrl-[", b"\x1b"),
            ("ctrl-\\", b"\x1c"),
            ("ctrl-_", b"\x1f"),
            ("ctrl-backspace", b"\x08"),
            ("escape", b"\x1b"),
            ("up", b"\x1b[A"),
            ("ctrl-right", b"\x1b[1;5C"),
            ("shift-alt-up", b"\x1b[1;4A"),
            ("home", b"\x1b[H"),
            ("delete", b"\x1b[3~"),
            ("shift-delete", b"\x1b[3;2~"),
            ("page-up", b"\x1b[5~"),
            ("f1", b"\x1bOP"),
            ("ctrl-f1", b"\x1b[1;5P"),
            ("f12", b"\x1b[24~"),
            ("shift-tab", b"\x1b[Z"),
            ("alt-x", b"\x1bx"),
            ("alt-enter", b"\x1b\r"),
            ("ctrl-alt-a", b"\x1b\x01"),
            ("shift-a", b"A"),
            ("a", b"a"),
            ("-", b"-"),
            ("alt--", b"\x1b-"),
            ("\u{fc}", "\u{fc}".as_bytes()),
        ] {
            assert_eq!(bytes(name), sent, "{name}");
        }
    }

    #[test]
    fn arrows_follow_the_programs_mode() {
        let up: Key = "up".parse().unwrap();
        assert_eq!(up.bytes(true), b"\x1bOA");
        let ctrl_up: Key = "ctrl-up".parse().unwrap();
        assert_eq!(ctrl_up.bytes(true), b"\x1b[1;5A");
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_is() {
        for bad in
            ["", "enterr", "ctrl-", "ctrl-ctrl-c", "hyper-x", "ctrl-\u{fc}", "ctrl-1", "ab", "\x03"]
        {
            let error = bad.parse::<Key>().unwrap_err();
            assert!(error.hint.unwrap().contains("ctrl-c"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_a_key_is_short(text in ".{0,20}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert!((1..=8).contains(&key.bytes(true).len()));
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
