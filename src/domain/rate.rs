//! What currencies are worth, and what an amount in one of them is in another. All rates are told
//! against the US dollar.

use std::sync::Arc;

use super::{Reject, Stamp};

/// The currency that all rates are told in.
pub const USD: &str = "usd";
/// How long a rate is taken to hold. An older one tells nothing of the price of now.
pub const HOLDS_FOR_MS: i64 = 24 * 3_600_000;

/// How much of a currency one US dollar buys.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// In lower case, as in `prices.vs_currency`.
    pub currency: Arc<str>,
    /// Finite and above zero.
    pub per_usd: f64,
}

/// The rates of one answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rates {
    /// The source's own time of them; `None` where it gives none.
    pub observed_at: Option<Stamp>,
    pub rates: Vec<Rate>,
    /// What could not be used, each currency by itself.
    pub rejected: Vec<Reject>,
}

impl Rate {
    /// From what one and the same thing costs in both currencies; the reason why not.
    pub fn of_prices(currency: Arc<str>, price: f64, price_in_usd: f64) -> Result<Rate, String> {
        let per_usd = price / price_in_usd;
        if !(per_usd.is_finite() && per_usd > 0.0) {
            return Err(format!("the price in {currency} ({price}) over that in usd ({price_in_usd}) is no rate"));
        }
        Ok(Rate { currency, per_usd })
    }
}

/// What an amount is multiplied with, and then divided by, to be one in another currency: two numbers,
/// so that the way to dollars and back rounds no more than it must.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor {
    pub times: f64,
    pub over: f64,
}

impl Factor {
    /// From a currency into itself.
    pub const ONE: Factor = Factor { times: 1.0, over: 1.0 };

    /// The amount in the other currency; `None` where no double holds it.
    pub fn apply(self, amount: f64) -> Option<f64> {
        let there = amount * self.times / self.over;
        // On the way a very large amount may be out of reach, and its end is not.
        let there = if there.is_finite() { there } else { amount / self.over * self.times };
        there.is_finite().then_some(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_quotient_above_zero() {
        let rate = |price, usd| Rate::of_prices("eur".into(), price, usd).map(|rate| rate.per_usd);
        assert_eq!(rate(55_000.0, 64_000.0), Ok(55_000.0 / 64_000.0));
        for (price, usd) in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (1e308, 1e-8)]
        {
            assert!(rate(price, usd).is_err(), "{price} over {usd}");
        }
    }

    #[test]
    fn an_amount_goes_by_the_dollar() {
        let eur_to_chf = Factor { times: 0.8, over: 0.9 };
        assert_eq!(eur_to_chf.apply(9.0), Some(9.0 * 0.8 / 0.9));
        assert_eq!(Factor::ONE.apply(5.8e-21), Some(5.8e-21));
        assert_eq!(Factor { times: 1e10, over: 1e10 }.apply(f64::MAX), Some(f64::MAX));
        assert_eq!(Factor { times: 1e10, over: 1.0 }.apply(f64::MAX), None);
    }
}
