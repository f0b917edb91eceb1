//! Which pieces a candle is folded of: pure, so that a stream, a batch and a rebuild can't differ.
//!
//! A candle of a timeframe is made of the real bars of shorter timeframes, the longest of them where
//! they overlap, and of the observations that no such bar covers. Candles that were folded here are
//! no pieces of others: a day is folded of what its hours were folded of. Only where pieces were deleted
//! are they the better witnesses, so what they come to, with the pieces outside of them, is told beside.

use super::candle::Fold;
use super::{Bar, Stamp, Timeframe};

/// Folds the pieces of one coin, currency and timeframe, told in the order of their times, of two at
/// the same time the longer bar first and an observation last. Beside them it carries what is kept of
/// each interval (`K`): the candle that is stored.
#[derive(Debug, Clone)]
pub struct Roller<K> {
    timeframe: Timeframe,
    /// Up to here a real bar has told everything.
    covered: Stamp,
    /// The interval that pieces are in.
    open: Stamp,
    end: Stamp,
    fold: Option<Fold>,
    kept: Option<K>,
    /// The same of real bars and folded candles, and of observations outside of both; `None` without any.
    rolled_to: Stamp,
    rolled: Option<Fold>,
}

/// An interval that no more pieces are told of.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled<K> {
    pub open_time: Stamp,
    /// `None` where there was no piece.
    pub bar: Option<Bar>,
    pub kept: Option<K>,
    /// What the shorter candles come to, real ones and folded ones, with the observations outside of them.
    pub rolled: Option<Bar>,
}

impl<K> Roller<K> {
    pub fn new(timeframe: Timeframe) -> Self {
        let origin = Stamp::default();
        Roller {
            timeframe,
            covered: origin,
            open: origin,
            end: origin,
            fold: None,
            kept: None,
            rolled_to: origin,
            rolled: None,
        }
    }

    pub fn timeframe(&self) -> Timeframe {
        self.timeframe
    }

    /// Takes in an observation; the interval that is over by it, if one is.
    pub fn point(&mut self, at: Stamp, price: f64, market_cap: Option<f64>) -> Option<Settled<K>> {
        let settled = self.advance(at);
        if at >= self.covered {
            let fold = Fold::of(at, &Bar::of_price(price, market_cap));
            merge(&mut self.fold, &fold);
            self.witness(at, &fold);
        }
        settled
    }

    /// Takes in what the observations of an interval come to, or of some of them. No bar that is told of
    /// may be shorter than that interval: one that covers an observation of it covers all.
    pub fn points(&mut self, fold: &Fold) -> Option<Settled<K>> {
        let settled = self.advance(fold.opens());
        if fold.opens() >= self.covered {
            merge(&mut self.fold, fold);
            self.witness(fold.opens(), fold);
        }
        settled
    }

    /// Adds observations to what the shorter candles come to, if there are any and none covers them.
    fn witness(&mut self, at: Stamp, fold: &Fold) {
        if let Some(rolled) = &mut self.rolled
            && at >= self.rolled_to
        {
            rolled.merge(fold);
        }
    }

    /// Takes in a real bar. One that is not shorter than the timeframe is no piece of it, and one that
    /// does not open at a multiple of its length is no bar.
    pub fn bar(&mut self, timeframe: Timeframe, open_time: Stamp, bar: &Bar) -> Option<Settled<K>> {
        let settled = self.rolled(timeframe, open_time, bar);
        if self.is_part(timeframe, open_time) && open_time >= self.covered {
            self.covered = timeframe.end(open_time);
            self.take(open_time, bar);
        }
        settled
    }

    /// Takes in a candle that was folded here, which is no piece but tells of pieces that are gone.
    pub fn rolled(&mut self, timeframe: Timeframe, open_time: Stamp, bar: &Bar) -> Option<Settled<K>> {
        let settled = self.advance(open_time);
        if self.is_part(timeframe, open_time) && open_time >= self.rolled_to {
            self.rolled_to = timeframe.end(open_time);
            // With all that came before the first of them.
            self.rolled = self.rolled.take().or(self.fold);
            add(&mut self.rolled, open_time, bar);
        }
        settled
    }

