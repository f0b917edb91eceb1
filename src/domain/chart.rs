//! What charts are made of: points, candles, quotes and shares, as numbers alone.

/// A value at a time, in milliseconds since 1970. A value that is no number is a hole in the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: i64,
    pub value: f64,
}

/// A candle as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stick {
    /// In milliseconds since 1970.
    pub open_time: i64,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    /// `None` where nobody told.
    pub volume: Option<f64>,
    /// False while its time is not over.
    pub is_final: bool,
}

/// A quote, or a part of a window of quotes. What is not known is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotePoint {
    /// In milliseconds since 1970.
    pub at: i64,
    pub bid: f64,
    pub ask: f64,
    pub mid: f64,
    pub spread: f64,
}

/// A part of a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    pub name: String,
    /// Those that are not above zero are left out.
    pub value: f64,
}
