//! What coins were worth on a UTC day: the close of the day's candle, else the day's last price.
//!
//! Two ways to the same rows. A few coins are looked up by their keys. Of all coins the candles of a day
//! are read along the index by time, and prices only of days that have any: coin by coin, each by its key,
//! because a day may hold a price for every minute.

use std::collections::{HashMap, HashSet};

use diesel::sql_types::{BigInt, Bool, Double, Nullable, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::sql::{Sql, places, sql, stored as stamp};
use super::url::Backend;
use crate::domain::{Stamp, Timeframe};

pub const DAY_MS: i64 = 86_400_000;

/// Coins that are looked up by their keys; for more it is quicker to read them all.
pub const FEW: usize = 300;

const DOING: &str = "reading a day's prices";

/// Which coins.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Of a source.
    All(&'a str),
    /// By our ids, at least one and at most [`FEW`].
    These(&'a [i64]),
}

/// What is known of a coin's day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Day {
    pub asset_id: i64,
    pub price: f64,
    /// When the price was observed; of a day's close that is the end of the day.
    pub at: Stamp,
    pub volume_24h: Option<f64>,
    pub market_cap: Option<f64>,
}

/// A price of an earlier day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Earlier {
    pub asset_id: i64,
    pub price: f64,
    pub at: Stamp,
}

impl Which<'_> {
    /// A condition on the coins `a`.
    fn condition(self) -> String {
        match self {
            Which::All(_) => "a.source = ?".to_owned(),
            Which::These(ids) => format!("a.id IN {}", places(1, ids.len())),
        }
    }

    fn bind(self, sql: Sql) -> Sql {
        match self {
            Which::All(source) => sql.bind(source),
            Which::These(ids) => sql.bind_all(ids.iter().copied()),
        }
    }
}

/// The newest day on which any of the coins has a price in a currency, as its beginning.
pub fn newest(conn: &mut Connection, vs_currency: &str, which: Which<'_>) -> Result<Option<Stamp>, DbError> {
    if let Which::All(source) = which
        && let Some(day) = newest_of_everything(conn, vs_currency, source)?
    {
        return Ok(Some(day));
    }
    // The end of each coin's history.
    let read = format!(
        "SELECT MAX(candle) AS candle, MAX(told) AS told FROM (SELECT \
         (SELECT c.open_time FROM candles c WHERE c.asset_id = a.id AND c.vs_currency = ? AND c.timeframe = '1d' \
         ORDER BY c.open_time DESC LIMIT 1) AS candle, \
         (SELECT p.observed_at FROM prices p WHERE p.asset_id = a.id AND p.vs_currency = ? AND p.price IS NOT NULL \
         ORDER BY p.observed_at DESC LIMIT 1) AS told FROM assets a WHERE {}) e",
        which.condition()
    );
    let row = which.bind(sql(read).bind(vs_currency).bind(vs_currency)).first::<Ends>(conn, DOING)?;
    Ok(row.and_then(|row| row.newest()))
}

#[derive(diesel::QueryableByName)]
struct Ends {
    #[diesel(sql_type = Nullable<Timestamp>)]
    candle: Option<chrono::NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    told: Option<chrono::NaiveDateTime>,
}

impl Ends {
    fn newest(&self) -> Option<Stamp> {
        self.candle.max(self.told).map(|at| stamp(at).floor(DAY_MS))
    }
}

/// The newest day of the whole database, where the source has a part in it that is seen at once.
fn newest_of_everything(conn: &mut Connection, vs_currency: &str, source: &str) -> Result<Option<Stamp>, DbError> {
    // More rows of others than this, and the ends of the coins are looked up instead.
    const SEEN: usize = 2_000;
    let ends = "SELECT (SELECT open_time FROM candles ORDER BY open_time DESC LIMIT 1) AS candle, \
                (SELECT observed_at FROM prices ORDER BY observed_at DESC LIMIT 1) AS told";
    let Some(day) = sql(ends).first::<Ends>(conn, DOING)?.and_then(|ends| ends.newest()) else { return Ok(None) };
    let at = conn.backend().stamp();
    let one = one(conn.backend());
    let candles = format!(
        "SELECT {one} AS one FROM (SELECT asset_id, vs_currency, timeframe FROM candles WHERE open_time = {at} \
         LIMIT {SEEN}) c JOIN assets a ON a.id = c.asset_id \
         WHERE a.source = ? AND c.vs_currency = ? AND c.timeframe = '1d' LIMIT 1"
    );
    let prices = format!(
        "SELECT {one} AS one FROM (SELECT asset_id, vs_currency, price FROM prices WHERE observed_at >= {at} \
         ORDER BY observed_at DESC LIMIT {SEEN}) p JOIN assets a ON a.id = p.asset_id \
         WHERE a.source = ? AND p.vs_currency = ? AND p.price IS NOT NULL LIMIT 1"
    );
    for read in [prices, candles] {
        let read = sql(read).bind(day.text().as_str()).bind(source).bind(vs_currency);
        if read.first::<One>(conn, DOING)?.is_some() {
            return Ok(Some(day));
        }
    }
    Ok(None)
}

