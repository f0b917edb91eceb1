//! The best bid and ask of a trading pair, and what is worked out of them: in decimal, because the
//! spread of 97123.46 and 97123.45 is 0.01 and not 0.010000000009313226.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::Micros;

/// A quote as a stream told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote {
    pub source: Arc<str>,
    /// As the source names it: `BTC-USD`.
    pub pair: Arc<str>,
    /// Names the quote, together with source and pair.
    pub sequence: i64,
    pub observed_at: Micros,
    /// `0 ≤ bid ≤ ask`, `ask > 0`.
    pub bid: Decimal,
    pub ask: Decimal,
    pub session: Arc<str>,
}

/// Why bid and ask are no quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    #[error("ask {0} is larger than any price")]
    TooLarge(Decimal),
    #[error("bid {bid} is above ask {ask}")]
    Crossed { bid: Decimal, ask: Decimal },
    #[error("bid {0} is below zero")]
    NegativeBid(Decimal),
    #[error("ask {0} is not above zero")]
    NoAsk(Decimal),
}

/// Sums of these stay far inside what a decimal holds.
const LARGEST: i128 = 1_000_000_000_000_000_000;

/// Refuses what no market quotes.
pub fn check(bid: Decimal, ask: Decimal) -> Result<(), QuoteError> {
    if bid < Decimal::ZERO {
        Err(QuoteError::NegativeBid(bid))
    } else if ask <= Decimal::ZERO {
        Err(QuoteError::NoAsk(ask))
    } else if ask > Decimal::from_i128_with_scale(LARGEST, 0) {
        Err(QuoteError::TooLarge(ask))
    } else if bid > ask {
        Err(QuoteError::Crossed { bid, ask })
    } else {
        Ok(())
    }
}

impl Quote {
    pub fn mid(&self) -> Decimal {
        // Times a half: what a division by two would give, at a fraction of its cost.
        (self.bid + self.ask) * Decimal::from_parts(5, 0, 0, false, 1)
    }

    pub fn spread(&self) -> Decimal {
        self.ask - self.bid
    }
}

/// What is worked out of a quote, once for all who need it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub bid: f64,
    pub ask: f64,
    pub mid: f64,
    pub spread: f64,
    pub exact_spread: Decimal,
}

impl Figures {
    pub fn of(quote: &Quote) -> Figures {
        let exact_spread = quote.spread();
        Figures {
            bid: double(quote.bid),
            ask: double(quote.ask),
            mid: double(quote.mid()),
            spread: double(exact_spread),
            exact_spread,
        }
    }
}

/// The nearest double of a decimal.
pub fn double(number: Decimal) -> f64 {
    const EXACT: i128 = 1 << 53;
    let (mantissa, scale) = (number.mantissa(), number.scale());
    // Both sides are exact doubles, so the one division rounds as it should.
    if mantissa.abs() < EXACT && scale <= 22 {
        return mantissa as f64 / 10f64.powi(scale as i32);
    }
    number.to_string().parse().unwrap_or(f64::NAN)
}

/// The extremes of a session so far, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    pub highest_bid: f64,
    pub lowest_ask: f64,
    pub max_spread: f64,
}

impl Extremes {
    /// Those of a session's first quote.
    pub fn of(figures: &Figures) -> Extremes {
        Extremes { highest_bid: figures.bid, lowest_ask: figures.ask, max_spread: figures.spread }
    }

    /// Takes the next quote in.
    pub fn take(&mut self, figures: &Figures) {
        self.highest_bid = self.highest_bid.max(figures.bid);
        self.lowest_ask = self.lowest_ask.min(figures.ask);
        self.max_spread = self.max_spread.max(figures.spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_their_nearest_doubles() {
        for text in [
            "97123.46",
            "0.00001303",
            "0.1",
            "123456789012345678901234.5678",
            "0",
            "1e-9",
            "0.000000000000000000000001",
        ] {
            let number = Decimal::from_scientific(text).or_else(|_| text.parse()).unwrap();
            assert_eq!(double(number).to_bits(), number.to_string().parse::<f64>().unwrap().to_bits(), "{text}");
        }
        let (bid, ask): (Decimal, Decimal) = ("97123.45".parse().unwrap(), "97123.46".parse().unwrap());
        assert_eq!((double(ask - bid), double((bid + ask) / Decimal::TWO)), (0.01, 97123.455));
    }

    #[test]
    fn only_quotes_are_quotes() {
        let check = |bid: &str, ask: &str| check(bid.parse().unwrap(), ask.parse().unwrap());
        assert!(check("0", "0.1").is_ok() && check("1", "1").is_ok());
        assert!(check("2", "1").is_err() && check("-1", "1").is_err() && check("0", "0").is_err());
    }
}
