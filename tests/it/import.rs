//! `import`: files of history in every layout, by content alone; twice is once; killed is undisturbed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use rand::RngExt;
use serde_json::Value;

use crate::support::recordings::recordings;
use crate::support::test_db::{Backend, Cell, TestDb, assert_same};
use crate::support::workdir::{Running, wait_until};

on_every_database!(
    every_layout_is_known_by_its_content,
    what_an_overlapping_archive_restates_is_told,
    a_hole_in_a_file_is_a_gap_that_is_asked_for,
    rows_that_can_t_be_used_are_kept_once,
    a_killed_import_ends_like_an_undisturbed_one,
    recorded_files_are_stored_bit_for_bit,
    an_empty_table_is_filled_without_its_indexes,
    coins_of_one_name_are_told_apart,
);
on_every_database!(bare: a_new_database_is_filled_once);

pub const KAGGLE: &str = "SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n";
const CANDLES: &str = "SELECT a.source, a.source_id, a.symbol, a.name, c.vs_currency, c.timeframe, c.open_time, c.open, c.high, \
                       c.low, c.close, c.volume, c.base_volume, c.market_cap, c.samples, c.origin, c.final \
                       FROM candles c JOIN assets a ON a.id = c.asset_id \
                       ORDER BY a.id, c.vs_currency, c.timeframe, c.open_time";
const COVERAGE: &str = "SELECT a.source_id, c.vs_currency, c.timeframe, c.from_time, c.to_time, c.state \
                        FROM coverage c JOIN assets a ON a.id = c.asset_id ORDER BY a.id, c.timeframe, c.from_time";

pub fn counts(result: &Value) -> [i64; 5] {
    ["rows_read", "rows_written", "rows_updated", "rows_unchanged", "rows_rejected"]
        .map(|name| result[name].as_i64().unwrap_or_else(|| panic!("{name}: {result}")))
}

/// A day of a coin in Kaggle's layout.
fn day(name: &str, symbol: &str, day: &str, close: f64) -> String {
    format!("1,{name},{symbol},{day} 23:59:59,{},1.0,2.5,{close},10.5,0.0\n", close + 10.0)
}

