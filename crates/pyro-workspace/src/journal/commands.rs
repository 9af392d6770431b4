//! The rows of commands: how they are opened and closed, and how they are read.

use std::path::Path;

use jiff::Timestamp;
use pyro_contract::exec::{CommandInfo, ExecOutcome};
use pyro_contract::journal::EventKind;
use pyro_contract::{Error, ErrorCode, Result};
use rusqlite::{Connection, params};

use super::{events, schema, spool};

/// The most commands that are kept.
const MOST: u64 = 100_000;

/// A command that is about to start.
pub(super) struct Begin {
    pub(super) argv: Vec<String>,
    pub(super) cwd: String,
    pub(super) user: Option<String>,
    pub(super) detached: bool,
    pub(super) client: Option<String>,
}

/// How a command ended, or why it did not run.
pub(crate) enum Ended {
    /// It ran.
    Ran(ExecOutcome),
    /// It did not, or was lost.
    Lost(String),
}

pub(super) fn begin(connection: &mut Connection, command: Begin) -> rusqlite::Result<u64> {
    let Begin { argv, cwd, user, detached, client } = command;
    let text = serde_json::to_string(&argv)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let transaction = connection.transaction()?;
    transaction
        .prepare_cached(
            "INSERT INTO commands (argv, cwd, user, started_at, client, detached)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![text, cwd, user, Timestamp::now().to_string(), client, detached])?;
    let sequence = transaction.last_insert_rowid().cast_unsigned();
    let kind = EventKind::CommandStarted { sequence, argv, detached };
    events::insert(&transaction, &kind, client.as_deref())?;
    transaction.commit()?;
    Ok(sequence)
}

pub(super) fn end(
    connection: &mut Connection,
    sequence: u64,
    ended: &Ended,
    total: u64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction
        .prepare_cached(
            "UPDATE commands SET output_bytes = MAX(output_bytes, ?2) WHERE sequence = ?1",
        )?
        .execute(params![sequence.cast_signed(), total.cast_signed()])?;
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
    spool::count_omitted(connection, sequence)?;
    let kind = EventKind::CommandEnded {
        outcome: outcome.cloned(),
        sequence,
        error: error.map(str::to_owned),
    };
    events::insert(connection, &kind, None).map(drop)
}

/// Closes the books of commands that a dead supervisor left.
pub(super) fn close_left(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection
        .prepare("SELECT sequence FROM commands WHERE outcome IS NULL AND error IS NULL")?;
    let left = select.query_map([], |row| row.get::<_, i64>(0))?;
    let lost = Ended::Lost(LOST.into());
    for sequence in left.collect::<rusqlite::Result<Vec<_>>>()? {
        close(connection, sequence.cast_unsigned(), &lost)?;
    }
    Ok(())
}

/// What became of a command whose end nobody saw.
const LOST: &str = "the machine ended while this command ran";

/// The oldest commands beyond [`MOST`], which are to go.
pub(super) fn too_old(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    let mut select = connection.prepare(
        "SELECT sequence FROM commands
         WHERE sequence <= (SELECT MAX(sequence) FROM commands) - ?1
             AND (outcome IS NOT NULL OR error IS NOT NULL)",
    )?;
    let rows = select.query_map(params![MOST.cast_signed()], |row| row.get::<_, i64>(0))?;
    rows.map(|row| row.map(i64::cast_unsigned)).collect()
}

pub(super) fn forget(connection: &Connection, sequence: u64) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM commands WHERE sequence = ?1", params![sequence.cast_signed()])
        .map(drop)
}

/// Which commands are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) sequence: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    /// Only those whose end is not written down.
    pub(crate) open: bool,
    pub(crate) tail: Option<u32>,
}

/// Reads commands, oldest first. `live` says that a supervisor has the workspace: without one, a
/// command whose end is not written down was lost.
pub(crate) fn commands(path: &Path, wanted: Wanted, live: bool) -> Result<Vec<CommandInfo>> {
    let Some(connection) = schema::open_for_reading(path)? else { return Ok(Vec::new()) };
    select(&connection, wanted, live).map_err(|error| schema::failed(path, &error))
}

/// One command.
pub(crate) fn command(path: &Path, sequence: u64, live: bool) -> Result<CommandInfo> {
    let wanted = Wanted { sequence: Some(sequence), ..Wanted::default() };
    commands(path, wanted, live)?.pop().ok_or_else(|| not_found(sequence))
}

pub(crate) fn not_found(sequence: u64) -> Error {
    Error::new(ErrorCode::NotFound, format!("there is no command {sequence} in the journal"))
        .with_hint("`pyro workspace command list WS --all` shows which there are")
}

pub(super) fn select(
    connection: &Connection,
    wanted: Wanted,
    live: bool,
) -> rusqlite::Result<Vec<CommandInfo>> {
    let mut select = connection.prepare(
        "SELECT sequence, argv, cwd, user, started_at, outcome, error, output_bytes, omitted_bytes,
            client, detached
         FROM commands
         WHERE (?1 IS NULL OR sequence = ?1)
             AND (NOT ?2 OR (outcome IS NULL AND error IS NULL))
         ORDER BY sequence DESC LIMIT ?3",
    )?;
    let sequence = wanted.sequence.map(u64::cast_signed);
    let limit = wanted.tail.map_or(-1, i64::from);
    let rows =
        select.query_map(params![sequence, wanted.open, limit], |row| command_of(row, live))?;
    let mut commands = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    commands.reverse();
    if let Some(since) = wanted.since {
        commands.retain(|command| command.started_at >= since);
    }
    if wanted.open {
        commands.retain(|command| command.running);
    }
    Ok(commands)
}

fn command_of(row: &rusqlite::Row<'_>, live: bool) -> rusqlite::Result<CommandInfo> {
    let (argv, started_at): (String, String) = (row.get(1)?, row.get(4)?);
    let (outcome, error): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
    let open = outcome.is_none() && error.is_none();
    Ok(CommandInfo {
        sequence: row.get::<_, i64>(0)?.cast_unsigned(),
        argv: serde_json::from_str(&argv).unwrap_or_default(),
        cwd: row.get(2)?,
        user: row.get(3)?,
        client: row.get(9)?,
        detached: row.get(10)?,
        started_at: started_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        running: open && live,
        outcome: outcome.and_then(|text| serde_json::from_str(&text).ok()),
        error: error.or_else(|| (open && !live).then(|| LOST.to_owned())),
        output_bytes: row.get::<_, i64>(7)?.cast_unsigned(),
        dropped_bytes: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}
