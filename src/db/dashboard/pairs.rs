//! Live quotes: the newest of each pair, and the windows behind it.

use diesel::sql_types::{BigInt, Double, Text, Timestamp};

use super::stamp;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::db::url::Backend;
use crate::domain::{Stamp, Timeframe};

/// The newest quote of a pair.
#[derive(Debug, Clone)]
pub struct Quote {
    pub source: String,
    pub pair: String,
    pub observed_at: Stamp,
    pub bid: f64,
    pub ask: f64,
    pub mid: f64,
    pub spread: f64,
    /// Since the session began.
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub max_spread: f64,
    pub session: String,
}

#[derive(Debug, Clone)]
pub struct Window {
    pub start: Stamp,
    pub quotes: i64,
    pub open_mid: f64,
    pub high_mid: f64,
    pub low_mid: f64,
    pub close_mid: f64,
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub mean_spread: f64,
    pub max_spread: f64,
}

#[derive(diesel::QueryableByName)]
struct QuoteRow {
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    pair: String,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    bid: f64,
    #[diesel(sql_type = Double)]
    ask: f64,
    #[diesel(sql_type = Double)]
    mid_price: f64,
    #[diesel(sql_type = Double)]
    spread: f64,
    #[diesel(sql_type = Double)]
    highest_bid: f64,
    #[diesel(sql_type = Double)]
    lowest_ask: f64,
    #[diesel(sql_type = Double)]
    max_spread: f64,
    #[diesel(sql_type = Text)]
    session: String,
}

const DOING: &str = "reading quotes";

/// The newest quote of each pair, up to `limit` of them: from pair to pair along the key, and there to its end.
pub fn newest(conn: &mut Connection, limit: i64) -> Result<Vec<Quote>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Key {
        #[diesel(sql_type = Text)]
        source: String,
        #[diesel(sql_type = Text)]
        pair: String,
    }
    let mut found = Vec::new();
    let mut last: Option<Key> = None;
    while (found.len() as i64) < limit {
        let next = match &last {
            None => sql("SELECT source, pair FROM crypto_metrics ORDER BY source, pair LIMIT 1"),
            Some(key) => sql("SELECT source, pair FROM crypto_metrics WHERE source = ? AND pair > ? \
                              ORDER BY source, pair LIMIT 1")
            .bind(key.source.as_str())
            .bind(key.pair.as_str()),
        };
        let mut next = next.first::<Key>(conn, DOING)?;
        if let (None, Some(key)) = (&next, &last) {
            next = sql("SELECT source, pair FROM crypto_metrics WHERE source > ? ORDER BY source, pair LIMIT 1")
                .bind(key.source.as_str())
                .first::<Key>(conn, DOING)?;
        }
        let Some(key) = next else { break };
        let row = sql("SELECT source, pair, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, \
                       max_spread, session FROM crypto_metrics WHERE source = ? AND pair = ? \
                       ORDER BY sequence DESC LIMIT 1")
        .bind(key.source.as_str())
        .bind(key.pair.as_str())
        .first::<QuoteRow>(conn, DOING)?;
        if let Some(row) = row {
            found.push(Quote {
                observed_at: stamp(DOING, row.observed_at)?,
                source: row.source,
                pair: row.pair,
                bid: row.bid,
                ask: row.ask,
                mid: row.mid_price,
                spread: row.spread,
                highest_bid: row.highest_bid,
                lowest_ask: row.lowest_ask,
                max_spread: row.max_spread,
                session: row.session,
            });
        }
        last = Some(key);
    }
    Ok(found)
}

/// The newest windows of a pair, newest first.
pub fn windows(
    conn: &mut Connection,
    source: &str,
    pair: &str,
    timeframe: Timeframe,
    limit: i64,
) -> Result<Vec<Window>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
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
        mean_spread: f64,
        #[diesel(sql_type = Double)]
        max_spread: f64,
    }
    let int = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let rows = sql(format!(
        "SELECT window_start, CAST(quotes AS {int}) AS quotes, open_mid, high_mid, low_mid, close_mid, highest_bid, \
         lowest_ask, mean_spread, max_spread FROM quote_windows WHERE source = ? AND pair = ? AND timeframe = ? \
         ORDER BY window_start DESC LIMIT ?"
    ))
    .bind(source)
    .bind(pair)
    .bind(timeframe.name())
    .bind(limit)
    .load::<Row>(conn, DOING)?;
    let window = |row: Row| {
        Ok(Window {
            start: stamp(DOING, row.window_start)?,
            quotes: row.quotes,
            open_mid: row.open_mid,
            high_mid: row.high_mid,
            low_mid: row.low_mid,
            close_mid: row.close_mid,
            highest_bid: row.highest_bid,
            lowest_ask: row.lowest_ask,
            mean_spread: row.mean_spread,
            max_spread: row.max_spread,
        })
    };
    rows.into_iter().map(window).collect()
}
