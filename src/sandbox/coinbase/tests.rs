use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderMap, Method};
use serde_json::Value;

use super::super::market::{Currency, DAY};
use super::super::tests::recordings_of;
use super::*;

const NOON: i64 = 1_795_348_837_123;

struct Bench {
    vendor: Coinbase,
    market: Arc<Market>,
    at: i64,
}

fn bench(assets: u32) -> Bench {
    Bench { vendor: Coinbase::new(0), market: Arc::new(Market::new(1, assets)), at: NOON }
}

impl Bench {
    fn call(&self, target: &str) -> Call {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", "test/1".parse().unwrap());
        Call {
            market: Arc::clone(&self.market),
            at: self.at,
            method: Method::GET,
            path: path.to_owned(),
            query: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            headers,
            peer: [127, 0, 0, 1].into(),
        }
    }

    fn text(&self, target: &str, struck: Option<Struck>) -> (u16, String) {
        let call = self.call(target);
        let canned = || struck.and_then(|struck| self.vendor.canned(struck, &call));
        let answer = match self.vendor.admit(&call) {
            Ok(()) => canned().unwrap_or_else(|| self.vendor.answer(&call, struck)),
            Err(refused) => refused,
        };
        (answer.status, String::from_utf8(answer.whole()).unwrap())
    }

    fn ask(&self, target: &str) -> (u16, Value) {
        let (status, body) = self.text(target, None);
        (status, serde_json::from_str(&body).unwrap_or_else(|err| panic!("{err}: {body}")))
    }

    fn products(&self) -> Vec<Value> {
        self.ask("/products").1.as_array().unwrap().clone()
    }
}

fn decimal(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).parse().unwrap()
}

