//! CoinMarketCap Pro API: which calls to make. Version 3 of the price endpoints; answers in the
//! shapes of versions 1 and 2 are understood too.

mod parse;
mod wire;

use std::sync::Arc;

use url::form_urlencoded;

use super::access::{self, Access, SettingError, Variables};
use super::error::SourceError;
use super::{Order, Page, Points, Request, Shape, Source, Told};
use crate::domain::{Account, Coin, Reject};

const URL: &str = "https://pro-api.coinmarketcap.com";
/// Goes between host and path where there is no key.
const KEYLESS_ROOT: &str = "/public-api";
const KEY_HEADER: &str = "x-cmc_pro_api_key";
const URL_SETTING: &str = "COINMARKETCAP_API_URL";

/// Without a key bursts are refused and 4.5 s between calls were fine.
const KEYLESS_CALLS_PER_MINUTE: u32 = 12;
/// What the free plan (Basic) surely allows; `/v1/key/info` tells a larger one.
const CALLS_PER_MINUTE: u32 = 30;
/// Newer pages of the vendor say 15,000 for the free plan, older ones 10,000.
const CREDITS_PER_MONTH: u64 = 15_000;

/// Largest `limit` of a listing.
const PAGE_SIZE: usize = 5_000;
/// The vendor names no limit; a hundred is one credit.
const IDS_PER_CALL: usize = 100;
const COINS_PER_CREDIT_LISTED: usize = 200;
const COINS_PER_CREDIT_BY_ID: usize = 100;

const MAP: &str = "cryptocurrency/map";
const LISTINGS: &str = "cryptocurrency/listings/latest";
const QUOTES: &str = "cryptocurrency/quotes/latest";

/// The vendor; it has no state of its own.
pub struct CoinMarketCap;

impl Source for CoinMarketCap {
    fn name(&self) -> &'static str {
        "coinmarketcap"
    }

    fn access(&self, variables: &Variables<'_>) -> Result<Access, SettingError> {
        let url = access::api_url(variables, URL_SETTING)?;
        let (is_vendors, host) = (url.is_none(), url.unwrap_or_else(|| URL.to_owned()));
        let (base_url, key, kind, calls_per_minute, credits_per_month) =
            match access::key(variables, "COINMARKETCAP_API_KEY")? {
                Some(key) => (host, Some((KEY_HEADER, key)), "key", CALLS_PER_MINUTE, CREDITS_PER_MONTH),
                None => (format!("{host}{KEYLESS_ROOT}"), None, "no key", KEYLESS_CALLS_PER_MINUTE, 0),
            };
        Ok(Access {
            base_url,
            is_vendors,
            feed_url: String::new(),
            url_setting: URL_SETTING,
            key,
            kind,
            calls_per_minute,
            credits_per_month,
        })
    }

    fn sandbox_root(&self) -> &'static str {
        KEYLESS_ROOT
    }

    fn asset_list(&self) -> Request {
        // Without a limit all of them come at once.
        get(MAP, "/v1/cryptocurrency/map?listing_status=active&sort=id".to_owned(), 0)
    }

    fn parse_asset(&self, record: &[u8]) -> Result<Option<Coin>, Reject> {
        parse::asset(record)
    }

    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn why_no_id(&self, id: &str) -> Option<&'static str> {
        let is_number = !id.is_empty() && id.len() <= 15 && id.bytes().all(|byte| byte.is_ascii_digit());
        (!is_number).then_some("CoinMarketCap's ids are numbers, such as 1 for Bitcoin (see assets.source_id)")
    }

    fn price_page(&self, page: &Page<'_>) -> Request {
        // By the day of their listing, new coins come last: no coin changes its page for one.
        let order = match page.order {
            Order::Stable => "sort=date_added&sort_dir=asc",
            Order::MarketCap => "sort=market_cap&sort_dir=desc",
        };
        let start = 1 + (page.number - 1) * page.size;
        // A short last page would cost for coins that nobody wants; the rest of a full one does not exist.
        let limit = if page.order == Order::MarketCap { page.wanted } else { page.size };
        let target = format!("/{LISTINGS}?start={start}&limit={limit}&{order}&{}", details(page.vs_currencies));
        priced(LISTINGS, &target, page.wanted.div_ceil(COINS_PER_CREDIT_LISTED))
    }

    fn prices_of(&self, vs_currencies: &[Arc<str>], ids: &[String]) -> (Request, usize) {
        let taken = ids.len().min(IDS_PER_CALL);
        // A coin that is gone must not cost the answer for the others.
        let target = format!("/{QUOTES}?id={}&skip_invalid=true&{}", ids[..taken].join(","), details(vs_currencies));
        (priced(QUOTES, &target, taken.div_ceil(COINS_PER_CREDIT_BY_ID)), taken)
    }

    fn parse_price(&self, record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
        parse::prices(record, vs_currencies, points);
    }

    fn explain(&self, told: &Told<'_>) -> SourceError {
        wire::explain(told, URL_SETTING)
    }

    fn errors_are_free(&self) -> bool {
        true
    }

    fn accept(&self, told: &Told<'_>) -> Result<Option<i64>, SourceError> {
        wire::accept(told, URL_SETTING)
    }

    fn probe(&self, access: &Access) -> Request {
        let smallest = || get(MAP, "/v1/cryptocurrency/map?start=1&limit=1".to_owned(), 0);
        self.account(access).unwrap_or_else(smallest)
    }

    fn account(&self, access: &Access) -> Option<Request> {
        let info = Request { shape: Shape::One("info".to_owned()), ..get("key/info", "/v1/key/info".to_owned(), 0) };
        access.key.is_some().then_some(info)
    }

    fn parse_account(&self, record: &[u8]) -> Option<Account> {
        parse::account(record)
    }
}

