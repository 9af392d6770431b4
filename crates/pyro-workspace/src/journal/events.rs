//! Everything that happened in a workspace, one row each.

use std::path::Path;

use jiff::Timestamp;
use pyro_contract::Result;
use pyro_contract::journal::{Event, EventKind};
use rusqlite::{Connection, params};

use super::schema;
use crate::caller::Caller;

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Which {
    /// Only those with a higher number.
    pub(crate) after: u64,
    /// Only those that happened at this moment or later.
    pub(crate) since: Option<Timestamp>,
    /// Only the last so many.
    pub(crate) tail: Option<u32>,
}

/// No answer has more events.
const PAGE: i64 = 10_000;

/// The most events that are kept.
const MOST: u64 = 200_000;

/// Drops the oldest events beyond [`MOST`]; how many.
pub(super) fn trim(connection: &Connection) -> rusqlite::Result<u64> {
    let dropped = connection.execute(
        "DELETE FROM events WHERE id <= (SELECT MAX(id) FROM events) - ?1",
        params![MOST.cast_signed()],
    )?;
    Ok(dropped as u64)
}

pub(super) fn insert(
    connection: &Connection,
    kind: &EventKind,
    client: Option<&str>,
) -> rusqlite::Result<u64> {
    let text = serde_json::to_string(kind)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut insert =
        connection.prepare_cached("INSERT INTO events (at, client, kind) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![Timestamp::now().to_string(), client, text])?;
    Ok(connection.last_insert_rowid().cast_unsigned())
}

/// Enters something that happened while no supervisor has the journal. The caller holds the
/// workspace's lock.
pub(crate) fn append(path: &Path, kind: &EventKind, caller: &Caller) -> Result<()> {
    let connection = schema::open(path)?;
    insert(&connection, kind, caller.name()).map(drop).map_err(|error| schema::failed(path, &error))
}

/// Reads events, oldest first, whoever writes meanwhile.
pub(crate) fn events(path: &Path, which: Which) -> Result<Vec<Event>> {
    let Some(connection) = schema::open_for_reading(path)? else { return Ok(Vec::new()) };
    let read = || -> rusqlite::Result<Vec<Event>> {
        // The last so many, or the first so many after a number: what is left is asked for next.
        let (order, limit) = match which.tail {
            Some(tail) => ("DESC", i64::from(tail).min(PAGE)),
            None => ("ASC", PAGE),
        };
        let mut select = connection.prepare(&format!(
            "SELECT id, at, client, kind FROM events WHERE id > ?1 ORDER BY id {order} LIMIT ?2"
        ))?;
        let rows = select.query_map(params![which.after.cast_signed(), limit], event_of)?;
        rows.collect()
    };
    let mut events = read().map_err(|error| schema::failed(path, &error))?;
    events.sort_by_key(|event| event.id);
    if let Some(since) = which.since {
        events.retain(|event| event.at >= since);
    }
    Ok(events)
}

fn event_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    let (at, kind): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(Event {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        at: at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        client: row.get(2)?,
        kind: serde_json::from_str(&kind).unwrap_or(EventKind::Unknown),
    })
}
