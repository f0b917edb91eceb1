//! The table `assets`: every coin of every source, known by (source, source_id).

use std::collections::HashMap;

#[cfg(feature = "postgres")]
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Bool, Text};

use super::clock;
use super::conn::Connection;
use super::error::DbError;
#[cfg(feature = "postgres")]
use super::error::Doing;
use super::session::Batch;
use super::sql::{places, sql};
use super::sqlite_raw;
use super::url::Backend;
use crate::domain::Coin;
use crate::domain::asset::MAX_KEY_BYTES;

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

/// The names that coins are stored under, vendors' and others'.
pub fn sources(conn: &mut Connection) -> Result<Vec<String>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
    }
    let read = sql("SELECT DISTINCT source FROM assets ORDER BY source");
    Ok(read.load::<Row>(conn, "reading the stored sources")?.into_iter().map(|row| row.source).collect())
}

/// Whose coins are meant where nobody says: the first of `preferred` (at least one) that has any; else those of
/// the only source there is.
pub fn meant_source(conn: &mut Connection, preferred: &[String]) -> Result<String, DbError> {
    let read = "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM assets WHERE source = ? LIMIT 1) a";
    for name in preferred {
        let found = sql(read).bind(name.as_str()).first::<Number>(conn, "looking for a source's coins")?;
        if found.is_some_and(|found| found.n > 0) {
            return Ok(name.clone());
        }
    }
    let mut stored = sources(conn)?;
    Ok(match stored.len() {
        1 => stored.swap_remove(0),
        _ => preferred.first().cloned().unwrap_or_default(),
    })
}

/// The stored ones among `source_ids`, by their source id.
pub fn find<'a>(
    conn: &mut Connection,
    source: &str,
    source_ids: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, Asset>, DbError> {
    // A key that cannot be stored is not there, and PostgreSQL refuses even to look for it.
    let ids: Vec<&str> = source_ids.into_iter().filter(|id| !id.contains('\0') && id.len() <= MAX_KEY_BYTES).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let rows = find_chunk(conn, source, chunk)?;
        found.extend(rows.into_iter().map(|asset| (asset.source_id.clone(), asset)));
    }
    Ok(found)
}

/// Our ids of the stored ones among `source_ids`: what a page of prices needs, without the labels.
pub fn ids<'a>(
    batch: &mut Batch<'_>,
    source: &str,
    source_ids: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, i64>, DbError> {
    let Some(raw) = batch.raw else {
        let found = find(batch.conn, source, source_ids)?;
        return Ok(found.into_iter().map(|(source_id, asset)| (source_id, asset.id)).collect());
    };
    let failed = |err: rusqlite::Error| sqlite_raw::failed("looking up coins", &err);
    let read = "SELECT id FROM assets WHERE source = ? AND source_id = ?";
    let mut read = raw.connection().prepare_cached(read).map_err(failed)?;
    let mut ids = HashMap::new();
    for source_id in source_ids {
        let mut rows = read.query((source, source_id)).map_err(failed)?;
        if let Some(row) = rows.next().map_err(failed)? {
            ids.insert(source_id.to_owned(), row.get(0).map_err(failed)?);
        }
    }
    Ok(ids)
}

fn find_chunk(conn: &mut Connection, source: &str, ids: &[&str]) -> Result<Vec<Asset>, DbError> {
    const DOING: &str = "looking up coins";
    let read = "SELECT id, source_id, symbol, name, active FROM assets WHERE source = ? AND source_id";
    #[cfg(feature = "postgres")]
    if let Connection::Postgres(conn) = conn {
        // A thousand parameters take PostgreSQL longer to plan than to look up; and where it knows nothing of the
        // table yet, it takes a source for a handful of coins, and walks over all of them to find a few.
        let each = "SELECT a.id, a.source_id, a.symbol, a.name, a.active FROM UNNEST($2) AS wanted (source_id) \
                    CROSS JOIN LATERAL (SELECT * FROM assets WHERE source = $1 AND source_id = wanted.source_id LIMIT 1) a";
        return diesel::sql_query(each)
            .bind::<Text, _>(source)
            .bind::<diesel::sql_types::Array<Text>, _>(ids)
            .load(conn)
            .doing(DOING);
    }
    let read = format!("{read} IN {}", places(1, ids.len()));
    sql(read).bind(source).bind_all(ids.iter().copied()).load(conn, DOING)
}

pub fn count_active(conn: &mut Connection, source: &str) -> Result<i64, DbError> {
    let read = "SELECT COUNT(*) AS n FROM assets WHERE source = ? AND active = TRUE";
    Ok(sql(read).bind(source).first::<Number>(conn, "counting active coins")?.map_or(0, |row| row.n))
}

/// A part of a source's active coins.
#[derive(Debug, Default)]
pub struct ActivePart {
    /// Our id and the source's, in the order of ours.
    pub coins: Vec<(i64, String)>,
    /// Where the next part begins; `None` when there is none.
    pub next: Option<i64>,
}