fn get(endpoint: &'static str, target: String, credits: usize) -> Request {
    let credits = i64::try_from(credits).unwrap_or(i64::MAX);
    Request { endpoint, target, older: None, shape: Shape::Envelope, credits }
}

/// A price call: by version 3, and on servers that don't have it by the one before.
fn priced(endpoint: &'static str, target: &str, credits: usize) -> Request {
    let older = if endpoint == LISTINGS { "v1" } else { "v2" };
    Request { older: Some(format!("/{older}{target}")), ..get(endpoint, format!("/v3{target}"), credits.max(1)) }
}

/// The currency, and of the optional members only those that are kept.
fn details(vs_currencies: &[Arc<str>]) -> String {
    let vs = vs_currencies.first().map_or("usd", |vs| vs).to_ascii_uppercase();
    let vs: String = form_urlencoded::byte_serialize(vs.as_bytes()).collect();
    format!("convert={vs}&aux=cmc_rank,circulating_supply,total_supply")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(order: Order, number: usize, size: usize, wanted: usize) -> Request {
        let usd = [Arc::from("usd")];
        CoinMarketCap.price_page(&Page { order, vs_currencies: &usd, number, size, wanted })
    }

    #[test]
    fn a_page_costs_a_credit_for_two_hundred_coins() {
        let last = page(Order::Stable, 3, 5_000, 2_000);
        assert!(last.target.starts_with("/v3/cryptocurrency/listings/latest?start=10001&limit=5000&sort=date_added"));
        assert_eq!(last.credits, 10);
        let top = page(Order::MarketCap, 2, 5_000, 2_001);
        assert!(top.target.contains("start=5001&limit=2001&sort=market_cap&sort_dir=desc&convert=USD&aux="));
        assert_eq!((top.credits, top.older.as_deref().map(|path| &path[..18])), (11, Some("/v1/cryptocurrency")));
    }

    #[test]
    fn a_hundred_ids_go_into_a_call() {
        let ids: Vec<String> = (1..=250).map(|n| n.to_string()).collect();
        let (request, taken) = CoinMarketCap.prices_of(&[Arc::from("eur")], &ids);
        assert_eq!((taken, request.credits), (100, 1));
        assert!(request.target.contains("?id=1,2,3,") && request.target.contains("&convert=EUR"));
        assert!(CoinMarketCap.why_no_id("bitcoin").is_some() && CoinMarketCap.why_no_id("1").is_none());
    }

    #[test]
    fn without_a_key_the_public_path_is_asked() {
        let access = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            CoinMarketCap.access(&find).unwrap()
        };
        let none = access(&[("COINMARKETCAP_API_URL", "http://127.0.0.1:9/")]);
        assert_eq!((none.base_url.as_str(), none.credits_per_month), ("http://127.0.0.1:9/public-api", 0));
        assert!(CoinMarketCap.account(&none).is_none());
        let keyed = access(&[("COINMARKETCAP_API_KEY", "a-b")]);
        assert_eq!((keyed.base_url.as_str(), keyed.credits_per_month), (URL, 15_000));
        assert!(CoinMarketCap.account(&keyed).is_some());
    }
}
