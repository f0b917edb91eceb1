//! What a vendor tells of the past: which calls to make for which timeframe, and how to read an answer.
//!
//! A vendor has real bars, which become candles, or single points of a chart, which are observations and
//! become prices; candles are folded of those elsewhere. Pure: bytes in, candles or prices out, and for
//! each interval of the window what is known of it now.

use crate::domain::coverage::{join, without};
use crate::domain::{Bar, Candle, Figures, Origin, Range, Reject, Span, Stamp, State, Timeframe};

use super::{Access, Request};

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Open, high, low and close of an interval.
    Bars,
    /// Single observations at times of their own.
    Points,
}

/// How a timeframe can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub kind: Kind,
    /// The longest window that one call answers, in milliseconds: whole candles.
    pub window: i64,
    /// How far back the plan may look; `None` = as far as there is anything, or nobody knows.
    pub wall: Option<Wall>,
    /// So long after its end an interval may still change, in milliseconds.
    pub settles: i64,
}

/// The end of what a plan may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// Back from now, in milliseconds.
    pub reach: i64,
    pub why: &'static str,
}

impl Offer {
    /// The first candle that can be asked for now. A call that takes a while must still be in reach.
    pub fn first_in_reach(&self, timeframe: Timeframe, now: Stamp) -> Stamp {
        // To the minute: seconds that a call takes more don't move the wall by a whole candle.
        self.wall.map_or(Stamp::FIRST, |wall| timeframe.ceil(Timeframe::M1.floor(now).plus(-wall.reach)))
    }

    /// Candles before this are over and won't change any more.
    pub fn settled_until(&self, timeframe: Timeframe, now: Stamp) -> Stamp {
        timeframe.floor(now.plus(-self.settles))
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The source's id of the coin.
    pub coin: &'a str,
    pub vs_currency: &'a str,
    pub timeframe: Timeframe,
    /// Whole candles, at most [`Offer::window`].
    pub window: Range,
    /// Nothing before this may be asked for.
    pub reachable: Stamp,
}

/// A vendor's past.
pub trait History: Send + Sync {
    /// How a timeframe can be had with this access; why not.
    fn offer(&self, access: &Access, timeframe: Timeframe) -> Result<Offer, String>;

