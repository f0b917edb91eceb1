//! Stored observations and real bars into candles: `db::rollup::read` feeds, `domain::rollup` folds,
//! and whoever asks takes what an interval came to: `build` everything, `marked` what changed, `verify`
//! what is stored.
//!
//! Nothing is held but the intervals that pieces are in, so memory grows with nothing.

pub mod build;
mod changes;
pub mod marked;
#[cfg(feature = "postgres")]
mod unordered;
pub mod verify;

use std::sync::Arc;

use crate::db::candles::CandleRow;
use crate::db::rollup::read::{Candles, Reader};
use crate::db::rollup::{Feed, Point, ahead};
use crate::db::{DatabaseUrl, DbError};
use crate::domain::rollup::{Roller, Settled};
use crate::domain::{Bar, Candle, Origin, Stamp, Timeframe};

/// An interval of a coin in one currency, with the candle that is stored of it.
pub struct Interval<'a> {
    pub asset_id: i64,
    pub vs_currency: &'a Arc<str>,
    pub timeframe: Timeframe,
    pub settled: Settled<CandleRow>,
}

/// Who wants to know.
pub trait Taker {
    fn take(&mut self, interval: Interval<'_>) -> Result<(), DbError>;

    /// A coin is done, in all currencies; `points` were read of it since the last time.
    fn done(&mut self, _asset_id: i64, _points: usize) -> Result<(), DbError> {
        Ok(())
    }
}

/// Observations as they are told to whoever folds: one, or what some come to.
pub trait Piece {
    /// The coin and the currency.
    fn whose(&self) -> (i64, &Arc<str>);
    /// The first moment of it.
    fn at(&self) -> Stamp;
    fn tell<K>(&self, roller: &mut Roller<K>) -> Option<Settled<K>>;
}

impl Piece for Point {
    fn whose(&self) -> (i64, &Arc<str>) {
        (self.asset_id, &self.vs_currency)
    }

    fn at(&self) -> Stamp {
        self.at
    }

