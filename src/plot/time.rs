//! The axis of time: round moments of a time zone, and how they are written.

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::domain::Range;

/// A stretch of time, in milliseconds since 1970; the end is on the axis too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    pub to: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    pub at: i64,
    pub text: String,
    /// The beginning of something longer: of a day among hours, of a year among months.
    pub is_major: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Millis(i64),
    Days(u32),
    Months(u32),
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const STEPS: [Step; 33] = [
    Step::Millis(1),
    Step::Millis(10),
    Step::Millis(100),
    Step::Millis(500),
    Step::Millis(SECOND),
    Step::Millis(2 * SECOND),
    Step::Millis(5 * SECOND),
    Step::Millis(10 * SECOND),
    Step::Millis(15 * SECOND),
    Step::Millis(30 * SECOND),
    Step::Millis(MINUTE),
    Step::Millis(2 * MINUTE),
    Step::Millis(5 * MINUTE),
    Step::Millis(10 * MINUTE),
    Step::Millis(15 * MINUTE),
    Step::Millis(30 * MINUTE),
    Step::Millis(HOUR),
    Step::Millis(2 * HOUR),
    Step::Millis(3 * HOUR),
    Step::Millis(6 * HOUR),
    Step::Millis(12 * HOUR),
    Step::Days(1),
    Step::Days(2),
    Step::Days(7),
    Step::Days(14),
    Step::Months(1),
    Step::Months(2),
    Step::Months(3),
    Step::Months(6),
    Step::Months(12),
    Step::Months(24),
    Step::Months(60),
    Step::Months(120),
];

impl Step {
    fn millis(self) -> i64 {
        match self {
            Step::Millis(millis) => millis,
            Step::Days(days) => i64::from(days) * DAY,
            Step::Months(months) => i64::from(months) * 61 * DAY / 2,
        }
    }
}

impl From<Range> for Span {
    fn from(range: Range) -> Span {
        Span { from: range.from.millis(), to: range.to.millis() }
    }
}

impl Span {
    pub fn length(self) -> i64 {
        self.to - self.from
    }

    /// Where a moment is between the ends.
    pub fn at(self, millis: i64) -> f64 {
        if self.length() == 0 { 0.5 } else { (millis - self.from) as f64 / self.length() as f64 }
    }

    /// Round moments within, at most `most` of them.
    pub fn ticks(self, zone: Tz, most: usize) -> Vec<Tick> {
        let most = most.max(1) as i64;
        let step = STEPS.into_iter().find(|step| self.length() <= step.millis() * most);
        let step =
            step.unwrap_or(Step::Months(12 * u32::try_from(self.length() / (365 * DAY) / most + 1).unwrap_or(1000)));
        let Some(first) = local(zone, self.from) else { return Vec::new() };
        let mut ticks = Vec::new();
        let mut next = Some(floor(first, step));
        // One is before the beginning, and summer time may take one away.
        for _ in 0..most + 3 {
            let Some(moment) = next else { break };
            next = after(moment, step);
            // An hour that the clock skips has no tick; of one that it repeats the first counts.
            let Some(at) = zone.from_local_datetime(&moment).earliest().map(|at| at.timestamp_millis()) else {
                continue;
            };
            if at > self.to {
                break;
            }
            if at >= self.from {
                let (text, is_major) = label(moment, step);
                ticks.push(Tick { at, text, is_major });
            }
        }
        ticks
    }
}

/// The time on the wall.
fn local(zone: Tz, millis: i64) -> Option<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp_millis(millis).map(|at| at.with_timezone(&zone).naive_local())
}

fn floor(moment: NaiveDateTime, step: Step) -> NaiveDateTime {
    let midnight = moment.date().and_time(NaiveTime::MIN);
    match step {
        Step::Millis(millis) => {
            let of_day = (moment - midnight).num_milliseconds();
            midnight + Duration::milliseconds(of_day.div_euclid(millis) * millis)
        }
        // Counted from a Monday, so that weeks begin on one.
        Step::Days(days) => {
            let days_since = i64::from(midnight.date().num_days_from_ce() - 1).rem_euclid(i64::from(days));
            midnight - Duration::days(days_since)
        }
        Step::Months(months) => {
            let count = midnight.year() * 12 + midnight.month0() as i32;
            let count = count.div_euclid(months as i32) * months as i32;
            let first = chrono::NaiveDate::from_ymd_opt(count.div_euclid(12), count.rem_euclid(12) as u32 + 1, 1);
            first.map_or(midnight, |first| first.and_time(NaiveTime::MIN))
        }
    }
}

fn after(moment: NaiveDateTime, step: Step) -> Option<NaiveDateTime> {
    match step {
        Step::Millis(millis) => moment.checked_add_signed(Duration::milliseconds(millis)),
        Step::Days(days) => moment.checked_add_days(Days::new(u64::from(days))),
        Step::Months(months) => moment.checked_add_months(Months::new(months)),
    }
}

