//! CoinMarketCap's API, versions 1 to 3, over the generated market.
//!
//! Stricter than the vendor where that is unknown: a parameter that this stand-in does not
//! understand is refused rather than ignored, so that nobody is misled. Figures are those of the
//! same coins that CoinGecko's stand-in serves.

use std::sync::Arc;

use super::answer::Answer;
use super::faults::{self, FaultKind, Spoiler, Struck, shifted};
use super::json::{integer, key, plain_string};
use super::market::{Coin, Market, Order};
use super::vendor::{Call, Endless, Vendor};

mod accounts;
mod conversion;
mod envelope;
mod fields;
mod global;
mod ids;
mod key_info;
mod labels;
mod map;
mod parameters;
mod record;

use accounts::{Accounts, Caller};
use envelope::Envelope;
use fields::{Aux, Kind};
use parameters::Parameters;
use record::{Recorder, SPOILT};

const KEY: &str = "x-cmc_pro_api_key";
/// Before the paths that need no key.
const KEYLESS: &str = "/public-api";
/// Coins that one credit pays for.
const LISTINGS_PER_CREDIT: usize = 200;
const QUOTES_PER_CREDIT: usize = 100;

/// Whether a path is one of this vendor's.
pub fn serves(path: &str) -> bool {
    let path = path.strip_prefix(KEYLESS).unwrap_or(path);
    ["/v1/", "/v2/", "/v3/"].iter().any(|version| path.starts_with(version))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
    V3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Map,
    Listings,
    Quotes,
    Global,
    KeyInfo,
    /// What was: no plan without a price has any of it.
    Historical,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
struct Route {
    endpoint: Option<Endpoint>,
    version: Version,
    keyless: bool,
}

impl Route {
    fn of(path: &str) -> Route {
        use Endpoint::*;
        let keyed = path.strip_prefix(KEYLESS);
        let (version, rest) = match keyed.unwrap_or(path).split_at_checked(3) {
            Some(("/v2", rest)) => (Version::V2, rest),
            Some(("/v3", rest)) => (Version::V3, rest),
            Some((_, rest)) => (Version::V1, rest),
            None => (Version::V1, ""),
        };
        let endpoint = match (rest, version) {
            ("/cryptocurrency/map", Version::V1) => Some(Map),
            ("/cryptocurrency/listings/latest", Version::V1 | Version::V3) => Some(Listings),
            ("/cryptocurrency/quotes/latest", _) => Some(Quotes),
            ("/global-metrics/quotes/latest", Version::V1) => Some(Global),
            ("/key/info", Version::V1) => Some(KeyInfo),
            ("/cryptocurrency/ohlcv/historical", Version::V1 | Version::V2) => Some(Historical),
            ("/cryptocurrency/quotes/historical", _) => Some(Historical),
            _ => None,
        };
        Route { endpoint, version, keyless: keyed.is_some() }
    }

    fn envelope(self, at: i64) -> Envelope {
        Envelope { modern: self.keyless || self.version == Version::V3, at }
    }

    fn costs(self) -> bool {
        !matches!(self.endpoint, Some(Endpoint::Map | Endpoint::KeyInfo | Endpoint::Historical))
    }
}

/// CoinMarketCap, with the accounts of its keys.
#[derive(Debug)]
pub struct CoinMarketCap {
    accounts: Accounts,
}

impl CoinMarketCap {
    /// Limits of 0 are none.
    pub fn new(calls_per_minute: u32, credits_per_month: u32) -> CoinMarketCap {
        CoinMarketCap { accounts: Accounts::new(calls_per_minute, credits_per_month) }
    }
}

impl Vendor for CoinMarketCap {
    fn admit(&self, call: &Call) -> Result<(), Answer> {
        let route = Route::of(&call.path);
        let envelope = route.envelope(call.at);
        if route.endpoint.is_none() {
            return Err(not_found(envelope));
        }
        if route.keyless {
            if matches!(route.endpoint, Some(Endpoint::KeyInfo | Endpoint::Historical)) {
                return Err(envelope.error(403, 1005, "An API Key is required for this call."));
            }
            return match self.accounts.enter(&Caller::Address(call.peer), call.at) {
                true => Ok(()),
                false => Err(limited(envelope, 429, 1011)),
            };
        }
        let key = given_key(call);
        if key.is_empty() {
            return Err(envelope.error(401, 1002, "API key missing."));
        }
        if !accounts::is_key(key) {
            return Err(envelope.error(401, 1001, "This API Key is invalid."));
        }
        let caller = Caller::Key(key.to_owned());
        if !self.accounts.enter(&caller, call.at) {
            return Err(limited(envelope, 429, 1008));
        }
        if route.costs() && self.accounts.is_spent(&caller, call.at) {
            return Err(limited(envelope, 429, 1010));
        }
        Ok(())
    }

    fn meets(&self, kind: FaultKind, call: &Call) -> bool {
        kind != FaultKind::Gone || Route::of(&call.path).version == Version::V3
    }

    fn canned(&self, struck: Struck, call: &Call) -> Option<Answer> {
        let route = Route::of(&call.path);
        let envelope = route.envelope(call.at);
        let minute = if route.keyless { 1011 } else { 1008 };
        let answer = match struck.kind {
            FaultKind::TooMany => Answer { retry_after: Some(1), ..limited(envelope, 429, minute) },
            FaultKind::TooManyBare => limited(envelope, 429, minute),
            FaultKind::Spent => limited(envelope, 429, 1010),
            FaultKind::Internal => internal(envelope, 500),
            FaultKind::ErrorIn200 if struck.bits & 1 == 0 => internal(envelope, 200),
            FaultKind::ErrorIn200 => limited(envelope, 200, minute),
            FaultKind::Gone => not_found(envelope),
            FaultKind::Html => faults::html(),
            FaultKind::Empty => {
                let mapped = match route.endpoint {
                    Some(Endpoint::Quotes) => route.version != Version::V3,
                    endpoint => matches!(endpoint, Some(Endpoint::Global | Endpoint::KeyInfo)),
                };
                envelope.answer(if mapped { b"{}" } else { b"[]" }, 0, None)
            }
            _ => return None,
        };
        Some(answer)
    }

    fn answer(&self, call: &Call, struck: Option<Struck>) -> Answer {
        let route = Route::of(&call.path);
        let envelope = route.envelope(call.at);
        let Some(endpoint) = route.endpoint.filter(|_| call.reads()) else {
            return not_found(envelope);
        };
        let request = Request { market: &call.market, at: call.at, route, envelope, query: &call.query, struck };
        let caller = Caller::Key(given_key(call).to_owned());
        let answered = match endpoint {
            Endpoint::Map => map::answer(&request).map(|answer| (answer, 0)),
            Endpoint::Listings => request.listings(),
            Endpoint::Quotes => request.quotes(),
            Endpoint::Global => global::answer(&request),
            Endpoint::KeyInfo => key_info::answer(&request, &self.accounts, &caller).map(|answer| (answer, 0)),
            Endpoint::Historical => {
                let why = "Your API Key subscription plan doesn't support this endpoint.";
                Err(envelope.error(403, 1006, why))
            }
        };
        match answered {
            Ok((answer, credits)) => {
                if credits > 0 {
                    self.accounts.charge(&caller, credits, call.at);
                }
                answer
            }
            Err(refused) => refused,
        }
    }

    fn endless(&self, call: &Call) -> Endless {
        let route = Route { endpoint: Some(Endpoint::Listings), ..Route::of(&call.path) };
        // With the status in front the data can go on for ever.
        let envelope = Envelope { modern: false, at: call.at };
        let request = Request { market: &call.market, at: call.at, route, envelope, query: &[], struck: None };
        match request.listings() {
            Ok((answer, _)) => {
                let whole = answer.whole();
                let opening = whole.iter().position(|byte| *byte == b'[').map_or(0, |bracket| bracket + 1);
                Endless::of(whole, opening, 2)
            }
            Err(refused) => Endless::of(refused.whole(), 0, 0),
        }
    }
}

fn given_key(call: &Call) -> &str {
    let parameter = || call.query.iter().find(|(name, _)| name == "CMC_PRO_API_KEY").map(|(_, key)| key.as_str());
    call.header(KEY).or_else(parameter).unwrap_or("").trim()
}

fn limited(envelope: Envelope, status: u16, code: u32) -> Answer {
    let message = match code {
        1010 => "You've exceeded your API Key's monthly credit limit.",
        1011 => "You've hit an IP rate limit.",
        _ => "You've exceeded your API Key's HTTP request rate limit. Rate limits reset every minute.",
    };
    envelope.error(status, code, message)
}

fn internal(envelope: Envelope, status: u16) -> Answer {
    envelope.error(status, 500, "An internal server error occurred")
}

fn not_found(envelope: Envelope) -> Answer {
    envelope.error(404, 404, "Not Found")
}

/// One request that was let in.
pub struct Request<'a> {
    market: &'a Arc<Market>,
    at: i64,
    route: Route,
    envelope: Envelope,
    query: &'a [(String, String)],
    /// A fault that changes the data itself.
    struck: Option<Struck>,
}

