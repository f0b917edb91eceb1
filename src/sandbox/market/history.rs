//! What became of a slot before now: when its coin first appeared, and which coin it replaced.

use super::hash::unit;
use super::{Ask, Coin, DAY, EPOCH, Market};

/// Coins that were there from the beginning say that they appeared in the seven years before.
const OLDEST: f64 = 2_500.0;

/// A coin that has left its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    pub coin: Coin,
    /// When it left, in milliseconds since 1970.
    pub left: i64,
}

impl Market {
    /// When a coin appeared for the first time; coming back changes nothing about it.
    pub fn first_seen(&self, coin: &Coin) -> i64 {
        match self.churn_clock(coin.slot) {
            // A coin's generation is the turn at which it came first, also of those that return.
            Some(clock) if coin.generation > 0 => {
                EPOCH - clock.phase + i64::from(coin.generation).saturating_mul(clock.period)
            }
            _ => {
                let days = OLDEST * unit(self.ask(Ask::FirstSeen, coin.slot, coin.generation));
                EPOCH - days as i64 * DAY
            }
        }
    }

    /// The coin that a slot held before the one of this moment.
    pub fn gone(&self, slot: u32, at: i64) -> Option<Gone> {
        let (_, left) = self.churn_clock(slot)?.read(at);
        let coin = self.coin(slot, left - 1);
        (coin.generation != self.coin(slot, at).generation).then_some(Gone { coin, left })
    }

    /// Whether a slot keeps its coin, and the coin its name, for ever.
    pub fn is_steady(&self, slot: u32) -> bool {
        self.churn_clock(slot).is_none() && !self.is_renamed(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_appeared_when_its_slot_first_had_it() {
        let market = Market::new(5, 5_000);
        let now = EPOCH + 2_500 * DAY;
        let mut replaced = 0;
        for slot in 0..5_000 {
            let coin = market.coin(slot, now);
            let seen = market.first_seen(&coin);
            assert!(seen <= now);
            if seen > EPOCH {
                assert_eq!(market.coin(slot, seen).generation, coin.generation);
                assert_ne!(market.coin(slot, seen - 1).generation, coin.generation);
            }
            let later = market.coin(slot, now + 30 * DAY);
            assert!(later.generation != coin.generation || market.first_seen(&later) == seen);

            let Some(gone) = market.gone(slot, now) else {
                continue;
            };
            replaced += 1;
            assert!(gone.left <= now && !market.is_steady(slot));
            assert_eq!(market.coin(slot, gone.left).generation, coin.generation);
            assert_eq!(market.coin(slot, gone.left - 1), gone.coin);
        }
        assert!((80..160).contains(&replaced), "{replaced}");
    }

    #[test]
    fn steady_slots_never_change() {
        let market = Market::new(5, 2_000);
        for slot in (0..2_000).filter(|slot| market.is_steady(*slot)) {
            let (early, late) = (market.coin(slot, EPOCH + DAY), market.coin(slot, EPOCH + 3_000 * DAY));
            assert_eq!(early, late);
        }
    }
}
