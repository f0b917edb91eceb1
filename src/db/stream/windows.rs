//! Windows of quotes, as far as they are folded.

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Double, Text, Timestamp};
use rust_decimal::Decimal;

use super::moment;
use crate::db::error::DbError;
use crate::db::session::Batch;
use crate::db::sql::sql;
use crate::db::url::Backend;
use crate::domain::Micros;
use crate::domain::quote_window::{Edge, Fold};

/// Windows a statement.
const CHUNK: usize = 200;
const KEY: [&str; 4] = ["source", "pair", "timeframe", "window_start"];
const FIGURES: [&str; 9] = [
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
const EDGES: [&str; 5] = ["open_time", "open_sequence", "close_time", "close_sequence", "spread_sum"];

/// Which window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    pub source: String,
    pub pair: String,
    pub timeframe: String,
    pub start: Micros,
}

/// Takes newly folded quotes into their windows, whatever is stored of these. `Duplicate` where somebody
/// else adds one of them at the same time.
pub fn merge_windows(batch: &mut Batch<'_>, news: &mut [(WindowKey, Fold)]) -> Result<(), DbError> {
    // Two transactions that change the same windows take them in the same order.
    news.sort_by(|(one, _), (other, _)| one.cmp(other));
    for chunk in news.chunks_mut(CHUNK) {
        let stored = stored(batch, chunk)?;
        for (key, fold) in chunk.iter_mut() {
            if let Some(stored) = stored.get(key) {
                fold.merge(stored);
            }
        }
        let (known, new): (Vec<_>, Vec<_>) = chunk.iter().partition(|(key, _)| stored.contains_key(key));
        save(batch, &known, false)?;
        save(batch, &new, true)?;
    }
    Ok(())
}

fn stored(batch: &mut Batch<'_>, windows: &[(WindowKey, Fold)]) -> Result<HashMap<WindowKey, Fold>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        pair: String,
        #[diesel(sql_type = Text)]
        timeframe: String,
        #[diesel(sql_type = Timestamp)]
        window_start: chrono::NaiveDateTime,
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
    let doing = "reading windows of quotes";
    let backend = batch.conn.backend();
    let key = format!("(?, ?, ?, {})", moment(backend));
    let keys = vec![key.as_str(); windows.len()].join(", ");
    let read = format!(
        "SELECT w.source, w.pair, w.timeframe, w.window_start, w.quotes, w.open_mid, w.high_mid, w.low_mid, \
         w.close_mid, w.highest_bid, w.lowest_ask, w.max_spread, \
         e.open_time, e.open_sequence, e.close_time, e.close_sequence, e.spread_sum \
         FROM quote_windows w JOIN quote_window_edges e ON e.source = w.source AND e.pair = w.pair \
         AND e.timeframe = w.timeframe AND e.window_start = w.window_start \
         WHERE (w.source, w.pair, w.timeframe, w.window_start) IN ({}{keys}){}",
        if backend == Backend::Sqlite { "VALUES " } else { "" },
        backend.for_update()
    );
    let mut read = sql(read);
    for (key, _) in windows {
        read = bind_key(read, key);
    }
    let broken = |why: String| DbError::Query { doing, why };
    let micros = |at: chrono::NaiveDateTime| {
        Micros::from_micros(at.and_utc().timestamp_micros()).map_err(|err| broken(err.to_string()))
    };
    let mut stored = HashMap::new();
    for row in read.load::<Row>(batch.conn, doing)? {
        let start = micros(row.window_start)?;
        let key = WindowKey { source: row.source, pair: row.pair, timeframe: row.timeframe, start };
        let fold = Fold {
            quotes: row.quotes,
            open: Edge { time: micros(row.open_time)?, sequence: row.open_sequence, mid: row.open_mid },
            close: Edge { time: micros(row.close_time)?, sequence: row.close_sequence, mid: row.close_mid },
            high_mid: row.high_mid,
            low_mid: row.low_mid,
            highest_bid: row.highest_bid,
            lowest_ask: row.lowest_ask,
            spread_sum: row.spread_sum.parse::<Decimal>().map_err(|err| broken(err.to_string()))?,
            max_spread: row.max_spread,
        };
        stored.insert(key, fold);
    }
    Ok(stored)
}

fn save(batch: &mut Batch<'_>, windows: &[&(WindowKey, Fold)], new: bool) -> Result<(), DbError> {
    if windows.is_empty() {
        return Ok(());
    }
    let doing = "storing windows of quotes";
    let backend = batch.conn.backend();
    let at = moment(backend);
    let mut upsert =
        sql(insert_text(backend, "quote_windows", &FIGURES, "?, ?, ?, ?, ?, ?, ?, ?, ?", windows.len(), false));
    for (key, fold) in windows {
        upsert = bind_key(upsert, key).bind(fold.quotes).bind_all([
            fold.open.mid,
            fold.high_mid,
            fold.low_mid,
            fold.close.mid,
            fold.highest_bid,
            fold.lowest_ask,
            fold.mean_spread(),
            fold.max_spread,
        ]);
    }
    upsert.execute(batch.conn, doing)?;
    let places = format!("{at}, ?, {at}, ?, ?");
    let mut upsert = sql(insert_text(backend, "quote_window_edges", &EDGES, &places, windows.len(), new));
    for (key, fold) in windows {
        upsert = bind_key(upsert, key)
            .bind(fold.open.time.text().as_str())
            .bind(fold.open.sequence)
            .bind(fold.close.time.text().as_str())
            .bind(fold.close.sequence)
            .bind(fold.spread_sum.to_string());
    }
    upsert.execute(batch.conn, doing).map(|_| ())
}

fn insert_text(backend: Backend, table: &str, columns: &[&str], places: &str, rows: usize, new: bool) -> String {
    let set = |with: &dyn Fn(&str) -> String| {
        columns.iter().map(|column| format!("{column} = {}", with(column))).collect::<Vec<_>>().join(", ")
    };
    let tail = match backend {
        // What is not there yet can't be locked by reading it, and nobody else's must be written over.
        _ if new => String::new(),
        Backend::Mysql => format!("ON DUPLICATE KEY UPDATE {}", set(&|column| format!("VALUES({column})"))),
        Backend::Sqlite | Backend::Postgres => {
            format!("ON CONFLICT ({}) DO UPDATE SET {}", KEY.join(", "), set(&|column| format!("excluded.{column}")))
        }
    };
    let row = format!("(?, ?, ?, {}, {places})", moment(backend));
    format!(
        "INSERT INTO {table} ({}, {}) VALUES {} {tail}",
        KEY.join(", "),
        columns.join(", "),
        vec![row.as_str(); rows].join(", ")
    )
}

fn bind_key(statement: crate::db::sql::Sql, key: &WindowKey) -> crate::db::sql::Sql {
    statement
        .bind(key.source.as_str())
        .bind(key.pair.as_str())
        .bind(key.timeframe.as_str())
        .bind(key.start.text().as_str())
}
