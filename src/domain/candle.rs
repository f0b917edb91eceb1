//! Candles, and the one fold that makes them: of observations, of finer candles, of both.

use super::{Stamp, Timeframe};

/// Open, high, low and close of an interval, and what was traded in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    pub open: f64,
    /// Not below open, close and low.
    pub high: f64,
    /// Not above open and close.
    pub low: f64,
    pub close: f64,
    /// In the quote currency; `None` where nobody tells.
    pub volume: Option<f64>,
    /// In coins.
    pub base_volume: Option<f64>,
    /// The last one told in the interval.
    pub market_cap: Option<f64>,
    /// Of how many observations it was folded; `None` for a bar of an exchange.
    pub samples: Option<i64>,
}

/// Why numbers are no candle.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BarError {
    #[error("{0} is not a finite number")]
    NotFinite(&'static str),
    #[error("{name} is below zero: {value}")]
    Negative { name: &'static str, value: f64 },
    #[error("open {open} and close {close} do not lie between low {low} and high {high}")]
    OutOfOrder { open: f64, high: f64, low: f64, close: f64 },
}

impl Bar {
    /// A bar of these prices alone.
    pub fn new(open: f64, high: f64, low: f64, close: f64) -> Result<Bar, BarError> {
        let bar = Bar { open, high, low, close, volume: None, base_volume: None, market_cap: None, samples: None };
        bar.checked()
    }

    /// Refuses what can't be: numbers that are none, and prices out of order.
    pub fn checked(self) -> Result<Bar, BarError> {
        let Bar { open, high, low, close, .. } = self;
        let named = [("open", open), ("high", high), ("low", low), ("close", close)];
        let optional = [("volume", self.volume), ("base_volume", self.base_volume), ("market_cap", self.market_cap)];
        for (name, value) in named.into_iter().chain(optional.into_iter().filter_map(|(name, v)| Some((name, v?)))) {
            if !value.is_finite() {
                return Err(BarError::NotFinite(name));
            }
            if value < 0.0 {
                return Err(BarError::Negative { name, value });
            }
        }
        if low <= open && low <= close && open <= high && close <= high {
            Ok(self)
        } else {
            Err(BarError::OutOfOrder { open, high, low, close })
        }
    }

    /// A single observation.
    pub fn of_price(price: f64, market_cap: Option<f64>) -> Bar {
        Bar {
            open: price,
            high: price,
            low: price,
            close: price,
            volume: None,
            base_volume: None,
            market_cap,
            samples: Some(1),
        }
    }
}

/// Where a candle comes from. The later in this list, the more it is worth: one that is worth less
/// never replaces one that is worth more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Folded here, of stored observations and finer candles.
    Rollup,
    /// Read from a file, or from a topic.
    Archive,
    /// A real bar of a source.
    Source,
}

impl Origin {
    pub const ALL: [Origin; 3] = [Origin::Rollup, Origin::Archive, Origin::Source];

    pub fn name(self) -> &'static str {
        match self {
            Origin::Rollup => "rollup",
            Origin::Archive => "archive",
            Origin::Source => "source",
        }
    }

    pub fn of_name(name: &str) -> Option<Origin> {
        Origin::ALL.into_iter().find(|origin| origin.name() == name)
    }
}

/// A candle of a coin that is known by other means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candle {
    pub timeframe: Timeframe,
    pub open_time: Stamp,
    pub bar: Bar,
    pub origin: Origin,
    /// Its interval was over when it was made.
    pub is_final: bool,
}

/// What is known of an interval so far. Pieces may come in any order, and folds of parts of an
/// interval make the fold of the whole: the piece that begins first opens it, the one that begins last
/// closes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fold {
    opens: Stamp,
    closes: Stamp,
    bar: Bar,
    capped: Option<Stamp>,
}

impl Fold {
    /// The fold of one piece: an observation at its time, or a candle at its opening.
    pub fn of(time: Stamp, bar: &Bar) -> Fold {
        let mut bar = *bar;
        bar.samples = Some(bar.samples.unwrap_or(1));
        Fold { opens: time, closes: time, capped: bar.market_cap.map(|_| time), bar }
    }

    /// Takes in what is known of another part of the interval.
    pub fn merge(&mut self, other: &Fold) {
        if other.opens < self.opens {
            (self.opens, self.bar.open) = (other.opens, other.bar.open);
        }
        if other.closes >= self.closes {
            (self.closes, self.bar.close) = (other.closes, other.bar.close);
        }
        if other.capped.is_some() && other.capped >= self.capped {
            (self.capped, self.bar.market_cap) = (other.capped, other.bar.market_cap);
        }
        self.bar.high = self.bar.high.max(other.bar.high);
        self.bar.low = self.bar.low.min(other.bar.low);
        // A part of which nobody knows the volume makes that of the whole unknown.
        let sum = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
        self.bar.volume = sum(self.bar.volume, other.bar.volume);
        self.bar.base_volume = sum(self.bar.base_volume, other.bar.base_volume);
        self.bar.samples = Some(self.bar.samples.unwrap_or(0) + other.bar.samples.unwrap_or(0));
    }

    pub fn bar(&self) -> Bar {
        self.bar
    }

    /// When its first piece begins.
    pub fn opens(&self) -> Stamp {
        self.opens
    }
}

/// A fold of observations as bytes, to be put aside: no volumes, which observations do not tell.
impl Fold {
    pub const BYTES: usize = 9 * 8;

