//! What charts are drawn of: stretches of a coin's or pair's past, never more than so many points of it.
//!
//! Each is read along its table's key. Where there is more than wanted, the database folds equal lengths of
//! time, so that neither it nor we hold the rows, and no extreme is lost: of prices the first, lowest, highest
//! and last of each length stay, of candles one candle, of quotes the lowest and the highest.

mod candles;
mod prices;
mod quotes;
mod shares;
mod sparks;

use diesel::sql_types::{BigInt, Double, Nullable, Timestamp};

use super::error::DbError;
use super::sql::Sql;
use super::url::Backend;
use crate::domain::{Range, Stamp};

pub use candles::{Closes, Sticks, candles, closes, newest_candle, timeframe_for};
pub use prices::{Figure, line, newest_price, prices};
pub use quotes::{newest_quote, outages, pairs, quotes};
pub use shares::{Shares, dominance, shares};
pub use sparks::sparks;

/// As many points as a chart has use for.
pub const MOST: usize = 4_000;

/// A time that is bound as text.
fn at(backend: Backend) -> &'static str {
    backend.stamp()
}

fn bound(sql: Sql, range: Range) -> Sql {
    sql.bind(range.from.text().as_str()).bind(range.to.text().as_str())
}

/// The bounds of a joined part once more. A server's planner that only knows of the equality may walk all of a
/// coin's past, or the table; SQLite's looks rows up one by one, unless bounds tell it of another way.
fn also_within(backend: Backend, column: &str) -> String {
    let at = at(backend);
    match backend {
        Backend::Sqlite => String::new(),
        Backend::Mysql | Backend::Postgres => format!(" AND {column} >= {at} AND {column} < {at}"),
    }
}

fn also_bound(sql: Sql, backend: Backend, range: Range) -> Sql {
    if backend == Backend::Sqlite { sql } else { bound(sql, range) }
}

/// Milliseconds since 1970 of a column that is a time.
fn millis_of(backend: Backend, column: &str) -> String {
    match backend {
        Backend::Sqlite => format!("CAST(ROUND(unixepoch({column},'subsec')*1000) AS INTEGER)"),
        Backend::Mysql => format!("(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {column}) DIV 1000)"),
        Backend::Postgres => format!("CAST(FLOOR(EXTRACT(EPOCH FROM {column})*1000) AS BIGINT)"),
    }
}

/// The number of the length of time that a column's time is in.
fn bucket(backend: Backend, column: &str, from: Stamp, length_ms: i64) -> String {
    let divided = if backend == Backend::Mysql { "DIV" } else { "/" };
    format!("(({} - {}) {divided} {length_ms})", millis_of(backend, column), from.millis())
}

fn millis(moment: chrono::NaiveDateTime) -> i64 {
    moment.and_utc().timestamp_millis()
}

/// How long a piece of a range is when it is divided in so many.
fn piece(range: Range, pieces: usize) -> i64 {
    let length = range.to.millis() - range.from.millis();
    (length / pieces.max(1) as i64 + 1).max(1)
}

#[derive(diesel::QueryableByName)]
struct Newest {
    #[diesel(sql_type = Timestamp)]
    newest: chrono::NaiveDateTime,
}

impl Newest {
    fn stamp(rows: Option<Newest>) -> Result<Option<Stamp>, DbError> {
        let why = |err: crate::domain::stamp::StampError| DbError::Query {
            doing: "reading the newest time",
            why: err.to_string(),
        };
        rows.map(|row| Stamp::from_millis(millis(row.newest)).map_err(why)).transpose()
    }
}

/// A value at a time.
#[derive(diesel::QueryableByName)]
struct ValueRow {
    #[diesel(sql_type = Timestamp)]
    at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    value: f64,
}

/// A length of time, folded.
#[derive(diesel::QueryableByName)]
struct FoldedRow {
    #[diesel(sql_type = Timestamp)]
    first_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    first_value: f64,
    #[diesel(sql_type = Double)]
    low: f64,
    #[diesel(sql_type = Double)]
    high: f64,
    #[diesel(sql_type = Timestamp)]
    last_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    last_value: f64,
}

#[derive(diesel::QueryableByName)]
struct StickRow {
    #[diesel(sql_type = Timestamp)]
    open_time: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    open: f64,
    #[diesel(sql_type = Double)]
    high: f64,
    #[diesel(sql_type = Double)]
    low: f64,
    #[diesel(sql_type = Double)]
    close: f64,
    #[diesel(sql_type = Nullable<Double>)]
    volume: Option<f64>,
    #[diesel(sql_type = BigInt)]
    is_final: i64,
}