fn label(moment: NaiveDateTime, step: Step) -> (String, bool) {
    let text = |form: &str| moment.format(form).to_string();
    let is_midnight = moment.time() == NaiveTime::MIN;
    let is_new_year = is_midnight && moment.month() == 1 && moment.day() == 1;
    match step {
        Step::Millis(_) if is_midnight => (text("%b %-d"), true),
        Step::Millis(millis) if millis < SECOND => (text("%H:%M:%S%.3f"), moment.nanosecond() == 0),
        Step::Millis(millis) if millis < MINUTE => (text("%H:%M:%S"), moment.second() == 0),
        Step::Millis(_) => (text("%H:%M"), false),
        Step::Days(_) if is_new_year => (text("%Y"), true),
        Step::Days(_) => (text("%b %-d"), moment.day() == 1),
        Step::Months(months) if months >= 12 => (text("%Y"), true),
        Step::Months(_) if is_new_year => (text("%Y"), true),
        Step::Months(_) => (text("%b"), false),
    }
}

/// A moment, as exact as the distance of two that have to be told apart asks for.
pub fn moment(zone: Tz, millis: i64, apart: i64) -> String {
    let form = match apart {
        ..SECOND => "%Y-%m-%d %H:%M:%S%.3f",
        SECOND..MINUTE => "%Y-%m-%d %H:%M:%S",
        MINUTE..DAY => "%Y-%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    DateTime::<Utc>::from_timestamp_millis(millis)
        .map(|at| at.with_timezone(&zone).format(form).to_string())
        .unwrap_or_default()
}

/// `2026-05-19 08:00 – 2026-05-20 08:00`, as exact as the length asks for.
pub fn span_text(zone: Tz, span: Span) -> String {
    let apart = if span.length() > 20 * DAY { DAY } else { (span.length() / 50).clamp(1, DAY - 1) };
    let [from, to] = [span.from, span.to].map(|at| moment(zone, at, apart));
    if from == to { from } else { format!("{from} – {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn span(from: &str, to: &str) -> Span {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_millis();
        Span { from: at(from), to: at(to) }
    }

    fn texts(span: Span, zone: Tz, most: usize) -> Vec<String> {
        span.ticks(zone, most).into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn every_length_has_round_moments() {
        let zone = Tz::UTC;
        let day = span("2026-05-19T20:30:00Z", "2026-05-20T08:30:00Z");
        assert_eq!(texts(day, zone, 6), ["22:00", "May 20", "02:00", "04:00", "06:00", "08:00"]);
        let year = span("2025-11-25T00:00:00Z", "2026-11-25T00:00:00Z");
        assert_eq!(texts(year, zone, 6), ["2026", "Mar", "May", "Jul", "Sep", "Nov"]);
        let decades = span("1971-11-25T00:00:00Z", "2026-11-25T00:00:00Z");
        assert_eq!(texts(decades, zone, 7), ["1980", "1990", "2000", "2010", "2020"]);
        let week = span("2026-05-19T00:00:00Z", "2026-05-24T00:00:00Z");
        assert_eq!(texts(week, zone, 5), ["May 19", "May 20", "May 21", "May 22", "May 23", "May 24"]);
        let instant = span("2026-05-19T00:00:00.001Z", "2026-05-19T00:00:00.002Z");
        assert_eq!(texts(instant, zone, 7).len(), 2);
        let point = span("2026-05-19T00:00:00Z", "2026-05-19T00:00:00Z");
        assert_eq!(texts(point, zone, 7), ["May 19"]);
    }

    #[test]
    fn a_zone_decides_what_is_round() {
        // Clocks go back at 01:00 UTC: from 03:00 to 02:00 in Berlin.
        let night = span("2026-10-24T20:00:00Z", "2026-10-25T08:00:00Z");
        let ticks = night.ticks(Tz::Europe__Berlin, 6);
        let told: Vec<String> = ticks.iter().map(|tick| tick.text.clone()).collect();
        assert_eq!(told, ["22:00", "Oct 25", "02:00", "04:00", "06:00", "08:00"]);
        let apart: Vec<i64> = ticks.windows(2).map(|pair| (pair[1].at - pair[0].at) / HOUR).collect();
        assert_eq!(apart, [2, 2, 3, 2, 2]);
        // And forward in spring: 02:00 is skipped.
        let night = span("2026-03-28T21:00:00Z", "2026-03-29T08:00:00Z");
        assert!(!texts(night, Tz::Europe__Berlin, 12).contains(&"02:00".to_owned()));
        assert_eq!(moment(Tz::Europe__Berlin, night.from, HOUR), "2026-03-28 22:00");
        assert_eq!(
            texts(span("2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"), Tz::Asia__Kolkata, 4),
            ["06:00", "07:00", "08:00"]
        );
    }

    #[test]
    fn ticks_are_ordered_within_and_not_too_many() {
        let mut dice = StdRng::seed_from_u64(3);
        for _ in 0..5_000 {
            let from = dice.random_range(0..4_000_000_000_000);
            let length = 10f64.powf(dice.random_range(0.0..14.3)) as i64;
            let span = Span { from, to: from + length };
            let most = dice.random_range(1..15);
            for zone in [Tz::UTC, Tz::America__New_York, Tz::Australia__Lord_Howe] {
                let ticks = span.ticks(zone, most);
                assert!(ticks.len() <= most + 1, "{span:?} {most}: {ticks:?}");
                assert!(ticks.windows(2).all(|pair| pair[0].at < pair[1].at), "{ticks:?}");
                assert!(ticks.iter().all(|tick| (span.from..=span.to).contains(&tick.at)), "{ticks:?}");
            }
        }
    }
}
