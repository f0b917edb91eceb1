use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::tests::recordings_of;
use super::*;

const NOON: i64 = 1_795_348_837_123;

fn ask_at(market: &Arc<Market>, at: i64, target: &str, struck: Option<Struck>) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let answer = answer(&Request { market, at, path, query: &query, struck, paid: false });
    let body = match answer.content {
        Content::Whole(body) => body,
        Content::Pieces(pieces) => pieces.flatten().collect(),
    };
    (answer.status, String::from_utf8(body).unwrap())
}

fn ask(market: &Arc<Market>, target: &str) -> (u16, Value) {
    let (status, body) = ask_at(market, NOON, target, None);
    let json = serde_json::from_str(&body).unwrap_or_else(|err| panic!("{err}: {body}"));
    (status, json)
}

fn market(assets: u32) -> Arc<Market> {
    Arc::new(Market::new(1, assets))
}

fn ids(page: &Value) -> Vec<String> {
    let record = |record: &Value| record["id"].as_str().unwrap().to_owned();
    page.as_array().unwrap().iter().map(record).collect()
}

#[test]
fn pages_hold_every_listed_coin_once_but_those_without_a_market() {
    let market = market(3_000);
    let (_, list) = ask(&market, "/coins/list");
    let listed: BTreeSet<String> = ids(&list).into_iter().collect();
    assert_eq!(listed.len(), 3_000);
    for order in ["market_cap_desc", "market_cap_asc", "id_asc", "id_desc", "volume_desc"] {
        let mut paged = Vec::new();
        for page in 1.. {
            let target = format!("/coins/markets?vs_currency=usd&order={order}&per_page=250&page={page}");
            let (status, page) = ask(&market, &target);
            assert_eq!(status, 200);
            let ids = ids(&page);
            if ids.is_empty() {
                break;
            }
            paged.extend(ids);
        }
        let unique: BTreeSet<String> = paged.iter().cloned().collect();
        assert_eq!(unique.len(), paged.len());
        assert!(unique.is_subset(&listed));
        assert!((2_985..3_000).contains(&paged.len()), "{}", paged.len());
        match order {
            "id_asc" => assert!(paged.is_sorted()),
            "id_desc" => assert!(paged.iter().rev().is_sorted()),
            "market_cap_desc" => assert_eq!(paged[0], "bitcoin"),
            _ => {}
        }
    }
}

