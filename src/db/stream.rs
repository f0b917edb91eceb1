//! What a stream leaves behind: quotes and their windows, outages, and how far each partition was read.

use std::collections::HashMap;

#[cfg(feature = "postgres")]
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamp};
use rust_decimal::Decimal;

use super::conn::Connection;
use super::error::DbError;
#[cfg(feature = "postgres")]
use super::error::Doing;
use super::session::Batch;
use super::sql::sql;
use super::sqlite_raw;
use super::url::Backend;
use crate::domain::quote::Extremes;
use crate::domain::quote_window::{Edge, Fold};
use crate::domain::{Micros, Quote};
use crate::events::Outage;

/// Rows a statement.
const CHUNK: usize = 1_000;

/// Where a group goes on in each partition of a topic.
pub fn offsets(conn: &mut Connection, group: &str, topic: &str) -> Result<HashMap<i32, i64>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        partition_id: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let read = "SELECT partition_id, next_offset FROM stream_offsets WHERE consumer_group = ? AND topic = ?";
    let rows = sql(read).bind(group).bind(topic).load::<Row>(conn, "reading the stream's offsets")?;
    Ok(rows.into_iter().map(|row| (row.partition_id, row.next_offset)).collect())
}

/// Moves a partition's offset from where we left it: the fence of every batch. False when it stands
/// elsewhere, because another member of the group went on.
pub fn advance(
    conn: &mut Connection,
    group: &str,
    topic: &str,
    partition: i32,
    from: Option<i64>,
    next: i64,
) -> Result<bool, DbError> {
    let doing = "moving the stream's offset";
    let Some(from) = from else {
        let insert =
            "INSERT INTO stream_offsets (consumer_group, topic, partition_id, next_offset) VALUES (?, ?, ?, ?)";
        let inserted = sql(insert).bind(group).bind(topic).bind(i64::from(partition)).bind(next).execute(conn, doing);
        return match inserted {
            Ok(_) => Ok(true),
            Err(DbError::Duplicate(_)) => Ok(false),
            Err(err) => Err(err),
        };
    };
    let update = "UPDATE stream_offsets SET next_offset = ? \
                  WHERE consumer_group = ? AND topic = ? AND partition_id = ? AND next_offset = ?";
    let moved =
        sql(update).bind(next).bind(group).bind(topic).bind(i64::from(partition)).bind(from).execute(conn, doing)?;
    // A database that counts changed rows only would say 0 for a move to the same place; there is none.
    Ok(moved == 1)
}

/// The highest sequence stored of a pair.
pub fn last_sequence(conn: &mut Connection, source: &str, pair: &str) -> Result<Option<i64>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<BigInt>)]
        last: Option<i64>,
    }
    let read = "SELECT MAX(sequence) AS last FROM crypto_metrics WHERE source = ? AND pair = ?";
    let row = sql(read).bind(source).bind(pair).first::<Row>(conn, "reading the newest quote")?;
    Ok(row.and_then(|row| row.last))
}

/// Whether a quote is stored.
pub fn holds(conn: &mut Connection, quote: &Quote) -> Result<bool, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let read = "SELECT COUNT(*) AS n FROM crypto_metrics WHERE source = ? AND pair = ? AND sequence = ?";
    let row = sql(read)
        .bind(&*quote.source)
        .bind(&*quote.pair)
        .bind(quote.sequence)
        .first::<Row>(conn, "looking for a quote")?;
    Ok(row.is_some_and(|row| row.n > 0))
}

/// The extremes of a session so far.
pub fn extremes(conn: &mut Connection, source: &str, pair: &str, session: &str) -> Result<Option<Extremes>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Double)]
        highest_bid: f64,
        #[diesel(sql_type = Double)]
        lowest_ask: f64,
        #[diesel(sql_type = Double)]
        max_spread: f64,
    }
    let read =
        "SELECT highest_bid, lowest_ask, max_spread FROM quote_sessions WHERE source = ? AND pair = ? AND session = ?";
    let row = sql(read).bind(source).bind(pair).bind(session).first::<Row>(conn, "reading a session's extremes")?;
    Ok(row.map(|row| Extremes { highest_bid: row.highest_bid, lowest_ask: row.lowest_ask, max_spread: row.max_spread }))
}

