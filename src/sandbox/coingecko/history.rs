//! Charts and bars of the past: which step an answer has, how far back a plan may look, and the marks
//! as they were recorded: not aligned, the last one now, and that one sometimes twice.

use super::super::answer::Answer;
use super::super::clock::write_time;
use super::super::faults::Spoiler;
use super::super::json;
use super::super::market::hash::mix;
use super::super::market::{Coin, Currency, DAY, Mark, Step};
use super::errors::coded;
use super::record::Precision;
use super::{Request, invalid, missing, separate};

const HOUR: i64 = 3_600_000;
/// How far back plans without a price may look.
const WALL: i64 = 365 * DAY;
/// Longest charts of five minutes and of hours.
const FIVE_MINUTES_UP_TO: i64 = DAY;
const HOURS_UP_TO: i64 = 90 * DAY;
/// Bars begin here.
const FIRST_BAR: i64 = 1_518_134_400_000;
const DAYS_OF_OHLC: [&str; 7] = ["1", "7", "14", "30", "90", "180", "365"];

/// What is wrong with a record.
#[derive(Debug, Clone, Copy)]
enum Spoilt {
    Text,
    Object,
    TimeNull,
    TimeText,
    Short,
}

const SPOILT: [Spoilt; 5] = [Spoilt::Text, Spoilt::Object, Spoilt::TimeNull, Spoilt::TimeText, Spoilt::Short];

