//! `prune`: old observations that live on in candles or windows go, everything else stays.

use serde_json::Value;

use crate::support::test_db::{Backend, TestDb};

on_every_database!(
    only_folded_prices_go,
    only_folded_quotes_go,
    one_source_alone,
    every_timeframe_that_is_kept_must_have_its_candle,
);

const OLD: &str = "2026-01-05";

fn asset(db: &TestDb, id: i64, source: &str) {
    let at = format!("'{OLD} 00:00:00.000'");
    db.execute(&format!("INSERT INTO assets VALUES ({id}, '{source}', 'c{id}', 'c', 'c', TRUE, {at}, {at})"));
}

fn price(db: &TestDb, asset: i64, at: &str) {
    db.execute(&format!(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) VALUES ({asset}, 'usd', '{at}', 1.5, 1)"
    ));
}

fn candle(db: &TestDb, asset: i64, timeframe: &str, at: &str, origin: &str, last: bool) {
    db.execute(&format!(
        "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, origin, final, run_id) \
         VALUES ({asset}, 'usd', '{timeframe}', '{at}', 1.5, 1.5, 1.5, 1.5, '{origin}', {last}, 1)"
    ));
}

fn counts(result: &Value) -> [i64; 3] {
    ["rows_read", "rows_written", "rows_unchanged"].map(|name| result[name].as_i64().unwrap())
}

