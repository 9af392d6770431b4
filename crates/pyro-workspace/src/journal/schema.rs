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
    "ALTER TABLE commands ADD COLUMN client TEXT;
    ALTER TABLE commands ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE events (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        at     TEXT NOT NULL,
        client TEXT,
        kind   TEXT NOT NULL
    ) STRICT;",
];

pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| failed(path, &error))?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(|error| failed(path, &error))?;
    Ok(connection)
}

/// Opens a database to write to it, of this version when this returns.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let mut connection = connect(path, OpenFlags::default())?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// The version of a database that somebody else may be writing to.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let wrap = |error: rusqlite::Error| failed(path, &error);
    let mode: Option<String> = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .optional()
        .map_err(wrap)?;
    tracing::debug!(?mode, "journal mode");
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(wrap)?;
    let found = version(connection).map_err(wrap)?;
    if found > VERSION {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("{} was written by a newer pyro (version {found})", path.display()),
        )
        .with_hint("use that newer pyro for this workspace"));
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
