//! The REST API over data that the real commands stored, through the real server: what it answers is held
//! against what the database itself tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coinetl::db::coins;
use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::test_db::{TestDb, bits};

on_every_database!(
    a_day_is_what_the_stored_candles_and_prices_say,
    every_list_is_walked_once_and_bit_for_bit,
    a_run_of_another_process_is_seen_within_a_second
);

const KAGGLE: &str = "SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n";

/// The day of 2021-10-01 and `n` more.
fn date(n: u64) -> String {
    (chrono::NaiveDate::from_ymd_opt(2021, 10, 1).unwrap() + chrono::Days::new(n)).to_string()
}

/// A coin's daily bars in Kaggle's layout, from one day to another, with closes that no two coins share.
fn bars(name: &str, symbol: &str, days: impl Iterator<Item = u64>) -> String {
    // No two names come to the same.
    let seed = name.bytes().zip(1..).map(|(byte, at)| f64::from(byte) * f64::from(at)).sum::<f64>() / 97.0;
    let mut csv = KAGGLE.to_owned();
    for n in days {
        let close = seed * 1000.0 / 3.0 + (n as f64 * 0.7 + seed).sin() * seed;
        let (high, low) = (close * 1.1, close * 0.9);
        csv += &format!(
            "{n},{name},{symbol},{} 23:59:59,{high},{low},{close},{close},{},{}\n",
            date(n),
            n as f64 / 3.0,
            close * 7.0
        );
    }
    csv
}

/// Forty days that end with 2021-11-09: coins of whole and of short histories, one that is known by prices
/// alone, two of one symbol, and one whose prices go on where its candles end.
fn store(db: &TestDb) {
    let dir = db.workdir();
    dir.write("bitcoin.csv", &bars("Bitcoin", "btc", 0..40));
    dir.write("aave.csv", &bars("Aave", "AAVE", 35..40));
    dir.write("gone.csv", &bars("Gone", "GON", 0..37));
    dir.write("odd.csv", &bars("Ödd Coin", "ÖDD", (0..40).filter(|n| *n != 38 && *n != 32)));
    dir.write("one.csv", &bars("Dup One", "DUP", 0..40));
    dir.write("two.csv", &bars("Duplicate", "dup", 0..40));
    let files = ["bitcoin.csv", "aave.csv", "gone.csv", "odd.csv", "one.csv", "two.csv"];
    db.coinetl(&["import"]).args(files).json(0);
    let head = "snapped_at,price,market_cap,total_volume\n";
    let points = |rows: &[&str]| rows.iter().fold(head.to_owned(), |csv, row| csv + row + "\n");
    let loose = points(&[
        "2021-10-10 23:59:59 UTC,0.0000000000000000058,,",
        "2021-11-02 00:00:00 UTC,0.1,5,6",
        "2021-11-02 23:59:59.999 UTC,0.3,,",
        "2021-11-08 12:00:00 UTC,0.7,7,8",
        "2021-11-09 01:00:00 UTC,0.9,9,10",
        "2021-11-09 02:00:00 UTC,1.1,,11",
    ]);
    dir.write("loose.csv", &loose);
    db.coinetl(&["import", "loose.csv", "--id", "loose"]).json(0);
    // What is told beside a candle, and behind the last one.
    dir.write("told.csv", &points(&["2021-11-09 10:00:00 UTC,5,1234567.5,7654321.5"]));
    db.coinetl(&["import", "told.csv", "--id", "Bitcoin"]).json(0);
    dir.write("behind.csv", &points(&["2021-11-08 10:00:00 UTC,5,6,7", "2021-11-09 10:00:00 UTC,5.5,6,7"]));
    db.coinetl(&["import", "behind.csv", "--id", "Gone"]).json(0);
}

/// So many more coins, some of which have no bar on days that matter.
fn store_many(db: &TestDb, coins: u64) {
    let mut csv = KAGGLE.to_owned();
    for n in 0..coins {
        let days = [9, 32, 38, 39].into_iter().filter(|day| (n + day) % 5 != 0);
        csv += bars(&format!("Many {n}"), &format!("M{n}"), days).strip_prefix(KAGGLE).unwrap();
    }
    db.workdir().write("many.csv", &csv);
    db.coinetl(&["import", "many.csv"]).json(0);
}

