//! The table `fx_rates`: what currencies were worth by a source, and conversion by it.
//!
//! A price is converted with the newest rate at or before its own time, and with none that is older than
//! a day: a later rate would change what a finished export says, and an old one is a guess.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::sql_types::{Double, Text, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::sql;
use super::url::Backend;
use crate::domain::Stamp;
use crate::domain::rate::{Factor, HOLDS_FOR_MS, Rate, USD};

/// Times that are looked up together have their rates read at once, so many milliseconds of them.
const WINDOW_MS: i64 = 28 * 86_400_000;
/// Windows of a currency kept at once: a few MiB where the rates are hourly.
const MOST_WINDOWS: usize = 128;

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Timestamp)]
    observed_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    per_usd: f64,
}

/// Stores the rates of one answer; of the same moment told twice, the newer answer's stay.
pub fn store(batch: &mut Batch<'_>, source: &str, observed_at: Stamp, rates: &[Rate]) -> Result<(), DbError> {
    let at = at(batch.conn.backend());
    let tail = match batch.conn.backend() {
        Backend::Mysql => "ON DUPLICATE KEY UPDATE per_usd = VALUES(per_usd)",
        Backend::Sqlite | Backend::Postgres => {
            "ON CONFLICT (source, currency, observed_at) DO UPDATE SET per_usd = excluded.per_usd \
             WHERE fx_rates.per_usd <> excluded.per_usd"
        }
    };
    // There are some sixty.
    for rate in rates {
        sql(format!("INSERT INTO fx_rates (source, currency, observed_at, per_usd) VALUES (?, ?, {at}, ?) {tail}"))
            .bind(source)
            .bind(&*rate.currency)
            .bind(observed_at.text().as_str())
            .bind(rate.per_usd)
            .execute(batch.conn, "storing exchange rates")?;
    }
    Ok(())
}

/// How much of a currency one US dollar bought at a time: by the newest rate at or before it, no more
/// than 24 h older. `None` where there is no such rate.
pub fn rate_at(conn: &mut Connection, source: &str, currency: &str, time: Stamp) -> Result<Option<f64>, DbError> {
    if currency == USD {
        return Ok(Some(1.0));
    }
    let at = at(conn.backend());
    let read = format!(
        "SELECT observed_at, per_usd FROM fx_rates WHERE source = ? AND currency = ? \
         AND observed_at >= {at} AND observed_at <= {at} ORDER BY observed_at DESC LIMIT 1"
    );
    let row = sql(read)
        .bind(source)
        .bind(currency)
        .bind(time.plus(-HOLDS_FOR_MS).text().as_str())
        .bind(time.text().as_str())
        .first::<Row>(conn, "reading an exchange rate")?;
    Ok(row.map(|row| row.per_usd))
}

/// The currencies that rates are stored of, where there are some and neither a rate nor a price of this one.
pub fn known_instead_of(conn: &mut Connection, currency: &str) -> Result<Option<Vec<String>>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        currency: String,
    }
    let doing = "looking for exchange rates";
    // By source, which is where the key begins.
    let rate = "SELECT f.currency FROM (SELECT DISTINCT source FROM assets) s JOIN fx_rates f ON f.source = s.source \
                WHERE f.currency = ? LIMIT 1";
    let is_known = |conn: &mut Connection, read: &str| {
        sql(read).bind(currency).first::<Name>(conn, doing).map(|found| found.is_some())
    };
    if currency == USD || is_known(conn, rate)? {
        return Ok(None);
    }
    let known = sql("SELECT DISTINCT currency FROM fx_rates ORDER BY currency").load::<Name>(conn, doing)?;
    let price = "SELECT vs_currency AS currency FROM prices WHERE vs_currency = ? LIMIT 1";
    let candle = "SELECT vs_currency AS currency FROM candles WHERE vs_currency = ? LIMIT 1";
    if known.is_empty() || is_known(conn, price)? || is_known(conn, candle)? {
        return Ok(None);
    }
    Ok(Some(known.into_iter().map(|row| row.currency).collect()))
}

/// A currency's rates over a while, in the order of their times.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<(Stamp, f64)>);

impl Series {
    /// All that is needed for the times from `from` to `to`, both included.
    pub fn load(
        conn: &mut Connection,
        source: &str,
        currency: &str,
        from: Stamp,
        to: Stamp,
    ) -> Result<Series, DbError> {
        let at = at(conn.backend());
        let read = format!(
            "SELECT observed_at, per_usd FROM fx_rates WHERE source = ? AND currency = ? \
             AND observed_at >= {at} AND observed_at <= {at} ORDER BY observed_at"
        );
        let doing = "reading exchange rates";
        let rows = sql(read)
            .bind(source)
            .bind(currency)
            .bind(from.plus(-HOLDS_FOR_MS).text().as_str())
            .bind(to.text().as_str())
            .load::<Row>(conn, doing)?;
        let rates = rows.into_iter().map(|row| {
            let at = Stamp::from_datetime(row.observed_at.and_utc());
            at.map(|at| (at, row.per_usd)).map_err(|err| DbError::Query { doing, why: err.to_string() })
        });
        rates.collect::<Result<Vec<_>, _>>().map(Series)
    }

