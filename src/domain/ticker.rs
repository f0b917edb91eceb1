//! What an exchange's live feed tells of a trading pair, and a time of which it told nothing.

use super::Micros;

/// Decimals are kept as they were written: differences between them are exact in decimal only.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticker {
    /// `BTC-USD`
    pub pair: String,
    pub sequence: u64,
    pub observed_at: Micros,
    pub bid: String,
    pub ask: String,
    /// Of the last trade.
    pub price: String,
    /// In coins.
    pub base_volume_24h: Option<f64>,
}

/// Tickers between two moments were missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub pair: String,
    /// Of the last ticker before.
    pub from: Micros,
    /// Of the first one after it.
    pub to: Micros,
    pub reason: &'static str,
}

/// A time of which a stream's source has no quotes of a pair, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub source: String,
    pub pair: String,
    pub from_time: Micros,
    pub to_time: Micros,
    pub reason: String,
}
