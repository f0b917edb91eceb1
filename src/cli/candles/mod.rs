//! `candles`: bars of a minute to a day.

pub mod rollup;
