//! What a machine's process and its guest say last: bounded, and safe to show.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;

/// Bytes that are kept.
const CAPACITY: usize = 64 * 1024;

/// Lines that are shown.
const LINES: usize = 20;

/// Characters of a line that are shown.
const WIDTH: usize = 400;

/// The last bytes of an endless text. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Tail(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kept: Mutex<VecDeque<u8>>,
    more: Notify,
}

impl Tail {
    /// Reads until the end, keeping the last [`CAPACITY`] bytes. Never stops reading, so that who
    /// writes is never held up; never grows, so that who writes cannot fill this host.
    pub(crate) async fn follow(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            self.push(&buffer[..length]);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(CAPACITY)..];
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = (kept.len() + bytes.len()).saturating_sub(CAPACITY);
        kept.drain(..surplus);
        kept.extend(bytes);
        drop(kept);
        self.0.more.notify_waiters();
    }

    /// Resolves once `words` are among the last lines.
    pub(crate) async fn until_said(&self, words: &str) {
        loop {
            let more = self.0.more.notified();
            if self.lines().contains(words) {
                return;
            }
            more.await;
        }
    }

    /// The last lines, without anything that a terminal would act on.
    pub(crate) fn lines(&self) -> String {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (front, back) = kept.as_slices();
        printable(&[front, back].concat())
    }
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> =
        text.split(['\n', '\r']).map(clean).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Escape sequences go whole, other control characters singly; so does what turns text around or
/// is not seen.
fn clean(line: &str) -> String {
    let mut kept = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => kept.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => kept.push(c),
        }
    }
    kept.trim_end().chars().take(WIDTH).collect()
}

/// `ESC [ parameters final` or `ESC intermediates final`, see ECMA-48, 5.3 and 5.4. Sequences with
/// a string (`ESC ]`) leave their text behind, which is harmless.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if characters.next_if_eq(&'[').is_some() {
        while characters.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    } else {
        while characters.next_if(|c| matches!(c, ' '..='/')).is_some() {}
    }
    characters.next_if(|c| matches!(c, '0'..='~'));
}

/// Zero-width and bidirectional formatting characters of Unicode.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bytes_are_kept() {
        let tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        tail.push(&vec![b'x'; 3 * CAPACITY]);
        assert_eq!(tail.0.kept.lock().unwrap().len(), CAPACITY);
        tail.push(b"\nlast\n");
        assert_eq!(tail.0.kept.lock().unwrap().len(), CAPACITY);
        assert!(tail.lines().ends_with("x\nlast"));
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let tail = Tail::default();
        for number in 0..100 {
            tail.push(format!("line {number}\r\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.lines().count(), LINES);
        assert!(lines.starts_with("line 80\n") && lines.ends_with("line 99"), "{lines}");
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown() {
        let cleaned =
            printable(b"\x1b[31;1mred\x1b[0m \x1b(Bplain\x07\x00 a\tb \xff\xfe\x1b]0;t\x07");
        assert_eq!(cleaned, "red plain a b \u{fffd}\u{fffd}0;t");
        assert_eq!(printable("\u{202e}abc\u{200b}\u{9b}d".as_bytes()), "abcd");
        assert_eq!(printable(b"\x1b"), "");
    }

    #[tokio::test]
    async fn words_are_heard_whether_they_were_said_before_or_come_later() {
        let tail = Tail::default();
        tail.push(b"one rea");
        let (told, hearing) = (tail.clone(), tail.clone());
        let heard = tokio::spawn(async move { hearing.until_said("ready").await });
        tokio::task::yield_now().await;
        assert!(!heard.is_finished());
        told.push(b"dy\n");
        heard.await.unwrap();
        tail.until_said("one").await;
    }

    #[tokio::test]
    async fn following_ends_with_its_source() {
        let tail = Tail::default();
        tail.clone().follow(&b"hello\n"[..]).await;
        assert_eq!(tail.lines(), "hello");
    }
}