    fn request(&self, access: &Access, ask: &Ask<'_>) -> Request;

    /// Reads one record of an answer.
    fn read(&self, record: &[u8], ask: &Ask<'_>, found: &mut Found);

    /// Whether the message of a 404 says that there is no such coin, or not in this currency: not that
    /// the address is wrong.
    fn is_of_no_coin(&self, message: &str) -> bool;

    /// Whether the code of a refusal says that the plan does not look back so far.
    fn is_beyond_the_wall(&self, _code: Option<i64>) -> bool {
        false
    }

    /// What it means when there is nothing of an interval.
    fn why_empty(&self, timeframe: Timeframe) -> &'static str;
}

/// What the records of an answer hold, in any order, also beside the window.
#[derive(Debug, Default)]
pub struct Found {
    pub bars: Vec<(Stamp, Bar)>,
    pub points: Vec<(Stamp, Figures)>,
    /// Unusable records, with their time where they still tell it.
    pub rejected: Vec<(Option<Stamp>, Reject)>,
}

/// An answer put in order.
#[derive(Debug, Default, PartialEq)]
pub struct Haul {
    pub candles: Vec<Candle>,
    pub points: Vec<(Stamp, Figures)>,
    pub rejected: Vec<Reject>,
    /// What is known of the window now, as far as it is over: in order, without overlap.
    pub spans: Vec<Span>,
}

impl Haul {
    /// How many candles the source has not.
    pub fn absent(&self, timeframe: Timeframe) -> i64 {
        let empty = self.spans.iter().filter(|span| span.state == State::Empty);
        empty.map(|span| span.range.candles(timeframe)).sum()
    }
}

/// Why a record that could not be used leaves a hole.
const REJECTED: &str = "the source's record could not be used; see dead_letters";

/// Sorts an answer: what is beside the window is left out, of two with one time the later counts, and
/// what is not over yet is not final. `settled` = where that begins.
pub fn sort_out(found: Found, ask: &Ask<'_>, nothing: &str, settled: Stamp) -> Haul {
    let Ask { timeframe, window, .. } = *ask;
    let Found { mut bars, mut points, rejected } = found;
    bars.retain(|(time, _)| window.contains(*time));
    keep_last_of_each(&mut bars);
    points.retain(|(time, _)| window.contains(*time));
    keep_last_of_each(&mut points);
    let candle = |(open_time, bar)| {
        let is_final = timeframe.end(open_time) <= settled;
        Candle { timeframe, open_time, bar, origin: Origin::Source, is_final }
    };
    let candles: Vec<Candle> = bars.into_iter().map(candle).collect();

    let is_price = |(_, figures): &&(Stamp, Figures)| figures.get(crate::domain::Column::Price).is_some();
    let told = candles.iter().map(|candle| candle.open_time);
    let told = told.chain(points.iter().filter(is_price).map(|(time, _)| timeframe.floor(*time)));
    let mut full: Vec<Stamp> = told.collect();
    full.dedup();
    let broken = |time: &Stamp| full.binary_search(time).is_err();
    let mut missing: Vec<Stamp> = rejected.iter().filter_map(|(time, _)| *time).map(|t| timeframe.floor(t)).collect();
    missing.retain(|time| window.contains(*time) && broken(time));
    missing.sort();
    missing.dedup();
    // A record that does not even tell its time may be of any interval that nothing else was said of.
    let any_lost = rejected.iter().any(|(time, _)| time.is_none());

    let of = |time: &Stamp, state, reason: Option<&str>| {
        let range = Range { from: *time, to: timeframe.end(*time) };
        Span { range, state, reason: reason.map(str::to_owned) }
    };
    let mut spans: Vec<Span> = full.iter().map(|time| of(time, State::Full, None)).collect();
    spans.extend(missing.iter().map(|time| of(time, State::Missing, Some(REJECTED))));
    spans.sort_by_key(|span| span.range);
    let (state, reason) = if any_lost { (State::Missing, REJECTED) } else { (State::Empty, nothing) };
    let rest = without(window, spans.iter().map(|span| span.range).collect::<Vec<_>>());
    spans.extend(rest.into_iter().map(|range| Span { range, state, reason: Some(reason.to_owned()) }));
    spans.sort_by_key(|span| span.range);
    let over = Range { from: window.from, to: settled.min(window.to) };
    spans.retain_mut(|span| match span.range.and(over) {
        Some(range) => {
            span.range = range;
            true
        }
        None => false,
    });
    let of_window =
        |(time, _): &(Option<Stamp>, Reject)| time.is_none_or(|time| window.contains(timeframe.floor(time)));
    let rejected = rejected.into_iter().filter(of_window).map(|(_, reject)| reject).collect();
    Haul { candles, points, rejected, spans: join(spans) }
}

fn keep_last_of_each<T>(rows: &mut Vec<(Stamp, T)>) {
    // Stable, so that of equal times the one that came later is behind.
    rows.sort_by_key(|(time, _)| *time);
    rows.reverse();
    rows.dedup_by_key(|(time, _)| *time);
    rows.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Column;

    fn at(minute: i64) -> Stamp {
        Stamp::from_millis(minute * 60_000).unwrap()
    }

    fn range(from: i64, to: i64) -> Range {
        Range::new(at(from), at(to)).unwrap()
    }

    fn ask(from: i64, to: i64) -> Ask<'static> {
        Ask {
            coin: "a",
            vs_currency: "usd",
            timeframe: Timeframe::M1,
            window: range(from, to),
            reachable: Stamp::FIRST,
        }
    }

    fn bar(close: f64) -> Bar {
        Bar::new(1.0, 9.0, 0.5, close).unwrap()
    }

    fn reject() -> Reject {
        Reject { source_id: None, payload: "[]".into(), reason: "x".into() }
    }

    fn shown(haul: &Haul) -> Vec<(i64, i64, &'static str)> {
        let minute = |time: Stamp| time.millis() / 60_000;
        haul.spans.iter().map(|span| (minute(span.range.from), minute(span.range.to), span.state.name())).collect()
    }

    #[test]
    fn bars_are_sorted_cut_to_the_window_and_final_when_they_are_over() {
        let found = Found {
            bars: vec![
                (at(14), bar(1.0)),
                (at(12), bar(2.0)),
                (at(9), bar(3.0)),
                (at(12), bar(4.0)),
                (at(15), bar(5.0)),
            ],
            ..Found::default()
        };
        let haul = sort_out(found, &ask(10, 15), "nothing was traded", at(14));
        let rows: Vec<(i64, f64, bool)> = haul
            .candles
            .iter()
            .map(|candle| (candle.open_time.millis() / 60_000, candle.bar.close, candle.is_final))
            .collect();
        assert_eq!(rows, [(12, 4.0, true), (14, 1.0, false)]);
        // The one that is not over is asked for again.
        assert_eq!(shown(&haul), [(10, 12, "empty"), (12, 13, "full"), (13, 14, "empty")]);
        assert_eq!(haul.spans[0].reason.as_deref(), Some("nothing was traded"));
        assert_eq!(haul.absent(Timeframe::M1), 3);
    }

    #[test]
    fn an_unusable_record_leaves_a_hole_that_is_asked_for_again() {
        let found = Found {
            bars: vec![(at(10), bar(1.0))],
            rejected: vec![(Some(at(12)), reject()), (Some(at(40)), reject()), (Some(at(10)), reject())],
            ..Found::default()
        };
        let haul = sort_out(found, &ask(10, 15), "", at(20));
        assert_eq!(shown(&haul), [(10, 11, "full"), (11, 12, "empty"), (12, 13, "missing"), (13, 15, "empty")]);
        assert_eq!(haul.rejected.len(), 2);
        // One without a time may be of any of the others.
        let found = Found { bars: vec![(at(10), bar(1.0))], rejected: vec![(None, reject())], ..Found::default() };
        assert_eq!(shown(&sort_out(found, &ask(10, 15), "", at(20))), [(10, 11, "full"), (11, 15, "missing")]);
    }

    #[test]
    fn points_say_which_intervals_have_any() {
        let figures = |price: Option<f64>| {
            let mut figures = Figures::default();
            figures.set(Column::Price, price).unwrap();
            figures
        };
        let points = [(11, 20, Some(1.0)), (10, 30, Some(2.0)), (10, 30, Some(3.0)), (13, 0, None), (15, 0, Some(1.0))];
        let point = |(minute, second, price): (i64, i64, Option<f64>)| (at(minute).plus(second * 1000), figures(price));
        let found = Found { points: points.into_iter().map(point).collect(), ..Found::default() };
        let haul = sort_out(found, &ask(10, 15), "no point", at(99));
        assert_eq!(haul.points.len(), 3);
        assert_eq!(haul.points[0].1.get(Column::Price), Some(3.0));
        assert_eq!(shown(&haul), [(10, 12, "full"), (12, 15, "empty")]);
        let empty = sort_out(Found::default(), &ask(10, 15), "no point", at(99));
        assert_eq!(shown(&empty), [(10, 15, "empty")]);
    }

    #[test]
    fn a_plan_reaches_as_far_as_whole_candles_go() {
        let wall = Some(Wall { reach: 365 * 86_400_000, why: "" });
        let offer = Offer { kind: Kind::Points, window: 1, wall, settles: 45 * 60_000 };
        let now = Stamp::parse("2026-06-01T10:20:00Z").unwrap();
        assert_eq!(offer.first_in_reach(Timeframe::D1, now).to_string(), "2025-06-02 00:00:00.000");
        assert_eq!(offer.settled_until(Timeframe::H1, now).to_string(), "2026-06-01 09:00:00.000");
        assert_eq!(offer.settled_until(Timeframe::D1, now).to_string(), "2026-06-01 00:00:00.000");
        assert_eq!(Offer { wall: None, ..offer }.first_in_reach(Timeframe::D1, now), Stamp::FIRST);
    }
}
