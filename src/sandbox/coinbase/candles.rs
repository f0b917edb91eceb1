//! Candles of a product: what is traded minute by minute, and the longer ones of the same trades.
//!
//! A minute in which nothing is traded has no candle, nor has an hour of such minutes.

use std::collections::BTreeMap;

use super::super::answer::Answer;
use super::super::faults::Spoiler;
use super::super::json::{plain_number, rounded};
use super::super::market::hash::{bell, between, mix, unit};
use super::super::market::{Currency, DAY, Market, Ticker};
use super::catalogue::Product;
use super::figures::tether;
use super::{Request, error};

const MINUTE: i64 = 60_000;
/// Between these marks prices go straight, but for the noise of each trade.
const MARK: i64 = 15 * MINUTE;
const GRANULARITIES: [i64; 6] = [60, 300, 900, 3_600, 21_600, 86_400];
/// Most candles of one answer.
const MOST: i64 = 300;
/// Candles of an answer without a range.
const UNASKED: i64 = 350;
/// The exchange's first day: 2015-07-20.
const FIRST: i64 = 1_437_350_400_000;
/// Its last listing so far that is not of a coin traded from the beginning: 2026-01-01.
const LISTED_UNTIL: i64 = 1_767_225_600_000;

/// What is wrong with a candle.
#[derive(Debug, Clone, Copy)]
enum Spoilt {
    TimeText,
    CloseNull,
    Short,
    OutOfOrder,
    VolumeNegative,
    NotARecord,
}

const SPOILT: [Spoilt; 6] = [
    Spoilt::CloseNull,
    Spoilt::OutOfOrder,
    Spoilt::TimeText,
    Spoilt::Short,
    Spoilt::VolumeNegative,
    Spoilt::NotARecord,
];

#[derive(Debug, Clone, Copy)]
struct Candle {
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
}

impl Request<'_> {
    pub fn candles(&self, product: &Product, query: &[(String, String)]) -> Result<Answer, Answer> {
        let given = |name: &str| query.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if let Some((name, _)) = query.iter().find(|(name, _)| !["granularity", "start", "end"].contains(&&**name)) {
            return Err(error(400, &format!("the sandbox does not serve {name}")));
        }
        let granularity = given("granularity").and_then(|text| text.parse().ok());
        let Some(granularity) = granularity.filter(|seconds| GRANULARITIES.contains(seconds)) else {
            return Err(error(400, "Unsupported granularity"));
        };
        let length = granularity * 1_000;
        let (first, last) = match (given("start"), given("end")) {
            (Some(start), Some(end)) => {
                let (start, end) = (moment(start, "start")?, moment(end, "end")?);
                if start > end {
                    return Err(error(400, "start must be before end"));
                }
                if (end - start) / length > MOST {
                    let message = format!(
                        "granularity too small for the requested time range. Count of aggregations requested exceeds {MOST}"
                    );
                    return Err(error(400, &message));
                }
                // Now and then one too early comes along.
                let early = i64::from(mix(product.bits, start as u64, 0).is_multiple_of(3));
                (start.div_euclid(length) - early, end.div_euclid(length))
            }
            // One alone counts for nothing.
            _ => (self.at.div_euclid(length) - UNASKED + 1, self.at.div_euclid(length)),
        };
        let candles = self.folded(product, length, first, last);
        let spoiler = Spoiler::new(self.struck, candles.len());
        let mut out = b"[".to_vec();
        for (n, (number, candle)) in candles.iter().rev().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            let spoilt = spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT));
            row(&mut out, number * granularity, candle, spoilt);
        }
        out.push(b']');
        Ok(Answer::json(out, "public, max-age=300"))
    }

    /// The candles with these numbers, those that there are.
    fn folded(&self, product: &Product, length: i64, first: i64, last: i64) -> BTreeMap<i64, Candle> {
        let mut candles: BTreeMap<i64, Candle> = BTreeMap::new();
        let Some(currency) = Currency::find(product.money.currency) else { return candles };
        let until = if product.is_delisted() { LISTED_UNTIL.min(self.at) } else { self.at };
        let mut trading = Trading { market: self.market, product, currency, day: None, marks: None };
        let begin = (first * length).max(listed(product)).div_euclid(MINUTE);
        let end = ((last + 1) * length).min(until + 1);
        for minute in begin..(end + MINUTE - 1).div_euclid(MINUTE) {
            for (at, price, size) in trading.trades(minute).into_iter().flatten() {
                if at > until || at < listed(product) {
                    continue;
                }
                let number = at.div_euclid(length);
                let candle = candles.entry(number).or_insert(Candle {
                    open: price,
                    high: price,
                    low: price,
                    close: price,
                    volume: 0.0,
                });
                candle.high = candle.high.max(price);
                candle.low = candle.low.min(price);
                candle.close = price;
                candle.volume += size;
            }
        }
        candles
    }
}

