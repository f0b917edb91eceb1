//! `candles`: bars of a minute to a day.

pub mod backfill;
pub mod rollup;