fn every_layout_is_known_by_its_content(db: &TestDb) {
    let dir = db.workdir();
    std::fs::create_dir(dir.file("a")).unwrap();
    // Names tell nothing.
    let padded = "SNo, Name   , Symbol, Date               , High , Low , Open, Close, Volume, Marketcap\r\n\
                  1  , Bitcoin, BTC   , 2013-04-29 23:59:59, 147.5, 134.0, 134.4, 144.5, 0.0   , 1603768864.5\r\n";
    dir.write("a/1.csv", padded);
    dir.write(
        "a/2",
        "Timestamps are UTC timezone,https://www.CryptoDataDownload.com\r\n\
         Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USD\r\n\
         1510473600.0,2017-11-12 03-AM,BTCUSD,6172.93,6485.67,6113.85,6201,3891.25,24503261.14\r\n\
         1510473600.0,2017-11-12 08-AM,BTCUSD,6172.93,6485.67,6113.85,6201,3891.25,24503261.14\r\n\
         1510470000.0,2017-11-12 02-AM,BTCUSD,5640,6240,5639.98,6172.93,6722.79,40347991.86\r\n",
    );
    dir.write(
        "a/3.txt",
        "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume ETH,Volume USDT,tradecount\n\
         1646179200000,2022-03-02 00:00:00,ETH/USDT,3,4,2,3.5,7,21,5\n1646092800000,2022-03-01 00:00:00,ETH/USDT,3,4,2,3.5,8,24,6\n",
    );
    let result = db.coinetl(&["import", "a"]).json(0);
    assert_eq!(counts(&result), [6, 5, 0, 1, 0], "{result}");
    let bitcoin = "archive|Bitcoin|BTC|Bitcoin|usd|1d|2013-04-29 00:00:00.000|134.4|147.5|134.0|144.5|0.0|NULL|1603768864.5|NULL|archive|1";
    let expected = [
        bitcoin,
        "archive|BTC|BTC||usd|1h|2017-11-12 07:00:00.000|5640.0|6240.0|5639.98|6172.93|40347991.86|6722.79|NULL|NULL|archive|1",
        "archive|BTC|BTC||usd|1h|2017-11-12 08:00:00.000|6172.93|6485.67|6113.85|6201.0|24503261.14|3891.25|NULL|NULL|archive|1",
        "archive|ETH|ETH||usdt|1d|2022-03-01 00:00:00.000|3.0|4.0|2.0|3.5|24.0|8.0|NULL|NULL|archive|1",
        "archive|ETH|ETH||usdt|1d|2022-03-02 00:00:00.000|3.0|4.0|2.0|3.5|21.0|7.0|NULL|NULL|archive|1",
    ];
    assert_same(&db.lines(CANDLES), &expected.map(str::to_owned));

    // Seconds, milliseconds, microseconds, times as texts; with a header and without.
    let kline = |open: &str, close: &str| format!("{open},1,2,0.5,1.5,10,{close},15,3,1,1,0\n");
    dir.write("1m.csv", &kline("1754006400000", "1754006459999"));
    dir.write("1h.csv", &kline("1754006400000000", "1754009999999999"));
    dir.write("15m.csv", &kline("1754006400", "1754007299"));
    let header = "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,Taker buy base asset volume,Taker buy quote asset volume,Ignore\n";
    dir.write("1d.csv", &format!("{header}{}", kline("2025-08-01 00:00:00+00:00", "2025-08-01 23:59:59.999000+00:00")));
    let gecko = "snapped_at,price,market_cap,total_volume\n2013-04-28 00:00:00 UTC,135.3,1500517590.0,0.0\n2013-04-29 00:00:00 UTC,141.96,,5e-3\n";
    dir.write("gecko.csv", gecko);
    let refused = db.coinetl(&["import", "1m.csv"]).run().expect(2);
    assert!(refused.stderr.contains("1m.csv does not say which coin it is of; name it by --id"), "{refused}");
    let files = ["1m.csv", "1h.csv", "15m.csv", "1d.csv", "gecko.csv"];
    let result = db.coinetl(&["import", "--id", "bitcoin", "--source", "coingecko", "--vs", "EUR"]).args(files).json(0);
    assert_eq!((counts(&result), &result["source"]), ([6, 6, 0, 0, 0], &"coingecko".into()), "{result}");
    let lengths = "SELECT c.timeframe, c.open_time, c.volume, c.base_volume, c.origin FROM candles c JOIN assets a ON a.id = c.asset_id \
                   WHERE a.source_id = 'bitcoin' AND c.vs_currency = 'eur' ORDER BY c.timeframe";
    let at = "2025-08-01 00:00:00.000|15.0|10.0|archive";
    assert_eq!(db.lines(lengths), ["15m", "1d", "1h", "1m"].map(|length| format!("{length}|{at}")));
    let prices = "SELECT a.source, a.source_id, p.vs_currency, p.observed_at, p.price, p.volume_24h, p.market_cap, p.circulating_supply \
                  FROM prices p JOIN assets a ON a.id = p.asset_id ORDER BY p.observed_at";
    let expected = [
        "coingecko|bitcoin|eur|2013-04-28 00:00:00.000|135.3|0.0|1500517590.0|NULL",
        "coingecko|bitcoin|eur|2013-04-29 00:00:00.000|141.96|0.005|NULL|NULL",
    ];
    assert_eq!(db.lines(prices), expected);
    let covered = [
        "Bitcoin|usd|1d|2013-04-29 00:00:00.000|2013-04-30 00:00:00.000|full",
        "BTC|usd|1h|2017-11-12 07:00:00.000|2017-11-12 09:00:00.000|full",
        "ETH|usdt|1d|2022-03-01 00:00:00.000|2022-03-03 00:00:00.000|full",
        "bitcoin|eur|15m|2025-08-01 00:00:00.000|2025-08-01 00:15:00.000|full",
    ];
    assert_eq!(db.lines(COVERAGE)[..4], covered);

    // Once more, and nothing is another.
    let before = [CANDLES, prices, COVERAGE].map(|sql| db.lines(sql));
    assert_eq!(counts(&db.coinetl(&["import", "a"]).json(0)), [6, 0, 0, 6, 0]);
    let again = db.coinetl(&["import", "--id", "bitcoin", "--source", "coingecko", "--vs", "eur"]).args(files).json(0);
    assert_eq!(counts(&again), [6, 0, 0, 6, 0]);
    assert_eq!([CANDLES, prices, COVERAGE].map(|sql| db.lines(sql)), before);
    assert_eq!(db.number("SELECT COUNT(*) FROM import_positions"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    let runs = [
        "import|archive|ok|0|6|5",
        "import|coingecko|ok|0|6|6",
        "import|archive|ok|0|6|0",
        "import|coingecko|ok|0|6|0",
    ];
    assert_eq!(db.lines("SELECT command, source, status, calls, rows_read, rows_written FROM runs ORDER BY id"), runs);
}

fn what_an_overlapping_archive_restates_is_told(db: &TestDb) {
    let dir = db.workdir();
    let old = [KAGGLE.to_owned(), day("Bitcoin", "BTC", "2021-01-01", 3.0), day("Bitcoin", "BTC", "2021-01-02", 4.0)]
        .concat();
    let new = [
        KAGGLE.to_owned(),
        day("Bitcoin", "BTC", "2021-01-01", 3.0),
        day("Bitcoin", "BTC", "2021-01-02", 4.5),
        day("Bitcoin", "BTC", "2021-01-04", 5.0),
    ]
    .concat();
    db.coinetl(&["import"]).arg(dir.write("old.csv", &old)).run().expect(0);
    let result = db.coinetl(&["import"]).arg(dir.write("new.csv", &new)).json(0);
    assert_eq!(counts(&result), [3, 2, 1, 1, 0], "{result}");
    assert_eq!(db.lines("SELECT close, run_id FROM candles ORDER BY open_time"), ["3.0|1", "4.5|2", "5.0|2"]);
    // Neither file has the third.
    let covered = ["01 00:00:00.000|2021-01-03 00:00:00.000|full", "03 00:00:00.000|2021-01-04 00:00:00.000|missing"]
        .into_iter()
        .chain(["04 00:00:00.000|2021-01-05 00:00:00.000|full"]);
    let covered: Vec<String> = covered.map(|line| format!("Bitcoin|usd|1d|2021-01-{line}")).collect();
    assert_eq!(db.lines(COVERAGE), covered);
    // What a source itself told is worth more.
    db.execute("UPDATE candles SET origin = 'source', close = 4.0 WHERE close = 4.5");
    let result = db.coinetl(&["import", "new.csv"]).json(0);
    assert_eq!(counts(&result), [3, 0, 0, 3, 0], "{result}");
    assert_eq!(db.lines("SELECT close FROM candles ORDER BY open_time"), ["3.0", "4.0", "5.0"]);
}

fn a_hole_in_a_file_is_a_gap_that_is_asked_for(db: &TestDb) {
    let relay = crate::backfill::relay(1, "10:20:30");
    let day_of = |ago: u64| crate::backfill::day(ago).to_string();
    // The newest first, one out of order, none of two times: 27 days ago, and 24 and 23.
    let days = [20, 21, 22, 26, 25, 28, 30, 29].map(|ago| day("BTC", "BTC", &day_of(ago), 3.0));
    let path = db.workdir().write("holes.csv", &[&[KAGGLE.to_owned()], &days[..]].concat().concat());
    let into = ["import", "--source", "coinbase", "--id", "BTC"];
    db.coinetl(&into).arg(&path).json(0);
    let line = |from: u64, to: u64, state: &str| {
        format!("BTC|usd|1d|{} 00:00:00.000|{} 00:00:00.000|{state}", day_of(from), day_of(to))
    };
    let known = [
        line(30, 27, "full"),
        line(27, 26, "missing"),
        line(26, 24, "full"),
        line(24, 22, "missing"),
        line(22, 19, "full"),
    ];
    assert_eq!(db.lines(COVERAGE), known);
    let gaps = db.coinetl(&["gaps", "--source", "coinbase"]).json(3);
    assert_eq!(gaps["summary"]["missing"], serde_json::json!({ "intervals": 2, "candles": 3 }));
    assert_eq!(gaps["gaps"][0]["reason"], "not in the file");
    let (from, to) = (day_of(30), day_of(19));
    let words = ["candles", "backfill", "--source", "coinbase", "--timeframe", "1d", "--ids", "BTC"];
    let words = [&words[..], &["--from", &from, "--to", &to]].concat();
    // The sandbox stands in for the source.
    db.execute("UPDATE assets SET source = 'sandbox-coinbase'");
    let result = relay.ask(db, &words).json(0);
    assert_eq!((relay.take().len(), result["rows_read"].as_i64() >= Some(3)), (1, true), "{result}");
    assert_eq!(db.lines(COVERAGE), [line(30, 19, "full")]);
    db.execute("UPDATE assets SET source = 'coinbase'");
    // What is known by the source is not forgotten for a file's sake.
    db.coinetl(&into).arg(&path).json(0);
    assert_eq!(db.lines(COVERAGE), [line(30, 19, "full")]);
}

fn rows_that_can_t_be_used_are_kept_once(db: &TestDb) {
    let mut text = KAGGLE.as_bytes().to_vec();
    let bad: [(&[u8], &str); 9] = [
        (b"1,Bitcoin,BTC,2021-02-30 23:59:59,2,1,1,1,1,1", "line 2: this is no time: \"2021-02-30 23:59:59\""),
        (
            b"1,Bitcoin,BTC,2021-01-01 23:59:59,1,2,1,1,1,1",
            "line 3: open 1 and close 1 do not lie between low 2 and high 1",
        ),
        (b"1,Bitcoin,BTC,2021-01-01 23:59:59,1,1,1,NaN,1,1", "line 4: close is no number: \"NaN\""),
        (b"1,Bitcoin,BTC,2021-01-01 23:59:59,1,1,1,1e999,1,1", "line 5: close is no number: \"1e999\""),
        (b"1,Bitcoin,BTC,2021-01-01 23:59:59,1,1,1,1,-1,1", "line 6: volume is below zero: -1"),
        (b"1,Bitcoin,BTC,2021-01-01 23:59:59,1,1", "line 7: it has 6 columns instead of 10"),
        (b"1,Bitc\xf6in,BTC,2021-01-01 23:59:59,1,1,1,1,1,1", "line 8: it is not UTF-8"),
        (b"1,,,2021-01-01 23:59:59,1,1,1,1,1,1", "line 9: it names no coin"),
        (b"1,Bit\0coin,BTC,2021-01-01 23:59:59,1,1,1,1,1,1", "line 10: id contains the character U+0000"),
    ];
    for (line, _) in bad {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(day("Bitcoin", "BTC", "2021-01-01", 3.0).as_bytes());
    let long = "x".repeat(300);
    text.extend_from_slice(day(&long, "X", "2021-01-01", 3.0).as_bytes());
    let path = db.workdir().file("rows.csv");
    std::fs::write(&path, text).unwrap();
    for unchanged in [0, 1] {
        let result = db.coinetl(&["import", "rows.csv"]).json(3);
        assert_eq!(counts(&result), [11, 1 - unchanged, 0, unchanged, 10], "{result}");
        assert_eq!(result["status"], "partial");
        let letters = db.query("SELECT source, topic, payload, error FROM dead_letters ORDER BY id");
        assert_eq!(letters.len(), 10, "the second run adds none");
        let key = std::fs::canonicalize(&path).unwrap().display().to_string();
        for (letter, (line, reason)) in letters.iter().zip(bad) {
            let [source, topic, payload, error] = letter.as_slice() else { panic!("{letter:?}") };
            assert_eq!((source.as_deref(), topic.as_deref()), (Some("archive"), Some(key.as_str())));
            assert_eq!(payload.as_deref(), Some(String::from_utf8_lossy(line).replace('\0', "\u{fffd}").as_str()));
            assert!(error.as_ref().is_some_and(|error| error.starts_with(reason)), "{error:?} {reason}");
        }
        assert!(letters[9][3].as_ref().is_some_and(|error| error.contains("300 bytes long")), "{:?}", letters[9]);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 1);
}

/// Many days of some coins, a broken row now and then.
fn history(coins: usize, days: i64) -> String {
    let mut text = KAGGLE.to_owned();
    for coin in 0..coins {
        for day in 0..days {
            let date = chrono::DateTime::from_timestamp(1_200_000_000 + day * 86_400, 0).unwrap().format("%Y-%m-%d");
            let close = 1.0 + ((day * 7919 + coin as i64 * 31) % 1000) as f64 / 7.0;
            let high = if day % 5_000 == 4_999 { 0.5 } else { close + 10.0 };
            writeln!(text, "{day},Coin {coin},C{coin},{date} 23:59:59,{high},0.5,1.25,{close},{day},0.0").unwrap();
        }
    }
    text
}

const TABLES: [&str; 5] = [
    "SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id",
    CANDLES,
    COVERAGE,
    "SELECT source, topic, payload, error FROM dead_letters ORDER BY id",
    "SELECT hour, vs_currency, first_asset, last_asset FROM rollup_pending ORDER BY 1, 2, 3, 4",
];

fn a_killed_import_ends_like_an_undisturbed_one(db: &TestDb) {
    const KILLS: usize = 6;
    let whole = TestDb::new(db.backend()).expect("the same kind of database");
    whole.setup();
    let text = history(12, 7_000);
    db.workdir().write("h.csv", &text);
    let path = db.workdir().file("h.csv");
    let undisturbed = whole.coinetl(&["import"]).arg(&path).run().expect(3);
    let (mut hits, mut resumed) = (0, 0);
    let mut spread = undisturbed.seconds;
    for kill in 0..KILLS {
        let by_itself = kill == 0;
        let mut import = db.coinetl(&["import", "h.csv", "-v"]);
        if by_itself {
            import = import.env("COINETL_TEST_DIE_AT", "after-import-batch");
        }
        let mut running = import.spawn();
        if !by_itself {
            std::thread::sleep(Duration::from_secs_f64(rand::rng().random_range(0.0..spread)));
            if running.is_running() {
                hits += 1;
            } else {
                spread = (spread * 0.7).max(0.05);
            }
            running.kill();
        }
        let output = running.wait();
        resumed += usize::from(output.stderr.contains("goes on behind line"));
        if by_itself {
            let (rows, line) =
                (db.number("SELECT COUNT(*) FROM candles"), db.number("SELECT line FROM import_positions"));
            assert!(rows > 0 && rows < 70_000 && line > rows, "{rows} rows, line {line}\n{output}");
            assert_eq!(
                db.number("SELECT COUNT(*) FROM coverage"),
                0,
                "nothing is covered that was not read to its end"
            );
        }
        // Nobody here needs to wait 15 s.
        db.execute("DELETE FROM leases");
    }
    let last = db.coinetl(&["import", "h.csv"]).run().expect(3);
    assert!(hits >= 2 && resumed >= 1, "{hits} kills in time, {resumed} resumed\n{last}");
    for sql in TABLES {
        let told = |lines: Vec<String>| {
            lines.into_iter().map(|line| line.replace(path.to_str().unwrap(), "h.csv")).collect::<Vec<_>>()
        };
        assert_same(&told(db.lines(sql)), &told(whole.lines(sql)));
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM import_positions"), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 12 * 6_999);
}

/// Many candles are added to few in SQLite without the indexes: they are there again at the end, and after a kill by the next
/// import or `db-setup`.
#[test]
fn indexes_are_there_again_at_the_end() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let indexes = "SELECT name, tbl_name, REPLACE(sql, 'IF NOT EXISTS ', '') FROM sqlite_master WHERE type = 'index' ORDER BY name";
    let migrated = db.lines(indexes);
    assert!(migrated.iter().any(|index| index.starts_with("candles_by_time|")), "{migrated:?}");
    db.workdir().write("h.csv", &history(12, 4_000));
    let die = || db.coinetl(&["import", "h.csv"]).env("COINETL_TEST_DIE_AT", "after-import-batch").run();
    die();
    db.execute("DELETE FROM leases");
    assert_eq!(db.lines(indexes).len(), migrated.len() - 2);
    db.setup();
    assert_eq!(db.lines(indexes), migrated);
    db.coinetl(&["import", "h.csv"]).run().expect(0);
    db.execute("DELETE FROM candles");
    die();
    db.execute("DELETE FROM leases");
    db.coinetl(&["import", "h.csv"]).run().expect(0);
    assert_eq!(db.lines(indexes), migrated);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 12 * 4_000);
    // Where there are rows, only many new ones are worth it.
    let told =
        |file: &str| db.coinetl(&["import", file, "-vv"]).run().expect(0).stderr.contains("made again at the end");
    db.workdir().write("few.csv", &history(13, 4_000));
    assert!(!told("few.csv"));
    db.workdir().write("many.csv", &history(30, 4_000));
    assert!(told("many.csv"));
    assert_eq!(db.lines(indexes), migrated);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 30 * 4_000);
    assert_eq!(db.lines("PRAGMA integrity_check"), ["ok"]);
}

/// Two coins have one name, in one file, in another one and in another run: none gets the other's rows.
fn coins_of_one_name_are_told_apart(db: &TestDb) {
    let rows = |coins: &[(&str, f64)]| {
        coins.iter().fold(KAGGLE.to_owned(), |text, (symbol, close)| text + &day("Same", symbol, "2020-01-01", *close))
    };
    let stored = || {
        db.lines(
            "SELECT a.source_id, a.symbol, c.close FROM candles c JOIN assets a ON a.id = c.asset_id ORDER BY a.id, c.close",
        )
    };
    db.workdir().write("two.csv", &rows(&[("AAA", 2.0), ("BBB", 3.0)]));
    let output = db.coinetl(&["import", "two.csv"]).run().expect(0);
    assert!(output.stderr.contains("with the symbol BBB it is stored as \"Same (BBB)\""), "{output}");
    assert_eq!(stored(), ["Same|AAA|2.0", "Same (BBB)|BBB|3.0"]);
    db.workdir().write("other.csv", &rows(&[("CCC", 4.0), ("BBB", 5.0), ("aaa", 6.0)]));
    let result = db.coinetl(&["import", "other.csv"]).json(0);
    assert_eq!(counts(&result), [3, 3, 2, 0, 0]);
    assert_eq!(stored(), ["Same|AAA|6.0", "Same (BBB)|BBB|5.0", "Same (CCC)|CCC|4.0"]);
    let series: Vec<&str> =
        result["files"][0]["series"].as_array().unwrap().iter().filter_map(|series| series["asset"].as_str()).collect();
    assert_eq!(series, ["Same (BBB)", "Same (CCC)", "Same"]);
    // Who says which coin it is means it.
    db.coinetl(&["import", "two.csv", "--id", "Same"]).run().expect(2);
}

/// Rows that would become one day's, or a day of 1970, are told with their lines, before and after.
#[test]
fn what_is_no_day_is_rejected() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let row = |date: &str| format!("1,Bitcoin,BTC,{date},3,1,2,2,0,0\n");
    let dates =
        ["2020-01-01", "2020-01-02 00:00:00", "2020-01-03 23:59:59", "2020-01-04 05:00:00", "20200105", "43831"];
    db.workdir().write("days.csv", &dates.iter().fold(KAGGLE.to_owned(), |text, date| text + &row(date)));
    for args in [&["import", "days.csv", "--dry-run"][..], &["import", "days.csv"]] {
        let result = db.coinetl(args).json(3);
        assert_eq!((counts(&result)[0], counts(&result)[4]), (6, 3), "{result}");
        let faults = result["files"][0]["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 3, "{result}");
        for (fault, words) in faults.iter().zip([
            "line 5: 2020-01-04 05:00:00.000 is within a day",
            "line 6: \"20200105\" is no time: as a number since 1970",
            "line 7: \"43831\" is no time",
        ]) {
            assert!(fault.as_str().unwrap().starts_with(words), "{fault}");
        }
    }
    assert_eq!(
        db.lines("SELECT open_time FROM candles"),
        ["2020-01-01 00:00:00.000", "2020-01-02 00:00:00.000", "2020-01-03 00:00:00.000"]
    );
    let output = db.coinetl(&["import", "days.csv", "--dry-run"]).run().expect(3);
    assert!(output.stdout.contains("3 rejected: line 5: "), "{output}");
    // What it does without being told may be told.
    db.coinetl(&["import", "days.csv", "--source", "archive"]).run().expect(3);
    assert_eq!(db.lines("SELECT source FROM assets"), ["archive"]);
    let output = db.coinetl(&["prices", "insert", "--source", "bogus"]).run().expect(78);
    assert!(output.stderr.contains("--source \"bogus\" is unknown; use one of"), "{output}");
}

const FOREIGN_KEY: &str = "FOREIGN KEY (asset_id) REFERENCES assets(id)";

/// An import that goes on as long as the pipe is open.
fn import_from_a_pipe(db: &TestDb) -> (Running, std::fs::File) {
    let pipe = db.workdir().file("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let running = db.coinetl(&["import", "pipe"]).spawn();
    (running, std::fs::OpenOptions::new().write(true).open(&pipe).unwrap())
}

/// Also on the servers, which keep them where there are rows; in PostgreSQL without its foreign key, too.
fn an_empty_table_is_filled_without_its_indexes(db: &TestDb) {
    let indexes = match db.backend() {
        Backend::Sqlite => "SELECT name FROM pragma_index_list('candles') WHERE origin = 'c' ORDER BY name",
        Backend::Mysql => {
            "SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_schema = DATABASE()
             AND table_name = 'candles' AND index_name <> 'PRIMARY' ORDER BY index_name"
        }
        Backend::Postgres => {
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'candles'
             AND indexname <> 'candles_pkey'
             UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'candles'::regclass
             AND contype = 'f' ORDER BY 1"
        }
    };
    let migrated = match db.backend() {
        Backend::Postgres => &[FOREIGN_KEY, "candles_by_run", "candles_by_time"][..],
        _ => &["candles_by_run", "candles_by_time"],
    };
    assert_eq!(db.lines(indexes), migrated);
    db.workdir().write("h.csv", &history(12, 4_000));
    let die = || {
        db.coinetl(&["import", "h.csv"]).env("COINETL_TEST_DIE_AT", "after-import-batch").run();
        db.execute("DELETE FROM leases");
    };
    die();
    assert!(db.lines(indexes).is_empty(), "they are not there while an empty table is filled");
    // By `db-setup`, and by the next import.
    db.setup();
    assert_eq!(db.lines(indexes), migrated);
    db.execute("DELETE FROM candles");
    db.execute("DELETE FROM import_positions");
    die();
    db.coinetl(&["import", "h.csv"]).run().expect(0);
    assert_eq!(db.lines(indexes), migrated);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 12 * 4_000);
    // Whoever sets up the database meanwhile leaves that to the import, and so does another one that ends.
    db.execute("DELETE FROM candles");
    let (running, mut writer) = import_from_a_pipe(db);
    writer.write_all(history(12, 4_000).as_bytes()).unwrap();
    wait_until(|| db.number("SELECT COUNT(*) FROM candles") > 0);
    db.setup();
    db.workdir().write("one.csv", &[KAGGLE, &day("One", "ONE", "2021-01-01", 3.0)].concat());
    let beside = ["import", "one.csv", "--source", "coinbase", "--id", "ONE"];
    let output = db.coinetl(&beside).run().expect(0);
    assert!(!output.stderr.contains("WARN"), "{output}");
    assert!(db.lines(indexes).is_empty());
    drop(writer);
    running.wait().expect(0);
    assert_eq!(db.lines(indexes), migrated);
    // Somebody looks at the empty table, and does not stop: the import goes on all the same.
    db.execute("DELETE FROM candles");
    let mut reader = db.open().conn;
    reader.batch_execute("BEGIN; SELECT COUNT(*) FROM candles").unwrap();
    db.coinetl(&["import", "h.csv"]).run().expect(0);
    drop(reader);
    assert_eq!(db.lines(indexes), migrated);
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 12 * 4_000);
}