/// What is known of a day, in no order: of each coin that has a price on it.
pub fn day(conn: &mut Connection, vs_currency: &str, which: Which<'_>, day: Stamp) -> Result<Vec<Day>, DbError> {
    let columns = "c.asset_id, c.close, c.volume, c.market_cap, c.final AS is_final";
    let candles = of_day(conn, columns, vs_currency, which, day).load::<CandleRow>(conn, DOING)?;
    let mut days: HashMap<i64, Day> = HashMap::with_capacity(candles.len());
    let mut open: Vec<i64> = Vec::new();
    for row in candles {
        if !row.is_final {
            open.push(row.asset_id);
        }
        // Of a day that is not over the volume is not that of 24 hours.
        let volume_24h = row.volume.filter(|_| row.is_final);
        let at = day.plus(DAY_MS);
        let of_day = Day { asset_id: row.asset_id, price: row.close, at, volume_24h, market_cap: row.market_cap };
        days.insert(row.asset_id, of_day);
    }
    // For a few coins the look costs as much as the prices.
    if matches!(which, Which::These(_)) || has_prices(conn, day)? {
        let told = last_prices(conn, vs_currency, which, day)?;
        let lacking: Vec<i64> = told
            .iter()
            .filter(|row| row.volume_24h.is_none() || row.market_cap.is_none())
            .map(|row| row.asset_id)
            .collect();
        let fuller = last_amounts(conn, vs_currency, &lacking, day)?;
        for row in told {
            let (volume_24h, market_cap) = match fuller.get(&row.asset_id) {
                Some((volume, cap)) => (row.volume_24h.or(*volume), row.market_cap.or(*cap)),
                None => (row.volume_24h, row.market_cap),
            };
            let at = stamp(row.observed_at);
            match days.get_mut(&row.asset_id) {
                None => {
                    let of_day = Day { asset_id: row.asset_id, price: row.price, at, volume_24h, market_cap };
                    days.insert(row.asset_id, of_day);
                }
                Some(known) => {
                    known.volume_24h = volume_24h.or(known.volume_24h);
                    known.market_cap = market_cap.or(known.market_cap);
                    // The candle was folded of it.
                    if known.price.to_bits() == row.price.to_bits() {
                        known.at = at;
                    }
                }
            }
        }
    }
    // A close of a day that goes on is as old as the run that stored it, where no price tells better.
    open.retain(|id| days.get(id).is_some_and(|known| known.at == day.plus(DAY_MS)));
    for (asset_id, stored) in stored_at(conn, vs_currency, &open, day)? {
        if let Some(known) = days.get_mut(&asset_id) {
            known.at = stored.min(known.at);
        }
    }
    Ok(days.into_values().collect())
}

/// The prices of coins on earlier days, in no order, each with the place of its day; `wanted` are the coins
/// that matter.
pub fn earlier(
    conn: &mut Connection,
    vs_currency: &str,
    which: Which<'_>,
    days: &[Stamp],
    wanted: &[i64],
) -> Result<Vec<(usize, Earlier)>, DbError> {
    let mut found = Vec::new();
    let closes = closes(conn, vs_currency, which, days)?;
    for (place, (day, closes)) in days.iter().zip(closes).enumerate() {
        let at = day.plus(DAY_MS);
        let known: HashSet<i64> = closes.iter().map(|(asset_id, _)| *asset_id).collect();
        found.extend(closes.into_iter().map(|(asset_id, price)| (place, Earlier { asset_id, price, at })));
        let missing: Vec<i64> = wanted.iter().copied().filter(|id| !known.contains(id)).collect();
        if missing.is_empty() || !has_prices(conn, *day)? {
            continue;
        }
        let which = if missing.len() <= FEW { Which::These(&missing) } else { which };
        for row in last_prices(conn, vs_currency, which, *day)? {
            if !known.contains(&row.asset_id) {
                let at = stamp(row.observed_at);
                found.push((place, Earlier { asset_id: row.asset_id, price: row.price, at }));
            }
        }
    }
    Ok(found)
}