#[test]
fn bad_parameters_are_refused_in_the_vendors_shapes() {
    let market = market(300);
    let usd = "/coins/markets?vs_currency=usd";
    let many = vec!["bitcoin"; 251].join(",");
    for (target, status, body) in [
        ("/coins/markets", 422, r#"{"error":"Missing parameter vs_currency"}"#),
        ("/coins/markets?vs_currency=usdt", 400, r#"{"error":"invalid vs_currency"}"#),
        ("/simple/price?vs_currencies=usd", 422, r#"{"error":"Missing parameter ids"}"#),
        ("/simple/price?ids=a", 422, r#"{"error":"Missing parameter vs_currencies"}"#),
    ] {
        assert_eq!(ask_at(&market, NOON, target, None), (status, body.to_owned()));
    }
    for bad in [
        "per_page=251",
        "per_page=0",
        "per_page=x",
        "page=0",
        "order=best",
        "precision=19",
        "price_change_percentage=2h",
        "sparkline=maybe",
        "category=meme",
    ] {
        let (status, json) = ask(&market, &format!("{usd}&{bad}"));
        assert_eq!(status, 400, "{bad}");
        assert!(json["error"].is_string(), "{bad}");
    }
    let (status, json) = ask(&market, &format!("{usd}&ids={many}"));
    assert_eq!((status, &json["error_code"]), (400, &Value::from(10012)));
    assert!(json["timestamp"].is_string() && json["status"]["error_message"].is_string());
    assert_eq!(ask(&market, "/nothing").0, 404);
    assert_eq!(ask(&market, &format!("{usd}&page=4294967295")).1, Value::Array(vec![]));
}

#[test]
fn chosen_coins_come_in_order_without_the_unknown_and_cut_to_a_page() {
    let market = market(300);
    let usd = "/coins/markets?vs_currency=usd";
    let chosen = "ethereum,nonsense,bitcoin,1move token,bitcoin, tether";
    let (_, page) = ask(&market, &format!("{usd}&ids={chosen}"));
    let found = ids(&page);
    assert_eq!(found[..3], ["bitcoin", "ethereum", "tether"]);
    assert_eq!(found.len(), 4);
    let (_, page) = ask(&market, &format!("{usd}&ids={chosen}&per_page=2&order=id_desc"));
    assert_eq!(ids(&page), ["tether", "ethereum"]);
    assert_eq!(ask(&market, &format!("{usd}&ids=nonsense")).1, Value::Array(vec![]));
}

#[test]
fn equal_questions_at_one_moment_get_equal_bytes() {
    let (one, two) = (market(800), market(800));
    for target in [
        "/ping",
        "/coins/list?include_platform=true",
        "/coins/markets?vs_currency=eur&price_change_percentage=1h,30d&precision=full",
        "/simple/price?ids=bitcoin,tether&vs_currencies=usd,btc&include_market_cap=true",
    ] {
        let first = ask_at(&one, NOON, target, None);
        let later = ask_at(&one, NOON + 3_600_000, target, None);
        assert_eq!(first != later, target.contains("vs_currenc"), "{target}");
        assert_eq!(first, ask_at(&two, NOON, target, None));
        assert_eq!(first, ask_at(&one, NOON, target, None));
    }
}

#[test]
fn prices_are_scaled_and_rounded_on_request() {
    let market = market(100);
    let price = |parameters: &str| {
        let target = format!("/coins/markets?ids=ethereum&{parameters}");
        ask(&market, &target).1[0]["current_price"].clone()
    };
    let full = price("vs_currency=usd&precision=full");
    let dollars = full.as_f64().unwrap();
    let cents = price("vs_currency=usd&precision=2").as_f64().unwrap();
    assert!((cents - dollars).abs() <= 0.005 && full.to_string().len() >= cents.to_string().len());
    assert!(price("vs_currency=usd&precision=0").is_i64());
    let yen = price("vs_currency=jpy&precision=full").as_f64().unwrap();
    assert!((150.0..170.0).contains(&(yen / dollars)));
}

#[test]
fn simple_prices_have_the_recorded_form() {
    let market = market(100);
    let body = |target: &str| ask_at(&market, NOON, &format!("/simple/price?{target}"), None).1;
    assert_eq!(body("ids=bitcoin&vs_currencies=ethereum"), r#"{"bitcoin":{}}"#);
    assert_eq!(body("ids=nonsense&vs_currencies=usd"), "{}");
    let json: Value = serde_json::from_str(&body(
        "ids=bitcoin, ethereum&vs_currencies=usd&include_24hr_vol=true&include_24hr_change=true&include_market_cap=true&include_last_updated_at=true",
    ))
    .unwrap();
    assert!(json.get("ethereum").is_none());
    let keys: Vec<&str> = json["bitcoin"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["last_updated_at", "usd", "usd_24h_change", "usd_24h_vol", "usd_market_cap"];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>(), expected.iter().collect());
}

#[test]
fn a_shift_moves_coins_between_pages() {
    let market = market(1_000);
    let target = "/coins/markets?vs_currency=usd&per_page=100&page=3";
    let plain: Value = serde_json::from_str(&ask_at(&market, NOON, target, None).1).unwrap();
    for bits in [0x1234, 0x1235] {
        let struck = Some(Struck { kind: FaultKind::Shift, bits });
        let page = ask_at(&market, NOON, target, struck).1;
        let page: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(ids(&page).len(), 100);
        let common = ids(&page).into_iter().filter(|id| ids(&plain).contains(id)).count();
        assert!((70..100).contains(&common), "{common}");
    }
}

#[test]
fn garbage_spoils_some_records_and_leaves_the_page_json() {
    let market = market(1_000);
    let clean = |page: &str| -> Vec<String> {
        // As raw text: one of the spoilt values is a number beyond any double.
        let records: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(page).unwrap();
        records.iter().map(|record| record.get().to_owned()).collect()
    };
    for target in ["/coins/markets?vs_currency=usd&per_page=250", "/coins/list"] {
        let plain = clean(&ask_at(&market, NOON, target, None).1);
        let mut kinds = BTreeSet::new();
        for bits in 0..60 {
            let struck = Some(Struck { kind: FaultKind::Garbage, bits });
            let spoilt = clean(&ask_at(&market, NOON, target, struck).1);
            assert_eq!(spoilt.len(), plain.len());
            let changed: Vec<_> = spoilt.iter().zip(&plain).filter(|(a, b)| a != b).collect();
            assert!(changed.len() < plain.len() / 8, "{}", changed.len());
            assert!(!changed.is_empty() || target == "/coins/list");
            kinds.extend(changed.into_iter().map(|(spoilt, _)| spoilt.len() % 97));
        }
        assert!(kinds.len() > 10);
    }
}

#[test]
fn long_lists_come_in_pieces_and_are_the_same() {
    let long = market(WHOLE_LIST + 1);
    let (market, path) = (&long, "/coins/list");
    let answer = answer(&Request { market, at: NOON, path, query: &[], struck: None, paid: false });
    let Content::Pieces(pieces) = answer.content else { panic!("a long list in one piece") };
    assert_eq!(pieces.size_hint().0, 101);
    let body: Vec<u8> = pieces.flatten().collect();
    let list: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 100_001);
}

/// The recorded answers of the real service, where they are at hand.
fn recordings(folder: &str) -> Option<Vec<(String, Value)>> {
    let folder = recordings_of("coingecko")?.join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (text.clone(), serde_json::from_str(&text).unwrap())
    };
    Some(files.map(read).collect())
}

/// The form of a value as it is spelt; integers and floats are not the same.
fn form(text: &str) -> &'static str {
    match text.as_bytes()[0] {
        b'"' => "string",
        b'{' => "object",
        b'n' => "null",
        _ if text.contains(['e', 'E']) => "exponent",
        _ if text.contains('.') => "float",
        _ => "integer",
    }
}

/// The fields of each record in their order, each with its raw value.
fn records(text: &str) -> Vec<Vec<(String, String)>> {
    type Raw = Box<serde_json::value::RawValue>;
    let records: Vec<Raw> = serde_json::from_str(text).unwrap();
    let fields = |record: &Raw| {
        let values: BTreeMap<String, Raw> = serde_json::from_str(record.get()).unwrap();
        let mut fields: Vec<(String, String)> =
            values.into_iter().map(|(field, value)| (field, value.get().to_owned())).collect();
        fields.sort_by_key(|(field, _)| record.get().find(&format!("\"{field}\":")));
        fields
    };
    records.iter().map(fields).collect()
}

fn forms(records: &[Vec<(String, String)>]) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut forms: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (field, value) in records.iter().flatten() {
        forms.entry(field.clone()).or_default().insert(form(value));
    }
    forms
}

#[test]
fn markets_have_the_fields_of_the_recordings_in_their_order_and_every_form() {
    let Some(recordings) = recordings("coins_markets") else {
        return;
    };
    let recorded: Vec<_> = recordings.iter().flat_map(|(text, _)| records(text)).collect();
    let market = market(17_600);
    let mut generated = Vec::new();
    for page in 1..=71 {
        let target =
            format!("/coins/markets?vs_currency=usd&per_page=250&page={page}&price_change_percentage=1h,24h,7d");
        generated.extend(records(&ask_at(&market, NOON, &target, None).1));
    }
    let order =
        |record: &Vec<(String, String)>| -> Vec<String> { record.iter().map(|(field, _)| field.clone()).collect() };
    let longest = recorded.iter().max_by_key(|record| record.len()).unwrap();
    assert_eq!(order(&generated[0]), order(longest));
    let (known, made) = (forms(&recorded), forms(&generated));
    let missing: Vec<_> = known
        .iter()
        .flat_map(|(field, forms)| forms.iter().map(move |form| (field, *form)))
        .filter(|(field, form)| !made[*field].contains(form))
        .collect();
    assert!(missing.is_empty(), "never generated, and recorded: {missing:?}");
    // Nothing that the vendor was never seen to send, except for coins beyond its first 250.
    for (field, forms) in &made {
        let text = known[field].contains("string") || known[field].contains("object");
        let odd: Vec<_> = forms.difference(&known[field]).filter(|form| text && **form != "null").collect();
        assert!(odd.is_empty(), "{field} is {odd:?}, unlike in recordings");
    }
}

#[test]
fn lists_have_the_fields_of_the_recordings() {
    let Some(recordings) = recordings("coins_list") else {
        return;
    };
    let market = market(17_600);
    let plain = records(&ask_at(&market, NOON, "/coins/list", None).1);
    let chains = records(&ask_at(&market, NOON, "/coins/list?include_platform=true", None).1);
    for (text, _) in &recordings {
        let recorded = records(text);
        let made = if recorded[0].len() == 4 { &chains } else { &plain };
        let fields =
            |record: &[(String, String)]| -> Vec<String> { record.iter().map(|(field, _)| field.clone()).collect() };
        assert_eq!(fields(&recorded[0]), fields(&made[0]));
        assert_eq!(forms(&recorded), forms(made));
    }
}

#[test]
fn errors_are_the_recorded_ones_byte_for_byte() {
    let Some(recordings) = recordings("errors") else {
        return;
    };
    let market = market(10);
    let canned = |kind| match errors::canned(kind).unwrap().content {
        Content::Whole(body) => String::from_utf8(body).unwrap(),
        Content::Pieces(_) => String::new(),
    };
    let made = [
        ask_at(&market, NOON, "/coins/markets", None).1,
        ask_at(&market, NOON, "/simple/price?vs_currencies=usd", None).1,
        canned(FaultKind::TooMany),
        canned(FaultKind::Internal),
    ];
    for body in made {
        let recorded = recordings.iter().any(|(text, _)| text.trim_end() == body);
        assert!(recorded, "{body}");
    }
}

fn ask_paid(market: &Arc<Market>, target: &str) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap();
    let query: Vec<(String, String)> =
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let answer = answer(&Request { market, at: NOON, path, query: &query, struck: None, paid: true });
    (answer.status, serde_json::from_slice(&answer.whole()).unwrap())
}

