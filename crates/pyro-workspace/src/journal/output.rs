//! Reading output, from anywhere in it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use pyro_contract::exec::{OutputChunk, Stream};
use pyro_contract::{Error, ErrorCode, Result};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::recorder::Piece;
use super::{block, schema, spool};

/// More than any block takes in its file; a row that claims more is damage.
const LARGEST_BLOCK: i64 = 4 << 20;

/// A stretch of a command's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) pieces: Vec<Piece>,
    /// Where the next page begins.
    pub(crate) next: u64,
    /// Bytes on the way that are not kept.
    pub(crate) dropped: u64,
    /// True if nothing is kept from `next` on.
    pub(crate) at_end: bool,
}

/// Where to read and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: u64,
    /// The most bytes; at least one.
    pub(crate) at_most: usize,
    /// Only this stream.
    pub(crate) stream: Option<Stream>,
}

/// Reads a stretch of a command's output.
pub(crate) fn page(path: &Path, sequence: u64, range: Range) -> Result<Page> {
    let Some(mut connection) = schema::open_for_reading(path)? else {
        return Ok(Page { next: range.from, at_end: true, ..Page::default() });
    };
    page_of(&mut connection, path, sequence, range)
}

pub(super) fn page_of(
    connection: &mut Connection,
    path: &Path,
    sequence: u64,
    range: Range,
) -> Result<Page> {
    // Whoever writes may drop a file between our reading its name and opening it; then the name is
    // gone too, the next time.
    let mut tries = 0;
    loop {
        tries += 1;
        match read(connection, path, sequence, range) {
            Err(Failed::Gone) if tries < 4 => {}
            Err(Failed::Gone) => return Err(damaged("a file of output is missing")),
            Err(Failed::Damaged(what)) => return Err(damaged(&what)),
            Err(Failed::Sql(error)) => return Err(schema::failed(path, &error)),
            Ok(page) => return Ok(page),
        }
    }
}

enum Failed {
    Gone,
    Damaged(String),
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorCode::Damaged, "a part of the command's output cannot be read")
        .with_cause(what)
        .with_hint("read on behind it, with a later position")
}

