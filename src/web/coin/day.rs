//! What a coin was worth on a day.

use std::sync::Arc;

use maud::{Markup, html};

use super::super::choice::{Choice, conversion_words};
use super::super::format;
use crate::api::ApiError;
use crate::db::dashboard::coin;
use crate::db::{Connection, series};
use crate::domain::rate::USD;
use crate::domain::{Range, Stamp, Timeframe};

/// A day's price, in the chosen currency.
pub struct Day {
    date: Stamp,
    found: Option<Found>,
    /// There is a price, and no rate for its time.
    lacks_rate: bool,
}

struct Found {
    price: f64,
    at: Stamp,
    kind: Kind,
    from: Arc<str>,
    rate_at: Option<Stamp>,
    is_converted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of the daily candle.
    Close,
    /// The day's last observation.
    Last,
    /// The newest one before, where the day has none.
    Earlier,
}

/// A date, or the text that is none.
pub fn parse(text: &str) -> Result<Stamp, String> {
    let shown = || text.chars().take(30).collect::<String>();
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| shown())?;
    Stamp::from_datetime(date.and_time(chrono::NaiveTime::MIN).and_utc()).map_err(|_| shown())
}

/// The close of the day's candle, else its last price, else the newest one before the day.
pub fn find(
    conn: &mut Connection,
    choice: &Choice,
    asset_id: i64,
    stored: &[Arc<str>],
    date: Stamp,
    now: Stamp,
) -> Result<Day, ApiError> {
    let end = Timeframe::D1.end(date);
    let mut currencies: Vec<&Arc<str>> = stored.iter().collect();
    currencies.sort_by_key(|stored| (***stored != *choice.currency, ***stored != *USD));
    let (mut earlier, mut lacks_rate) = (None::<Found>, false);
    for currency in currencies {
        let Some((price, at, kind)) = stored_price(conn, asset_id, currency, Range { from: date, to: end }, now)?
        else {
            continue;
        };
        let rates = choice.rates(conn, stored, at, at)?;
        let Some((factor, rate_at)) = rates.at(currency, at) else {
            lacks_rate = true;
            continue;
        };
        let Some(price) = factor.apply(price) else { continue };
        let is_converted = **currency != *choice.currency;
        let found = Found { price, at, kind, from: currency.clone(), rate_at, is_converted };
        if kind != Kind::Earlier {
            return Ok(Day { date, found: Some(found), lacks_rate: false });
        }
        if earlier.as_ref().is_none_or(|earlier| earlier.at < found.at) {
            earlier = Some(found);
        }
    }
    Ok(Day { date, found: earlier, lacks_rate })
}

fn stored_price(
    conn: &mut Connection,
    asset_id: i64,
    currency: &Arc<str>,
    day: Range,
    now: Stamp,
) -> Result<Option<(f64, Stamp, Kind)>, ApiError> {
    let last = coin::before(conn, &coin::Series { asset_id, vs_currency: currency.clone() }, day.to)?;
    let last = last.and_then(|seen| Some((seen.price?, seen.at)));
    let candles = series::candles(conn, asset_id, currency, Timeframe::D1, day, 2)?;
    if let Some(stick) = candles.sticks.first() {
        // The close is told as of the last moment that it holds for.
        let at = last.map(|(_, at)| at).filter(|at| *at >= day.from).unwrap_or(day.to.plus(-1).min(now));
        return Ok(Some((stick.close, at, Kind::Close)));
    }
    Ok(last.map(|(price, at)| (price, at, if at >= day.from { Kind::Last } else { Kind::Earlier })))
}

impl Day {
    pub fn markup(&self, choice: &Choice) -> Markup {
        let date = format::day(self.date);
        html! {
            @match &self.found {
                Some(found) => {
                    p { "On " strong { time datetime=(date) { (date) } } ": "
                        strong.day-price { (format::money(&format::price(found.price), &choice.currency)) } }
                    p.soft {
                        @match found.kind {
                            Kind::Close => { "The close of that day's candle. " }
                            Kind::Last => { "The last price of that day, of " (format::minute(found.at)) ". " }
                            Kind::Earlier => { "Nothing is stored of that day; this is the newest price before it, of "
                                (format::minute(found.at)) ". " }
                        }
                        @if found.is_converted { (conversion_words(&found.from, &choice.currency, found.rate_at)) }
                    }
                }
                None if self.lacks_rate => {
                    p { "On " strong { (date) } ": a price is stored, and no exchange rate to "
                        (choice.currency.to_uppercase()) " of the 24 hours before it. Another currency may have one." }
                }
                None => {
                    p { "On " strong { (date) } ": no price is stored of that day or before." }
                    p.soft { code { "coinetl candles backfill --timeframe 1d" } " asks the source for the past." }
                }
            }
        }
    }
}