fn only_folded_prices_go(db: &TestDb) {
    for id in 1..=7 {
        asset(db, id, "coingecko");
        // Newer than the cutoff, and so never touched.
        let new = if db.backend() == Backend::Sqlite { "2999-01-01 00:00:00.000" } else { "2999-01-01 00:00:00" };
        price(db, id, new);
    }
    let at = |time: &str| format!("{OLD} {time}");
    // 1: in a final candle of each length, at both ends of it.
    for (timeframe, open, first, last) in [
        ("1m", "01:01:00.000", "01:01:00.000", "01:01:59.999"),
        ("5m", "02:05:00.000", "02:05:00.000", "02:09:59.999"),
        ("15m", "03:15:00.000", "03:15:00.000", "03:29:59.999"),
        ("1h", "04:00:00.000", "04:00:00.000", "04:59:59.999"),
        ("6h", "06:00:00.000", "06:00:00.000", "11:59:59.999"),
    ] {
        candle(db, 1, timeframe, &at(open), "rollup", true);
        price(db, 1, &at(first));
        price(db, 1, &at(last));
    }
    candle(db, 2, "1d", &at("00:00:00.000"), "rollup", true);
    price(db, 2, &at("00:00:00.000"));
    price(db, 2, &at("23:59:59.999"));
    // 1: a moment before, and one behind.
    price(db, 1, &at("01:00:59.999"));
    price(db, 1, &at("05:00:00.000"));
    // 3: the candle is not final. 4: it is a bar of the source, which nothing was folded into.
    candle(db, 3, "1h", &at("04:00:00.000"), "rollup", false);
    candle(db, 4, "1h", &at("04:00:00.000"), "source", true);
    // 5: another currency's candle. 6: none at all.
    candle(db, 5, "1h", &at("04:00:00.000"), "rollup", true);
    db.execute("UPDATE candles SET vs_currency = 'eur' WHERE asset_id = 5");
    for id in 3..=6 {
        price(db, id, &at("04:30:00.000"));
    }
    // 7: the newest there is of it.
    db.execute("DELETE FROM prices WHERE asset_id = 7");
    candle(db, 7, "1d", &at("00:00:00.000"), "rollup", true);
    price(db, 7, &at("04:30:00.000"));
    price(db, 7, &at("04:20:00.000"));

    let before = db.number("SELECT COUNT(*) FROM prices");
    let result = db.coinetl(&["prune", "--older-than", "90d", "--what", "prices"]).json(0);
    assert_eq!(counts(&result), [20, 13, 7], "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), before - 13);
    let old = db.lines(
        "SELECT asset_id, COUNT(*) FROM prices WHERE observed_at < '2026-06-01' GROUP BY asset_id ORDER BY asset_id",
    );
    assert_eq!(old, ["1|2", "3|1", "4|1", "5|1", "6|1", "7|1"]);
    assert_eq!(db.lines("SELECT observed_at FROM prices WHERE asset_id = 7"), [at("04:30:00.000")]);
    // Once more changes nothing; nor does a cutoff before all of it.
    assert_eq!(counts(&db.coinetl(&["prune", "--older-than", "90d"]).json(0)), [7, 0, 7]);
    assert_eq!(counts(&db.coinetl(&["prune", "--older-than", "10000d"]).json(0)), [0, 0, 0]);
    assert_eq!(
        db.lines("SELECT command, source, status, rows_written FROM runs ORDER BY id"),
        ["prune|all|ok|13", "prune|all|ok|0", "prune|all|ok|0"]
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 10);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
}

fn only_folded_quotes_go(db: &TestDb) {
    let quote = |sequence: i64, time: &str, session: &str| {
        db.execute(&format!(
            "INSERT INTO crypto_metrics VALUES ('coinbase', 'BTC-USD', {sequence}, '{OLD} {time}', 1, 2, 1.5, 1, 1, 2, 1, '{session}')"
        ));
    };
    let window = |timeframe: &str, start: &str| {
        db.execute(&format!(
            "INSERT INTO quote_windows VALUES ('coinbase', 'BTC-USD', '{timeframe}', '{OLD} {start}', 1, 1, 1, 1, 1, 1, 1, 1, 1)"
        ));
    };
    for (timeframe, start) in
        [("1m", "01:01:00.000000"), ("5m", "01:00:00.000000"), ("1h", "01:00:00.000000"), ("1m", "01:02:00.000000")]
    {
        window(timeframe, start);
    }
    quote(1, "01:01:00.000001", "a");
    quote(2, "01:01:59.999999", "a");
    // No window of a minute here.
    quote(3, "01:03:00.000000", "a");
    // The newest of its session.
    quote(4, "01:02:30.000000", "a");
    quote(5, "01:02:31.000000", "b");
    let result = db.coinetl(&["prune", "--older-than", "90d", "--what", "quotes"]).json(0);
    assert_eq!(counts(&result), [5, 2, 3], "{result}");
    assert_eq!(db.lines("SELECT sequence FROM crypto_metrics ORDER BY sequence"), ["3", "4", "5"]);
}

fn one_source_alone(db: &TestDb) {
    for (id, source) in [(1, "coingecko"), (2, "coinbase")] {
        asset(db, id, source);
        candle(db, id, "1d", &format!("{OLD} 00:00:00.000"), "rollup", true);
        price(db, id, &format!("{OLD} 01:00:00.000"));
        price(db, id, &format!("{OLD} 02:00:00.000"));
    }
    let result = db.coinetl(&["prune", "--older-than", "90d", "--source", "coinbase"]).json(0);
    assert_eq!((counts(&result), &result["source"]), ([2, 1, 1], &"coinbase".into()));
    assert_eq!(db.lines("SELECT asset_id, COUNT(*) FROM prices GROUP BY asset_id ORDER BY asset_id"), ["1|2", "2|1"]);
}

fn every_timeframe_that_is_kept_must_have_its_candle(db: &TestDb) {
    // 1: a day only. 2: both. 3: the hour is folded, the day is the source's own. 4: both are the source's.
    for id in 1..=4 {
        asset(db, id, "coingecko");
        price(db, id, &format!("{OLD} 04:30:00.000"));
        price(db, id, &format!("{OLD} 23:00:00.000"));
        let origin = if id < 3 { "rollup" } else { "source" };
        candle(db, id, "1d", &format!("{OLD} 00:00:00.000"), origin, true);
    }
    for (id, origin) in [(2, "rollup"), (3, "rollup"), (4, "source")] {
        candle(db, id, "1h", &format!("{OLD} 04:00:00.000"), origin, true);
    }
    db.execute("INSERT INTO rollup_timeframes (timeframe, built_asset) VALUES ('1d', NULL), ('1h', 1)");
    let prune = || db.coinetl(&["prune", "--older-than", "90d"]);
    // Nothing goes before a timeframe is folded of everything.
    let output = prune().run().expect(0);
    assert!(output.stdout.contains("0 observations") && output.stdout.contains("all candles of 1h"), "{output}");
    let result = prune().json(0);
    assert_eq!((counts(&result), &result["awaits_rollup"]), ([8, 0, 8], &serde_json::json!(["1h"])), "{result}");
    db.execute("UPDATE rollup_timeframes SET built_asset = NULL");
    let result = prune().json(0);
    assert_eq!((counts(&result), &result["awaits_rollup"]), ([8, 2, 6], &serde_json::json!([])), "{result}");
    let left = db.lines("SELECT asset_id, COUNT(*) FROM prices GROUP BY asset_id ORDER BY asset_id");
    assert_eq!(left, ["1|2", "2|1", "3|1", "4|2"]);
}

/// Others want to write while a long history is looked through: no batch takes long.
#[test]
fn a_long_history_holds_nobody_up() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    asset(&db, 1, "coingecko");
    db.execute(
        "WITH RECURSIVE h (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM h WHERE n < 19999) \
         INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) \
         SELECT 1, 'usd', strftime('%Y-%m-%d %H:07:00.000', 1500000000 + n * 3600, 'unixepoch'), 1, 1 FROM h; \
         WITH RECURSIVE h (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM h WHERE n < 19999) \
         INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, origin, final, run_id) \
         SELECT 1, 'usd', '1h', strftime('%Y-%m-%d %H:00:00.000', 1500000000 + n * 3600, 'unixepoch'), 1, 1, 1, 1, 'rollup', TRUE, 1 FROM h",
    );
    let result = db.coinetl(&["prune", "--older-than", "90d"]).timeout(std::time::Duration::from_secs(30)).json(0);
    assert_eq!(counts(&result), [20_000, 19_999, 1]);
}

/// Made-up data and real data are pruned apart.
#[test]
fn with_the_sandbox_only_made_up_data_goes() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    for (id, source) in [(1, "coingecko"), (2, "sandbox-coingecko")] {
        asset(&db, id, source);
        candle(&db, id, "1d", &format!("{OLD} 00:00:00.000"), "rollup", true);
        price(&db, id, &format!("{OLD} 01:00:00.000"));
        price(&db, id, &format!("{OLD} 02:00:00.000"));
    }
    let result = db.coinetl(&["prune", "--older-than", "90d", "--sandbox", "--what", "prices,prices"]).json(0);
    assert_eq!((counts(&result), &result["source"]), ([2, 1, 1], &"sandbox-coingecko".into()));
    assert_eq!(db.lines("SELECT asset_id, COUNT(*) FROM prices GROUP BY asset_id ORDER BY asset_id"), ["1|2", "2|1"]);
}

#[test]
fn a_wrong_age_is_refused() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    db.coinetl(&["prune"]).run().expect(2);
    db.coinetl(&["prune", "--older-than", "soon"]).run().expect(2);
    let output = db.coinetl(&["prune", "--older-than", "1000years"]).run().expect(2);
    assert!(output.stderr.contains("before 1970"), "{output}");
}
