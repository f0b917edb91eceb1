//! The tables that can be exported, their columns and the order of their rows.

use crate::domain::rows::{Field, Kind};

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Prices,
    Candles,
    Quotes,
    Windows,
}

const PRICES: [Field; 16] = [
    Field::new("source", Kind::Text),
    Field::new("source_id", Kind::Text),
    Field::new("symbol", Kind::Text),
    Field::new("vs_currency", Kind::Text),
    Field::new("observed_at", Kind::Millis),
    Field::nullable("price", Kind::Double),
    Field::nullable("volume_24h", Kind::Double),
    Field::nullable("base_volume_24h", Kind::Double),
    Field::nullable("market_cap", Kind::Double),
    Field::nullable("circulating_supply", Kind::Double),
    Field::nullable("total_supply", Kind::Double),
    Field::nullable("market_cap_rank", Kind::Int),
    Field::nullable("change_1h", Kind::Double),
    Field::nullable("change_24h", Kind::Double),
    Field::nullable("change_7d", Kind::Double),
    Field::nullable("change_30d", Kind::Double),
];

const CANDLES: [Field; 16] = [
    Field::new("source", Kind::Text),
    Field::new("source_id", Kind::Text),
    Field::new("symbol", Kind::Text),
    Field::new("vs_currency", Kind::Text),
    Field::new("timeframe", Kind::Text),
    Field::new("open_time", Kind::Millis),
    Field::new("open", Kind::Double),
    Field::new("high", Kind::Double),
    Field::new("low", Kind::Double),
    Field::new("close", Kind::Double),
    Field::nullable("volume", Kind::Double),
    Field::nullable("base_volume", Kind::Double),
    Field::nullable("market_cap", Kind::Double),
    Field::nullable("samples", Kind::Int),
    Field::new("origin", Kind::Text),
    Field::new("final", Kind::Bool),
];

const QUOTES: [Field; 12] = [
    Field::new("source", Kind::Text),
    Field::new("pair", Kind::Text),
    Field::new("sequence", Kind::Int),
    Field::new("observed_at", Kind::Micros),
    Field::new("bid", Kind::Double),
    Field::new("ask", Kind::Double),
    Field::new("mid_price", Kind::Double),
    Field::new("spread", Kind::Double),
    Field::new("highest_bid", Kind::Double),
    Field::new("lowest_ask", Kind::Double),
    Field::new("max_spread", Kind::Double),
    Field::new("session", Kind::Text),
];

const WINDOWS: [Field; 13] = [
    Field::new("source", Kind::Text),
    Field::new("pair", Kind::Text),
    Field::new("timeframe", Kind::Text),
    Field::new("window_start", Kind::Micros),
    Field::new("quotes", Kind::Int),
    Field::new("open_mid", Kind::Double),
    Field::new("high_mid", Kind::Double),
    Field::new("low_mid", Kind::Double),
    Field::new("close_mid", Kind::Double),
    Field::new("highest_bid", Kind::Double),
    Field::new("lowest_ask", Kind::Double),
    Field::new("mean_spread", Kind::Double),
    Field::new("max_spread", Kind::Double),
];

/// Columns that a coin's rows have in front of the table's own.
pub(super) const ABOUT_COINS: usize = 3;

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Table::Prices => "prices",
            Table::Candles => "candles",
            Table::Quotes => "quotes",
            Table::Windows => "quote-windows",
        }
    }

    pub(super) fn table(self) -> &'static str {
        match self {
            Table::Prices => "prices",
            Table::Candles => "candles",
            Table::Quotes => "crypto_metrics",
            Table::Windows => "quote_windows",
        }
    }

    pub fn fields(self) -> &'static [Field] {
        match self {
            Table::Prices => &PRICES,
            Table::Candles => &CANDLES,
            Table::Quotes => &QUOTES,
            Table::Windows => &WINDOWS,
        }
    }

    /// Whether its rows are a coin's, and know the run that last changed them.
    pub fn is_of_coins(self) -> bool {
        matches!(self, Table::Prices | Table::Candles)
    }

    pub fn has_timeframes(self) -> bool {
        matches!(self, Table::Candles | Table::Windows)
    }

    /// The columns that exported rows are sorted by: texts byte by byte.
    pub fn order(self) -> &'static [&'static str] {
        match self {
            Table::Prices => &["source", "source_id", "vs_currency", "observed_at"],
            Table::Candles => &["source", "source_id", "vs_currency", "timeframe", "open_time"],
            Table::Quotes => &["source", "pair", "sequence"],
            Table::Windows => &["source", "pair", "timeframe", "window_start"],
        }
    }

    /// The place of a column.
    pub fn at(self, name: &str) -> Option<usize> {
        self.fields().iter().position(|field| field.name == name)
    }

    /// The column of the time that a row is about.
    pub fn time(self) -> &'static str {
        match self {
            Table::Prices | Table::Quotes => "observed_at",
            Table::Candles => "open_time",
            Table::Windows => "window_start",
        }
    }

    /// The fields that the table itself has.
    pub(super) fn own(self) -> &'static [Field] {
        if self.is_of_coins() { &self.fields()[ABOUT_COINS..] } else { self.fields() }
    }

    /// The key as the table has it, behind the coin's id.
    pub(super) fn key(self) -> &'static [&'static str] {
        match self {
            Table::Prices => &["vs_currency", "observed_at"],
            Table::Candles => &["vs_currency", "timeframe", "open_time"],
            Table::Quotes => &["source", "pair", "sequence"],
            Table::Windows => &["source", "pair", "timeframe", "window_start"],
        }
    }
}
