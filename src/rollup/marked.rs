//! Candles of what changed: the coins of each marked day are folded once more, in ascending id, and
//! each transaction takes away the part of the marks that it has done.

use std::cell::RefCell;
use std::sync::Arc;

use super::changes::Changes;
use super::{Interval, Taker, fold, read_for};
use crate::db::rollup::marks::{self, Mark, Segment};
use crate::db::rollup::read::{self, Points, Reader, Span};
use crate::db::rollup::state::{self, Pruned};
use crate::db::{Absent, DatabaseUrl, DbError, RawSqlite, Session, clock, open};
use crate::domain::{Stamp, Timeframe};

/// Marks of a day that are read at a time.
const MARKS: usize = 10_000;
/// Coins a transaction, each day of one counted: it begins with few, and takes as many as come to so
/// many rows.
const FEWEST: i64 = 32;
const MOST: i64 = 1_000;
const ROWS: i64 = 30_000;

/// Folds what is marked, day by day. What is marked meanwhile may be left for the next time.
pub fn fold_marked(session: &mut Session, url: &DatabaseUrl) -> Result<(), DbError> {
    let timeframes: Vec<Timeframe> = state::kept(session.conn())?.iter().map(|kept| kept.timeframe).collect();
    if timeframes.is_empty() || marks::next_day(session.conn(), None)?.is_none() {
        return Ok(());
    }
    let reader = RefCell::new(open(url, Absent::Fail)?);
    let mut work =
        Work { timeframes, pruned: Pruned::default(), reader, coins: FEWEST, parts: Vec::new(), is_again: true };
    while std::mem::take(&mut work.is_again) {
        work.all_days(session)?;
    }
    Ok(())
}

struct Work {
    timeframes: Vec<Timeframe>,
    pruned: Pruned,
    reader: Reader,
    /// How many coins the next transaction takes.
    coins: i64,
    /// What it takes so far.
    parts: Vec<Part>,
    /// Longer candles are to be made of what was written.
    is_again: bool,
}

/// Some coins of a day, and their marks.
struct Part {
    day: Stamp,
    vs_currency: Arc<str>,
    segments: Vec<Segment>,
    marks: Vec<Mark>,
    /// What is left of marks that go on behind these coins.
    rest: Vec<Mark>,
}

impl Work {
    fn all_days(&mut self, session: &mut Session) -> Result<(), DbError> {
        let mut next = marks::next_day(session.conn(), None)?;
        while let Some((day, vs_currency)) = next {
            let vs_currency: Arc<str> = vs_currency.into();
            loop {
                let marks = marks::of_day(session.conn(), day, &vs_currency, MARKS as i64)?;
                let are_all = marks.len() < MARKS;
                self.day(session, day, &vs_currency, marks)?;
                if are_all {
                    break;
                }
                self.flush(session)?;
            }
            next = marks::next_day(session.conn(), Some((day, &vs_currency)))?;
        }
        self.flush(session)
    }

    fn day(
        &mut self,
        session: &mut Session,
        day: Stamp,
        vs_currency: &Arc<str>,
        mut marks: Vec<Mark>,
    ) -> Result<(), DbError> {
        let mut left = marks::segments(&marks);
        left.reverse();
        while !left.is_empty() {
            let segments = next_part(&mut left, self.coins - self.queued());
            let Some(last) = segments.last().map(|segment| segment.last) else { break };
            let (done, later): (Vec<Mark>, Vec<Mark>) = marks.into_iter().partition(|mark| mark.first <= last);
            let behind = |mark: &Mark| Mark { first: last + 1, ..mark.clone() };
            let mut rest: Vec<Mark> = done.iter().filter(|mark| mark.last > last).map(behind).collect();
            rest.sort();
            rest.dedup();
            marks = later;
            marks.extend(rest.iter().cloned());
            self.parts.push(Part { day, vs_currency: vs_currency.clone(), segments, marks: done, rest });
            if self.queued() >= self.coins {
                self.flush(session)?;
            }
        }
        Ok(())
    }

    fn queued(&self) -> i64 {
        let segments = self.parts.iter().flat_map(|part| &part.segments);
        segments.map(|segment| segment.last - segment.first + 1).sum()
    }