    /// The same as [`rate_at`], for a time that this was loaded for.
    pub fn at(&self, time: Stamp) -> Option<f64> {
        self.dated(time).map(|(_, per_usd)| per_usd)
    }

    /// The same, and the time of the rate itself.
    pub fn dated(&self, time: Stamp) -> Option<(Stamp, f64)> {
        let behind = self.0.partition_point(|(at, _)| *at <= time);
        let (at, per_usd) = self.0[..behind].last()?;
        (*at >= time.plus(-HOLDS_FOR_MS)).then_some((*at, *per_usd))
    }
}

/// Amounts of a source's rows into one currency, in any number. Rates are read by the month, once each
/// where the rows come in the order of their times; memory does not grow with them.
#[derive(Debug)]
pub struct Conversion {
    source: Arc<str>,
    to: Arc<str>,
    /// By where a window begins, and by currency.
    windows: HashMap<i64, HashMap<Arc<str>, Series>>,
    kept: usize,
}

impl Conversion {
    /// Into the currency `to` (in lower case), by the rates of `source`.
    pub fn new(source: &str, to: &str) -> Conversion {
        Conversion { source: source.into(), to: to.into(), windows: HashMap::new(), kept: 0 }
    }

    /// How an amount in `from` at a time becomes one in the wanted currency, by way of the US dollar;
    /// `None` where one of the two rates is not known for that time.
    pub fn factor(&mut self, conn: &mut Connection, from: &str, time: Stamp) -> Result<Option<Factor>, DbError> {
        Ok(self.dated_factor(conn, from, time)?.map(|(factor, _)| factor))
    }

    /// The same, and the time of the rate: of two rates the older one's, none where no rate was needed.
    pub fn dated_factor(
        &mut self,
        conn: &mut Connection,
        from: &str,
        time: Stamp,
    ) -> Result<Option<(Factor, Option<Stamp>)>, DbError> {
        if *from == *self.to {
            return Ok(Some((Factor::ONE, None)));
        }
        let to = self.to.clone();
        let Some((first, times)) = self.per_usd(conn, &to, time)? else { return Ok(None) };
        let Some((second, over)) = self.per_usd(conn, from, time)? else { return Ok(None) };
        let older = match (first, second) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (one, None) | (None, one) => one,
        };
        Ok(Some((Factor { times, over }, older)))
    }

    fn per_usd(
        &mut self,
        conn: &mut Connection,
        currency: &str,
        time: Stamp,
    ) -> Result<Option<(Option<Stamp>, f64)>, DbError> {
        if currency == USD {
            return Ok(Some((None, 1.0)));
        }
        let dated = |series: &Series| series.dated(time).map(|(at, per_usd)| (Some(at), per_usd));
        let first = time.floor(WINDOW_MS);
        if let Some(series) = self.windows.get(&first.millis()).and_then(|window| window.get(currency)) {
            return Ok(dated(series));
        }
        let series = Series::load(conn, &self.source, currency, first, first.plus(WINDOW_MS - 1))?;
        let per_usd = dated(&series);
        if self.kept >= MOST_WINDOWS {
            self.windows.clear();
            self.kept = 0;
        }
        self.windows.entry(first.millis()).or_default().insert(currency.into(), series);
        self.kept += 1;
        Ok(per_usd)
    }
}

/// Whose rates are taken for amounts of a source: its own, or where it has none those of another.
pub fn rates_of(conn: &mut Connection, source: &str, other: &str) -> Result<String, DbError> {
    Ok(if has_rates(conn, source)? { source } else { other }.to_owned())
}

/// Whether any rate is stored of a source.
fn has_rates(conn: &mut Connection, source: &str) -> Result<bool, DbError> {
    let read = "SELECT currency FROM fx_rates WHERE source = ? LIMIT 1";
    Ok(sql(read).bind(source).first::<Currency>(conn, "looking for exchange rates")?.is_some())
}

#[derive(diesel::QueryableByName)]
#[allow(dead_code)]
struct Currency {
    #[diesel(sql_type = diesel::sql_types::Text)]
    currency: String,
}

fn at(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp(3))" } else { "?" }
}
