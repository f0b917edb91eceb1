//! Where prices come from. A vendor is a set of pure functions (which requests to send, how to read
//! a record of the answer, what an error body means); the one HTTP client does the rest.

pub mod access;
pub mod archive;
pub mod ask;
pub mod coinbase;
pub mod coingecko;
pub mod coinmarketcap;
pub mod error;
pub mod field;
pub mod history;
pub mod http;
pub mod message;
pub mod records;

use std::sync::Arc;

use crate::domain::{Account, Coin, Parsed, PricePoint, Rates, Reject};
pub use access::{Access, SettingError, Variables};
use error::SourceError;

/// Every vendor. A new one is a folder of its own and a name here.
pub const ALL: [&dyn Source; 3] = [&coingecko::CoinGecko, &coinmarketcap::CoinMarketCap, &coinbase::Coinbase];

/// What a generated market is stored under: `sandbox-coingecko` and so on.
pub const SANDBOX_PREFIX: &str = "sandbox-";

/// Whose exchange rates are taken for a source that tells none: made-up ones for made-up data only.
pub fn whose_rates(source: &str) -> String {
    let prefix = if source.starts_with(SANDBOX_PREFIX) { SANDBOX_PREFIX } else { "" };
    format!("{prefix}{}", coingecko::CoinGecko.name())
}

/// The vendor of this name.
pub fn find(name: &str) -> Option<&'static dyn Source> {
    ALL.into_iter().find(|source| source.name() == name)
}

/// The vendors' names for people: `coingecko, coinmarketcap, coinbase`.
pub fn names() -> String {
    ALL.map(Source::name).join(", ")
}

/// One GET to a vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The endpoint's name, for messages and as the topic of dead letters.
    pub endpoint: &'static str,
    /// Path and query below the API's base URL, already encoded.
    pub target: String,
    /// The same by an older path, for a server that does not know the newer one.
    pub older: Option<String>,
    pub shape: Shape,
    /// What the vendor charges at most, in its own credits: counted before the call is sent.
    pub credits: i64,
}

/// Where the records of an answer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `[record, …]`
    Array,
    /// `{"key": record, …}`: each comes out with its key, as `"key":record`.
    Map,
    /// `{"status": …, "data": [record, …]}`; `data` may be a map too.
    Envelope,
    /// The whole answer is one record; it comes out as one of a map, under this key.
    One(String),
}

/// In which order to page through all coins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stable: a coin changes its page only when coins appear or vanish.
    Stable,
    /// Largest first, so that the top N are the first pages.
    MarketCap,
}

/// A page of prices.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    pub order: Order,
    /// As many as the source answers in one call.
    pub vs_currencies: &'a [Arc<str>],
    /// From 1.
    pub number: usize,
    /// Coins on each page.
    pub size: usize,
    /// Coins of this page that are wanted: fewer than `size` on the last one.
    pub wanted: usize,
}

/// A trading pair of a vendor that is an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The coin's source id.
    pub base: String,
    /// In lower case, as in `prices.vs_currency`.
    pub vs_currency: String,
}

/// An answer's status and what it says of itself beside its records.
pub struct Told<'a> {
    pub endpoint: &'a str,
    pub status: u16,
    pub retry_after: Option<std::time::Duration>,
    /// The body, or its first 64 KiB; of an envelope all but the data.
    pub body: &'a [u8],
}

/// Takes the points of a record, each for the currency at this place among those asked for.
pub type Points<'a> = &'a mut dyn FnMut(usize, Result<PricePoint, Reject>);

/// A vendor, as far as assets and prices go.
pub trait Source: Send + Sync {
    /// The name data is stored under.
    fn name(&self) -> &'static str;

    /// How to reach it, from its own settings.
    fn access(&self, variables: &Variables<'_>) -> Result<Access, SettingError>;

    /// What the sandbox puts in front of its paths of this vendor, such as `/api/v3`.
    fn sandbox_root(&self) -> &'static str;

    /// The full list of coins.
    fn asset_list(&self) -> Request;

    /// A coin, or `None` for a record that is of no coin that can be had now.
    fn parse_asset(&self, record: &[u8]) -> Result<Option<Coin>, Reject>;

    /// Coins in one full page of prices; [`EVERYTHING`] where one call answers for all of them.
    fn page_size(&self) -> usize;

    /// Currencies that one call answers for; [`EVERYTHING`] where it is all of them.
    fn currencies_per_call(&self) -> usize {
        1
    }

    /// Why there is no `--top` here; `None` where there is.
    fn why_no_top(&self) -> Option<&'static str> {
        None
    }

    /// What is wrong with an id that this source can't have.
    fn why_no_id(&self, _id: &str) -> Option<&'static str> {
        None
    }

    /// A page of all coins' prices.
    fn price_page(&self, page: &Page<'_>) -> Request;

    /// The prices of some coins. As many of `ids`, from the front, as one call takes; the second
    /// value tells how many that was (at least one unless `ids` is empty).
    fn prices_of(&self, vs_currencies: &[Arc<str>], ids: &[String]) -> (Request, usize);

    /// The points of a record of a price answer.
    fn parse_price(&self, record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>);

    /// The call that tells what all currencies are worth, these among them; `None` where there is no
    /// such call.
    fn rates(&self, _vs_currencies: &[Arc<str>]) -> Option<Request> {
        None
    }

    /// The rates in a record of its answer.
    fn parse_rates(&self, record: &[u8], _vs_currencies: &[Arc<str>]) -> Result<Rates, Reject> {
        Err(field::reject(record, None, "this source tells no rates".to_owned()))
    }

    /// For when the one call for everything is gone.
    fn pair_by_pair(&self) -> Option<&dyn PairByPair> {
        None
    }

    /// What the vendor tells of the past; `None` where it tells nothing that we could ask for.
    fn history(&self) -> Option<&dyn history::History> {
        None
    }

    /// What an error answer means.
    fn explain(&self, told: &Told<'_>) -> SourceError;

    /// Whether a call that ends in an error costs no credits.
    fn errors_are_free(&self) -> bool {
        false
    }

    /// The credits that an answer with status 200 says it cost, if it tells; or the error that it
    /// really is.
    fn accept(&self, _told: &Told<'_>) -> Result<Option<i64>, SourceError> {
        Ok(None)
    }

    /// The call that shows whether vendor and key are fine, at no cost in credits where there is one.
    fn probe(&self, access: &Access) -> Request;

    /// The call that tells the plan behind the key, where the vendor tells it.
    fn account(&self, _access: &Access) -> Option<Request> {
        None
    }

    fn parse_account(&self, _record: &[u8]) -> Option<Account> {
        None
    }
}

/// Prices asked for one by one, of the pairs in the coin list.
pub trait PairByPair: Send + Sync {
    /// The pair in a record of the coin list, if it is traded.
    fn pair(&self, record: &[u8]) -> Option<Pair>;

    fn price_of(&self, pair: &Pair) -> Request;
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A page, or a call, without an end.
pub const EVERYTHING: usize = usize::MAX;

/// Whether one answer holds all prices there are, so that what it lacks is nowhere else.
pub fn answers_at_once(source: &dyn Source) -> bool {
    source.page_size() == EVERYTHING
}

/// A price answer: what each currency got from it.
#[derive(Debug, Default)]
pub struct Priced {
    /// Elements of the answer, usable or not.
    pub records: usize,
    /// In the order of the currencies asked for.
    pub by_currency: Vec<Parsed<PricePoint>>,
}
