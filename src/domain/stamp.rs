//! A moment in UTC, to the millisecond.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};

/// Milliseconds since 1970-01-01T00:00:00Z. Finer fractions are cut, never rounded, so that the
/// same moment told with more digits is the same key in every database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(i64);

/// 9999-12-31T23:59:59.999Z
const LAST_MS: i64 = 253_402_300_799_999;

/// A moment no database of ours can hold, or text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    #[error("not an RFC 3339 time: {0:?}")]
    Format(String),
    #[error("outside the years 1970 to 9999: {0}")]
    Range(String),
}

impl Stamp {
    pub const FIRST: Stamp = Stamp(0);
    pub const LAST: Stamp = Stamp(LAST_MS);

    pub fn from_millis(millis: i64) -> Result<Self, StampError> {
        let moment = DateTime::<Utc>::from_timestamp_millis(millis).filter(|m| (1970..=9999).contains(&m.year()));
        match moment {
            Some(_) => Ok(Stamp(millis)),
            None => Err(StampError::Range(format!("{millis} ms"))),
        }
    }

    /// A moment that was checked when it was read.
    pub(super) fn known(millis: i64) -> Self {
        Stamp(millis)
    }

    /// Reads ISO 8601 with a zone, such as `2026-09-16T09:14:20.000Z`.
    pub fn parse(text: &str) -> Result<Self, StampError> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| StampError::Format(text.to_owned()))?;
        let millis = moment.timestamp().checked_mul(1000).map(|s| s + i64::from(moment.timestamp_subsec_millis()));
        Stamp::from_millis(millis.unwrap_or(i64::MAX)).map_err(|_| StampError::Range(text.to_owned()))
    }

    /// Reads the text form of fixed width back; `None` for any other text.
    pub fn of_text(text: &[u8]) -> Option<Self> {
        let text: &[u8; 23] = text.try_into().ok()?;
        let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':'), (19, b'.')];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
        };
        let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let millis = (number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?) * 1000 + number(20, 23)?;
        Some(Stamp(days * 86_400_000 + millis)).filter(|stamp| (0..=LAST_MS).contains(&stamp.0))
    }

    pub fn from_datetime(moment: DateTime<Utc>) -> Result<Self, StampError> {
        Stamp::from_millis(moment.timestamp_millis())
    }

    pub fn millis(self) -> i64 {
        self.0
    }

    /// The beginning of the interval of so many milliseconds, counted from 1970, that it is in.
    pub fn floor(self, millis: i64) -> Stamp {
        Stamp(self.0.div_euclid(millis) * millis)
    }

    /// So many milliseconds later, or earlier; no further than a stamp can be.
    pub fn plus(self, millis: i64) -> Stamp {
        Stamp(self.0.saturating_add(millis).clamp(0, LAST_MS))
    }

    pub fn naive(self) -> NaiveDateTime {
        DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default().naive_utc()
    }

    /// `YYYY-MM-DDTHH:MM:SS.fffZ`, as RFC 3339 has it.
    pub fn rfc3339(self) -> String {
        let text = self.text();
        format!("{}T{}Z", &text.as_str()[..10], &text.as_str()[11..])
    }

    /// `YYYY-MM-DD HH:MM:SS.fff`, the fixed width that sorts as text; written by hand because a
    /// bulk load spends more time in a format engine than in the database.
    pub fn text(self) -> StampText {
        let days = self.0.div_euclid(86_400_000);
        let of_day = self.0.rem_euclid(86_400_000);
        let (year, month, day) = civil(days);
        let mut out = *b"0000-00-00 00:00:00.000";
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], of_day / 3_600_000);
        digits(&mut out[14..16], of_day / 60_000 % 60);
        digits(&mut out[17..19], of_day / 1000 % 60);
        digits(&mut out[20..23], of_day % 1000);
        StampText(out)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The 23 bytes of a stamp's text form, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct StampText([u8; 23]);

impl StampText {
    pub fn as_str(&self) -> &str {
        // Only ASCII digits and punctuation are ever written into it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn digits(out: &mut [u8], mut value: i64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970 to (year, month, day) in the Gregorian calendar (Howard Hinnant's
/// `civil_from_days`, for years from 1970 on).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// The way back (Howard Hinnant's `days_from_civil`, for years from 1 on).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (year / 400, year % 400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_agrees_with_the_calendar_on_every_day_of_four_centuries() {
        for day in 0..146_100 {
            let stamp = Stamp::from_millis(day * 86_400_000 + day % 86_400_000 * 977 % 86_400_000).unwrap();
            assert_eq!(stamp.text().as_str(), stamp.naive().format("%Y-%m-%d %H:%M:%S%.3f").to_string());
            assert_eq!(Stamp::of_text(stamp.text().as_str().as_bytes()), Some(stamp));
        }
        for odd in ["", "2026-05-19 08:47:57", "2026-05-19T08:47:57.580", "2026-05-1a 08:47:57.580"] {
            assert_eq!(Stamp::of_text(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn fractions_are_cut_and_zones_applied() {
        assert_eq!(Stamp::parse("2026-05-19T08:47:57.5809Z").unwrap().to_string(), "2026-05-19 08:47:57.580");
        assert_eq!(Stamp::parse("2026-05-19T10:47:57+02:00").unwrap().to_string(), "2026-05-19 08:47:57.000");
        assert!(Stamp::parse("yesterday").is_err());
        assert!(Stamp::parse("1969-12-31T23:59:59Z").is_err());
    }
}
