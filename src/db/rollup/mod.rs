//! What the rollup keeps and reads: what awaits folding (`marks`), which timeframes are kept up to
//! date and how far they are (`state`), and the pieces that candles are folded of (`read`).

pub mod ahead;
pub mod marks;
pub mod read;
mod records;
pub mod state;
#[cfg(feature = "postgres")]
pub mod stream;

use std::sync::Arc;

use super::error::DbError;
use crate::domain::Stamp;

/// A stored observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
    pub at: Stamp,
    pub price: f64,
    pub market_cap: Option<f64>,
}

/// Rows one after the other, from wherever they are.
pub trait Feed<T> {
    fn next(&mut self) -> Result<Option<T>, DbError>;
}

impl<T, I: Iterator<Item = T>> Feed<T> for I {
    fn next(&mut self) -> Result<Option<T>, DbError> {
        Ok(Iterator::next(self))
    }
}