#[derive(diesel::QueryableByName)]
struct CandleRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Double)]
    close: f64,
    #[diesel(sql_type = Nullable<Double>)]
    volume: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
    #[diesel(sql_type = Bool)]
    is_final: bool,
}

#[derive(diesel::QueryableByName)]
struct PriceRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    price: f64,
    #[diesel(sql_type = Nullable<Double>)]
    volume_24h: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
}

#[derive(diesel::QueryableByName)]
#[allow(dead_code)]
struct One {
    #[diesel(sql_type = BigInt)]
    one: i64,
}

/// Closes of days: each day's coins. Those of a few coins are read at once.
fn closes(
    conn: &mut Connection,
    vs_currency: &str,
    which: Which<'_>,
    days: &[Stamp],
) -> Result<Vec<Vec<(i64, f64)>>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Double)]
        close: f64,
    }
    #[derive(diesel::QueryableByName)]
    struct Dated {
        #[diesel(sql_type = Timestamp)]
        open_time: chrono::NaiveDateTime,
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Double)]
        close: f64,
    }
    let Which::These(ids) = which else {
        let mut closes = Vec::with_capacity(days.len());
        for day in days {
            let rows = of_day(conn, "c.asset_id, c.close", vs_currency, which, *day).load::<Row>(conn, DOING)?;
            closes.push(rows.into_iter().map(|row| (row.asset_id, row.close)).collect());
        }
        return Ok(closes);
    };
    let mut closes = vec![Vec::new(); days.len()];
    if days.is_empty() {
        return Ok(closes);
    }
    let at = vec![conn.backend().stamp(); days.len()].join(", ");
    let read = format!(
        "SELECT c.open_time, c.asset_id, c.close FROM candles c WHERE c.asset_id IN {} AND c.vs_currency = ? \
         AND c.timeframe = '1d' AND c.open_time IN ({at})",
        places(1, ids.len())
    );
    let read = sql(read).bind_all(ids.iter().copied()).bind(vs_currency);
    let rows = read.bind_all(days.iter().map(ToString::to_string)).load::<Dated>(conn, DOING)?;
    for Dated { open_time, asset_id, close } in rows {
        if let Some(place) = days.iter().position(|day| *day == stamp(open_time)) {
            closes[place].push((asset_id, close));
        }
    }
    Ok(closes)
}

/// Daily candles. Of all sources where all coins are asked for: those of others are few beside these, and
/// a join would cost more than they do.
fn of_day(conn: &Connection, columns: &str, vs_currency: &str, which: Which<'_>, day: Stamp) -> Sql {
    let at = conn.backend().stamp();
    let timeframe = Timeframe::D1;
    let rest = format!("c.vs_currency = ? AND c.timeframe = '{timeframe}' AND c.open_time = {at}");
    let read = match which {
        Which::All(_) => sql(format!("SELECT {columns} FROM candles c WHERE {rest}")),
        Which::These(ids) => {
            let these = places(1, ids.len());
            which.bind(sql(format!("SELECT {columns} FROM candles c WHERE c.asset_id IN {these} AND {rest}")))
        }
    };
    read.bind(vs_currency).bind(day.text().as_str())
}

fn has_prices(conn: &mut Connection, day: Stamp) -> Result<bool, DbError> {
    let (at, one) = (conn.backend().stamp(), one(conn.backend()));
    let read = sql(format!("SELECT {one} AS one FROM prices WHERE observed_at >= {at} AND observed_at < {at} LIMIT 1"));
    let read = read.bind(day.text().as_str()).bind(day.plus(DAY_MS).text().as_str());
    Ok(read.first::<One>(conn, DOING)?.is_some())
}

