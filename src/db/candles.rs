//! The candle sink: bars into the table `candles`.
//!
//! A bar that is worth less than the stored one (see `Origin`) leaves it alone, and so does one that is not over, where
//! the stored one is, and another database's fold of fewer observations; else the new one stays, and `run_id` tells the run that changed it. Same numbers: nothing is written. The hours of what changed
//! are marked for the rollup (see [`marks`]), where a longer candle is folded of it.

use std::sync::Arc;

use diesel::sql_types::{BigInt, Double, Nullable};

use super::bulk::{self, Cells, Row, Stored, Table};
use super::error::DbError;
use super::rollup::marks;
use super::session::Batch;
use super::sql::sql;
use crate::domain::{Bar, Candle, Origin, Stamp, Timeframe};

/// A bar's columns, in the order of the table.
#[derive(diesel::QueryableByName)]
pub struct StoredBar {
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
    #[diesel(sql_type = Nullable<Double>)]
    base_volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    samples: Option<i64>,
}

impl StoredBar {
    pub fn bar(self) -> Bar {
        let StoredBar { open, high, low, close, volume, base_volume, market_cap, samples } = self;
        Bar { open, high, low, close, volume, base_volume, market_cap, samples }
    }
}

/// A candle of a stored coin.
#[derive(Debug, Clone, PartialEq)]
pub struct CandleRow {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
    pub candle: Candle,
}

const TABLE: Table = Table {
    name: "candles",
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    stage: "candle_stage",
    key: &["asset_id", "vs_currency", "timeframe", "open_time"],
    figures: &["open", "high", "low", "close", "volume", "base_volume", "market_cap", "samples", "origin", "final"],
    guard: Some(tells_as_much),
    doing: "storing candles",
    #[cfg(feature = "postgres")]
    copy: bulk::postgres::copy!("candles", "candle_stage"),
};

/// The same for what this database folded itself: it knows best what that comes to.
const FOLDED: Table = Table { guard: Some(is_worth_as_much), ..TABLE };

type Named<'a> = &'a dyn Fn(&str) -> String;

/// `Origin`'s order in SQL.
fn is_worth_as_much(stored: Named<'_>, new: Named<'_>) -> String {
    format!("{} >= {}", worth(&new("origin")), worth(&stored("origin")))
}

fn worth(origin: &str) -> String {
    format!("CASE {origin} WHEN 'source' THEN 2 WHEN 'archive' THEN 1 ELSE 0 END")
}

fn tells_as_much(stored: Named<'_>, new: Named<'_>) -> String {
    let (known, told) = (worth(&stored("origin")), worth(&new("origin")));
    let (was_over, is_over) = (stored("final"), new("final"));
    let samples = |of: Named<'_>| format!("COALESCE({}, 0)", of("samples"));
    let (had, has, is_fold) = (samples(stored), samples(new), format!("{} = 'rollup'", new("origin")));
    format!(
        "({is_over} OR NOT {was_over}) AND ({told} > {known} OR ({told} = {known} AND (NOT {is_fold} OR {has} >= {had})))"
    )
}

/// The same of two of one batch.
fn replaces(new: &Candle, known: &Candle) -> bool {
    let samples = |of: &Candle| of.bar.samples.unwrap_or(0);
    let of_as_many = new.origin != Origin::Rollup || samples(new) >= samples(known);
    (new.is_final || !known.is_final) && (new.origin > known.origin || (new.origin == known.origin && of_as_many))
}

impl CandleRow {
    fn key(&self) -> (i64, &str, &str, Stamp) {
        // The name sorts as the table's key does.
        (self.asset_id, &self.vs_currency, self.candle.timeframe.name(), self.candle.open_time)
    }
}

impl Row for CandleRow {
    fn key(&self, out: &mut impl Cells) {
        out.int(Some(self.asset_id));
        out.text(&self.vs_currency);
        out.text(self.candle.timeframe.name());
        out.stamp(self.candle.open_time);
    }

