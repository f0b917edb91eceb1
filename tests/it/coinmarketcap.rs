//! CoinMarketCap: a page for each 5,000 coins, a credit for each 200, a key that stays in its header,
//! and error codes that decide what is tried again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::cmc::{Cmc, KEY, KEY_HEADER, LISTINGS, MAP, QUOTES, Record, Shape, State, answer, envelope, error};
use crate::support::stub::{StubRequest, StubResponse};
use crate::support::test_db::{TestDb, assert_same};

on_every_database!(
    ten_thousand_coins_are_two_calls_and_fifty_credits,
    coins_on_no_page_are_asked_for_by_id,
    coins_that_share_a_symbol_are_renamed_leave_and_return,
    zero_stays_zero_and_unknown_stays_unknown,
    broken_records_are_rejected_alone
);

on_every_database!(only_sqlite:
    every_version_and_shape_gives_the_same_rows,
    a_server_that_lacks_the_new_paths_is_asked_by_the_old_ones,
    a_server_that_has_neither_path_is_not_the_vendor,
    a_call_for_each_currency,
    the_top_ones_are_paid_for_and_no_others,
    chosen_ids_are_numbers,
    a_call_is_charged_by_what_the_answer_says,
    a_run_that_does_not_fit_into_the_month_is_not_begun,
    a_budget_is_held_against_what_a_run_really_costs,
    the_key_travels_in_its_header_only,
    without_a_key_the_public_path_is_asked,
    each_error_of_the_list_is_tried_again_or_not,
    each_error_of_the_prices_is_tried_again_or_not,
    no_market_is_empty,
    an_answer_that_is_none_is_tried_again,
    a_fault_that_passes_costs_a_call_and_nothing_else,
    a_page_that_fails_costs_itself,
    a_broken_coin_of_the_map_stays_active,
    a_server_that_takes_short_addresses_only_gets_short_ones,
    a_plan_is_asked_for_before_a_run_is_refused,
    generated_data_is_stored_under_a_name_of_its_own
);

const ASSETS: &[&str] = &["assets", "upsert"];
const PRICES: &[&str] = &["prices", "insert"];
const ROWS: &str = "SELECT a.source_id, a.symbol, a.name, p.vs_currency, p.observed_at, p.price, p.volume_24h, \
                    p.base_volume_24h, p.market_cap, p.circulating_supply, p.total_supply, p.market_cap_rank, \
                    p.change_1h, p.change_24h, p.change_7d, p.change_30d FROM prices p \
                    JOIN assets a ON a.id = p.asset_id ORDER BY a.id, p.vs_currency, p.observed_at";

#[track_caller]
fn upsert(db: &TestDb, cmc: &Cmc) -> Value {
    cmc.ask(db, ASSETS).json(0)
}

#[track_caller]
fn insert(db: &TestDb, cmc: &Cmc, code: i32, args: &[&str]) -> Value {
    let result = cmc.ask(db, PRICES).args(args).json(code);
    check_sum(&result);
    result
}

#[track_caller]
fn check_sum(result: &Value) {
    let number = |name: &str| result[name].as_i64().unwrap();
    assert_eq!(
        number("rows_read"),
        number("rows_written") + number("rows_unchanged") + number("rows_rejected"),
        "{result}"
    );
}

/// These numbers of a result.
#[track_caller]
fn counts<const N: usize>(result: &Value, names: [&str; N]) -> [i64; N] {
    names.map(|name| result[name].as_i64().unwrap_or_else(|| panic!("{name} of {result}")))
}

const SPENT: [&str; 2] = ["calls", "credits"];
const READ: [&str; 4] = ["rows_read", "rows_written", "rows_rejected", "rows_absent"];

fn paths(calls: &[StubRequest]) -> Vec<&str> {
    calls.iter().map(|call| call.path.as_str()).collect()
}

/// How many ids each call by id asked for.
fn ids_asked(calls: &[StubRequest]) -> Vec<usize> {
    calls.iter().filter_map(|call| call.param("id")).map(|ids| ids.split(',').count()).collect()
}

fn ten_thousand_coins_are_two_calls_and_fifty_credits(db: &TestDb) {
    let cmc = Cmc::usual(10_000);
    let listed = upsert(db, &cmc);
    assert_eq!(counts(&listed, ["rows_written", "calls", "credits"]), [10_000, 1, 0]);
    let calls = cmc.take_calls();
    assert_eq!(paths(&calls), [MAP]);
    assert_eq!(calls[0].param("listing_status"), Some("active"));

    let result = insert(db, &cmc, 0, &[]);
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([2, 50], [10_000, 10_000, 0, 0]));
    let calls = cmc.take_calls();
    assert_eq!(paths(&calls), [LISTINGS, LISTINGS]);
    let pages: Vec<_> = calls.iter().map(|call| (call.number("start"), call.number("limit"))).collect();
    assert_eq!(pages, [(Some(1), Some(5_000)), (Some(5_001), Some(5_000))]);
    for call in &calls {
        // In an order in which no coin changes its page.
        assert_eq!((call.param("sort"), call.param("sort_dir")), (Some("date_added"), Some("asc")));
        assert_eq!((call.param("convert"), call.header(KEY_HEADER)), (Some("USD"), Some(KEY)));
        assert!(call.header("user-agent").is_some_and(|agent| agent.starts_with("coinetl/")));
        assert!(call.header("accept-encoding").is_some_and(|kinds| kinds.contains("gzip")));
    }
    assert_eq!(
        db.lines("SELECT command, source, status, calls, credits FROM runs ORDER BY id"),
        ["assets upsert|coinmarketcap|ok|1|0", "prices insert|coinmarketcap|ok|2|50"]
    );

    // Another source's coin is none of this view's.
    db.execute(
        "INSERT INTO assets VALUES (1000000, 'coingecko', 'b', 'b', 'B', TRUE, '2026-01-02 03:04:05.006', '2026-01-02 03:04:05.006'); \
         INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) VALUES (1000000, 'usd', '2026-01-02 03:04:05.006', 1, 1)",
    );
    let columns = "asset_id, vs_currency, observed_at, price, volume_24h, market_cap, circulating_supply, total_supply, \
                   market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active";
    let quotes = db.lines(&format!("SELECT {columns} FROM quotes_coins ORDER BY asset_id"));
    let latest = format!("SELECT {columns} FROM latest_prices WHERE source = 'coinmarketcap' ORDER BY asset_id");
    assert_eq!(quotes.len(), 10_000);
    assert_same(&quotes, &db.lines(&latest));
}

