//! The table `assets`: every coin of every source, known by (source, source_id).

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Bool, Text};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::{places, sql};
use super::url::Backend;
use crate::domain::Coin;

/// Keys in one `IN (…)`, rows in one `INSERT`.
const CHUNK: usize = 1_000;

/// A stored coin.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct Asset {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Text)]
    pub source_id: String,
    #[diesel(sql_type = Text)]
    pub symbol: String,
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = Bool)]
    pub active: bool,
}

/// The stored ones among `source_ids`, by their source id.
pub fn find<'a>(
    conn: &mut Connection,
    source: &str,
    source_ids: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, Asset>, DbError> {
    let ids: Vec<&str> = source_ids.into_iter().collect();
    let mut found = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let read = format!(
            "SELECT id, source_id, symbol, name, active FROM assets WHERE source = ? AND source_id IN {}",
            places(1, chunk.len())
        );
        let rows = sql(read).bind(source).bind_all(chunk.iter().copied()).load::<Asset>(conn, "looking up coins")?;
        found.extend(rows.into_iter().map(|asset| (asset.source_id.clone(), asset)));
    }
    Ok(found)
}

pub fn count_active(conn: &mut Connection, source: &str) -> Result<i64, DbError> {
    let read = "SELECT COUNT(*) AS n FROM assets WHERE source = ? AND active = TRUE";
    Ok(sql(read).bind(source).first::<Number>(conn, "counting active coins")?.map_or(0, |row| row.n))
}

/// Active coins in the order of their ids, `limit` of them behind `after`.
pub fn active_after(
    conn: &mut Connection,
    source: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        source_id: String,
    }
    let read = "SELECT id, source_id FROM assets WHERE source = ? AND active = TRUE AND id > ? ORDER BY id LIMIT ?";
    let rows = sql(read).bind(source).bind(after).bind(limit).load::<Row>(conn, "reading active coins")?;
    Ok(rows.into_iter().map(|row| (row.id, row.source_id)).collect())
}

/// Adds coins that are not stored yet and returns their ids, in the order of `coins`.
///
/// Ids are given out here, one after the other, not by the database: its own counters leave holes
/// when a batch is rolled back, and a run that was killed and repeated should end with the same
/// rows as one that was not.
pub fn insert(batch: &mut Batch<'_>, source: &str, coins: &[&Coin]) -> Result<Vec<i64>, DbError> {
    if coins.is_empty() {
        return Ok(Vec::new());
    }
    let conn = &mut *batch.conn;
    let backend = conn.backend();
    if backend == Backend::Postgres {
        // Readers go on; a second source adding coins at this moment waits for our commit.
        sql("LOCK TABLE assets IN SHARE ROW EXCLUSIVE MODE").execute(conn, "locking the coins")?;
    }
    let highest = match backend {
        Backend::Mysql => "SELECT id AS n FROM assets ORDER BY id DESC LIMIT 1 FOR UPDATE",
        Backend::Sqlite | Backend::Postgres => "SELECT COALESCE(MAX(id), 0) AS n FROM assets",
    };
    let highest = sql(highest).first::<Number>(conn, "reading the highest coin id")?.map_or(0, |row| row.n);
    let ids: Vec<i64> = (1..=coins.len() as i64).map(|n| highest + n).collect();
    let now = backend.now();
    for (coins, ids) in coins.chunks(CHUNK).zip(ids.chunks(CHUNK)) {
        let rows = vec![format!("(?,?,?,?,?,TRUE,{now},{now})"); coins.len()].join(",");
        let mut insert = sql(format!(
            "INSERT INTO assets (id, source, source_id, symbol, name, active, first_seen_at, updated_at) VALUES {rows}"
        ));
        for (coin, id) in coins.iter().zip(ids) {
            insert = insert
                .bind(*id)
                .bind(source)
                .bind(coin.source_id.as_str())
                .bind(coin.symbol.as_deref().unwrap_or(""))
                .bind(coin.name.as_deref().unwrap_or(""));
        }
        insert.execute(conn, "adding coins")?;
    }
    Ok(ids)
}

/// Brings a stored coin up to date and makes it active. A label the source did not tell stays.
pub fn update(batch: &mut Batch<'_>, id: i64, coin: &Coin) -> Result<(), DbError> {
    let update = format!(
        "UPDATE assets SET symbol = COALESCE(?, symbol), name = COALESCE(?, name), active = TRUE, updated_at = {} \
         WHERE id = ?",
        batch.conn.backend().now()
    );
    sql(update)
        .bind(coin.symbol.clone())
        .bind(coin.name.clone())
        .bind(id)
        .execute(batch.conn, "updating a coin")
        .map(|_| ())
}

/// Makes coins inactive; their history stays.
pub fn deactivate(batch: &mut Batch<'_>, ids: &[i64]) -> Result<(), DbError> {
    let now = batch.conn.backend().now();
    for chunk in ids.chunks(CHUNK) {
        sql(format!("UPDATE assets SET active = FALSE, updated_at = {now} WHERE id IN {}", places(1, chunk.len())))
            .bind_all(chunk.iter().copied())
            .execute(batch.conn, "deactivating coins")?;
    }
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}