    fn figures(&self, out: &mut impl Cells) {
        let bar = &self.candle.bar;
        for number in [bar.open, bar.high, bar.low, bar.close] {
            out.double(Some(number));
        }
        for number in [bar.volume, bar.base_volume, bar.market_cap] {
            out.double(number);
        }
        out.int(bar.samples);
        out.text(self.candle.origin.name());
        out.truth(self.candle.is_final);
    }
}

/// Stores a batch of bars that came from elsewhere. Rows may come in any order; of two with the same key the earlier one
/// counts as stored for the later one.
pub fn upsert(batch: &mut Batch<'_>, rows: &mut Vec<CandleRow>) -> Result<Stored, DbError> {
    store(batch, &TABLE, rows)
}

/// The same for what this database folded.
pub fn upsert_folded(batch: &mut Batch<'_>, rows: &mut Vec<CandleRow>) -> Result<Stored, DbError> {
    store(batch, &FOLDED, rows)
}

fn store(batch: &mut Batch<'_>, table: &Table, rows: &mut Vec<CandleRow>) -> Result<Stored, DbError> {
    // A file's rows mostly are in order already.
    if !rows.is_sorted_by(|a, b| a.key() < b.key()) {
        // The sort is stable: of equal keys the later one comes later.
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        rows.dedup_by(|later, row| {
            let is_same = later.key() == row.key();
            if is_same && replaces(&later.candle, &row.candle) {
                row.candle = later.candle;
            }
            is_same
        });
    }
    let stored = bulk::upsert(batch, table, table.figures, &rows.iter().collect::<Vec<_>>())?;
    if stored.changed() {
        let is_base = |candle: &Candle| candle.origin != Origin::Rollup && candle.timeframe != Timeframe::D1;
        let base = rows.iter().filter(|row| is_base(&row.candle));
        marks::mark(batch, base.map(|row| (&*row.vs_currency, row.asset_id, row.candle.open_time)))?;
    }
    Ok(stored)
}

/// Candles looked up a statement.
const CHUNK: usize = 100;

/// Which of these this database folds itself: it has a rollup candle at that key, or prices in that time.
pub fn folded_here(batch: &mut Batch<'_>, rows: &[CandleRow]) -> Result<Vec<bool>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct At {
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let moment = batch.conn.backend().stamp();
    let mut folded = vec![false; rows.len()];
    for (number, chunk) in rows.chunks(CHUNK).enumerate() {
        let first = number * CHUNK;
        let select = |at: usize| {
            format!(
                "SELECT a.id - a.id + {at} AS at FROM assets a WHERE a.id = ? AND (EXISTS (SELECT 1 FROM candles c \
                 WHERE c.asset_id = a.id AND c.vs_currency = ? AND c.timeframe = ? AND c.open_time = {moment} \
                 AND c.origin = 'rollup') OR EXISTS (SELECT 1 FROM prices p WHERE p.asset_id = a.id \
                 AND p.vs_currency = ? AND p.observed_at >= {moment} AND p.observed_at < {moment} \
                 AND p.price IS NOT NULL))"
            )
        };
        let selects: Vec<String> = (first..first + chunk.len()).map(select).collect();
        let mut read = sql(selects.join(" UNION ALL "));
        for CandleRow { asset_id, vs_currency, candle } in chunk {
            let (open, end) = (candle.open_time, candle.timeframe.end(candle.open_time));
            read = read
                .bind(*asset_id)
                .bind(&**vs_currency)
                .bind(candle.timeframe.name())
                .bind(open.to_string())
                .bind(&**vs_currency)
                .bind(open.to_string())
                .bind(end.to_string());
        }
        for row in read.load::<At>(batch.conn, "looking for what is folded here")? {
            folded[row.at as usize] = true;
        }
    }
    Ok(folded)
}