/// The last price of a day, of each coin that has one: the end of a part of its key.
fn last_prices(
    conn: &mut Connection,
    vs_currency: &str,
    which: Which<'_>,
    day: Stamp,
) -> Result<Vec<PriceRow>, DbError> {
    let backend = conn.backend();
    let at = backend.stamp();
    let columns = "p.asset_id, p.observed_at, p.price, p.volume_24h, p.market_cap";
    let these = which.condition();
    let newest = |selected: &str| {
        format!(
            "(SELECT {selected} FROM prices q WHERE q.asset_id = a.id AND q.vs_currency = ? AND q.price IS NOT NULL \
             AND q.observed_at >= {at} AND q.observed_at < {at} ORDER BY q.observed_at DESC LIMIT 1)"
        )
    };
    let day = |sql: Sql| sql.bind(vs_currency).bind(day.text().as_str()).bind(day.plus(DAY_MS).text().as_str());
    let read = match backend {
        // With a join the planner would rather read and hash the whole table.
        Backend::Postgres => {
            let text = format!("SELECT {columns} FROM assets a CROSS JOIN LATERAL {} p WHERE {these}", newest("q.*"));
            which.bind(day(sql(text)))
        }
        Backend::Sqlite | Backend::Mysql => {
            let join = if backend == Backend::Sqlite {
                "CROSS JOIN prices p"
            } else {
                "STRAIGHT_JOIN prices p FORCE INDEX (PRIMARY)"
            };
            let text = format!(
                "SELECT {columns} FROM assets a {join} ON p.asset_id = a.id AND p.vs_currency = ? \
                 AND p.observed_at = {} WHERE {these}",
                newest("q.observed_at")
            );
            which.bind(day(sql(text).bind(vs_currency)))
        }
    };
    read.load(conn, DOING)
}

/// Volume and market cap.
type Amounts = (Option<f64>, Option<f64>);

/// Volume and market cap of a day, each as it was told last, of coins whose last price came without.
fn last_amounts(
    conn: &mut Connection,
    vs_currency: &str,
    asset_ids: &[i64],
    day: Stamp,
) -> Result<HashMap<i64, Amounts>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Nullable<Double>)]
        volume_24h: Option<f64>,
        #[diesel(sql_type = Nullable<Double>)]
        market_cap: Option<f64>,
    }
    let at = conn.backend().stamp();
    let newest = |column: &str| {
        format!(
            "(SELECT q.{column} FROM prices q WHERE q.asset_id = a.id AND q.vs_currency = ? AND q.{column} IS NOT NULL \
             AND q.observed_at >= {at} AND q.observed_at < {at} ORDER BY q.observed_at DESC LIMIT 1)"
        )
    };
    let mut found = HashMap::new();
    for ids in asset_ids.chunks(FEW) {
        let mut read = sql(format!(
            "SELECT a.id AS asset_id, {} AS volume_24h, {} AS market_cap FROM assets a WHERE a.id IN {}",
            newest("volume_24h"),
            newest("market_cap"),
            places(1, ids.len())
        ));
        for _ in 0..2 {
            read = read.bind(vs_currency).bind(day.text().as_str()).bind(day.plus(DAY_MS).text().as_str());
        }
        let rows = read.bind_all(ids.iter().copied()).load::<Row>(conn, DOING)?;
        found.extend(rows.into_iter().map(|row| (row.asset_id, (row.volume_24h, row.market_cap))));
    }
    Ok(found)
}

/// When the daily candles of coins were stored.
fn stored_at(
    conn: &mut Connection,
    vs_currency: &str,
    asset_ids: &[i64],
    day: Stamp,
) -> Result<Vec<(i64, Stamp)>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        asset_id: i64,
        #[diesel(sql_type = Timestamp)]
        started_at: chrono::NaiveDateTime,
    }
    let at = conn.backend().stamp();
    let mut found = Vec::new();
    for ids in asset_ids.chunks(FEW) {
        let read = sql(format!(
            "SELECT c.asset_id, r.started_at FROM candles c JOIN runs r ON r.id = c.run_id WHERE c.asset_id IN {} \
             AND c.vs_currency = ? AND c.timeframe = '1d' AND c.open_time = {at}",
            places(1, ids.len())
        ));
        let read = read.bind_all(ids.iter().copied()).bind(vs_currency).bind(day.text().as_str());
        found.extend(read.load::<Row>(conn, DOING)?.into_iter().map(|row| (row.asset_id, stamp(row.started_at))));
    }
    Ok(found)
}

fn one(backend: Backend) -> &'static str {
    if backend == Backend::Mysql { "CAST(1 AS SIGNED)" } else { "CAST(1 AS BIGINT)" }
}
