//! SQLite: many candles are added to few without the indexes, which are made at the end.
//!
//! A file holds coin after coin, each over all its days: its rows lie in the order of the key, and all over an
//! index by time. With a cache of 16 MiB, each batch of them reads and writes most of that index; made at the end,
//! it is sorted once. The two servers have larger caches and keep theirs.
//!
//! An empty table is filled without them from the beginning. One that holds rows loses them once enough are new:
//! what it took to store those is then no less than what making the indexes again takes for the rows that were
//! there, so that a file of known rows and a short one cost nothing, and a long one at most twice the best.
//!
//! Whoever is killed in between leaves a table that is right and slow to look through by time; the next import and
//! the next `db-setup` make the indexes.

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;

use super::conn::Connection;
use super::error::{DbError, Doing};
use super::session::{Batch, Session};
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
    n: i64,
}

/// New rows for each that was there, and at least, before the indexes go: an entry of an index that is made at
/// the end takes a twentieth of one that is added to it.
const STORED_A_NEW: i64 = 16;
const NEW: i64 = 50_000;
/// Others who want to write wait while an index is made: no longer than they have patience for.
const MOST: i64 = 15_000_000;

/// What decides whether the indexes are there.
#[derive(Default)]
pub struct Indexes {
    /// Rows before this run; `None` where the indexes are not there, or stay in any case.
    stored: Option<i64>,
    new: i64,
}

impl Indexes {
    /// Takes the indexes away where nothing is stored yet.
    pub fn set_aside(session: &mut Session) -> Result<Indexes, DbError> {
        let mut indexes = Indexes::default();
        if session.conn().backend() != Backend::Sqlite {
            return Ok(indexes);
        }
        // Sorting goes to a file: it must not take memory.
        session.conn().batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
        let is_empty = session.batch(|batch| {
            let is_empty = sql("SELECT 1 AS n FROM candles LIMIT 1").first::<Number>(batch.conn, DOING)?.is_none();
            if is_empty { drop_all(batch).map(|()| true) } else { Ok(false) }
        })?;
        if !is_empty {
            let count = sql("SELECT COUNT(*) AS n FROM candles").first::<Number>(session.conn(), DOING)?;
            indexes.stored = count.map(|count| count.n);
        }
        Ok(indexes)
    }

    /// Takes note of what a batch added; takes the indexes away when it is worth it.
    pub fn added(&mut self, session: &mut Session, new: usize) -> Result<(), DbError> {
        self.new += new as i64;
        let Some(stored) = self.stored else { return Ok(()) };
        if self.new < NEW || self.new < stored / STORED_A_NEW {
            return Ok(());
        }
        self.stored = None;
        if stored > MOST {
            return Ok(());
        }
        log::debug!("{} rows are new: the indexes are made again at the end", self.new);
        session.batch(drop_all)
    }

    /// Makes those that are missing, one in a transaction: others want to write, too.
    pub fn restore(session: &mut Session) -> Result<(), DbError> {
        if session.conn().backend() != Backend::Sqlite {
            return Ok(());
        }
        // The sort takes as much memory as the cache may, beside the cache, and twice that where a thread sorts
        // while the next part is read.
        session
            .conn()
            .batch_execute("PRAGMA cache_size = -4096; PRAGMA threads = 1; PRAGMA shrink_memory")
            .doing(DOING)?;
        for (_, create) in INDEXES {
            session.batch(|batch| sql(create).execute(batch.conn, DOING).map(|_| ()))?;
        }
        session.conn().batch_execute("PRAGMA cache_size = -16384").doing(DOING)
    }
}

fn drop_all(batch: &mut Batch<'_>) -> Result<(), DbError> {
    for (name, _) in INDEXES {
        sql(format!("DROP INDEX IF EXISTS {name}")).execute(batch.conn, DOING)?;
    }
    Ok(())
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