fn read(
    connection: &mut Connection,
    path: &Path,
    sequence: u64,
    range: Range,
) -> Result<Page, Failed> {
    // One state of all tables.
    let transaction = connection.transaction()?;
    let mut page = Page { next: range.from, ..Page::default() };
    let mut room = range.at_most.max(1);
    loop {
        let Some(pieces) = stretch(&transaction, path, sequence, page.next)? else {
            page.at_end = true;
            // What is missing at the end is missing too.
            let total = total(&transaction, sequence)?;
            page.dropped += total.saturating_sub(page.next);
            page.next = page.next.max(total);
            break;
        };
        for piece in pieces {
            let end = piece.start + piece.bytes.len() as u64;
            if end <= page.next {
                continue;
            }
            page.dropped += piece.start.saturating_sub(page.next);
            let skip = usize::try_from(page.next.saturating_sub(piece.start)).unwrap_or(0);
            page.next = page.next.max(piece.start);
            if range.stream.is_some_and(|stream| stream != piece.stream) {
                page.next = end;
                continue;
            }
            let bytes = piece.bytes.get(skip..).unwrap_or_default();
            let taken = bytes.get(..room).unwrap_or(bytes);
            room -= taken.len();
            let start = page.next;
            page.next += taken.len() as u64;
            page.pieces.push(Piece { start, stream: piece.stream, bytes: taken.to_vec() });
            if room == 0 {
                leave_split_character(&mut page);
                page.at_end = stretch(&transaction, path, sequence, page.next)?.is_none();
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// The pieces at `from`, or the next ones after it.
fn stretch(
    transaction: &Transaction<'_>,
    path: &Path,
    sequence: u64,
    from: u64,
) -> Result<Option<Vec<Piece>>, Failed> {
    let key = params![sequence.cast_signed(), from.cast_signed()];
    let block = transaction
        .prepare_cached(
            "SELECT start, file, position, size FROM blocks
             WHERE sequence = ?1 AND start + length > ?2 ORDER BY start LIMIT 1",
        )?
        .query_row(key, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    if let Some((start, file, position, size)) = block {
        return unpack(path, sequence, (start, file, position, size)).map(Some);
    }
    let piece = transaction
        .prepare_cached(
            "SELECT start, stream, bytes FROM pieces
             WHERE sequence = ?1 AND start + LENGTH(bytes) > ?2 ORDER BY start LIMIT 1",
        )?
        .query_row(key, |row| {
            Ok(Piece {
                start: row.get::<_, i64>(0)?.cast_unsigned(),
                stream: block::stream_of(row.get(1)?).unwrap_or(Stream::Stdout),
                bytes: row.get(2)?,
            })
        })
        .optional()?;
    Ok(piece.map(|piece| vec![piece]))
}

fn unpack(
    path: &Path,
    sequence: u64,
    (start, file, position, size): (i64, i64, i64, i64),
) -> Result<Vec<Piece>, Failed> {
    let damaged = |error: std::io::Error| Failed::Damaged(error.to_string());
    let name = spool::file_name(sequence, file.cast_unsigned());
    let file =
        File::open(spool::directory(path).join(name)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failed::Gone,
            _ => damaged(error),
        })?;
    let size = usize::try_from(size.clamp(0, LARGEST_BLOCK)).unwrap_or(0);
    let mut packed = vec![0; size];
    file.read_exact_at(&mut packed, position.cast_unsigned()).map_err(damaged)?;
    block::unpack(&packed, start.cast_unsigned()).map_err(damaged)
}

fn total(transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<u64> {
    let total: Option<i64> = transaction
        .prepare_cached("SELECT output_bytes FROM commands WHERE sequence = ?1")?
        .query_row(params![sequence.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(total.unwrap_or(0).cast_unsigned())
}

/// A page that ends within a character leaves its beginning to the next one.
fn leave_split_character(page: &mut Page) {
    let alone = page.pieces.len() == 1;
    let Some(last) = page.pieces.last_mut() else { return };
    let begun = begun_character(&last.bytes);
    // A page of nothing would be read for ever.
    if begun == 0 || (alone && begun == last.bytes.len()) {
        return;
    }
    last.bytes.truncate(last.bytes.len() - begun);
    page.next -= begun as u64;
    if last.bytes.is_empty() {
        page.pieces.pop();
    }
}

/// How many bytes at the end are the beginning of a character that is not all there.
pub(crate) fn begun_character(bytes: &[u8]) -> usize {
    for length in 1..=3.min(bytes.len()) {
        let tail = &bytes[bytes.len() - length..];
        let Some(first) = tail.first() else { return 0 };
        let whole = match first {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if length < whole { length } else { 0 };
    }
    0
}

/// Joins neighbours of one stream before decoding, so that a character split over two reads stays
/// one character.
pub(crate) fn chunks<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> Vec<OutputChunk> {
    let mut joined: Vec<(Stream, Vec<u8>)> = Vec::new();
    for Piece { stream, bytes, .. } in pieces {
        match joined.last_mut() {
            Some((last, buffer)) if last == stream => buffer.extend_from_slice(bytes),
            _ => joined.push((*stream, bytes.clone())),
        }
    }
    joined
        .into_iter()
        .map(|(stream, bytes)| OutputChunk {
            stream,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_character_that_has_begun_is_left() {
        for (text, begun) in [
            (&b"abc"[..], 0),
            ("ü".as_bytes(), 0),
            (&"ü".as_bytes()[..1], 1),
            (&"€".as_bytes()[..2], 2),
            (&"𝄞".as_bytes()[..3], 3),
            (b"\x80\x80\x80\x80", 0),
            (b"a\xff", 0),
            (b"", 0),
        ] {
            assert_eq!(begun_character(text), begun, "{text:?}");
        }
    }
}
