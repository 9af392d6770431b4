//! The output that is kept: short ones and unfinished blocks as rows, the rest in files of
//! compressed blocks under `output/`, all of it within bounds.
//!
//! A file is written before the row that names it, and removed after that row is gone; so after a
//! crash there may be bytes or files that nothing names, never names of what is not there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::block;
use super::recorder::{Flush, Piece};

/// What a row of output costs besides its bytes.
const ROW_COST: u64 = 48;
/// What a block costs besides its bytes in the file: output that compresses to nothing is not free.
const BLOCK_COST: u64 = 512;
/// A file is closed at this cost. Files are what is dropped when a bound is reached.
const FILE_COST: u64 = 2 << 20;

/// How much output is kept, compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalBounds {
    /// Of one command, in MiB: its beginning, and the newest of the rest.
    pub command_mib: u32,
    /// Of all commands of a workspace, in MiB: that of the oldest is dropped first.
    pub workspace_mib: u32,
}

impl Default for JournalBounds {
    fn default() -> Self {
        Self { command_mib: 64, workspace_mib: 1024 }
    }
}

const fn mib(count: u32) -> u64 {
    (count as u64) << 20
}

/// Where the output of a database's commands lies.
pub(super) fn directory(database: &Path) -> PathBuf {
    database.with_file_name("output")
}

pub(super) fn file_name(sequence: u64, file: u64) -> String {
    format!("{sequence}.{file}.zst")
}

/// What dropping took away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) bytes: u64,
    pub(super) commands: u64,
}

/// The writing side.
pub(super) struct Spool {
    directory: PathBuf,
    bounds: JournalBounds,
    /// What everything costs.
    total: u64,
    /// Where the commands are that run now.
    writing: HashMap<u64, Place>,
}

/// Where the next block of a command goes.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    file: u64,
    length: u64,
    file_cost: u64,
    /// All that is kept of this command.
    cost: u64,
}

impl Spool {
    /// Sweeps what a crash left.
    pub(super) fn open(
        connection: &Connection,
        database: &Path,
        bounds: JournalBounds,
    ) -> rusqlite::Result<Self> {
        let total: i64 =
            connection
                .query_row("SELECT COALESCE(SUM(cost), 0) FROM commands", [], |row| row.get(0))?;
        let spool = Self {
            directory: directory(database),
            bounds,
            total: total.cast_unsigned(),
            writing: HashMap::new(),
        };
        spool.sweep(connection)?;
        Ok(spool)
    }