fn every_version_and_shape_gives_the_same_rows(db: &TestDb) {
    let cmc = Cmc::usual(150);
    upsert(db, &cmc);
    let fresh = cmc.state.lock().unwrap().clone();
    let ids: Vec<String> = (1..=150).map(|n| n.to_string()).collect();
    let by_id = ["--ids", &ids.join(",")];
    let rows = |change: &dyn Fn(&mut State), args: &[&str]| {
        db.execute("DELETE FROM prices");
        cmc.change(|state| {
            *state = fresh.clone();
            change(state);
        });
        assert_eq!(counts(&insert(db, &cmc, 0, args), READ), [150, 150, 0, 0]);
        db.lines(ROWS)
    };
    let expected = rows(&|_| {}, &[]);
    assert_eq!(
        expected[6],
        "7|C7|Coin 7|usd|2026-09-16 09:14:00.000|7.25|1007.0|NULL|999993.0|NULL|NULL|7|NULL|-1.5|NULL|NULL"
    );
    let changes: [&dyn Fn(&mut State); 6] = [
        &|_| {},
        &|state| state.shape = Some(Shape::Map),
        &|state| state.has_v3 = false,
        &|state| (state.has_v3, state.shape) = (false, Some(Shape::Array)),
        &|state| state.quotes_by_id = true,
        // Newer paths tell success as a text; one client has seen 200.
        &|state| state.ok = "\"0\"",
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert_same(&rows(change, &[]), &expected);
        assert_same(&rows(change, &by_id), &expected);
        assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 150, "change {n}");
    }
    assert_same(&rows(&|state| state.ok = "200", &[]), &expected);
}

fn a_server_that_lacks_the_new_paths_is_asked_by_the_old_ones(db: &TestDb) {
    let cmc = Cmc::usual(6_000);
    cmc.change(|state| state.has_v3 = false);
    upsert(db, &cmc);
    cmc.take_calls();
    let result = insert(db, &cmc, 0, &[]);
    let calls = cmc.take_calls();
    let old = "/v1/cryptocurrency/listings/latest";
    assert_eq!(paths(&calls), [LISTINGS, old, old], "the new path is tried once");
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([3, 30], [6_000, 6_000, 0, 0]));
    let query = |call: &StubRequest| call.query.clone();
    assert_eq!(query(&calls[0]), query(&calls[1]), "the same question");

    let ids: Vec<String> = (1..=250).map(|n| n.to_string()).collect();
    let result = insert(db, &cmc, 0, &["--ids", &ids.join(",")]);
    let (calls, old) = (cmc.take_calls(), "/v2/cryptocurrency/quotes/latest");
    assert_eq!(paths(&calls), [QUOTES, old, old, old]);
    assert_eq!(counts(&result, ["calls", "credits", "rows_unchanged"]), [4, 3, 250]);
}

fn a_server_that_has_neither_path_is_not_the_vendor(db: &TestDb) {
    for html in [false, true] {
        let cmc = Cmc::with(Vec::new(), move |_, _| {
            Some(match html {
                true => StubResponse::new(404, "text/html", "<h1>Not here</h1>"),
                false => error(404, "404", "Not here"),
            })
        });
        let output = cmc.ask(db, PRICES).arg("-q").args(["--output", "json"]).run().expect(78);
        let told = "has no cryptocurrency/listings/latest (HTTP 404): Not here; check COINMARKETCAP_API_URL";
        assert!(output.stderr.contains(told), "{output}");
        assert_eq!(counts(&output.json(), SPENT), [2, 0]);
        assert_eq!(cmc.take_calls().len(), 2);
    }
}

fn coins_on_no_page_are_asked_for_by_id(db: &TestDb) {
    let cmc = Cmc::usual(235);
    let listed: Vec<Record> = (1..=240).map(Record::usual).collect();
    cmc.change(|state| (state.listed, state.on_pages) = (Some(listed), 10));
    upsert(db, &cmc);
    cmc.take_calls();
    let result = insert(db, &cmc, 0, &[]);
    let calls = cmc.take_calls();
    assert_eq!(paths(&calls), [LISTINGS, QUOTES, QUOTES, QUOTES]);
    assert_eq!(ids_asked(&calls), [100, 100, 30]);
    for call in &calls[1..] {
        assert_eq!((call.param("skip_invalid"), call.param("convert")), (Some("true"), Some("USD")));
    }
    let asked: Vec<&str> = calls.iter().filter_map(|call| call.param("id")).flat_map(|ids| ids.split(',')).collect();
    let expected: Vec<String> = (11..=240).map(|n| n.to_string()).collect();
    assert_eq!(asked, expected);
    // A credit for the page, one for each hundred that came.
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([4, 4], [235, 235, 0, 5]));
    // What has no price is not asked for again within a day.
    let result = insert(db, &cmc, 0, &[]);
    assert_eq!(counts(&result, ["rows_unchanged", "rows_absent", "calls"]), [235, 5, 4]);
    assert_eq!(ids_asked(&cmc.take_calls()), [100, 100, 25]);
}

