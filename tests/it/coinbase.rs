//! Coinbase: all prices in one call, and pair by pair where that call is gone; coins are the base
//! currencies of what is traded, and each run is an observation.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::exchange::{Exchange, Product, State, error};
use crate::support::stub::{StubRequest, StubResponse};
use crate::support::test_db::{TestDb, assert_same, bits};

on_every_database!(
    six_hundred_products_are_one_call_each,
    currencies_share_the_one_call,
    a_base_that_is_not_traded_any_more_leaves_and_returns,
    decimal_texts_come_back_bit_for_bit,
    broken_records_are_rejected_alone,
    without_the_one_call_each_pair_is_asked_for
);

on_every_database!(only_sqlite:
    there_is_no_top,
    chosen_ids_are_bases,
    without_a_list_everything_is_taken,
    every_way_in_which_the_one_call_may_be_gone,
    the_one_call_may_be_gone_for_chosen_ids_too,
    a_pair_that_went_meanwhile_is_absent,
    three_pairs_in_a_row_that_nobody_knows_end_the_asking,
    calls_that_were_not_made_any_more_do_not_count,
    three_failed_pairs_in_a_row_end_the_asking,
    a_list_that_fails_ends_the_asking,
    a_limit_is_waited_for,
    an_error_inside_a_good_status_is_tried_again,
    an_empty_answer_is_none,
    one_answer_has_no_second_page,
    a_broken_pair_costs_itself,
    a_broken_product_is_rejected_alone,
    a_broken_product_leaves_its_coin_active
);

const ASSETS: &[&str] = &["assets", "upsert"];
const PRICES: &[&str] = &["prices", "insert"];
const ROWS: &str = "SELECT a.source_id, p.vs_currency, p.price, p.base_volume_24h FROM prices p \
                    JOIN assets a ON a.id = p.asset_id ORDER BY a.id, p.vs_currency, p.observed_at";
const READ: [&str; 4] = ["rows_read", "rows_written", "rows_rejected", "rows_absent"];

#[track_caller]
fn upsert(db: &TestDb, exchange: &Exchange, code: i32) -> Value {
    let result = exchange.ask(db, ASSETS).json(code);
    check_sum(&result);
    result
}

#[track_caller]
fn insert(db: &TestDb, exchange: &Exchange, code: i32, args: &[&str]) -> Value {
    let result = exchange.ask(db, PRICES).args(args).env("COINETL_BACKOFF", "100us").json(code);
    check_sum(&result);
    result
}

#[track_caller]
fn check_sum(result: &Value) {
    let [read, written, unchanged, rejected, credits] =
        counts(result, ["rows_read", "rows_written", "rows_unchanged", "rows_rejected", "credits"]);
    assert_eq!((read, credits), (written + unchanged + rejected, 0), "{result}");
}

/// These numbers of a result.
#[track_caller]
fn counts<const N: usize>(result: &Value, names: [&str; N]) -> [i64; N] {
    names.map(|name| result[name].as_i64().unwrap_or_else(|| panic!("{name} of {result}")))
}

fn told(result: &Value) -> &str {
    result["error"].as_str().unwrap_or_default()
}

/// `n` coins against the dollar: `B00-USD` and so on.
fn dollars(n: usize) -> Vec<Product> {
    (0..n).map(|n| Product::new(&format!("B{n:02}-USD"), &format!("{n}.25"), &format!("{n}"))).collect()
}

/// A few pairs of three coins, one of which has no price in a currency of a state.
fn mixed() -> Exchange {
    Exchange::new(vec![
        Product::new("BTC-USD", "97123.46", "1234.5"),
        Product::new("ETH-USD", "3391.1", "20"),
        Product::new("SKL-BTC", "0.00001303", "7"),
        Product::new("BTC-EUR", "89000.01", "55.5"),
        Product::new("ETH-GBP", "2700", "0"),
    ])
}

