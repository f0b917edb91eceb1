//! CoinGecko API v3: which calls to make. Shapes and limits follow its OpenAPI documents.

mod errors;
mod history;
mod parse;
mod rates;
mod wire;

use std::sync::Arc;

use url::form_urlencoded;

use super::access::{self, Access, SettingError, Variables};
use super::error::SourceError;
use super::history::History;
use super::{Order, Page, Points, Request, Shape, Source, Told};
use crate::domain::{Account, Coin, Rates, Reject};

const PUBLIC_URL: &str = "https://api.coingecko.com/api/v3";
const PRO_URL: &str = "https://pro-api.coingecko.com/api/v3";
const DEMO_KEY_HEADER: &str = "x-cg-demo-api-key";
const PRO_KEY_HEADER: &str = "x-cg-pro-api-key";
const URL_SETTING: &str = "COINGECKO_API_URL";

/// Calls a minute that each plan allows. The vendor tells 5 to 15 for nobody in particular, 30 to
/// 100 for a demo key and at least 250 for a paid one: the smallest is the one that always works.
const KEYLESS_CALLS_PER_MINUTE: u32 = 5;
const DEMO_CALLS_PER_MINUTE: u32 = 30;
const PRO_CALLS_PER_MINUTE: u32 = 250;
/// Calls a month: every call is one credit. Without a key no figure is told.
const DEMO_CREDITS_PER_MONTH: u64 = 10_000;
/// Of the smallest paid plan; `/key` tells the real one.
const PRO_CREDITS_PER_MONTH: u64 = 100_000;

/// Largest `per_page`, and most `ids` in one call.
const PAGE_SIZE: usize = 250;
/// Longest `ids` value: request lines beyond 8 KB are refused by servers on the way.
const MAX_IDS_BYTES: usize = 6_000;

const LIST: &str = "coins/list";
const MARKETS: &str = "coins/markets";
const PRICE: &str = "simple/price";

/// The vendor; it has no state of its own.
pub struct CoinGecko;

impl Source for CoinGecko {
    fn name(&self) -> &'static str {
        "coingecko"
    }

    /// A pro key goes to the pro host, and wins over a demo key.
    fn access(&self, variables: &Variables<'_>) -> Result<Access, SettingError> {
        let url = access::api_url(variables, URL_SETTING)?;
        let demo = access::key(variables, "COINGECKO_DEMO_API_KEY")?;
        let pro = access::key(variables, "COINGECKO_PRO_API_KEY")?;
        let (default_url, key, kind, calls_per_minute, credits_per_month) = match (pro, demo) {
            (Some(key), _) => {
                (PRO_URL, Some((PRO_KEY_HEADER, key)), "pro key", PRO_CALLS_PER_MINUTE, PRO_CREDITS_PER_MONTH)
            }
            (None, Some(key)) => {
                (PUBLIC_URL, Some((DEMO_KEY_HEADER, key)), "demo key", DEMO_CALLS_PER_MINUTE, DEMO_CREDITS_PER_MONTH)
            }
            (None, None) => (PUBLIC_URL, None, "no key", KEYLESS_CALLS_PER_MINUTE, 0),
        };
        let is_vendors = url.is_none();
        let base_url = url.unwrap_or_else(|| default_url.to_owned());
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
        "/api/v3"
    }

    fn asset_list(&self) -> Request {
        get(LIST, "/coins/list".to_owned(), Shape::Array)
    }

    fn parse_asset(&self, record: &[u8]) -> Result<Option<Coin>, Reject> {
        parse::asset(record).map(Some)
    }

    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn price_page(&self, page: &Page<'_>) -> Request {
        let order = match page.order {
            Order::Stable => "id_asc",
            Order::MarketCap => "market_cap_desc",
        };
        // The same size on each page: it is what the vendor counts its pages by.
        markets(page.vs_currencies, page.size, &format!("&order={order}&page={}", page.number))
    }

    fn prices_of(&self, vs_currencies: &[Arc<str>], ids: &[String]) -> (Request, usize) {
        let mut list = String::new();
        let mut taken = 0;
        for id in ids.iter().take(PAGE_SIZE) {
            let encoded: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
            if taken > 0 && list.len() + 1 + encoded.len() > MAX_IDS_BYTES {
                break;
            }
            if taken > 0 {
                // Bare commas: with "comma, space" the source drops what follows without a word.
                list.push(',');
            }
            list.push_str(&encoded);
            taken += 1;
        }
        // A page shorter than the list of ids would cut it.
        (markets(vs_currencies, PAGE_SIZE, &format!("&ids={list}")), taken)
    }

    fn parse_price(&self, record: &[u8], vs_currencies: &[Arc<str>], points: Points<'_>) {
        for (at, vs_currency) in vs_currencies.iter().enumerate() {
            points(at, parse::price(record, vs_currency));
        }
    }

    fn rates(&self, vs_currencies: &[Arc<str>]) -> Option<Request> {
        Some(rates::request(vs_currencies))
    }

    fn parse_rates(&self, record: &[u8], vs_currencies: &[Arc<str>]) -> Result<Rates, Reject> {
        rates::read(record, vs_currencies)
    }

    fn history(&self) -> Option<&dyn History> {
        Some(self)
    }

    fn explain(&self, told: &Told<'_>) -> SourceError {
        errors::explain(told)
    }

    fn accept(&self, told: &Told<'_>) -> Result<Option<i64>, SourceError> {
        if errors::is_told(told.body) { Err(errors::explain(told)) } else { Ok(None) }
    }

    fn probe(&self, access: &Access) -> Request {
        let ping = || get("ping", "/ping".to_owned(), Shape::One("ping".to_owned()));
        self.account(access).unwrap_or_else(ping)
    }

    /// Paid plans alone can ask for theirs.
    fn account(&self, access: &Access) -> Option<Request> {
        let pro = access.key.as_ref().is_some_and(|(header, _)| *header == PRO_KEY_HEADER);
        pro.then(|| get("key", "/key".to_owned(), Shape::One("key".to_owned())))
    }

    fn parse_account(&self, record: &[u8]) -> Option<Account> {
        parse::account(record)
    }
}

