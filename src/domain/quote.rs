//! A best bid and ask of a trading pair, and a time for which there are none.

use chrono::{DateTime, Datelike, Utc};

/// A moment in UTC, to the microsecond: what is finer is cut, never rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(i64);

impl Micros {
    /// `None` for what is no RFC 3339 time of the years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Micros> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?;
        // Of a leap second, too, the fraction counts up to the second's end and no further.
        let fraction = i64::from(moment.timestamp_subsec_micros().min(999_999));
        let micros = moment.timestamp().checked_mul(1_000_000)?.checked_add(fraction)?;
        Micros::from_micros(micros)
    }

    pub fn from_micros(micros: i64) -> Option<Micros> {
        let moment = DateTime::<Utc>::from_timestamp_micros(micros)?;
        (1970..=9999).contains(&moment.year()).then_some(Micros(micros))
    }

    /// `2026-05-19T08:47:57.580123Z`
    pub fn rfc3339(self) -> String {
        let moment = DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default();
        moment.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }
}

/// Decimals are kept as they were written: differences between them are exact in decimal only.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    /// `BTC-USD`
    pub pair: String,
    pub sequence: u64,
    pub observed_at: Micros,
    pub bid: String,
    pub ask: String,
    /// Of the last trade.
    pub price: String,
    /// In coins.
    pub base_volume_24h: Option<f64>,
}

/// Quotes between two moments were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub pair: String,
    /// Of the last quote before.
    pub from: Micros,
    /// Of the first one after it.
    pub to: Micros,
    pub reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_microseconds() {
        for (text, cut) in [
            ("2026-05-19T08:47:57.580123999Z", Some("2026-05-19T08:47:57.580123Z")),
            ("2026-05-19T10:47:57+02:00", Some("2026-05-19T08:47:57.000000Z")),
            ("2026-12-31T23:59:60.5Z", Some("2026-12-31T23:59:59.999999Z")),
            ("1969-12-31T23:59:59Z", None),
            ("2026-05-19 08:47", None),
            ("", None),
        ] {
            assert_eq!(Micros::parse(text).map(Micros::rfc3339).as_deref(), cut, "{text}");
        }
    }
}