/// Filters that only the vendor has.
const FILTERS: [&str; 13] = [
    "price_min",
    "price_max",
    "market_cap_min",
    "market_cap_max",
    "volume_24h_min",
    "volume_24h_max",
    "circulating_supply_min",
    "circulating_supply_max",
    "percent_change_24h_min",
    "percent_change_24h_max",
    "symbol",
    "self_reported_market_cap_min",
    "self_reported_market_cap_max",
];

impl Request<'_> {
    fn listings(&self) -> Result<(Answer, u32), Answer> {
        const ORDERS: [(&str, (Order, bool)); 11] = [
            ("market_cap", (Order::MarketCap, false)),
            ("market_cap_strict", (Order::MarketCap, false)),
            ("name", (Order::Name, true)),
            ("symbol", (Order::Symbol, true)),
            ("date_added", (Order::Newest, false)),
            ("price", (Order::Price, false)),
            ("circulating_supply", (Order::Circulating, false)),
            ("volume_24h", (Order::Volume, false)),
            ("percent_change_1h", (Order::HourGain, false)),
            ("percent_change_24h", (Order::DayGain, false)),
            ("percent_change_7d", (Order::WeekGain, false)),
        ];
        let served =
            ["start", "limit", "convert", "convert_id", "sort", "sort_dir", "aux", "cryptocurrency_type", "tag"];
        let parameters = Parameters::new(self.query, self.envelope, &served, &FILTERS)?;
        let start = parameters.number("start", usize::MAX)?.unwrap_or(1);
        let limit = parameters.number("limit", 5_000)?.unwrap_or(100);
        let (order, rising) = parameters.choice("sort", &ORDERS)?;
        let wanted_rising = match parameters.text("sort_dir") {
            None => rising,
            Some(_) => parameters.choice("sort_dir", &[("asc", true), ("desc", false)])?,
        };
        parameters.choice("cryptocurrency_type", &[("all", ())])?;
        parameters.choice("tag", &[("all", ())])?;
        let aux = Aux::new(Kind::Listings, parameters.text("aux")).map_err(|word| parameters.invalid("aux", word))?;
        let conversion = parameters.conversion()?;

        let sorted = self.market.sorted(order, self.at);
        let count = sorted.slots.len();
        let first = shifted(self.struck, start - 1).min(count);
        let end = first.saturating_add(limit).min(count);
        let backwards = rising != wanted_rising;
        let slot_at = |place: usize| sorted.slots[if backwards { count - 1 - place } else { place }];
        let coins: Vec<Coin> = (first..end).map(|place| self.market.coin(slot_at(place), self.at)).collect();

        let recorder = Recorder::new(self.market, self.at, self.route.version, Kind::Listings, aux, conversion);
        let credits = self.credits(coins.len(), LISTINGS_PER_CREDIT);
        let data = self.array(&recorder, &coins);
        Ok((self.envelope.answer(&data, credits, Some(count)), credits))
    }

    fn quotes(&self) -> Result<(Answer, u32), Answer> {
        let served = ["id", "convert", "convert_id", "aux", "skip_invalid"];
        let parameters = Parameters::new(self.query, self.envelope, &served, &["slug", "symbol"])?;
        let skip = parameters.choice("skip_invalid", &[("true", true), ("false", false)])?;
        let aux = Aux::new(Kind::Quotes, parameters.text("aux")).map_err(|word| parameters.invalid("aux", word))?;
        let conversion = parameters.conversion()?;
        let Some(words) = parameters.words("id") else {
            return Err(self.envelope.invalid("\"value\" must contain at least one of [id, symbol, slug]"));
        };
        let mut chosen: Vec<(u64, Coin)> = Vec::new();
        for word in words {
            let Ok(id) = word.parse::<u64>() else {
                let message = "\"id\" should only include comma-separated numeric CoinMarketCap id's";
                return Err(self.envelope.invalid(message));
            };
            match ids::find(self.market, id, self.at).filter(|coin| self.market.has_market(coin.slot)) {
                Some(coin) => chosen.push((id, coin)),
                None if skip => {}
                None => return Err(parameters.invalid("id", word)),
            }
        }
        chosen.sort_unstable_by_key(|(id, _)| *id);
        chosen.dedup_by_key(|(id, _)| *id);

        let recorder = Recorder::new(self.market, self.at, self.route.version, Kind::Quotes, aux, conversion);
        let coins: Vec<Coin> = chosen.iter().map(|(_, coin)| *coin).collect();
        let data = match self.route.version {
            Version::V3 => self.array(&recorder, &coins),
            _ => self.keyed(&recorder, &chosen),
        };
        let credits = self.credits(coins.len(), QUOTES_PER_CREDIT);
        Ok((self.envelope.answer(&data, credits, None), credits))
    }

    fn array(&self, recorder: &Recorder<'_>, coins: &[Coin]) -> Vec<u8> {
        let spoiler = Spoiler::new(self.struck, coins.len());
        let mut out = Vec::with_capacity(1_300 * coins.len() + 2);
        out.push(b'[');
        for (n, coin) in coins.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            recorder.coin(&mut out, coin, spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)));
        }
        out.push(b']');
        out
    }

    fn keyed(&self, recorder: &Recorder<'_>, coins: &[(u64, Coin)]) -> Vec<u8> {
        let spoiler = Spoiler::new(self.struck, coins.len());
        let mut out = b"{".to_vec();
        for (n, (id, coin)) in coins.iter().enumerate() {
            key(&mut out, &id.to_string());
            recorder.coin(&mut out, coin, spoiler.and_then(|spoiler| spoiler.of(n, &SPOILT)));
        }
        out.push(b'}');
        out
    }

    /// What an answer costs: a call without a key nothing, since nobody could pay; any other at
    /// least one credit.
    fn credits(&self, records: usize, per_credit: usize) -> u32 {
        match self.route.keyless {
            true => 0,
            false => records.div_ceil(per_credit).max(1) as u32,
        }
    }
}

#[cfg(test)]
mod tests;
