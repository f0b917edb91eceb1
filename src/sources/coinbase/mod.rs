//! Coinbase Exchange: which calls to make. All of it is public; no key is needed or sent.

pub mod feed;
mod history;
mod parse;
mod wire;

use std::sync::Arc;

use url::form_urlencoded;

use super::access::{self, Access, SettingError, Variables};
use super::error::SourceError;
use super::history::History;
use super::{EVERYTHING, Page, Pair, PairByPair, Points, Request, Shape, Source, Told};
use crate::domain::{Coin, Reject};

const URL: &str = "https://api.exchange.coinbase.com";
const URL_SETTING: &str = "COINBASE_API_URL";
const FEED_URL: &str = "wss://ws-feed.exchange.coinbase.com";
pub const FEED_SETTING: &str = "COINBASE_WS_URL";
/// Half of what the vendor allows an address, which others behind it may share.
const CALLS_PER_MINUTE: u32 = 300;

const PRODUCTS: &str = "products";
const STATS: &str = "products/stats";
const STATS_OF_ONE: &str = "products/{id}/stats";

/// The vendor; it has no state of its own.
pub struct Coinbase;

impl Source for Coinbase {
    fn name(&self) -> &'static str {
        "coinbase"
    }

    fn access(&self, variables: &Variables<'_>) -> Result<Access, SettingError> {
        let url = access::api_url(variables, URL_SETTING)?;
        let (is_vendors, base_url) = (url.is_none(), url.unwrap_or_else(|| URL.to_owned()));
        let feed_url = access::feed_url(variables, FEED_SETTING)?.unwrap_or_else(|| FEED_URL.to_owned());
        Ok(Access {
            base_url,
            is_vendors,
            feed_url,
            url_setting: URL_SETTING,
            key: None,
            kind: "no key needed",
            calls_per_minute: CALLS_PER_MINUTE,
            credits_per_month: 0,
        })
    }

    fn sandbox_root(&self) -> &'static str {
        ""
    }

    fn asset_list(&self) -> Request {
        get(PRODUCTS, "/products".to_owned(), Shape::Array)
    }

    fn parse_asset(&self, record: &[u8]) -> Result<Option<Coin>, Reject> {
        parse::asset(record)
    }

    fn page_size(&self) -> usize {
        EVERYTHING
    }

    fn currencies_per_call(&self) -> usize {
        EVERYTHING
    }

    fn why_no_top(&self) -> Option<&'static str> {
        Some("Coinbase tells no market cap, so its coins have no rank")
    }

    fn price_page(&self, _page: &Page<'_>) -> Request {
        get(STATS, "/products/stats".to_owned(), Shape::Map)
    }

    fn prices_of(&self, _vs_currencies: &[Arc<str>], ids: &[String]) -> (Request, usize) {
        // One call for all of them is never dearer than one for each.
        (get(STATS, "/products/stats".to_owned(), Shape::Map), ids.len())
    }

    fn parse_price(&self, record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
        parse::prices(record, vs_currencies, points);
    }

    fn pair_by_pair(&self) -> Option<&dyn PairByPair> {
        Some(self)
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn explain(&self, told: &Told<'_>) -> SourceError {
        wire::explain(told, URL_SETTING)
    }

    fn accept(&self, told: &Told<'_>) -> Result<Option<i64>, SourceError> {
        if wire::message(told.body).is_some() { Err(wire::explain(told, URL_SETTING)) } else { Ok(None) }
    }

    fn probe(&self, _access: &Access) -> Request {
        get("time", "/time".to_owned(), Shape::One("time".to_owned()))
    }
}

impl PairByPair for Coinbase {
    fn pair(&self, record: &[u8]) -> Option<Pair> {
        parse::pair(record)
    }

    fn price_of(&self, pair: &Pair) -> Request {
        let product = format!("{}-{}", pair.base, pair.vs_currency.to_ascii_uppercase());
        let target = format!("/products/{}/stats", product_path(&pair.base, &pair.vs_currency));
        get(STATS_OF_ONE, target, Shape::One(product))
    }
}

/// A product's id as it stands in a path.
fn product_path(base: &str, vs_currency: &str) -> String {
    let product = format!("{base}-{}", vs_currency.to_ascii_uppercase());
    let encoded: String = form_urlencoded::byte_serialize(product.as_bytes()).collect();
    // A space is a + in queries only.
    encoded.replace('+', "%20")
}

/// Nothing here costs credits.
fn get(endpoint: &'static str, target: String, shape: Shape) -> Request {
    Request { endpoint, target, older: None, shape, credits: 0 }
}