pub fn save_extremes(
    batch: &mut Batch<'_>,
    source: &str,
    pair: &str,
    session: &str,
    extremes: &Extremes,
) -> Result<(), DbError> {
    let tail = match batch.conn.backend() {
        Backend::Mysql => {
            "ON DUPLICATE KEY UPDATE highest_bid = VALUES(highest_bid), lowest_ask = VALUES(lowest_ask), max_spread = VALUES(max_spread)"
        }
        Backend::Sqlite | Backend::Postgres => {
            "ON CONFLICT (source, pair, session) DO UPDATE SET highest_bid = excluded.highest_bid, \
             lowest_ask = excluded.lowest_ask, max_spread = excluded.max_spread"
        }
    };
    let insert = "INSERT INTO quote_sessions (source, pair, session, highest_bid, lowest_ask, max_spread) VALUES (?, ?, ?, ?, ?, ?)";
    sql(format!("{insert} {tail}"))
        .bind(source)
        .bind(pair)
        .bind(session)
        .bind(extremes.highest_bid)
        .bind(extremes.lowest_ask)
        .bind(extremes.max_spread)
        .execute(batch.conn, "keeping a session's extremes")
        .map(|_| ())
}

/// A quote with everything that is worked out of it.
pub struct QuoteRow {
    pub quote: Quote,
    pub bid: f64,
    pub ask: f64,
    pub mid: f64,
    pub spread: f64,
    pub extremes: Extremes,
}

/// Adds quotes, none of which is stored.
pub fn insert_quotes(batch: &mut Batch<'_>, rows: &[QuoteRow]) -> Result<(), DbError> {
    const DOING: &str = "storing quotes";
    const INSERT: &str = "INSERT INTO crypto_metrics (source, pair, sequence, observed_at, bid, ask, mid_price, spread, \
                          highest_bid, lowest_ask, max_spread, session)";
    if let Some(raw) = batch.raw {
        let failed = |err: rusqlite::Error| sqlite_raw::failed(DOING, &err);
        let text = format!("{INSERT} VALUES (?,?,?,?,?,?,?,?,?,?,?,?)");
        let mut insert = raw.connection().prepare_cached(&text).map_err(failed)?;
        for row in rows {
            let QuoteRow { quote, bid, ask, mid, spread, extremes } = row;
            let values = rusqlite::params![
                &*quote.source,
                &*quote.pair,
                quote.sequence,
                quote.observed_at.to_string(),
                bid,
                ask,
                mid,
                spread,
                extremes.highest_bid,
                extremes.lowest_ask,
                extremes.max_spread,
                &*quote.session
            ];
            insert.execute(values).map_err(failed)?;
        }
        return Ok(());
    }
    #[cfg(feature = "postgres")]
    if let Connection::Postgres(conn) = &mut *batch.conn {
        use diesel::sql_types::Array;
        for rows in rows.chunks(10 * CHUNK) {
            let texts = |get: fn(&QuoteRow) -> &str| rows.iter().map(get).collect::<Vec<&str>>();
            let doubles = |get: fn(&QuoteRow) -> f64| rows.iter().map(get).collect::<Vec<f64>>();
            let times: Vec<chrono::NaiveDateTime> = rows.iter().map(|row| row.quote.observed_at.naive()).collect();
            let sequences: Vec<i64> = rows.iter().map(|row| row.quote.sequence).collect();
            diesel::sql_query(format!("{INSERT} SELECT * FROM UNNEST($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)"))
                .bind::<Array<Text>, _>(texts(|row| &row.quote.source))
                .bind::<Array<Text>, _>(texts(|row| &row.quote.pair))
                .bind::<Array<BigInt>, _>(sequences)
                .bind::<Array<Timestamp>, _>(times)
                .bind::<Array<Double>, _>(doubles(|row| row.bid))
                .bind::<Array<Double>, _>(doubles(|row| row.ask))
                .bind::<Array<Double>, _>(doubles(|row| row.mid))
                .bind::<Array<Double>, _>(doubles(|row| row.spread))
                .bind::<Array<Double>, _>(doubles(|row| row.extremes.highest_bid))
                .bind::<Array<Double>, _>(doubles(|row| row.extremes.lowest_ask))
                .bind::<Array<Double>, _>(doubles(|row| row.extremes.max_spread))
                .bind::<Array<Text>, _>(texts(|row| &row.quote.session))
                .execute(conn)
                .doing(DOING)?;
        }
        return Ok(());
    }
    for rows in rows.chunks(CHUNK) {
        let mut insert = sql(format!("{INSERT} VALUES {}", super::sql::places(rows.len(), 12)));
        for QuoteRow { quote, bid, ask, mid, spread, extremes } in rows {
            insert = insert
                .bind(&*quote.source)
                .bind(&*quote.pair)
                .bind(quote.sequence)
                .bind(quote.observed_at.to_string())
                .bind(*bid)
                .bind(*ask)
                .bind(*mid)
                .bind(*spread)
                .bind(extremes.highest_bid)
                .bind(extremes.lowest_ask)
                .bind(extremes.max_spread)
                .bind(&*quote.session);
        }
        insert.execute(batch.conn, DOING)?;
    }
    Ok(())
}