    fn sweep(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Ok(()) };
        let mut known =
            connection.prepare("SELECT 1 FROM blocks WHERE sequence = ?1 AND file = ?2 LIMIT 1")?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut numbers = name.split('.').map_while(|part| part.parse::<i64>().ok());
            let named = match (numbers.next(), numbers.next()) {
                (Some(sequence), Some(file)) => known.exists(params![sequence, file])?,
                _ => false,
            };
            if !named {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Keeps what came. `total` is how much has come in all.
    pub(super) fn keep(
        &mut self,
        connection: &mut Connection,
        sequence: u64,
        flush: &Flush,
        total: u64,
    ) -> rusqlite::Result<Dropped> {
        let mut place = self.writing.get(&sequence).copied().unwrap_or_default();
        let transaction = connection.transaction()?;
        let change = match flush {
            Flush::Pieces(pieces) => insert_pieces(&transaction, sequence, pieces)?,
            Flush::Block(pieces) => self.seal(&transaction, sequence, pieces, &mut place)?,
        };
        place.cost = place.cost.saturating_add_signed(change);
        transaction
            .prepare_cached(
                "UPDATE commands SET output_bytes = ?2, cost = cost + ?3 WHERE sequence = ?1",
            )?
            .execute(params![sequence.cast_signed(), total.cast_signed(), change])?;
        transaction.commit()?;
        self.total = self.total.saturating_add_signed(change);
        self.writing.insert(sequence, place);
        if place.cost > mib(self.bounds.command_mib) {
            // A part of this very command: it says itself what of it was dropped.
            self.drop_oldest_file(connection, sequence)?;
        }
        self.fit(connection)
    }

    /// A command has ended.
    pub(super) fn end(&mut self, sequence: u64) {
        self.writing.remove(&sequence);
    }

    /// Writes a block to the command's file, in place of the rows that its pieces had.
    fn seal(
        &self,
        transaction: &Transaction<'_>,
        sequence: u64,
        pieces: &[Piece],
        place: &mut Place,
    ) -> rusqlite::Result<i64> {
        let Some(first) = pieces.first() else { return Ok(0) };
        let length: u64 = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        let packed = block::pack(pieces).map_err(io_error)?;
        let size = packed.len() as u64;
        if place.file_cost >= FILE_COST.min(mib(self.bounds.command_mib) / 8) {
            *place = Place { file: place.file + 1, cost: place.cost, ..Place::default() };
        }
        let (file, position) = (place.file, place.length);
        self.write(sequence, file, position, &packed).map_err(io_error)?;
        place.length += size;
        place.file_cost += size + BLOCK_COST;
        let start = first.start.cast_signed();
        let replaced: i64 = transaction
            .prepare_cached(
                "SELECT COALESCE(SUM(LENGTH(bytes) + ?3), 0) FROM pieces
                 WHERE sequence = ?1 AND start >= ?2",
            )?
            .query_row(params![sequence.cast_signed(), start, ROW_COST.cast_signed()], |row| {
                row.get(0)
            })?;
        transaction
            .prepare_cached("DELETE FROM pieces WHERE sequence = ?1 AND start >= ?2")?
            .execute(params![sequence.cast_signed(), start])?;
        transaction.prepare_cached("INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(
            params![
                sequence.cast_signed(),
                start,
                length.cast_signed(),
                file.cast_signed(),
                position.cast_signed(),
                size.cast_signed()
            ],
        )?;
        Ok((size + BLOCK_COST).cast_signed() - replaced)
    }

    fn write(&self, sequence: u64, file: u64, position: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.directory.join(file_name(sequence, file));
        let open = || File::options().create(true).write(true).truncate(false).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.directory)?;
                open()?
            }
            opened => opened?,
        };
        file.write_all_at(bytes, position)
    }

    /// Drops the oldest file of a command that is neither its first nor its last.
    fn drop_oldest_file(
        &mut self,
        connection: &mut Connection,
        sequence: u64,
    ) -> rusqlite::Result<bool> {
        let current = self.writing.get(&sequence).map_or(u64::MAX >> 1, |place| place.file);
        let oldest: Option<i64> = connection
            .prepare_cached(
                "SELECT MIN(file) FROM blocks WHERE sequence = ?1 AND file > 0 AND file < ?2",
            )?
            .query_row(params![sequence.cast_signed(), current.cast_signed()], |row| row.get(0))?;
        let Some(file) = oldest else { return Ok(false) };
        let transaction = connection.transaction()?;
        let freed: i64 = transaction.query_row(
            "SELECT COALESCE(SUM(size + ?3), 0) FROM blocks WHERE sequence = ?1 AND file = ?2",
            params![sequence.cast_signed(), file, BLOCK_COST.cast_signed()],
            |row| row.get(0),
        )?;
        transaction.execute(
            "DELETE FROM blocks WHERE sequence = ?1 AND file = ?2",
            params![sequence.cast_signed(), file],
        )?;
        self.settle(transaction, sequence, freed.cast_unsigned())?;
        let _ = fs::remove_file(self.directory.join(file_name(sequence, file.cast_unsigned())));
        Ok(true)
    }

    /// Books what a command lost, and what that freed.
    fn settle(
        &mut self,
        transaction: Transaction<'_>,
        sequence: u64,
        freed: u64,
    ) -> rusqlite::Result<()> {
        transaction.execute(
            "UPDATE commands SET cost = MAX(cost - ?2, 0) WHERE sequence = ?1",
            params![sequence.cast_signed(), freed.cast_signed()],
        )?;
        count_omitted(&transaction, sequence)?;
        transaction.commit()?;
        self.total = self.total.saturating_sub(freed);
        if let Some(place) = self.writing.get_mut(&sequence) {
            place.cost = place.cost.saturating_sub(freed);
        }
        Ok(())
    }

    /// Drops the output of the oldest commands until the whole fits, with some room to spare.
    fn fit(&mut self, connection: &mut Connection) -> rusqlite::Result<Dropped> {
        let bound = mib(self.bounds.workspace_mib);
        let mut dropped = Dropped::default();
        if self.total <= bound {
            return Ok(dropped);
        }
        let with_output: Vec<u64> = {
            let mut select = connection
                .prepare("SELECT sequence FROM commands WHERE cost > 0 ORDER BY sequence")?;
            let rows = select.query_map([], |row| row.get::<_, i64>(0))?;
            rows.map(|row| row.map(i64::cast_unsigned)).collect::<rusqlite::Result<_>>()?
        };
        for sequence in with_output {
            if self.total <= bound - bound / 10 {
                break;
            }
            let bytes = if self.writing.contains_key(&sequence) {
                let before = omitted(connection, sequence)?;
                while self.total > bound - bound / 10
                    && self.drop_oldest_file(connection, sequence)?
                {}
                omitted(connection, sequence)?.saturating_sub(before)
            } else {
                self.drop_output(connection, sequence)?
            };
            dropped.bytes += bytes;
            dropped.commands += u64::from(bytes > 0);
        }
        Ok(dropped)
    }

    /// Drops all output of a command that has ended; how many bytes.
    pub(super) fn drop_output(
        &mut self,
        connection: &mut Connection,
        sequence: u64,
    ) -> rusqlite::Result<u64> {
        let key = params![sequence.cast_signed()];
        let before = omitted(connection, sequence)?;
        let transaction = connection.transaction()?;
        let files: Vec<i64> = {
            let mut select =
                transaction.prepare("SELECT DISTINCT file FROM blocks WHERE sequence = ?1")?;
            select.query_map(key, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        };
        let freed: i64 = transaction.query_row(
            "SELECT COALESCE(MAX(cost), 0) FROM commands WHERE sequence = ?1",
            key,
            |row| row.get(0),
        )?;
        transaction.execute("DELETE FROM blocks WHERE sequence = ?1", key)?;
        transaction.execute("DELETE FROM pieces WHERE sequence = ?1", key)?;
        self.settle(transaction, sequence, freed.cast_unsigned())?;
        for file in files {
            let _ = fs::remove_file(self.directory.join(file_name(sequence, file.cast_unsigned())));
        }
        Ok(omitted(connection, sequence)?.saturating_sub(before))
    }
}

