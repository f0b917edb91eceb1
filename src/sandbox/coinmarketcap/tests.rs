use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderMap, Method};
use serde_json::Value;

use super::super::tests::recordings_of;
use super::*;

mod faults;
mod limits;

const NOON: i64 = 1_795_348_837_123;
const DAY: i64 = 86_400_000;
const GOOD: &str = "b54bcf4d-1bca-4e8e-9a24-22ff2c3d462c";

/// A vendor and a market, with the key of a client.
struct Bench {
    vendor: CoinMarketCap,
    market: Arc<Market>,
    key: Option<&'static str>,
    at: i64,
}

fn bench(assets: u32) -> Bench {
    Bench { vendor: CoinMarketCap::new(0, 0), market: Arc::new(Market::new(1, assets)), key: Some(GOOD), at: NOON }
}

impl Bench {
    fn call(&self, target: &str) -> Call {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut headers = HeaderMap::new();
        if let Some(key) = self.key {
            headers.insert(KEY, key.parse().unwrap());
        }
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
        let json = serde_json::from_str(&body).unwrap_or_else(|err| panic!("{err}: {body}"));
        (status, json)
    }

    fn data(&self, target: &str) -> Value {
        let (status, json) = self.ask(target);
        assert_eq!(status, 200, "{target}: {json}");
        json["data"].clone()
    }