type Told = (String, [Option<f64>; 3]);

/// What a day's rows must be, by the words of the contract and nothing of the program.
struct Expected {
    /// By coin and day: close, volume, market cap.
    candles: BTreeMap<(String, String), [Option<f64>; 3]>,
    /// By coin, in the order of time: time, price, volume, market cap.
    prices: BTreeMap<String, Vec<Told>>,
}

impl Expected {
    fn of(db: &TestDb) -> Expected {
        let number = |cell: &Option<String>| cell.as_ref().map(|text| text.parse::<f64>().unwrap());
        let candles = db.query(
            "SELECT a.source_id, c.open_time, c.close, c.volume, c.market_cap FROM candles c \
             JOIN assets a ON a.id = c.asset_id WHERE c.timeframe = '1d' AND c.vs_currency = 'usd'",
        );
        let candles = candles.into_iter().map(|row| {
            let key = (row[0].clone().unwrap(), row[1].as_ref().unwrap()[..10].to_owned());
            (key, [number(&row[2]), number(&row[3]), number(&row[4])])
        });
        let mut prices: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for row in db.query(
            "SELECT a.source_id, p.observed_at, p.price, p.volume_24h, p.market_cap FROM prices p \
             JOIN assets a ON a.id = p.asset_id WHERE p.vs_currency = 'usd' ORDER BY p.observed_at",
        ) {
            let of = prices.entry(row[0].clone().unwrap()).or_default();
            of.push((row[1].clone().unwrap(), [number(&row[2]), number(&row[3]), number(&row[4])]));
        }
        Expected { candles: candles.collect(), prices }
    }

    fn told(&self, coin: &str, day: &str, column: usize) -> Option<f64> {
        let of_day = self.prices.get(coin)?.iter().filter(|(at, _)| at.starts_with(day));
        of_day.filter_map(|(_, values)| values[column]).next_back()
    }

    fn price(&self, coin: &str, day: &str) -> Option<f64> {
        let close = self.candles.get(&(coin.to_owned(), day.to_owned())).and_then(|candle| candle[0]);
        close.or_else(|| self.told(coin, day, 0))
    }

    /// price, 24h, 7d, 1m, 24h-volume, market_cap
    fn row(&self, coin: &str, day: &str) -> Option<[Option<f64>; 6]> {
        let price = self.price(coin, day)?;
        let date: chrono::NaiveDate = day.parse().unwrap();
        let change = |days: u64| {
            let then = self.price(coin, &(date - chrono::Days::new(days)).to_string())?;
            Some((price / then - 1.0) * 100.0)
        };
        let of_candle = |column| self.candles.get(&(coin.to_owned(), day.to_owned())).and_then(|c| c[column]);
        let volume = self.told(coin, day, 1).or(of_candle(1));
        let cap = self.told(coin, day, 2).or(of_candle(2));
        Some([Some(price), change(1), change(7), change(30), volume, cap])
    }
}

const COLUMNS: [&str; 6] = ["price", "24h", "7d", "1m", "24h-volume", "market_cap"];

fn rows(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).clone()
}

fn texts(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].as_str().unwrap_or_else(|| panic!("{name}: {row}")).to_owned()).collect()
}

#[track_caller]
fn is_near(one: Option<f64>, other: Option<f64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * one.abs().max(1.0),
        (one, other) => one == other,
    }
}