/// Every call costs one credit, whatever it asks for.
fn get(endpoint: &'static str, target: String, shape: Shape) -> Request {
    Request { endpoint, target, older: None, shape, credits: 1 }
}

fn markets(vs_currencies: &[Arc<str>], per_page: usize, rest: &str) -> Request {
    let vs = vs_currencies.first().map_or("usd", |vs| vs);
    let vs: String = form_urlencoded::byte_serialize(vs.as_bytes()).collect();
    let target = format!(
        "/coins/markets?vs_currency={vs}&per_page={per_page}{rest}\
         &price_change_percentage=1h,24h,7d,30d&precision=full&sparkline=false"
    );
    get(MARKETS, target, Shape::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_by_count_and_by_bytes() {
        let usd = [Arc::from("usd")];
        let short: Vec<String> = (0..600).map(|n| format!("coin-{n}")).collect();
        assert_eq!(CoinGecko.prices_of(&usd, &short).1, 250);
        let long: Vec<String> = (0..600).map(|n| format!("{n:0>70}")).collect();
        let (request, taken) = CoinGecko.prices_of(&usd, &long);
        assert_eq!(taken, 84);
        assert!(request.target.len() < 6_300);
        let odd = vec!["1move token".to_owned(), "a&b".to_owned()];
        assert!(CoinGecko.prices_of(&usd, &odd).0.target.contains("&ids=1move+token,a%26b&"));
        assert_eq!(CoinGecko.prices_of(&usd, &["🟥".repeat(2000)]).1, 1);
    }

    #[test]
    fn the_key_decides_host_header_and_pace() {
        let access = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            CoinGecko.access(&find).unwrap()
        };
        let none = access(&[]);
        assert_eq!((none.base_url.as_str(), none.calls_per_minute, none.credits_per_month), (PUBLIC_URL, 5, 0));
        let demo = access(&[("COINGECKO_DEMO_API_KEY", "CG-x")]);
        assert_eq!((demo.base_url.as_str(), demo.calls_per_minute, demo.credits_per_month), (PUBLIC_URL, 30, 10_000));
        assert!(CoinGecko.account(&demo).is_none());
        assert_eq!(demo.key.unwrap().0, DEMO_KEY_HEADER);
        let pro = access(&[("COINGECKO_DEMO_API_KEY", "CG-x"), ("COINGECKO_PRO_API_KEY", "CG-y")]);
        assert!(CoinGecko.account(&pro).is_some());
        assert_eq!((pro.base_url.as_str(), pro.key.unwrap().0), (PRO_URL, PRO_KEY_HEADER));
        let own = access(&[("COINGECKO_API_URL", "http://127.0.0.1:9/api/v3/")]);
        assert_eq!(own.base_url, "http://127.0.0.1:9/api/v3");
    }
}