    fn refusal(&self, target: &str) -> (u16, Value) {
        let (status, json) = self.ask(target);
        assert!(json.get("data").is_none(), "{json}");
        assert_eq!(json["status"]["credit_count"], 0);
        assert!(json["status"]["error_message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        (status, json["status"]["error_code"].clone())
    }
}

fn ids(records: &Value) -> Vec<u64> {
    records.as_array().unwrap().iter().map(|record| record["id"].as_u64().unwrap()).collect()
}

#[test]
fn pages_hold_every_coin_of_the_map_once_but_those_without_a_market() {
    let bench = bench(3_000);
    let map = bench.data("/v1/cryptocurrency/map");
    let listed: BTreeSet<u64> = ids(&map).into_iter().collect();
    assert_eq!(listed.len(), 3_000);
    assert!(ids(&map).is_sorted());
    for (version, sort) in [
        ("v1", "market_cap"),
        ("v3", "market_cap_strict&sort_dir=asc"),
        ("v3", "volume_24h"),
        ("v3", "name"),
        ("v3", "symbol&sort_dir=desc"),
        ("v3", "date_added"),
        ("v3", "price&sort_dir=asc"),
        ("v3", "circulating_supply"),
        ("v3", "percent_change_24h"),
    ] {
        let mut paged = Vec::new();
        for page in 0.. {
            let start = 1 + 700 * page;
            let target = format!("/{version}/cryptocurrency/listings/latest?start={start}&limit=700&sort={sort}");
            let (status, page) = bench.ask(&target);
            assert_eq!(status, 200, "{page}");
            let ids = ids(&page["data"]);
            assert_eq!(page["status"]["total_count"].as_u64().unwrap(), 2_997, "{sort}");
            assert_eq!(page["status"]["credit_count"].as_u64().unwrap(), ids.len().div_ceil(200).max(1) as u64);
            if ids.is_empty() {
                break;
            }
            paged.extend(ids);
        }
        let unique: BTreeSet<u64> = paged.iter().copied().collect();
        assert_eq!((unique.len(), paged.len()), (2_997, 2_997), "{sort}");
        assert!(unique.is_subset(&listed));
        let without: Vec<u64> = listed.difference(&unique).copied().collect();
        let quotes = bench.data(&format!("/v3/cryptocurrency/quotes/latest?id={}", without[0]));
        assert_eq!(quotes, Value::Array(vec![]));
    }
}

#[test]
fn sorted_pages_are_sorted() {
    let bench = bench(2_000);
    let values = |sort: &str, field: &str| -> Vec<f64> {
        let page = bench.data(&format!("/v3/cryptocurrency/listings/latest?limit=300&sort={sort}"));
        let value = |record: &Value| record.pointer(field).and_then(Value::as_f64).unwrap_or(0.0);
        page.as_array().unwrap().iter().map(value).collect()
    };
    let falls = |values: &[f64]| values.iter().rev().is_sorted();
    // Sorted as of the beginning of the minute, like the ranks; supplies do not move in one.
    assert!(falls(&values("circulating_supply", "/circulating_supply")[..200]));
    let ranks = values("market_cap", "/cmc_rank");
    assert_eq!(ranks, (1..=300).map(f64::from).collect::<Vec<_>>());
    assert!(values("market_cap&sort_dir=asc", "/quote/0/market_cap")[..100].iter().all(|cap| *cap == 0.0));
    let prices = values("price", "/quote/0/price");
    assert!(prices[0] > prices[50] && prices[50] > prices[299]);
    let names = bench.data("/v1/cryptocurrency/listings/latest?limit=500&sort=name");
    let names: Vec<String> =
        names.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_lowercase()).collect();
    assert!(names.is_sorted());
    let map = bench.data("/v1/cryptocurrency/map?sort=cmc_rank&limit=50&start=11");
    let ranks: Vec<u64> = map.as_array().unwrap().iter().map(|r| r["rank"].as_u64().unwrap()).collect();
    assert_eq!(ranks, (11..=60).collect::<Vec<_>>());
}

#[test]
fn versions_differ_in_envelope_and_quote() {
    let bench = bench(200);
    let (_, old) = bench.ask("/v1/cryptocurrency/listings/latest?limit=1");
    assert_eq!((&old["status"]["error_code"], &old["status"]["error_message"]), (&0.into(), &Value::Null));
    assert_eq!((&old["status"]["notice"], &old["status"]["total_count"]), (&Value::Null, &200.into()));
    let bitcoin = &old["data"][0];
    assert_eq!((&bitcoin["id"], &bitcoin["symbol"], &bitcoin["slug"]), (&1.into(), &"BTC".into(), &"bitcoin".into()));
    let dollars = bitcoin["quote"]["USD"].clone();

    for prefix in ["", "/public-api"] {
        let (_, new) = bench.ask(&format!("{prefix}/v3/cryptocurrency/listings/latest?limit=1"));
        assert_eq!((&new["status"]["error_code"], &new["status"]["error_message"]), (&"0".into(), &"".into()));
        let mut quote = new["data"][0]["quote"][0].as_object().unwrap().clone();
        assert_eq!((quote.remove("id"), quote.remove("symbol")), (Some(2781.into()), Some("USD".into())));
        assert_eq!(Value::Object(quote), dollars);
    }

    for version in ["v1", "v2"] {
        let data = bench.data(&format!("/{version}/cryptocurrency/quotes/latest?id=1027,1"));
        assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["1", "1027"]);
        assert_eq!((&data["1"]["quote"]["USD"], &data["1"]["is_active"]), (&dollars, &1.into()));
    }
    let data = bench.data("/v3/cryptocurrency/quotes/latest?id=1027,1,1&convert=EUR");
    assert_eq!(ids(&data), [1, 1027]);
    let euros = &data[0]["quote"][0];
    assert_eq!((&euros["id"], &euros["symbol"]), (&2790.into(), &"EUR".into()));
    let ratio = euros["price"].as_f64().unwrap() / dollars["price"].as_f64().unwrap();
    assert!((0.84..0.88).contains(&ratio), "{ratio}");
    let by_id = bench.data("/v3/cryptocurrency/quotes/latest?id=1027,1,1&convert_id=2790");
    assert_eq!(by_id, data);
}