fn times(series: &Value) -> Vec<i64> {
    series.as_array().unwrap().iter().map(|row| row[0].as_i64().unwrap()).collect()
}

const DAY_MS: i64 = 86_400_000;

#[test]
fn the_length_of_a_chart_decides_its_steps() {
    let market = market(100);
    let now = NOON / 1_000;
    let range = |from: i64, to: i64| format!("/coins/bitcoin/market_chart/range?vs_currency=usd&from={from}&to={to}");
    for (target, points) in [
        ("/coins/bitcoin/market_chart?vs_currency=usd&days=1".to_owned(), 270..=292),
        ("/coins/bitcoin/market_chart?vs_currency=usd&days=30".to_owned(), 700..=722),
        ("/coins/bitcoin/market_chart?vs_currency=usd&days=30&interval=daily".to_owned(), 30..=33),
        ("/coins/bitcoin/market_chart?vs_currency=usd&days=365".to_owned(), 365..=368),
        (range(now - 86_400, now), 270..=292),
        (range(now - 10 * 86_400, now - 9 * 86_400), 22..=25),
        (range(now - 100 * 86_400, now - 10 * 86_400), 2_130..=2_161),
        (range(now - 101 * 86_400, now - 10 * 86_400), 90..=92),
        // Less than a day is nothing.
        (range(now - 80_000, now), 0..=0),
    ] {
        let (status, chart) = ask(&market, &target);
        let rows = ["prices", "market_caps", "total_volumes"].map(|name| times(&chart[name]));
        assert!(status == 200 && points.contains(&rows[0].len()), "{target}: {}", rows[0].len());
        assert!(rows[0] == rows[1] && rows[1] == rows[2]);
        // The last one may be told twice, the second time going back.
        let end = rows[0].len().saturating_sub(1);
        assert!(rows[0][..end].is_sorted(), "{target}");
    }
    let daily = times(&ask(&market, "/coins/bitcoin/market_chart?vs_currency=usd&days=91").1["prices"]);
    assert!(daily[..91].iter().all(|at| at % DAY_MS == 0) && daily[91] == NOON, "{daily:?}");
}

