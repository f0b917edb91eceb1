//! Charts and bars of the past, by timeframe and plan:
//!
//! | timeframe | no key, demo key | pro key |
//! |---|---|---|
//! | 1m | – | – |
//! | 5m, 15m | points every 5 minutes, of the last day: `market_chart?days=1` | the same |
//! | 1h | points about every hour, 90 days a call: `market_chart/range` | bars, 31 days a call: `ohlc/range` |
//! | 6h | the same points | the same points |
//! | 1d | those points for up to 90 days, else one at each midnight, 365 days a call | bars, 180 days a call |
//!
//! Bars of the free plans (`ohlc`) last half an hour, four hours or four days, which are no timeframes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use url::form_urlencoded;

use crate::domain::{Bar, Column, Figures, Range, Stamp, Timeframe};
use crate::sources::field::{self, Field};
use crate::sources::history::{Ask, Found, History, Kind, Offer, Wall};
use crate::sources::{Access, Request, Shape};

use super::{CoinGecko, PRO_KEY_HEADER, get};

const CHART: &str = "coins/{id}/market_chart";
const CHART_RANGE: &str = "coins/{id}/market_chart/range";
const OHLC_RANGE: &str = "coins/{id}/ohlc/range";

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// An interval is told in full this long after its end: the last day is there from 00:35 UTC on, and
/// what the vendor keeps in between is renewed until 00:40.
const SETTLES: i64 = 45 * MINUTE;
/// A range of less than a day was answered with nothing.
const SHORTEST: i64 = 25 * 60 * MINUTE;
const FREE_REACH: i64 = 365 * DAY;
/// The chart of a day ends now: a call that takes a while still has to hold all of it.
const LAST_DAY: i64 = DAY - 10 * MINUTE;

impl History for CoinGecko {
    fn offer(&self, access: &Access, timeframe: Timeframe) -> Result<Offer, String> {
        let paid = is_paid(access);
        let free = Some(Wall { reach: FREE_REACH, why: "CoinGecko's free plans tell of the last 365 days only" });
        let last_day = Wall { reach: LAST_DAY, why: "CoinGecko tells so fine a chart of the last 24 hours only" };
        let wall = if paid { None } else { free };
        let (kind, days, wall) = match timeframe {
            Timeframe::M1 => {
                return Err(
                    "CoinGecko's finest chart has a point every 5 minutes; use 5m, or --source coinbase".to_owned()
                );
            }
            // The interval that is not over yet comes along.
            Timeframe::M5 | Timeframe::M15 => (Kind::Points, 2, Some(last_day)),
            Timeframe::H1 if paid => (Kind::Bars, 31, wall),
            Timeframe::D1 if paid => (Kind::Bars, 180, wall),
            Timeframe::H1 | Timeframe::H6 => (Kind::Points, 90, wall),
            Timeframe::D1 => (Kind::Points, 366, wall),
        };
        Ok(Offer { kind, window: days * DAY, wall, settles: SETTLES })
    }

    fn request(&self, access: &Access, ask: &Ask<'_>) -> Request {
        let Ask { timeframe, window, .. } = *ask;
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (id, vs) = (encoded(ask.coin).replace('+', "%20"), encoded(ask.vs_currency));
        let begin = format!("/coins/{id}");
        let chart = |endpoint, target| get(endpoint, target, Shape::One(ask.coin.to_owned()));
        match timeframe {
            Timeframe::M1 | Timeframe::M5 | Timeframe::M15 => {
                chart(CHART, format!("{begin}/market_chart?vs_currency={vs}&days=1&precision=full"))
            }
            Timeframe::H1 | Timeframe::D1 if is_paid(access) => {
                let interval = if timeframe == Timeframe::H1 { "hourly" } else { "daily" };
                // Bars are told by when they close.
                let (from, to) = (seconds(window.from), seconds(window.to));
                let target = format!(
                    "{begin}/ohlc/range?vs_currency={vs}&from={from}&to={to}&interval={interval}&precision=full"
                );
                get(OHLC_RANGE, target, Shape::Array)
            }
            Timeframe::H1 | Timeframe::H6 | Timeframe::D1 => {
                let Range { from, to } = long_enough(ask);
                let (from, to) = (seconds(from), seconds(to));
                let target = format!("{begin}/market_chart/range?vs_currency={vs}&from={from}&to={to}&precision=full");
                chart(CHART_RANGE, target)
            }
        }
    }

