//! The candle sink: bars into the table `candles`.
//!
//! A bar that is worth less than the stored one (see `Origin`) leaves it alone; else the new one stays,
//! and `run_id` tells the run that changed it. Same numbers: nothing is written.

use std::sync::Arc;

use diesel::sql_types::{BigInt, Text};

use super::error::DbError;
use super::prices::Stored;
use super::session::Batch;
use super::sql::{Value, sql};
use super::url::Backend;
use crate::domain::{Candle, Origin, Stamp, Timeframe};

/// A candle of a stored coin.
#[derive(Debug, Clone, PartialEq)]
pub struct CandleRow {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
    pub candle: Candle,
}

impl CandleRow {
    fn key(&self) -> (i64, &str, Timeframe, Stamp) {
        (self.asset_id, &self.vs_currency, self.candle.timeframe, self.candle.open_time)
    }
}

/// Stores a batch. Rows may come in any order; of two with the same key the one that is worth more
/// counts, of two that are worth the same the later one.
pub fn upsert(batch: &mut Batch<'_>, rows: &mut Vec<CandleRow>) -> Result<Stored, DbError> {
    rows.sort_by(|a, b| (a.key(), a.candle.origin).cmp(&(b.key(), b.candle.origin)));
    let mut stored = Stored::default();
    for (at, row) in rows.iter().enumerate() {
        if rows.get(at + 1).is_some_and(|next| next.key() == row.key()) {
            continue;
        }
        store(batch, row, &mut stored)?;
    }
    Ok(stored)
}

fn store(batch: &mut Batch<'_>, row: &CandleRow, stored: &mut Stored) -> Result<(), DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        origin: String,
        #[diesel(sql_type = BigInt)]
        same: i64,
    }
    let backend = batch.conn.backend();
    let at = if backend == Backend::Postgres { "CAST(? AS timestamp(3))" } else { "?" };
    let number = if backend == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let candle = &row.candle;
    let bar = &candle.bar;
    let doubles =
        [Some(bar.open), Some(bar.high), Some(bar.low), Some(bar.close), bar.volume, bar.base_volume, bar.market_cap];
    const COLUMNS: [&str; 7] = ["open", "high", "low", "close", "volume", "base_volume", "market_cap"];
    let is_same = |column: &str, kind: &str| match backend {
        Backend::Mysql => format!("{column} <=> ?"),
        Backend::Sqlite => format!("{column} IS ?"),
        Backend::Postgres => format!("{column} IS NOT DISTINCT FROM CAST(? AS {kind})"),
    };
    let mut same: Vec<String> = COLUMNS.iter().map(|column| is_same(column, "double precision")).collect();
    same.push(is_same("samples", "bigint"));
    same.push(format!("final = {}", truth(candle.is_final)));
    same.push(format!("origin = '{}'", candle.origin.name()));
    let read = format!(
        "SELECT origin, CAST(CASE WHEN {} THEN 1 ELSE 0 END AS {number}) AS same FROM candles \
         WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? AND open_time = {at}",
        same.join(" AND ")
    );
    let doing = "storing a candle";
    let held = sql(read)
        .bind_all(doubles)
        .bind(Value::MaybeInt(bar.samples))
        .bind(row.asset_id)
        .bind(&*row.vs_currency)
        .bind(candle.timeframe.name())
        .bind(candle.open_time.text().as_str())
        .first::<Row>(batch.conn, doing)?;
    let is_worth_more = |name: &str| Origin::ALL.iter().any(|held| held.name() == name && *held > candle.origin);
    match held {
        Some(held) if held.same == 1 || is_worth_more(&held.origin) => stored.unchanged += 1,
        Some(_) => {
            let set = COLUMNS.map(|column| format!("{column} = ?")).join(", ");
            sql(format!(
                "UPDATE candles SET {set}, samples = ?, origin = ?, final = {}, run_id = ? \
                 WHERE asset_id = ? AND vs_currency = ? AND timeframe = ? AND open_time = {at}",
                truth(candle.is_final)
            ))
            .bind_all(doubles)
            .bind(Value::MaybeInt(bar.samples))
            .bind(candle.origin.name())
            .bind(batch.run_id)
            .bind(row.asset_id)
            .bind(&*row.vs_currency)
            .bind(candle.timeframe.name())
            .bind(candle.open_time.text().as_str())
            .execute(batch.conn, doing)?;
            stored.updated += 1;
        }
        None => {
            sql(format!(
                "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, {}, samples, origin, final, run_id) \
                 VALUES (?, ?, ?, {at}, ?, ?, ?, ?, ?, ?, ?, ?, ?, {}, ?)",
                COLUMNS.join(", "),
                truth(candle.is_final)
            ))
            .bind(row.asset_id)
            .bind(&*row.vs_currency)
            .bind(candle.timeframe.name())
            .bind(candle.open_time.text().as_str())
            .bind_all(doubles)
            .bind(Value::MaybeInt(bar.samples))
            .bind(candle.origin.name())
            .bind(batch.run_id)
            .execute(batch.conn, doing)?;
            stored.new += 1;
        }
    }
    Ok(())
}

fn truth(value: bool) -> &'static str {
    if value { "TRUE" } else { "FALSE" }
}
