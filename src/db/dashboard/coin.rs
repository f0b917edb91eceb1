//! One coin's past, in as many points as a picture can show.

use std::sync::Arc;

use diesel::sql_types::{Double, Nullable, Text, Timestamp};

use super::{at, stamp};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::domain::{Range, Stamp, Timeframe};

/// One coin in one currency.
#[derive(Debug, Clone)]
pub struct Series {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
}

/// An observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub at: Stamp,
    pub price: Option<f64>,
    pub volume_24h: Option<f64>,
    pub market_cap: Option<f64>,
    pub supply: Option<f64>,
    /// In percent over 1 h, 24 h, 7 d and 30 d.
    pub changes: [Option<f64>; 4],
}

/// Rows that are read one by one; where there are more, one for each of so many steps is looked up.
const MOST_ROWS: i64 = 1_500;
const STEPS: i64 = 400;
/// SQLite takes 500 parts in one statement.
const STEPS_AT_ONCE: i64 = 200;

const DOING: &str = "reading a coin's past";
const COLUMNS: &str = "p.observed_at, p.price, p.volume_24h, p.market_cap, p.circulating_supply, p.change_1h, \
                       p.change_24h, p.change_7d, p.change_30d";

#[derive(diesel::QueryableByName)]
struct SeenRow {
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Double>)]
    price: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    circulating_supply: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_1h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_7d: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    change_30d: Option<f64>,
}

impl SeenRow {
    fn seen(self) -> Result<Seen, DbError> {
        Ok(Seen {
            at: stamp(DOING, self.observed_at)?,
            price: self.price,
            volume_24h: self.volume_24h,
            market_cap: self.market_cap,
            supply: self.circulating_supply,
            changes: [self.change_1h, self.change_24h, self.change_7d, self.change_30d],
        })
    }
}

/// What was observed within a time, in order: everything, or where that is too much, the last observation of
/// each of some hundred steps.
pub fn observed(conn: &mut Connection, series: &Series, within: Range) -> Result<Vec<Seen>, DbError> {
    let at = at(conn);
    let rows = sql(format!(
        "SELECT {COLUMNS} FROM prices p WHERE p.asset_id = ? AND p.vs_currency = ? AND p.observed_at >= {at} \
         AND p.observed_at < {at} ORDER BY p.observed_at LIMIT ?"
    ))
    .bind(series.asset_id)
    .bind(&*series.vs_currency)
    .bind(within.from.to_string())
    .bind(within.to.to_string())
    .bind(MOST_ROWS + 1)
    .load::<SeenRow>(conn, DOING)?;
    if rows.len() as i64 <= MOST_ROWS {
        return rows.into_iter().map(SeenRow::seen).collect();
    }
    drop(rows);
    let length = within.to.millis() - within.from.millis();
    let edge = |step: i64| within.from.plus(step * length / STEPS).to_string();
    let mut found = Vec::with_capacity(STEPS as usize);
    for first in (0..STEPS).step_by(STEPS_AT_ONCE as usize) {
        let steps = first..(first + STEPS_AT_ONCE).min(STEPS);
        let parts: Vec<String> = steps.clone().map(|_| format!("SELECT {at} AS a, {at} AS b")).collect();
        let rows = sql(format!(
            "SELECT {COLUMNS} FROM ({}) s JOIN prices p ON p.asset_id = ? AND p.vs_currency = ? AND p.observed_at = \
             (SELECT q.observed_at FROM prices q WHERE q.asset_id = ? AND q.vs_currency = ? AND q.observed_at >= s.a \
             AND q.observed_at < s.b ORDER BY q.observed_at DESC LIMIT 1) ORDER BY p.observed_at",
            parts.join(" UNION ALL ")
        ))
        .bind_all(steps.flat_map(|step| [edge(step), edge(step + 1)]))
        .bind(series.asset_id)
        .bind(&*series.vs_currency)
        .bind(series.asset_id)
        .bind(&*series.vs_currency)
        .load::<SeenRow>(conn, DOING)?;
        for row in rows {
            found.push(row.seen()?);
        }
    }
    Ok(found)
}

/// The newest observation with a price before a time.
pub fn before(conn: &mut Connection, series: &Series, time: Stamp) -> Result<Option<Seen>, DbError> {
    let row = sql(format!(
        "SELECT {COLUMNS} FROM prices p WHERE p.asset_id = ? AND p.vs_currency = ? AND p.observed_at < {} \
         AND p.price IS NOT NULL ORDER BY p.observed_at DESC LIMIT 1",
        at(conn)
    ))
    .bind(series.asset_id)
    .bind(&*series.vs_currency)
    .bind(time.to_string())
    .first::<SeenRow>(conn, DOING)?;
    row.map(SeenRow::seen).transpose()
}

/// When the first observation was.
pub fn first_observed(conn: &mut Connection, series: &Series) -> Result<Option<Stamp>, DbError> {
    let row = sql("SELECT observed_at AS time FROM prices WHERE asset_id = ? AND vs_currency = ? \
                   ORDER BY observed_at LIMIT 1")
    .bind(series.asset_id)
    .bind(&*series.vs_currency)
    .first::<Time>(conn, DOING)?;
    row.map(|row| stamp(DOING, row.time)).transpose()
}

#[derive(diesel::QueryableByName)]
struct Time {
    #[diesel(sql_type = Timestamp)]
    time: chrono::NaiveDateTime,
}

/// Which candles there are: lengths, and when the first of each opens.
pub fn timeframes(conn: &mut Connection, series: &Series) -> Result<Vec<(Timeframe, Stamp)>, DbError> {
    let mut found = Vec::new();
    for timeframe in Timeframe::ALL {
        let row =
            sql("SELECT open_time AS time FROM candles WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? \
                       ORDER BY open_time LIMIT 1")
            .bind(series.asset_id)
            .bind(&*series.vs_currency)
            .bind(timeframe.name())
            .first::<Time>(conn, DOING)?;
        if let Some(row) = row {
            found.push((timeframe, stamp(DOING, row.time)?));
        }
    }
    Ok(found)
}

/// Currencies that something is stored in of a coin.
pub fn currencies(conn: &mut Connection, asset_id: i64) -> Result<Vec<Arc<str>>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        vs_currency: String,
    }
    let mut found: Vec<Arc<str>> = Vec::new();
    for table in ["prices", "candles"] {
        let mut last = String::new();
        // From one to the next along the key.
        let read = format!(
            "SELECT vs_currency FROM {table} WHERE asset_id = ? AND vs_currency > ? ORDER BY asset_id, vs_currency LIMIT 1"
        );
        while let Some(row) = sql(read.as_str()).bind(asset_id).bind(last.as_str()).first::<Row>(conn, DOING)? {
            last = row.vs_currency;
            if !found.iter().any(|known| **known == *last) {
                found.push(last.as_str().into());
            }
        }
    }
    found.sort();
    Ok(found)
}