#[track_caller]
fn json_of(server: &Server, path: &str) -> Value {
    let reply = server.get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

fn a_day_is_what_the_stored_candles_and_prices_say(db: &TestDb) {
    store(db);
    let some = db.lines("SELECT source_id FROM assets ORDER BY id");
    // More than are looked up one by one.
    store_many(db, 320);
    let expected = Expected::of(db);
    let coins = db.lines("SELECT source_id FROM assets ORDER BY id");
    let server = Server::start(db, &[]);
    // Both ways to the rows: of all coins, and of named ones; and all days, also such that have nothing.
    for n in [0, 1, 9, 30, 36, 37, 38, 39, 40] {
        let day = date(n);
        for id in [None, Some("bitcoin,AAVE,gone,%C3%B6dd%20coin,Dup%20One,duplicate,LOOSE,nobody")] {
            let named = id.map_or(String::new(), |id| format!("&id={id}"));
            let path = format!("/dashboard?date={day}{named}");
            let asked = if id.is_some() { &some } else { &coins };
            let of_day: BTreeMap<&str, _> =
                asked.iter().filter_map(|coin| Some((coin.as_str(), expected.row(coin, &day)?))).collect();
            let reply = server.get(&path);
            if of_day.is_empty() {
                assert_eq!((reply.status, reply.body.len()), (204, 0), "{path}");
                continue;
            }
            let got = rows(&reply.json());
            assert_eq!(got.len(), of_day.len(), "{path}: {got:?}");
            for row in &got {
                let wanted = of_day.get(row["id"].as_str().unwrap()).unwrap_or_else(|| panic!("{path}: {row}"));
                for (name, wanted) in COLUMNS.iter().zip(wanted) {
                    assert!(row.get(name).is_some(), "{name} is not there: {row}");
                    assert!(is_near(row[name].as_f64(), *wanted), "{path}, {name}: {row} is not {wanted:?}");
                }
                // Not only near.
                let exact = |name: &str| row[name].as_f64().map(bits);
                assert_eq!(exact("price"), wanted[0].map(bits), "{path}: {row}");
                assert_eq!((exact("24h-volume"), exact("market_cap")), (wanted[4].map(bits), wanted[5].map(bits)));
                assert_eq!(row["source"], "archive");
            }
        }
    }
    // The newest day is the default, and a day without zeros is one.
    let newest = server.get("/dashboard").text();
    assert_eq!(server.get("/dashboard?date=2021-11-9").text(), newest);
    assert_eq!(server.get("/dashboard?date=2021-11-09&id=ALL&vs=USD&source=archive").text(), newest);
    let newest = rows(&json_of(&server, "/dashboard"));
    assert_eq!(texts(&newest, "symbol").iter().filter(|symbol| *symbol == "DUP").count(), 2);
    assert!(texts(&newest, "symbol").contains(&"BTC".to_owned()));
    let at = |name: &str| newest.iter().find(|row| row["id"] == name).unwrap()["as_of"].clone();
    // A close is as old as the end of its day; a price as itself.
    assert_eq!(
        [at("Bitcoin"), at("loose"), at("Gone")].map(|at| at.as_str().unwrap().to_owned()),
        ["2021-11-10T00:00:00.000Z", "2021-11-09T02:00:00.000Z", "2021-11-09T10:00:00.000Z",]
    );
    // Of a coin whose history ended the newest day is its own.
    db_day(&server, "/dashboard?id=aave", "2021-11-10T00:00:00.000Z");

    // Every order, both ways: by name the bytes decide; what has no number comes last both ways.
    for (name, column) in COLUMNS.iter().chain(&["crypto"]).zip((0..6).map(Some).chain([None])) {
        for direction in ["asc", "desc"] {
            let got =
                rows(&json_of(&server, &format!("/dashboard?order_by={name}&order_type={direction}&date=2021-11-09")));
            let mut wanted: Vec<(Option<f64>, &str)> = coins
                .iter()
                .filter_map(|coin| Some((expected.row(coin, "2021-11-09")?, coin.as_str())))
                .map(|(row, coin)| (column.and_then(|at| row[at]), coin))
                .collect();
            let sign = if direction == "asc" { 1.0 } else { -1.0 };
            match column {
                Some(_) => wanted.sort_by(|a, b| {
                    let key = |value: Option<f64>| value.map_or(f64::INFINITY, |value| value * sign);
                    key(a.0).total_cmp(&key(b.0))
                }),
                None => {
                    wanted.sort_by_key(|(_, coin)| *coin);
                    if direction == "desc" {
                        wanted.reverse();
                    }
                }
            }
            let wanted: Vec<&str> = wanted.into_iter().map(|(_, coin)| coin).collect();
            assert_eq!(texts(&got, "id"), wanted, "{name} {direction}");
        }
    }
    let first = rows(&json_of(&server, "/dashboard?order_by=market_cap&limit=2"));
    assert_eq!(first.len(), 2);

    // Names.
    let btc = json_of(&server, "/search?name=bTc");
    assert_eq!(
        (&btc["name"], &btc["symbol"], &btc["id"], &btc["source"], &btc["also"]),
        (&"Bitcoin".into(), &"BTC".into(), &"Bitcoin".into(), &"archive".into(), &json!([]))
    );
    assert_eq!(json_of(&server, "/search?name=%C3%96DD+cOIN")["symbol"], "ÖDD");
    assert_eq!(server.get("/search?name=nobody").status, 204);
    for path in ["/search?name=dup", "/dashboard?id=btc,DUP", "/candles?id=dup", "/prices?id=dup", "/gaps?id=dup"] {
        let reply = server.get(path);
        reply.assert_error(400, "ambiguous");
        let candidates = rows(&reply.json()["candidates"]);
        assert_eq!(texts(&candidates, "id"), ["Dup One", "Duplicate"], "{path}");
        assert_eq!(candidates[0]["symbol"], "DUP");
    }
    assert_eq!(server.get("/dashboard?id=nobody,neither").status, 204);
    assert_eq!(server.get("/dashboard?vs=eur").status, 204);
    assert_eq!(server.get("/dashboard?source=nobody").status, 204);
    assert_eq!(server.stop().0, Some(0));

    // The best rank decides once there is one; the others are told.
    let run = db.number("SELECT MAX(id) FROM runs");
    let id = |name: &str| db.number(&format!("SELECT id FROM assets WHERE source_id = '{name}'"));
    for (coin, at, rank) in
        [("Dup One", 1, "900"), ("Dup One", 2, "NULL"), ("Duplicate", 1, "3"), ("Duplicate", 3, "950")]
    {
        db.execute(&format!(
            "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap_rank, run_id) \
             VALUES ({}, 'xau', '2021-11-0{at} 00:00:00.000', 1, {rank}, {run})",
            id(coin)
        ));
    }
    for (at, currency, rate) in [
        ("2021-11-08 23:59:59.999", "eur", 0.8),
        ("2021-11-09 02:00:00.001", "eur", 0.9),
        ("2021-11-08 02:00:00.000", "gbp", 0.5),
        ("2021-11-08 01:59:59.999", "chf", 0.5),
    ] {
        db.execute(&format!("INSERT INTO fx_rates VALUES ('archive', '{currency}', '{at}', {rate})"));
    }
    // Another source is further.
    db.execute("INSERT INTO assets VALUES (9000, 'other', 'x', 'x', 'X', TRUE, '2022-01-01 00:00:00.000', '2022-01-01 00:00:00.000')");
    db.execute(&format!(
        "INSERT INTO candles VALUES (9000, 'usd', '1d', '2022-01-01 00:00:00.000', 1, 1, 1, 1, 1, 1, 1, NULL, 'source', TRUE, {run})"
    ));
    let server = Server::start(db, &[]);
    let of_archive = rows(&json_of(&server, "/dashboard?source=archive"));
    assert!(of_archive.len() > 200 && of_archive.iter().all(|row| row["source"] == "archive"));
    assert_eq!(texts(&rows(&json_of(&server, "/dashboard?source=other")), "id"), ["x"]);
    let found = json_of(&server, "/search?name=dup&source=archive");
    assert_eq!(
        (&found["id"], &found["market_cap_rank"], &found["also"][0]["id"]),
        (&"Dup One".into(), &900.into(), &"Duplicate".into())
    );
    let row = rows(&json_of(&server, "/dashboard?id=dup&source=archive"));
    assert_eq!((row.len(), &row[0]["id"], &row[0]["also"][0]["id"]), (1, &"Dup One".into(), &"Duplicate".into()));

    // A rank from before the last day of a coin is none any more, and an active coin comes before a ranked one.
    let found = || {
        let conn = &mut db.open().conn;
        let known = coins::Coins::load(conn, "archive").unwrap();
        match coins::meant(conn, &known, "dup", true).unwrap() {
            coins::Meant::This { coin, rank, .. } => (coin.source_id, rank),
            other => panic!("{other:?}"),
        }
    };
    db.execute("UPDATE assets SET active = FALSE WHERE source_id = 'Dup One'");
    assert_eq!(found(), ("Duplicate".to_owned(), Some(950)));
    db.execute("UPDATE prices SET market_cap_rank = NULL WHERE market_cap_rank = 950");
    assert_eq!(found(), ("Duplicate".to_owned(), None));
    db.execute("UPDATE assets SET active = TRUE WHERE source_id = 'Dup One'");
    assert_eq!(found(), ("Dup One".to_owned(), Some(900)));
    // Nor does one of weeks ago come before the other's of today.
    db.execute(&format!(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap_rank, run_id) \
         VALUES ({}, 'xau', '2021-11-20 00:00:00.000', 1, 950, {run})",
        id("Duplicate")
    ));
    assert_eq!(found(), ("Duplicate".to_owned(), Some(950)));

    // Another currency: the newest rate before the price, and none that is more than a day older.
    let rate = |path: &str| {
        let row = rows(&json_of(&server, path)).remove(0);
        (row["price"].as_f64(), row["24h"].as_f64(), row["rate_time"].clone())
    };
    let (price, change, time) = rate("/dashboard?id=loose&in=EUR&source=archive");
    assert_eq!((price, time), (Some(1.1 * 0.8), "2021-11-08T23:59:59.999Z".into()));
    // The day before there was no rate yet.
    assert_eq!(change, None);
    assert_eq!(rate("/dashboard?id=loose&in=gbp&source=archive").0, Some(1.1 * 0.5));
    assert_eq!(rate("/dashboard?id=loose&in=chf&source=archive"), (None, None, Value::Null));
    assert_eq!(rate("/dashboard?id=loose&in=usd&source=archive").0, Some(1.1));
    let prices = json_of(&server, "/prices?id=loose&in=eur&limit=2&source=archive");
    let told = |row: &Value| {
        (row["price"].as_f64(), row["volume_24h"].as_f64(), row["rate"].as_f64(), row["in_currency"].clone())
    };
    assert_eq!(told(&prices["data"][0]), (Some(1.1 * 0.8), Some(11.0 * 0.8), Some(0.8), "eur".into()));
    let candle = json_of(&server, "/candles?id=bitcoin&in=eur&limit=1&source=archive")["data"][0].clone();
    assert_eq!((candle["rate"].as_f64(), &candle["rate_time"]), (Some(0.8), &"2021-11-08T23:59:59.999Z".into()));
    assert_eq!(server.stop().0, Some(0));
}