impl Request<'_> {
    /// `/coins/{id}/…`
    pub fn history(&self, path: &str) -> Result<Answer, Answer> {
        match path.split_once('/') {
            Some((id, "market_chart")) => self.market_chart(id),
            Some((id, "market_chart/range")) => self.market_chart_range(id),
            Some((id, "ohlc")) => self.ohlc(id),
            Some((id, "ohlc/range")) => self.ohlc_range(id),
            _ => Err(Answer::error(404, r#"{"error":"Incorrect path. Please check https://www.coingecko.com/api/"}"#)),
        }
    }

    fn market_chart(&self, id: &str) -> Result<Answer, Answer> {
        let (coin, currency) = self.asked(id)?;
        let days = self.parameter("days").ok_or_else(|| missing("days"))?;
        let span = match days {
            "max" => self.at - self.market.first_seen(&coin).max(0),
            days => match days.parse::<f64>() {
                Ok(days) if days > 0.0 && days <= 100_000.0 => (days * DAY as f64) as i64,
                _ => return Err(invalid("days")),
            },
        };
        if !self.paid && (days == "max" || span > WALL) {
            return Err(self.beyond_the_wall());
        }
        let step = match self.parameter("interval") {
            None if span <= FIVE_MINUTES_UP_TO => Step::FiveMinutes,
            None if span <= HOURS_UP_TO => Step::Hour,
            None | Some("daily") => Step::Day,
            Some("hourly") if span <= 100 * DAY => Step::Hour,
            Some("5m") => return Err(self.for_larger_plans()),
            Some(_) => return Err(invalid("interval")),
        };
        Ok(self.chart(&coin, currency, step, self.at - span, self.at))
    }

    fn market_chart_range(&self, id: &str) -> Result<Answer, Answer> {
        let (coin, currency) = self.asked(id)?;
        let (from, to) = (self.moment("from")?, self.moment("to")?);
        if from >= to {
            return Err(invalid("range"));
        }
        // Asked in whole seconds.
        if !self.paid && from < self.at - WALL - 1_000 {
            return Err(self.beyond_the_wall());
        }
        let span = to - from;
        let step = match self.parameter("interval").filter(|_| self.paid) {
            None if self.parameter("interval").is_some() => return Err(invalid("interval")),
            None if span <= FIVE_MINUTES_UP_TO && from >= self.at - DAY - 1_000 => Step::FiveMinutes,
            None if span <= HOURS_UP_TO => Step::Hour,
            None | Some("daily") => Step::Day,
            Some("hourly") if span <= 100 * DAY => Step::Hour,
            Some("5m") => return Err(self.for_larger_plans()),
            Some(_) => return Err(invalid("interval")),
        };
        // Less than a day is answered with nothing.
        let to = if span < DAY { from } else { to + 1 };
        Ok(self.chart(&coin, currency, step, from, to))
    }

    /// The marks of `from..to`, and where it ends now, the one of now.
    fn chart(&self, coin: &Coin, currency: &Currency, step: Step, from: i64, to: i64) -> Answer {
        let mut marks = self.market.marks(coin, currency, step, from, to.min(self.at));
        if to >= self.at && from < self.at {
            marks.extend(self.market.mark(coin, currency, self.at));
            // Once more, a part of a second earlier: the last step goes back.
            let again = mix(self.market.labels(coin), self.at as u64, 0).is_multiple_of(2);
            if let Some(last) = marks.last().copied().filter(|_| again) {
                marks.push(Mark { at: last.at / 1_000 * 1_000, ..last });
            }
        }
        let places = self.precision().unwrap_or(Precision::Full);
        let mut out = b"{".to_vec();
        let of = |mark: &Mark, n: usize| [mark.price, mark.cap, mark.volume][n];
        let spoiler = Spoiler::new(self.struck, marks.len());
        for (which, name) in ["prices", "market_caps", "total_volumes"].into_iter().enumerate() {
            json::key(&mut out, name);
            out.push(b'[');
            for (n, mark) in marks.iter().enumerate() {
                separate(&mut out);
                let number = match places {
                    Precision::Places(places) => json::rounded(of(mark, which), places),
                    _ => of(mark, which),
                };
                let spoilt = spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)).filter(|_| name == "prices");
                row(&mut out, mark.at, &[number], spoilt);
            }
            out.push(b']');
        }
        out.push(b'}');
        Answer::json(out, "public, max-age=30")
    }

    fn ohlc(&self, id: &str) -> Result<Answer, Answer> {
        let (coin, currency) = self.asked(id)?;
        let days = self.parameter("days").ok_or_else(|| missing("days"))?;
        let span = match days {
            "max" if self.paid => self.at - FIRST_BAR,
            days if DAYS_OF_OHLC.contains(&days) => days.parse::<i64>().unwrap_or(1) * DAY,
            _ => return Err(invalid("days")),
        };
        let interval = self.parameter("interval");
        if interval.is_some() && !self.paid {
            return Err(self.for_larger_plans());
        }
        let body = match interval {
            Some("daily") if span <= 180 * DAY => DAY,
            Some("hourly") if span <= 90 * DAY => HOUR,
            Some(_) => return Err(invalid("interval")),
            None if span <= 2 * DAY => HOUR / 2,
            None if span <= 30 * DAY => 4 * HOUR,
            None => 4 * DAY,
        };
        Ok(self.bars(&coin, currency, body, self.at - span, self.at))
    }

    fn ohlc_range(&self, id: &str) -> Result<Answer, Answer> {
        if !self.paid {
            return Err(self.for_larger_plans());
        }
        let (coin, currency) = self.asked(id)?;
        let (from, to) = (self.moment("from")?, self.moment("to")?);
        let (body, longest) = match self.parameter("interval").ok_or_else(|| missing("interval"))? {
            "daily" => (DAY, 180 * DAY),
            "hourly" => (HOUR, 31 * DAY),
            _ => return Err(invalid("interval")),
        };
        if from >= to || to - from > longest {
            return Err(invalid("range"));
        }
        Ok(self.bars(&coin, currency, body, from, to))
    }

    /// Bars that close in `from..=to`, stamped when they close; also the one that is not over yet.
    fn bars(&self, coin: &Coin, currency: &Currency, body: i64, from: i64, to: i64) -> Answer {
        let first = from.max(FIRST_BAR).div_euclid(body) * body;
        let opens: Vec<i64> = (0..)
            .map(|n| first + n * body)
            .take_while(|open| *open < to.min(self.at))
            .filter(|open| open + body > from)
            .collect();
        let spoiler = Spoiler::new(self.struck, opens.len());
        let mut out = b"[".to_vec();
        for (n, open) in opens.into_iter().enumerate() {
            let close = open + body;
            if let Some(bar) = self.market.bar(coin, currency, open, close.min(self.at + 1)) {
                separate(&mut out);
                row(&mut out, close, &bar, spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)));
            }
        }
        out.push(b']');
        Answer::json(out, "public, max-age=900")
    }

    fn asked(&self, id: &str) -> Result<(Coin, &'static Currency), Answer> {
        let code = self.parameter("vs_currency").ok_or_else(|| missing("vs_currency"))?;
        let currency = Currency::find(code).ok_or_else(|| invalid("vs_currency"))?;
        let coin = self.market.find(&unescaped(id), self.at);
        Ok((coin.ok_or_else(|| Answer::error(404, r#"{"error":"coin not found"}"#))?, currency))
    }

    /// A parameter in seconds since 1970, or with a paid plan as ISO 8601.
    fn moment(&self, name: &str) -> Result<i64, Answer> {
        let text = self.parameter(name).ok_or_else(|| missing(name))?;
        if let Ok(seconds) = text.parse::<i64>() {
            return (0..=253_402_300_799).contains(&seconds).then_some(seconds * 1_000).ok_or_else(|| invalid(name));
        }
        let spelt = [text.to_owned(), format!("{text}T00:00:00Z"), format!("{text}:00Z")];
        let time = spelt.iter().find_map(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
        time.filter(|_| self.paid).map(|time| time.timestamp_millis()).ok_or_else(|| invalid(name))
    }

    fn beyond_the_wall(&self) -> Answer {
        const WHY: &[u8] = br#"","error_code":10012,"error_message":"Your request exceeds the allowed time range. Public API users are limited to querying historical data within the past 365 days."}}}"#;
        let mut body = b"{\"error\":{\"status\":{\"timestamp\":\"".to_vec();
        write_time(&mut body, self.at);
        body.extend_from_slice(WHY);
        Answer::error(401, body)
    }

    fn for_larger_plans(&self) -> Answer {
        coded(401, 10_005, self.at, "This request is limited to larger plans.")
    }
}

fn row(out: &mut Vec<u8>, at: i64, values: &[f64], spoilt: Option<Spoilt>) {
    out.push(b'[');
    match spoilt {
        Some(Spoilt::TimeNull) => out.extend_from_slice(b"null"),
        Some(Spoilt::TimeText) => out.extend_from_slice(b"\"soon\""),
        _ => json::integer(out, at),
    }
    for value in values {
        out.push(b',');
        match spoilt {
            Some(Spoilt::Text) => out.extend_from_slice(b"\"much\""),
            Some(Spoilt::Object) => out.extend_from_slice(b"{}"),
            Some(Spoilt::Short) => {
                out.pop();
                break;
            }
            _ => json::float(out, *value),
        }
    }
    out.push(b']');
}

/// Paths come as they were sent; a plus is itself in them.
fn unescaped(id: &str) -> String {
    let escaped = id.replace('+', "%2B").replace('=', "%3D").replace('&', "%26");
    let mut pairs = url::form_urlencoded::parse(escaped.as_bytes());
    pairs.next().map_or_else(String::new, |(id, _)| id.into_owned())
}