    fn tell<K>(&self, roller: &mut Roller<K>) -> Option<Settled<K>> {
        roller.point(self.at, self.price, self.market_cap)
    }
}

/// Folds all that is stored of the coins behind one.
fn fold_all(
    url: &DatabaseUrl,
    reader: &Reader,
    timeframes: &[Timeframe],
    after_asset: i64,
    taker: &mut dyn Taker,
) -> Result<(), DbError> {
    let mut candles = Candles::of_all(reader, &read_for(timeframes), after_asset);
    #[cfg(feature = "postgres")]
    if url.backend() == crate::db::Backend::Postgres {
        use crate::db::rollup::{read, stream};

        // Its rows lie in the order they came in, and to sort them takes longer than all the rest: here
        // only what they come to is sorted. A bar that is no longer than an interval tells all of it or
        // nothing.
        let shortest = timeframes.iter().min().copied().unwrap_or(Timeframe::M1);
        let shorter: Vec<Timeframe> = Timeframe::ALL.into_iter().filter(|of| *of < shortest).collect();
        let unit = read::shortest_real(reader, &shorter)?.unwrap_or(shortest);
        return match stream::as_they_lie(url, after_asset, |points| unordered::in_order(points, unit))? {
            Some(mut parts) => fold(timeframes, &mut parts, &mut candles, taker),
            None => stream::by_key(url, after_asset, |points| fold(timeframes, points, &mut candles, taker)),
        };
    }
    ahead::with_points(url, after_asset, |points| fold(timeframes, points, &mut candles, taker))
}

/// Folds two feeds into candles of some timeframes. Both are in the order of coin, currency (byte by
/// byte) and time; of candles that open at the same time the longest comes first.
pub fn fold<P: Piece>(
    timeframes: &[Timeframe],
    points: &mut dyn Feed<P>,
    candles: &mut dyn Feed<CandleRow>,
    taker: &mut dyn Taker,
) -> Result<(), DbError> {
    let mut rollers: Vec<Roller<CandleRow>> = timeframes.iter().map(|timeframe| Roller::new(*timeframe)).collect();
    let (mut point, mut candle) = (points.next()?, candles.next()?);
    loop {
        let of_point = point.as_ref().map(Piece::whose);
        let of_candle = candle.as_ref().map(|candle| (candle.asset_id, &candle.vs_currency));
        let Some((asset_id, vs_currency)) = of_point.into_iter().chain(of_candle).min() else { break };
        let vs_currency = vs_currency.clone();
        let mut count = 0;
        loop {
            let is_ours = |id: i64, vs: &Arc<str>| id == asset_id && *vs == vs_currency;
            let next_point = point.as_ref().filter(|point| is_ours(point.whose().0, point.whose().1));
            let next_candle = candle.as_ref().filter(|candle| is_ours(candle.asset_id, &candle.vs_currency));
            let candle_first = match (next_point, next_candle) {
                (None, None) => break,
                (Some(point), Some(candle)) => candle.candle.open_time <= point.at(),
                (point, _) => point.is_none(),
            };
            if candle_first && let Some(row) = candle.take() {
                candle = candles.next()?;
                for roller in &mut rollers {
                    let timeframe = roller.timeframe();
                    let Candle { open_time, bar, origin, is_final, .. } = &row.candle;
                    let settled = if row.candle.timeframe == timeframe {
                        roller.keep(*open_time, row.clone())
                    } else if !is_final {
                        // It tells less than the prices of its time, and would hide those that came after it.
                        None
                    } else if *origin != Origin::Rollup {
                        roller.bar(row.candle.timeframe, *open_time, bar)
                    } else {
                        roller.rolled(row.candle.timeframe, *open_time, bar)
                    };
                    if let Some(settled) = settled {
                        taker.take(Interval { asset_id, vs_currency: &vs_currency, timeframe, settled })?;
                    }
                }
            } else if let Some(piece) = &point {
                count += 1;
                for roller in &mut rollers {
                    if let Some(settled) = piece.tell(roller) {
                        let timeframe = roller.timeframe();
                        taker.take(Interval { asset_id, vs_currency: &vs_currency, timeframe, settled })?;
                    }
                }
                point = points.next()?;
            }
        }
        for roller in &mut rollers {
            if let Some(settled) = roller.finish() {
                let timeframe = roller.timeframe();
                taker.take(Interval { asset_id, vs_currency: &vs_currency, timeframe, settled })?;
            }
        }
        let next = [point.as_ref().map(|point| point.whose().0), candle.as_ref().map(|candle| candle.asset_id)];
        if next.into_iter().flatten().all(|next| next != asset_id) {
            taker.done(asset_id, count)?;
        }
    }
    Ok(())
}

/// What is to become of the stored candle of an interval.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is right, or not ours to judge.
    Keep,
    /// It is to be this one.
    Write(Candle),
    /// It would be this one, if `longer_knows_more` does not deny it.
    Perhaps(Candle),
    /// Nothing is known of the interval any more, and nothing is invented.
    Delete,
}