#[track_caller]
fn db_day(server: &Server, path: &str, as_of: &str) {
    let reply = server.get(path);
    assert_eq!(reply.header("x-coinetl-as-of"), Some(as_of), "{path}");
}

/// Every page of a list, and the rows of all.
fn walk(server: &Server, path: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    let join = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = json_of(server, &format!("{path}{join}limit={limit}{cursor}"));
        let data = rows(&page["data"]);
        assert!(data.len() <= limit, "{path}");
        assert!(page["sources"].is_array() && page.get("as_of").is_some() && page["final"].is_boolean(), "{page}");
        all.extend(data);
        assert!(all.len() < 10_000, "{path} has no end");
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// A row's values as texts: times as the database writes them, doubles by their bits.
fn cells(row: &Value, names: &[&str]) -> String {
    let cell = |name: &&str| match &row[*name] {
        Value::Null => "NULL".to_owned(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        Value::Number(number) if number.is_f64() => bits(number.as_f64().unwrap()),
        Value::String(text) if text.ends_with('Z') && text.len() >= 24 => text.replace('T', " ").replace('Z', ""),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    names.iter().map(cell).collect::<Vec<_>>().join("|")
}

fn stored(db: &TestDb, sql: &str) -> Vec<String> {
    let shown = |cell: crate::support::test_db::Cell| match cell {
        crate::support::test_db::Cell::Null => "NULL".to_owned(),
        crate::support::test_db::Cell::Int(number) => number.to_string(),
        crate::support::test_db::Cell::Double(number) => bits(number),
        crate::support::test_db::Cell::Text(text) => text,
    };
    db.cells(sql).into_iter().map(|row| row.into_iter().map(shown).collect::<Vec<_>>().join("|")).collect()
}

fn every_list_is_walked_once_and_bit_for_bit(db: &TestDb) {
    store(db);
    // Gaps are looked for twenty coins at a time.
    store_many(db, 25);
    // Numbers as hard as real ones, and quotes, which only a broker brings otherwise.
    let run = db.number("SELECT MAX(id) FROM runs");
    let loose = db.number("SELECT id FROM assets WHERE source_id = 'loose'");
    for (n, price) in ["5.8e-21", "1.2e59", "0.1", "1e-308", "1.7976931348623157e308", "0", "NULL"].iter().enumerate() {
        db.execute(&format!(
            "INSERT INTO prices (asset_id, vs_currency, observed_at, price, market_cap_rank, run_id) \
             VALUES ({loose}, 'usd', '2021-12-01 00:00:00.00{n}', {price}, 7, {run})"
        ));
    }
    for n in 0..23 {
        let second = format!("2021-12-01 00:00:{:02}.00{:04}", n, n);
        let pair = if n % 3 == 2 { "ETH-USD" } else { "BTC-USD" };
        db.execute(&format!(
            "INSERT INTO crypto_metrics VALUES ('coinbase', '{pair}', {n}, '{second}', 0.1, 0.3, 0.2, 0.2, 0.7, 0.01, 1e-9, 's')"
        ));
        if n < 10 {
            db.execute(&format!(
                "INSERT INTO quote_windows VALUES ('coinbase', 'BTC-USD', '1m', '2021-12-01 00:0{n}:00.000000', {n}, 1, 2, 0.1, 3, 4, 5, 6, 7)"
            ));
        }
    }
    let server = Server::start(db, &[]);
    let check = |path: &str, names: &[&str], sql: &str| {
        let wanted = stored(db, sql);
        assert!(!wanted.is_empty(), "{sql}");
        for limit in [1, 7, wanted.len(), 1000] {
            let got: Vec<String> = walk(&server, path, limit).iter().map(|row| cells(row, names)).collect();
            assert!(got == wanted, "{path}, {limit} a page:\n{}\n\n{}", got.join("\n"), wanted.join("\n"));
        }
    };
    check(
        "/prices?id=loose&order=asc",
        &["observed_at", "price", "volume_24h", "market_cap", "market_cap_rank", "change_24h"],
        &format!(
            "SELECT observed_at, price, volume_24h, market_cap, market_cap_rank, change_24h FROM prices WHERE asset_id = {loose} ORDER BY observed_at"
        ),
    );
    check(
        "/prices",
        &["id", "observed_at", "price"],
        "SELECT source_id, observed_at, price FROM latest_prices WHERE vs_currency = 'usd' ORDER BY asset_id",
    );
    let candles = "SELECT open_time, open, high, low, close, volume, base_volume, market_cap, samples, origin, final \
                   FROM candles c JOIN assets a ON a.id = c.asset_id WHERE a.source_id = 'Bitcoin'";
    let names = [
        "open_time",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "base_volume",
        "market_cap",
        "samples",
        "origin",
        "final",
    ];
    check("/candles?id=btc", &names, &format!("{candles} ORDER BY open_time DESC"));
    check(
        "/candles?id=btc&from=2021-10-05&to=2021-10-09T00:00:00.001%2B00:00&order=asc&timeframe=1d",
        &names,
        &format!(
            "{candles} AND open_time >= '2021-10-05 00:00:00.000' AND open_time <= '2021-10-09 00:00:00.000' ORDER BY open_time"
        ),
    );
    check(
        "/assets",
        &["source", "id", "name", "active"],
        "SELECT source, source_id, COALESCE(NULLIF(name, ''), source_id), active FROM assets ORDER BY id",
    );
    let quotes = "SELECT sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session \
                  FROM crypto_metrics WHERE pair = 'BTC-USD'";
    let names = [
        "sequence",
        "observed_at",
        "bid",
        "ask",
        "mid_price",
        "spread",
        "highest_bid",
        "lowest_ask",
        "max_spread",
        "session",
    ];
    let as_stored = |sql: String| sql.replace("observed_at,", &micros(db, "observed_at"));
    check("/quotes?pair=BTC-USD", &names, &as_stored(format!("{quotes} ORDER BY sequence DESC")));
    check("/quotes?pair=BTC-USD&order=asc", &names, &as_stored(format!("{quotes} ORDER BY sequence")));
    check(
        "/quotes?pair=BTC-USD&window=1m&from=2021-12-01T00:02:00Z&order=asc",
        &["quotes", "open_mid", "low_mid", "max_spread"],
        "SELECT quotes, open_mid, low_mid, max_spread FROM quote_windows WHERE quotes >= 2 ORDER BY quotes",
    );
    let runs = [
        "id",
        "command",
        "source",
        "status",
        "started_at",
        "finished_at",
        "calls",
        "rows_read",
        "rows_written",
        "error",
    ];
    check(
        "/runs",
        &runs,
        "SELECT id, command, source, status, started_at, finished_at, calls, rows_read, rows_written, error FROM runs ORDER BY id DESC",
    );
    check(
        "/runs?command=import&status=ok&source=archive&order=asc",
        &["id"],
        "SELECT id FROM runs WHERE command = 'import' ORDER BY id",
    );
    // Gaps as the command tells them.
    let told = db
        .coinetl(&["--source", "archive", "gaps", "--timeframe", "1d", "--from", "2021-10-01", "--to", "2021-11-10"])
        .json(3);
    let wanted: Vec<Value> = rows(&told["gaps"]).into_iter().filter(|gap| gap["state"] != "full").collect();
    assert!(wanted.len() > 4, "{told}");
    for limit in [1, 2, 1000] {
        assert_eq!(walk(&server, "/gaps?timeframe=1d&from=2021-10-01&to=2021-11-10", limit), wanted, "{limit}");
    }
    let full: Vec<Value> = rows(&told["gaps"]).into_iter().filter(|gap| gap["state"] == "full").collect();
    assert_eq!(walk(&server, "/gaps?timeframe=1d&from=2021-10-01&to=2021-11-10&state=full", 3), full);

    // Where nothing is, a page is empty and the last.
    for path in [
        "/prices?id=nobody",
        "/prices?id=btc&from=2200-01-01",
        "/candles?id=btc&to=1900-01-01",
        "/candles?id=btc&timeframe=5m",
        "/quotes?pair=%27%3B%20DROP%20TABLE%20runs",
        "/runs?source=nobody",
        "/assets?source=nobody",
        "/assets?active=false",
        "/gaps?id=nobody",
        "/prices?vs=eur",
        "/gaps?timeframe=1d&from=2200-01-01",
    ] {
        let page = json_of(&server, path);
        assert_eq!((&page["data"], &page["next"]), (&json!([]), &Value::Null), "{path}");
    }
    assert_eq!(server.stop().0, Some(0));
}

/// A column of microseconds as text.
fn micros(db: &TestDb, column: &str) -> String {
    use crate::support::test_db::Backend;
    match db.backend() {
        Backend::Sqlite => format!("{column},"),
        Backend::Mysql => format!("CAST({column} AS CHAR) AS {column},"),
        Backend::Postgres => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US') AS {column},"),
    }
}

fn a_run_of_another_process_is_seen_within_a_second(db: &TestDb) {
    store(db);
    let server = Server::start(db, &[]);
    let ask = || {
        (
            server.get("/dashboard").header("etag").unwrap().to_owned(),
            json_of(&server, "/assets")["data"].as_array().unwrap().len(),
        )
    };
    let before = ask();
    assert_eq!(ask(), before);
    db.workdir().write("new.csv", &bars("Newcomer", "NEW", 0..41));
    db.coinetl(&["import", "new.csv"]).json(0);
    let ended = Instant::now();
    while ask() == before {
        assert!(ended.elapsed() < Duration::from_secs(1), "a run that ended is not seen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = ended.elapsed();
    assert!(seen < Duration::from_millis(1_500), "{seen:?}");
    let newest = rows(&json_of(&server, "/dashboard"));
    assert_eq!(texts(&newest, "id"), ["Newcomer"], "a day is newer now");
    let symbols: BTreeSet<String> = texts(&rows(&json_of(&server, "/assets")["data"]), "symbol").into_iter().collect();
    assert!(symbols.contains("NEW"));
    assert_eq!(server.stop().0, Some(0));
}
