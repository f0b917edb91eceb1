//! Coins that the source lists but has no price for: asking for them by id again in every run
//! would cost calls for nothing, so they are asked for once a day.

use diesel::sql_types::{BigInt, Bool};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::{places, sql};
use super::url::Backend;

/// An hour less than a day: a daily run should ask daily, also when it begins a little earlier.
pub const ASK_AGAIN_AFTER_HOURS: i64 = 23;
const ASK_AGAIN_AFTER_US: i64 = ASK_AGAIN_AFTER_HOURS * 3_600_000_000;
/// Rows a statement: 3 values each stay far below every backend's limit.
const CHUNK: usize = 1_000;

/// A coin that had no price when it was last asked for by id.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct Absence {
    #[diesel(sql_type = BigInt)]
    pub asset_id: i64,
    /// Less than a day ago.
    #[diesel(sql_type = Bool)]
    pub recent: bool,
}

/// The absent coins of a source in one currency.
pub fn all(conn: &mut Connection, source: &str, vs_currency: &str) -> Result<Vec<Absence>, DbError> {
    let read = format!(
        "SELECT b.asset_id AS asset_id, (b.asked_us > {now} - ? AND b.asked_us <= {now}) AS recent \
         FROM absences b JOIN assets a ON a.id = b.asset_id WHERE a.source = ? AND b.vs_currency = ?",
        now = conn.backend().now_us()
    );
    sql(read).bind(ASK_AGAIN_AFTER_US).bind(source).bind(vs_currency).load(conn, "reading absent coins")
}

/// Which absent coins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absences {
    All,
    /// Not asked for lately, so that the next run asks.
    Due,
}

/// How many active coins of a source are known to be without a price in a currency.
pub fn count(conn: &mut Connection, source: &str, vs_currency: &str, which: Absences) -> Result<i64, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let now = conn.backend().now_us();
    let due = match which {
        Absences::All => String::new(),
        Absences::Due => format!(" AND NOT (b.asked_us > {now} - {ASK_AGAIN_AFTER_US} AND b.asked_us <= {now})"),
    };
    let read = format!(
        "SELECT COUNT(*) AS n FROM absences b JOIN assets a ON a.id = b.asset_id \
         WHERE a.source = ? AND a.active = TRUE AND b.vs_currency = ?{due}"
    );
    let row = sql(read).bind(source).bind(vs_currency).first::<Count>(conn, "counting absent coins")?;
    Ok(row.map_or(0, |row| row.n))
}

pub fn record(batch: &mut Batch<'_>, vs_currency: &str, asset_ids: &[i64]) -> Result<(), DbError> {
    let backend = batch.conn.backend();
    let now = backend.now_us();
    for chunk in asset_ids.chunks(CHUNK) {
        let rows = places(chunk.len(), 2).replace("?)", &format!("?,{now})"));
        let tail = match backend {
            Backend::Mysql => "ON DUPLICATE KEY UPDATE asked_us = VALUES(asked_us)",
            Backend::Sqlite | Backend::Postgres => {
                "ON CONFLICT (asset_id, vs_currency) DO UPDATE SET asked_us = excluded.asked_us"
            }
        };
        let mut insert = sql(format!("INSERT INTO absences (asset_id, vs_currency, asked_us) VALUES {rows} {tail}"));
        for id in chunk {
            insert = insert.bind(*id).bind(vs_currency);
        }
        insert.execute(batch.conn, "recording absent coins")?;
    }
    Ok(())
}

/// Coins that were absent and now have a price.
pub fn clear(batch: &mut Batch<'_>, vs_currency: &str, asset_ids: &[i64]) -> Result<(), DbError> {
    for chunk in asset_ids.chunks(CHUNK) {
        sql(format!("DELETE FROM absences WHERE vs_currency = ? AND asset_id IN {}", places(1, chunk.len())))
            .bind(vs_currency)
            .bind_all(chunk.iter().copied())
            .execute(batch.conn, "forgetting absent coins")?;
    }
    Ok(())
}