/// Which window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowKey {
    pub source: String,
    pub pair: String,
    pub timeframe: &'static str,
    pub start: Micros,
}

/// Takes newly folded quotes into a window, whatever is stored of it.
pub fn merge_window(batch: &mut Batch<'_>, key: &WindowKey, news: &Fold) -> Result<(), DbError> {
    let fold = match window(batch.conn, key)? {
        Some(mut stored) => {
            stored.merge(news);
            stored
        }
        None => news.clone(),
    };
    save_window(batch, key, &fold)
}

fn moment(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp(6))" } else { "?" }
}

fn window(conn: &mut Connection, key: &WindowKey) -> Result<Option<Fold>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        quotes: i64,
        #[diesel(sql_type = Double)]
        open_mid: f64,
        #[diesel(sql_type = Double)]
        high_mid: f64,
        #[diesel(sql_type = Double)]
        low_mid: f64,
        #[diesel(sql_type = Double)]
        close_mid: f64,
        #[diesel(sql_type = Double)]
        highest_bid: f64,
        #[diesel(sql_type = Double)]
        lowest_ask: f64,
        #[diesel(sql_type = Double)]
        max_spread: f64,
        #[diesel(sql_type = Timestamp)]
        open_time: chrono::NaiveDateTime,
        #[diesel(sql_type = BigInt)]
        open_sequence: i64,
        #[diesel(sql_type = Timestamp)]
        close_time: chrono::NaiveDateTime,
        #[diesel(sql_type = BigInt)]
        close_sequence: i64,
        #[diesel(sql_type = Text)]
        spread_sum: String,
    }
    let doing = "reading a window of quotes";
    let read = format!(
        "SELECT w.quotes, w.open_mid, w.high_mid, w.low_mid, w.close_mid, w.highest_bid, w.lowest_ask, w.max_spread, \
         e.open_time, e.open_sequence, e.close_time, e.close_sequence, e.spread_sum \
         FROM quote_windows w JOIN quote_window_edges e ON e.source = w.source AND e.pair = w.pair \
         AND e.timeframe = w.timeframe AND e.window_start = w.window_start \
         WHERE w.source = ? AND w.pair = ? AND w.timeframe = ? AND w.window_start = {}",
        moment(conn.backend())
    );
    let row = sql(read)
        .bind(key.source.as_str())
        .bind(key.pair.as_str())
        .bind(key.timeframe)
        .bind(key.start.to_string())
        .first::<Row>(conn, doing)?;
    let Some(row) = row else { return Ok(None) };
    let broken = |why: String| DbError::Query { doing, why };
    let micros = |at: chrono::NaiveDateTime| {
        Micros::from_micros(at.and_utc().timestamp_micros()).map_err(|err| broken(err.to_string()))
    };
    Ok(Some(Fold {
        quotes: row.quotes,
        open: Edge { time: micros(row.open_time)?, sequence: row.open_sequence, mid: row.open_mid },
        close: Edge { time: micros(row.close_time)?, sequence: row.close_sequence, mid: row.close_mid },
        high_mid: row.high_mid,
        low_mid: row.low_mid,
        highest_bid: row.highest_bid,
        lowest_ask: row.lowest_ask,
        spread_sum: row.spread_sum.parse::<Decimal>().map_err(|err| broken(err.to_string()))?,
        max_spread: row.max_spread,
    }))
}

