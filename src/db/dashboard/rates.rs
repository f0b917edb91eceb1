//! Amounts of the pages in another currency: by the rates of the same source, or where it has none by those
//! of the source that tells rates.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::sql_types::Text;

use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::fx::Series;
use crate::db::sql::sql;
use crate::domain::Stamp;
use crate::domain::rate::{Factor, USD};

/// Nobody trades in more currencies.
const MOST: usize = 300;

/// Currencies that a source tells rates of.
pub fn currencies(conn: &mut Connection, source: &str) -> Result<Vec<String>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        currency: String,
    }
    // From one to the next along the key: there may be years of hourly rates.
    let read = "SELECT currency FROM fx_rates WHERE source = ? AND currency > ? ORDER BY source, currency LIMIT 1";
    let mut found: Vec<String> = Vec::new();
    while found.len() < MOST {
        let last = found.last().map_or("", String::as_str);
        let next = sql(read).bind(source).bind(last).first::<Row>(conn, "reading which exchange rates there are")?;
        let Some(next) = next else { break };
        found.push(next.currency);
    }
    if !found.is_empty() && !found.iter().any(|currency| currency == USD) {
        found.push(USD.to_owned());
    }
    Ok(found)
}

/// Rates into one currency, for times within an interval.
pub struct Rates {
    to: Arc<str>,
    series: HashMap<Arc<str>, Series>,
}

/// How an amount is converted, and when its rate was told; `None` where no rate was needed.
pub type Dated = (Factor, Option<Stamp>);

impl Rates {
    /// From any of `from` into `to`, for the times from `first` to `last`.
    pub fn load(
        conn: &mut Connection,
        source: &str,
        from: &[Arc<str>],
        to: &str,
        first: Stamp,
        last: Stamp,
    ) -> Result<Rates, DbError> {
        let to: Arc<str> = to.into();
        let mut series = HashMap::new();
        if from.iter().any(|from| *from != to) {
            for currency in from.iter().chain([&to]).filter(|currency| ***currency != *USD) {
                if !series.contains_key(currency) {
                    series.insert(currency.clone(), Series::load(conn, source, currency, first, last)?);
                }
            }
        }
        Ok(Rates { to, series })
    }

    /// `None` where a rate is missing at that time.
    pub fn at(&self, from: &str, time: Stamp) -> Option<Dated> {
        if *from == *self.to {
            return Some((Factor::ONE, None));
        }
        let (first, times) = self.per_usd(&self.to, time)?;
        let (second, over) = self.per_usd(from, time)?;
        let older = match (first, second) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (one, None) | (None, one) => one,
        };
        Some((Factor { times, over }, older))
    }

    fn per_usd(&self, currency: &str, time: Stamp) -> Option<(Option<Stamp>, f64)> {
        if currency == USD {
            return Some((None, 1.0));
        }
        self.series.get(currency)?.dated(time).map(|(at, per_usd)| (Some(at), per_usd))
    }
}
