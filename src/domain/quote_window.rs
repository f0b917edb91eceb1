//! Quotes of a pair folded over an interval of event time. The fold does not mind the order in which
//! quotes come: it opens with the earliest and closes with the latest of them, by time and sequence.

use rust_decimal::Decimal;

use super::Micros;
use super::quote::{Figures, Quote, double};

/// The lengths of windows, in seconds, with their names.
pub const TIMEFRAMES: [(&str, i64); 3] = [("1m", 60), ("5m", 300), ("1h", 3_600)];

/// All of them are made of the shortest: in seconds.
pub const SHORTEST: i64 = TIMEFRAMES[0].1;

/// A window, as far as it is folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    pub quotes: i64,
    pub open: Edge,
    pub close: Edge,
    pub high_mid: f64,
    pub low_mid: f64,
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub spread_sum: Decimal,
    pub max_spread: f64,
}

/// The quote that opens or closes a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    pub time: Micros,
    pub sequence: i64,
    pub mid: f64,
}

impl Fold {
    pub fn of(quote: &Quote, figures: &Figures) -> Fold {
        let edge = Edge { time: quote.observed_at, sequence: quote.sequence, mid: figures.mid };
        Fold {
            quotes: 1,
            open: edge,
            close: edge,
            high_mid: figures.mid,
            low_mid: figures.mid,
            highest_bid: figures.bid,
            lowest_ask: figures.ask,
            spread_sum: figures.exact_spread,
            max_spread: figures.spread,
        }
    }

    /// What both windows hold. They share no quote.
    pub fn merge(&mut self, other: &Fold) {
        let key = |edge: &Edge| (edge.time, edge.sequence);
        self.quotes += other.quotes;
        if key(&other.open) < key(&self.open) {
            self.open = other.open;
        }
        if key(&other.close) > key(&self.close) {
            self.close = other.close;
        }
        self.high_mid = self.high_mid.max(other.high_mid);
        self.low_mid = self.low_mid.min(other.low_mid);
        self.highest_bid = self.highest_bid.max(other.highest_bid);
        self.lowest_ask = self.lowest_ask.min(other.lowest_ask);
        self.spread_sum = self.spread_sum.saturating_add(other.spread_sum);
        self.max_spread = self.max_spread.max(other.max_spread);
    }

    pub fn mean_spread(&self) -> f64 {
        double(self.spread_sum / Decimal::from(self.quotes.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(sequence: i64, second: i64, bid: &str, ask: &str) -> Quote {
        let observed_at = Micros::from_micros(second * 1_000_000).unwrap();
        let (bid, ask) = (bid.parse().unwrap(), ask.parse().unwrap());
        Quote { source: "s".into(), pair: "p".into(), sequence, observed_at, bid, ask, session: "d".into() }
    }

    fn of(quote: &Quote) -> Fold {
        Fold::of(quote, &Figures::of(quote))
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let quotes = [
            quote(3, 1, "1.0", "1.1"),
            quote(1, 5, "0.9", "1.3"),
            quote(2, 5, "1.2", "1.2"),
            quote(9, 0, "1.1", "1.2"),
        ];
        let fold = |order: [usize; 4]| {
            let mut all = of(&quotes[order[0]]);
            order[1..].iter().for_each(|at| all.merge(&of(&quotes[*at])));
            all
        };
        let whole = fold([0, 1, 2, 3]);
        for order in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            assert_eq!(fold(order), whole);
        }
        assert_eq!((whole.quotes, whole.open.sequence, whole.close.sequence), (4, 9, 2));
        assert_eq!((whole.mean_spread(), whole.max_spread), (0.15, 0.4));
        // Parts folded first make the same whole.
        let (mut left, mut right) = (of(&quotes[0]), of(&quotes[2]));
        left.merge(&of(&quotes[1]));
        right.merge(&of(&quotes[3]));
        left.merge(&right);
        assert_eq!(left, whole);
    }
}