    fn is_part(&self, timeframe: Timeframe, open_time: Stamp) -> bool {
        timeframe < self.timeframe && timeframe.floor(open_time) == open_time
    }

    /// Carries what is kept of the interval that opens then.
    pub fn keep(&mut self, open_time: Stamp, kept: K) -> Option<Settled<K>> {
        let settled = self.advance(open_time);
        self.kept = Some(kept);
        settled
    }

    /// The last interval.
    pub fn finish(&mut self) -> Option<Settled<K>> {
        let settled = self.settle();
        *self = Roller::new(self.timeframe);
        settled
    }

    fn advance(&mut self, at: Stamp) -> Option<Settled<K>> {
        if at < self.end {
            return None;
        }
        let settled = self.settle();
        self.open = self.timeframe.floor(at);
        self.end = self.timeframe.end(self.open);
        settled
    }

    fn settle(&mut self) -> Option<Settled<K>> {
        let (fold, kept, rolled) = (self.fold.take(), self.kept.take(), self.rolled.take());
        let is_known = fold.is_some() || kept.is_some() || rolled.is_some();
        let bar = |fold: Option<Fold>| fold.map(|fold| fold.bar());
        is_known.then(|| Settled { open_time: self.open, bar: bar(fold), kept, rolled: bar(rolled) })
    }

    fn take(&mut self, at: Stamp, bar: &Bar) {
        add(&mut self.fold, at, bar);
    }
}

fn add(fold: &mut Option<Fold>, at: Stamp, bar: &Bar) {
    merge(fold, &Fold::of(at, bar));
}

