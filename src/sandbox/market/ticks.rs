//! When something is traded: so many ticks a second, each a pure function of its number.
//!
//! Time since 2020 is cut into slots of equal length, and each slot has one tick at a random place
//! in it. A few take the moment of the one before, as trades of one order do. Numbers come from
//! the time alone: a server that starts again goes on where the market is, and repeats nothing.

use super::EPOCH;
use super::hash::{mix, unit};

/// Ticks a second, at most: so many that each still has a number of its own.
pub const FASTEST: f64 = 100_000.0;
/// One tick in three hours.
pub const SLOWEST: f64 = 0.000_1;

/// Of so many ticks one is a whole cascade of trades, of which only the last is told.
const BLOCK: i64 = 32;
/// How many trades a cascade has on top of it.
const MERGED: i64 = 3;
/// How many ticks in a row can have the moment of one.
const BURST: i64 = 3;
const MICROSECOND: i128 = 1_000_000;

/// The ticks of one thing that is traded.
#[derive(Debug, Clone, Copy)]
pub struct Ticks {
    bits: u64,
    /// Picoseconds: whole ones, so that nothing is ever rounded across a slot's border.
    period: i128,
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Microseconds since 1970; a later tick's can be the same.
    pub at: i64,
    /// Grows with every tick, in jumps, whatever the rate is.
    pub sequence: i64,
    /// Counts trades, at one rate: one more with every tick, or a cascade more.
    pub trade: i64,
    /// For everything else about it.
    pub bits: u64,
}

impl Ticks {
    /// `rate` is in ticks a second, from [`SLOWEST`] to [`FASTEST`].
    pub fn new(bits: u64, rate: f64) -> Ticks {
        Ticks { bits, period: (1e12 / rate.clamp(SLOWEST, FASTEST)) as i128 }
    }

    /// The number of the last tick at a moment (in microseconds since 1970), that included.
    pub fn latest(&self, at: i64) -> Option<i64> {
        let since = i128::from(at - EPOCH * 1_000);
        if since < 0 {
            return None;
        }
        // A burst can have drawn later ticks to a moment before their own slot.
        let mut n = (since * MICROSECOND / self.period) as i64 + BURST;
        while n >= 0 && self.at(n) > at {
            n -= 1;
        }
        (n >= 0).then_some(n)
    }

    /// The moment of the n-th tick, in microseconds since 1970. Never before that of the one before.
    pub fn at(&self, n: i64) -> i64 {
        let mut first = n;
        while first > 0 && n - first < BURST && mix(self.bits, first as u64, 1).is_multiple_of(6) {
            first -= 1;
        }
        let within = (unit(mix(self.bits, first as u64, 2)) * self.period as f64) as i128;
        ((self.start(first) + within) / MICROSECOND) as i64 + EPOCH * 1_000
    }

    /// The n-th tick.
    pub fn tick(&self, n: i64) -> Tick {
        let bits = mix(self.bits, n as u64, 3);
        let slot = (self.period / MICROSECOND) as u64;
        let sequence = (self.start(n) / MICROSECOND) as i64 + ((bits >> 8) % slot.max(1)) as i64;
        let (block, place) = (n.div_euclid(BLOCK), n.rem_euclid(BLOCK));
        let cascade = (mix(self.bits, block as u64, 4) % BLOCK as u64) as i64;
        let merged = if place >= cascade { MERGED } else { 0 };
        Tick { at: self.at(n), sequence, trade: block * (BLOCK + MERGED) + place + merged + 1, bits }
    }

    fn start(&self, n: i64) -> i128 {
        i128::from(n) * self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_348_837_123_456;

    #[test]
    fn numbers_and_times_never_go_back() {
        for rate in [FASTEST, 50_000.0, 333.3, 5.0, 0.1, SLOWEST] {
            let ticks = Ticks::new(7, rate);
            let first = ticks.latest(NOON).unwrap() - 20_000;
            let all: Vec<Tick> = (first.max(0)..first.max(0) + 20_000).map(|n| ticks.tick(n)).collect();
            for pair in all.windows(2) {
                assert!(pair[0].sequence < pair[1].sequence, "{rate} {pair:?}");
                assert!(pair[0].at <= pair[1].at, "{rate} {pair:?}");
                assert!(matches!(pair[1].trade - pair[0].trade, 1 | 4), "{rate} {pair:?}");
            }
            let same = all.windows(2).filter(|pair| pair[0].at == pair[1].at).count();
            let jumps = all.windows(2).filter(|pair| pair[1].trade - pair[0].trade > 1).count();
            assert!(same > 2_000, "{rate} {same}");
            // A cascade may stand first in its block: then it is the step into it that jumps.
            assert!((600..=626).contains(&jumps), "{rate} {jumps}");
        }
    }

    #[test]
    fn the_latest_tick_is_the_last_that_is_not_later() {
        for rate in [FASTEST, 1_000.0, 7.0, 0.3] {
            let ticks = Ticks::new(3, rate);
            for step in 0..2_000 {
                let at = NOON + step * 7_919;
                let n = ticks.latest(at).unwrap();
                assert!(ticks.at(n) <= at && ticks.at(n + 1) > at, "{rate} {step}");
            }
            let (from, to) = (ticks.latest(NOON).unwrap(), ticks.latest(NOON + 100_000_000).unwrap());
            let expected = rate * 100.0;
            assert!(((to - from) as f64 - expected).abs() <= 4.0 + expected / 1e6, "{rate}: {}", to - from);
        }
    }

    #[test]
    fn a_sequence_goes_on_growing_at_another_rate() {
        let (fast, slow) = (Ticks::new(3, 50_000.0), Ticks::new(3, 0.5));
        let before = fast.tick(fast.latest(NOON).unwrap());
        let after = slow.tick(slow.latest(NOON + 3_000_000).unwrap() + 1);
        assert!(after.sequence > before.sequence);
    }

    #[test]
    fn nothing_was_traded_before_2020() {
        let ticks = Ticks::new(3, 5.0);
        assert_eq!(ticks.latest(EPOCH * 1_000 - 1), None);
        assert_eq!(ticks.latest(-62_135_596_800_000_000), None);
        assert!(ticks.latest(EPOCH * 1_000 + 2_000_000).is_some());
        let far = ticks.latest(253_402_300_799_999_999).unwrap();
        assert!(ticks.tick(far).sequence > 0);
    }
}