fn coins_that_share_a_symbol_are_renamed_leave_and_return(db: &TestDb) {
    let mut coins: Vec<Record> = (1..=30).map(Record::usual).collect();
    for (id, symbol, name) in [(101, "TRUMP", "One"), (102, "TRUMP", "Two"), (103, "trump", "TRUMP"), (104, "42", "42")]
    {
        coins.push(Record::usual(id).named(symbol, name));
    }
    let cmc = Cmc::new(coins.clone());
    let stored = || {
        db.lines(
            "SELECT a.source_id, a.symbol, a.name, a.active, p.price FROM assets a JOIN prices p ON p.asset_id = a.id \
             WHERE a.source = 'coinmarketcap' AND p.vs_currency = 'usd' ORDER BY a.id",
        )[30..]
            .join(" ")
    };
    let changed = |coins: &[Record]| {
        cmc.change(|state| state.records = coins.to_vec());
        let listed = cmc.ask(db, ASSETS).json(0);
        insert(db, &cmc, 0, &[]);
        counts(&listed, ["rows_read", "rows_written", "rows_updated", "rows_unchanged", "deactivated"])
    };
    assert_eq!(changed(&coins), [34, 34, 0, 0, 0]);
    assert_eq!(stored(), "101|TRUMP|One|1|101.25 102|TRUMP|Two|1|102.25 103|trump|TRUMP|1|103.25 104|42|42|1|104.25");
    // Renamed under the same id.
    coins[30] = Record::usual(101).named("KAON", "Kaon");
    assert_eq!(changed(&coins), [34, 1, 1, 33, 0]);
    // One is in the map no more; another is told to be inactive, which the map should have left out.
    let gone = coins.remove(31);
    coins[31].inactive = true;
    let still_active: Vec<Record> = coins.iter().filter(|coin| !coin.inactive).cloned().collect();
    cmc.change(|state| (state.records, state.listed) = (still_active, Some(coins.clone())));
    let listed = cmc.ask(db, ASSETS).json(0);
    assert_eq!(counts(&listed, ["rows_read", "rows_written", "rows_unchanged", "deactivated"]), [32, 0, 32, 2]);
    assert_eq!(stored(), "101|KAON|Kaon|1|101.25 102|TRUMP|Two|0|102.25 103|trump|TRUMP|0|103.25 104|42|42|1|104.25");
    // They are not missed, and cost no call.
    let result = insert(db, &cmc, 0, &[]);
    assert_eq!((counts(&result, SPENT), counts(&result, ["rows_read", "rows_absent"])), ([1, 1], [32, 0]));
    // Back, each under its old id of ours.
    coins[31].inactive = false;
    coins.push(gone);
    cmc.change(|state| state.listed = None);
    assert_eq!(changed(&coins), [34, 2, 2, 32, 0]);
    assert_eq!(stored(), "101|KAON|Kaon|1|101.25 102|TRUMP|Two|1|102.25 103|trump|TRUMP|1|103.25 104|42|42|1|104.25");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 34);
}

fn zero_stays_zero_and_unknown_stays_unknown(db: &TestDb) {
    let at = ("last_updated", "\"2026-09-16T09:14:00.000Z\"");
    let cmc = Cmc::new(vec![
        Record::new(1, &[("price", "2.8461682e-17"), ("volume_24h", "0"), ("market_cap", "0"), at]).with(&[
            ("cmc_rank", "null"),
            ("total_supply", "0.0"),
            ("self_reported_market_cap", "1.2e59"),
        ]),
        Record::new(2, &[("price", "null"), ("volume_24h", "null"), ("market_cap", "null"), at]).with(&[
            ("cmc_rank", "7"),
            ("circulating_supply", "null"),
            ("last_updated", "\"2026-09-16T08:00:00.000Z\""),
        ]),
        // Without a time of the quote the coin's own counts.
        Record::new(3, &[("price", "\"0.1\""), ("percent_change_7d", "11909932.123456789")])
            .with(&[("last_updated", "\"2026-09-16T08:00:00.999999Z\"")]),
    ]);
    insert(db, &cmc, 0, &[]);
    assert_eq!(
        db.lines(ROWS),
        [
            "1|C1|Coin 1|usd|2026-09-16 09:14:00.000|2.8461682e-17|0.0|NULL|0.0|NULL|0.0|NULL|NULL|NULL|NULL|NULL",
            "2|C2|Coin 2|usd|2026-09-16 09:14:00.000|NULL|NULL|NULL|NULL|NULL|NULL|7|NULL|NULL|NULL|NULL",
            "3|C3|Coin 3|usd|2026-09-16 08:00:00.999|0.1|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|11909932.12345679|NULL",
        ]
    );
    assert_eq!(counts(&insert(db, &cmc, 0, &[]), ["rows_unchanged", "rows_written"]), [3, 0]);
}

