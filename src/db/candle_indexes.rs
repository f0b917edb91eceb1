//! SQLite: an empty table `candles` is filled without its indexes, which are made at the end.
//!
//! A file holds coin after coin, each over all its days: its rows lie in the order of the key, and all over an
//! index by time. With a cache of 16 MiB, each batch of them reads and writes most of that index; made at the end,
//! it is sorted once. The two servers have larger caches and keep theirs.
//!
//! Whoever is killed in between leaves a table that is right and slow to look through by time; the next import and
//! the next `db-setup` make the indexes.

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;

use super::conn::Connection;
use super::error::{DbError, Doing};
use super::session::Session;
use super::sql::sql;
use super::url::Backend;

/// As the migrations have them: a test compares.
const INDEXES: [(&str, &str); 2] = [
    ("candles_by_time", "CREATE INDEX IF NOT EXISTS candles_by_time ON candles (open_time)"),
    ("candles_by_run", "CREATE INDEX IF NOT EXISTS candles_by_run ON candles (run_id)"),
];
const DOING: &str = "making the indexes of the candles";

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    #[allow(dead_code)]
    n: i64,
}

/// Takes the indexes away where nothing is stored yet.
pub fn set_aside(session: &mut Session) -> Result<(), DbError> {
    if session.conn().backend() != Backend::Sqlite {
        return Ok(());
    }
    // Sorting goes to a file: it must not take memory.
    session.conn().batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
    session.batch(|batch| {
        if sql("SELECT 1 AS n FROM candles LIMIT 1").first::<Number>(batch.conn, DOING)?.is_some() {
            return Ok(());
        }
        for (name, _) in INDEXES {
            sql(format!("DROP INDEX IF EXISTS {name}")).execute(batch.conn, DOING)?;
        }
        Ok(())
    })
}

/// Makes those that are missing, one in a transaction: others want to write, too.
pub fn restore(session: &mut Session) -> Result<(), DbError> {
    if session.conn().backend() != Backend::Sqlite {
        return Ok(());
    }
    // The sort takes as much memory as the cache may, beside the cache.
    session.conn().batch_execute("PRAGMA cache_size = -4096; PRAGMA shrink_memory").doing(DOING)?;
    for (_, create) in INDEXES {
        session.batch(|batch| sql(create).execute(batch.conn, DOING).map(|_| ()))?;
    }
    session.conn().batch_execute("PRAGMA cache_size = -16384").doing(DOING)
}

/// The same where no run goes on.
pub fn heal(conn: &mut Connection) -> Result<(), DbError> {
    if conn.backend() != Backend::Sqlite {
        return Ok(());
    }
    conn.batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
    for (_, create) in INDEXES {
        sql(create).execute(conn, DOING)?;
    }
    Ok(())
}
