//! The tables of `journal.db`, and how an older database becomes one of this version.

use std::path::Path;
use std::time::Duration;

use pyro_contract::{Error, ErrorCode, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction};

/// `PRAGMA user_version`; a newer database is refused, an older one migrated.
pub(super) const VERSION: i64 = 2;

/// What each version added to the one before.
const STEPS: [&str; VERSION as usize] = [
    "CREATE TABLE commands (
        sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
        argv          TEXT NOT NULL,
        cwd           TEXT NOT NULL,
        user          TEXT,
        started_at    TEXT NOT NULL,
        outcome       TEXT,
        error         TEXT,
        output_bytes  INTEGER NOT NULL DEFAULT 0,
        omitted_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE output (
        sequence INTEGER NOT NULL REFERENCES commands(sequence),
        position INTEGER NOT NULL,
        stream   INTEGER NOT NULL,
        bytes    BLOB NOT NULL,
        PRIMARY KEY (sequence, position)
    ) STRICT, WITHOUT ROWID;",
    // Output is found by where it begins, so that it can be read from anywhere. What lay between
    // the head and the tail that the first version kept is a gap.
    "ALTER TABLE commands ADD COLUMN client TEXT;
    ALTER TABLE commands ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE commands ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE pieces (
        sequence INTEGER NOT NULL REFERENCES commands(sequence),
        start    INTEGER NOT NULL,
        stream   INTEGER NOT NULL,
        bytes    BLOB NOT NULL,
        PRIMARY KEY (sequence, start)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO pieces
        SELECT sequence, before + CASE WHEN cost >= 65536 THEN omitted ELSE 0 END, stream, bytes
        FROM (
            SELECT o.sequence, stream, bytes, omitted_bytes AS omitted,
                COALESCE(SUM(LENGTH(bytes)) OVER earlier, 0) AS before,
                COALESCE(SUM(LENGTH(bytes) + 64) OVER earlier, 0) AS cost
            FROM output o JOIN commands c ON c.sequence = o.sequence
            WINDOW earlier AS (
                PARTITION BY o.sequence ORDER BY position
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        );
    DROP TABLE output;
    UPDATE commands SET cost = (
        SELECT COALESCE(SUM(LENGTH(bytes) + 48), 0) FROM pieces p
        WHERE p.sequence = commands.sequence
    );
    CREATE TABLE blocks (
        sequence INTEGER NOT NULL REFERENCES commands(sequence),
        start    INTEGER NOT NULL,
        length   INTEGER NOT NULL,
        file     INTEGER NOT NULL,
        position INTEGER NOT NULL,
        size     INTEGER NOT NULL,
        PRIMARY KEY (sequence, start)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        at     TEXT NOT NULL,
        client TEXT,
        kind   TEXT NOT NULL
    ) STRICT;",
];

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| failed(path, &error))?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(|error| failed(path, &error))?;
    Ok(connection)
}

/// Opens a database to write to it, of this version when this returns.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let is_new = !path.exists();
    let mut connection = connect(path, OpenFlags::default())?;
    let wrap = |error: rusqlite::Error| failed(path, &error);
    if is_new {
        // It becomes durable with the workspace; see `Record::save`.
        connection.pragma_update(None, "synchronous", "OFF").map_err(wrap)?;
    }
    migrate(&mut connection, path)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(wrap)?;
    // More than there are, so that none is prepared twice.
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens a database to read it, whoever writes to it meanwhile; `None` if there is none yet.
///
/// Only who has the workspace's lock may migrate one. An older one is copied into memory and
/// migrated there.
pub(super) fn open_for_reading(path: &Path) -> Result<Option<Connection>> {
    if !path.exists() {
        return Ok(None);
    }
    let wrap = |error: rusqlite::Error| failed(path, &error);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match version(&connection).map_err(wrap)? {
        VERSION => Ok(Some(connection)),
        0 => Ok(None),
        found if found > VERSION => Err(newer(path, found)),
        _ => copy_of_first(path).map(Some).map_err(wrap),
    }
}

fn copy_of_first(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch(STEPS[0])?;
    connection.execute("ATTACH ?1 AS old", [path.to_string_lossy()])?;
    connection.execute_batch(
        "INSERT INTO commands SELECT * FROM old.commands;
         INSERT INTO output SELECT * FROM old.output;
         DETACH old;
         PRAGMA user_version = 1;",
    )?;
    let transaction = connection.transaction()?;
    STEPS.iter().skip(1).try_for_each(|step| take(&transaction, step))?;
    transaction.commit()?;
    Ok(connection)
}

fn newer(path: &Path, found: i64) -> Error {
    Error::new(
        ErrorCode::Unsupported,
        format!("{} was written by a newer pyro (version {found})", path.display()),
    )
    .with_hint("use that newer pyro for this workspace")
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let wrap = |error: rusqlite::Error| failed(path, &error);
    let mode: Option<String> = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .optional()
        .map_err(wrap)?;
    tracing::debug!(?mode, "journal mode");
    let found = version(connection).map_err(wrap)?;
    if found > VERSION {
        return Err(newer(path, found));
    }
    let transaction = connection.transaction().map_err(wrap)?;
    let mut missing = STEPS.iter().skip(usize::try_from(found).unwrap_or(0));
    missing.try_for_each(|step| take(&transaction, step)).map_err(wrap)?;
    transaction.commit().map_err(wrap)
}

fn take(transaction: &Transaction<'_>, step: &str) -> rusqlite::Result<()> {
    let version = version(transaction)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", version + 1)
}

pub(super) fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Sqlite;
    let (code, hint) = match error.sqlite_error_code() {
        Some(Sqlite::DiskFull) => (ErrorCode::NoSpace, "free some space where PYRO_HOME lies"),
        Some(Sqlite::DatabaseCorrupt | Sqlite::NotADatabase) => (
            ErrorCode::Damaged,
            "move the journal away; the workspace itself is untouched and starts a new one",
        ),
        Some(Sqlite::DatabaseBusy | Sqlite::DatabaseLocked) => {
            (ErrorCode::Busy, "another process holds the journal; try again")
        }
        _ => (ErrorCode::Io, "check the file's owner, mode and disk"),
    };
    Error::new(code, format!("cannot use the journal {}", path.display()))
        .with_cause(error.to_string())
        .with_hint(hint)
}
