//! The same on PostgreSQL, MySQL and MariaDB.

use std::collections::BTreeSet;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;

use super::{DOING, INDEXES, Number, create};
use crate::db::conn::{Connection, LOCK_TIMEOUT};
use crate::db::error::{DbError, Doing};
use crate::db::session::Batch;
use crate::db::sql::sql;
use crate::db::transaction::transaction;
use crate::db::url::Backend;

/// Seconds that the table is waited for: to take something away, and to make up for it.
const BRIEFLY: u32 = 2;
const PATIENTLY: u32 = 30;
/// The foreign key to `assets`, as the migrations have it.
const KEY: &str = "candles_asset";

/// How far PostgreSQL minds the foreign key. MySQL, where it costs nothing to speak of, always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    None,
    /// Of rows that come; those that are there were not looked at.
    New,
    All,
}

fn guard(conn: &mut Connection) -> Result<Guard, DbError> {
    if conn.backend() != Backend::Postgres {
        return Ok(Guard::All);
    }
    let read = format!(
        "SELECT CAST(CASE WHEN convalidated THEN 1 ELSE 0 END AS bigint) AS n FROM pg_constraint \
         WHERE conrelid = to_regclass('candles') AND conname = '{KEY}'"
    );
    Ok(match sql(read).first::<Number>(conn, DOING)?.map(|found| found.n) {
        None => Guard::None,
        Some(0) => Guard::New,
        Some(_) => Guard::All,
    })
}

/// Whether candles lie in one table: parts of one can't be given a foreign key that is looked at later.
fn is_plain(conn: &mut Connection) -> Result<bool, DbError> {
    let read = "SELECT CAST(1 AS bigint) AS n FROM pg_class WHERE oid = to_regclass('candles') AND relkind = 'r'";
    Ok(sql(read).first::<Number>(conn, DOING)?.is_some())
}

pub fn set_aside(conn: &mut Connection) -> Result<(), DbError> {
    let missing = missing_indexes(conn)?;
    let there: Vec<&str> = INDEXES.iter().map(|(name, _)| *name).filter(|name| !missing.contains(name)).collect();
    let statements = match conn.backend() {
        Backend::Mysql if there.is_empty() => return Ok(()),
        Backend::Mysql => format!("ALTER TABLE candles {}", list(&there, |name| format!("DROP INDEX {name}"))),
        _ => {
            let indexes = list(&INDEXES, |(name, _)| (*name).to_owned());
            let drop = format!("DROP INDEX IF EXISTS {indexes}");
            match is_plain(conn)? {
                // Both at once or neither, in the order in which others take them: first the coin, then its candles.
                true => format!(
                    "LOCK TABLE assets, candles IN ACCESS EXCLUSIVE MODE; \
                     ALTER TABLE candles DROP CONSTRAINT IF EXISTS {KEY}; {drop}"
                ),
                false => drop,
            }
        }
    };
    change_table(conn, BRIEFLY, &statements)
}

/// MySQL goes on writing meanwhile; PostgreSQL's writers of candles wait while an index is made, a few seconds
/// for millions of rows.
pub fn make_up(conn: &mut Connection) -> Result<(), DbError> {
    let missing = missing_indexes(conn)?;
    let columns: Vec<(&str, &str)> = INDEXES.into_iter().filter(|(name, _)| missing.contains(name)).collect();
    let made = match conn.backend() {
        _ if missing.is_empty() => Ok(()),
        Backend::Mysql => {
            let adds = list(&columns, |(name, column)| format!("ADD INDEX {name} ({column})"));
            change_table(conn, PATIENTLY, &format!("ALTER TABLE candles {adds}"))
        }
        _ => columns.iter().try_for_each(|(name, column)| change_table(conn, PATIENTLY, &create(name, column))),
    };
    match made {
        // Somebody else made them at the same moment.
        Err(_) if missing_indexes(conn)?.is_empty() => {}
        made => made?,
    }
    if guard(conn)? == Guard::None {
        let add =
            format!("ALTER TABLE candles ADD CONSTRAINT {KEY} FOREIGN KEY (asset_id) REFERENCES assets (id) NOT VALID");
        // In that order as well.
        let add = format!("LOCK TABLE assets, candles IN SHARE ROW EXCLUSIVE MODE; {add}");
        match change_table(conn, PATIENTLY, &add) {
            Err(_) if guard(conn)? != Guard::None => {}
            added => added?,
        }
    }
    match guard(conn)? {
        // Nobody waits for this.
        Guard::New => {
            change_table(conn, PATIENTLY, &format!("ALTER TABLE candles VALIDATE CONSTRAINT {KEY}")).map_err(|err| {
                match err {
                    DbError::Query { doing, why } => {
                        let why =
                            format!("{why}; delete the candles whose asset_id is not in assets, and run db-setup");
                        DbError::Query { doing, why }
                    }
                    err => err,
                }
            })
        }
        _ => Ok(()),
    }
}

/// Keeps these coins from being deleted while the batch is not committed.
pub fn hold(batch: &mut Batch<'_>, coins: &BTreeSet<i64>) -> Result<(), DbError> {
    let ids: Vec<String> = coins.iter().map(i64::to_string).collect();
    let read = format!("SELECT id AS n FROM assets WHERE id = ANY ('{{{}}}'::bigint[]) FOR KEY SHARE", ids.join(","));
    let there: BTreeSet<i64> =
        sql(read).load::<Number>(batch.conn, DOING)?.into_iter().map(|number| number.n).collect();
    match coins.difference(&there).next() {
        None => Ok(()),
        Some(id) => {
            let why = format!("somebody deleted the coin {id} from assets meanwhile; run again");
            Err(DbError::Query { doing: DOING, why })
        }
    }
}

/// Runs a statement that needs the table for itself. Everybody else waits behind who waits for that.
fn change_table(conn: &mut Connection, seconds: u32, statement: &str) -> Result<(), DbError> {
    let (wait, as_before) = match conn.backend() {
        Backend::Mysql => (format!("SET lock_wait_timeout = {seconds}"), "SET lock_wait_timeout = DEFAULT"),
        _ => (format!("SET lock_timeout = '{seconds}s'"), LOCK_TIMEOUT),
    };
    conn.batch_execute(&wait).doing(DOING)?;
    let changed = match conn.backend() {
        Backend::Mysql => conn.batch_execute(statement).doing(DOING),
        _ => transaction(conn, |conn| conn.batch_execute(statement).doing(DOING)),
    };
    conn.batch_execute(as_before).doing(DOING)?;
    changed
}

fn list<T>(of: &[T], with: impl Fn(&T) -> String) -> String {
    of.iter().map(with).collect::<Vec<_>>().join(", ")
}

fn missing_indexes(conn: &mut Connection) -> Result<Vec<&'static str>, DbError> {
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