fn merge(fold: &mut Option<Fold>, piece: &Fold) {
    match fold {
        Some(fold) => fold.merge(piece),
        None => *fold = Some(*piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(millis: i64) -> Stamp {
        Stamp::from_millis(1_779_148_800_000 + millis).unwrap()
    }

    #[derive(Debug, Clone, Copy)]
    enum Piece {
        Bar(Timeframe, i64, Bar),
        Point(i64, f64),
    }

    impl Piece {
        fn order(&self) -> (i64, i64) {
            match self {
                Piece::Bar(timeframe, open, _) => (*open, -timeframe.seconds()),
                Piece::Point(at, _) => (*at, 0),
            }
        }
    }

    /// Pieces of two days: points, and bars of every length here and there.
    fn pieces(seed: u64) -> Vec<Piece> {
        let mut state = seed;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut pieces = Vec::new();
        for minute in 0..2 * 1440 {
            if next(3) == 0 {
                pieces.push(Piece::Point(minute * MINUTE + next(60_000) as i64, 1.0 + next(90) as f64));
            }
            for timeframe in Timeframe::ALL {
                if (minute * MINUTE) % timeframe.millis() == 0 && next(9) == 0 {
                    let (low, high) = (1.0 + next(40) as f64, 50.0 + next(40) as f64);
                    let volume = (next(3) > 0).then(|| next(9) as f64);
                    let bar = Bar { volume, ..Bar::new(low, high, low, high).unwrap() };
                    pieces.push(Piece::Bar(timeframe, minute * MINUTE, bar));
                }
            }
        }
        pieces.sort_by_key(Piece::order);
        pieces
    }

    fn rolled(timeframe: Timeframe, pieces: &[Piece]) -> Vec<(Stamp, Bar)> {
        let mut roller = Roller::<()>::new(timeframe);
        let mut settled = Vec::new();
        for piece in pieces {
            settled.extend(match piece {
                Piece::Bar(timeframe, open, bar) => roller.bar(*timeframe, at(*open), bar),
                Piece::Point(moment, price) => roller.point(at(*moment), *price, None),
            });
        }
        settled.extend(roller.finish());
        settled.into_iter().map(|settled| (settled.open_time, settled.bar.unwrap())).collect()
    }

    #[test]
    fn every_moment_is_told_once_by_the_longest_bar_that_knows_it() {
        for seed in 1..6 {
            let pieces = pieces(seed);
            for timeframe in Timeframe::ALL {
                // By the rule itself: what a longer real bar covers does not count.
                let counts = |piece: &&Piece| {
                    let (from, length) = match piece {
                        Piece::Bar(own, open, _) => (*open, *own),
                        Piece::Point(moment, _) => (*moment, Timeframe::M1),
                    };
                    let is_point = matches!(piece, Piece::Point(..));
                    let covers = |other: &Piece| match other {
                        Piece::Bar(other, open, _) => {
                            *other < timeframe
                                && (is_point || *other > length)
                                && (*open..*open + other.millis()).contains(&from)
                        }
                        Piece::Point(..) => false,
                    };
                    (is_point || length < timeframe) && !pieces.iter().any(covers)
                };
                let mut expected: Vec<(Stamp, Bar)> = Vec::new();
                let mut fold: Option<(Stamp, Fold)> = None;
                for piece in pieces.iter().filter(counts) {
                    let (moment, bar) = match piece {
                        Piece::Bar(_, open, bar) => (at(*open), *bar),
                        Piece::Point(moment, price) => (at(*moment), Bar::of_price(*price, None)),
                    };
                    let (open, piece) = (timeframe.floor(moment), Fold::of(moment, &bar));
                    match &mut fold {
                        Some((held, fold)) if *held == open => fold.merge(&piece),
                        _ => {
                            expected.extend(fold.map(|(open, fold)| (open, fold.bar())));
                            fold = Some((open, piece));
                        }
                    }
                }
                expected.extend(fold.map(|(open, fold)| (open, fold.bar())));
                let rolled = rolled(timeframe, &pieces);
                assert_eq!(rolled, expected, "{timeframe} {seed}");
                assert!(rolled.iter().all(|(open, bar)| timeframe.floor(*open) == *open && bar.checked().is_ok()));
            }
        }
    }

    #[test]
    fn parts_that_begin_with_an_interval_make_what_the_whole_makes() {
        let pieces = pieces(11);
        for timeframe in Timeframe::ALL {
            let whole = rolled(timeframe, &pieces);
            let (first, second): (Vec<Piece>, Vec<Piece>) =
                pieces.iter().partition(|piece| piece.order().0 < 1440 * MINUTE);
            let parts: Vec<_> = rolled(timeframe, &first).into_iter().chain(rolled(timeframe, &second)).collect();
            assert_eq!(whole, parts, "{timeframe}");
        }
    }

    #[test]
    fn observations_may_be_folded_before_by_the_shortest_length_there_is() {
        for seed in 21..26 {
            for unit in Timeframe::ALL {
                let is_long = |piece: &Piece| !matches!(piece, Piece::Bar(length, ..) if *length < unit);
                let pieces: Vec<Piece> = pieces(seed).into_iter().filter(is_long).collect();
                let longer: Vec<Timeframe> = Timeframe::ALL.into_iter().filter(|of| *of >= unit).collect();
                for timeframe in longer {
                    let mut roller = Roller::<()>::new(timeframe);
                    let (mut settled, mut folds) = (Vec::new(), std::collections::BTreeMap::new());
                    // In the order in which they came in, which is none; and one of them apart, as if it
                    // had come when the others were put aside.
                    for (number, piece) in pieces.iter().rev().enumerate() {
                        if let Piece::Point(moment, price) = piece {
                            let interval = (unit.floor(at(*moment)), number % 7 == 0);
                            add(folds.entry(interval).or_default(), at(*moment), &Bar::of_price(*price, None));
                        }
                    }
                    let mut folds: Vec<Fold> = folds.into_values().flatten().collect();
                    folds.sort_by_key(|fold| std::cmp::Reverse(fold.opens()));
                    for piece in &pieces {
                        let Piece::Bar(length, open, bar) = piece else { continue };
                        while let Some(fold) = folds.pop_if(|fold| fold.opens() < at(*open)) {
                            settled.extend(roller.points(&fold));
                        }
                        settled.extend(roller.bar(*length, at(*open), bar));
                    }
                    while let Some(fold) = folds.pop() {
                        settled.extend(roller.points(&fold));
                    }
                    settled.extend(roller.finish());
                    let settled: Vec<_> =
                        settled.into_iter().map(|settled| (settled.open_time, settled.bar.unwrap())).collect();
                    assert_eq!(settled, rolled(timeframe, &pieces), "{unit} {timeframe} {seed}");
                }
            }
        }
    }

    #[test]
    fn what_is_kept_settles_with_its_interval_or_alone() {
        let mut roller = Roller::new(Timeframe::H1);
        assert_eq!(roller.keep(at(0), 'a'), None);
        assert_eq!(roller.point(at(5), 2.0, Some(9.0)), None);
        let settled = roller.keep(at(60 * MINUTE), 'b').unwrap();
        let bar = settled.bar.unwrap();
        assert_eq!((settled.open_time, settled.kept), (at(0), Some('a')));
        assert_eq!((bar.open, bar.samples, bar.volume, bar.market_cap), (2.0, Some(1), None, Some(9.0)));
        // Nothing is known of the hours between.
        let settled = roller.point(at(240 * MINUTE), 3.0, None).unwrap();
        assert_eq!(settled, Settled { open_time: at(60 * MINUTE), bar: None, kept: Some('b'), rolled: None });
        assert_eq!(roller.finish().unwrap().open_time, at(240 * MINUTE));
        assert_eq!(roller.finish(), None);
    }

    #[test]
    fn folded_candles_are_no_pieces_and_are_told_beside() {
        let mut roller = Roller::<()>::new(Timeframe::D1);
        let bar = |price: f64, samples| Bar { samples, ..Bar::of_price(price, None) };
        // The hour knows what its minutes tell; the real bar covers the folded hour behind it; the last price
        // is outside of all.
        roller.rolled(Timeframe::H1, at(0), &bar(2.0, Some(60)));
        roller.rolled(Timeframe::M1, at(0), &bar(9.0, Some(1)));
        roller.bar(Timeframe::H6, at(360 * MINUTE), &bar(4.0, None));
        roller.rolled(Timeframe::H1, at(360 * MINUTE), &bar(9.0, Some(60)));
        roller.point(at(361 * MINUTE), 9.0, None);
        roller.point(at(900 * MINUTE), 5.0, None);
        let settled = roller.finish().unwrap();
        let told = |bar: Bar| (bar.open, bar.high, bar.close, bar.samples);
        assert_eq!(settled.bar.map(told), Some((4.0, 5.0, 5.0, Some(2))));
        assert_eq!(settled.rolled.map(told), Some((2.0, 5.0, 5.0, Some(62))));
        // A price before the first of them, and one within it.
        roller.point(at(59 * MINUTE), 1.0, None);
        roller.rolled(Timeframe::H1, at(60 * MINUTE), &bar(2.0, Some(60)));
        roller.point(at(61 * MINUTE), 9.0, None);
        assert_eq!(roller.finish().unwrap().rolled.map(told), Some((1.0, 2.0, 2.0, Some(61))));
        // They are enough for an interval to be told.
        roller.rolled(Timeframe::H1, at(0), &bar(2.0, Some(60)));
        assert_eq!(roller.finish().map(|settled| (settled.bar, settled.rolled.is_some())), Some((None, true)));
    }

    #[test]
    fn a_bar_that_opens_at_an_odd_time_is_none() {
        let mut roller = Roller::<()>::new(Timeframe::D1);
        let bar = Bar::new(1.0, 1.0, 1.0, 1.0).unwrap();
        assert_eq!(roller.bar(Timeframe::H1, at(30 * MINUTE), &bar), None);
        assert_eq!(roller.bar(Timeframe::D1, at(0), &bar), None);
        assert_eq!(roller.finish(), None);
    }
}