fn six_hundred_products_are_one_call_each(db: &TestDb) {
    let product = |n: usize, quote: &str| Product::new(&format!("B{n:03}-{quote}"), &format!("{n}.5"), "1000");
    let mut products: Vec<Product> = (0..500).map(|n| product(n, "USD")).collect();
    products.extend((0..50).map(|n| product(n, "EUR")));
    products.extend((0..30).map(|n| product(n, "BTC")));
    // Not traded: these bases count only where another product of theirs is.
    products.extend((490..500).map(|n| product(n, "GBP").status("delisted")));
    products.extend((500..504).map(|n| product(n, "USD").status("delisted")));
    products.extend((504..508).map(|n| product(n, "USD").disabled()));
    products.extend([product(508, "USD").status("offline"), product(509, "USD").status("internal")]);
    assert_eq!(products.len(), 600);
    let exchange = Exchange::new(products);
    let listed = upsert(db, &exchange, 0);
    assert_eq!(counts(&listed, ["calls", "rows_read", "rows_written"]), [1, 500, 500]);
    assert_eq!(exchange.take_paths(), ["/products"]);
    assert_eq!(
        db.lines("SELECT source, source_id, symbol, name, active FROM assets ORDER BY id")[499],
        "coinbase|B499|B499|B499|1"
    );

    let first = insert(db, &exchange, 0, &[]);
    assert_eq!((counts(&first, ["calls"]), counts(&first, READ)), ([1], [500, 500, 0, 0]));
    let calls = exchange.stub.take();
    assert_eq!(calls.iter().map(|call| call.target.as_str()).collect::<Vec<_>>(), ["/products/stats"]);
    assert!(calls[0].header("user-agent").is_some_and(|agent| agent.starts_with("coinetl/")));
    assert_eq!(db.lines(ROWS)[7], "B007|usd|7.5|1000.0");
    let unknown = "volume_24h IS NULL AND market_cap IS NULL AND circulating_supply IS NULL AND total_supply IS NULL \
                   AND market_cap_rank IS NULL AND change_1h IS NULL AND change_24h IS NULL AND change_7d IS NULL AND change_30d IS NULL";
    assert_eq!(db.number(&format!("SELECT COUNT(*) FROM prices WHERE {unknown}")), 500);
    // There is no time in the answer: a run is an observation, with one stamp for all of it.
    let second = insert(db, &exchange, 0, &[]);
    assert_eq!(counts(&second, ["calls", "rows_written", "rows_updated"]), [1, 500, 0]);
    let stamped = "SELECT COUNT(*) FROM prices p JOIN runs r ON r.id = p.run_id WHERE p.observed_at = r.started_at";
    assert_eq!(db.number(stamped), 1_000);
    assert_eq!(db.number("SELECT COUNT(DISTINCT observed_at) FROM prices"), 2);
    assert_eq!(
        db.lines("SELECT command, source, status, calls, credits FROM runs ORDER BY id"),
        ["assets upsert|coinbase|ok|1|0", "prices insert|coinbase|ok|1|0", "prices insert|coinbase|ok|1|0"]
    );
    let again = upsert(db, &exchange, 0);
    assert_eq!(counts(&again, ["rows_unchanged", "rows_written", "deactivated"]), [500, 0, 0]);
}

fn currencies_share_the_one_call(db: &TestDb) {
    let exchange = mixed();
    assert_eq!(upsert(db, &exchange, 0)["rows_written"], 3);
    exchange.take_paths();
    // A coin that is not traded in dollars has no price in them, and costs no call.
    let result = insert(db, &exchange, 0, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [2, 2, 0, 1]));
    db.execute("DELETE FROM prices");
    let result = insert(db, &exchange, 0, &["--vs", "usd,eur,gbp,btc"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [5, 5, 0, 7]));
    assert_eq!(exchange.take_paths(), ["/products/stats"; 2]);
    assert_eq!(
        db.lines(ROWS),
        [
            "BTC|eur|89000.01|55.5",
            "BTC|usd|97123.46|1234.5",
            "ETH|gbp|2700.0|0.0",
            "ETH|usd|3391.1|20.0",
            "SKL|btc|1.303e-5|7.0"
        ]
    );
    let result = insert(db, &exchange, 0, &["--vs", "jpy"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [0, 0, 0, 3]));
}