/// Compares an interval with the candle that is stored of it. Of coins whose older observations are
/// not here, because they were pruned or only what was folded of them was imported, that candle counts
/// which was made of most: the stored one, what is left, or what shorter ones come to.
pub fn judge(timeframe: Timeframe, settled: &Settled<CandleRow>, now: Stamp, pruned: Option<Stamp>) -> Verdict {
    let Settled { open_time, bar, kept, rolled } = settled;
    let stored = kept.as_ref().map(|row| row.candle);
    if stored.is_some_and(|stored| stored.origin != Origin::Rollup) {
        return Verdict::Keep;
    }
    let candle = |bar: Bar| {
        let is_final = timeframe.end(*open_time) <= now;
        Candle { timeframe, open_time: *open_time, bar, origin: Origin::Rollup, is_final }
    };
    let samples = |bar: &Bar| bar.samples.unwrap_or(0);
    let left = bar.as_ref().map_or(0, samples);
    let is_pruned = pruned.is_some_and(|before| *open_time < before);
    match (bar.map(candle), stored) {
        (left_over, None) if is_pruned => match rolled.filter(|rolled| samples(rolled) >= left) {
            Some(rolled) => Verdict::Write(candle(rolled)),
            None => left_over.map_or(Verdict::Keep, Verdict::Perhaps),
        },
        (None, None) => Verdict::Keep,
        (Some(candle), None) => Verdict::Write(candle),
        (left_over, Some(stored)) => {
            let of_shorter = rolled.filter(|rolled| is_pruned && samples(rolled) > left).map(candle);
            let best = of_shorter.or(left_over);
            if is_pruned && best.is_none_or(|best| samples(&best.bar) <= samples(&stored.bar)) {
                return Verdict::Keep;
            }
            match best {
                None => Verdict::Delete,
                Some(best) if best == stored => Verdict::Keep,
                Some(best) => Verdict::Write(best),
            }
        }
    }
}

