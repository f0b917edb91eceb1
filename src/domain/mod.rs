//! What a coin, a price and a point in time are. Pure: no I/O, no clock, no database, no vendor.

pub mod account;
pub mod asset;
pub mod budget;
pub mod candle;
pub mod chart;
pub mod coverage;
pub mod micros;
pub mod price;
pub mod quote;
pub mod quote_window;
pub mod rate;
pub mod reject;
pub mod rollup;
pub mod rows;
pub mod stamp;
pub mod ticker;
pub mod timeframe;

pub use account::Account;
pub use asset::Coin;
pub use budget::{Budget, Cost};
pub use candle::{Bar, Candle, Fold, Origin};
pub use coverage::{Range, Span, State};
pub use micros::Micros;
pub use price::{Carried, Column, Figures, PricePoint};
pub use quote::Quote;
pub use rate::{Rate, Rates};
pub use reject::{Parsed, Reject};
pub use stamp::Stamp;
pub use ticker::{Missed, Outage, Ticker};
pub use timeframe::Timeframe;