fn a_base_that_is_not_traded_any_more_leaves_and_returns(db: &TestDb) {
    let exchange = Exchange::new(dollars(20));
    upsert(db, &exchange, 0);
    let active = || db.lines("SELECT id, source_id, active FROM assets WHERE active = FALSE ORDER BY id");
    let change = |at: usize, status, disabled| {
        exchange.change(|state| {
            (state.products[at].status, state.products[at].trading_disabled) = (status, disabled);
        });
    };
    change(7, "offline", false);
    change(8, "online", true);
    assert_eq!(counts(&upsert(db, &exchange, 0), ["rows_read", "rows_unchanged", "deactivated"]), [18, 18, 2]);
    assert_eq!(active(), ["8|B07|0", "9|B08|0"]);
    // Its old figures are still told, and so are those of a product that came after the list.
    exchange.change(|state| state.products.push(Product::new("NEW-USD", "1", "1")));
    let result = insert(db, &exchange, 0, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [18, 18, 0, 0]));
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 20);

    change(7, "online", false);
    change(8, "online", false);
    let result = upsert(db, &exchange, 0);
    assert_eq!(counts(&result, ["rows_read", "rows_written", "rows_updated", "deactivated"]), [21, 3, 2, 0]);
    assert_eq!(active(), [""; 0]);
    assert_eq!(db.lines("SELECT source_id FROM assets WHERE id = 8"), ["B07"], "under its old id of ours");
    assert_eq!(insert(db, &exchange, 0, &[])["rows_written"], 21);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 18 + 21);
}

fn decimal_texts_come_back_bit_for_bit(db: &TestDb) {
    let texts = [
        "0.00001303",
        "1e-12",
        "0.000000000001",
        "1E-12",
        "97123.46",
        "0.00000011",
        "123456789012345.678",
        "5e-324",
        "1.7976931348623157e308",
        "0.30000000000000004",
        "9007199254740993",
        "0",
        "0.00000000",
        "4.727521520000001",
    ];
    let product = |(n, text): (usize, &&str)| Product::new(&format!("B{n:02}-USD"), text, text);
    let exchange = Exchange::new(texts.iter().enumerate().map(product).collect());
    upsert(db, &exchange, 0);
    insert(db, &exchange, 0, &[]);
    let stored = db.doubles("SELECT price, base_volume_24h FROM prices ORDER BY asset_id");
    let sent: Vec<_> = texts.iter().map(|text| vec![Some(bits(text.parse().unwrap())); 2]).collect();
    assert_same(&stored, &sent);
}