fn save_window(batch: &mut Batch<'_>, key: &WindowKey, fold: &Fold) -> Result<(), DbError> {
    const KEY: [&str; 4] = ["source", "pair", "timeframe", "window_start"];
    let backend = batch.conn.backend();
    let at = moment(backend);
    let upsert = |table: &str, columns: &[&str], places: &str| {
        let set = |with: &dyn Fn(&str) -> String| {
            columns.iter().map(|column| format!("{column} = {}", with(column))).collect::<Vec<_>>().join(", ")
        };
        let tail = match backend {
            Backend::Mysql => format!("ON DUPLICATE KEY UPDATE {}", set(&|column| format!("VALUES({column})"))),
            Backend::Sqlite | Backend::Postgres => {
                format!(
                    "ON CONFLICT ({}) DO UPDATE SET {}",
                    KEY.join(", "),
                    set(&|column| format!("excluded.{column}"))
                )
            }
        };
        format!(
            "INSERT INTO {table} ({}, {}) VALUES (?, ?, ?, {at}, {places}) {tail}",
            KEY.join(", "),
            columns.join(", ")
        )
    };
    let doing = "storing a window of quotes";
    let columns = [
        "quotes",
        "open_mid",
        "high_mid",
        "low_mid",
        "close_mid",
        "highest_bid",
        "lowest_ask",
        "mean_spread",
        "max_spread",
    ];
    sql(upsert("quote_windows", &columns, "?, ?, ?, ?, ?, ?, ?, ?, ?"))
        .bind(key.source.as_str())
        .bind(key.pair.as_str())
        .bind(key.timeframe)
        .bind(key.start.to_string())
        .bind(fold.quotes)
        .bind_all([
            fold.open.mid,
            fold.high_mid,
            fold.low_mid,
            fold.close.mid,
            fold.highest_bid,
            fold.lowest_ask,
            fold.mean_spread(),
            fold.max_spread,
        ])
        .execute(batch.conn, doing)?;
    let columns = ["open_time", "open_sequence", "close_time", "close_sequence", "spread_sum"];
    sql(upsert("quote_window_edges", &columns, &format!("{at}, ?, {at}, ?, ?")))
        .bind(key.source.as_str())
        .bind(key.pair.as_str())
        .bind(key.timeframe)
        .bind(key.start.to_string())
        .bind(fold.open.time.to_string())
        .bind(fold.open.sequence)
        .bind(fold.close.time.to_string())
        .bind(fold.close.sequence)
        .bind(fold.spread_sum.to_string())
        .execute(batch.conn, doing)
        .map(|_| ())
}

/// Keeps an outage once. True when it is new.
pub fn insert_outage(batch: &mut Batch<'_>, outage: &Outage) -> Result<bool, DbError> {
    let backend = batch.conn.backend();
    let (verb, tail) = match backend {
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Sqlite | Backend::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
    };
    let at = moment(backend);
    let insert = format!(
        "{verb} INTO quote_outages (source, pair, from_time, to_time, reason) VALUES (?, ?, {at}, {at}, ?){tail}"
    );
    let inserted = sql(insert)
        .bind(outage.source.as_str())
        .bind(outage.pair.as_str())
        .bind(outage.from_time.to_string())
        .bind(outage.to_time.to_string())
        .bind(outage.reason.as_str())
        .execute(batch.conn, "keeping an outage")?;
    Ok(inserted == 1)
}
