//! What holds for every vendor, whatever its shapes: each fault of the sandbox ends in the exit code
//! that a script can act on and one sentence with a remedy, and costs no more calls than is polite.

use serde_json::Value;

use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{Cmd, SandboxServer};

const ASSETS: &[&str] = &["assets", "upsert"];
const PRICES: &[&str] = &["prices", "insert"];

fn ask(db: &TestDb, source: &str, sandbox: &SandboxServer, args: &[&str]) -> Cmd {
    let host = format!("http://{}", sandbox.address());
    db.ask(args, &sandbox.url())
        .args(["--source", source])
        .env("COINMARKETCAP_API_URL", &host)
        .env("COINBASE_API_URL", &host)
        .env("COINETL_TIMEOUT", "300ms")
        .env("COINETL_BACKOFF", "1ms")
}

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

/// A fault that strikes every call: assets and prices, the calls each may cost, and what is told.
fn always(source: &str, faults: &[(&str, [i64; 2], i32, &str)]) {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    for (fault, calls, code, words) in faults {
        let sandbox = SandboxServer::start(["--assets", "300", "--fault", &format!("{fault}=1")]);
        for (args, calls) in [ASSETS, PRICES].into_iter().zip(calls) {
            let output = ask(&db, source, &sandbox, args).args(["--output", "json"]).run().expect(*code);
            let result = output.json();
            let error = result["error"].as_str().unwrap_or_default();
            assert!(error.contains(words), "{fault}: {output}");
            assert_eq!((number(&result, "calls"), number(&result, "rows_read")), (*calls, 0), "{fault}: {output}");
        }
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE status <> 'failed'"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0);
}

#[test]
fn coinmarketcap_failing_always_is_told() {
    always(
        "coinmarketcap",
        &[
            // Three pages in a row without an answer end a run.
            ("429-bare", [5, 15], 75, "limits us (HTTP 429, code 1011)"),
            ("500", [5, 15], 75, "trouble of its own (HTTP 500)"),
            ("html", [5, 15], 75, "it is text/html, not JSON"),
            ("truncated", [5, 15], 75, "the answer ends in the middle"),
            ("slow", [5, 15], 75, "no whole answer within 300ms"),
            ("drop", [5, 15], 75, "can't be reached"),
            ("spent", [1, 1], 75, "credits are spent (HTTP 429, code 1010)"),
            ("empty", [1, 2], 75, "empty"),
        ],
    );
}

#[test]
fn coinbase_failing_always_is_told() {
    always(
        "coinbase",
        &[
            ("429-bare", [5, 5], 75, "limits us (HTTP 429): Public rate limit exceeded"),
            ("500", [5, 5], 75, "trouble of its own (HTTP 500)"),
            ("html", [5, 5], 75, "it is text/html, not JSON"),
            ("truncated", [5, 5], 75, "the answer ends in the middle"),
            ("slow", [5, 5], 75, "no whole answer within 300ms"),
            ("drop", [5, 5], 75, "can't be reached"),
            ("200-error", [5, 5], 75, "trouble of its own (HTTP 500)"),
            ("empty", [1, 1], 75, "empty"),
        ],
    );
}

#[test]
fn an_error_inside_http_200_is_an_error() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    for source in ["coingecko", "coinmarketcap", "coinbase"] {
        let sandbox = SandboxServer::start(["--assets", "300", "--fault", "200-error=1"]);
        for args in [ASSETS, PRICES] {
            let result = ask(&db, source, &sandbox, args).json(75);
            assert_eq!(number(&result, "rows_read"), 0, "{result}");
        }
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0, "an error is no record");
}

#[test]
fn garbage_costs_itself_only() {
    for source in ["coinmarketcap", "coinbase"] {
        let db = TestDb::new(Backend::Sqlite).unwrap();
        db.setup();
        let sandbox = SandboxServer::start(["--assets", "2000", "--fault", "garbage=1"]);
        for args in [ASSETS, PRICES] {
            let result = ask(&db, source, &sandbox, args).json(3);
            let count = |name: &str| number(&result, name);
            assert!(count("rows_rejected") > 0 && count("rows_written") > 200, "{result}");
            assert_eq!(count("rows_read"), count("rows_written") + count("rows_unchanged") + count("rows_rejected"));
            assert!(result["error"].as_str().is_some_and(|error| error.contains("dead_letters")), "{result}");
        }
        assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE payload = '' OR error = ''"), 0);
        let sources = format!("SELECT COUNT(*) FROM dead_letters WHERE source <> 'sandbox-{source}'");
        assert_eq!(db.number(&sources), 0);
    }
}