#[test]
fn fields_come_when_they_are_asked_for() {
    let bench = bench(50);
    let fields = |target: &str| -> BTreeSet<String> {
        let record = &bench.data(target)[0];
        record.as_object().unwrap().keys().cloned().collect()
    };
    let usual = fields("/v3/cryptocurrency/listings/latest?limit=1");
    let few = fields("/v3/cryptocurrency/listings/latest?limit=1&aux=cmc_rank");
    assert!(usual.contains("tags") && usual.contains("total_supply") && !usual.contains("is_active"));
    assert!(few.contains("cmc_rank") && !few.contains("tags") && !few.contains("total_supply"));
    let page = bench.data("/v1/cryptocurrency/listings/latest?limit=1&aux=volume_7d,volume_30d_reported");
    assert!(page[0]["quote"]["USD"]["volume_7d"].is_number());
    let map = fields("/v1/cryptocurrency/map?limit=1&aux=status");
    assert!(map.contains("status") && !map.contains("platform") && !map.contains("is_active"));
    let tags = |version: &str, kind: &str| {
        let target = format!("/{version}/cryptocurrency/{kind}");
        let data = bench.data(&target);
        let records: Vec<Value> = match data {
            Value::Array(records) => records,
            data => data.as_object().unwrap().values().cloned().collect(),
        };
        let tag = records.iter().find_map(|record| record["tags"].get(0).cloned());
        tag.unwrap()
    };
    let chosen = "quotes/latest?id=1,2,52,74,825,1027,1839,5426,1958,2010";
    assert!(tags("v3", "listings/latest").is_string() && tags("v1", chosen).is_string());
    assert!(tags("v3", chosen)["slug"].is_string() && tags("v2", chosen)["category"].is_string());
}

#[test]
fn unknown_figures_are_zero_caps_with_the_projects_own_beside_them() {
    let bench = bench(3_000);
    let page = bench.data("/v3/cryptocurrency/listings/latest?limit=5000");
    let records = page.as_array().unwrap();
    assert!(records.iter().all(|record| record["cmc_rank"].is_u64()));
    assert!(records.iter().all(|record| record["quote"][0]["market_cap"].is_number()));
    let without_cap = records.iter().filter(|record| record["quote"][0]["market_cap"] == 0).count();
    assert!((250..500).contains(&without_cap), "{without_cap}");
    let named = |name: &str| records.iter().find(|record| record["name"] == name).unwrap();
    let huge = named("Self Reported");
    assert!(huge["self_reported_market_cap"].as_f64().unwrap() > 1e59);
    assert_eq!((&huge["circulating_supply"], &huge["quote"][0]["market_cap"]), (&0.into(), &0.into()));
    assert!(named("No Data")["quote"][0]["price"].is_null());
    assert_eq!(named("Worthless")["quote"][0]["price"], 0);
    assert!(named("Dust")["quote"][0]["price"].as_f64().unwrap() < 1e-20);
    let symbols: Vec<&str> = records.iter().filter_map(|record| record["symbol"].as_str()).collect();
    let lower = symbols.iter().filter(|symbol| **symbol != symbol.to_uppercase()).count();
    assert!((10..100).contains(&lower), "{lower}");
}

#[test]
fn bad_parameters_are_refused() {
    let bench = bench(300);
    let listings = "/v1/cryptocurrency/listings/latest";
    for bad in [
        "start=0",
        "start=x",
        "limit=0",
        "limit=5001",
        "limit=1.5",
        "sort=best",
        "sort=num_market_pairs",
        "sort_dir=up",
        "aux=colour",
        "aux=",
        "convert=XTS",
        "convert=usd",
        "convert_id=9999",
        "convert=USD&convert_id=2781",
        "price_min=1",
        "tag=defi",
        "cryptocurrency_type=tokens",
        "page=2",
        "limit=1&limit=2",
    ] {
        assert_eq!(bench.refusal(&format!("{listings}?{bad}")), (400, 400.into()), "{bad}");
    }
    for bad in ["listing_status=gone", "sort=market_cap", "symbol=BTC", "aux=tags", "limit=5001"] {
        assert_eq!(bench.refusal(&format!("/v1/cryptocurrency/map?{bad}")), (400, 400.into()), "{bad}");
    }
    for bad in ["", "id=", "id=bitcoin", "id=1,,2", "symbol=BTC", "slug=bitcoin", "id=1&skip_invalid=maybe"] {
        let target = format!("/v3/cryptocurrency/quotes/latest?{bad}");
        assert_eq!(bench.refusal(&target), (400, "400".into()), "{bad}");
    }
    let (_, json) = bench.ask("/v2/cryptocurrency/quotes/latest?symbol=BTC");
    assert_eq!(json["status"]["error_message"], "the sandbox does not serve symbol");
    assert_eq!(bench.refusal(&format!("{listings}?convert=USD,EUR")), (403, 1006.into()));
    let keyless = "/public-api/v3/cryptocurrency/listings/latest?convert=USD,EUR";
    assert_eq!(bench.refusal(keyless), (403, "1006".into()));
    assert_eq!(bench.refusal("/v1/nothing"), (404, 404.into()));
    assert_eq!(bench.refusal("/v2/cryptocurrency/listings/latest"), (404, 404.into()));
}

