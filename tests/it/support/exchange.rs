//! Coinbase Exchange as the stub plays it: products, and the last 24 hours of those that are traded,
//! all at once or one by one. Figures are texts, as the exchange sends them.

use std::sync::{Arc, Mutex};

use super::stub::{Stub, StubRequest, StubResponse};
use super::test_db::TestDb;
use super::workdir::Cmd;

/// A trading pair.
#[derive(Debug, Clone)]
pub struct Product {
    /// `BTC-USD`
    pub id: String,
    pub status: &'static str,
    pub trading_disabled: bool,
    /// Its figures, as JSON; `None` for one that has none.
    pub stats: Option<String>,
    /// What the product list holds instead of it.
    pub raw: Option<String>,
}

impl Product {
    /// One that is traded at this price.
    pub fn new(id: &str, last: &str, volume: &str) -> Self {
        let stats = format!(r#"{{"open":"1","high":"2","low":"1","last":"{last}","volume":"{volume}"}}"#);
        Product { id: id.into(), status: "online", trading_disabled: false, stats: Some(stats), raw: None }
    }

    pub fn status(self, status: &'static str) -> Self {
        Product { status, ..self }
    }

    pub fn disabled(self) -> Self {
        Product { trading_disabled: true, ..self }
    }

    pub fn stats(self, json: &str) -> Self {
        Product { stats: Some(json.into()), ..self }
    }

    pub fn without_stats(self) -> Self {
        Product { stats: None, ..self }
    }

    /// With this in its place in the product list.
    pub fn raw(self, json: &str) -> Self {
        Product { raw: Some(json.into()), ..self }
    }

    fn json(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let (base, quote) = self.id.rsplit_once('-').expect("BASE-QUOTE");
        let (id, status, disabled) = (&self.id, self.status, self.trading_disabled);
        format!(
            r#"{{"id":"{id}","base_currency":"{base}","quote_currency":"{quote}","quote_increment":"0.01","base_increment":"0.00000001","display_name":"{base}/{quote}","post_only":false,"trading_disabled":{disabled},"status":"{status}","status_message":""}}"#
        )
    }
}

#[derive(Debug, Clone, Default)]
pub struct State {
    pub products: Vec<Product>,
    /// What `/products/stats` answers instead, where it is gone.
    pub bulk: Option<(u16, &'static str)>,
}

/// A stub with products that a test may change between calls.
pub struct Exchange {
    pub stub: Stub,
    pub state: Arc<Mutex<State>>,
}

impl Exchange {
    pub fn new(products: Vec<Product>) -> Self {
        Exchange::with(products, |_, _| None)
    }

    /// `first` may answer a request itself, or change the market before it is answered.
    pub fn with(
        products: Vec<Product>,
        first: impl Fn(&StubRequest, &mut State) -> Option<StubResponse> + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State { products, bulk: None }));
        let stub = Stub::start({
            let state = state.clone();
            move |request| {
                let mut state = state.lock().expect("the market");
                first(request, &mut state).unwrap_or_else(|| answer(request, &state))
            }
        });
        Exchange { stub, state }
    }

    /// What `COINBASE_API_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.stub.address())
    }

    /// `coinetl ARGS…` on this exchange.
    pub fn ask(&self, db: &TestDb, args: &[&str]) -> Cmd {
        db.coinetl(args).args(["--source", "coinbase"]).env("COINBASE_API_URL", self.url())
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("the market"));
    }

    /// Paths asked for since the last time, and forgets them.
    pub fn take_paths(&self) -> Vec<String> {
        self.stub.take().into_iter().map(|call| call.target).collect()
    }
}

/// An error in the exchange's shape.
pub fn error(status: u16, message: &str) -> StubResponse {
    let body = serde_json::json!({ "message": message }).to_string();
    StubResponse::new(status, "application/json; charset=utf-8", body)
}

/// The exchange's own behaviour.
pub fn answer(request: &StubRequest, state: &State) -> StubResponse {
    if request.header("user-agent").is_none_or(str::is_empty) {
        return error(400, "User-Agent header is required.");
    }
    let path = request.path.as_str();
    let one = path.strip_prefix("/products/").and_then(|rest| rest.strip_suffix("/stats"));
    match (path, one) {
        ("/products", _) => {
            let products: Vec<String> = state.products.iter().map(Product::json).collect();
            StubResponse::json(format!("[{}]", products.join(",")))
        }
        ("/products/stats", _) => match state.bulk {
            Some((status, message)) => error(status, message),
            None => {
                let stats = |product: &Product| {
                    let stats = product.stats.as_ref().filter(|_| product.status != "delisted")?;
                    Some(format!(r#""{}":{{"stats_24hour":{stats},"stats_30day":{{"volume":"9"}}}}"#, product.id))
                };
                let stats: Vec<String> = state.products.iter().filter_map(stats).collect();
                StubResponse::json(format!("{{{}}}", stats.join(",")))
            }
        },
        ("/time", _) => StubResponse::json(r#"{"iso":"2026-09-16T09:14:20.000Z","epoch":1789550060.0}"#),
        (_, Some(id)) => {
            let found = state.products.iter().find(|product| product.id == id);
            let stats = found.filter(|product| product.status == "online").and_then(|product| product.stats.clone());
            stats.map_or_else(|| error(404, "NotFound"), StubResponse::json)
        }
        _ => error(404, "NotFound"),
    }
}