    fn read(&self, record: &[u8], ask: &Ask<'_>, found: &mut Found) {
        match field::keyed(record).filter(|(key, value)| key == ask.coin && value.trim_ascii().starts_with(b"{")) {
            Some((_, chart)) => points(chart, ask, found),
            None => bar(record, ask, found),
        }
    }

    fn is_of_no_coin(&self, message: &str) -> bool {
        message.contains("coin not found")
    }

    fn is_beyond_the_wall(&self, code: Option<i64>) -> bool {
        code == Some(10_012)
    }

    fn why_empty(&self, _timeframe: Timeframe) -> &'static str {
        "the source has nothing of it"
    }
}

fn is_paid(access: &Access) -> bool {
    access.key.as_ref().is_some_and(|(header, _)| *header == PRO_KEY_HEADER)
}

fn seconds(moment: Stamp) -> i64 {
    moment.millis() / 1000
}

/// Widened into the past where the plan looks so far back, else into what comes behind.
fn long_enough(ask: &Ask<'_>) -> Range {
    let Range { from, to } = ask.window;
    let from = from.min(to.plus(-SHORTEST)).max(ask.reachable.min(from));
    Range { from, to: to.max(from.plus(SHORTEST)) }
}

/// A chart, as it comes: three rows of points, which need not have the same times.
#[derive(Deserialize)]
struct Chart<'a> {
    #[serde(borrow, default)]
    prices: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    market_caps: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    total_volumes: Vec<&'a RawValue>,
}

fn points(chart: &[u8], ask: &Ask<'_>, found: &mut Found) {
    let mut reject = |time, payload: &[u8], why: String| {
        found.rejected.push((time, field::reject(payload, Some(ask.coin.to_owned()), why)));
    };
    let chart: Chart<'_> = match serde_json::from_slice(chart) {
        Ok(chart) => chart,
        Err(err) => return reject(None, chart, err.to_string()),
    };
    let mut points: BTreeMap<Stamp, Figures> = BTreeMap::new();
    let mut spoilt: Vec<Stamp> = Vec::new();
    let series = [
        (Column::Price, chart.prices),
        (Column::MarketCap, chart.market_caps),
        (Column::Volume24h, chart.total_volumes),
    ];
    for (column, series) in series {
        for raw in series {
            let raw = raw.get().as_bytes();
            let (time, value) = pair(raw);
            let Some(time) = time else {
                reject(None, raw, value.err().unwrap_or_else(|| "time is missing".to_owned()));
                continue;
            };
            // Of two at one moment the later one counts.
            let told = value.and_then(|value| value.figure(column, points.entry(time).or_default()));
            if let Err(why) = told {
                spoilt.push(time);
                reject(Some(time), raw, why);
            }
        }
    }
    // A point of which a part can't be used is no observation.
    points.retain(|time, figures| {
        !spoilt.contains(time) && Column::ALL.iter().any(|column| figures.get(*column).is_some())
    });
    found.points.extend(points);
}

/// `[milliseconds, value]`
fn pair(raw: &[u8]) -> (Option<Stamp>, Result<Field, String>) {
    let mut values: Vec<Field> = match serde_json::from_slice(raw) {
        Ok(values) => values,
        Err(err) => return (None, Err(err.to_string())),
    };
    let time = values.first().and_then(moment);
    match values.len() {
        _ if time.is_none() => (None, Err("time is no moment in milliseconds".to_owned())),
        2 => (time, Ok(values.remove(1))),
        other => (time, Err(format!("it has {other} members, not a time and a value"))),
    }
}

/// A fraction of a millisecond is cut.
fn moment(field: &Field) -> Option<Stamp> {
    match field {
        Field::Number(millis) if millis.abs() < 9e15 => Stamp::from_millis(millis.floor() as i64).ok(),
        _ => None,
    }
}

