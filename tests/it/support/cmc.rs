//! CoinMarketCap as the stub plays it: a market of coins whose figures are given as JSON text, so
//! that every number arrives exactly as written; by the paths of all versions, with a key or without.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use super::stub::{Stub, StubRequest, StubResponse};
use super::test_db::TestDb;
use super::workdir::Cmd;

pub const KEY: &str = "cmc-test-key";
pub const KEY_HEADER: &str = "x-cmc_pro_api_key";
pub const MAP: &str = "/v1/cryptocurrency/map";
pub const LISTINGS: &str = "/v3/cryptocurrency/listings/latest";
pub const QUOTES: &str = "/v3/cryptocurrency/quotes/latest";

/// A coin of the market. Values of members are JSON text.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub id: String,
    pub symbol: String,
    pub name: String,
    pub members: Vec<(String, String)>,
    /// Members of its quote in whatever currency is asked for.
    pub quote: Vec<(String, String)>,
    /// What price answers hold instead of all that.
    pub raw: Option<String>,
    /// The map still has it, as one that is not active.
    pub inactive: bool,
}

fn owned(members: &[(&str, &str)]) -> Vec<(String, String)> {
    members.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn text(value: &str) -> String {
    serde_json::to_string(value).expect("a JSON string")
}

impl Record {
    /// A coin with these members in its quote.
    pub fn new(id: usize, quote: &[(&str, &str)]) -> Self {
        let (symbol, name) = (format!("C{id}"), format!("Coin {id}"));
        Record { id: id.to_string(), symbol, name, quote: owned(quote), ..Record::default() }
    }

    /// A coin such as most are: figures, a rank, and a time of its own.
    pub fn usual(id: usize) -> Self {
        let (price, volume, cap) = (format!("{id}.25"), format!("{}", 1_000 + id), format!("{}", 1_000_000 - id));
        let quote = [
            ("price", price.as_str()),
            ("volume_24h", &volume),
            ("market_cap", &cap),
            ("percent_change_24h", "-1.5"),
            ("last_updated", "\"2026-09-16T09:14:00.000Z\""),
        ];
        Record::new(id, &quote).with(&[("cmc_rank", &id.to_string()), ("total_supply", "null")])
    }

    /// With these members beside its quote.
    pub fn with(mut self, members: &[(&str, &str)]) -> Self {
        self.members.extend(owned(members));
        self
    }

    pub fn named(self, symbol: &str, name: &str) -> Self {
        Record { symbol: symbol.into(), name: name.into(), ..self }
    }

    /// With this instead of its record in price answers.
    pub fn raw(self, json: &str) -> Self {
        Record { raw: Some(json.into()), ..self }
    }

    /// Its record in a price answer.
    pub fn json(&self, shape: Shape, currency: &str) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut json = format!(r#"{{"id":{},"name":{},"symbol":{}"#, self.id, text(&self.name), text(&self.symbol));
        let push = |json: &mut String, name: &str, value: &str| {
            let _ = write!(json, r#","{name}":{value}"#);
        };
        for (name, value) in &self.members {
            push(&mut json, name, value);
        }
        let mut quote = format!(r#"{{"id":2781,"symbol":"{currency}""#);
        if shape == Shape::Map {
            quote = r#"{"volume_change_24h":0"#.to_owned();
        }
        for (name, value) in &self.quote {
            push(&mut quote, name, value);
        }
        match shape {
            Shape::Array => push(&mut json, "quote", &format!("[{quote}}}]")),
            Shape::Map => push(&mut json, "quote", &format!(r#"{{"{currency}":{quote}}}}}"#)),
        }
        json.push('}');
        json
    }
}

/// Where the figures of a currency are: `[{"symbol":"USD",…}]` or `{"USD":{…}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Array,
    Map,
}

/// What the vendor has at this moment, and how it tells it.
#[derive(Debug, Clone)]
pub struct State {
    /// The coins of the map; by default those with prices.
    pub listed: Option<Vec<Record>>,
    /// The largest first.
    pub records: Vec<Record>,
    /// On the first pages only so many of them; the others are known by their ids.
    pub on_pages: usize,
    /// The code of success, as JSON.
    pub ok: &'static str,
    /// By default that of the path's version.
    pub shape: Option<Shape>,
    /// Quotes come as `{"1":{…}}` also by version 3.
    pub quotes_by_id: bool,
    pub has_v3: bool,
}

/// A stub with a market whose content a test may change between calls.
pub struct Cmc {
    pub stub: Stub,
    pub state: Arc<Mutex<State>>,
}

impl Cmc {
    pub fn new(records: Vec<Record>) -> Self {
        Cmc::with(records, |_, _| None)
    }

    /// `first` may answer a request itself, or change the market before it is answered.
    pub fn with(
        records: Vec<Record>,
        first: impl Fn(&StubRequest, &mut State) -> Option<StubResponse> + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            listed: None,
            records,
            on_pages: usize::MAX,
            ok: "0",
            shape: None,
            quotes_by_id: false,
            has_v3: true,
        };
        let state = Arc::new(Mutex::new(state));
        let stub = Stub::start({
            let state = state.clone();
            move |request| {
                let mut state = state.lock().expect("the market");
                first(request, &mut state).unwrap_or_else(|| answer(request, &state))
            }
        });
        Cmc { stub, state }
    }

    /// `n` usual coins with the ids from 1.
    pub fn usual(n: usize) -> Self {
        Cmc::new((1..=n).map(Record::usual).collect())
    }

    /// What `COINMARKETCAP_API_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.stub.address())
    }

    /// `coinetl ARGS…` on this vendor, with a key.
    pub fn ask(&self, db: &TestDb, args: &[&str]) -> Cmd {
        self.ask_keyless(db, args).env("COINMARKETCAP_API_KEY", KEY)
    }

    pub fn ask_keyless(&self, db: &TestDb, args: &[&str]) -> Cmd {
        db.coinetl(args).args(["--source", "coinmarketcap"]).env("COINMARKETCAP_API_URL", self.url())
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("the market"));
    }

    /// What was asked since the last time, and forgets it.
    pub fn take_calls(&self) -> Vec<StubRequest> {
        self.stub.take()
    }
}

/// An error in the vendor's envelope; the code is JSON text.
pub fn error(status: u16, code: &str, message: &str) -> StubResponse {
    let body = format!(
        r#"{{"status":{{"timestamp":"2026-09-16T09:14:30.000Z","error_code":{code},"error_message":{},"elapsed":0,"credit_count":0}}}}"#,
        text(message)
    );
    StubResponse::new(status, "application/json; charset=utf-8", body)
}

/// A good answer that cost so many credits.
pub fn envelope(ok: &str, credits: usize, data: &str) -> StubResponse {
    StubResponse::json(format!(
        r#"{{"status":{{"timestamp":"2026-09-16T09:14:30.000Z","error_code":{ok},"error_message":"","elapsed":17,"credit_count":{credits},"notice":null}},"data":{data}}}"#
    ))
}

/// The vendor's own behaviour.
pub fn answer(request: &StubRequest, state: &State) -> StubResponse {
    let keyless = request.path.strip_prefix("/public-api");
    if keyless.is_none() && request.header(KEY_HEADER).is_none() {
        return error(401, "1002", "API key missing.");
    }
    let path = keyless.unwrap_or(&request.path).trim_start_matches('/');
    let (version, endpoint) = path.split_once('/').unwrap_or_default();
    match (version, endpoint) {
        ("v1", "cryptocurrency/map") => map(state),
        ("v3", "cryptocurrency/listings/latest") if state.has_v3 => listings(request, state, Shape::Array),
        ("v1", "cryptocurrency/listings/latest") => listings(request, state, Shape::Map),
        ("v3", "cryptocurrency/quotes/latest") if state.has_v3 => quotes(request, state, Shape::Array),
        ("v2", "cryptocurrency/quotes/latest") => quotes(request, state, Shape::Map),
        ("v1", "key/info") if keyless.is_none() => key_info(state),
        _ => error(404, "404", "Not found"),
    }
}

fn map(state: &State) -> StubResponse {
    let coins: Vec<String> = state
        .listed
        .as_ref()
        .unwrap_or(&state.records)
        .iter()
        .map(|record| {
            let (id, symbol, name) = (&record.id, text(&record.symbol), text(&record.name));
            let active = u8::from(!record.inactive);
            format!(
                r#"{{"id":{id},"rank":{id},"name":{name},"symbol":{symbol},"slug":"c-{id}","is_active":{active},"platform":null}}"#
            )
        })
        .collect();
    envelope(state.ok, 0, &format!("[{}]", coins.join(",")))
}

fn listings(request: &StubRequest, state: &State, shape: Shape) -> StubResponse {
    let (start, limit) = (request.number("start").unwrap_or(1), request.number("limit").unwrap_or(100));
    if start < 1 || !(1..=5_000).contains(&limit) {
        return error(400, "400", "\"limit\" must be between 1 and 5000");
    }
    let mut records: Vec<&Record> = state.records.iter().take(state.on_pages).collect();
    if request.param("sort") == Some("date_added") {
        records.sort_by_key(|record| record.id.parse::<u64>().unwrap_or(u64::MAX));
    }
    let page: Vec<&Record> = records.into_iter().skip(start - 1).take(limit).collect();
    let (shape, currency) = (state.shape.unwrap_or(shape), request.param("convert").unwrap_or("USD"));
    let coins: Vec<String> = page.iter().map(|record| record.json(shape, currency)).collect();
    envelope(state.ok, page.len().div_ceil(200), &format!("[{}]", coins.join(",")))
}

fn quotes(request: &StubRequest, state: &State, shape: Shape) -> StubResponse {
    let Some(ids) = request.param("id") else {
        return error(400, "400", "\"value\" must contain at least one of [id, symbol, slug]");
    };
    let ids: Vec<&str> = ids.split(',').collect();
    let found: Vec<&Record> = state.records.iter().filter(|record| ids.contains(&record.id.as_str())).collect();
    if found.len() < ids.len() && request.param("skip_invalid") != Some("true") {
        return error(400, "400", "Invalid value for \"id\"");
    }
    let by_id = shape == Shape::Map || state.quotes_by_id;
    let (shape, currency) = (state.shape.unwrap_or(shape), request.param("convert").unwrap_or("USD"));
    let coin = |record: &&Record| match by_id {
        true => format!(r#""{}":{}"#, record.id, record.json(shape, currency)),
        false => record.json(shape, currency),
    };
    let coins = found.iter().map(coin).collect::<Vec<_>>().join(",");
    let data = if by_id { format!("{{{coins}}}") } else { format!("[{coins}]") };
    envelope(state.ok, found.len().div_ceil(100), &data)
}

fn key_info(state: &State) -> StubResponse {
    let plan = r#"{"credit_limit_monthly":15000,"credit_limit_monthly_reset":"In 4 days","rate_limit_minute":30}"#;
    let usage = r#"{"current_minute":{"requests_made":1,"requests_left":29},"current_month":{"credits_used":0,"credits_left":15000}}"#;
    envelope(state.ok, 0, &format!(r#"{{"plan":{plan},"usage":{usage}}}"#))
}
