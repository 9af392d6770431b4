//! Binary content as it stands in git patches: deflated, in base 85, line by line.

use std::io::{self, Write};

use flate2::{Compression, write::ZlibEncoder};

/// Git's alphabet (`base85.c`): RFC 1924's.
const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Bytes carried by a full line.
const LINE: usize = 52;

/// Deflates all that is written to it and passes it on as lines. [`Literal::finish`] ends it.
pub(super) struct Literal<W: Write> {
    encoder: ZlibEncoder<Lines<W>>,
}

impl<W: Write> Literal<W> {
    pub(super) fn new(out: W) -> Self {
        let lines = Lines { out, pending: Vec::with_capacity(LINE) };
        Self { encoder: ZlibEncoder::new(lines, Compression::default()) }
    }

    /// Writes what is left, and the empty line that ends a hunk.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut lines = self.encoder.finish()?;
        if !lines.pending.is_empty() {
            lines.write_line()?;
        }
        lines.out.write_all(b"\n")
    }
}

impl<W: Write> Write for Literal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

/// Cuts bytes into lines of a length letter (`A` is 1, `Z` 26, `a` 27, `z` 52) and their digits.
struct Lines<W: Write> {
    out: W,
    pending: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn write_line(&mut self) -> io::Result<()> {
        let mut line = Vec::with_capacity(2 + LINE / 4 * 5);
        line.push(match self.pending.len() {
            count @ 1..=26 => b'A' + (count - 1) as u8,
            count => b'a' + (count.min(LINE) - 27) as u8,
        });
        for chunk in self.pending.chunks(4) {
            // The last group of a line is filled up with zeros; the length tells them off.
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let mut rest = u32::from_be_bytes(word);
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = ALPHABET[(rest % 85) as usize];
                rest /= 85;
            }
            line.extend_from_slice(&digits);
        }
        line.push(b'\n');
        self.pending.clear();
        self.out.write_all(&line)
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(LINE - self.pending.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == LINE {
                self.write_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
pub(super) fn encode_for_test(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    for pending in bytes.chunks(LINE) {
        let mut lines = Lines { out: Vec::new(), pending: pending.to_vec() };
        let _ = lines.write_line();
        out.append(&mut lines.out);
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}

/// The bytes of lines in base 85, which end with the block. `None` if they are none.
pub(super) fn decode(lines: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((letter, digits)) = line.strip_suffix(b"\r").unwrap_or(line).split_first() else {
            continue;
        };
        let length = match letter {
            b'A'..=b'Z' => letter - b'A' + 1,
            b'a'..=b'z' => letter - b'a' + 27,
            _ => return None,
        };
        let (groups, rest) = digits.as_chunks::<5>();
        if !rest.is_empty() || groups.len() != usize::from(length).div_ceil(4) {
            return None;
        }
        let begun = bytes.len();
        for group in groups {
            let word = group.iter().try_fold(0_u32, |word, digit| {
                let value = ALPHABET.iter().position(|letter| letter == digit)?;
                word.checked_mul(85)?.checked_add(value as u32)
            })?;
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.truncate(begun + usize::from(length));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_git() {
        // How git writes a side that is empty: these bytes are zlib's for nothing.
        let mut lines = Lines { out: Vec::new(), pending: vec![0x78, 1, 3, 0, 0, 0, 0, 1] };
        lines.write_line().unwrap();
        assert_eq!(lines.out, b"HcmV?d00001\n");
    }

    #[test]
    fn the_first_letter_of_a_line_tells_its_length() {
        for (count, letter) in [(1, 'A'), (26, 'Z'), (27, 'a'), (52, 'z')] {
            let mut lines = Lines { out: Vec::new(), pending: vec![7; count] };
            lines.write_line().unwrap();
            assert_eq!(char::from(lines.out[0]), letter);
            assert_eq!(lines.out.len(), 1 + count.div_ceil(4) * 5 + 1);
        }
    }
}