/// Somebody has the table for himself: the import ends as others do that wait in vain.
#[test]
fn an_import_that_can_t_begin_is_recorded() {
    let Some(db) = TestDb::new(Backend::Postgres) else { return };
    db.setup();
    db.workdir().write("h.csv", &history(1, 10));
    let mut other = db.open().conn;
    // For longer than the import waits.
    other.batch_execute("SET idle_in_transaction_session_timeout = 0").unwrap();
    other.batch_execute("BEGIN; LOCK TABLE candles IN ACCESS EXCLUSIVE MODE").unwrap();
    db.coinetl(&["import", "h.csv"]).run().expect(75);
    drop(other);
    assert_eq!(db.lines("SELECT status FROM runs"), ["failed"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    db.coinetl(&["import", "h.csv"]).run().expect(0);
}

/// While PostgreSQL does not look for the coins of rows, the import does.
#[test]
fn a_coin_that_is_deleted_while_its_candles_come_ends_the_import() {
    let Some(db) = TestDb::new(Backend::Postgres) else { return };
    db.setup();
    let (running, mut writer) = import_from_a_pipe(&db);
    let history = history(12, 4_000);
    // Within a coin's days.
    let (first, second) = history.split_at(history.len() / 24 * 13);
    writer.write_all(first.as_bytes()).unwrap();
    wait_until(|| db.number("SELECT COUNT(*) FROM candles") > 0);
    db.execute("DELETE FROM assets");
    // It ends before it has read all.
    let _ = writer.write_all(second.as_bytes());
    drop(writer);
    let output = running.wait().expect(3);
    assert!(output.stderr.contains("from assets meanwhile; run again"), "{output}");
    // What is left of it is told, and new rows are looked at again.
    assert!(output.stderr.contains("delete the candles whose asset_id is not in assets"), "{output}");
    let key =
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'candles'::regclass AND contype = 'f'";
    assert_eq!(db.lines(key), [format!("{FOREIGN_KEY} NOT VALID")]);
    db.execute("DELETE FROM candles");
    db.setup();
    assert_eq!(db.lines(key), [FOREIGN_KEY]);
}

/// A signal ends it behind a batch, with the place, and gives the lease back; a pipe nobody writes to does not hold it.
#[test]
fn a_signal_ends_an_import_where_it_is() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    db.workdir().write("h.csv", &history(30, 6_000));
    let running = db.coinetl(&["import", "h.csv"]).spawn();
    wait_until(|| db.number("SELECT COUNT(*) FROM import_positions") == 1);
    running.signal("TERM");
    let output = running.wait().expect(3);
    assert!(output.stderr.contains("stopped by a signal; run again"), "{output}");
    assert_eq!(db.lines("SELECT status FROM runs"), ["partial"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
    let result = db.coinetl(&["import", "h.csv"]).json(3);
    assert!(counts(&result)[0] < 180_000, "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 30 * 5_999);

    let (running, mut writer) = import_from_a_pipe(&db);
    // As much as it is recognised by, and no end.
    writer.write_all(history(1, 400).as_bytes()).unwrap();
    wait_until(|| db.number("SELECT COUNT(*) FROM runs") == 3);
    running.signal("TERM");
    running.wait().expect(75);
}

/// A place in a file is worth nothing when the rows are to go elsewhere, or the file is another.
#[test]
fn a_place_in_a_file_holds_for_that_file_and_purpose_only() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let mut text = String::new();
    for minute in 0..40_000_i64 {
        let open = 1_754_006_400_000 + minute * 60_000;
        writeln!(text, "{open},1,2,0.5,1.5,10,{},15,3,1,1,0", open + 59_999).unwrap();
    }
    db.workdir().write("k.csv", &text);
    let die = |args: &[&str]| {
        db.coinetl(args).env("COINETL_TEST_DIE_AT", "after-import-batch").run();
        db.execute("DELETE FROM leases");
        assert_eq!(db.number("SELECT COUNT(*) FROM import_positions"), 1);
    };
    die(&["import", "k.csv", "--id", "A"]);
    assert_eq!(counts(&db.coinetl(&["import", "k.csv", "--id", "B"]).json(0)), [40_000, 40_000, 0, 0, 0]);
    die(&["import", "k.csv", "--id", "C"]);
    let changed = text.replacen(",1,2,0.5,1.5,", ",1,2,0.5,1.75,", 1);
    db.workdir().write("k.csv", &changed);
    let result = db.coinetl(&["import", "k.csv", "--id", "C"]).json(0);
    let [read, written, updated, ..] = counts(&result);
    assert!(read == 40_000 && updated == 1 && written < 10_000, "{result}");
    // The place of the same file and purpose is taken up.
    die(&["import", "k.csv", "--id", "D"]);
    let result = db.coinetl(&["import", "k.csv", "--id", "D"]).json(0);
    let [read, written, ..] = counts(&result);
    assert!(read < 10_000 && read == written, "{result}");
    let each =
        "SELECT a.source_id, COUNT(*) FROM candles c JOIN assets a ON a.id = c.asset_id GROUP BY a.id ORDER BY a.id";
    assert_eq!(db.lines(each), ["A|32768", "B|40000", "C|40000", "D|40000"]);
}

fn a_new_database_is_filled_once(db: &TestDb) {
    let dir = db.workdir();
    let setup = || db.coinetl(&["db-setup"]).env("COINETL_SEED_ARCHIVE", "seed");
    let broken = setup().run().expect(78);
    assert!(broken.stderr.contains("COINETL_SEED_ARCHIVE") && broken.stderr.contains("leave it out"), "{broken}");
    std::fs::create_dir(dir.file("seed")).unwrap();
    dir.write("seed/none.csv", "date,weather\n");
    let broken = setup().run().expect(78);
    assert!(broken.stderr.contains("none.csv: its layout is none that is known"), "{broken}");
    std::fs::remove_file(dir.file("seed/none.csv")).unwrap();
    dir.write("seed/1.csv", &history(5, 7_000).replace("Coin ", "First "));
    dir.write("seed/2.csv", &[KAGGLE, &day("Bitcoin", "BTC", "2021-01-01", 3.0)].concat());
    // Killed in the middle of it: the next one goes on, though the database is not empty any more.
    setup().env("COINETL_TEST_DIE_AT", "after-import-batch").run();
    db.execute("DELETE FROM leases");
    assert!(db.number("SELECT COUNT(*) FROM candles") > 0);
    // Whatever else was imported in between.
    dir.write("other.csv", &[KAGGLE, &day("Other", "OTH", "2021-01-01", 3.0)].concat());
    db.coinetl(&["import", "other.csv"]).run().expect(0);
    let result = setup().json(3);
    assert_eq!(result["command"], "db-setup");
    assert!(result["rows_written"].as_i64().is_some_and(|rows| rows > 0), "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 5 * 6_999 + 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM import_positions"), 0);
    // Done is done, whatever is there now.
    std::fs::remove_dir_all(dir.file("seed")).unwrap();
    let result = setup().json(0);
    assert!(result.get("files").is_none() && result["run_id"].is_null(), "{result}");
    assert_eq!(db.lines("SELECT DISTINCT command, source FROM runs"), ["import|archive"]);
}

fn recorded_files_are_stored_bit_for_bit(db: &TestDb) {
    let (Some(kaggle), Some(ohlcv)) = (recordings("kaggle_daily"), recordings("ohlcv")) else { return };
    let result = db.coinetl(&["import"]).arg(&kaggle).json(0);
    let again = db.coinetl(&["import"]).arg(&kaggle).json(0);
    assert_eq!((counts(&again)[1], counts(&again)[0]), (0, counts(&result)[0]));
    // An independent reading: cells by their header's names, the newer folder last.
    let mut expected: BTreeMap<(String, String), [u64; 6]> = BTreeMap::new();
    let mut files: Vec<_> = ["2021-02", "2021-07"]
        .iter()
        .flat_map(|part| std::fs::read_dir(kaggle.join(part)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut rows = 0;
    for path in files {
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
        let names = lines.next().unwrap();
        for cells in lines {
            let cell = |name: &str| cells[names.iter().position(|n| *n == name).unwrap()];
            let bits = |name: &str| cell(name).parse::<f64>().unwrap().to_bits();
            let key = (cell("Name").to_owned(), format!("{} 00:00:00.000", &cell("Date")[..10]));
            expected.insert(key, ["Open", "High", "Low", "Close", "Volume", "Marketcap"].map(bits));
            rows += 1;
        }
    }
    assert_eq!(counts(&result)[..2], [rows, expected.len() as i64]);
    let stored = db.cells(
        "SELECT a.source_id, c.open_time, c.open, c.high, c.low, c.close, c.volume, c.market_cap FROM candles c \
         JOIN assets a ON a.id = c.asset_id WHERE c.timeframe = '1d' ORDER BY a.source_id, c.open_time",
    );
    let bits = |cell: &Cell| match cell {
        Cell::Double(number) => number.to_bits(),
        other => panic!("{other:?}"),
    };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let stored: BTreeMap<(String, String), [u64; 6]> = stored
        .iter()
        .map(|row| ((text(&row[0]), text(&row[1])), std::array::from_fn(|at| bits(&row[at + 2]))))
        .collect();
    assert_same(&stored.into_iter().collect::<Vec<_>>(), &expected.into_iter().collect::<Vec<_>>());

    // The exchanges' files: one by the epoch alone, one by its own times, one of JSON.
    let mut expected: BTreeMap<(String, i64), [u64; 6]> = BTreeMap::new();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let nothing = f64::NAN.to_bits();
    let hourly = std::fs::read_to_string(ohlcv.join("coinbase_BTCUSD_1h_2017-07-01_2020-10-24.csv")).unwrap();
    let mut lines = 0;
    for line in hourly.lines().skip(2) {
        let cells: Vec<&str> = line.split(',').collect();
        let prices = [3, 4, 5, 6, 8, 7].map(|at| number(cells[at]).to_bits());
        expected.insert(("1h".to_owned(), number(cells[0]) as i64), prices);
        lines += 1;
    }
    let minutes = std::fs::read_to_string(ohlcv.join("binance_BTCUSDT_1m_2025-08-01_2025-08-11.csv")).unwrap();
    for line in minutes.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let at = chrono::DateTime::parse_from_str(cells[0], "%Y-%m-%d %H:%M:%S%:z").unwrap().timestamp();
        expected.insert(("1m".to_owned(), at), [1, 2, 3, 4, 7, 5].map(|at| number(cells[at]).to_bits()));
        lines += 1;
    }
    let bars = std::fs::read(ohlcv.join("freqtrade_UNITTEST_BTC-1m_2017-11.json")).unwrap();
    for bar in serde_json::from_slice::<Vec<[f64; 6]>>(&bars).unwrap() {
        let [at, open, high, low, close, base] = bar;
        let bits = [open, high, low, close, f64::NAN, base].map(f64::to_bits);
        expected.insert(("1m".to_owned(), at as i64 / 1000), bits);
        lines += 1;
    }
    let result = db.coinetl(&["import", "--id", "BTC"]).arg(&ohlcv).json(0);
    assert_eq!(counts(&result), [lines, expected.len() as i64, 0, lines - expected.len() as i64, 0]);
    let stored = db.cells(
        "SELECT timeframe, open_time, open, high, low, close, volume, base_volume FROM candles WHERE timeframe <> '1d'",
    );
    let maybe = |cell: &Cell| if matches!(cell, Cell::Null) { nothing } else { bits(cell) };
    let at = |cell: &Cell| {
        chrono::NaiveDateTime::parse_from_str(&text(cell), "%Y-%m-%d %H:%M:%S%.f").unwrap().and_utc().timestamp()
    };
    let stored: BTreeMap<(String, i64), [u64; 6]> = stored
        .iter()
        .map(|row| ((text(&row[0]), at(&row[1])), std::array::from_fn(|column| maybe(&row[column + 2]))))
        .collect();
    assert_same(&stored.into_iter().collect::<Vec<_>>(), &expected.into_iter().collect::<Vec<_>>());
}

/// A source's coin by name and symbol: exactly one, or the candidates.
#[test]
fn a_source_s_coin_is_found_by_name_and_symbol() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let t = "'2026-01-01 00:00:00.000'";
    let coins = [
        ("bitcoin", "btc", "Bitcoin"),
        ("bitcoin-2", "btc", "Bitcoin Two"),
        ("aave", "aave", "Aave"),
        ("aave-2", "AAVE", "Aave"),
    ];
    for (at, (id, symbol, name)) in coins.iter().enumerate() {
        db.execute(&format!(
            "INSERT INTO assets VALUES ({}, 'coingecko', '{id}', '{symbol}', '{name}', TRUE, {t}, {t})",
            at + 1
        ));
    }
    let file = |name: &str, symbol: &str| {
        db.workdir().write("c.csv", &[KAGGLE, &day(name, symbol, "2021-01-01", 3.0)].concat())
    };
    let import = |args: &[&str]| db.coinetl(&["import", "c.csv", "--source", "coingecko"]).args(args);
    file("Bitcoin", "BTC");
    let rehearsed = import(&["--dry-run"]).json(0);
    assert_eq!(rehearsed["files"][0]["asset"], "bitcoin", "{rehearsed}");
    assert_eq!(db.number("SELECT COUNT(*) FROM runs"), 0);
    assert_eq!(counts(&import(&[]).json(0)), [1, 1, 0, 0, 0]);
    file("Aave", "AAVE");
    let several = import(&[]).run().expect(2);
    assert!(
        several.stderr.contains("2 coins") && several.stderr.contains("aave (aave, Aave), aave-2 (AAVE, Aave)"),
        "{several}"
    );
    file("Bitcoin Zero", "BTC");
    let none = import(&[]).run().expect(2);
    assert!(none.stderr.contains("no coin") && none.stderr.contains("bitcoin-2 (btc, Bitcoin Two)"), "{none}");
    file("Nothing", "NONE");
    let nothing = import(&[]).run().expect(2);
    assert!(nothing.stderr.contains("no coin with name \"Nothing\" and symbol \"NONE\""), "{nothing}");
    assert_eq!(counts(&import(&["--id", "aave-2"]).json(0)), [1, 1, 0, 0, 0]);
    assert_eq!(db.lines("SELECT asset_id FROM candles ORDER BY asset_id"), ["1", "4"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 4);
    // Two coins are not one, whatever the id.
    db.workdir().write(
        "two.csv",
        &[KAGGLE, &day("Bitcoin", "BTC", "2021-01-01", 3.0), &day("Aave", "AAVE", "2021-01-01", 3.0)].concat(),
    );
    let two = db.coinetl(&["import", "two.csv", "--id", "x"]).run().expect(2);
    assert!(two.stderr.contains("the files name 2: AAVE, BTC"), "{two}");
    assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 2);
}

/// A rehearsal needs no database, and tells what an import would do.
#[test]
fn a_rehearsal_writes_nothing() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    let dir = db.workdir();
    let good = [KAGGLE, &day("Bitcoin", "BTC", "2021-01-01", 3.0), &day("Bitcoin", "BTC", "2021-01-02", 3.0), "1,2\n"]
        .concat();
    dir.write("good.csv", &good);
    dir.write("bad.csv", "date,weather\n");
    let result = db.coinetl(&["import", "good.csv", "bad.csv", "--dry-run"]).json(3);
    assert_eq!(counts(&result), [3, 0, 0, 2, 1]);
    let file = &result["files"][0];
    let told =
        ["layout", "asset", "vs_currency", "timeframe", "first", "last"].map(|name| file[name].as_str().unwrap_or("?"));
    assert_eq!(told, ["kaggle", "Bitcoin", "usd", "1d", "2021-01-01T00:00:00.000Z", "2021-01-02T00:00:00.000Z"]);
    assert_eq!((&file["rows"], &file["rejected"]), (&2.into(), &1.into()));
    assert!(result["files"][1]["error"].as_str().is_some_and(|error| error.contains("CryptoDataDownload")), "{result}");
    let text = db.coinetl(&["import", "good.csv", "--dry-run"]).run().expect(3);
    assert!(text.stdout.contains("good.csv: kaggle, 2 rows of archive Bitcoin in usd, 1d, 2021-01-01"), "{text}");
    assert!(!dir.file("it.db").exists());
}

#[test]
fn arguments_that_can_t_be_meant_are_refused() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    let older = db.workdir().write("x.csv", KAGGLE);
    db.coinetl(&["import"]).run().expect(2);
    let missing = db.coinetl(&["import", "nowhere.csv"]).run().expect(2);
    assert!(missing.stderr.contains("nowhere.csv can't be read: No such file"), "{missing}");
    db.coinetl(&["import", "x.csv", "--vs", ""]).run().expect(2);
    db.coinetl(&["import", "x.csv", "--id", ""]).run().expect(2);
    std::fs::create_dir(db.workdir().file("empty")).unwrap();
    db.coinetl(&["import", "empty"]).run().expect(2);
    db.coinetl(&["import"]).arg(older).run().expect(78);
    let plan = db.coinetl(&["plan", "import", "x.csv"]);
    db.setup();
    assert_eq!(plan.json(0)["calls_per_month"], 0);
}
