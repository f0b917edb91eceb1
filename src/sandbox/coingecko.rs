//! CoinGecko's REST API, version 3, over the generated market.
//!
//! Stricter than the vendor where that is unknown: a parameter that this stand-in does not
//! understand is refused rather than ignored, so that nobody is misled.

use std::sync::Arc;

use super::answer::{Answer, Content};
use super::faults::{FaultKind, Spoiler, Struck, shifted};
use super::json;
use super::limits::Minutes;
use super::market::currency;
use super::market::{Coin, Currency, Market, Order};
use super::vendor::{Call, Endless, Vendor};

mod errors;
mod history;
mod record;
mod rules;

use errors::coded;
use record::{Precision, Recorder};

/// What every path of this API begins with.
pub const ROOT: &str = "/api/v3";

/// Lists up to this long are made whole, longer ones while they are sent.
const WHOLE_LIST: u32 = 100_000;
const MARKETS_CACHE: &str = "public, max-age=60";
const EMPTY_CHART: &[u8] = br#"{"prices":[],"market_caps":[],"total_volumes":[]}"#;
const LIST_CACHE: &str = "public, max-age=1800";

/// CoinGecko, with the calls of its callers.
#[derive(Debug)]
pub struct CoinGecko {
    minutes: Minutes,
}

impl CoinGecko {
    /// `calls_per_minute` 0 is no limit.
    pub fn new(calls_per_minute: u32) -> CoinGecko {
        CoinGecko { minutes: Minutes::new(calls_per_minute) }
    }
}

impl Vendor for CoinGecko {
    fn admit(&self, call: &Call) -> Result<(), Answer> {
        rules::admit(&self.minutes, call)
    }

    fn meets(&self, kind: FaultKind, _call: &Call) -> bool {
        kind != FaultKind::Gone
    }

    fn canned(&self, struck: Struck, call: &Call) -> Option<Answer> {
        let is_chart = call.path.contains("/market_chart");
        match struck.kind {
            FaultKind::Empty if is_chart => Some(Answer::json(EMPTY_CHART.to_vec(), "public, max-age=30")),
            kind => errors::canned(kind),
        }
    }

    fn answer(&self, call: &Call, struck: Option<Struck>) -> Answer {
        match call.path.strip_prefix(ROOT).filter(|_| call.reads()) {
            Some(path) => {
                let paid = rules::is_paid(call);
                answer(&Request { market: &call.market, at: call.at, path, query: &call.query, struck, paid })
            }
            None => Answer::error(404, r#"{"error":"not found"}"#),
        }
    }

    fn endless(&self, call: &Call) -> Endless {
        let query = [("vs_currency".to_owned(), "usd".to_owned())];
        let (market, at, path) = (&call.market, call.at, "/coins/markets");
        let page = Request { market, at, path, query: &query, struck: None, paid: false };
        Endless::of(answer(&page).whole(), 1, 1)
    }
}

/// One request for a path below the root.
pub struct Request<'a> {
    pub market: &'a Arc<Market>,
    /// Milliseconds since 1970.
    pub at: i64,
    pub path: &'a str,
    pub query: &'a [(String, String)],
    /// A fault that changes the data itself.
    pub struck: Option<Struck>,
    /// By somebody who pays.
    pub paid: bool,
}

