//! Which calls a run makes: the run sends them, the plan counts them.

use std::sync::Arc;

use super::{EVERYTHING, Order, Page, Request, Source};
use crate::domain::Cost;

/// Coins a source is taken to have before any are stored.
pub const COINS_IF_UNKNOWN: u64 = 17_600;

/// Whose prices are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    All,
    Top(u64),
    Ids(Vec<String>),
}

/// Page after page of all coins, or of the top ones.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    order: Order,
    size: u64,
    /// How many coins are wanted; `None` when nobody knows.
    coins: Option<u64>,
}

impl Paging {
    /// `active` = coins known to exist, 0 while none are.
    pub fn new(source: &dyn Source, top: Option<u64>, active: u64) -> Self {
        let page_size = source.page_size() as u64;
        let coins = match (top, active) {
            (Some(top), 0) => Some(top),
            (Some(top), active) => Some(top.min(active)),
            (None, 0) => None,
            (None, active) => Some(active),
        };
        let order = if top.is_some() { Order::MarketCap } else { Order::Stable };
        Paging { order, size: top.map_or(page_size, |top| top.min(page_size)), coins }
    }

    /// Coins on a full page.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last page's number; `None` when the source tells by a short page.
    pub fn last(&self) -> Option<u64> {
        if self.size == EVERYTHING as u64 {
            return Some(1);
        }
        self.coins.map(|coins| coins.div_ceil(self.size).max(1))
    }

    pub fn request(&self, source: &dyn Source, vs_currencies: &[Arc<str>], number: u64) -> Request {
        let before = (number - 1).saturating_mul(self.size);
        let wanted = self.coins.map_or(self.size, |coins| coins.saturating_sub(before).min(self.size));
        source.price_page(&Page {
            order: self.order,
            vs_currencies,
            number: number as usize,
            size: self.size as usize,
            wanted: wanted as usize,
        })
    }
}

/// What an `assets upsert` costs.
pub fn cost_of_assets(source: &dyn Source) -> Cost {
    of(&source.asset_list())
}

/// What a `prices insert` costs when no call fails and no coin moves between two pages. `active` =
/// stored active coins, 0 while none are.
pub fn cost_of_prices(source: &dyn Source, choice: &Choice, vs_currencies: &[Arc<str>], active: u64) -> Cost {
    let active = if active == 0 { COINS_IF_UNKNOWN } else { active };
    let mut cost = Cost::default();
    for group in vs_currencies.chunks(source.currencies_per_call()) {
        match choice {
            Choice::Ids(ids) => cost += cost_of_ids(source, group, ids),
            Choice::All | Choice::Top(_) => {
                let top = if let Choice::Top(top) = choice { Some(*top) } else { None };
                let paging = Paging::new(source, top, active);
                for number in 1..=paging.last().unwrap_or(1) {
                    cost += of(&paging.request(source, group, number));
                }
            }
        }
    }
    cost
}

/// What the exchange rates cost that come with the prices of all coins.
pub fn cost_of_rates(source: &dyn Source, choice: &Choice, vs_currencies: &[Arc<str>]) -> Cost {
    let asked = (*choice == Choice::All).then(|| source.rates(vs_currencies)).flatten();
    asked.as_ref().map_or(Cost::default(), of)
}

/// What it costs to ask for some coins by their ids.
pub fn cost_of_ids(source: &dyn Source, vs_currencies: &[Arc<str>], ids: &[String]) -> Cost {
    let (mut cost, mut rest) = (Cost::default(), ids);
    while !rest.is_empty() {
        let (request, taken) = source.prices_of(vs_currencies, rest);
        cost += of(&request);
        rest = &rest[taken.max(1)..];
    }
    cost
}

fn of(request: &Request) -> Cost {
    Cost { calls: 1, credits: request.credits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::find;

    fn cost(source: &str, choice: Choice, vs: &[&str], active: u64) -> (i64, i64) {
        let vs: Vec<Arc<str>> = vs.iter().map(|vs| Arc::from(*vs)).collect();
        let cost = cost_of_prices(find(source).unwrap(), &choice, &vs, active);
        (cost.calls, cost.credits)
    }

    #[test]
    fn rates_come_with_all_prices_of_coingecko_alone() {
        let rates = |source: &str, choice| cost_of_rates(find(source).unwrap(), &choice, &[Arc::from("eur")]).calls;
        assert_eq!((rates("coingecko", Choice::All), rates("coingecko", Choice::Top(5))), (1, 0));
        assert_eq!((rates("coinmarketcap", Choice::All), rates("coinbase", Choice::All)), (0, 0));
    }

    #[test]
    fn coingecko_takes_a_call_for_each_page_and_currency() {
        assert_eq!(cost("coingecko", Choice::All, &["usd"], 0), (71, 71));
        assert_eq!(cost("coingecko", Choice::All, &["usd", "eur"], 251), (4, 4));
        assert_eq!(cost("coingecko", Choice::Top(1_000), &["usd"], 17_600), (4, 4));
        assert_eq!(cost("coingecko", Choice::Top(1_000), &["usd"], 300), (2, 2));
        assert_eq!(cost("coingecko", Choice::Ids(vec!["bitcoin".into()]), &["usd", "eur"], 5), (2, 2));
    }

    #[test]
    fn coinmarketcap_takes_a_credit_for_two_hundred_coins() {
        assert_eq!(cost("coinmarketcap", Choice::All, &["usd"], 10_000), (2, 50));
        assert_eq!(cost("coinmarketcap", Choice::All, &["usd"], 12_000), (3, 60));
        assert_eq!(cost("coinmarketcap", Choice::All, &["usd"], 8_000), (2, 40));
        assert_eq!(cost("coinmarketcap", Choice::Top(4_000), &["usd"], 0), (1, 20));
        assert_eq!(cost("coinmarketcap", Choice::Top(201), &["usd", "eur"], 9_000), (2, 4));
        assert_eq!(cost("coinmarketcap", Choice::Ids(vec!["1".into(); 101]), &["usd"], 9_000), (2, 2));
    }

    #[test]
    fn coinbase_answers_everything_at_once() {
        assert_eq!(cost("coinbase", Choice::All, &["usd", "eur", "gbp"], 400), (1, 0));
        assert_eq!(cost("coinbase", Choice::Ids(vec!["BTC".into(), "ETH".into()]), &["usd", "eur"], 0), (1, 0));
    }
}