fn insert_pieces(
    transaction: &Transaction<'_>,
    sequence: u64,
    pieces: &[Piece],
) -> rusqlite::Result<i64> {
    let mut insert = transaction.prepare_cached("INSERT INTO pieces VALUES (?1, ?2, ?3, ?4)")?;
    let mut cost = 0;
    for Piece { start, stream, bytes } in pieces {
        let (sequence, start) = (sequence.cast_signed(), start.cast_signed());
        insert.execute(params![sequence, start, block::number(*stream), &bytes[..]])?;
        cost += bytes.len() as u64 + ROW_COST;
    }
    Ok(cost.cast_signed())
}

/// Makes a command say how much of its output is not kept, for whatever reason.
pub(super) fn count_omitted(connection: &Connection, sequence: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE commands SET omitted_bytes = MAX(0, output_bytes
                - (SELECT COALESCE(SUM(length), 0) FROM blocks WHERE sequence = ?1)
                - (SELECT COALESCE(SUM(LENGTH(bytes)), 0) FROM pieces WHERE sequence = ?1))
             WHERE sequence = ?1",
        )?
        .execute(params![sequence.cast_signed()])
        .map(drop)
}

fn omitted(connection: &Connection, sequence: u64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT omitted_bytes FROM commands WHERE sequence = ?1")?
        .query_row(params![sequence.cast_signed()], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

fn io_error(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
