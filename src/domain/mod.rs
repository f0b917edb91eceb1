//! What a coin, a price and a point in time are. Pure: no I/O, no clock, no database, no vendor.

pub mod account;
pub mod asset;
pub mod budget;
pub mod price;
pub mod quote;
pub mod reject;
pub mod stamp;

pub use account::Account;
pub use asset::Coin;
pub use budget::{Budget, Cost};
pub use price::{Carried, Column, Figures, PricePoint};
pub use quote::{Micros, Outage, Quote};
pub use reject::{Parsed, Reject};
pub use stamp::Stamp;
