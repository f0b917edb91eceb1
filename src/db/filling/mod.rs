//! Many candles are added to few without what the table's order costs with every row, which is made up for at the end.
//!
//! **Indexes.** A file holds coin after coin, each over all its days: its rows lie in the order of the key, and all over an
//! index by time. Each batch of them reads and writes most of that index, through SQLite's cache of 16 MiB or a
//! server's log of whole pages; made at the end, it is sorted once.
//!
//! **The foreign key.** PostgreSQL looks a row's coin up by a query of its own, which takes longer than all the rest.
//! While the key is set aside each batch holds its coins itself ([`hold`]), once a coin.
//!
//! **The disk's flush** after each batch: where the file was read to is committed with its rows, so that whatever
//! a power cut takes is read again. The end of the run is flushed, and with it all before.
//!
//! An empty table is filled without its indexes from the beginning. In SQLite one that holds rows loses them once enough
//! are new: what it took to store those is then no less than what making the indexes again takes for the rows that
//! were there, so that a file of known rows and a short one cost nothing, and a long one at most twice the best. On
//! the servers, where others may look through a table meanwhile, one that holds rows keeps them.
//!
//! Whoever is killed in between leaves a table that is right and slow to look through by time; the next import and
//! the next `db-setup` make up for it.

mod server;

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;

use super::conn::Connection;
use super::durability;
use super::error::{DbError, Doing};
use super::lease;
use super::session::{Batch, Session};
use super::sql::sql;
use super::url::Backend;

/// Names and columns, as the migrations have them: a test compares.
const INDEXES: [(&str, &str); 2] = [("candles_by_time", "open_time"), ("candles_by_run", "run_id")];
const DOING: &str = "filling the table of candles";

/// For messages, when it can't be made up for.
pub const LACKING: &str = "the table of candles lacks an index or its foreign key until the next db-setup";

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

/// A table that is being filled: what decides whether its indexes are there.
#[derive(Default)]
pub struct Filling {
    /// Rows before this run; `None` where the indexes are not there, or stay in any case.
    stored: Option<i64>,
    new: i64,
}

impl Filling {
    /// Takes away what may be, where nothing is stored yet.
    pub fn begin(session: &mut Session) -> Result<Filling, DbError> {
        let mut filling = Filling::default();
        durability::relax(session.conn())?;
        if session.conn().backend() != Backend::Sqlite {
            if is_empty(session.conn())?
                && let Err(why) = server::set_aside(session.conn())
            {
                // Not ours to change, or somebody reads at the moment: it only takes longer.
                log::debug!("the indexes of the candles stay while they are stored: {why}");
            }
            return Ok(filling);
        }
        // Sorting goes to a file: it must not take memory.
        session.conn().batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
        let was_empty = session.batch(|batch| match is_empty(batch.conn)? {
            true => drop_all(batch).map(|()| true),
            false => Ok(false),
        })?;
        if !was_empty {
            let count = sql("SELECT COUNT(*) AS n FROM candles").first::<Number>(session.conn(), DOING)?;
            filling.stored = count.map(|count| count.n);
        }
        Ok(filling)
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

    /// Makes up for what is missing, and lets what is committed from now on be safe, with all before. False where that
    /// is left to another import, which fills the table still: it would wait for indexes, and go on with them.
    pub fn end(session: &mut Session) -> Result<bool, DbError> {
        let made_up = make_up(session);
        durability::restore(session.conn())?;
        made_up
    }
}

fn make_up(session: &mut Session) -> Result<bool, DbError> {
    let lease = session.lease().clone();
    if lease::is_another_at_work(session.conn(), &lease)? {
        return Ok(false);
    }
    match session.conn().backend() {
        Backend::Sqlite => make_indexes(session)?,
        Backend::Mysql | Backend::Postgres => server::make_up(session.conn())?,
    }
    Ok(true)
}

/// Those of a SQLite file that are missing.
fn make_indexes(session: &mut Session) -> Result<(), DbError> {
    // The sort takes as much memory as the cache may, beside the cache, and twice that where a thread sorts
    // while the next part is read.
    session.conn().batch_execute("PRAGMA cache_size = -4096; PRAGMA threads = 1; PRAGMA shrink_memory").doing(DOING)?;
    for (name, column) in INDEXES {
        // One in a transaction: others want to write, too.
        session.batch(|batch| sql(create(name, column)).execute(batch.conn, DOING).map(|_| ()))?;
    }
    session.conn().batch_execute("PRAGMA cache_size = -16384").doing(DOING)
}

/// Keeps these coins until the batch is committed, as the foreign key would: it may not be there, set aside by
/// this import or by another one.
pub fn hold(batch: &mut Batch<'_>, coins: &BTreeSet<i64>) -> Result<(), DbError> {
    match batch.conn.backend() {
        Backend::Postgres => server::hold(batch, coins),
        Backend::Mysql | Backend::Sqlite => Ok(()),
    }
}

fn is_empty(conn: &mut Connection) -> Result<bool, DbError> {
    Ok(sql("SELECT asset_id AS n FROM candles LIMIT 1").first::<Number>(conn, DOING)?.is_none())
}

fn drop_all(batch: &mut Batch<'_>) -> Result<(), DbError> {
    for (name, _) in INDEXES {
        sql(format!("DROP INDEX IF EXISTS {name}")).execute(batch.conn, DOING)?;
    }
    Ok(())
}

fn create(name: &str, column: &str) -> String {
    format!("CREATE INDEX IF NOT EXISTS {name} ON candles ({column})")
}

/// The same where no import goes on, which makes them itself at its end.
pub fn heal(conn: &mut Connection, import: &str) -> Result<(), DbError> {
    if lease::is_at_work(conn, import)? {
        return Ok(());
    }
    if conn.backend() != Backend::Sqlite {
        return server::make_up(conn);
    }
    conn.batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
    for (name, column) in INDEXES {
        sql(create(name, column)).execute(conn, DOING)?;
    }
    Ok(())
}
