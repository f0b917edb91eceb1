//! What `candles backfill` and `gaps` share: whose past, which part of it, and how it is fetched.

mod fetch;
mod progress;
mod series;

use std::sync::Arc;

use crate::cli::prices;
use crate::db::{Connection, DbError, assets, views};
use crate::domain::{Range, Stamp, Timeframe};
use crate::exit::UsageError;
use crate::sinks::history::Target;
use crate::sources::Source;
pub use fetch::{fetch, no_history};
pub use progress::Progress;
pub use series::{Order, Wanted};

/// Which coins.
#[derive(Debug, Clone, clap::Args)]
pub struct Coins {
    /// Only the N largest coins by the market cap that was stored last
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u64).range(1..))]
    pub top: Option<u64>,
    /// Only these coins, by the source's ids: bitcoin,ethereum
    #[arg(long, value_name = "ID,ID…", value_delimiter = ',', value_parser = prices::id)]
    pub ids: Option<Vec<String>>,
}

/// Coins, as far as they are known.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// All that are stored as active.
    All,
    These(Vec<Target>),
}

impl Coins {
    /// Refuses what the source can't do, before anything is asked for.
    pub fn fit(&self, source: &dyn Source) -> Result<(), UsageError> {
        if let (Some(_), Some(why)) = (self.top, source.why_no_top()) {
            let name = source.name();
            return Err(UsageError(format!("--top can't be used with {name}: {why}; leave it out, or use --ids")));
        }
        for id in self.ids.iter().flatten() {
            if let Some(why) = source.why_no_id(id) {
                return Err(UsageError(format!("--ids {id:?} can't be asked for: {why}")));
            }
        }
        Ok(())
    }

    /// What is stored of them under a name. `vs_currency` is the one by which coins are ranked.
    pub fn choose(&self, conn: &mut Connection, name: &str, vs_currency: &str) -> Result<Chosen, DbError> {
        let these = |coins: Vec<(Option<i64>, String)>| {
            Chosen::These(coins.into_iter().map(|(asset_id, source_id)| Target { asset_id, source_id }).collect())
        };
        Ok(match (&self.ids, self.top) {
            (Some(ids), _) => {
                let ids = prices::distinct(ids);
                let stored = assets::find(conn, name, ids.iter().map(String::as_str))?;
                these(ids.into_iter().map(|id| (stored.get(&id).map(|asset| asset.id), id)).collect())
            }
            (None, Some(top)) => {
                let ranked = views::ranked_up_to(conn, name, vs_currency, top)?;
                these(ranked.into_iter().map(|(id, source_id)| (Some(id), source_id)).collect())
            }
            (None, None) => Chosen::All,
        })
    }
}

/// Active coins stored under the first of these names that has any, or else the first name.
pub fn name_of(conn: &mut Connection, names: &[String]) -> Result<String, DbError> {
    for name in names {
        if assets::count_active(conn, name)? > 0 {
            return Ok(name.clone());
        }
    }
    Ok(names.first().cloned().unwrap_or_default())
}

/// `2026-01-31` or `2026-01-31T10:00:00Z`; for clap.
pub fn moment(text: &str) -> Result<Stamp, String> {
    let text = text.trim();
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let midnight = date.and_then(|date| date.and_hms_opt(0, 0, 0)).map(|at| at.and_utc());
    let stamp = match midnight {
        Some(midnight) => Stamp::from_datetime(midnight).map_err(|err| err.to_string()),
        None => Stamp::parse(text).map_err(|err| err.to_string()),
    };
    stamp.map_err(|why| format!("{why}; write a date such as 2026-01-31 or a UTC time such as 2026-01-31T10:00:00Z"))
}

/// The candles that open from one moment to before another.
pub fn candles_between(timeframe: Timeframe, from: Stamp, to: Stamp) -> Result<Range, UsageError> {
    if from >= to {
        return Err(UsageError(format!("--from {from} is not before --to {to} (UTC)")));
    }
    let range = Range::new(timeframe.ceil(from), timeframe.ceil(to));
    range.ok_or_else(|| UsageError(format!("no candle of {timeframe} opens from {from} to before {to} (UTC)")))
}

/// Each once, in their order.
pub fn currencies(vs: &[String]) -> Vec<Arc<str>> {
    prices::distinct(vs).iter().map(|vs| Arc::from(vs.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_times() {
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31 00:00:00.000");
        assert_eq!(moment("2026-01-31T10:00:00+02:00").unwrap().to_string(), "2026-01-31 08:00:00.000");
        for bad in ["", "yesterday", "2026-02-30", "31.1.2026", "2026-01-31T10:00:00", "1969-12-31"] {
            assert!(moment(bad).unwrap_err().contains("2026-01-31T10:00:00Z"), "{bad}");
        }
    }

    #[test]
    fn whole_candles_are_asked_for() {
        let between = |from: &str, to: &str| candles_between(Timeframe::H1, moment(from).unwrap(), moment(to).unwrap());
        let range = between("2026-01-31T10:20:00Z", "2026-01-31T12:20:00Z").unwrap();
        assert_eq!(range.from.to_string(), "2026-01-31 11:00:00.000");
        assert_eq!(range.to.to_string(), "2026-01-31 13:00:00.000");
        assert!(between("2026-01-31", "2026-01-31").unwrap_err().0.contains("is not before"));
        assert!(between("2026-01-31T10:20:00Z", "2026-01-31T10:40:00Z").unwrap_err().0.contains("no candle of 1h"));
    }
}
