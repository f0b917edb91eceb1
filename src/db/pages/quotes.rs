//! Quotes of a pair in the order of their sequence, and the windows that they were folded into.

use diesel::sql_types::{BigInt, Double, Text, Timestamp};

use super::Part;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::domain::Micros;

/// A row of `crypto_metrics`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct Quote {
    #[diesel(sql_type = BigInt)]
    pub sequence: i64,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    pub bid: f64,
    #[diesel(sql_type = Double)]
    pub ask: f64,
    #[diesel(sql_type = Double)]
    pub mid_price: f64,
    #[diesel(sql_type = Double)]
    pub spread: f64,
    #[diesel(sql_type = Double)]
    pub highest_bid: f64,
    #[diesel(sql_type = Double)]
    pub lowest_ask: f64,
    #[diesel(sql_type = Double)]
    pub max_spread: f64,
    #[diesel(sql_type = Text)]
    pub session: String,
}

/// A row of `quote_windows`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct Window {
    #[diesel(sql_type = Timestamp)]
    window_start: chrono::NaiveDateTime,
    #[diesel(sql_type = BigInt)]
    pub quotes: i64,
    #[diesel(sql_type = Double)]
    pub open_mid: f64,
    #[diesel(sql_type = Double)]
    pub high_mid: f64,
    #[diesel(sql_type = Double)]
    pub low_mid: f64,
    #[diesel(sql_type = Double)]
    pub close_mid: f64,
    #[diesel(sql_type = Double)]
    pub highest_bid: f64,
    #[diesel(sql_type = Double)]
    pub lowest_ask: f64,
    #[diesel(sql_type = Double)]
    pub mean_spread: f64,
    #[diesel(sql_type = Double)]
    pub max_spread: f64,
}

impl Quote {
    pub fn observed_at(&self) -> Micros {
        micros(self.observed_at)
    }
}

impl Window {
    pub fn window_start(&self) -> Micros {
        micros(self.window_start)
    }
}

fn micros(moment: chrono::NaiveDateTime) -> Micros {
    // Stored ones were checked.
    Micros::from_micros(moment.and_utc().timestamp_micros()).unwrap_or_default()
}

/// Quotes of a pair, behind a sequence where one is given.
pub fn of_pair(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    after: Option<i64>,
    descending: bool,
    limit: i64,
) -> Result<Vec<Quote>, DbError> {
    let (beyond, order) = if descending { ("<", "DESC") } else { (">", "ASC") };
    let behind = if after.is_some() { format!(" AND sequence {beyond} ?") } else { String::new() };
    sql(format!(
        "SELECT sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session \
         FROM crypto_metrics WHERE source = ? AND pair = ?{behind} ORDER BY sequence {order} LIMIT ?"
    ))
    .bind(source)
    .bind(pair)
    .bind_all(after)
    .bind(limit)
    .load(conn, "reading quotes")
}

/// Windows of a pair; `length` is the name of one.
pub fn windows(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    length: &str,
    part: &Part,
) -> Result<Vec<Window>, DbError> {
    let which = part.text(conn.backend(), "window_start");
    let read = sql(format!(
        "SELECT window_start, quotes, open_mid, high_mid, low_mid, close_mid, highest_bid, lowest_ask, mean_spread, \
         max_spread FROM quote_windows WHERE source = ? AND pair = ? AND timeframe = ?{which}"
    ));
    part.bind_micros(read.bind(source).bind(pair).bind(length)).load(conn, "reading windows of quotes")
}

/// The first of these sources that has quotes of any pair.
pub fn meant_source(conn: &mut Connection, preferred: &[String]) -> Result<Option<String>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        source: String,
    }
    for name in preferred {
        let read = sql("SELECT source FROM crypto_metrics WHERE source = ? LIMIT 1").bind(name.as_str());
        if let Some(row) = read.first::<Row>(conn, "looking for quotes")? {
            return Ok(Some(row.source));
        }
    }
    Ok(None)
}
