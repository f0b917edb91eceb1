//! CoinGecko API v3: which calls to make. Shapes and limits follow its OpenAPI documents.

mod errors;
mod parse;
mod wire;

use std::sync::Arc;

use url::form_urlencoded;

use super::error::SourceError;
use super::{ErrorAnswer, Order, Request, Source};
use crate::domain::{Coin, PricePoint, Reject};

pub const PUBLIC_URL: &str = "https://api.coingecko.com/api/v3";
pub const PRO_URL: &str = "https://pro-api.coingecko.com/api/v3";
pub const DEMO_KEY_HEADER: &str = "x-cg-demo-api-key";
pub const PRO_KEY_HEADER: &str = "x-cg-pro-api-key";

/// Calls a minute that each plan allows. The vendor tells 5 to 15 for nobody in particular, 30 to
/// 100 for a demo key and at least 250 for a paid one: the smallest is the one that always works.
pub const KEYLESS_CALLS_PER_MINUTE: u32 = 5;
pub const DEMO_CALLS_PER_MINUTE: u32 = 30;
pub const PRO_CALLS_PER_MINUTE: u32 = 250;

/// Largest `per_page`, and most `ids` in one call.
const PAGE_SIZE: usize = 250;
/// Longest `ids` value: request lines beyond 8 KB are refused by servers on the way.
const MAX_IDS_BYTES: usize = 6_000;

const LIST: &str = "coins/list";
const MARKETS: &str = "coins/markets";

/// The vendor; it has no state of its own.
pub struct CoinGecko;

impl Source for CoinGecko {
    fn name(&self) -> &'static str {
        "coingecko"
    }

    fn page_size(&self) -> usize {
        PAGE_SIZE
    }

    fn asset_list(&self) -> Request {
        Request { endpoint: LIST, target: "/coins/list".to_owned() }
    }

    fn price_page(&self, order: Order, vs_currency: &str, page: usize, per_page: usize) -> Request {
        let order = match order {
            Order::Id => "id_asc",
            Order::MarketCap => "market_cap_desc",
        };
        markets(vs_currency, per_page, &format!("&order={order}&page={page}"))
    }

    fn prices_of(&self, vs_currency: &str, ids: &[String]) -> (Request, usize) {
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
        (markets(vs_currency, PAGE_SIZE, &format!("&ids={list}")), taken)
    }

    fn parse_asset(&self, record: &[u8]) -> Result<Coin, Reject> {
        parse::asset(record)
    }

    fn parse_price(&self, record: &[u8], vs_currency: &Arc<str>) -> Result<PricePoint, Reject> {
        parse::price(record, vs_currency)
    }

    fn explain(&self, answer: &ErrorAnswer<'_>) -> SourceError {
        errors::explain(answer)
    }
}

fn markets(vs_currency: &str, per_page: usize, rest: &str) -> Request {
    let vs: String = form_urlencoded::byte_serialize(vs_currency.as_bytes()).collect();
    Request {
        endpoint: MARKETS,
        target: format!(
            "/coins/markets?vs_currency={vs}&per_page={per_page}{rest}\
             &price_change_percentage=1h,24h,7d,30d&precision=full&sparkline=false"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut_by_count_and_by_bytes() {
        let short: Vec<String> = (0..600).map(|n| format!("coin-{n}")).collect();
        assert_eq!(CoinGecko.prices_of("usd", &short).1, 250);
        let long: Vec<String> = (0..600).map(|n| format!("{n:0>70}")).collect();
        let (request, taken) = CoinGecko.prices_of("usd", &long);
        assert_eq!(taken, 84);
        assert!(request.target.len() < 6_300);
        let odd = vec!["1move token".to_owned(), "a&b".to_owned()];
        assert!(CoinGecko.prices_of("usd", &odd).0.target.contains("&ids=1move+token,a%26b&"));
        assert_eq!(CoinGecko.prices_of("usd", &["🟥".repeat(2000)]).1, 1);
    }
}
