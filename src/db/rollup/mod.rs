//! What the rollup keeps and reads: what awaits folding (`marks`), which timeframes are kept up to
//! date and how far they are (`state`), and the pieces that candles are folded of (`read`).

pub mod marks;
pub mod read;
pub mod state;
#[cfg(feature = "postgres")]
pub mod stream;
