//! A day of the shipped crontab in fast motion, for each vendor: 24 hourly runs and a daily one against
//! a sandbox in which every kind of fault strikes one call in twenty. In the end nothing is missing,
//! and the calls are those that were planned plus the retries that were counted.

use serde_json::Value;

use crate::support::test_db::{Backend, TestDb, assert_same};
use crate::support::workdir::SandboxServer;

const ASSETS: &str = "6000";
const SEED: &str = "11";
/// At which the daily run is due.
const DAILY_HOUR: i64 = 4;
const FAULTS: [&str; 6] = ["429=0.05", "500=0.05", "html=0.05", "truncated=0.05", "slow=0.05", "drop=0.05"];

/// The market as it stands at an hour of the day.
fn market(hour: i64, faults: bool) -> SandboxServer {
    let at = format!("2026-09-{:02}T{:02}:07:00Z", 16 + hour / 24, hour % 24);
    let mut args: Vec<String> =
        ["--assets", ASSETS, "--seed", SEED, "--at", &at, "--speed", "0"].map(str::to_owned).to_vec();
    if faults {
        args.extend(FAULTS.iter().flat_map(|fault| ["--fault".to_owned(), fault.to_string()]));
    }
    SandboxServer::start(args)
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// One step, again and again until it ends well, as the next line of a crontab would: what it cost
/// without its retries when it did.
fn step(db: &TestDb, market: &SandboxServer, args: &[&str]) -> i64 {
    let host = format!("http://{}", market.address());
    for _ in 0..6 {
        let output = db
            .ask(args, &market.url())
            .env("COINMARKETCAP_API_URL", &host)
            .env("COINBASE_API_URL", &host)
            .env("COINETL_TIMEOUT", "1s")
            .arg("--output")
            .arg("json")
            .run();
        let result = output.json();
        if output.code == Some(0) {
            assert_eq!(number(&result, "rows_rejected"), 0, "{result}");
            return number(&result, "calls") - number(&result, "retries");
        }
        // Five tries in a row may all go wrong; nothing else may.
        assert!(matches!(output.code, Some(3 | 75)), "{output}");
        assert!(number(&result, "retries") >= 4, "{output}");
    }
    panic!("{args:?} never ended well");
}

/// The options of `prices insert` on the crontab's lines of a source: hourly, and daily if there is one.
fn lines(source: &str) -> (Vec<String>, Option<Vec<String>>) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crontab")).unwrap();
    let mut found = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (_, options) = line.split_once(&format!("pipeline.sh\" --source {source}"))?;
        let (options, _) = options.split_once(">>")?;
        Some(options.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    });
    (found.next().expect("an hourly line"), found.next())
}

fn run_day(db: &TestDb, source: &str, faults: bool) -> i64 {
    let (hourly, daily) = lines(source);
    let mut calls = 0;
    let mut pipeline = |market: &SandboxServer, options: &[String]| {
        calls += step(db, market, &["assets", "upsert", "--source", source]);
        let mut args = vec!["prices", "insert", "--source", source];
        args.extend(options.iter().map(String::as_str));
        calls += step(db, market, &args);
    };
    for hour in 0..24 {
        let market = market(hour, faults);
        pipeline(&market, &hourly);
        if let Some(daily) = daily.as_ref().filter(|_| hour == DAILY_HOUR) {
            pipeline(&market, daily);
        }
    }
    calls
}

/// What is stored, but for our own stamps: those of coins without a time of their own.
fn stored(db: &TestDb) -> Vec<String> {
    let mut rows = db.lines(
        "SELECT a.source_id, p.vs_currency, CASE WHEN p.observed_at > '2026-11-01' THEN 'ours' ELSE p.observed_at END, \
         p.price, p.volume_24h, p.base_volume_24h, p.market_cap, p.market_cap_rank, p.change_24h \
         FROM prices p JOIN assets a ON a.id = p.asset_id",
    );
    rows.sort();
    rows
}

fn a_day(source: &str) {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    // The day before: coins are known, and which of them have no price.
    let before = market(0, false);
    step(&db, &before, &["assets", "upsert", "--source", source]);
    step(&db, &before, &["prices", "insert", "--source", source]);
    db.execute("UPDATE absences SET asked_us = asked_us - 86400000000");
    let plain = TestDb::new(Backend::Sqlite).unwrap();
    std::fs::copy(db.workdir().file("it.db"), plain.workdir().file("it.db")).expect("a copy of the database");

    let plan = db.coinetl(&["plan", "--source", source]).json(0);
    // A day: the lines that run hourly 24 times, what runs daily once.
    let planned: i64 = plan["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| number(item, "calls_per_run") * number(item, "runs_per_month") / 31)
        .sum();
    assert_eq!(run_day(&db, source, true), planned, "{plan}");
    run_day(&plain, source, false);
    let (stormy, calm) = (stored(&db), stored(&plain));
    assert!(calm.len() > 5_000, "{} rows", calm.len());
    assert_same(&stormy, &calm);
    let coins = "SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id";
    assert_same(&db.lines(coins), &plain.lines(coins));
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0);
}

#[test]
fn of_coingecko() {
    a_day("coingecko");
}

#[test]
fn of_coinmarketcap() {
    a_day("coinmarketcap");
}

#[test]
fn of_coinbase() {
    a_day("coinbase");
}