/// The timeframes of the candles that these are folded of, or compared with.
fn read_for(timeframes: &[Timeframe]) -> Vec<Timeframe> {
    let longest = timeframes.iter().max().copied();
    Timeframe::ALL.into_iter().filter(|of| Some(*of) < longest || timeframes.contains(of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Stamp {
        Stamp::from_millis(1_779_148_800_000 + minute * 60_000).unwrap()
    }

    fn row(asset_id: i64, timeframe: Timeframe, minute: i64, origin: Origin, price: f64) -> CandleRow {
        let bar = Bar { samples: Some(3), ..Bar::of_price(price, None) };
        let candle = Candle { timeframe, open_time: at(minute), bar, origin, is_final: true };
        CandleRow { asset_id, vs_currency: "usd".into(), candle }
    }

    fn point(asset_id: i64, vs: &str, minute: i64, price: f64) -> Point {
        Point { asset_id, vs_currency: vs.into(), at: at(minute), price, market_cap: None }
    }

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Taker for Seen {
        fn take(&mut self, interval: Interval<'_>) -> Result<(), DbError> {
            let Settled { open_time, bar, kept, .. } = &interval.settled;
            let close = bar.map_or("-".to_owned(), |bar| bar.close.to_string());
            let kept = kept.as_ref().map_or("-".to_owned(), |kept| kept.candle.bar.close.to_string());
            let (id, vs, timeframe) = (interval.asset_id, interval.vs_currency, interval.timeframe);
            self.0.push(format!("{id} {vs} {timeframe} {} {close} {kept}", &open_time.to_string()[8..13]));
            Ok(())
        }

        fn done(&mut self, asset_id: i64, _points: usize) -> Result<(), DbError> {
            self.0.push(format!("{asset_id} done"));
            Ok(())
        }
    }

    #[test]
    fn feeds_meet_coin_by_coin_and_currency_by_currency() {
        let points =
            [point(1, "eur", 0, 1.0), point(1, "usd", 0, 2.0), point(1, "usd", 70, 3.0), point(3, "usd", 0, 4.0)];
        let candles = [
            row(1, Timeframe::H1, 0, Origin::Rollup, 20.0),
            row(1, Timeframe::M15, 75, Origin::Source, 30.0),
            row(2, Timeframe::H1, 120, Origin::Source, 50.0),
            row(3, Timeframe::D1, 0, Origin::Source, 40.0),
        ];
        let mut seen = Seen::default();
        let timeframes = [Timeframe::H1, Timeframe::D1];
        fold(&timeframes, &mut points.into_iter(), &mut candles.into_iter(), &mut seen).unwrap();
        assert_eq!(
            seen.0,
            [
                "1 eur 1h 19 00 1 -",
                "1 eur 1d 19 00 1 -",
                "1 usd 1h 19 00 2 20",
                "1 usd 1h 19 01 30 -",
                "1 usd 1d 19 00 30 -",
                "1 done",
                "2 usd 1h 19 02 - 50",
                "2 usd 1d 19 00 50 -",
                "2 done",
                "3 usd 1h 19 00 4 -",
                "3 usd 1d 19 00 4 40",
                "3 done",
            ]
        );
    }

    #[test]
    fn the_stored_candle_is_judged() {
        let judge_with = |bar, kept: Option<CandleRow>, now: i64, pruned: Option<Stamp>, rolled| {
            let settled = Settled { open_time: at(0), bar, kept, rolled };
            super::judge(Timeframe::H1, &settled, at(now), pruned)
        };
        let judge = |bar: Option<Bar>, kept: Option<CandleRow>, now: i64, pruned: Option<Stamp>| {
            judge_with(bar, kept, now, pruned, None)
        };
        let bar = |price: f64| Bar { samples: Some(3), ..Bar::of_price(price, None) };
        let ours = || Some(row(1, Timeframe::H1, 0, Origin::Rollup, 1.0));
        let real = || Some(row(1, Timeframe::H1, 0, Origin::Archive, 1.0));
        let written = |verdict: Verdict| match verdict {
            Verdict::Write(candle) => (candle.bar.close, candle.is_final, candle.origin),
            other => panic!("{other:?}"),
        };
        assert_eq!(written(judge(Some(bar(2.0)), None, 60, None)), (2.0, true, Origin::Rollup));
        assert_eq!(written(judge(Some(bar(1.0)), ours(), 59, None)), (1.0, false, Origin::Rollup));
        assert_eq!(judge(Some(bar(1.0)), ours(), 60, None), Verdict::Keep);
        assert_eq!(judge(Some(bar(2.0)), real(), 60, None), Verdict::Keep);
        assert_eq!(judge(None, real(), 60, None), Verdict::Keep);
        assert_eq!(judge(None, ours(), 60, None), Verdict::Delete);
        // What was pruned can't be folded again.
        let (before, behind) = (Some(at(0)), Some(at(1)));
        assert_eq!(judge(None, ours(), 60, behind), Verdict::Keep);
        assert_eq!(judge(Some(bar(2.0)), ours(), 60, behind), Verdict::Keep);
        assert_eq!(judge(None, ours(), 60, before), Verdict::Delete);
        let more = Bar { samples: Some(4), ..bar(2.0) };
        assert_eq!(written(judge(Some(more), ours(), 60, behind)).0, 2.0);
        // What is missing is folded of shorter candles that tell more, where something was pruned.
        let rolled = |samples| Some(Bar { samples: Some(samples), ..Bar::of_price(5.0, None) });
        assert_eq!(written(judge_with(Some(bar(2.0)), None, 60, behind, rolled(3))).0, 5.0);
        assert_eq!(written(judge_with(None, None, 60, behind, rolled(3))).0, 5.0);
        assert!(matches!(judge_with(Some(bar(2.0)), None, 60, behind, rolled(2)), Verdict::Perhaps(_)));
        assert!(matches!(judge(Some(bar(2.0)), None, 60, behind), Verdict::Perhaps(_)));
        assert_eq!(written(judge_with(Some(bar(2.0)), None, 60, before, rolled(9))).0, 2.0);
        // What is stored goes on with shorter ones that came later, until what is left tells as much.
        assert_eq!(written(judge_with(Some(bar(2.0)), ours(), 60, behind, rolled(4))).0, 5.0);
        assert_eq!(judge_with(Some(bar(2.0)), ours(), 60, behind, rolled(3)), Verdict::Keep);
        assert_eq!(written(judge_with(Some(more), ours(), 60, behind, rolled(4))).0, 2.0);
        assert_eq!(judge_with(None, ours(), 60, before, rolled(4)), Verdict::Delete);
        assert_eq!(judge_with(None, None, 60, None, rolled(9)), Verdict::Keep);
    }
}