fn broken_records_are_rejected_alone(db: &TestDb) {
    let broken: [(&str, &str); 18] = [
        (r#"{"id":901,"quote":[{"symbol":"USD","price":NaN}]}"#, "expected value"),
        (r#"{"id":902,"quote":[{"symbol":"USD","price":-Infinity}]}"#, "invalid number"),
        (r#"{"id":903,"quote":[{"symbol":"USD","price":1e999}]}"#, "number out of range"),
        (r#"{"id":904,"quote":[{"symbol":"USD","price":"NaN"}]}"#, "price is not a finite number"),
        (r#"{"id":905,"quote":[{"symbol":"USD","price":"much"}]}"#, "price is not a number"),
        (r#"{"id":906,"quote":[{"symbol":"USD","market_cap":{}}]}"#, "market_cap is an object, not a number"),
        (r#"{"id":907,"quote":[{"symbol":"EUR","price":1}]}"#, "no quote in usd"),
        (r#"{"id":908,"quote":{}}"#, "no quote in usd"),
        (r#"{"id":909,"quote":null}"#, "no quote in usd"),
        (r#"{"id":910}"#, "no quote in usd"),
        (r#"{"id":911,"quote":"none"}"#, "invalid type"),
        (r#"{"id":null,"quote":[{"symbol":"USD","price":1}]}"#, "id is missing"),
        (r#"{"id":{},"quote":[{"symbol":"USD","price":1}]}"#, "id is an object"),
        (r#"{"id":914,"symbol":"a\u0000","quote":[{"symbol":"USD","price":1}]}"#, "U+0000"),
        (r#"{"id":915,"quote":[{"symbol":"USD","price":1,"last_updated":"soon"}]}"#, "last_updated is not an RFC 3339"),
        (r#"{"id":916,"cmc_rank":1.5,"quote":[{"symbol":"USD","price":1}]}"#, "market_cap_rank is not a whole number"),
        ("null", "invalid type"),
        (r#""Throttled""#, "invalid type"),
    ];
    let mut records = Vec::new();
    for (n, (json, _)) in broken.iter().enumerate() {
        records.push(Record::usual(n + 1));
        records.push(Record::usual(901 + n).raw(json));
    }
    let cmc = Cmc::new(records);
    let result = insert(db, &cmc, 3, &[]);
    assert_eq!((counts(&result, READ), counts(&result, SPENT)), ([36, 18, 18, 0], [1, 1]));
    assert!(result["error"].as_str().unwrap().contains("dead_letters"), "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 18);
    let letters = "SELECT payload, error, topic, source FROM dead_letters ORDER BY id";
    let kept = db.query(letters);
    assert_eq!(kept.len(), broken.len());
    for (row, (json, reason)) in kept.iter().zip(broken) {
        assert_eq!(row[0].as_deref(), Some(json));
        assert!(row[1].as_deref().is_some_and(|told| told.contains(reason)), "{row:?}");
        assert_eq!(row[2].as_deref(), Some("cryptocurrency/listings/latest"));
        assert_eq!(row[3].as_deref(), Some("coinmarketcap"));
    }
    let again = insert(db, &cmc, 3, &[]);
    assert_eq!(counts(&again, ["rows_unchanged", "rows_rejected"]), [18, 18]);
    assert_same(&db.query(letters), &kept);
    // A coin that is known to be broken is not asked for by its id.
    cmc.change(|state| state.records = (1..=20).map(Record::usual).collect());
    upsert(db, &cmc);
    cmc.change(|state| state.records[4].raw = Some(r#"{"id":5,"quote":[{"symbol":"USD","price":NaN}]}"#.into()));
    let result = insert(db, &cmc, 3, &[]);
    assert_eq!((counts(&result, SPENT), counts(&result, ["rows_read", "rows_rejected"])), ([1, 1], [20, 1]));
}

fn a_broken_coin_of_the_map_stays_active(db: &TestDb) {
    let broken = AtomicUsize::new(0);
    let cmc = Cmc::with((1..=20).map(Record::usual).collect(), move |request, state| {
        let second = request.path == MAP && broken.fetch_add(1, Ordering::SeqCst) > 0;
        second.then(|| {
            let whole = String::from_utf8(answer(request, state).body).unwrap();
            let (five, six) = (r#""symbol":"C5""#, r#""symbol":"C6""#);
            let whole = whole.replace(five, r#""symbol":{}"#).replace(six, r#""symbol":NaN"#);
            StubResponse::json(whole.replace("\"data\":[", "\"data\":[{\"id\":null,\"symbol\":\"x\"},17,"))
        })
    });
    upsert(db, &cmc);
    let result = cmc.ask(db, ASSETS).json(3);
    check_sum(&result);
    assert_eq!(counts(&result, ["rows_read", "rows_unchanged", "rows_rejected", "deactivated"]), [22, 18, 4, 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 20);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE topic = 'cryptocurrency/map'"), 4);
}

fn a_call_for_each_currency(db: &TestDb) {
    let cmc = Cmc::with((1..=30).map(Record::usual).collect(), |request, state| {
        let mut other = state.clone();
        if request.param("convert") == Some("EUR") {
            for record in &mut other.records {
                record.quote[0].1 = record.quote[0].1.replace(".25", ".75");
            }
        }
        Some(answer(request, &other))
    });
    upsert(db, &cmc);
    cmc.take_calls();
    let result = insert(db, &cmc, 0, &["--vs", "usd, EUR,usd"]);
    let calls = cmc.take_calls();
    let asked: Vec<_> = calls.iter().map(|call| call.param("convert")).collect();
    assert_eq!(asked, [Some("USD"), Some("EUR")]);
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([2, 2], [60, 60, 0, 0]));
    assert_eq!(
        db.lines("SELECT vs_currency, COUNT(*), MIN(price) FROM prices GROUP BY vs_currency ORDER BY vs_currency"),
        ["eur|30|1.75", "usd|30|1.25"]
    );
    // A server that answers in another currency than the one asked for has told nothing of it.
    let stubborn = Cmc::with((1..=3).map(Record::usual).collect(), |request, state| {
        let mut request = request.clone();
        request.query.retain(|(name, _)| name != "convert");
        Some(answer(&request, state))
    });
    let result = insert(db, &stubborn, 3, &["--vs", "chf", "--top", "3"]);
    assert_eq!(counts(&result, READ), [3, 0, 3, 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error LIKE '%no quote in chf%'"), 3);
}

fn the_top_ones_are_paid_for_and_no_others(db: &TestDb) {
    let cmc = Cmc::usual(8_000);
    let limits = |calls: &[StubRequest]| -> Vec<_> {
        assert!(calls.iter().all(|call| call.path == LISTINGS && call.param("sort") == Some("market_cap")));
        assert!(calls.iter().all(|call| call.param("sort_dir") == Some("desc")));
        calls.iter().map(|call| (call.number("start").unwrap(), call.number("limit").unwrap())).collect()
    };
    for (top, pages, credits) in
        [("200", vec![(1, 200)], 1), ("201", vec![(1, 201)], 2), ("7000", vec![(1, 5_000), (5_001, 2_000)], 35)]
    {
        let result = insert(db, &cmc, 0, &["--top", top]);
        let calls = cmc.take_calls();
        assert_eq!(limits(&calls), pages, "--top {top}");
        assert_eq!(counts(&result, SPENT), [pages.len() as i64, credits], "--top {top}");
        assert_eq!(result["rows_read"], top.parse::<i64>().unwrap());
        assert_eq!(db.number("SELECT COUNT(*) FROM prices"), top.parse::<i64>().unwrap());
    }
    // The largest ones, whatever their ids.
    cmc.change(|state| state.records.reverse());
    db.execute("DELETE FROM prices");
    insert(db, &cmc, 0, &["--top", "2"]);
    let stored = "SELECT a.source_id FROM prices p JOIN assets a ON a.id = p.asset_id ORDER BY a.source_id";
    assert_eq!(db.lines(stored), ["7999", "8000"]);
}

fn chosen_ids_are_numbers(db: &TestDb) {
    let cmc = Cmc::usual(30);
    cmc.change(|state| state.records.push(Record::usual(1_027).named("ETH", "Ethereum")));
    let result = insert(db, &cmc, 0, &["--ids", "1,1027,1"]);
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([1, 1], [2, 2, 0, 0]));
    let calls = cmc.take_calls();
    assert_eq!((paths(&calls), calls[0].param("id")), (vec![QUOTES], Some("1,1027")));
    assert_eq!(db.lines("SELECT source_id, symbol FROM assets ORDER BY id"), ["1|C1", "1027|ETH"]);

    let unknown = insert(db, &cmc, 3, &["--ids", "1027,999999"]);
    assert_eq!(counts(&unknown, ["rows_unchanged", "rows_absent", "calls"]), [1, 1, 1]);
    assert!(unknown["error"].as_str().unwrap().contains("999999"), "{unknown}");
    let nothing = insert(db, &cmc, 3, &["--ids", "999999"]);
    // Nothing came, so nothing was charged.
    assert_eq!((counts(&nothing, READ), counts(&nothing, SPENT)), ([0, 0, 0, 1], [1, 0]));

    cmc.take_calls();
    for id in ["bitcoin", "1,BTC", "-1", "1.5", "1;2"] {
        let output = cmc.ask(db, PRICES).arg(format!("--ids={id}")).run().expect(2);
        assert!(output.stderr.contains("ids are numbers"), "{output}");
    }
    assert_eq!(cmc.take_calls().len(), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM runs"), 3, "no run began");
}

fn a_call_is_charged_by_what_the_answer_says(db: &TestDb) {
    // Nobody knows how many coins there are: a full page is what it may cost, a credit is what it does.
    let few = Cmc::usual(150);
    assert_eq!(counts(&insert(db, &few, 0, &[]), SPENT), [1, 1]);
    assert_eq!(counts(&insert(db, &few, 0, &["--top", "1000"]), SPENT), [1, 1]);
    // More than expected.
    let dear = Cmc::with((1..=5).map(Record::usual).collect(), |request, state| {
        let whole = String::from_utf8(answer(request, state).body).unwrap();
        Some(StubResponse::json(whole.replace("\"credit_count\":1", "\"credit_count\":7")))
    });
    assert_eq!(counts(&insert(db, &dear, 0, &["--top", "5"]), SPENT), [1, 7]);
    // An answer that does not tell costs what it may.
    let silent = Cmc::with((1..=300).map(Record::usual).collect(), |request, state| {
        let whole = String::from_utf8(answer(request, state).body).unwrap();
        Some(StubResponse::json(whole.replace("\"credit_count\"", "\"credits\"")))
    });
    assert_eq!(counts(&insert(db, &silent, 0, &["--top", "300"]), SPENT), [1, 2]);
    // Errors are free; the try that works is not.
    let tries = AtomicUsize::new(0);
    let shaky = Cmc::with((1..=300).map(Record::usual).collect(), move |_, _| {
        (tries.fetch_add(1, Ordering::SeqCst) < 2).then(|| error(500, "500", "An internal error"))
    });
    assert_eq!(counts(&insert(db, &shaky, 0, &["--top", "300"]), SPENT), [3, 2]);
    assert_eq!(db.lines("SELECT calls, credits FROM runs ORDER BY id"), ["1|1", "1|1", "1|7", "1|2", "3|2"]);
}

fn a_run_that_does_not_fit_into_the_month_is_not_begun(db: &TestDb) {
    let cmc = Cmc::usual(6_000);
    upsert(db, &cmc);
    insert(db, &cmc, 0, &[]);
    let within = |limit: &str, code| cmc.ask(db, PRICES).env("COINETL_CREDITS_PER_MONTH", limit).json(code);
    assert_eq!(counts(&within("60", 0), ["rows_unchanged", "rows_written", "calls", "credits"]), [6_000, 0, 2, 30]);
    cmc.take_calls();
    let refused = within("89", 75);
    assert_eq!((counts(&refused, SPENT), cmc.take_calls().len()), ([0, 0], 0));
    let told = refused["error"].as_str().unwrap();
    assert!(told.contains("30 more credit(s) are needed and 29 of 89 are left"), "{refused}");
}

fn a_budget_is_held_against_what_a_run_really_costs(db: &TestDb) {
    let cmc = Cmc::usual(150);
    upsert(db, &cmc);
    // 150 coins are a credit, and two are left: neither run is refused.
    for _ in 0..2 {
        let result = cmc.ask(db, PRICES).env("COINETL_CREDITS_PER_MONTH", "2").json(0);
        assert_eq!(counts(&result, SPENT), [1, 1]);
    }
    cmc.take_calls();
    let refused = cmc.ask(db, PRICES).env("COINETL_CREDITS_PER_MONTH", "2").json(75);
    assert!(refused["error"].as_str().unwrap().contains("budget is spent"), "{refused}");
    assert_eq!(cmc.take_calls().len(), 0);
}

fn the_key_travels_in_its_header_only(db: &TestDb) {
    // Some servers say back what they were sent.
    let echo = |request: &StubRequest, _: &mut State| {
        let told: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        Some(error(401, "1001", &told.join(" ")))
    };
    let fine = Cmc::new(vec![Record::usual(1), Record::usual(2).raw(r#"{"id":2}"#)]);
    let refusing = Cmc::with(Vec::new(), echo);
    let silent = Cmc::with(Vec::new(), |_, _| Some(StubResponse::new(500, "text/plain", "no")));
    for (vendor, args, code) in [
        (&fine, ASSETS, 0),
        (&fine, PRICES, 3),
        (&refusing, ASSETS, 78),
        (&refusing, PRICES, 78),
        (&silent, ASSETS, 75),
    ] {
        for loudness in [&["-vvv"][..], &["-vvv", "--log-format", "json", "--output", "json"]] {
            let ask = vendor.ask(db, args).env("RUST_LOG", "trace").env("COINETL_BACKOFF", "1ms").args(loudness);
            let output = ask.run().expect(code);
            assert!(!format!("{output}").contains(KEY), "the key is told\n{output}");
        }
    }
    let calls: Vec<StubRequest> = [&fine, &refusing, &silent].iter().flat_map(|vendor| vendor.take_calls()).collect();
    assert_eq!(calls.len(), 4 + 4 + 10);
    for call in &calls {
        assert_eq!(call.header(KEY_HEADER), Some(KEY));
        assert_eq!(call.header("accept"), Some("application/json"));
        assert!(!call.target.contains(KEY) && !call.target.contains("CMC_PRO"), "{}", call.target);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE error LIKE '%[the key]%'"), 4);
    for (table, column) in [("runs", "error"), ("dead_letters", "payload"), ("dead_letters", "error")] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table} WHERE {column} LIKE '%{KEY}%'")), 0);
    }
    let file = std::fs::read(db.workdir().file("it.db")).unwrap();
    assert!(!file.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()), "the key is in the database");
}

fn without_a_key_the_public_path_is_asked(db: &TestDb) {
    let cmc = Cmc::usual(6_000);
    // Another vendor's key is none of its business.
    let listed = cmc.ask_keyless(db, ASSETS).env("COINGECKO_DEMO_API_KEY", "CG-hush").json(0);
    assert_eq!(counts(&listed, ["rows_written", "calls", "credits"]), [6_000, 1, 0]);
    // A variable that is set to nothing is not set.
    let result = cmc.ask_keyless(db, PRICES).env("COINMARKETCAP_API_KEY", "").json(0);
    assert_eq!(counts(&result, ["rows_written", "calls", "credits"]), [6_000, 2, 30]);
    cmc.ask_keyless(db, PRICES).args(["--ids", "1"]).json(0);
    let calls = cmc.take_calls();
    let public = |path: &str| format!("/public-api{path}");
    assert_eq!(paths(&calls), [MAP, LISTINGS, LISTINGS, QUOTES].map(public));
    assert!(calls.iter().all(|call| call.header(KEY_HEADER).is_none()));
    assert!(!calls.iter().any(|call| call.headers.iter().any(|(_, value)| value.contains("hush"))));
    // A month without an account has no budget that could end.
    db.execute("UPDATE runs SET credits = 1000000");
    cmc.ask_keyless(db, PRICES).args(["--ids", "1"]).json(0);
    // The address may end with a slash.
    cmc.ask_keyless(db, PRICES).args(["--ids", "2"]).env("COINMARKETCAP_API_URL", format!("{}/", cmc.url())).json(0);
    assert!(cmc.take_calls().iter().all(|call| call.path == public(QUOTES)));
}

/// HTTP status and code, how often a call is tried, the exit code, and what is told.
const ERRORS: [(u16, &str, usize, i32, &str); 25] = [
    // Limits of a minute and of an address pass within a run.
    (429, "1008", 5, 75, "limits us (HTTP 429, code 1008): told"),
    (429, "1011", 5, 75, "limits us (HTTP 429, code 1011): told"),
    (429, "\"1011\"", 5, 75, "limits us (HTTP 429, code 1011): told"),
    (429, "429", 5, 75, "limits us (HTTP 429): told"),
    // Those of a day and of a month do not, and neither does the one of callers without a key.
    (429, "1009", 1, 75, "credits are spent (HTTP 429, code 1009): told; go on when the day ends"),
    (429, "1010", 1, 75, "credits are spent (HTTP 429, code 1010): told; go on when the plan's month ends"),
    (429, "\"1010\"", 1, 75, "code 1010"),
    (429, "1022", 1, 75, "limits us (HTTP 429, code 1022): told"),
    (401, "1001", 1, 78, "set a valid COINMARKETCAP_API_KEY"),
    (401, "1002", 1, 78, "set a valid COINMARKETCAP_API_KEY"),
    (402, "1003", 1, 78, "(HTTP 402, code 1003): told; pay for the plan"),
    (402, "1004", 1, 78, "(HTTP 402, code 1004): told; pay for the plan"),
    (403, "1005", 1, 78, "set a valid COINMARKETCAP_API_KEY"),
    (403, "1006", 1, 78, "the plan does not cover cryptocurrency/"),
    (403, "1007", 1, 78, "the key was disabled: set another COINMARKETCAP_API_KEY"),
    (400, "400", 1, 1, "(HTTP 400): told; check the arguments"),
    (500, "500", 5, 75, "has trouble of its own (HTTP 500): told"),
    // The same inside HTTP 200.
    (200, "1001", 1, 78, "set a valid COINMARKETCAP_API_KEY"),
    (200, "1003", 1, 78, "pay for the plan"),
    (200, "\"1006\"", 1, 78, "the plan does not cover cryptocurrency/"),
    (200, "1008", 5, 75, "limits us (HTTP 429, code 1008): told"),
    (200, "1010", 1, 75, "credits are spent (HTTP 429, code 1010): told"),
    (200, "1022", 1, 75, "limits us (HTTP 429, code 1022): told"),
    (200, "400", 1, 1, "(HTTP 400): told; check the arguments"),
    (200, "500", 5, 75, "has trouble of its own (HTTP 500): told"),
];

fn fails_with_each_error(db: &TestDb, args: &[&str]) {
    for (n, (status, code, tries, exit, words)) in ERRORS.into_iter().enumerate() {
        let cmc = Cmc::with(Vec::new(), move |_, _| Some(error(status, code, "told.")));
        let ask = cmc.ask(db, args).env("COINETL_BACKOFF", "100us").args(["-q", "--output", "json"]);
        let output = ask.run().expect(exit);
        assert!(output.stderr.contains(words), "{words:?} is not told\n{output}");
        assert_eq!(output.stderr.lines().count(), 1, "one sentence\n{output}");
        let result = output.json();
        assert_eq!(cmc.take_calls().len(), tries, "HTTP {status}, code {code}\n{output}");
        assert_eq!(counts(&result, SPENT), [tries as i64, 0], "errors are free\n{output}");
        assert_eq!((&result["status"], &result["rows_read"]), (&"failed".into(), &0.into()));
        assert_eq!(
            db.lines("SELECT status, calls, credits FROM runs ORDER BY id DESC LIMIT 1"),
            [format!("failed|{tries}|0")],
            "error {n}"
        );
    }
}

fn each_error_of_the_list_is_tried_again_or_not(db: &TestDb) {
    fails_with_each_error(db, ASSETS);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 0);
}

fn each_error_of_the_prices_is_tried_again_or_not(db: &TestDb) {
    // Coins enough for a page.
    upsert(db, &Cmc::usual(30));
    fails_with_each_error(db, PRICES);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM absences"), 0, "nobody said that these coins have no price");
}

fn no_market_is_empty(db: &TestDb) {
    for known in [false, true] {
        for data in ["[]", "{}", "null", " [ ] "] {
            let cmc = Cmc::with((1..=30).map(Record::usual).collect(), move |request, _| {
                (request.path != MAP || !known).then(|| envelope("0", 0, data))
            });
            if known {
                upsert(db, &cmc);
            }
            for args in [&[][..], &["--top", "5"]] {
                let result = insert(db, &cmc, 75, args);
                assert!(result["error"].as_str().unwrap().contains("empty"), "{result}");
                assert_eq!(result["credits"], 0);
            }
            if !known {
                let result = cmc.ask(db, ASSETS).json(75);
                assert!(result["error"].as_str().unwrap().contains("the coin list is empty"), "{result}");
            }
        }
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM absences"), 0);
    // A list that became empty deactivates nothing.
    let empty = Cmc::with(Vec::new(), |_, _| Some(envelope("0", 0, "[]")));
    let result = empty.ask(db, ASSETS).json(3);
    assert!(result["error"].as_str().unwrap().contains("the list of 0 coins lacks 30 of 30"), "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 30);
}

const FAULTS: [(&str, &str); 7] = [
    ("html", "it is text/html, not JSON"),
    ("truncated", "the answer ends in the middle"),
    ("after the data", "the answer ends in the middle"),
    ("trailing", "the answer goes on after its end"),
    ("drop", "can't be reached"),
    ("nothing", "the answer is empty"),
    ("slow", "no whole answer within 150ms"),
];

/// What a fault makes of a good answer.
fn spoilt(fault: &str, whole: StubResponse) -> StubResponse {
    let half = whole.body.len() / 2;
    let with = |body: &[u8]| StubResponse::json(body);
    match fault {
        "html" => StubResponse::new(200, "text/html", "<html>wait</html>"),
        "truncated" => with(&whole.body[..half]),
        "after the data" => with(&whole.body[..whole.body.len() - 1]),
        "trailing" => with(&[&whole.body[..], b"{}"].concat()),
        "drop" => whole.cut_after(half),
        "nothing" => with(b""),
        _ => whole.delay(Duration::from_millis(600)),
    }
}

fn an_answer_that_is_none_is_tried_again(db: &TestDb) {
    upsert(db, &Cmc::usual(30));
    for (fault, words) in FAULTS {
        let cmc = Cmc::with((1..=30).map(Record::usual).collect(), move |request, state| {
            Some(spoilt(fault, answer(request, state)))
        });
        for args in [ASSETS, PRICES] {
            let ask = cmc.ask(db, args).env("COINETL_BACKOFF", "1ms");
            let ask = match fault {
                // One of the two is enough for what takes its time.
                "slow" if args == ASSETS => continue,
                "slow" => ask.env("COINETL_TIMEOUT", "150ms"),
                _ => ask,
            };
            let result = ask.arg("-q").json(75);
            assert!(result["error"].as_str().unwrap().contains(words), "{fault}: {result}");
            assert_eq!((counts(&result, ["calls"]), cmc.take_calls().len()), ([5], 5), "{fault}");
        }
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 0);
    // More records than a page has.
    let endless = Cmc::with(Vec::new(), |_, _| Some(envelope("0", 25, &format!("[{}1]", "1,".repeat(5_000)))));
    let result = endless.ask(db, PRICES).env("COINETL_BACKOFF", "1ms").json(75);
    assert!(result["error"].as_str().unwrap().contains("more than 5000 records"), "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0);
}

fn a_fault_that_passes_costs_a_call_and_nothing_else(db: &TestDb) {
    let whole = Cmc::usual(30);
    upsert(db, &whole);
    insert(db, &whole, 0, &[]);
    let expected = db.lines(ROWS);
    for (fault, _) in FAULTS {
        db.execute("DELETE FROM prices");
        let tries = AtomicUsize::new(0);
        let cmc = Cmc::with((1..=30).map(Record::usual).collect(), move |request, state| {
            (tries.fetch_add(1, Ordering::SeqCst) == 0).then(|| spoilt(fault, answer(request, state)))
        });
        let ask = cmc.ask(db, PRICES).env("COINETL_BACKOFF", "1ms");
        let result = if fault == "slow" { ask.env("COINETL_TIMEOUT", "300ms") } else { ask }.json(0);
        assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([2], [30, 30, 0, 0]), "{fault}");
        assert_same(&db.lines(ROWS), &expected);
    }
}

fn a_page_that_fails_costs_itself(db: &TestDb) {
    let whole = Cmc::usual(6_000);
    upsert(db, &whole);
    let cmc = Cmc::with((1..=6_000).map(Record::usual).collect(), |request, _| {
        (request.number("start") == Some(5_001)).then(|| error(500, "500", "An internal error"))
    });
    let result = cmc.ask(db, PRICES).env("COINETL_BACKOFF", "1ms").json(3);
    assert_eq!((counts(&result, READ), counts(&result, SPENT)), ([5_000, 5_000, 0, 0], [6, 25]));
    assert!(result["error"].as_str().unwrap().contains("page 2 of usd failed"), "{result}");
    // A thousand coins by their ids would cost more than the next run, which gets them.
    assert_eq!(ids_asked(&cmc.take_calls()), [0; 0]);
    let healed = insert(db, &whole, 0, &[]);
    assert_eq!(counts(&healed, ["rows_unchanged", "rows_written", "credits"]), [5_000, 1_000, 30]);
}

fn a_server_that_takes_short_addresses_only_gets_short_ones(db: &TestDb) {
    let cmc = Cmc::with((1..=60).map(Record::usual).collect(), |request, _| {
        let ids = request.param("id").map_or(0, |ids| ids.split(',').count());
        (ids > 20).then(|| StubResponse::new(414, "text/html", "<h1>URI Too Long</h1>"))
    });
    let ids: Vec<String> = (1..=60).map(|n| n.to_string()).collect();
    let result = insert(db, &cmc, 0, &["--ids", &ids.join(",")]);
    assert_eq!(ids_asked(&cmc.take_calls()), [60, 30, 15, 15, 15, 15]);
    assert_eq!((counts(&result, SPENT), counts(&result, READ)), ([6, 4], [60, 60, 0, 0]));
}

fn a_plan_is_asked_for_before_a_run_is_refused(db: &TestDb) {
    let told = |limit: usize, used: usize| {
        Cmc::with((1..=150).map(Record::usual).collect(), move |request, _| {
            let reset = r#""credit_limit_monthly_reset_timestamp":null"#;
            let plan = format!(r#"{{"credit_limit_monthly":{limit},{reset},"rate_limit_minute":60}}"#);
            let usage = format!(r#"{{"current_month":{{"credits_used":{used},"credits_left":1}}}}"#);
            let info = format!(r#"{{"plan":{plan},"usage":{usage}}}"#);
            (request.path == "/v1/key/info").then(|| envelope("0", 0, &info))
        })
    };
    let top = |cmc: &Cmc, code| insert(db, cmc, code, &["--top", "150"]);
    // As long as what a free plan allows is enough, nobody asks.
    let small = told(15_000, 0);
    assert_eq!(counts(&top(&small, 0), SPENT), [1, 1]);
    db.execute("UPDATE runs SET credits = 15000");
    let refused = top(&small, 75);
    assert_eq!(counts(&refused, SPENT), [1, 0]);
    assert!(refused["error"].as_str().unwrap().contains("0 of 15000 are left"), "{refused}");
    assert_eq!(paths(&small.take_calls()), [LISTINGS, "/v1/key/info"]);
    // The plan is a larger one by now. An hour has passed: nobody asks again before.
    db.execute("UPDATE accounts SET told_ms = told_ms - 3600000");
    let large = told(450_000, 15_000);
    assert_eq!(counts(&top(&large, 0), SPENT), [2, 1]);
    assert_eq!(paths(&large.take_calls()), ["/v1/key/info", LISTINGS]);
    // What was told is known.
    assert_eq!(counts(&top(&large, 0), SPENT), [1, 1]);
    // Somebody else spent the rest of it.
    let spent = told(450_000, 450_000);
    db.execute("UPDATE runs SET credits = 450000");
    db.execute("UPDATE accounts SET told_ms = told_ms - 3600000");
    assert_eq!(counts(&top(&spent, 75), SPENT), [1, 0]);
}

fn generated_data_is_stored_under_a_name_of_its_own(db: &TestDb) {
    let cmc = Cmc::with((1..=30).map(Record::usual).collect(), |request, state| {
        Some(answer(request, state).header("x-coinetl-sandbox", "1"))
    });
    assert_eq!(upsert(db, &cmc)["source"], "sandbox-coinmarketcap");
    assert_eq!(insert(db, &cmc, 0, &[])["source"], "sandbox-coinmarketcap");
    assert_eq!(db.lines("SELECT source, COUNT(*) FROM assets GROUP BY source"), ["sandbox-coinmarketcap|30"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM quotes_coins"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM latest_prices"), 30);
    // What it costs is nobody's money.
    db.execute("UPDATE runs SET credits = 15000");
    assert_eq!(insert(db, &cmc, 0, &[])["rows_unchanged"], 30);
}
