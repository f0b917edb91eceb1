//! What a coin was worth before now: the marks of a chart, and bars.

use super::hash::{mix, unit};
use super::{Coin, Currency, DAY, HOUR, Market};

const MINUTE: i64 = 60_000;
/// How far apart the prices are of which a bar is made.
const SAMPLE: i64 = 5 * MINUTE;

/// How far apart the marks of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    FiveMinutes,
    Hour,
    Day,
}

impl Step {
    fn millis(self) -> i64 {
        match self {
            Step::FiveMinutes => 5 * MINUTE,
            Step::Hour => HOUR,
            Step::Day => DAY,
        }
    }
}

/// A coin at a moment. Money is in the currency that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    pub at: i64,
    pub price: f64,
    pub cap: f64,
    pub volume: f64,
}

impl Market {
    /// A coin at a moment; none before it appeared, and of coins without a price.
    pub fn mark(&self, coin: &Coin, currency: &Currency, at: i64) -> Option<Mark> {
        if at < self.first_seen(coin) || !self.has_market(coin.slot) {
            return None;
        }
        let quote = self.ticker(coin, at).quote(currency);
        let (cap, volume) = (quote.market_cap.unwrap_or(0.0), quote.volume.unwrap_or(0.0));
        quote.price.map(|price| Mark { at, price, cap, volume })
    }

    /// The marks of a coin in `from..to`, in their order. Those of days are at midnight; the others
    /// come somewhat after they are due, and a few not at all.
    pub fn marks(&self, coin: &Coin, currency: &Currency, step: Step, from: i64, to: i64) -> Vec<Mark> {
        let length = step.millis();
        let (first, last) = (from.div_euclid(length) - 1, to.div_euclid(length) + 1);
        let moments = (first..=last).filter_map(|n| self.due(coin, step, n)).filter(|at| (from..to).contains(at));
        moments.filter_map(|at| self.mark(coin, currency, at)).collect()
    }

    fn due(&self, coin: &Coin, step: Step, n: i64) -> Option<i64> {
        let bits = mix(self.labels(coin), n as u64, step.millis() as u64);
        let late = unit(bits);
        let (left_out, late) = match step {
            Step::Day => (false, 0.0),
            // As recorded: most are a minute or two late, some nearly an hour.
            Step::Hour => ((bits & 0xff) < 2, late.powi(7) * 58.0 * MINUTE as f64),
            Step::FiveMinutes => ((bits & 0xff) < 8, late * 200_000.0),
        };
        (!left_out).then(|| n * step.millis() + late as i64)
    }

    /// Open, high, low and close of `from..to`; none where the coin was not there yet.
    pub fn bar(&self, coin: &Coin, currency: &Currency, from: i64, to: i64) -> Option<[f64; 4]> {
        if from < self.first_seen(coin) || !self.has_market(coin.slot) {
            return None;
        }
        // Of the day, so that a bar is the same whenever it is asked for.
        let ticker = self.ticker(coin, (from.div_euclid(DAY) + 1) * DAY);
        let price = |at: i64| ticker.price_of(currency, at);
        let open = price(from)?;
        let close = price(to - 1)?;
        let (mut high, mut low) = (open.max(close), open.min(close));
        let mut at = from + SAMPLE;
        while at < to {
            let sample = price(at)?;
            (high, low) = (high.max(sample), low.min(sample));
            at += SAMPLE;
        }
        Some([open, high, low, close])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_348_837_123;

    #[test]
    fn marks_are_the_same_in_every_window_and_a_few_are_left_out() {
        let market = Market::new(1, 300);
        let (coin, dollar) = (market.coin(0, NOON), Currency::dollar());
        for (step, per_day, left_out) in
            [(Step::FiveMinutes, 288, 5..15), (Step::Hour, 24, 1..15), (Step::Day, 1, 0..1)]
        {
            let days = if step == Step::FiveMinutes { 1 } else { 60 };
            let from = NOON - days * DAY;
            let all = market.marks(&coin, dollar, step, from, NOON);
            assert!(all.is_sorted_by(|a, b| a.at < b.at));
            let missing = per_day * days - all.len() as i64;
            assert!((left_out.start - 1..=left_out.end).contains(&missing), "{step:?}: {missing}");
            let halves = [(from, from + 7_654_321), (from + 7_654_321, NOON)];
            let pieces: Vec<Mark> =
                halves.into_iter().flat_map(|(from, to)| market.marks(&coin, dollar, step, from, to)).collect();
            assert_eq!(pieces, all);
        }
        let gaps = market.marks(&coin, dollar, Step::Hour, NOON - 60 * DAY, NOON);
        let gaps: Vec<i64> = gaps.windows(2).map(|pair| (pair[1].at - pair[0].at) / MINUTE).collect();
        assert!(gaps.iter().any(|gap| *gap < 30) && gaps.iter().any(|gap| *gap > 90), "{gaps:?}");
    }

    #[test]
    fn a_coin_has_no_past_before_it_appeared() {
        let market = Market::new(1, 5_000);
        let young = (0..5_000).map(|slot| market.coin(slot, NOON)).find(|coin| {
            let age = NOON - market.first_seen(coin);
            market.has_market(coin.slot)
                && (2 * DAY..60 * DAY).contains(&age)
                && market.mark(coin, Currency::dollar(), NOON).is_some()
        });
        let young = young.expect("a young coin");
        let born = market.first_seen(&young);
        let marks = market.marks(&young, Currency::dollar(), Step::Hour, NOON - 90 * DAY, NOON);
        assert!(marks[0].at >= born && marks[0].at < born + 3 * HOUR && marks.len() > 40);
        assert_eq!(market.bar(&young, Currency::dollar(), born - HOUR, born), None);
    }

    #[test]
    fn a_longer_bar_holds_the_shorter_ones() {
        let market = Market::new(1, 300);
        let (coin, dollar) = (market.coin(1, NOON), Currency::dollar());
        let day = NOON.div_euclid(DAY) * DAY;
        let hours: Vec<[f64; 4]> =
            (0..24).map(|n| market.bar(&coin, dollar, day + n * HOUR, day + (n + 1) * HOUR).unwrap()).collect();
        let [open, high, low, close] = market.bar(&coin, dollar, day, day + DAY).unwrap();
        assert_eq!((open, close), (hours[0][0], hours[23][3]));
        let (highest, lowest) = hours.iter().fold((0f64, f64::MAX), |(h, l), bar| (h.max(bar[1]), l.min(bar[2])));
        assert!(high <= highest && low >= lowest && high > low);
    }
}
