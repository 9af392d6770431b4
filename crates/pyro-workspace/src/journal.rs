//! `journal.db`: everything that happened in a workspace, and every command with its output.
//!
//! One SQLite database per workspace (WAL), written by its supervisor from one thread and read by
//! anybody. Output that is longer than a screen goes to files beside it (`spool.rs`), compressed and
//! within [`JournalBounds`]; so a command that prints for days costs bounded disk and memory. What
//! was dropped is counted, and said wherever it is missing.

mod block;
mod commands;
mod events;
mod logs;
mod output;
mod recorder;
mod schema;
mod spool;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use pyro_contract::exec::ExecRequest;
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::caller::Caller;
use commands::Begin;
use schema::failed;
use spool::Spool;

pub(crate) use commands::{Ended, Wanted, command, commands};
pub(crate) use events::{Which, append, events};
pub(crate) use logs::logs;
pub(crate) use output::{Page, Range, begun_character, chunks, page};
pub(crate) use recorder::{Flush, Recorder};
pub use spool::JournalBounds;

#[cfg(fuzzing)]
pub(crate) fn unpack_block(bytes: &[u8]) {
    let _ = block::unpack(bytes, 0);
}

/// How many commands come between two looks at whether there are too many rows.
const TRIM_EVERY: u64 = 1000;

/// What the writing thread is asked to do.
enum Write {
    Begin { command: Box<Begin>, reply: oneshot::Sender<Result<u64>> },
    Output { sequence: u64, flush: Flush, total: u64 },
    End { sequence: u64, ended: Ended, total: u64, reply: oneshot::Sender<Result<()>> },
    Event { kind: Box<EventKind>, client: Option<String>, reply: oneshot::Sender<Result<u64>> },
}

/// The writing side. Cloned freely; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Journal {
    writes: mpsc::SyncSender<Write>,
    activity: PathBuf,
    /// Rung after each write.
    bell: Arc<watch::Sender<()>>,
}

impl Journal {
    /// Opens the journal for writing, and closes the books of commands that a dead supervisor left.
    pub(crate) fn open(path: &Path, activity: PathBuf, bounds: JournalBounds) -> Result<Self> {
        let connection = schema::open(path)?;
        let wrap = |error: rusqlite::Error| failed(path, &error);
        commands::close_left(&connection).map_err(wrap)?;
        let spool = Spool::open(&connection, path, bounds).map_err(wrap)?;
        let (writes, requests) = mpsc::sync_channel(8);
        let bell = Arc::new(watch::Sender::new(()));
        let mut writer =
            Writer { connection, spool, path: path.to_owned(), bell: Arc::clone(&bell) };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&requests))
            .map_err(|error| Error::io("cannot start the journal's thread", &error))?;
        Ok(Self { writes, activity, bell })
    }

    /// Tells of every change that is in the database.
    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// True if somebody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.bell.receiver_count() > 0
    }

    /// Enters a command and gives it its number.
    pub(crate) async fn begin(
        &self,
        request: &ExecRequest,
        cwd: &str,
        caller: &Caller,
    ) -> Result<u64> {
        let command = Box::new(Begin {
            argv: request.command(),
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

    /// Keeps a part of a command's output; `total` bytes came by now.
    pub(crate) async fn output(&self, sequence: u64, flush: Flush, total: u64) -> Result<()> {
        self.send(Write::Output { sequence, flush, total }).await
    }

    /// Closes the entry of a command that wrote `total` bytes; when this returns it is in the database.
    pub(crate) async fn end(&self, sequence: u64, ended: Ended, total: u64) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Write::End { sequence, ended, total, reply }).await?;
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
    pub(crate) fn touch(&self) {
        let now = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        };
        let flags = rustix::fs::AtFlags::empty();
        let _ = rustix::fs::utimensat(rustix::fs::CWD, &self.activity, &now, flags);
    }
}

/// The thread that writes.
struct Writer {
    connection: Connection,
    spool: Spool,
    path: PathBuf,
    bell: Arc<watch::Sender<()>>,
}

impl Writer {
    fn run(&mut self, requests: &mpsc::Receiver<Write>) {
        while let Ok(write) = requests.recv() {
            self.carry_out(write);
            self.bell.send_replace(());
        }
    }

    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Begin { command, reply } => {
                let begun = commands::begin(&mut self.connection, *command);
                let trim = begun.as_ref().is_ok_and(|sequence| sequence % TRIM_EVERY == 0);
                let _ = reply.send(begun.map_err(|error| failed(&self.path, &error)));
                if trim && let Err(error) = self.trim() {
                    tracing::warn!(%error, "the journal could not be trimmed");
                }
            }
            Write::Event { kind, client, reply } => {
                let entered = events::insert(&self.connection, &kind, client.as_deref());
                let _ = reply.send(entered.map_err(|error| failed(&self.path, &error)));
            }
            Write::Output { sequence, flush, total } => {
                // Output that cannot be kept must not end the command; its entry says at the end how
                // much is missing.
                if let Err(error) = self.keep(sequence, &flush, total) {
                    tracing::warn!(%error, sequence, "cannot keep output in the journal");
                }
            }
            Write::End { sequence, ended, total, reply } => {
                let done = commands::end(&mut self.connection, sequence, &ended, total);
                self.spool.end(sequence);
                let _ = reply.send(done.map_err(|error| failed(&self.path, &error)));
            }
        }
    }

    fn keep(&mut self, sequence: u64, flush: &Flush, total: u64) -> rusqlite::Result<()> {
        let dropped = self.spool.keep(&mut self.connection, sequence, flush, total)?;
        if dropped.bytes == 0 {
            return Ok(());
        }
        self.say_trimmed(dropped.bytes, dropped.commands, 0)
    }

    /// Keeps the number of rows within bounds.
    fn trim(&mut self) -> rusqlite::Result<()> {
        let old = commands::too_old(&self.connection)?;
        let mut bytes = 0;
        for sequence in &old {
            bytes += self.spool.drop_output(&mut self.connection, *sequence)?;
            commands::forget(&self.connection, *sequence)?;
        }
        let events = events::trim(&self.connection)?;
        if old.is_empty() && events == 0 {
            return Ok(());
        }
        self.say_trimmed(bytes, old.len() as u64, events)
    }

    fn say_trimmed(&self, output_bytes: u64, commands: u64, events: u64) -> rusqlite::Result<()> {
        let kind = EventKind::JournalTrimmed { output_bytes, commands, events };
        events::insert(&self.connection, &kind, None).map(drop)
    }
}

fn gone() -> Error {
    Error::new(ErrorCode::Internal, "the journal's thread has ended")
}
