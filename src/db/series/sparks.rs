//! The last days of many coins at once, for the small lines of a table.

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Double};

use super::{at, bound, bucket};
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::{places, sql};
use crate::db::url::Backend;
use crate::domain::{Range, Stamp, Timeframe};

const DOING: &str = "reading the last days of coins";
/// Coins of a page.
const MOST_COINS: usize = 200;
const DAYS: i64 = 7;
/// A point each.
const STEP_MS: i64 = 4 * 3_600_000;

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = BigInt)]
    step: i64,
    #[diesel(sql_type = Double)]
    value: f64,
}

/// Prices of the seven days before `until`, every four hours the last one, for [`sparkline`]: of hourly
/// candles, in one query for all of them; of coins that have none, in a second one of observations. A time
/// without a price is no number; a coin without any is not in the answer. Of more than 200 coins the first count.
///
/// [`sparkline`]: crate::plot::sparkline
pub fn sparks(
    conn: &mut Connection,
    asset_ids: &[i64],
    vs_currency: &str,
    until: Stamp,
) -> Result<HashMap<i64, Vec<f64>>, DbError> {
    let asset_ids = &asset_ids[..asset_ids.len().min(MOST_COINS)];
    let mut lines = HashMap::with_capacity(asset_ids.len());
    if asset_ids.is_empty() {
        return Ok(lines);
    }
    let end = until.floor(STEP_MS).plus(STEP_MS);
    let range = Range { from: end.plus(-DAYS * 86_400_000), to: end };
    let backend = conn.backend();
    let (at, ids) = (at(backend), |count: usize| places(1, count));
    let number = if backend == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let step = bucket(backend, "open_time", range.from, STEP_MS);
    let read = format!(
        "SELECT c.asset_id, CAST(g.step AS {number}) AS step, c.close AS value FROM (SELECT asset_id, {step} AS step, \
         MAX(open_time) AS last_at FROM candles WHERE asset_id IN {} AND vs_currency = ? AND timeframe = ? \
         AND open_time >= {at} AND open_time < {at} GROUP BY asset_id, {step}) g JOIN candles c \
         ON c.asset_id = g.asset_id AND c.vs_currency = ? AND c.timeframe = ? AND c.open_time = g.last_at",
        ids(asset_ids.len())
    );
    let hour = Timeframe::H1.name();
    let read = sql(read).bind_all(asset_ids.iter().copied()).bind(vs_currency).bind(hour);
    let read = bound(read, range).bind(vs_currency).bind(hour);
    take(&mut lines, read.load(conn, DOING)?);
    let without: Vec<i64> = asset_ids.iter().copied().filter(|id| !lines.contains_key(id)).collect();
    if without.is_empty() {
        return Ok(lines);
    }
    let step = bucket(backend, "observed_at", range.from, STEP_MS);
    let read = format!(
        "SELECT p.asset_id, CAST(g.step AS {number}) AS step, p.price AS value FROM (SELECT asset_id, {step} AS step, \
         MAX(observed_at) AS last_at FROM prices WHERE asset_id IN {} AND vs_currency = ? AND observed_at >= {at} \
         AND observed_at < {at} AND price IS NOT NULL GROUP BY asset_id, {step}) g JOIN prices p \
         ON p.asset_id = g.asset_id AND p.vs_currency = ? AND p.observed_at = g.last_at",
        ids(without.len())
    );
    let read = sql(read).bind_all(without).bind(vs_currency);
    take(&mut lines, bound(read, range).bind(vs_currency).load(conn, DOING)?);
    Ok(lines)
}

fn take(lines: &mut HashMap<i64, Vec<f64>>, rows: Vec<Row>) {
    let steps = (DAYS * 86_400_000 / STEP_MS) as usize;
    for row in rows {
        let line = lines.entry(row.asset_id).or_insert_with(|| vec![f64::NAN; steps]);
        if let Some(place) = usize::try_from(row.step).ok().and_then(|step| line.get_mut(step)) {
            *place = row.value;
        }
    }
}