#[test]
fn free_plans_look_a_year_back_and_get_bars_of_odd_lengths() {
    let market = market(100);
    let old = (NOON - 366 * DAY_MS) / 1_000;
    for target in [
        "/coins/bitcoin/market_chart?vs_currency=usd&days=max".to_owned(),
        "/coins/bitcoin/market_chart?vs_currency=usd&days=366".to_owned(),
        format!("/coins/bitcoin/market_chart/range?vs_currency=usd&from={old}&to={}", old + 864_000),
    ] {
        let (status, body) = ask(&market, &target);
        assert_eq!((status, &body["error"]["status"]["error_code"]), (401, &10012.into()), "{target}");
        assert_eq!(ask_paid(&market, &target).0, 200, "{target}");
    }
    let ohlc = |days: &str| times(&ask(&market, &format!("/coins/bitcoin/ohlc?vs_currency=usd&days={days}")).1);
    for (days, body) in [("1", 1_800_000), ("7", 14_400_000), ("30", 14_400_000), ("90", 4 * DAY_MS)] {
        let closes = ohlc(days);
        assert!(closes.windows(2).all(|pair| pair[1] - pair[0] == body), "{days}");
        // The last one is not over yet.
        assert!(closes.iter().all(|at| at % body == 0) && closes.last().is_some_and(|at| *at > NOON), "{days}");
    }
    assert_eq!(ask(&market, "/coins/bitcoin/ohlc?vs_currency=usd&days=4").0, 400);
    let target = format!(
        "/coins/bitcoin/ohlc/range?vs_currency=usd&interval=daily&from={}&to={}",
        NOON / 1_000 - 100 * 86_400,
        NOON / 1_000
    );
    assert_eq!(ask(&market, &target).1["error_code"], 10005);
    let (status, bars) = ask_paid(&market, &target);
    assert_eq!((status, bars.as_array().unwrap().len()), (200, 101));
    for bar in bars.as_array().unwrap() {
        let [open, high, low, close] = [1, 2, 3, 4].map(|at| bar[at].as_f64().unwrap());
        assert!(low <= open && low <= close && high >= open && high >= close && bar.as_array().unwrap().len() == 5);
    }
    assert_eq!(ask(&market, "/coins/nonsense/market_chart?vs_currency=usd&days=1").1["error"], "coin not found");
    assert_eq!(ask(&market, "/coins/1move%20token/market_chart?vs_currency=usd&days=1").0, 200);
    assert_eq!(ask(&market, "/coins/bitcoin/market_chart?vs_currency=usdt&days=1").0, 400);
    assert_eq!(ask(&market, "/coins/bitcoin/market_chart?days=1").0, 422);
    assert_eq!(ask(&market, "/coins/bitcoin/nothing").0, 404);
}

