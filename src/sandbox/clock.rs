//! The sandbox's time.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Milliseconds of the years 1 and 9999: a fast clock stops there instead of running over.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

/// Runs with the world, or from a chosen moment at a chosen speed.
#[derive(Debug)]
pub struct Clock {
    origin: i64,
    started: Instant,
    speed: f64,
    follows_world: bool,
}

impl Clock {
    pub fn new(at: Option<DateTime<Utc>>, speed: f64) -> Clock {
        Clock {
            origin: at.unwrap_or_else(Utc::now).timestamp_millis(),
            started: Instant::now(),
            speed,
            follows_world: at.is_none() && speed == 1.0,
        }
    }

    /// Milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.micros().div_euclid(1_000)
    }

    /// Microseconds since 1970.
    pub fn micros(&self) -> i64 {
        if self.follows_world {
            return Utc::now().timestamp_micros();
        }
        let passed = self.started.elapsed().as_secs_f64() * 1_000_000.0 * self.speed;
        self.origin.saturating_mul(1_000).saturating_add(passed as i64).clamp(FIRST * 1_000, LAST * 1_000 + 999)
    }

    /// How long the world has to wait for so many microseconds of the market's time.
    pub fn wait(&self, micros: i64) -> Duration {
        let seconds = micros.max(0) as f64 / 1_000_000.0 / self.speed;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// Appends `2026-05-19T08:47:57.580123Z`, from microseconds.
pub fn write_micros(out: &mut Vec<u8>, at: i64) {
    write_time(out, at.div_euclid(1_000));
    out.pop();
    digits(out, at.rem_euclid(1_000), 3);
    out.push(b'Z');
}

/// Appends `2026-05-19T08:47:57.580Z`. By hand, because a page has 750 of these and chrono's
/// formatting would take longer than everything else in it.
pub fn write_time(out: &mut Vec<u8>, at: i64) {
    let (days, ms) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, ms / 3_600_000, 2);
    out.push(b':');
    digits(out, ms / 60_000 % 60, 2);
    out.push(b':');
    digits(out, ms / 1_000 % 60, 2);
    out.push(b'.');
    digits(out, ms % 1_000, 3);
    out.push(b'Z');
}

/// `Tue, 19 May 2026 08:47:57 GMT`.
pub fn http_date(at: i64) -> String {
    let time = DateTime::from_timestamp_millis(at).unwrap_or_default();
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Counts the UTC months, so that two moments of one month get one number.
pub fn month(at: i64) -> i64 {
    let (year, month, _) = civil(at.div_euclid(86_400_000));
    year * 12 + month - 1
}

/// The first moment of the month after.
pub fn next_month(at: i64) -> i64 {
    let wanted = month(at) + 1;
    let mut day = at.div_euclid(86_400_000);
    while month(day * 86_400_000) < wanted {
        day += 1;
    }
    day * 86_400_000
}

/// Year, month and day of a number of days since 1970, by counting 400-year cycles from a March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_chrono_writes_them() {
        for n in 0..200_000i64 {
            let at = FIRST + n * ((LAST - FIRST) / 200_000) + n % 1_000;
            let mut out = Vec::new();
            write_time(&mut out, at);
            let expected = DateTime::from_timestamp_millis(at).unwrap().format("%Y-%m-%dT%H:%M:%S%.3fZ");
            assert_eq!(String::from_utf8(out).unwrap(), expected.to_string());
        }
    }

    #[test]
    fn microseconds_follow_the_milliseconds() {
        for at in [0, 1_795_348_837_123_456, -1, -999_999, 1_800_000_000_000_001] {
            let mut out = Vec::new();
            write_micros(&mut out, at);
            let expected = DateTime::from_timestamp_micros(at).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ");
            assert_eq!(String::from_utf8(out).unwrap(), expected.to_string());
        }
    }

    #[test]
    fn the_world_waits_as_the_clock_runs() {
        assert_eq!(Clock::new(None, 1.0).wait(250_000), Duration::from_millis(250));
        assert_eq!(Clock::new(None, 100.0).wait(1_000_000), Duration::from_millis(10));
        assert_eq!(Clock::new(None, 1.0).wait(-5), Duration::ZERO);
        assert_eq!(Clock::new(None, 0.0).wait(1), Duration::MAX);
    }

    #[test]
    fn months_begin_at_midnight_of_the_first() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_millis();
        for (now, next) in [
            ("2026-11-25T15:09:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            assert_eq!(next_month(at(now)), at(next));
            assert_eq!(month(at(now)) + 1, month(at(next)));
            assert_eq!(month(at(next) - 1), month(at(now)));
        }
        assert_eq!(http_date(at("2026-05-19T08:47:57.580Z")), "Tue, 19 May 2026 08:47:57 GMT");
    }

    #[test]
    fn speed_zero_stands_still() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_123);
        let clock = Clock::new(at, 0.0);
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(clock.now(), 1_800_000_000_123);
    }

    #[test]
    fn speed_multiplies_the_time_that_passed() {
        let clock = Clock::new(DateTime::from_timestamp_millis(0), 3_600_000.0);
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(clock.now() >= 7_200_000);
    }
}
