//! CoinGecko as the stub plays it: a list and a market of records, given as JSON text so that every
//! number arrives exactly as written.

use std::sync::{Arc, Mutex};

use super::stub::{Stub, StubRequest, StubResponse};

/// When the vendor last looked at what Bitcoin costs: 2026-09-16T09:14:00Z.
const RATES_AT: i64 = 1_789_550_040;

/// A record of `/coins/markets`, and the coin it is about.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: String,
    pub json: String,
}

impl Record {
    /// A record with these members after id, symbol and name; values are JSON text.
    pub fn new(id: &str, members: &[(&str, &str)]) -> Self {
        let text = |value: &str| serde_json::to_string(value).expect("a JSON string");
        let mut json = format!(r#"{{"id":{0},"symbol":{0},"name":{0}"#, text(id));
        for (name, value) in members {
            json.push_str(&format!(",{}:{value}", text(name)));
        }
        json.push('}');
        Record { id: id.to_owned(), json }
    }

    /// A record such as most are: price, volume, market cap, and a time of its own.
    pub fn usual(n: usize) -> Self {
        let (price, volume, cap) = (format!("{n}.25"), format!("{}", 1000 + n), format!("{}", 1_000_000 - n));
        let rank = format!("{}", n + 1);
        Record::new(
            &format!("coin-{n:05}"),
            &[
                ("current_price", price.as_str()),
                ("total_volume", volume.as_str()),
                ("market_cap", cap.as_str()),
                ("market_cap_rank", rank.as_str()),
                ("last_updated", "\"2026-09-16T09:14:20.000Z\""),
            ],
        )
    }
}

/// What the vendor has at this moment.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The body of `/coins/list`; by default made from the records.
    pub list: Option<String>,
    /// In the order of `market_cap_desc`.
    pub records: Vec<Record>,
}

/// A stub with a market whose content a test may change between calls.
pub struct Gecko {
    pub stub: Stub,
    pub state: Arc<Mutex<State>>,
}

impl Gecko {
    pub fn new(records: Vec<Record>) -> Self {
        Gecko::with(records, |_, _| None)
    }

    /// `first` may answer a request itself, or change the market before it is answered.
    pub fn with(
        records: Vec<Record>,
        first: impl Fn(&StubRequest, &mut State) -> Option<StubResponse> + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State { list: None, records }));
        let stub = Stub::start({
            let state = state.clone();
            move |request| {
                let mut state = state.lock().expect("the market");
                first(request, &mut state).unwrap_or_else(|| answer(request, &state))
            }
        });
        Gecko { stub, state }
    }

    /// `n` usual coins.
    pub fn usual(n: usize) -> Self {
        Gecko::new((0..n).map(Record::usual).collect())
    }

    pub fn url(&self) -> String {
        self.stub.url()
    }

    pub fn set_list(&self, body: impl Into<String>) {
        self.state.lock().expect("the market").list = Some(body.into());
    }

    pub fn set_records(&self, records: Vec<Record>) {
        self.state.lock().expect("the market").records = records;
    }

    /// How often `/coins/markets` was asked since the last time, and forgets it.
    pub fn take_calls(&self) -> Vec<StubRequest> {
        self.stub.take()
    }
}

/// The vendor's paging over the records.
pub fn answer(request: &StubRequest, state: &State) -> StubResponse {
    match request.path.as_str() {
        "/api/v3/coins/list" => StubResponse::json(state.list.clone().unwrap_or_else(|| list(&state.records))),
        "/api/v3/ping" => StubResponse::json(r#"{"gecko_says":"(V3) To the Moon!"}"#),
        "/api/v3/coins/markets" => markets(request, &state.records),
        "/api/v3/simple/price" => simple_price(request),
        _ => StubResponse::new(404, "application/json", r#"{"error":"Incorrect path."}"#),
    }
}

/// What Bitcoin costs in the currencies that this vendor knows of those asked for.
fn simple_price(request: &StubRequest) -> StubResponse {
    let known = [("usd", "64000"), ("eur", "56000.5"), ("btc", "1.0"), ("sats", "100000000.0")];
    let asked: Vec<&str> = request.param("vs_currencies").unwrap_or_default().split(',').collect();
    let told = known.iter().filter(|(code, _)| asked.contains(code));
    let mut members: Vec<String> = told.map(|(code, price)| format!(r#""{code}":{price}"#)).collect();
    if request.param("include_last_updated_at") == Some("true") {
        members.push(format!(r#""last_updated_at":{RATES_AT}"#));
    }
    match request.param("ids") {
        Some("bitcoin") => StubResponse::json(format!(r#"{{"bitcoin":{{{}}}}}"#, members.join(","))),
        _ => StubResponse::json("{}"),
    }
}

fn list(records: &[Record]) -> String {
    let text = |value: &str| serde_json::to_string(value).expect("a JSON string");
    let coins: Vec<String> =
        records.iter().map(|record| format!(r#"{{"id":{0},"symbol":{0},"name":{0}}}"#, text(&record.id))).collect();
    format!("[{}]", coins.join(","))
}

fn markets(request: &StubRequest, records: &[Record]) -> StubResponse {
    let (page, per_page) = (request.number("page").unwrap_or(1), request.number("per_page").unwrap_or(100));
    let mut chosen: Vec<&Record> = match request.param("ids") {
        Some(ids) => {
            let ids: Vec<&str> = ids.split(',').collect();
            records.iter().filter(|record| ids.contains(&record.id.as_str())).collect()
        }
        None => records.iter().collect(),
    };
    if request.param("order") == Some("id_asc") {
        chosen.sort_by(|a, b| a.id.cmp(&b.id));
    }
    let page: Vec<&str> =
        chosen.iter().skip((page - 1) * per_page).take(per_page).map(|record| record.json.as_str()).collect();
    StubResponse::json(format!("[{}]", page.join(",")))
}