#[test]
fn unknown_ids_are_left_out_or_refused() {
    let bench = bench(100);
    for version in ["v1", "v2", "v3"] {
        let quotes = format!("/{version}/cryptocurrency/quotes/latest?id=3,39999,999999999999999");
        let (status, json) = bench.ask(&quotes);
        assert_eq!((status, json["status"]["credit_count"].as_u64()), (200, Some(1)));
        let empty = if version == "v3" { serde_json::json!([]) } else { serde_json::json!({}) };
        assert_eq!(json["data"], empty);
        assert_eq!(bench.refusal(&format!("{quotes}&skip_invalid=false")).0, 400);
    }
}

#[test]
fn coins_keep_their_ids_through_names_and_absence() {
    let mut bench = bench(17_600);
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let (mut renamed, mut returned) = (0, 0);
    let mut before: BTreeSet<u64> = BTreeSet::new();
    let mut gone: BTreeSet<u64> = BTreeSet::new();
    for step in 0..6 {
        bench.at = NOON + step * 9 * DAY;
        let now: BTreeMap<u64, (String, String)> = (0..17_600)
            .map(|slot| bench.market.coin(slot, bench.at))
            .map(|coin| (ids::of(&bench.market, &coin), (bench.market.id(&coin), bench.market.name(&coin))))
            .collect();
        assert_eq!(now.len(), 17_600);
        for (id, (slug, name)) in &now {
            let found = ids::find(&bench.market, *id, bench.at).unwrap();
            assert_eq!(bench.market.id(&found), *slug);
            let old = seen.insert(*id, format!("{slug}|{name}"));
            if let Some(old) = old {
                assert!(old.starts_with(&format!("{slug}|")), "{old} became {slug}");
                renamed += usize::from(old != format!("{slug}|{name}"));
            }
            returned += usize::from(gone.contains(id));
        }
        gone.extend(before.difference(&now.keys().copied().collect()));
        for id in gone.iter().filter(|id| !now.contains_key(id)) {
            assert_eq!(ids::find(&bench.market, *id, bench.at), None);
        }
        before = now.into_keys().collect();
    }
    assert!(renamed > 100 && returned > 100, "{renamed} {returned}");

    let inactive = bench.data("/v1/cryptocurrency/map?listing_status=inactive");
    let inactive: BTreeSet<u64> = ids(&inactive).into_iter().collect();
    assert!((300..500).contains(&inactive.len()), "{}", inactive.len());
    assert!(inactive.is_disjoint(&before));
    assert_eq!(bench.data("/v1/cryptocurrency/map?listing_status=untracked"), Value::Array(vec![]));
}

#[test]
fn equal_questions_at_one_moment_get_equal_bytes() {
    let (one, two) = (bench(800), bench(800));
    for target in [
        "/v1/cryptocurrency/map",
        "/v1/cryptocurrency/listings/latest?limit=500&convert=EUR",
        "/v3/cryptocurrency/listings/latest?limit=500",
        "/v3/cryptocurrency/quotes/latest?id=1,2,40123",
        "/v1/global-metrics/quotes/latest",
    ] {
        let first = one.text(target, None);
        assert_eq!(first.0, 200);
        assert_eq!(first, two.text(target, None));
        assert_eq!(first, one.text(target, None));
    }
}