#[test]
fn charts_are_as_uneven_as_the_recorded_ones() {
    let Some(recordings) = recordings("market_chart") else { return };
    let market = market(100);
    let hourly = recordings.iter().find(|(_, chart)| chart["prices"].as_array().unwrap().len() == 722);
    let hours = |chart: &Value| {
        let times = times(&chart["prices"]);
        let with: BTreeSet<i64> = times.iter().map(|at| at / 3_600_000).collect();
        times[times.len() - 1] / 3_600_000 - times[0] / 3_600_000 + 1 - with.len() as i64
    };
    let recorded = hours(&hourly.unwrap().1);
    let made = hours(&ask(&market, "/coins/bitcoin/market_chart?vs_currency=usd&days=30").1);
    assert!((1..=recorded * 5).contains(&made), "{made} hours without a point, {recorded} in the recording");
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture sandbox"]
fn time_of_a_page() {
    let market = market(17_600);
    let target = "/coins/markets?vs_currency=usd&order=id_asc&per_page=250&page=7&price_change_percentage=1h,24h,7d,30d&precision=full";
    ask_at(&market, NOON, target, None);
    let started = std::time::Instant::now();
    for _ in 0..100 {
        ask_at(&market, NOON, target, None);
    }
    eprintln!("a page of 250 takes {:?}", started.elapsed() / 100);
}
