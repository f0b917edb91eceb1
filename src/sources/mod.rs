//! Where prices come from. A vendor is a set of pure functions (which request to send, how to read
//! a record of the answer, what an error body means); the one HTTP client does the rest.

pub mod coingecko;
pub mod error;
pub mod http;
pub mod records;

use std::sync::Arc;

use secrecy::SecretString;

use crate::domain::{Coin, PricePoint, Reject};
use error::SourceError;

/// What a generated market is stored under: `sandbox-coingecko` and so on.
pub const SANDBOX_PREFIX: &str = "sandbox-";

/// One GET to a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The endpoint's name, for messages and as the topic of dead letters.
    pub endpoint: &'static str,
    /// Path and query below the API's base URL, already encoded.
    pub target: String,
}

/// In which order to page through all coins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stable: a coin changes its page only when coins appear or vanish.
    Id,
    /// Largest first, so that the top N are the first pages.
    MarketCap,
}

/// An HTTP error (or an error told inside HTTP 200) as it came in.
pub struct ErrorAnswer<'a> {
    pub endpoint: &'a str,
    pub status: u16,
    pub retry_after: Option<std::time::Duration>,
    pub body: &'a [u8],
}

/// A vendor, as far as assets and prices go.
pub trait Source: Send + Sync {
    /// The name data is stored under.
    fn name(&self) -> &'static str;

    /// Coins in one full page of prices.
    fn page_size(&self) -> usize;

    /// The full list of coins.
    fn asset_list(&self) -> Request;

    /// Page `page` (from 1) of all coins' prices; `per_page` is at most `page_size()`.
    fn price_page(&self, order: Order, vs_currency: &str, page: usize, per_page: usize) -> Request;

    /// The prices of some coins. As many of `ids`, from the front, as one call takes; the second
    /// value tells how many that was (at least one unless `ids` is empty).
    fn prices_of(&self, vs_currency: &str, ids: &[String]) -> (Request, usize);

    fn parse_asset(&self, record: &[u8]) -> Result<Coin, Reject>;

    fn parse_price(&self, record: &[u8], vs_currency: &Arc<str>) -> Result<PricePoint, Reject>;

    /// What an error answer means.
    fn explain(&self, answer: &ErrorAnswer<'_>) -> SourceError;
}

/// How to reach a vendor: what the settings say once they are resolved.
#[derive(Clone)]
pub struct Access {
    /// Without a slash at the end.
    pub base_url: String,
    /// The header's name and the key.
    pub key: Option<(&'static str, SecretString)>,
    /// The plan's calls a minute; 0 = no limit.
    pub calls_per_minute: u32,
}