    pub fn to_bytes(&self) -> [u8; Fold::BYTES] {
        let Bar { open, high, low, close, market_cap, samples, .. } = self.bar;
        let millis = |stamp: Stamp| stamp.millis() as u64;
        // No moment is that late, and without one there is no market cap.
        let capped = self.capped.map_or(u64::MAX, millis);
        let [open, high, low, close, cap] = [open, high, low, close, market_cap.unwrap_or(0.0)].map(f64::to_bits);
        let (opens, closes, samples) = (millis(self.opens), millis(self.closes), samples.unwrap_or(0) as u64);
        let words = [opens, closes, open, high, low, close, cap, capped, samples];
        let mut bytes = [0; Fold::BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The reverse of [`Fold::to_bytes`].
    pub fn of_bytes(bytes: &[u8; Fold::BYTES]) -> Fold {
        let mut words = [0; 9];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let [opens, closes, open, high, low, close, cap, capped, samples] = words;
        let [open, high, low, close, cap] = [open, high, low, close, cap].map(f64::from_bits);
        let stamp = |millis: u64| Stamp::known(millis as i64);
        let capped = (capped != u64::MAX).then(|| stamp(capped));
        let (market_cap, samples) = (capped.map(|_| cap), Some(samples as i64));
        let bar = Bar { open, high, low, close, volume: None, base_volume: None, market_cap, samples };
        Fold { opens: stamp(opens), closes: stamp(closes), bar, capped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp::from_millis(seconds * 1000).unwrap()
    }

    /// Numbers whose sums are exact, so that equal means equal.
    fn pieces() -> Vec<Fold> {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as f64
        };
        (0..200)
            .map(|second| {
                let (a, b, c) = (1.0 + next(50), 1.0 + next(50), 1.0 + next(50));
                let mut bar = Bar::new(a, a.max(b).max(c), a.min(b).min(c), b).unwrap();
                bar.volume = Some(next(9));
                bar.base_volume = (second > 3).then(|| next(9));
                bar.market_cap = (next(3) == 0.0).then(|| next(99));
                Fold::of(at(second), &bar)
            })
            .collect()
    }

    fn fold<'a>(pieces: impl IntoIterator<Item = &'a Fold>) -> Fold {
        let mut pieces = pieces.into_iter();
        let mut fold = *pieces.next().unwrap();
        pieces.for_each(|piece| fold.merge(piece));
        fold
    }

    #[test]
    fn folds_of_parts_make_the_fold_of_the_whole_in_any_order() {
        let pieces = pieces();
        let whole = fold(&pieces);
        assert_eq!(whole, fold(pieces.iter().rev()));
        for size in [1, 3, 60, 199] {
            let parts: Vec<Fold> = pieces.chunks(size).map(fold).collect();
            assert_eq!(fold(&parts), whole, "{size}");
            assert_eq!(fold(parts.iter().rev()), whole, "{size}");
        }
        let bar = whole.bar();
        assert_eq!((bar.open, bar.close), (pieces[0].bar.open, pieces[199].bar.close));
        assert_eq!((bar.samples, bar.base_volume), (Some(200), None));
        assert!(bar.volume.is_some() && bar.market_cap.is_some() && bar.checked().is_ok());
    }

    #[test]
    fn a_candle_of_a_candle_is_that_candle() {
        // What a stored candle keeps is enough to fold it on: its opening stands for its times.
        let pieces = pieces();
        let minutes: Vec<Fold> = pieces
            .chunks(60)
            .enumerate()
            .map(|(minute, part)| Fold::of(at(minute as i64 * 60), &fold(part).bar()))
            .collect();
        let (direct, by_minutes) = (fold(&pieces).bar(), fold(&minutes).bar());
        assert_eq!(direct, by_minutes);
    }

    #[test]
    fn folds_of_observations_come_back_from_bytes() {
        for caps in [[None, None], [Some(0.0), None], [None, Some(7e12)], [Some(1.0), Some(2.0)]] {
            let mut whole = Fold::of(at(5), &Bar::of_price(2.5, caps[0]));
            assert_eq!(Fold::of_bytes(&whole.to_bytes()), whole);
            whole.merge(&Fold::of(at(3), &Bar::of_price(1e-300, caps[1])));
            assert_eq!(Fold::of_bytes(&whole.to_bytes()), whole);
        }
    }

    #[test]
    fn what_can_t_be_is_refused() {
        assert!(Bar::new(1.0, 2.0, 0.5, 1.5).is_ok() && Bar::new(0.0, 0.0, 0.0, 0.0).is_ok());
        assert!(matches!(Bar::new(1.0, 0.9, 0.5, 0.7), Err(BarError::OutOfOrder { .. })));
        assert!(matches!(Bar::new(f64::NAN, 2.0, 0.5, 1.5), Err(BarError::NotFinite("open"))));
        assert!(matches!(Bar::new(-1.0, 2.0, -1.0, 1.5), Err(BarError::Negative { name: "open", .. })));
        let traded = Bar { volume: Some(f64::INFINITY), ..Bar::new(1.0, 2.0, 0.5, 1.5).unwrap() };
        assert!(matches!(traded.checked(), Err(BarError::NotFinite("volume"))));
        assert!(Origin::Source > Origin::Archive && Origin::Archive > Origin::Rollup);
    }
}
