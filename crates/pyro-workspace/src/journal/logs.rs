//! Commands together with what of their output is worth showing at once.

use std::path::Path;

use pyro_contract::command::{Continuation, LogsRequest};
use pyro_contract::exec::{CommandInfo, JournalCommand, Stream};
use pyro_contract::name::WorkspaceId;
use pyro_contract::{Error, ErrorCode, Result};
use regex::bytes::Regex;
use rusqlite::Connection;

use super::commands::{self, Wanted};
use super::output::{Page, Range, chunks, page_of};
use super::recorder::Piece;
use super::schema;

/// How much is read at a time.
const STEP: usize = 256 << 10;

/// One answer has at most so many commands, the newest.
const MOST_COMMANDS: u32 = 10_000;

/// One answer has at most so many bytes of output, those of the newest commands.
const MOST_BYTES: usize = 32 << 20;

/// A longer line is looked at in parts.
const LONGEST_LINE: usize = 64 << 10;

/// Reads the commands that are wanted, oldest first.
pub(crate) fn logs(
    path: &Path,
    request: &LogsRequest,
    id: &WorkspaceId,
    live: bool,
) -> Result<Vec<JournalCommand>> {
    let pattern = request.grep.as_deref().map(pattern).transpose()?;
    let Some(mut connection) = schema::open_for_reading(path)? else { return Ok(Vec::new()) };
    let most = request.tail.unwrap_or(MOST_COMMANDS).min(MOST_COMMANDS);
    // With a pattern the last so many of those that match are meant.
    let tail = if pattern.is_some() { None } else { Some(most) };
    let wanted = Wanted { sequence: request.sequence, since: request.since, open: false, tail };
    let found = commands::select(&connection, wanted, live)
        .map_err(|error| schema::failed(path, &error))?;
    if let (Some(sequence), true) = (request.sequence, found.is_empty()) {
        return Err(commands::not_found(sequence));
    }
    let mut shown = Vec::new();
    let mut room = MOST_BYTES;
    for command in found.into_iter().rev() {
        if shown.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            break;
        }
        let mut source = Source { connection: &mut connection, path, sequence: command.sequence };
        let cap = request.cap().min(room);
        let entry = match &pattern {
            None => Some(ends(&mut source, command, cap, id)?),
            Some(pattern) => matching(&mut source, command, cap, pattern)?,
        };
        if let Some(entry) = entry {
            let size: usize = entry.output.iter().map(|chunk| chunk.text.len()).sum();
            room = room.saturating_sub(size);
            shown.push(entry);
        }
    }
    shown.reverse();
    Ok(shown)
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a regular expression"))
            .with_cause(error.to_string())
            .with_hint("escape what is meant as it stands: `\\.` is a dot")
    })
}

/// The output of one command.
struct Source<'a> {
    connection: &'a mut Connection,
    path: &'a Path,
    sequence: u64,
}

impl Source<'_> {
    fn page(&mut self, from: u64, at_most: usize) -> Result<Page> {
        let range = Range { from, at_most, stream: None };
        page_of(self.connection, self.path, self.sequence, range)
    }
}

/// All of a short output; of a long one its beginning and, three times as long, its end.
fn ends(
    source: &mut Source<'_>,
    command: CommandInfo,
    cap: usize,
    id: &WorkspaceId,
) -> Result<JournalCommand> {
    let total = command.output_bytes;
    if cap == 0 {
        let omitted_bytes = total;
        let continuation = (total > 0).then(|| {
            Continuation { sequence: command.sequence, position: 0, stream: None }.token(id)
        });
        return Ok(JournalCommand { command, output: Vec::new(), omitted_bytes, continuation });
    }
    if total.saturating_sub(command.dropped_bytes) <= cap as u64 {
        let page = source.page(0, cap)?;
        let output = chunks(&page.pieces);
        return Ok(JournalCommand {
            command,
            output,
            omitted_bytes: page.dropped,
            continuation: None,
        });
    }
    let head = source.page(0, (cap / 4).max(1))?;
    let from = total.saturating_sub((cap - cap / 4) as u64).max(head.next);
    let mut tail = source.page(from, cap)?;
    // Not from the middle of a line, if one begins soon.
    let mut omitted = from - head.next + tail.dropped;
    if let Some(first) = tail.pieces.first_mut()
        && let Some(at) = first.bytes.iter().position(|byte| *byte == b'\n')
        && at < 4096
        && at + 1 < first.bytes.len()
    {
        first.bytes.drain(..=at);
        omitted += at as u64 + 1;
    }
    let place = Continuation { sequence: command.sequence, position: head.next, stream: None };
    let output = chunks(&head.pieces).into_iter().chain(chunks(&tail.pieces)).collect();
    Ok(JournalCommand {
        command,
        output,
        omitted_bytes: omitted,
        continuation: Some(place.token(id)),
    })
}

/// The lines that match, if there are any.
fn matching(
    source: &mut Source<'_>,
    command: CommandInfo,
    cap: usize,
    pattern: &Regex,
) -> Result<Option<JournalCommand>> {
    let mut found = Matches { pattern, cap, kept: Vec::new(), size: 0, omitted: 0, any: false };
    let mut lines = [Vec::new(), Vec::new()];
    let mut from = 0;
    loop {
        let page = source.page(from, STEP)?;
        for piece in &page.pieces {
            let line = &mut lines[usize::from(piece.stream == Stream::Stderr)];
            for part in piece.bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") || line.len() >= LONGEST_LINE {
                    found.line(piece.stream, line);
                    line.clear();
                }
            }
        }
        from = page.next;
        if page.at_end {
            break;
        }
    }
    for (stream, line) in [Stream::Stdout, Stream::Stderr].into_iter().zip(lines) {
        found.line(stream, &line);
    }
    Ok(found.any.then(|| JournalCommand {
        command,
        output: chunks(&found.kept),
        omitted_bytes: found.omitted,
        continuation: None,
    }))
}

struct Matches<'a> {
    pattern: &'a Regex,
    cap: usize,
    kept: Vec<Piece>,
    size: usize,
    omitted: u64,
    any: bool,
}

impl Matches<'_> {
    fn line(&mut self, stream: Stream, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() || !self.pattern.is_match(text) {
            return;
        }
        self.any = true;
        if self.size + line.len() > self.cap {
            self.omitted += line.len() as u64;
            return;
        }
        self.size += line.len();
        self.kept.push(Piece { start: 0, stream, bytes: line.to_vec() });
    }
}