/// When a product's first trade can have been: the best were there from the beginning.
pub fn listed(product: &Product) -> i64 {
    if product.slot < 10 && product.money.code == "USD" {
        return FIRST;
    }
    let days = (LISTED_UNTIL - FIRST) / DAY;
    FIRST + (product.bits >> 9) as i64 % days * DAY
}

/// What is traded of a product.
struct Trading<'a> {
    market: &'a Market,
    product: &'a Product,
    currency: &'static Currency,
    /// The day that was asked for last: its number, the base coin, what a minute's trade is on average,
    /// and what the prices are divided by.
    day: Option<(i64, Ticker, f64, f64)>,
    /// The prices around the minute that was asked for last.
    marks: Option<(i64, [f64; 2])>,
}

impl Trading<'_> {
    /// Up to three trades: when, at which price, how much.
    fn trades(&mut self, minute: i64) -> Option<[(i64, f64, f64); 3]> {
        let bits = mix(self.product.bits, minute as u64, 0x7ade);
        let major = self.product.slot < 10 && self.product.money.code == "USD";
        let busy = if major { 0.998 } else { between(self.product.bits << 7, 0.05, 1.0) };
        if unit(bits) >= busy {
            return None;
        }
        let [before, after] = self.marks(minute * MINUTE)?;
        let usual = self.day(minute * MINUTE).map(|(_, _, usual, _)| *usual)?;
        let places = self.product.price_places as i32;
        Some([0i64, 1, 2].map(|n| {
            let bits = mix(bits, n as u64, 1);
            let at = minute * MINUTE + n * 20_000 + (bits >> 40) as i64 % 20_000;
            let along = at.rem_euclid(MARK) as f64 / MARK as f64;
            let price = (before + (after - before) * along) * (1.0 + 0.000_4 * bell(bits));
            let size = usual / 3.0 * between(bits >> 3, 0.1, 1.9);
            (at, rounded(price, places), rounded(size, self.product.size_places as i32))
        }))
    }

    fn marks(&mut self, at: i64) -> Option<[f64; 2]> {
        let number = at.div_euclid(MARK);
        if let Some((_, marks)) = self.marks.filter(|(known, _)| *known == number) {
            return Some(marks);
        }
        let currency = self.currency;
        let mut price = |number: i64| {
            let (_, ticker, _, worth) = self.day(number * MARK)?;
            Some(ticker.price_of(currency, number * MARK)? / *worth)
        };
        let marks = [price(number)?, price(number + 1)?];
        self.marks = Some((number, marks));
        Some(marks)
    }

    fn day(&mut self, at: i64) -> Option<&(i64, Ticker, f64, f64)> {
        let number = at.div_euclid(DAY);
        if self.day.as_ref().is_none_or(|(known, ..)| *known != number) {
            // As it stands at the end of the day, so that a trade is the same whenever it is asked for.
            let end = (number + 1) * DAY;
            let ticker = self.market.ticker(&self.market.coin(self.product.slot, end), end);
            let quote = ticker.quote(self.currency);
            let worth = if self.product.money.code == "USDT" { tether(self.market, end) } else { 1.0 };
            let price = quote.price.filter(|price| *price > 0.0)?;
            let usual = quote.volume.unwrap_or(0.0).max(price) / price * 0.05 / 1_440.0;
            self.day = Some((number, ticker, usual, worth));
        }
        self.day.as_ref()
    }
}

/// Lowest, highest, first, last, volume: in this order.
fn row(out: &mut Vec<u8>, time: i64, candle: &Candle, spoilt: Option<Spoilt>) {
    let Candle { open, high, low, close, volume } = *candle;
    let mut values = [low, high, open, close, volume].map(Some).to_vec();
    match spoilt {
        Some(Spoilt::NotARecord) => return out.extend_from_slice(b"\"Throttled\""),
        Some(Spoilt::CloseNull) => values[3] = None,
        Some(Spoilt::OutOfOrder) => values[1] = Some(low / 2.0),
        Some(Spoilt::VolumeNegative) => values[4] = Some(-1.0),
        Some(Spoilt::Short) => values.truncate(4),
        Some(Spoilt::TimeText) | None => {}
    }
    out.push(b'[');
    match spoilt {
        Some(Spoilt::TimeText) => out.extend_from_slice(b"\"soon\""),
        _ => plain_number(out, time as f64),
    }
    for value in values {
        out.push(b',');
        match value {
            Some(value) => plain_number(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b']');
}

/// ISO 8601, or seconds since 1970.
fn moment(text: &str, name: &str) -> Result<i64, Answer> {
    let seconds = text.parse::<i64>().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
    let time = || chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
    seconds.map(|seconds| seconds * 1_000).or_else(time).ok_or_else(|| error(400, &format!("invalid {name}")))
}
