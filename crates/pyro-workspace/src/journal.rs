//! `journal.db`: every command that ran in a workspace, with its output.
//!
//! One SQLite database per workspace (WAL), written by its supervisor from one thread and read by
//! anybody. Of a command's output the first [`HEAD_BYTES`] and the last [`TAIL_BYTES`] are kept,
//! and what lay between is counted; so a command that prints for days costs a bounded database and
//! a bounded amount of memory.

mod events;
mod recorder;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use jiff::Timestamp;
use pyro_contract::exec::{ExecOutcome, ExecRequest, JournalCommand, OutputChunk, Stream};
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::oneshot;

use crate::caller::Caller;
pub(crate) use events::{Which, append, events};
pub(crate) use recorder::{Flush, Recorder};
use schema::{connect, failed};

/// Of each command's output, the beginning that is kept.
pub(crate) const HEAD_BYTES: usize = 64 << 10;
/// Of each command's output, the end that is kept.
pub(crate) const TAIL_BYTES: usize = 192 << 10;

/// What the writing thread is asked to do.
enum Write {
    Begin { command: Box<Begin>, reply: oneshot::Sender<Result<u64>> },
    Output { sequence: u64, flush: Flush },
    End { sequence: u64, ended: Ended, reply: oneshot::Sender<Result<()>> },
    Event { kind: Box<EventKind>, client: Option<String>, reply: oneshot::Sender<Result<u64>> },
}

struct Begin {
    argv: String,
    words: Vec<String>,
    cwd: String,
    user: Option<String>,
    detached: bool,
    client: Option<String>,
}

/// How a command ended, or why it did not run.
pub(crate) enum Ended {
    /// It ran.
    Ran(ExecOutcome),
    /// It did not, or was lost.
    Lost(String),
}

/// The writing side. Cloned freely; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Journal {
    writes: mpsc::SyncSender<Write>,
    activity: PathBuf,
}

impl Journal {
    /// Opens the journal for writing, and closes the books of commands that a dead supervisor left.
    pub(crate) fn open(path: &Path, activity: PathBuf) -> Result<Self> {
        let mut connection = schema::open(path)?;
        close_left(&connection).map_err(|error| failed(path, &error))?;
        let (writes, requests) = mpsc::sync_channel(8);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_all(&mut connection, &path, &requests))
            .map_err(|error| Error::io("cannot start the journal's thread", &error))?;
        Ok(Self { writes, activity })
    }

    /// Enters a command and gives it its number.
    pub(crate) async fn begin(
        &self,
        request: &ExecRequest,
        cwd: &str,
        caller: &Caller,
    ) -> Result<u64> {
        let argv = serde_json::to_string(&request.argv)
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        let command = Box::new(Begin {
            argv,
            words: request.argv.clone(),
            cwd: cwd.to_owned(),
            user: request.user.clone(),
            detached: request.detach,
            client: caller.name().map(str::to_owned),
        });
        let (reply, answer) = oneshot::channel();
        self.send(Write::Begin { command, reply }).await?;
        self.touch();
        answer.await.map_err(|_| gone())?
    }

    /// Enters something that happened, and gives it its number; when this returns it is in the
    /// database.
    ///
    /// Commands enter theirs by [`Self::begin`] and [`Self::end`].
    pub(crate) async fn record(&self, kind: EventKind, caller: &Caller) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        let client = caller.name().map(str::to_owned);
        self.send(Write::Event { kind: Box::new(kind), client, reply }).await?;
        self.touch();
        answer.await.map_err(|_| gone())?
    }

    /// Keeps a piece of output.
    pub(crate) async fn output(&self, sequence: u64, flush: Flush) -> Result<()> {
        self.send(Write::Output { sequence, flush }).await
    }

    /// Closes a command's entry; when this returns it is in the database.
    pub(crate) async fn end(&self, sequence: u64, ended: Ended) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::End { sequence, ended, reply }).await?;
        self.touch();
        answer.await.map_err(|_| gone())?
    }

    /// Queues a write; off the async threads once the queue is full, so that a slow disk holds up
    /// the command that prints and nothing else.
    async fn send(&self, write: Write) -> Result<()> {
        match self.writes.try_send(write) {
            Ok(()) => Ok(()),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(gone()),
            Err(mpsc::TrySendError::Full(write)) => {
                let writes = self.writes.clone();
                tokio::task::spawn_blocking(move || writes.send(write).map_err(|_| gone()))
                    .await
                    .map_err(|_| gone())?
            }
        }
    }

    /// Marks that something happened in the workspace just now.
    fn touch(&self) {
        let now = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        };
        let flags = rustix::fs::AtFlags::empty();
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &self.activity, &now, flags);
    }
}

