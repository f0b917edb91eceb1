//! A moment in UTC, to the microsecond: what quotes are told in.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};

use super::Stamp;
use super::stamp::StampError;

/// Microseconds since 1970-01-01T00:00:00Z. Finer fractions are cut, never rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(i64);

impl Micros {
    pub fn from_micros(micros: i64) -> Result<Self, StampError> {
        match DateTime::<Utc>::from_timestamp_micros(micros).filter(|m| (1970..=9999).contains(&m.year())) {
            Some(_) => Ok(Micros(micros)),
            None => Err(StampError::Range(format!("{micros} µs"))),
        }
    }

    /// Reads ISO 8601 with a zone, such as `2026-09-16T09:14:20.123456789Z`.
    pub fn parse(text: &str) -> Result<Self, StampError> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| StampError::Format(text.to_owned()))?;
        Micros::from_micros(moment.timestamp_micros()).map_err(|_| StampError::Range(text.to_owned()))
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    pub fn naive(self) -> NaiveDateTime {
        DateTime::<Utc>::from_timestamp_micros(self.0).unwrap_or_default().naive_utc()
    }

    /// `YYYY-MM-DD HH:MM:SS.ffffff`, the fixed width that sorts as text.
    pub fn text(self) -> MicrosText {
        let mut out = [b'0'; 26];
        let millis = Stamp::known(self.0.div_euclid(1000));
        out[..23].copy_from_slice(millis.text().as_str().as_bytes());
        let mut rest = self.0.rem_euclid(1000);
        for place in out[23..].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        MicrosText(out)
    }

    /// The beginning of the interval of so many seconds that it is in.
    pub fn floor(self, seconds: i64) -> Micros {
        let length = seconds * 1_000_000;
        Micros(self.0.div_euclid(length) * length)
    }

    /// `2026-05-19T08:47:57.580123Z`
    pub fn rfc3339(self) -> String {
        let text = self.text();
        let (day, time) = (&text.as_str()[..10], &text.as_str()[11..]);
        [day, "T", time, "Z"].concat()
    }

    /// `YYYY-MM-DD`, of UTC.
    pub fn day(self) -> String {
        self.text().as_str()[..10].to_owned()
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The 26 bytes of a moment's text form, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct MicrosText([u8; 26]);

impl MicrosText {
    pub fn as_str(&self) -> &str {
        // Only ASCII digits and punctuation are ever written into it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_cut_and_the_text_has_its_width() {
        let moment = Micros::parse("2026-05-19T10:47:57.123456999+02:00").unwrap();
        assert_eq!(moment.to_string(), "2026-05-19 08:47:57.123456");
        assert_eq!(
            (moment.day().as_str(), moment.floor(300).to_string().as_str()),
            ("2026-05-19", "2026-05-19 08:45:00.000000")
        );
        assert_eq!(Micros::parse("1970-01-01T00:00:00Z").unwrap().to_string(), "1970-01-01 00:00:00.000000");
        assert!(Micros::parse("1969-12-31T23:59:59Z").is_err() && Micros::parse("soon").is_err());
    }
}