    /// Folds what is taken, in one transaction.
    fn flush(&mut self, session: &mut Session) -> Result<(), DbError> {
        let coins = self.queued();
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return Ok(());
        }
        let (rows, is_again) = session.batch(|batch| {
            // The marks first: what is read afterwards holds all that they tell of.
            for part in &parts {
                marks::take(batch, &part.marks)?;
                marks::add(batch, &part.rest)?;
            }
            let now = clock::now(batch.conn)?;
            self.pruned.refresh(&mut self.reader.borrow_mut().conn)?;
            let (mut changes, mut rows) = (Changes::default(), 0);
            for part in &parts {
                for segment in &part.segments {
                    rows += self.fold(batch.raw, part.day, &part.vs_currency, segment, &mut changes)?;
                }
            }
            let is_again = changes.write(batch, now, &mut self.pruned, &self.reader)?;
            Ok((rows, is_again))
        })?;
        self.is_again |= is_again;
        self.coins = (coins * ROWS / (rows.max(1) as i64)).clamp(1, (self.coins * 4).min(MOST));
        Ok(())
    }

    /// Folds what is touched of some coins' day; how many rows were read for it.
    fn fold(
        &self,
        writer: Option<&RawSqlite>,
        day: Stamp,
        vs_currency: &Arc<str>,
        segment: &Segment,
        changes: &mut Changes,
    ) -> Result<usize, DbError> {
        let hour = |number: u32| day.plus(i64::from(number) * Timeframe::H1.millis());
        let (first, end) = (hour(segment.hours.trailing_zeros()), hour(32 - segment.hours.leading_zeros()));
        let mut touched: Vec<(Timeframe, Stamp, Stamp)> =
            self.timeframes.iter().map(|timeframe| (*timeframe, timeframe.floor(first), timeframe.ceil(end))).collect();
        let span = Span {
            first: segment.first,
            last: segment.last,
            vs_currency: vs_currency.clone(),
            from: touched.iter().map(|(_, from, _)| *from).min().unwrap_or(first),
            to: touched.iter().map(|(.., to)| *to).max().unwrap_or(end),
        };
        if self.pruned.reaches(span.from) {
            // Where observations are gone, shorter candles tell of them, all over the longest interval.
            touched.iter_mut().for_each(|(_, from, to)| (*from, *to) = (span.from, span.to));
        }
        let longest = self.timeframes.iter().max().copied();
        let pieces: Vec<Timeframe> =
            read_for(&self.timeframes).into_iter().filter(|timeframe| Some(*timeframe) < longest).collect();
        let candles = read::candles(&self.reader, writer, &span, &pieces, &touched)?;
        let count = candles.len();
        let mut points = Points::of(&self.reader, span);
        let mut taker = Touched { hours: segment.hours, changes };
        fold(&self.timeframes, &mut points, &mut candles.into_iter(), &mut taker)?;
        Ok(count + points.count)
    }
}

/// The next coins, no more than so many.
fn next_part(segments: &mut Vec<Segment>, mut coins: i64) -> Vec<Segment> {
    let mut part = Vec::new();
    while coins > 0
        && let Some(mut segment) = segments.pop()
    {
        let last = segment.last.min(segment.first + coins - 1);
        if last < segment.last {
            segments.push(Segment { first: last + 1, ..segment });
            segment.last = last;
        }
        coins -= segment.last - segment.first + 1;
        part.push(segment);
    }
    part
}

/// Takes the intervals that a change may have touched.
struct Touched<'a> {
    hours: u32,
    changes: &'a mut Changes,
}

impl Taker for Touched<'_> {
    fn take(&mut self, interval: Interval<'_>) -> Result<(), DbError> {
        if hours_of(interval.timeframe, interval.settled.open_time) & self.hours != 0 {
            self.changes.note(interval);
        }
        Ok(())
    }
}

/// The hours of its day that an interval lies in: a bit for each.
fn hours_of(timeframe: Timeframe, open_time: Stamp) -> u32 {
    let hour = Timeframe::H1.millis();
    let first = (open_time.millis() / hour).rem_euclid(24);
    let count = (timeframe.millis() / hour).max(1);
    (((1_u64 << count) - 1) << first) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_in_its_hours() {
        let at =
            |hour: i64, minute: i64| Stamp::from_millis(1_779_148_800_000 + (hour * 60 + minute) * 60_000).unwrap();
        assert_eq!(hours_of(Timeframe::D1, at(0, 0)), (1 << 24) - 1);
        assert_eq!(hours_of(Timeframe::H6, at(18, 0)), 0b111111 << 18);
        assert_eq!(hours_of(Timeframe::H1, at(23, 0)), 1 << 23);
        assert_eq!(hours_of(Timeframe::M5, at(5, 55)), 1 << 5);
    }

    #[test]
    fn parts_hold_every_coin_once() {
        let segment = |first, last| Segment { first, last, hours: 1 };
        for coins in [1, 3, 7, 100] {
            let mut segments = vec![segment(30, 30), segment(20, 29), segment(1, 9)];
            let mut seen = Vec::new();
            while !segments.is_empty() {
                let part = next_part(&mut segments, coins);
                let ids: Vec<i64> = part.iter().flat_map(|segment| segment.first..=segment.last).collect();
                assert!(ids.len() as i64 <= coins);
                seen.extend(ids);
            }
            assert_eq!(seen, (1..=9).chain(20..=30).collect::<Vec<_>>());
        }
    }
}