#[test]
fn figures_are_those_of_the_market() {
    let bench = bench(500);
    let coin = bench.market.find("ethereum", NOON).unwrap();
    let quote = bench.market.ticker(&coin, NOON).quote(super::super::market::Currency::dollar());
    let data = bench.data("/v3/cryptocurrency/quotes/latest?id=1027");
    assert_eq!(data[0]["quote"][0]["price"].as_f64(), quote.price);
    assert_eq!(data[0]["quote"][0]["market_cap"].as_f64(), quote.market_cap);
    let metrics = bench.data("/v1/global-metrics/quotes/latest");
    let page = bench.data("/v1/cryptocurrency/listings/latest?limit=500");
    let caps: f64 = page.as_array().unwrap().iter().filter_map(|r| r["quote"]["USD"]["market_cap"].as_f64()).sum();
    let total = metrics["quote"]["USD"]["total_market_cap"].as_f64().unwrap();
    assert!((caps / total - 1.0).abs() < 0.05);
    assert_eq!(metrics["active_cryptocurrencies"].as_u64(), Some(page.as_array().unwrap().len() as u64));
}

/// Each field with the forms in which it is spelt: integers and floats are not the same.
fn forms(records: &[Value], prefix: &str, out: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    for (field, value) in records.iter().flat_map(|record| record.as_object().unwrap()) {
        let form = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Number(number) if number.is_f64() => "float",
            Value::Number(_) => "integer",
        };
        out.entry(format!("{prefix}{field}")).or_default().insert(form);
        if let Some(dollars) = value.get("USD") {
            forms(std::slice::from_ref(dollars), "quote.", out);
        }
    }
}

#[test]
fn listings_have_the_fields_of_the_recordings_in_their_order_and_form() {
    let Some(folder) = recordings_of("coinmarketcap") else { return };
    let text = std::fs::read_to_string(folder.join("listings_latest_v1_usd_100_2025-02-21.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let (_, made) = bench(17_600).text("/v1/cryptocurrency/listings/latest?limit=5000", None);
    // The places of the fields in the first record, which is that of bitcoin in both.
    let order = |text: &str| -> Vec<String> {
        let plain: String = text.split_whitespace().collect();
        let end = plain.find("\"id\":1027").unwrap();
        let fields = plain[..end].split('"').skip(1).step_by(2);
        let tags =
            |field: &str| field.contains('-') || ["mineable", "pow", "memes", "defi", "dao", "gaming"].contains(&field);
        let words = ["Bitcoin", "BTC", "bitcoin", "stablecoin"];
        fields.filter(|field| !tags(field) && !words.contains(field)).map(str::to_owned).collect()
    };
    assert_eq!(order(&made), order(&text));
    let made: Value = serde_json::from_str(&made).unwrap();
    let (mut known, mut generated) = (BTreeMap::new(), BTreeMap::new());
    forms(recorded["data"].as_array().unwrap(), "", &mut known);
    forms(made["data"].as_array().unwrap(), "", &mut generated);
    assert_eq!(known.keys().collect::<Vec<_>>(), generated.keys().collect::<Vec<_>>());
    for (field, forms) in &known {
        assert!(
            forms.is_subset(&generated[field]),
            "{field}: {forms:?} of the recordings, {:?} here",
            generated[field]
        );
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture sandbox"]
fn time_of_a_page() {
    let bench = bench(17_600);
    let target = "/v3/cryptocurrency/listings/latest?limit=5000";
    bench.text(target, None);
    let started = std::time::Instant::now();
    for _ in 0..20 {
        bench.text(target, None);
    }
    eprintln!("a page of 5,000 takes {:?}", started.elapsed() / 20);
}

#[test]
fn what_was_is_for_no_plan_without_a_price() {
    let bench = bench(100);
    for path in ["/v2/cryptocurrency/ohlcv/historical?id=1", "/v3/cryptocurrency/quotes/historical?id=1"] {
        for (path, code) in [(path.to_owned(), 1006), (format!("/public-api{path}"), 1005)] {
            let (status, json) = bench.ask(&path);
            let told = &json["status"]["error_code"];
            assert_eq!(
                (status, told.to_string().trim_matches('"')),
                (403, code.to_string().as_str()),
                "{path}: {json}"
            );
        }
    }
}
