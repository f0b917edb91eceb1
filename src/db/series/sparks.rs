//! The last days of many coins at once, for the small lines of a table.

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Double};

use super::{also_bound, also_within, at, bound, bucket};
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
const STEPS: i64 = DAYS * 86_400_000 / STEP_MS;

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = BigInt)]
    step: i64,
    #[diesel(sql_type = Double)]
    value: f64,
}

/// Prices of the seven days before `until`, every four hours one, for [`sparkline`]: the closes of hourly
/// candles, in one query for all of them; of coins that have hardly any, in a second one of observations. A time
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
    // The last step ends with the last hour that is over.
    let hour = Timeframe::H1;
    let end = hour.floor(until);
    let range = Range { from: end.plus(-DAYS * 86_400_000), to: end };
    let backend = conn.backend();
    let (at, ids) = (at(backend), |count: usize| places(1, count));
    let number = if backend == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    // The last hour of each step.
    let hours: Vec<String> =
        (1..=STEPS).map(|step| range.from.plus(step * STEP_MS).plus(-hour.millis()).to_string()).collect();
    let these = format!("open_time IN {}", ids(hours.len()).replace('?', at));
    let step = bucket(backend, "open_time", range.from, STEP_MS);
    let bounds = match backend {
        // As many ranges as there are coins and times are too many for its planner: it would read all that
        // there is of each coin.
        Backend::Mysql => format!("open_time >= {at} AND open_time < {at} AND HOUR(open_time) % 4 = ?"),
        Backend::Sqlite | Backend::Postgres => these,
    };
    let read = format!(
        "SELECT asset_id, CAST({step} AS {number}) AS step, close AS value FROM candles WHERE asset_id IN {} \
         AND vs_currency = ? AND timeframe = ? AND {bounds}",
        ids(asset_ids.len())
    );
    let read = sql(read).bind_all(asset_ids.iter().copied()).bind(vs_currency).bind(hour.name());
    let read = match backend {
        Backend::Mysql => bound(read, range).bind((end.millis() - hour.millis()) / hour.millis() % 4),
        Backend::Sqlite | Backend::Postgres => read.bind_all(hours),
    };
    take(&mut lines, read.load(conn, DOING)?);
    lines.retain(|_, line: &mut Vec<f64>| line.iter().filter(|value| value.is_finite()).count() > 1);
    let without: Vec<i64> = asset_ids.iter().copied().filter(|id| !lines.contains_key(id)).collect();
    if without.is_empty() {
        return Ok(lines);
    }
    let step = bucket(backend, "observed_at", range.from, STEP_MS);
    let read = format!(
        "SELECT p.asset_id, CAST(g.step AS {number}) AS step, p.price AS value FROM (SELECT asset_id, {step} AS step, \
         MAX(observed_at) AS last_at FROM prices WHERE asset_id IN {} AND vs_currency = ? AND observed_at >= {at} \
         AND observed_at < {at} AND price IS NOT NULL GROUP BY asset_id, {step}) g JOIN prices p \
         ON p.asset_id = g.asset_id AND p.vs_currency = ? AND p.observed_at = g.last_at \
         AND p.asset_id IN {}{}",
        ids(without.len()),
        ids(without.len()),
        also_within(backend, "p.observed_at")
    );
    let read = bound(sql(read).bind_all(without.iter().copied()).bind(vs_currency), range);
    let read = also_bound(read.bind(vs_currency).bind_all(without), backend, range);
    take(&mut lines, read.load(conn, DOING)?);
    Ok(lines)
}

fn take(lines: &mut HashMap<i64, Vec<f64>>, rows: Vec<Row>) {
    let steps = STEPS as usize;
    for row in rows {
        let line = lines.entry(row.asset_id).or_insert_with(|| vec![f64::NAN; steps]);
        if let Some(place) = usize::try_from(row.step).ok().and_then(|step| line.get_mut(step)) {
            *place = row.value;
        }
    }
}