fn broken_records_are_rejected_alone(db: &TestDb) {
    let broken = [
        (r#"{"last":"much","volume":"1"}"#, "price is not a number"),
        (r#"{"last":"NaN"}"#, "price is not a finite number"),
        (r#"{"last":"1","volume":"-inf"}"#, "base_volume_24h is not a finite number"),
        (r#"{"last":"1e999"}"#, "price is not a"),
        (r#"{"last":NaN}"#, "expected value"),
        (r#"{"last":{}}"#, "price is an object"),
        ("[]", "no object"),
        ("17", "no object"),
    ];
    let mut products = dollars(20);
    for (product, (stats, _)) in products.iter_mut().zip(broken) {
        product.stats = Some(stats.into());
    }
    // Nothing is said of a day without a trade.
    products[14].stats = Some(r#"{"open":"1"}"#.into());
    // Unknown is not broken: the exchange writes it as an empty text.
    products[15].stats = Some(r#"{"last":"15.25","volume":""}"#.into());
    let exchange = Exchange::new(products);
    upsert(db, &exchange, 0);
    let result = insert(db, &exchange, 3, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [19, 11, 8, 1]));
    assert!(told(&result).contains("dead_letters"), "{result}");
    assert_eq!(db.lines("SELECT price FROM prices WHERE base_volume_24h IS NULL"), ["15.25"]);
    let letters = "SELECT payload, error, topic, source FROM dead_letters ORDER BY id";
    let kept = db.query(letters);
    assert_eq!(kept.len(), broken.len());
    for (row, (stats, reason)) in kept.iter().zip(broken) {
        assert!(row[0].as_deref().is_some_and(|payload| payload.contains(stats)), "{row:?}");
        assert!(row[1].as_deref().is_some_and(|told| told.contains(reason)), "{reason:?}: {row:?}");
        assert_eq!((row[2].as_deref(), row[3].as_deref()), (Some("products/stats"), Some("coinbase")));
    }
    assert_eq!(counts(&insert(db, &exchange, 3, &[]), READ), [19, 11, 8, 1]);
    assert_same(&db.query(letters), &kept);
    // One that is no product at all, and one of a coin that nobody wants.
    exchange.change(|state| {
        state.products = dollars(20);
        state.products.push(Product::new("BTC-USD", "x", "x"));
        state.products.push(Product { id: "BTCUSD".into(), ..Product::new("BTC-USD", "1", "1") });
    });
    assert_eq!(counts(&insert(db, &exchange, 3, &[]), READ), [21, 20, 1, 0]);
}

fn without_the_one_call_each_pair_is_asked_for(db: &TestDb) {
    let exchange = mixed();
    exchange.change(|state| state.products.push(Product::new("OLD-USD", "1", "1").status("delisted")));
    upsert(db, &exchange, 0);
    insert(db, &exchange, 0, &["--vs", "usd,eur"]);
    let expected = db.lines(ROWS);
    db.execute("DELETE FROM prices");
    exchange.change(|state| state.bulk = Some((404, "NotFound")));
    exchange.take_paths();
    let result = insert(db, &exchange, 0, &["--vs", "usd,eur"]);
    let mut paths = exchange.take_paths();
    assert_eq!(paths[..2], ["/products/stats", "/products"]);
    paths[2..].sort();
    assert_eq!(paths[2..], ["/products/BTC-EUR/stats", "/products/BTC-USD/stats", "/products/ETH-USD/stats"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([5], [3, 3, 0, 3]));
    assert_same(&db.lines(ROWS), &expected);
    assert_eq!(db.number("SELECT COUNT(DISTINCT observed_at) FROM prices"), 1);
    // It is not tried again within a run, and tried first by the next one.
    exchange.change(|state| state.bulk = None);
    assert_eq!(insert(db, &exchange, 0, &[])["calls"], 1);
}

fn every_way_in_which_the_one_call_may_be_gone(db: &TestDb) {
    let exchange = Exchange::new(dollars(30));
    upsert(db, &exchange, 0);
    for (status, message) in [(404, "NotFound"), (400, "Invalid product"), (403, "Forbidden"), (410, "Gone")] {
        db.execute("DELETE FROM prices");
        exchange.change(|state| state.bulk = Some((status, message)));
        exchange.take_paths();
        let output = exchange.ask(db, PRICES).args(["--output", "json"]).run().expect(0);
        let result = output.json();
        assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([32], [30, 30, 0, 0]), "HTTP {status}");
        assert_eq!(exchange.take_paths().len(), 32);
        assert_eq!(db.lines(ROWS)[7], "B07|usd|7.25|7.0");
        // That it is dearer now is told.
        assert!(output.stderr.contains("asking for each pair by itself instead"), "{output}");
    }
    // Trouble that passes is no reason to ask thirty times.
    exchange.change(|state| state.bulk = Some((503, "Service unavailable")));
    let result = insert(db, &exchange, 75, &[]);
    assert_eq!((&result["calls"], exchange.take_paths()), (&5.into(), vec!["/products/stats".to_owned(); 5]));
    assert!(told(&result).contains("(HTTP 503): Service unavailable"), "{result}");
}

fn the_one_call_may_be_gone_for_chosen_ids_too(db: &TestDb) {
    let exchange = mixed();
    upsert(db, &exchange, 0);
    exchange.change(|state| state.bulk = Some((404, "NotFound")));
    exchange.take_paths();
    let result = insert(db, &exchange, 3, &["--ids", "BTC,NONE", "--vs", "usd,eur"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([4], [2, 2, 0, 2]));
    assert!(told(&result).contains("NONE") && !told(&result).contains("BTC"), "{result}");
    assert_eq!(db.lines(ROWS), ["BTC|eur|89000.01|55.5", "BTC|usd|97123.46|1234.5"]);
}

fn there_is_no_top(db: &TestDb) {
    let exchange = mixed();
    let output = exchange.ask(db, PRICES).args(["--top", "5"]).run().expect(2);
    for word in ["--top", "coinbase", "no market cap", "no rank", "--ids"] {
        assert!(output.stderr.contains(word), "{word:?} is not told\n{output}");
    }
    assert_eq!(output.stderr.trim().lines().count(), 1, "{output}");
    assert_eq!((exchange.take_paths().len(), db.number("SELECT COUNT(*) FROM runs")), (0, 0));
}

fn chosen_ids_are_bases(db: &TestDb) {
    let exchange = Exchange::new([dollars(20), mixed().state.lock().unwrap().products.clone()].concat());
    upsert(db, &exchange, 0);
    exchange.take_paths();
    let result = insert(db, &exchange, 0, &["--ids", "BTC,ETH,BTC"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [2, 2, 0, 0]));
    assert_eq!(exchange.take_paths(), ["/products/stats"]);
    assert_eq!(db.lines(ROWS), ["BTC|usd|97123.46|1234.5", "ETH|usd|3391.1|20.0"]);
    // An id is the source's own: capitals matter.
    let result = insert(db, &exchange, 3, &["--ids", "btc"]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [0, 0, 0, 1]));
    assert!(told(&result).contains("no price in usd for: btc"), "{result}");
    let result = insert(db, &exchange, 3, &["--ids", "ETH,XYZ"]);
    assert_eq!(counts(&result, READ), [1, 1, 0, 1]);
    assert!(told(&result).contains("XYZ") && !told(&result).contains("ETH"), "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 3);
    // What is broken and was not asked for is nobody's business now.
    exchange.change(|state| state.products[3].stats = Some(r#"{"last":"much"}"#.into()));
    assert_eq!(counts(&insert(db, &exchange, 0, &["--ids", "BTC"]), READ), [1, 1, 0, 0]);
}

fn without_a_list_everything_is_taken(db: &TestDb) {
    let exchange = mixed();
    let result = insert(db, &exchange, 0, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([1], [2, 2, 0, 0]));
    assert_eq!(db.lines("SELECT source_id, symbol, name, active FROM assets"), ["BTC|BTC|BTC|1", "ETH|ETH|ETH|1"]);
}

/// The bulk call is gone, and these pairs fail.
fn failing(products: usize, status: u16, fails: fn(usize) -> bool) -> Exchange {
    let exchange = Exchange::with(dollars(products), move |request: &StubRequest, state: &mut State| {
        state.bulk = Some((404, "NotFound"));
        let pair = request.path.strip_prefix("/products/B")?.strip_suffix("-USD/stats")?;
        fails(pair.parse().ok()?).then(|| error(status, "told"))
    });
    exchange.change(|state| state.bulk = Some((404, "NotFound")));
    exchange
}

fn a_pair_that_went_meanwhile_is_absent(db: &TestDb) {
    for status in [404, 400] {
        // Two in a row, and one more later.
        let exchange = failing(30, status, |n| matches!(n, 3 | 4 | 20));
        upsert(db, &exchange, 0);
        let result = insert(db, &exchange, 0, &[]);
        assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([32], [27, 27, 0, 3]), "HTTP {status}");
    }
}

fn three_pairs_in_a_row_that_nobody_knows_end_the_asking(db: &TestDb) {
    let exchange = failing(60, 404, |n| n >= 10);
    upsert(db, &exchange, 0);
    exchange.take_paths();
    let result = insert(db, &exchange, 3, &[]);
    assert_eq!(counts(&result, READ), [10, 10, 0, 0]);
    assert!(told(&result).contains("(HTTP 404): told"), "{result}");
    // Some more were under way.
    let calls = exchange.take_paths().len();
    assert!((15..=2 + 13 + 4).contains(&calls), "{calls} calls");
    // From the first one on: this is no exchange.
    let exchange = failing(60, 404, |_| true);
    let result = insert(db, &exchange, 78, &[]);
    assert_eq!(counts(&result, READ), [0, 0, 0, 0]);
    assert!(told(&result).contains("check COINBASE_API_URL"), "{result}");
    assert!(exchange.take_paths().len() <= 2 + 3 + 4);
}

/// Where nothing is paced, calls are counted some at a time: what was not made is taken back, also
/// when the run ends while calls are waiting for their turn.
fn calls_that_were_not_made_any_more_do_not_count(db: &TestDb) {
    let exchange = failing(60, 404, |n| n >= 10);
    upsert(db, &exchange, 0);
    for _ in 0..8 {
        exchange.take_paths();
        let counted = counts(&insert(db, &exchange, 3, &[]), ["calls"])[0];
        let made = exchange.take_paths().len() as i64;
        // Those that were on their way may count.
        assert!((made..=made + 4).contains(&counted), "{counted} calls counted, {made} made");
    }
}

fn three_failed_pairs_in_a_row_end_the_asking(db: &TestDb) {
    let exchange = failing(60, 500, |n| n >= 10);
    upsert(db, &exchange, 0);
    exchange.take_paths();
    let result = insert(db, &exchange, 3, &[]);
    assert_eq!(counts(&result, READ), [10, 10, 0, 0]);
    for words in ["B10-usd", "B12-usd", "(HTTP 500): told", "47 more pairs were not asked for"] {
        assert!(told(&result).contains(words), "{words:?} is not told: {result}");
    }
    let calls = exchange.take_paths().len();
    assert!((2 + 10 + 15..=2 + 10 + 15 + 4 * 5).contains(&calls), "{calls} calls");
    // A pair that fails now and then costs itself only.
    let exchange = failing(30, 500, |n| matches!(n, 3 | 4 | 20));
    let result = insert(db, &exchange, 3, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, ["rows_read"])), ([2 + 27 + 15], [27]));
}

/// What is broken in the answer for everything is broken in that for a pair.
fn a_broken_pair_costs_itself(db: &TestDb) {
    let mut products = dollars(20);
    products[3].stats = Some(r#"{"last":"much","volume":"1"}"#.into());
    products[4].stats = Some(r#"{"open":"1"}"#.into());
    let exchange = Exchange::with(products, |request, state| {
        state.bulk = Some((404, "NotFound"));
        match request.path.as_str() {
            "/products/B06-USD/stats" => Some(StubResponse::new(200, "text/html", "<html>wait</html>")),
            "/products/B07-USD/stats" => Some(StubResponse::json(r#"{"last":"7.2"#)),
            _ => None,
        }
    });
    upsert(db, &exchange, 0);
    exchange.take_paths();
    let result = insert(db, &exchange, 3, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([2 + 18 + 2 * 5], [17, 16, 1, 0]));
    assert_eq!(exchange.take_paths().len(), 2 + 18 + 2 * 5);
    assert!(told(&result).contains("B06-usd") && told(&result).contains("it is text/html, not JSON"), "{result}");
    assert!(told(&result).contains("B07-usd") && told(&result).contains("ends in the middle"), "{result}");
    let letters = db.lines("SELECT topic, payload FROM dead_letters ORDER BY id");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].starts_with("products/{id}/stats|\"B03-USD\":"), "{letters:?}");
}

fn a_list_that_fails_ends_the_asking(db: &TestDb) {
    upsert(db, &Exchange::new(dollars(30)), 0);
    for (status, calls, code) in [(500, 1 + 5, 75), (404, 1 + 1, 78)] {
        let gone = Exchange::with(dollars(30), move |request, _| {
            Some(error(if request.path == "/products" { status } else { 404 }, "told"))
        });
        let result = insert(db, &gone, code, &[]);
        assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([calls], [0, 0, 0, 0]), "HTTP {status}");
        assert!(told(&result).contains(&format!("(HTTP {status}): told")), "{result}");
    }
}

fn a_limit_is_waited_for(db: &TestDb) {
    let limited = || error(429, "Public rate limit exceeded");
    for args in [ASSETS, PRICES] {
        let tries = AtomicUsize::new(0);
        let exchange =
            Exchange::with(dollars(20), move |_, _| (tries.fetch_add(1, Ordering::SeqCst) < 2).then(limited));
        let result = exchange.ask(db, args).env("COINETL_BACKOFF", "100us").json(0);
        assert_eq!(counts(&result, ["calls", "rows_written"]), [3, 20]);
        let always = Exchange::with(dollars(20), move |_, _| Some(limited()));
        let result = always.ask(db, args).env("COINETL_BACKOFF", "100us").json(75);
        assert_eq!((&result["calls"], always.take_paths().len()), (&5.into(), 5));
        assert!(told(&result).contains("limits us (HTTP 429): Public rate limit exceeded"), "{result}");
    }
    // The pairs wait as well.
    let tries = AtomicUsize::new(0);
    let exchange = Exchange::with(dollars(20), move |request, state| {
        state.bulk = Some((404, "NotFound"));
        let one = request.path.ends_with("-USD/stats");
        (one && tries.fetch_add(1, Ordering::SeqCst).is_multiple_of(5)).then(limited)
    });
    let result = insert(db, &exchange, 0, &[]);
    assert_eq!(counts(&result, ["rows_written"]), [20]);
    assert_eq!(result["calls"], exchange.take_paths().len());
}

fn an_error_inside_a_good_status_is_tried_again(db: &TestDb) {
    let trouble = || StubResponse::json(r#"{"message":"Internal server error"}"#);
    for args in [ASSETS, PRICES] {
        let tries = AtomicUsize::new(0);
        let exchange =
            Exchange::with(dollars(20), move |_, _| (tries.fetch_add(1, Ordering::SeqCst) < 2).then(trouble));
        let result = exchange.ask(db, args).env("COINETL_BACKOFF", "100us").json(0);
        assert_eq!(counts(&result, ["calls", "rows_written", "rows_rejected"]), [3, 20, 0]);
        let always = Exchange::with(dollars(20), move |_, _| Some(trouble()));
        let result = always.ask(db, args).env("COINETL_BACKOFF", "100us").json(75);
        assert_eq!((&result["calls"], always.take_paths().len()), (&5.into(), 5));
        assert!(told(&result).contains("Internal server error"), "{result}");
    }
    // Of a pair, too.
    let tries = AtomicUsize::new(0);
    let exchange = Exchange::with(dollars(20), move |request, state| {
        state.bulk = Some((404, "NotFound"));
        let first = request.path == "/products/B07-USD/stats" && tries.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(trouble)
    });
    let result = insert(db, &exchange, 0, &[]);
    assert_eq!((counts(&result, ["calls"]), counts(&result, READ)), ([23], [20, 20, 0, 0]));
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0);
}

fn an_empty_answer_is_none(db: &TestDb) {
    for known in [false, true] {
        if known {
            upsert(db, &Exchange::new(dollars(20)), 0);
        }
        let result = insert(db, &Exchange::new(Vec::new()), 75, &[]);
        assert!(told(&result).contains("empty"), "{result}");
        let result = upsert(db, &Exchange::new(Vec::new()), if known { 3 } else { 75 });
        let words = if known { "the list of 0 coins lacks 20 of 20" } else { "the coin list is empty" };
        assert!(told(&result).contains(words), "{result}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 20);
    // A list in which nothing is traded is as good as none.
    let asleep = Exchange::new(dollars(20).into_iter().map(|product| product.status("offline")).collect());
    let result = upsert(db, &asleep, 3);
    assert_eq!(result["deactivated"], 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 20);
}

fn a_broken_product_is_rejected_alone(db: &TestDb) {
    let broken = [
        (r#"{"id":"X-USD","base_currency":null,"quote_currency":"USD","status":"online"}"#, "base_currency is missing"),
        (r#"{"id":"X-USD","quote_currency":"USD","status":"online"}"#, "base_currency is missing"),
        (r#"{"id":"X-USD","base_currency":"","quote_currency":"USD","status":"online"}"#, "base_currency is empty"),
        (r#"{"id":"X-USD","base_currency":{},"quote_currency":"USD","status":"online"}"#, "base_currency is an object"),
        (
            r#"{"id":"X-USD","base_currency":"X","quote_currency":"USD","status":"online","trading_disabled":"no"}"#,
            "neither true nor false",
        ),
        (r#"{"id":"X-USD","base_currency":"X","status":"online","quote_increment":NaN}"#, "expected value"),
        ("17", "invalid type"),
        ("null", "invalid type"),
    ];
    let mut products = dollars(20);
    products.extend(broken.iter().map(|(json, _)| Product::new("X-USD", "1", "1").raw(json)));
    let exchange = Exchange::new(products);
    let result = upsert(db, &exchange, 3);
    assert_eq!(counts(&result, ["rows_read", "rows_written", "rows_rejected", "deactivated"]), [28, 20, 8, 0]);
    let kept = db.query("SELECT payload, error, topic FROM dead_letters ORDER BY id");
    assert_eq!(kept.len(), broken.len());
    for (row, (json, reason)) in kept.iter().zip(broken) {
        assert_eq!((row[0].as_deref(), row[2].as_deref()), (Some(json), Some("products")));
        assert!(row[1].as_deref().is_some_and(|told| told.contains(reason)), "{reason:?}: {row:?}");
    }
}

/// All prices are one answer: where it fails there is no second page to ask for, list or not.
fn one_answer_has_no_second_page(db: &TestDb) {
    for known in [true, false] {
        if known {
            upsert(db, &Exchange::new(dollars(20)), 0);
        } else {
            db.execute("DELETE FROM runs; DELETE FROM assets");
        }
        let failing = Exchange::with(Vec::new(), |_, _| Some(error(503, "told")));
        let result = insert(db, &failing, 75, &[]);
        assert_eq!((&result["calls"], failing.take_paths().len()), (&5.into(), 5), "known: {known}, {result}");
        let empty = Exchange::new(Vec::new());
        let result = insert(db, &empty, 75, &[]);
        assert_eq!((&result["calls"], empty.take_paths().len()), (&1.into(), 1), "known: {known}, {result}");
    }
}

/// A coin whose record can't be read is still listed.
fn a_broken_product_leaves_its_coin_active(db: &TestDb) {
    let exchange = Exchange::new(dollars(20));
    upsert(db, &exchange, 0);
    let product = r#"{"id":"B07-USD","base_currency":"B07","quote_currency":"USD","status":"online","#;
    for (broken, is_json) in [(r#""trading_disabled":"no"}"#, true), (r#""quote_increment":NaN}"#, false)] {
        exchange.change(|state| state.products[7].raw = Some(format!("{product}{broken}")));
        let result = upsert(db, &exchange, 3);
        assert_eq!(counts(&result, ["rows_unchanged", "rows_rejected", "deactivated"]), [19, 1, 0], "JSON: {is_json}");
        assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 20);
    }
}
