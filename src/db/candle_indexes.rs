//! Many candles are added to few without the indexes, which are made at the end.
//!
//! A file holds coin after coin, each over all its days: its rows lie in the order of the key, and all over an
//! index by time. Each batch of them reads and writes most of that index, through SQLite's cache of 16 MiB or a
//! server's log of whole pages; made at the end, it is sorted once.
//!
//! An empty table is filled without them from the beginning. In SQLite one that holds rows loses them once enough
//! are new: what it took to store those is then no less than what making the indexes again takes for the rows that
//! were there, so that a file of known rows and a short one cost nothing, and a long one at most twice the best. On
//! the servers, where others may look through a table meanwhile, one that holds rows keeps them.
//!
//! Whoever is killed in between leaves a table that is right and slow to look through by time; the next import and
//! the next `db-setup` make the indexes.

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};

use super::conn::{Connection, LOCK_TIMEOUT};
use super::error::{DbError, Doing};
use super::lease;
use super::session::{Batch, Session};
use super::sql::sql;
use super::url::Backend;

/// Names and columns, as the migrations have them: a test compares.
const INDEXES: [(&str, &str); 2] = [("candles_by_time", "open_time"), ("candles_by_run", "run_id")];
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
/// Seconds that a server's table is waited for: to drop its indexes, and to make them again.
const BRIEFLY: u32 = 2;
const PATIENTLY: u32 = 30;

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
            if is_empty(session.conn())?
                && let Err(why) = drop_on_server(session.conn())
            {
                // Not ours to drop, or somebody reads at the moment: it only takes longer.
                log::debug!("the indexes of the candles stay while they are stored: {why}");
            }
            return Ok(indexes);
        }
        // Sorting goes to a file: it must not take memory.
        session.conn().batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
        let was_empty = session.batch(|batch| match is_empty(batch.conn)? {
            true => drop_all(batch).map(|()| true),
            false => Ok(false),
        })?;
        if !was_empty {
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

    /// Makes those that are missing.
    pub fn restore(session: &mut Session) -> Result<(), DbError> {
        if session.conn().backend() != Backend::Sqlite {
            return make_on_server(session.conn());
        }
        // The sort takes as much memory as the cache may, beside the cache, and twice that where a thread sorts
        // while the next part is read.
        session
            .conn()
            .batch_execute("PRAGMA cache_size = -4096; PRAGMA threads = 1; PRAGMA shrink_memory")
            .doing(DOING)?;
        for (name, column) in INDEXES {
            // One in a transaction: others want to write, too.
            session.batch(|batch| sql(create(name, column)).execute(batch.conn, DOING).map(|_| ()))?;
        }
        session.conn().batch_execute("PRAGMA cache_size = -16384").doing(DOING)
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
        return make_on_server(conn);
    }
    conn.batch_execute("PRAGMA temp_store = FILE").doing(DOING)?;
    for (name, column) in INDEXES {
        sql(create(name, column)).execute(conn, DOING)?;
    }
    Ok(())
}

fn drop_on_server(conn: &mut Connection) -> Result<(), DbError> {
    let missing = missing_on_server(conn)?;
    let there: Vec<&str> = INDEXES.iter().map(|(name, _)| *name).filter(|name| !missing.contains(name)).collect();
    if there.is_empty() {
        return Ok(());
    }
    change_table(
        conn,
        BRIEFLY,
        &match conn.backend() {
            Backend::Mysql => format!("ALTER TABLE candles {}", list(&there, |name| format!("DROP INDEX {name}"))),
            _ => format!("DROP INDEX IF EXISTS {}", there.join(", ")),
        },
    )
}

/// MySQL goes on writing meanwhile; PostgreSQL's writers of candles wait, a few seconds for millions of rows.
fn make_on_server(conn: &mut Connection) -> Result<(), DbError> {
    let missing = missing_on_server(conn)?;
    let columns: Vec<(&str, &str)> = INDEXES.into_iter().filter(|(name, _)| missing.contains(name)).collect();
    let made = match conn.backend() {
        _ if missing.is_empty() => return Ok(()),
        Backend::Mysql => {
            let adds = list(&columns, |(name, column)| format!("ADD INDEX {name} ({column})"));
            change_table(conn, PATIENTLY, &format!("ALTER TABLE candles {adds}"))
        }
        _ => columns.iter().try_for_each(|(name, column)| change_table(conn, PATIENTLY, &create(name, column))),
    };
    match made {
        // Somebody else made them at the same moment.
        Err(_) if missing_on_server(conn)?.is_empty() => Ok(()),
        made => made,
    }
}

/// Runs a statement that needs the table for itself. Everybody else waits behind who waits for that.
fn change_table(conn: &mut Connection, seconds: u32, statement: &str) -> Result<(), DbError> {
    let (wait, as_before) = match conn.backend() {
        Backend::Mysql => (format!("SET lock_wait_timeout = {seconds}"), "SET lock_wait_timeout = DEFAULT"),
        _ => (format!("SET lock_timeout = '{seconds}s'"), LOCK_TIMEOUT),
    };
    conn.batch_execute(&wait).doing(DOING)?;
    let changed = conn.batch_execute(statement).doing(DOING);
    conn.batch_execute(as_before).doing(DOING)?;
    changed
}

fn list<T>(of: &[T], with: impl Fn(&T) -> String) -> String {
    of.iter().map(with).collect::<Vec<_>>().join(", ")
}

fn missing_on_server(conn: &mut Connection) -> Result<Vec<&'static str>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let read = match conn.backend() {
        Backend::Mysql => {
            "SELECT DISTINCT CAST(index_name AS CHAR) AS name FROM information_schema.statistics \
             WHERE table_schema = DATABASE() AND table_name = 'candles'"
        }
        _ => {
            "SELECT CAST(c.relname AS text) AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = to_regclass('candles')"
        }
    };
    let there = sql(read).load::<Name>(conn, DOING)?;
    Ok(INDEXES.iter().map(|(name, _)| *name).filter(|name| there.iter().all(|index| index.name != *name)).collect())
}