/// `[milliseconds, open, high, low, close]`, stamped when it closes; the one that is not over yet by
/// the end that it will have, or by now.
fn bar(record: &[u8], ask: &Ask<'_>, found: &mut Found) {
    let mut reject = |time, why: String| {
        found.rejected.push((time, field::reject(record, Some(ask.coin.to_owned()), why)));
    };
    let values: Vec<Field> = match serde_json::from_slice(record) {
        Ok(values) => values,
        Err(err) => return reject(None, err.to_string()),
    };
    let Some(closes) = values.first().and_then(moment) else {
        return reject(None, "time is no moment in milliseconds".to_owned());
    };
    let opens = ask.timeframe.floor(closes.plus(-1));
    let mut prices = [0.0; 4];
    for (at, name) in ["open", "high", "low", "close"].into_iter().enumerate() {
        match values.get(at + 1) {
            Some(Field::Number(number)) => prices[at] = *number,
            Some(Field::Absent | Field::Null) | None => return reject(Some(opens), format!("{name} is missing")),
            Some(_) => return reject(Some(opens), format!("{name} is not a number")),
        }
    }
    let [open, high, low, close] = prices;
    match Bar::new(open, high, low, close) {
        Ok(bar) => found.bars.push((opens, bar)),
        Err(err) => reject(Some(opens), err.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn at(text: &str) -> Stamp {
        Stamp::parse(text).unwrap()
    }

    fn ask(timeframe: Timeframe, from: &str, to: &str) -> Ask<'static> {
        let window = Range::new(at(from), at(to)).unwrap();
        Ask { coin: "1move token", vs_currency: "usd", timeframe, window, reachable: at("2026-01-02T00:00:00Z") }
    }

    fn paid() -> Access {
        Access { key: Some((PRO_KEY_HEADER, SecretString::from("CG-x"))), ..Access::default() }
    }

    #[test]
    fn the_plan_decides_which_endpoint_serves_a_timeframe() {
        let free = Access::default();
        let (from, to) = ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        let target = |access: &Access, timeframe| {
            let request = CoinGecko.request(access, &ask(timeframe, from, to));
            assert_eq!(request.credits, 1);
            request.target
        };
        let range =
            "/coins/1move%20token/market_chart/range?vs_currency=usd&from=1769904000&to=1772323200&precision=full";
        for timeframe in [Timeframe::H1, Timeframe::H6, Timeframe::D1] {
            assert_eq!(target(&free, timeframe), range);
        }
        assert_eq!(target(&paid(), Timeframe::H6), range);
        assert_eq!(
            target(&paid(), Timeframe::D1),
            "/coins/1move%20token/ohlc/range?vs_currency=usd&from=1769904000&to=1772323200&interval=daily&precision=full"
        );
        assert!(target(&paid(), Timeframe::H1).contains("interval=hourly"));
        assert!(target(&free, Timeframe::M15).contains("/market_chart?vs_currency=usd&days=1"));
        assert!(CoinGecko.offer(&free, Timeframe::M1).unwrap_err().contains("5m"));
        let offer = |access: &Access, timeframe| CoinGecko.offer(access, timeframe).unwrap();
        assert_eq!((offer(&free, Timeframe::D1).kind, offer(&free, Timeframe::D1).window), (Kind::Points, 366 * DAY));
        assert_eq!((offer(&paid(), Timeframe::D1).kind, offer(&paid(), Timeframe::D1).wall), (Kind::Bars, None));
        assert!(offer(&free, Timeframe::H1).wall.is_some() && offer(&paid(), Timeframe::M5).wall.is_some());
    }

    #[test]
    fn what_is_too_short_is_widened_within_reach() {
        let widened = |from: &str, to: &str| long_enough(&ask(Timeframe::H1, from, to));
        let range = |from: &str, to: &str| Range::new(at(from), at(to)).unwrap();
        assert_eq!(
            widened("2026-03-05T12:00:00Z", "2026-03-05T13:00:00Z"),
            range("2026-03-04T12:00:00Z", "2026-03-05T13:00:00Z")
        );
        assert_eq!(
            widened("2026-01-02T03:00:00Z", "2026-01-02T04:00:00Z"),
            range("2026-01-02T00:00:00Z", "2026-01-03T01:00:00Z")
        );
        let long = range("2026-03-01T00:00:00Z", "2026-03-09T00:00:00Z");
        assert_eq!(widened("2026-03-01T00:00:00Z", "2026-03-09T00:00:00Z"), long);
    }

    fn read(record: &str, timeframe: Timeframe) -> Found {
        let mut found = Found::default();
        let ask = ask(timeframe, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        CoinGecko.read(record.as_bytes(), &ask, &mut found);
        found
    }

    #[test]
    fn three_rows_of_a_chart_become_observations() {
        let found = read(
            r#""1move token":{"prices":[[1769904000123,1.5],[1769907600000,null],[1769904000123,2.5],[1769911200000,5e-324]],
               "market_caps":[[1769904000123,0.0],[1769911200000,7]],"total_volumes":[[1769904000123,"9"]],"more":1}"#,
            Timeframe::H6,
        );
        assert!(found.rejected.is_empty() && found.bars.is_empty());
        let figures = |n: usize| {
            let (time, figures): &(Stamp, Figures) = &found.points[n];
            let columns = [Column::Price, Column::MarketCap, Column::Volume24h];
            (time.to_string(), columns.map(|column| figures.get(column)))
        };
        assert_eq!(found.points.len(), 2);
        assert_eq!(figures(0), ("2026-02-01 00:00:00.123".to_owned(), [Some(2.5), Some(0.0), Some(9.0)]));
        assert_eq!(figures(1), ("2026-02-01 02:00:00.000".to_owned(), [Some(5e-324), Some(7.0), None]));
    }

    #[test]
    fn an_unusable_point_costs_itself_and_its_moment() {
        let found = read(
            r#""1move token":{"prices":[[1769904000000,1],[1769907600000,{}],["soon",3],[1769911200000],[1769914800000,4]],
               "market_caps":[[1769914800000,"NaN"],[1769904000000,2]]}"#,
            Timeframe::H1,
        );
        assert_eq!(
            found.points.iter().map(|(time, _)| time.to_string()).collect::<Vec<_>>(),
            ["2026-02-01 00:00:00.000"]
        );
        let reasons: Vec<(bool, &str)> =
            found.rejected.iter().map(|(time, reject)| (time.is_some(), reject.reason.as_str())).collect();
        let expected = [(true, "an object"), (false, "no moment"), (true, "1 members"), (true, "not a finite number")];
        for ((has_time, reason), (expected_time, words)) in reasons.iter().zip(expected) {
            assert!(*has_time == expected_time && reason.contains(words), "{reason}");
        }
        assert_eq!(reasons.len(), 4);
        assert_eq!(read(r#""1move token":{"prices":{}}"#, Timeframe::H1).rejected.len(), 1);
    }

    #[test]
    fn a_bar_opens_its_length_before_it_closes() {
        let bar = |record: &str| read(record, Timeframe::H1);
        let found = bar("[1769911200000,2,4,1,3]");
        assert_eq!(found.bars[0].0.to_string(), "2026-02-01 01:00:00.000");
        assert_eq!(
            (found.bars[0].1.open, found.bars[0].1.high, found.bars[0].1.low, found.bars[0].1.close),
            (2.0, 4.0, 1.0, 3.0)
        );
        // The running one may be stamped with now.
        assert_eq!(bar("[1769911234567,2,4,1,3]").bars[0].0.to_string(), "2026-02-01 02:00:00.000");
        for (record, why) in [
            ("[1769911200000,2,1,1,3]", "do not lie between"),
            ("[1769911200000,2,4,1]", "close is missing"),
            ("[1769911200000,2,4,1,null]", "close is missing"),
            ("[1769911200000,2,4,1,\"3\"]", "close is not a number"),
            ("[null,2,4,1,3]", "no moment"),
            ("{}", "invalid type"),
        ] {
            let found = bar(record);
            assert!(found.bars.is_empty() && found.rejected[0].1.reason.contains(why), "{record}: {found:?}");
        }
    }
}