#[test]
fn there_are_as_many_products_as_the_vendor_has() {
    let products = bench(17_600).products();
    let with = |status: &str| products.iter().filter(|product| product["status"] == status).collect::<Vec<_>>();
    let online = with("online");
    assert!((560..640).contains(&online.len()), "{}", online.len());
    assert!((150..350).contains(&with("delisted").len()), "{}", with("delisted").len());
    assert!((5..40).contains(&with("offline").len()), "{}", with("offline").len());
    let disabled = online.iter().filter(|product| product["trading_disabled"] == true).count();
    assert!((3..30).contains(&disabled), "{disabled}");
    let bases: BTreeSet<&str> = online.iter().map(|product| product["base_currency"].as_str().unwrap()).collect();
    assert!((380..410).contains(&bases.len()), "{}", bases.len());
    for money in catalogue::MONEYS {
        let count = online.iter().filter(|product| product["quote_currency"] == money.code).count();
        assert!(count >= 5, "{} {count}", money.code);
    }

    let ids: BTreeSet<&str> = products.iter().map(|product| product["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), products.len());
    for product in &products {
        let (base, quote) = (product["base_currency"].as_str().unwrap(), product["quote_currency"].as_str().unwrap());
        assert_eq!(product["id"], format!("{base}-{quote}"));
        assert!(base.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()), "{base}");
        assert!(base != quote);
        for increment in ["quote_increment", "base_increment"] {
            assert!((1e-11..=1.0).contains(&decimal(&product[increment])), "{product}");
        }
        assert!(product.get("base_min_size").is_none());
    }
}

#[test]
fn a_ticker_belongs_to_one_coin() {
    let market = Market::new(1, 17_600);
    let catalogue = Catalogue::new(&market);
    let mut slots: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for product in &catalogue.products {
        slots.entry(&product.base).or_default().insert(product.slot);
    }
    assert!(slots.values().all(|slots| slots.len() == 1));
    assert_eq!(slots["BTC"], BTreeSet::from([0]));
    let distinct: BTreeSet<u32> = slots.values().flatten().copied().collect();
    assert_eq!(distinct.len(), slots.len());
}

#[test]
fn a_small_market_has_just_its_coins() {
    let bench = bench(3);
    let bases = |products: &[Value]| -> BTreeSet<String> {
        products.iter().map(|product| product["base_currency"].as_str().unwrap().to_owned()).collect()
    };
    let expected: BTreeSet<String> = ["BTC", "ETH", "USDT"].map(str::to_owned).into();
    assert_eq!(bases(&bench.products()), expected);
    assert_eq!(bench.ask("/products/BTC-USD").1["status"], "online");
    assert_eq!(bench.ask("/products/BTC-USDC").1["status"], "delisted");
    for assets in [1, 2, 12, 100, 1_000] {
        let products = self::bench(assets).products();
        assert!(!products.is_empty() && bases(&products).len() <= assets as usize);
    }
}

#[test]
fn every_listed_product_has_its_figures_in_one_answer_and_alone() {
    let bench = bench(17_600);
    let (status, bulk) = bench.ask("/products/stats");
    assert_eq!(status, 200);
    let bulk = bulk.as_object().unwrap();
    let mut without_month = 0;
    let mut silent = 0;
    for product in bench.products() {
        let id = product["id"].as_str().unwrap();
        let (status, stats) = bench.ask(&format!("/products/{id}/stats"));
        let (tick, ticker) = bench.ask(&format!("/products/{id}/ticker"));
        if product["status"] == "delisted" {
            assert!(!bulk.contains_key(id));
            assert_eq!((status, tick), (400, 400));
            assert!(stats["message"].is_string() && ticker["message"].is_string());
            continue;
        }
        let (day, month) = (&bulk[id]["stats_24hour"], &bulk[id]["stats_30day"]);
        assert_eq!((status, tick), (200, 200));
        for field in ["open", "high", "low", "last", "volume"] {
            assert_eq!(stats.get(field), day.get(field), "{id} {field}");
        }
        assert_eq!(stats.get("volume_30day"), month.get("volume"));
        let places = product["quote_increment"].as_str().unwrap().len() - 2;
        let last = day["last"].as_str().unwrap();
        assert_eq!(last.split_once('.').unwrap().1.len(), places, "{last}");
        assert!(decimal(&day["last"]) > 0.0, "{id}");
        assert_eq!(ticker["price"], day["last"]);
        assert!(decimal(&ticker["bid"]) < decimal(&ticker["ask"]), "{ticker}");
        assert!(ticker["trade_id"].is_u64());
        let time = ticker["time"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok() && (24..=30).contains(&time.len()), "{time}");
        if let Some(high) = day.get("high") {
            let (open, low) = (decimal(&day["open"]), decimal(&day["low"]));
            let (high, last) = (decimal(high), decimal(&day["last"]));
            assert!(low <= open.min(last) && high >= open.max(last), "{id} {day}");
        } else {
            silent += 1;
        }
        without_month += usize::from(month.is_null());
    }
    assert!(without_month > 2 && silent > 2, "{without_month} {silent}");
}

#[test]
fn prices_are_the_markets() {
    let bench = bench(500);
    let (_, bulk) = bench.ask("/products/stats");
    let price = |id: &str, code: &str| {
        let coin = bench.market.find(id, NOON).unwrap();
        bench.market.ticker(&coin, NOON).quote(Currency::find(code).unwrap()).price.unwrap()
    };
    let tether = price("tether", "usd");
    for (product, expected, increment) in [
        ("BTC-USD", price("bitcoin", "usd"), 0.01),
        ("BTC-EUR", price("bitcoin", "eur"), 0.01),
        ("ETH-BTC", price("ethereum", "btc"), 1e-8),
        ("XRP-BTC", price("ripple", "btc"), 1e-8),
        ("ETH-USDT", price("ethereum", "usd") / tether, 0.01),
    ] {
        let last = decimal(&bulk[product]["stats_24hour"]["last"]);
        assert!((last - expected).abs() <= increment * 0.5001, "{product} {last} {expected}");
    }
    let tiny = bulk["XRP-BTC"]["stats_24hour"]["last"].as_str().unwrap();
    assert!(tiny.starts_with("0.0000") && tiny.len() == 10, "{tiny}");
}

#[test]
fn some_products_go_offline_and_come_back() {
    let mut bench = bench(17_600);
    let online = |bench: &Bench| -> BTreeSet<String> {
        let products = bench.products();
        let online = products.iter().filter(|product| product["status"] == "online");
        online.map(|product| product["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = online(&bench);
    let mut union = first.clone();
    let mut always = first.clone();
    for _ in 0..5 {
        bench.at += 6 * DAY;
        let now = online(&bench);
        assert!(now != first || bench.at == NOON + 30 * DAY);
        union.extend(now.iter().cloned());
        always.retain(|id| now.contains(id));
    }
    // After five turns it is as it was.
    assert_eq!(online(&bench), first);
    assert!((10..40).contains(&(union.len() - always.len())), "{}", union.len() - always.len());
}

#[test]
fn errors_are_the_vendors() {
    let bench = bench(100);
    for unknown in ["/products/BTC-XTS", "/products/btc-usd", "/products/BTC-USD/nothing", "/products/"] {
        assert_eq!(bench.ask(unknown), (404, serde_json::json!({"message": "NotFound"})), "{unknown}");
    }
    assert_eq!(bench.ask("/products?type=spot").0, 400);
    let mut nobody = bench.call("/products");
    nobody.headers.clear();
    let refused = bench.vendor.admit(&nobody).unwrap_err();
    assert_eq!(refused.status, 400);
    assert_eq!(refused.whole(), br#"{"message":"User-Agent header is required."}"#);
    let (_, time) = bench.ask("/time");
    assert_eq!(time, serde_json::json!({"iso": "2026-11-22T12:00:37.123Z", "epoch": 1_795_348_837.123}));
}

#[test]
fn calls_are_limited_without_a_word_on_how_long() {
    let limited = Bench { vendor: Coinbase::new(2), ..bench(10) };
    assert_eq!((limited.ask("/time").0, limited.ask("/time").0), (200, 200));
    let refused = limited.vendor.admit(&limited.call("/time")).unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (429, None));
    assert_eq!(refused.whole(), br#"{"message":"Public rate limit exceeded"}"#);
}

#[test]
fn equal_questions_at_one_moment_get_equal_bytes() {
    let (one, two) = (bench(900), bench(900));
    for target in ["/products", "/products/stats", "/products/BTC-USD/ticker", "/products/volume-summary"] {
        let first = one.text(target, None);
        assert_eq!(first.0, 200);
        assert_eq!(first, two.text(target, None));
    }
}

#[test]
fn faults_have_the_vendors_bodies() {
    let bench = bench(200);
    let strike = |target: &str, kind| bench.text(target, Some(Struck { kind, bits: 3 }));
    for kind in [FaultKind::TooMany, FaultKind::TooManyBare, FaultKind::Spent] {
        assert_eq!(strike("/products", kind), (429, r#"{"message":"Public rate limit exceeded"}"#.to_owned()));
    }
    assert_eq!(strike("/products", FaultKind::Internal).0, 500);
    let (status, body) = strike("/products/stats", FaultKind::ErrorIn200);
    assert!(status == 200 && body.starts_with("{\"message\":"));
    assert_eq!(strike("/products", FaultKind::Empty).1, "[]");
    assert_eq!(strike("/products/stats", FaultKind::Empty).1, "{}");
    assert_eq!(strike("/products/stats", FaultKind::Gone), (404, r#"{"message":"NotFound"}"#.to_owned()));
    for (target, met) in [("/products/stats", true), ("/products", false), ("/products/BTC-USD/stats", false)] {
        assert_eq!(bench.vendor.meets(FaultKind::Gone, &bench.call(target)), met);
    }
    for (target, closing) in [("/products", "]"), ("/products/stats", "}")] {
        let endless = bench.vendor.endless(&bench.call(target));
        let twice = [endless.first, endless.again, closing.as_bytes().to_vec()].concat();
        assert!(serde_json::from_slice::<Value>(&twice).is_ok());
    }
}

#[test]
fn garbage_spoils_some_records_and_leaves_the_rest() {
    let bench = bench(800);
    for target in ["/products", "/products/stats"] {
        let (_, plain) = bench.ask(target);
        let mut kinds = BTreeSet::new();
        for bits in 0..60 {
            let (_, body) = bench.text(target, Some(Struck { kind: FaultKind::Garbage, bits }));
            let spoilt: Value = serde_json::from_str(&body).unwrap();
            let pairs: Vec<(Value, Value)> = match (&plain, &spoilt) {
                (Value::Array(plain), Value::Array(spoilt)) => {
                    plain.iter().cloned().zip(spoilt.iter().cloned()).collect()
                }
                (plain, spoilt) => {
                    let plain = plain.as_object().unwrap();
                    plain.iter().map(|(id, value)| (value.clone(), spoilt[id].clone())).collect()
                }
            };
            let changed = pairs.iter().filter(|(plain, spoilt)| plain != spoilt).count();
            assert!(changed > 0 && changed < pairs.len() / 8, "{changed}");
            let texts = pairs.iter().filter(|(plain, spoilt)| plain != spoilt);
            kinds.extend(texts.map(|(_, spoilt)| spoilt.to_string().len() % 97));
        }
        assert!(kinds.len() > 6, "{}", kinds.len());
    }
}

#[test]
fn products_have_the_fields_of_the_recording_that_are_still_there() {
    let Some(folder) = recordings_of("coinbase") else { return };
    let text = std::fs::read_to_string(folder.join("products_2021-04-17.json")).unwrap();
    let recorded: Vec<Value> = serde_json::from_str(&text).unwrap();
    let made = bench(17_600).products();
    for (field, value) in recorded[0].as_object().unwrap() {
        // Removed on 2022-06-30.
        if ["base_min_size", "base_max_size", "max_market_funds"].contains(&field.as_str()) {
            continue;
        }
        let fits = |product: &Value| match value {
            Value::Bool(_) => product[field].is_boolean(),
            _ => product[field].is_string(),
        };
        assert!(made.iter().all(fits), "{field}");
    }
}

const LENGTHS: [i64; 6] = [60, 300, 900, 3_600, 21_600, 86_400];

fn rows(answer: &Value) -> Vec<Vec<f64>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    answer.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn candles_are_of_the_same_trades_at_every_length() {
    let exchange = bench(600);
    let day = NOON / 86_400_000 * 86_400 - 86_400;
    let candles = |length: i64, from: i64, to: i64| {
        let target = format!("/products/ETH-USD/candles?granularity={length}&start={from}&end={}", to - length);
        let mut rows = rows(&exchange.ask(&target).1);
        // Newest first, and now and then one that is too early.
        assert!(rows.is_sorted_by(|a, b| a[0] > b[0]));
        rows.retain(|row| row[0] >= from as f64);
        rows.reverse();
        rows
    };
    let mut minutes = Vec::new();
    for from in (day..day + 86_400).step_by(240 * 60) {
        minutes.extend(candles(60, from, from + 240 * 60));
    }
    // A few minutes without a trade, and no row for them.
    assert!((1_400..1_440).contains(&minutes.len()), "{}", minutes.len());
    for length in LENGTHS {
        for row in candles(length, day, day + 86_400.min(length * 200)) {
            let within: Vec<&Vec<f64>> =
                minutes.iter().filter(|minute| (row[0]..row[0] + length as f64).contains(&minute[0])).collect();
            let lowest = within.iter().map(|minute| minute[1]).fold(f64::MAX, f64::min);
            let highest = within.iter().map(|minute| minute[2]).fold(0.0, f64::max);
            let traded: f64 = within.iter().map(|minute| minute[5]).sum();
            assert_eq!((row[1], row[2], row[3], row[4]), (lowest, highest, within[0][3], within[within.len() - 1][4]));
            assert!((row[5] - traded).abs() <= traded * 1e-9 && row[1] <= row[3] && row[4] <= row[2]);
        }
    }
}

#[test]
fn candles_keep_the_exchange_s_rules() {
    let exchange = bench(600);
    let now = NOON / 1_000;
    let ask = |query: &str| exchange.ask(&format!("/products/BTC-USD/candles?{query}"));
    let refused = |query: &str| {
        let (status, body) = ask(query);
        assert_eq!(status, 400, "{query}");
        body["message"].as_str().unwrap().to_owned()
    };
    for query in ["", "granularity=120", "granularity=x"] {
        assert_eq!(refused(query), "Unsupported granularity");
    }
    let span = |intervals: i64| format!("granularity=3600&start={}&end={now}", now - intervals * 3_600);
    assert!(refused(&span(301)).contains("exceeds 300"));
    let most = rows(&ask(&span(300)).1).len();
    assert!((300..=302).contains(&most), "{most}");
    assert!(refused("granularity=60&start=soon&end=1").contains("start"));
    assert!(refused("granularity=60&limit=5").contains("limit"));
    // One end alone counts for nothing; the newest candle is not over yet.
    let unasked = rows(&ask("granularity=3600&start=5").1);
    assert_eq!((unasked.len(), unasked[0][0] as i64), (350, now / 3_600 * 3_600));
    // Before the exchange there was nothing.
    assert_eq!(
        ask("granularity=86400&start=2014-01-01T00:00:00Z&end=2014-06-01T00:00:00Z"),
        (200, Value::Array(vec![]))
    );
    let first = rows(&ask("granularity=86400&start=2015-06-01T00:00:00Z&end=2015-12-01T00:00:00Z").1);
    assert_eq!(first.last().unwrap()[0], 1_437_350_400.0);
    assert_eq!(exchange.ask("/products/NOPE-USD/candles?granularity=60").0, 404);
    let struck = Some(Struck { kind: FaultKind::Garbage, bits: 5 });
    let (sound, spoilt) = (
        exchange.text(&format!("/products/BTC-USD/candles?{}", span(200)), None).1,
        exchange.text(&format!("/products/BTC-USD/candles?{}", span(200)), struck).1,
    );
    assert_ne!(sound, spoilt);
}
