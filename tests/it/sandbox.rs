//! A whole market from the sandbox, through the binary, into every database.

use serde_json::Value;

use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{SandboxServer, Workdir};

on_every_database!(
    a_whole_market_and_the_hour_after,
    the_sandbox_in_the_process_labels_itself,
    prices_without_a_list_first,
    real_and_generated_data_never_mix
);

const COINS: i64 = 17_600;
const SOURCE: &str = "sandbox-coingecko";

fn market(assets: i64, at: &str) -> SandboxServer {
    SandboxServer::start(["--assets", &assets.to_string(), "--seed", "7", "--at", at, "--speed", "0"])
}

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

/// Every active coin has exactly one newest price from this run on, but for those that were absent.
#[track_caller]
fn assert_each_once(db: &TestDb, result: &Value) {
    assert_eq!(result["source"], SOURCE);
    let (active, absent) =
        (db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), number(result, "rows_absent"));
    assert_eq!(number(result, "rows_read") + absent, active, "{result}");
    // Pages, and the exchange rates.
    let calls = (active + 249) / 250 + 1;
    assert!((calls..=calls + (absent + 249) / 250).contains(&number(result, "calls")), "{result}");
    let without = "SELECT COUNT(*) FROM assets a WHERE a.active = TRUE AND NOT EXISTS \
                   (SELECT 1 FROM prices p WHERE p.asset_id = a.id)";
    assert!(db.number(without) <= absent);
    assert_eq!(
        db.number("SELECT COUNT(*) FROM absences b JOIN assets a ON a.id = b.asset_id WHERE a.active = TRUE"),
        absent
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE source <> 'sandbox-coingecko'"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE source <> 'sandbox-coingecko'"), 0);
}

fn a_whole_market_and_the_hour_after(db: &TestDb) {
    let first = market(COINS, "2026-09-16T09:14:20Z");
    let assets = db.ask(&["assets", "upsert"], &first.url()).json(0);
    assert_eq!((number(&assets, "rows_written"), number(&assets, "calls")), (COINS, 1));
    let prices = db.ask(&["prices", "insert"], &first.url()).json(0);
    assert_each_once(db, &prices);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), number(&prices, "rows_written"));
    // The same moment again: nothing but the coins that have no time of their own.
    let untimed =
        db.number("SELECT COUNT(*) FROM prices p JOIN runs r ON r.id = p.run_id WHERE p.observed_at = r.started_at");
    let again = db.ask(&["prices", "insert"], &first.url()).json(0);
    assert_eq!((number(&again, "rows_written"), number(&again, "rows_updated")), (untimed, 0));
    assert_eq!(db.ask(&["assets", "upsert"], &first.url()).json(0)["rows_unchanged"], COINS);
    drop(first);

    let second = market(COINS, "2026-09-16T10:14:20Z");
    let assets = db.ask(&["assets", "upsert"], &second.url()).json(0);
    let vanished = number(&assets, "deactivated");
    let new = number(&assets, "rows_written") - number(&assets, "rows_updated");
    assert!(vanished > 0 && new > 0, "no churn: {assets}");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), COINS);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), COINS + vanished);
    let before = db.number("SELECT COUNT(*) FROM prices");
    let prices = db.ask(&["prices", "insert"], &second.url()).json(0);
    assert_each_once(db, &prices);
    assert_eq!(
        db.number("SELECT COUNT(*) FROM prices"),
        before + number(&prices, "rows_written") - number(&prices, "rows_updated")
    );
    let top = db.number("SELECT COUNT(*) FROM cap_top_10 WHERE source = 'sandbox-coingecko' AND vs_currency = 'usd'");
    assert_eq!(top, 10);
}

fn the_sandbox_in_the_process_labels_itself(db: &TestDb) {
    // A configured address and key are of no account then.
    let run = |args: &[&str]| {
        db.ask(args, "http://127.0.0.1:9/api/v3").env("COINGECKO_DEMO_API_KEY", "CG-hush").arg("--sandbox").json(0)
    };
    assert_eq!(run(&["assets", "upsert"])["source"], SOURCE);
    let prices = run(&["prices", "insert", "--top", "300", "--vs", "usd,eur"]);
    assert_eq!((&prices["source"], number(&prices, "rows_written")), (&SOURCE.into(), 600));
    assert_eq!(db.number("SELECT COUNT(*) FROM runs WHERE source = 'coingecko'"), 0);
}

fn prices_without_a_list_first(db: &TestDb) {
    let sandbox = market(600, "2026-09-16T09:14:20Z");
    let prices = db.ask(&["prices", "insert"], &sandbox.url()).json(0);
    // Coins without a market are on no page, so nobody knows of them yet.
    let stored = number(&prices, "rows_written");
    assert!((550..=600).contains(&stored), "{prices}");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), stored);
    assert_each_once(db, &prices);
    let assets = db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    assert_eq!((number(&assets, "rows_read"), number(&assets, "deactivated")), (600, 0));
    assert_eq!(number(&assets, "rows_written") - number(&assets, "rows_updated"), 600 - stored);
}

fn real_and_generated_data_never_mix(db: &TestDb) {
    use crate::support::gecko::Gecko;
    let (gecko, sandbox) = (Gecko::usual(30), market(40, "2026-09-16T09:14:20Z"));
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    let generated = db.ask(&["prices", "insert"], &sandbox.url()).json(0);
    assert_eq!(generated["source"], SOURCE);
    assert_eq!(
        db.lines("SELECT source, COUNT(*) FROM assets WHERE active = TRUE GROUP BY source ORDER BY source"),
        ["coingecko|30", "sandbox-coingecko|40"]
    );
    let of_gecko = "SELECT COUNT(*) FROM prices p JOIN assets a ON a.id = p.asset_id WHERE a.source = 'coingecko'";
    assert_eq!(db.number(of_gecko), 30);
    assert_eq!(
        db.lines("SELECT DISTINCT command, source FROM runs ORDER BY command, source"),
        [
            "assets upsert|coingecko",
            "assets upsert|sandbox-coingecko",
            "prices insert|coingecko",
            "prices insert|sandbox-coingecko"
        ]
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
}

#[test]
fn the_clock_of_the_sandbox_runs_as_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let fast = SandboxServer::start(["--assets", "50", "--at", "2026-09-16T09:14:20Z", "--speed", "36000"]);
    let run = || db.ask(&["prices", "insert"], &fast.url()).json(0);
    let first = number(&run(), "rows_written");
    // Ten hours a second.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let second = run();
    assert!(number(&second, "rows_written") > first / 2, "{second}");
    let span = "SELECT COUNT(*) FROM prices WHERE observed_at > '2026-09-16 11:00:00.000'";
    assert!(db.number(span) > first / 2);
}

#[test]
fn the_sandbox_ends_when_asked_to() {
    for signal in ["TERM", "INT"] {
        assert_eq!(SandboxServer::start(["--assets", "10"]).end(signal), Some(0));
    }
    let taken = SandboxServer::start(["--assets", "10"]);
    let refused = Workdir::new().coinetl(["sandbox", "--bind", taken.address()]).run();
    assert!(refused.code != Some(0) && refused.stderr.contains(taken.address()), "{refused}");
}