/// Reads the last `tail` commands (all if `None`), oldest first.
pub(crate) fn read(path: &Path, tail: Option<u32>) -> Result<Vec<JournalCommand>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let wrap = |error: rusqlite::Error| failed(path, &error);
    let mut select = connection
        .prepare(
            "SELECT sequence, argv, cwd, user, started_at, outcome, error, output_bytes, omitted_bytes
             FROM commands ORDER BY sequence DESC LIMIT ?1",
        )
        .map_err(wrap)?;
    let mut output = connection
        .prepare("SELECT stream, bytes FROM output WHERE sequence = ?1 ORDER BY position")
        .map_err(wrap)?;
    let mut rows = select.query(params![tail.map_or(-1, i64::from)]).map_err(wrap)?;
    let mut commands = Vec::new();
    while let Some(row) = rows.next().map_err(wrap)? {
        let mut command = command_of(row).map_err(wrap)?;
        let chunks = output
            .query_map(params![command.sequence.cast_signed()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .map_err(wrap)?;
        let pieces = chunks.collect::<rusqlite::Result<Vec<_>>>().map_err(wrap)?;
        command.output = join(pieces);
        commands.push(command);
    }
    commands.reverse();
    Ok(commands)
}

/// Joins neighbours of one stream before decoding, so that a character split over two reads stays
/// one character.
fn join(pieces: Vec<(i64, Vec<u8>)>) -> Vec<OutputChunk> {
    let mut joined: Vec<(i64, Vec<u8>)> = Vec::new();
    for (stream, bytes) in pieces {
        match joined.last_mut() {
            Some((last, buffer)) if *last == stream => buffer.extend_from_slice(&bytes),
            _ => joined.push((stream, bytes)),
        }
    }
    joined
        .into_iter()
        .map(|(stream, bytes)| OutputChunk {
            stream: if stream == 2 { Stream::Stderr } else { Stream::Stdout },
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
        .collect()
}

fn command_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<JournalCommand> {
    let outcome: Option<String> = row.get(5)?;
    let argv: String = row.get(1)?;
    let started_at: String = row.get(4)?;
    Ok(JournalCommand {
        sequence: row.get::<_, i64>(0)?.cast_unsigned(),
        argv: serde_json::from_str(&argv).unwrap_or_default(),
        cwd: row.get(2)?,
        user: row.get(3)?,
        started_at: started_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        outcome: outcome.and_then(|text| serde_json::from_str(&text).ok()),
        error: row.get(6)?,
        output: Vec::new(),
        output_bytes: row.get::<_, i64>(7)?.cast_unsigned(),
        omitted_bytes: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}

fn write_all(connection: &mut Connection, path: &Path, requests: &mpsc::Receiver<Write>) {
    while let Ok(write) = requests.recv() {
        match write {
            Write::Begin { command, reply } => {
                let _ = reply.send(begin(connection, *command).map_err(|e| failed(path, &e)));
            }
            Write::Event { kind, client, reply } => {
                let entered = events::insert(connection, &kind, client.as_deref());
                let _ = reply.send(entered.map_err(|e| failed(path, &e)));
            }
            Write::Output { sequence, flush } => {
                // Output that cannot be kept must not end the command; the entry stays shorter.
                if let Err(error) = output(connection, sequence, &flush) {
                    tracing::warn!(%error, sequence, "cannot keep output in the journal");
                }
            }
            Write::End { sequence, ended, reply } => {
                let _ = reply.send(end(connection, sequence, &ended).map_err(|e| failed(path, &e)));
            }
        }
    }
}

fn begin(connection: &mut Connection, command: Begin) -> rusqlite::Result<u64> {
    let transaction = connection.transaction()?;
    let sequence = {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO commands (argv, cwd, user, started_at, client, detached)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let Begin { argv, cwd, user, detached, client, .. } = &command;
        insert.execute(params![argv, cwd, user, Timestamp::now().to_string(), client, detached])?;
        transaction.last_insert_rowid().cast_unsigned()
    };
    let Begin { words, detached, client, .. } = command;
    let kind = EventKind::CommandStarted { sequence, argv: words, detached };
    events::insert(&transaction, &kind, client.as_deref())?;
    transaction.commit()?;
    Ok(sequence)
}

fn output(connection: &mut Connection, sequence: u64, flush: &Flush) -> rusqlite::Result<()> {
    let sequence = sequence.cast_signed();
    let transaction = connection.transaction()?;
    transaction.execute(
        "DELETE FROM output WHERE sequence = ?1 AND position >= ?2",
        params![sequence, flush.first_position.cast_signed()],
    )?;
    for (index, (stream, bytes)) in (0u64..).zip(&flush.pieces) {
        let position = (flush.first_position + index).cast_signed();
        let number = if *stream == Stream::Stderr { 2 } else { 1 };
        transaction.execute(
            "INSERT INTO output (sequence, position, stream, bytes) VALUES (?1, ?2, ?3, ?4)",
            params![sequence, position, number, &bytes[..]],
        )?;
    }
    transaction.execute(
        "UPDATE commands SET output_bytes = ?2, omitted_bytes = ?3 WHERE sequence = ?1",
        params![sequence, flush.total.cast_signed(), flush.omitted.cast_signed()],
    )?;
    transaction.commit()
}

fn end(connection: &mut Connection, sequence: u64, ended: &Ended) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    close(&transaction, sequence, ended)?;
    transaction.commit()
}

fn close(connection: &Connection, sequence: u64, ended: &Ended) -> rusqlite::Result<()> {
    let (outcome, error) = match ended {
        Ended::Ran(outcome) => (Some(outcome), None),
        Ended::Lost(why) => (None, Some(why.as_str())),
    };
    let text = outcome.and_then(|outcome| serde_json::to_string(outcome).ok());
    connection
        .prepare_cached("UPDATE commands SET outcome = ?2, error = ?3 WHERE sequence = ?1")?
        .execute(params![sequence.cast_signed(), text, error])?;
    let kind = EventKind::CommandEnded {
        outcome: outcome.cloned(),
        sequence,
        error: error.map(str::to_owned),
    };
    events::insert(connection, &kind, None).map(drop)
}

/// Closes the books of commands that a dead supervisor left.
fn close_left(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection
        .prepare("SELECT sequence FROM commands WHERE outcome IS NULL AND error IS NULL")?;
    let left = select.query_map([], |row| row.get::<_, i64>(0))?;
    let lost = Ended::Lost("the machine ended while this command ran".into());
    for sequence in left.collect::<rusqlite::Result<Vec<_>>>()? {
        close(connection, sequence.cast_unsigned(), &lost)?;
    }
    Ok(())
}

fn gone() -> Error {
    Error::new(ErrorCode::Internal, "the journal's thread has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(sequence: u64) -> ExecOutcome {
        ExecOutcome {
            sequence,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            oom_killed: false,
            duration_ms: 1,
        }
    }

    async fn begin<const N: usize>(journal: &Journal, argv: [&str; N]) -> Result<u64> {
        let caller = Caller::new(pyro_contract::journal::ClientName::new("test"));
        journal.begin(&ExecRequest::new(argv), "/workspace", &caller).await
    }

    #[tokio::test]
    async fn events_are_numbered_and_say_who_asked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        let journal = Journal::open(&path, temp.path().join("activity")).unwrap();
        journal.record(EventKind::Started, &Caller::default()).await.unwrap();
        let sequence = begin(&journal, ["true"]).await.unwrap();
        journal.end(sequence, Ended::Ran(outcome(sequence))).await.unwrap();
        drop(journal);
        append(&path, &EventKind::Paused, &Caller::default()).unwrap();
        let all = events(&path, Which::default()).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|event| (event.id, event.kind.as_str(), event.client.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (1, "started", None),
                (2, "command_started", Some("test")),
                (3, "command_ended", None),
                (4, "paused", None)
            ]
        );
        let later = events(&path, Which { after: 2, tail: Some(1), since: None }).unwrap();
        assert_eq!(later, all[3..]);
        let never = Which { since: Some(Timestamp::MAX), ..Which::default() };
        assert_eq!(events(&path, never).unwrap(), []);
    }

    /// As the first version left it: a command that ended and one that did not.
    const OLD: &str = include_str!("journal/fixtures/version-1.sql");

    #[tokio::test]
    async fn a_journal_of_the_first_version_is_read_and_then_migrated() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        Connection::open(&path).unwrap().execute_batch(OLD).unwrap();
        let check = |commands: Vec<JournalCommand>| {
            assert_eq!(commands[0].argv, ["echo", "old"]);
            assert_eq!(commands[0].output[0].text, "old\n");
            assert_eq!(commands[0].outcome.as_ref().unwrap().exit_code, Some(0));
            assert_eq!(commands[1].argv, ["sleep", "100"]);
            commands
        };
        assert_eq!(check(read(&path, None).unwrap())[1].error, None);
        assert_eq!(events(&path, Which::default()).unwrap(), []);
        let journal = Journal::open(&path, temp.path().join("activity")).unwrap();
        assert!(check(read(&path, None).unwrap())[1].error.is_some());
        assert_eq!(begin(&journal, ["true"]).await.unwrap(), 3);
        let kinds: Vec<_> = events(&path, Which::default()).unwrap();
        let kinds: Vec<_> = kinds.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["command_ended", "command_started"]);
        drop(journal);
        Journal::open(&path, temp.path().join("activity")).unwrap();
    }

    #[test]
    fn a_journal_of_a_newer_pyro_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Journal::open(&path, temp.path().join("activity")).err().unwrap();
        assert_eq!(error.code, ErrorCode::Unsupported);
    }

    #[tokio::test]
    async fn commands_are_kept_in_order_with_their_output() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        let journal = Journal::open(&path, temp.path().join("activity")).unwrap();
        for argv in [["echo", "a"], ["echo", "b"]] {
            let sequence = begin(&journal, argv).await.unwrap();
            let mut recorder = Recorder::default();
            // A character split over two reads.
            recorder.push(Stream::Stdout, &"ü".as_bytes()[..1]);
            recorder.push(Stream::Stdout, &"ü".as_bytes()[1..]);
            recorder.push(Stream::Stderr, b"oops");
            journal.output(sequence, recorder.flush().unwrap()).await.unwrap();
            journal.end(sequence, Ended::Ran(outcome(sequence))).await.unwrap();
        }
        let commands = read(&path, None).unwrap();
        assert_eq!(commands.iter().map(|c| c.sequence).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(commands[1].argv, ["echo", "b"]);
        assert_eq!(commands[1].output[0].text, "ü");
        assert_eq!(commands[1].output[1].stream, Stream::Stderr);
        assert_eq!(read(&path, Some(1)).unwrap()[0].sequence, 2);
    }

    #[tokio::test]
    async fn a_flood_keeps_its_head_and_its_tail() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        let journal = Journal::open(&path, temp.path().join("activity")).unwrap();
        let sequence = begin(&journal, ["yes"]).await.unwrap();
        let mut recorder = Recorder::default();
        let mut total = 0u64;
        for round in 0..2000u32 {
            let piece = format!("{round:08}\n").repeat(100);
            total += piece.len() as u64;
            recorder.push(Stream::Stdout, piece.as_bytes());
            if round % 50 == 0 {
                journal.output(sequence, recorder.flush().unwrap()).await.unwrap();
            }
        }
        journal.output(sequence, recorder.flush().unwrap()).await.unwrap();
        journal.end(sequence, Ended::Ran(outcome(sequence))).await.unwrap();
        let command = read(&path, None).unwrap().remove(0);
        let kept: String = command.output.iter().map(|chunk| chunk.text.as_str()).collect();
        assert!(kept.starts_with("00000000\n") && kept.ends_with("00001999\n"));
        assert_eq!(command.output_bytes, total);
        assert_eq!(command.omitted_bytes + kept.len() as u64, total);
        assert!(kept.len() <= HEAD_BYTES + TAIL_BYTES, "{}", kept.len());
    }

    #[tokio::test]
    async fn a_command_that_its_supervisor_did_not_outlive_is_closed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        let journal = Journal::open(&path, temp.path().join("activity")).unwrap();
        begin(&journal, ["sleep"]).await.unwrap();
        drop(journal);
        let _again = Journal::open(&path, temp.path().join("activity")).unwrap();
        assert!(read(&path, None).unwrap()[0].error.is_some());
    }

    #[test]
    fn damage_is_named_and_nothing_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        std::fs::write(&path, vec![7u8; 9000]).unwrap();
        let error = Journal::open(&path, temp.path().join("activity")).err().unwrap();
        assert_eq!(error.code, ErrorCode::Damaged);
        assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 9000]);
    }
}