/// The active coins among the `limit` stored coins of all sources behind the id `after`.
///
/// The choice among them is made outside the query: with `source = ?` in it, a planner may walk
/// and sort all coins of the source for each part.
pub fn active_after(conn: &mut Connection, source: &str, after: i64, limit: i64) -> Result<ActivePart, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        source_id: String,
        #[diesel(sql_type = Bool)]
        wanted: bool,
    }
    let read = "SELECT id, source_id, (source = ? AND active = TRUE) AS wanted FROM assets WHERE id > ? \
                ORDER BY id LIMIT ?";
    let rows = sql(read).bind(source).bind(after).bind(limit).load::<Row>(conn, "reading active coins")?;
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() as i64 == limit);
    let coins = rows.into_iter().filter(|row| row.wanted).map(|row| (row.id, row.source_id)).collect();
    Ok(ActivePart { coins, next })
}

/// A part of a source's coins, active or not.
#[derive(Debug, Default)]
pub struct StoredPart {
    pub coins: Vec<Asset>,
    /// Where the next part begins; `None` when there is none.
    pub next: Option<i64>,
}

/// The source's coins among the `limit` stored coins of all sources behind the id `after`.
pub fn stored_after(conn: &mut Connection, source: &str, after: i64, limit: i64) -> Result<StoredPart, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        source_id: String,
        #[diesel(sql_type = Text)]
        symbol: String,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Bool)]
        active: bool,
    }
    let read = "SELECT id, source, source_id, symbol, name, active FROM assets WHERE id > ? ORDER BY id LIMIT ?";
    let rows = sql(read).bind(after).bind(limit).load::<Row>(conn, "reading coins")?;
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() as i64 == limit);
    let of_source = rows.into_iter().filter(|row| row.source == source);
    let coins =
        of_source.map(|Row { id, source_id, symbol, name, active, .. }| Asset { id, source_id, symbol, name, active });
    Ok(StoredPart { coins: coins.collect(), next })
}

/// Whether there is a coin, a price or a candle.
pub fn is_any_data(conn: &mut Connection) -> Result<bool, DbError> {
    for table in ["assets", "prices", "candles"] {
        // Not COUNT(*): there may be a hundred million.
        let number = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
        let read = format!("SELECT CAST(1 AS {number}) AS n FROM {table} LIMIT 1");
        if sql(read).first::<Number>(conn, "looking for data")?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
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
    let now = clock::now(conn)?.to_string();
    for (coins, ids) in coins.chunks(CHUNK).zip(ids.chunks(CHUNK)) {
        insert_chunk(batch, source, coins, ids, &now)?;
    }
    Ok(ids)
}

fn insert_chunk(batch: &mut Batch<'_>, source: &str, coins: &[&Coin], ids: &[i64], now: &str) -> Result<(), DbError> {
    const DOING: &str = "adding coins";
    const INSERT: &str = "INSERT INTO assets (id, source, source_id, symbol, name, active, first_seen_at, updated_at)";
    let symbol = |coin: &Coin| coin.symbol.clone().unwrap_or_default();
    let name = |coin: &Coin| coin.name.clone().unwrap_or_default();
    if let Some(raw) = batch.raw {
        let failed = |err: rusqlite::Error| sqlite_raw::failed(DOING, &err);
        let text = format!("{INSERT} VALUES (?, ?, ?, ?, ?, TRUE, ?6, ?6)");
        let mut insert = raw.connection().prepare_cached(&text).map_err(failed)?;
        for (coin, id) in coins.iter().zip(ids) {
            insert.execute((id, source, &coin.source_id, symbol(coin), name(coin), now)).map_err(failed)?;
        }
        return Ok(());
    }
    #[cfg(feature = "postgres")]
    if let Connection::Postgres(conn) = &mut *batch.conn {
        use diesel::sql_types::Array;
        let source_ids: Vec<&str> = coins.iter().map(|coin| coin.source_id.as_str()).collect();
        let symbols: Vec<String> = coins.iter().map(|coin| symbol(coin)).collect();
        let names: Vec<String> = coins.iter().map(|coin| name(coin)).collect();
        let text = format!(
            "{INSERT} SELECT i, $1, k, s, n, TRUE, CAST($2 AS timestamp(3)), CAST($2 AS timestamp(3)) \
             FROM UNNEST($3, $4, $5, $6) AS t (i, k, s, n)"
        );
        diesel::sql_query(text)
            .bind::<Text, _>(source)
            .bind::<Text, _>(now)
            .bind::<Array<BigInt>, _>(ids)
            .bind::<Array<Text>, _>(source_ids)
            .bind::<Array<Text>, _>(symbols)
            .bind::<Array<Text>, _>(names)
            .execute(conn)
            .doing(DOING)?;
        return Ok(());
    }
    let mut insert = sql(format!("{INSERT} VALUES {}", vec!["(?,?,?,?,?,TRUE,?,?)"; coins.len()].join(",")));
    for (coin, id) in coins.iter().zip(ids) {
        insert = insert.bind(*id).bind(source).bind(coin.source_id.as_str()).bind(symbol(coin)).bind(name(coin));
        insert = insert.bind(now).bind(now);
    }
    insert.execute(batch.conn, DOING).map(|_| ())
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