/// CoinMarketCap's newer paths, and Coinbase's one call for everything: the same comes another way.
#[test]
fn an_endpoint_that_is_gone_is_gone_around() {
    let market = ["--assets", "2000", "--at", "2026-06-01T00:00:00Z", "--speed", "0"];
    let (whole, gone) =
        (SandboxServer::start(market), SandboxServer::start(market.into_iter().chain(["--fault", "gone=1"])));
    for (source, calls) in [("coinmarketcap", 2), ("coinbase", 300)] {
        let stored = |sandbox: &SandboxServer, least: i64| {
            let db = TestDb::new(Backend::Sqlite).unwrap();
            db.setup();
            ask(&db, source, sandbox, ASSETS).json(0);
            let cmd = ask(&db, source, sandbox, PRICES).env("COINETL_TIMEOUT", "5s");
            let output = cmd.args(["--output", "json"]).run().expect(0);
            assert!(number(&output.json(), "calls") >= least, "{output}");
            assert_eq!(least > 1, output.stderr.contains("instead"), "{output}");
            let mut rows = db.lines(
                "SELECT a.source_id, p.price, p.volume_24h, p.base_volume_24h FROM prices p \
                 JOIN assets a ON a.id = p.asset_id",
            );
            rows.sort();
            rows
        };
        let (by_all, one_by_one) = (stored(&whole, 1), stored(&gone, calls));
        // Of Coinbase's products a few are told with all others, but can't be traded at the moment.
        let lacking = by_all.iter().filter(|row| !one_by_one.contains(row)).count();
        assert!(lacking <= if source == "coinbase" { 10 } else { 0 }, "{source}: {lacking} rows are lacking");
        assert!(by_all.len() > 250 && by_all.len() - lacking == one_by_one.len(), "{source}: rows of nobody");
    }
}

/// A key, a plan and a month that runs out, as the sandbox plays them.
#[test]
fn a_key_s_month_is_spent_as_the_vendor_counts_it() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "2000", "--credits-per-month", "25"]);
    let keyed = |args: &[&str]| {
        let cmd = ask(&db, "coinmarketcap", &sandbox, args).env("COINMARKETCAP_API_KEY", "cmc-test-key");
        cmd.env("COINETL_TIMEOUT", "5s")
    };
    keyed(ASSETS).json(0);
    for _ in 0..2 {
        // 2,000 coins are ten credits, and one or two are asked for by id.
        let result = keyed(PRICES).json(0);
        assert!((10..=11).contains(&number(&result, "credits")), "{result}");
    }
    let plan = keyed(&["plan", "prices", "insert"]).json(0);
    assert_eq!(plan["calls"], 1);
    keyed(PRICES).json(0);
    // The vendor's word, since nobody here had a limit to go by.
    let spent = keyed(PRICES).json(75);
    assert_eq!((number(&spent, "calls"), number(&spent, "credits")), (1, 0));
    let error = spent["error"].as_str().unwrap();
    assert!(error.contains("code 1010") && error.contains("coinetl plan"), "{error}");
    let wrong = ask(&db, "coinmarketcap", &sandbox, PRICES).env("COINMARKETCAP_API_KEY", "wrong-key-1").json(78);
    assert!(wrong["error"].as_str().unwrap().contains("code 1001"), "{wrong}");
}

/// Each vendor's coins under a name of their own, in one database.
#[test]
fn three_vendors_share_a_database() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "500"]);
    for source in ["coingecko", "coinmarketcap", "coinbase"] {
        for args in [ASSETS, PRICES] {
            let result = ask(&db, source, &sandbox, args).json(0);
            assert_eq!(result["source"], format!("sandbox-{source}"));
        }
    }
    let many = "SELECT source FROM assets WHERE active = TRUE GROUP BY source HAVING COUNT(*) > 100 ORDER BY source";
    assert_eq!(db.lines(many), ["sandbox-coinbase", "sandbox-coingecko", "sandbox-coinmarketcap"]);
    let positions = "SELECT source, COUNT(*) FROM cap_top_10 WHERE vs_currency = 'usd' GROUP BY source ORDER BY source";
    assert_eq!(db.lines(positions), ["sandbox-coingecko|10", "sandbox-coinmarketcap|10"]);
    // Made-up data is no vendor's.
    assert_eq!(db.number("SELECT COUNT(*) FROM quotes_coins"), 0);
}