/// Answers a request; never fails, since a refusal is an answer too.
pub fn answer(request: &Request<'_>) -> Answer {
    let answered = match request.path {
        "/ping" => Ok(Answer::json(br#"{"gecko_says":"(V3) To the Moon!"}"#.to_vec(), "private, max-age=0")),
        "/simple/supported_vs_currencies" => Ok(currencies()),
        "/simple/price" => request.simple_price(),
        "/coins/list" => request.coins_list(),
        "/coins/markets" => request.coins_markets(),
        path if path.starts_with("/coins/") => request.history(&path["/coins/".len()..]),
        _ => Err(Answer::error(404, r#"{"error":"Incorrect path. Please check https://www.coingecko.com/api/"}"#)),
    };
    answered.unwrap_or_else(|refused| refused)
}

fn currencies() -> Answer {
    let mut out = b"[".to_vec();
    for currency in &currency::ALL {
        separate(&mut out);
        json::string(&mut out, currency.code);
    }
    out.push(b']');
    Answer::json(out, "public, max-age=60")
}

impl Request<'_> {
    fn coins_list(&self) -> Result<Answer, Answer> {
        let with_platforms = self.flag("include_platform")?;
        match self.parameter("status") {
            None | Some("active") => {}
            Some("inactive") => {
                return Err(Answer::error(
                    401,
                    r#"{"status":{"error_code":10005,"error_message":"This request is limited to paid plans."}}"#,
                ));
            }
            Some(_) => return Err(invalid("status")),
        }
        let (market, at) = (Arc::clone(self.market), self.at);
        let spoiler = Spoiler::new(self.struck, market.assets() as usize);
        // Small enough to be sent as one frame, large enough to be compressed well.
        const PER_PIECE: u32 = 1_000;
        let pieces = (0..market.assets().div_ceil(PER_PIECE)).map(move |piece| {
            let (first, assets) = (piece * PER_PIECE, market.assets());
            let end = assets.min(first + PER_PIECE);
            let mut out = Vec::with_capacity(100 * PER_PIECE as usize);
            for n in first..end {
                out.push(if n == 0 { b'[' } else { b',' });
                let coin = market.listed(n, at);
                let spoilt = spoiler.and_then(|spoiler| spoiler.of(n as usize, &record::SPOILT));
                record::listed(&mut out, &market, &coin, with_platforms, spoilt);
            }
            if end == assets {
                out.push(b']');
            }
            out
        });
        let content = if self.market.assets() <= WHOLE_LIST {
            Content::Whole(pieces.flatten().collect())
        } else {
            Content::Pieces(Box::new(pieces))
        };
        Ok(Answer { content, ..Answer::json(Vec::new(), LIST_CACHE) })
    }

    fn coins_markets(&self) -> Result<Answer, Answer> {
        let code = self.parameter("vs_currency").ok_or_else(|| missing("vs_currency"))?;
        let currency = Currency::find(code).ok_or_else(|| invalid("vs_currency"))?;
        let per_page = self.number("per_page", 100, 1, 250)?;
        let page = self.number("page", 1, 1, u32::MAX)?;
        let (order, backwards) = self.order()?;
        for unserved in ["category", "names", "symbols"] {
            if self.parameter(unserved).is_some() {
                let body = format!(r#"{{"error":"the sandbox does not serve {unserved}"}}"#);
                return Err(Answer::error(400, body));
            }
        }
        let coins = match self.parameter("ids") {
            Some(ids) => self.chosen(ids, order, backwards, page, per_page)?,
            None => self.page(order, backwards, page, per_page),
        };
        let recorder = Recorder {
            market: self.market,
            ranks: &self.market.sorted(Order::MarketCap, self.at),
            currency,
            at: self.at,
            precision: self.precision()?,
            windows: &self.windows()?,
            sparkline: self.flag("sparkline")?,
        };
        let spoiler = Spoiler::new(self.struck, coins.len());
        let mut out = Vec::with_capacity(1_100 * coins.len() + 2);
        out.push(b'[');
        for (n, coin) in coins.iter().enumerate() {
            separate(&mut out);
            recorder.market(&mut out, coin, spoiler.and_then(|spoiler| spoiler.of(n, &record::SPOILT)));
        }
        out.push(b']');
        Ok(Answer::json(out, MARKETS_CACHE))
    }

    /// A page of all coins that have a market.
    fn page(&self, order: Order, backwards: bool, page: u32, per_page: u32) -> Vec<Coin> {
        let sorted = self.market.sorted(order, self.at);
        let count = sorted.slots.len();
        let first = shifted(self.struck, (page as usize - 1).saturating_mul(per_page as usize));
        let first = first.min(count);
        let end = first.saturating_add(per_page as usize).min(count);
        let slot_at = |place: usize| sorted.slots[if backwards { count - 1 - place } else { place }];
        (first..end).map(|place| self.market.coin(slot_at(place), self.at)).collect()
    }

    /// A page of chosen coins. Unknown ids are left out without a word, as the vendor does.
    fn chosen(&self, ids: &str, order: Order, backwards: bool, page: u32, per_page: u32) -> Result<Vec<Coin>, Answer> {
        let ids: Vec<&str> = ids.split(',').map(str::trim).collect();
        if ids.len() > 250 {
            let message = "the number of ids is over the limit of 250 for one request";
            return Err(coded(400, 10012, self.at, message));
        }
        let mut coins: Vec<Coin> = ids
            .iter()
            .filter_map(|id| self.market.find(id, self.at))
            .filter(|coin| self.market.has_market(coin.slot))
            .collect();
        coins.sort_unstable_by_key(|coin| coin.slot);
        coins.dedup();
        self.market.sort_chosen(order, self.at, &mut coins);
        if backwards {
            coins.reverse();
        }
        let first = (page as usize - 1).saturating_mul(per_page as usize);
        Ok(coins.into_iter().skip(first).take(per_page as usize).collect())
    }

    fn simple_price(&self) -> Result<Answer, Answer> {
        let ids = self.parameter("ids").ok_or_else(|| missing("ids"))?;
        let codes = self.parameter("vs_currencies").ok_or_else(|| missing("vs_currencies"))?;
        let currencies: Vec<&Currency> = codes.split(',').filter_map(Currency::find).collect();
        let with = record::SimpleParts {
            cap: self.flag("include_market_cap")?,
            volume: self.flag("include_24hr_vol")?,
            change: self.flag("include_24hr_change")?,
            updated: self.flag("include_last_updated_at")?,
            precision: self.precision()?,
        };
        let mut seen = Vec::new();
        let mut out = b"{".to_vec();
        // Not trimmed: after ", " the vendor finds no coin here, unlike in /coins/markets.
        for coin in ids.split(',').filter_map(|id| self.market.find(id, self.at)) {
            if self.market.has_market(coin.slot) && !seen.contains(&coin.slot) {
                seen.push(coin.slot);
                record::simple(&mut out, self.market, &coin, self.at, &currencies, &with);
            }
        }
        out.push(b'}');
        Ok(Answer::json(out, "public, max-age=60"))
    }

    /// A parameter's value; an empty one counts as absent, as in the vendor's framework.
    fn parameter(&self, name: &str) -> Option<&str> {
        let given = self.query.iter().rev().find(|(key, _)| key == name);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str, default: u32, low: u32, high: u32) -> Result<u32, Answer> {
        match self.parameter(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(value)) if (low..=high).contains(&value) => Ok(value),
            Some(_) => Err(invalid(name)),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, Answer> {
        match self.parameter(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name)),
        }
    }

    fn order(&self) -> Result<(Order, bool), Answer> {
        Ok(match self.parameter("order") {
            None | Some("market_cap_desc") => (Order::MarketCap, false),
            Some("market_cap_asc") => (Order::MarketCap, true),
            Some("volume_desc") => (Order::Volume, false),
            Some("volume_asc") => (Order::Volume, true),
            Some("id_asc") => (Order::Id, false),
            Some("id_desc") => (Order::Id, true),
            Some(_) => return Err(invalid("order")),
        })
    }

    fn precision(&self) -> Result<Precision, Answer> {
        match self.parameter("precision") {
            None => Ok(Precision::Usual),
            Some("full") => Ok(Precision::Full),
            Some(_) => self.number("precision", 0, 0, 18).map(|places| Precision::Places(places as i32)),
        }
    }

    /// The wanted windows of change, in the order of the answer's fields.
    fn windows(&self) -> Result<Vec<record::Window>, Answer> {
        let wanted = self.parameter("price_change_percentage").unwrap_or("");
        let mut windows = Vec::new();
        for name in wanted.split(',').filter(|name| !name.is_empty()) {
            let window = record::WINDOWS.iter().find(|window| window.name == name);
            windows.push(*window.ok_or_else(|| invalid("price_change_percentage"))?);
        }
        windows.sort_unstable_by_key(|window| window.name);
        windows.dedup_by_key(|window| window.name);
        Ok(windows)
    }
}

fn missing(parameter: &str) -> Answer {
    Answer::error(422, format!(r#"{{"error":"Missing parameter {parameter}"}}"#))
}

fn invalid(parameter: &str) -> Answer {
    Answer::error(400, format!(r#"{{"error":"invalid {parameter}"}}"#))
}

/// A comma, unless nothing stands before it.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'[' | b'{')) {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests;
