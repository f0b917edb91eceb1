//! `export`: what is in the files is what is in the table, whatever happened on the way there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coinetl::db::Session;
use coinetl::db::prices::{self, PriceRow};
use coinetl::db::runs::Status;
use coinetl::domain::{Column, Cost, Figures, Stamp};
use parquet::basic::{Compression, Repetition};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::kafka::Topic;
use crate::support::test_db::{Backend, Cell, TestDb, assert_same};
use crate::support::workdir::{Workdir, wait_until};

on_every_database!(
    every_price_is_in_the_files_bit_for_bit,
    candles_are_in_the_files,
    quotes_and_their_windows_are_in_the_files,
    days_are_folders,
    since_last_neither_loses_nor_doubles_whenever_runs_end,
    since_last_knows_quotes_that_came_late,
    killed_anywhere_the_next_export_is_whole,
    what_is_written_meanwhile_is_not_in_it,
    amounts_are_converted_by_the_rate_of_their_time,
    only_what_is_asked_for,
    a_stream_that_ends_leaves_files,
);

const NUMBERS: [f64; 8] = [-0.0, 5e-324, 1e59, 0.1 + 0.2, 17.0, f64::MAX, -1.5, 64_039.25];
const NAMES: [&str; 8] =
    ["bitcoin", "comma,d", "say \"hi\"", "two\nlines\r\n", "₿itcoin 😀", " trailing ", "Ünïcödé", "a'b;c\\d"];

// ---- what is in the database -----------------------------------------------------------------------------

pub fn asset(db: &TestDb, id: i64, source: &str, source_id: &str, symbol: &str) {
    let quoted = |text: &str| {
        let text = if db.backend() == Backend::Mysql { text.replace('\\', "\\\\") } else { text.to_owned() };
        text.replace('\'', "''")
    };
    db.execute(&format!(
        "INSERT INTO assets VALUES ({id}, '{source}', '{}', '{}', 'n', TRUE, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000')",
        quoted(source_id),
        quoted(symbol)
    ));
}

fn price(asset_id: i64, vs: &str, at: &str, figures: &[(Column, Option<f64>)]) -> PriceRow {
    let mut held = Figures::default();
    for (column, value) in figures {
        held.set(*column, *value).unwrap();
    }
    PriceRow { asset_id, vs_currency: vs.into(), observed_at: Stamp::parse(at).unwrap(), figures: held }
}

/// A run of its own, which goes on until it is told to end.
fn run(db: &TestDb, source: &str) -> Session {
    Session::begin(db.open(), "prices insert", source, Duration::ZERO).unwrap()
}

fn store(session: &mut Session, rows: &[PriceRow]) {
    session.batch(|batch| prices::upsert(batch, &mut rows.to_vec())).unwrap();
}

fn end(mut session: Session) {
    session.finish(Status::Ok, None, Cost::default()).unwrap();
}

/// Prices with everything in them that is hard to write.
pub fn odd_prices(db: &TestDb) {
    let mut rows = Vec::new();
    for (n, name) in NAMES.iter().enumerate() {
        // The order of the ids is not that of the names.
        let id = 100 - n as i64;
        asset(db, id, ["coingecko", "archive"][n % 2], name, NAMES[(n + 3) % 8]);
        for (m, number) in NUMBERS.iter().enumerate() {
            let other = NUMBERS[(m + n) % 8];
            rows.push(price(
                id,
                ["usd", "eur", "btc"][m % 3],
                &format!("2026-05-{:02}T08:47:57.58{n}Z", 10 + m),
                &[
                    (Column::Price, (m != n).then_some(*number)),
                    (Column::Volume24h, Some(other)),
                    (Column::MarketCap, (m % 2 == 0).then_some(other)),
                    (Column::MarketCapRank, (m % 3 > 0).then_some((m * 7) as f64)),
                    (Column::Change7d, Some(-other)),
                ],
            ));
        }
    }
    let mut session = run(db, "coingecko");
    store(&mut session, &rows);
    end(session);
}

/// The table as the database's own client reads it, in the order that is promised.
fn table(db: &TestDb, columns: &str, times: &[&str], from: &str, order: usize) -> Vec<Vec<Cell>> {
    let shown: Vec<String> = columns
        .split(", ")
        .map(|column| match (times.contains(&column), db.backend()) {
            (true, Backend::Mysql) => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
            (true, Backend::Postgres) => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            _ => column.to_owned(),
        })
        .collect();
    let mut rows = db.cells(&format!("SELECT {} FROM {from}", shown.join(", ")));
    for row in &mut rows {
        for (at, column) in columns.split(", ").enumerate() {
            // Milliseconds and microseconds alike, with six digits.
            if let (true, Cell::Text(text)) = (times.contains(&column), &mut row[at]) {
                *text = format!("{text:0<26}");
            }
        }
    }
    rows.sort_by_key(|row| row[..order].iter().map(sortable).collect::<Vec<_>>());
    rows
}

fn sortable(cell: &Cell) -> (Vec<u8>, i64) {
    match cell {
        Cell::Text(text) => (text.clone().into_bytes(), 0),
        Cell::Int(number) => (Vec::new(), *number),
        other => panic!("{other:?} is no key"),
    }
}

const PRICES: &str = "source, source_id, symbol, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, \
                      circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d";

pub fn stored_prices(db: &TestDb) -> Vec<Vec<Cell>> {
    let mut rows = table(db, PRICES, &["observed_at"], "prices p JOIN assets a ON a.id = p.asset_id", 5);
    // The symbol is no key, and was in the way of one.
    rows.sort_by_key(|row| [0, 1, 3, 4].map(|at| sortable(&row[at])));
    rows
}

// ---- what is in the files --------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Int,
    Double,
    Bool,
    Time,
}

/// The kinds of columns by their names: independent of what the program thinks they are.
fn kind(name: &str) -> Kind {
    match name {
        "source" | "source_id" | "symbol" | "vs_currency" | "timeframe" | "origin" | "pair" | "session"
        | "in_currency" => Kind::Text,
        "observed_at" | "open_time" | "window_start" | "rate_time" => Kind::Time,
        "market_cap_rank" | "samples" | "sequence" | "quotes" => Kind::Int,
        "final" => Kind::Bool,
        _ => Kind::Double,
    }
}

/// Records of CSV by RFC 4180; `None` for an empty cell without quotes.
fn records(text: &str) -> Vec<Vec<Option<String>>> {
    let (mut records, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if cell.is_empty() && !quoted => {
                quoted = true;
                loop {
                    match chars.next().expect("a closing quote") {
                        '"' if chars.peek() == Some(&'"') => cell.push(chars.next().unwrap()),
                        '"' => break,
                        char => cell.push(char),
                    }
                }
            }
            ',' | '\n' => {
                let empty = cell.is_empty() && !quoted;
                record.push((!empty).then(|| std::mem::take(&mut cell)));
                quoted = false;
                if char == '\n' {
                    records.push(std::mem::take(&mut record));
                }
            }
            char => {
                assert!(!quoted && char != '\r' && char != '"', "{char:?} behind {cell:?}");
                cell.push(char);
            }
        }
    }
    assert!(record.is_empty() && cell.is_empty(), "the last line is ended");
    records
}

fn csv_rows(path: &Path) -> (Vec<String>, Vec<Vec<Cell>>) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let mut records = records(&text).into_iter();
    let names: Vec<String> = records.next().unwrap().into_iter().map(|name| name.unwrap()).collect();
    let rows = records.map(|record| {
        assert_eq!(record.len(), names.len());
        let cells = record.into_iter().zip(&names).map(|(cell, name)| match (cell, kind(name)) {
            (None, _) => Cell::Null,
            (Some(text), Kind::Text) => Cell::Text(text),
            (Some(text), Kind::Int) => Cell::Int(text.parse().unwrap()),
            (Some(text), Kind::Double) => Cell::Double(text.parse().unwrap()),
            (Some(text), Kind::Bool) => Cell::Int(i64::from(text.parse::<bool>().unwrap())),
            (Some(text), Kind::Time) => {
                assert!(text.ends_with('Z') && text.as_bytes()[10] == b'T' && matches!(text.len(), 24 | 27), "{text}");
                Cell::Text(format!("{:0<26}", text.trim_end_matches('Z').replace('T', " ")))
            }
        });
        cells.collect()
    });
    let rows = rows.collect();
    (names, rows)
}

pub fn parquet_rows(path: &Path) -> (Vec<String>, Vec<Vec<Cell>>) {
    let file = std::fs::File::open(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let reader = SerializedFileReader::new(file).unwrap();
    let names: Vec<String> =
        reader.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
    let moment = |micros: i64| {
        let moment = chrono::DateTime::from_timestamp_micros(micros).unwrap();
        Cell::Text(moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
    };
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let cells = row.get_column_iter().map(|(_, field)| match field {
            Field::Null => Cell::Null,
            Field::Str(text) => Cell::Text(text.clone()),
            Field::Long(number) => Cell::Int(*number),
            Field::Double(number) => Cell::Double(*number),
            Field::Bool(truth) => Cell::Int(i64::from(*truth)),
            Field::TimestampMillis(millis) => moment(millis * 1000),
            Field::TimestampMicros(micros) => moment(*micros),
            other => panic!("{other:?}"),
        });
        cells.collect()
    });
    let rows = rows.collect();
    (names, rows)
}

fn rows_of(path: &Path) -> Vec<Vec<Cell>> {
    if path.extension().is_some_and(|extension| extension == "csv") { csv_rows(path).1 } else { parquet_rows(path).1 }
}

fn manifest(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap()
}

/// All files that a reader of the folder finds, from the folder on.
fn files(out: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(out).unwrap().display().to_string();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    found.insert(name);
                }
            }
        }
    }
    found
}

/// What the manifest tells is what is there: every file, its rows, its sum; and nothing else is there.
fn check_manifest(out: &Path) -> Value {
    let manifest = manifest(out);
    let mut named: BTreeSet<String> = ["manifest.json".to_owned()].into();
    for file in manifest["files"].as_array().unwrap() {
        let name = file["path"].as_str().unwrap();
        assert!(named.insert(name.to_owned()), "{name} twice");
        let bytes = std::fs::read(out.join(name)).unwrap_or_else(|err| panic!("{name}: {err}"));
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (file["sha256"].as_str(), file["bytes"].as_u64()),
            (Some(&*sum), Some(bytes.len() as u64)),
            "{name}"
        );
        assert_eq!(file["rows"].as_u64(), Some(rows_of(&out.join(name)).len() as u64), "{name}");
    }
    let mut found = files(out);
    found.retain(|name| !name.starts_with(".coinetl/"));
    assert_eq!(found, named);
    // Of ours: the lock, and what each data set goes on from.
    let ours = files(&out.join(".coinetl"));
    assert!(ours.iter().all(|name| name == "lock" || name.ends_with(".seen")), "{ours:?}");
    assert_eq!(ours.len(), 1 + manifest["datasets"].as_object().unwrap().len(), "{ours:?}");
    manifest
}

fn export(db: &TestDb, out: &str, args: &[&str]) -> (PathBuf, Value) {
    let result = db.coinetl(&["export"]).args(args).args(["--out", out]).json(0);
    (db.workdir().file(out), result)
}

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

// ---- behaviours ------------------------------------------------------------------------------------------

fn every_price_is_in_the_files_bit_for_bit(db: &TestDb) {
    odd_prices(db);
    let expected = stored_prices(db);
    assert_eq!(expected.len(), 64);
    let (out, result) = export(db, "out", &["prices", "--format", "csv"]);
    assert_eq!((number(&result, "rows_read"), number(&result, "rows_written")), (64, 64));
    assert_eq!(result["files"][0]["path"], "prices.csv");
    let (names, rows) = csv_rows(&out.join("prices.csv"));
    assert_eq!(names.join(", "), PRICES);
    assert_same(&rows, &expected);
    // Both forms side by side.
    export(db, "out", &["prices", "--format", "parquet"]);
    let (names, rows) = parquet_rows(&out.join("prices.parquet"));
    assert_eq!(names.join(", "), PRICES);
    assert_same(&rows, &expected);
    let manifest = check_manifest(&out);
    let dataset = &manifest["datasets"]["prices.parquet"];
    assert_eq!((&dataset["source"], &dataset["rows"]), (&"all".into(), &64.into()));
    assert_eq!(dataset["columns"].as_array().unwrap().len(), 16);
    assert_eq!(dataset["order"], serde_json::json!(["source", "source_id", "vs_currency", "observed_at"]));
    // SQLite and MariaDB keep no sign of zero.
    if db.backend() == Backend::Postgres {
        assert!(expected.iter().flatten().any(|cell| *cell == Cell::Double(-0.0)), "minus zero is among them");
    }
    // Once more replaces, and what is the same has the same bytes.
    let before = std::fs::read(out.join("prices.parquet")).unwrap();
    export(db, "out", &["prices", "--format", "parquet"]);
    assert_eq!(std::fs::read(out.join("prices.parquet")).unwrap(), before);
    check_manifest(&out);
    assert_eq!(
        db.lines("SELECT command, source, status, rows_read, rows_written FROM runs WHERE command LIKE 'export%'"),
        vec!["export prices|all|ok|64|64"; 3]
    );
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
}

fn candles_are_in_the_files(db: &TestDb) {
    asset(db, 2, "coingecko", "alpha", "a");
    asset(db, 1, "coingecko", "beta", "b");
    for (n, (id, timeframe, at)) in [
        (1, "1d", "2026-05-19 00"),
        (1, "1h", "2026-05-19 04"),
        (2, "1d", "2026-05-20 00"),
        (2, "15m", "2026-05-19 05"),
    ]
    .into_iter()
    .enumerate()
    {
        let (volume, samples) = if n % 2 == 0 { ("1e22", "NULL") } else { ("NULL", "7") };
        db.execute(&format!(
            "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, samples, origin, final, run_id) \
             VALUES ({id}, 'usd', '{timeframe}', '{at}:00:00.000', 1.5, 2.5, 0.5, 2, {volume}, {samples}, 'rollup', {}, 1)",
            n != 3
        ));
    }
    let mut expected: Vec<Vec<Cell>> = ["15m", "1d", "1h"].iter().flat_map(|name| stored_candles(db, name)).collect();
    expected.sort_by_key(|row| [0, 1, 3, 4, 5].map(|at| sortable(&row[at])));
    let (out, _) = export(db, "all", &["candles", "--format", "parquet"]);
    let (names, rows) = parquet_rows(&out.join("candles.parquet"));
    assert_eq!(names.join(", "), CANDLES);
    assert_same(&rows, &expected);
    let (out, result) = export(db, "days", &["candles", "--format", "csv", "--timeframe", "1d"]);
    assert_eq!((number(&result, "rows_read"), &result["dataset"]), (2, &"candles-1d.csv".into()));
    let (_, rows) = csv_rows(&out.join("candles-1d.csv"));
    assert_same(&rows, &stored_candles(db, "1d"));
    check_manifest(&out);
}

fn quote(db: &TestDb, pair: &str, sequence: i64, at: &str) {
    db.execute(&format!(
        "INSERT INTO crypto_metrics VALUES ('coinbase', '{pair}', {sequence}, '{at}', 1.25, 1.5, 1.375, 0.25, 1.25, 1.5, 0.25, 'day,1')"
    ));
}

fn quotes_and_their_windows_are_in_the_files(db: &TestDb) {
    const QUOTES: &str = "source, pair, sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, \
                          max_spread, session";
    const WINDOWS: &str = "source, pair, timeframe, window_start, quotes, open_mid, high_mid, low_mid, close_mid, \
                           highest_bid, lowest_ask, mean_spread, max_spread";
    for n in 0..20 {
        let at = format!("2026-05-{:02} 08:47:57.58012{}", 19 + n % 2, n % 10);
        quote(db, ["BTC-USD", "ETH-USD"][(n % 2) as usize], 1_000_000 - n * 17, &at);
    }
    db.execute(
        "INSERT INTO quote_windows VALUES ('coinbase', 'BTC-USD', '1m', '2026-05-19 08:47:00.000000', 10, 1, 2, 0.5, 1.5, 1, 2, 0.25, 0.5)",
    );
    let expected = table(db, QUOTES, &["observed_at"], "crypto_metrics", 3);
    for format in ["csv", "parquet"] {
        let (out, _) = export(db, "out", &["quotes", "--format", format]);
        assert_same(&rows_of(&out.join(format!("quotes.{format}"))), &expected);
        export(db, "out", &["quote-windows", "--format", format]);
        let windows = table(db, WINDOWS, &["window_start"], "quote_windows", 4);
        assert_same(&rows_of(&out.join(format!("quote-windows.{format}"))), &windows);
        check_manifest(&out);
    }
    let (out, result) = export(
        db,
        "some",
        &["quotes", "--format", "csv", "--pairs", "ETH-USD", "--from", "2026-05-20", "--to", "2026-05-21"],
    );
    assert_eq!((number(&result, "rows_read"), rows_of(&out.join("quotes.csv")).len()), (10, 10));
}

fn days_are_folders(db: &TestDb) {
    odd_prices(db);
    for format in ["csv", "parquet"] {
        let (out, result) = export(db, format, &["prices", "--format", format, "--partition-by", "day"]);
        assert_eq!((number(&result, "rows_read"), result["files"].as_array().unwrap().len()), (64, 8));
        let mut all = Vec::new();
        for day in 10..18 {
            let rows = rows_of(&out.join(format!("day=2026-05-{day}/part-000000.{format}")));
            let of_day = |cell: &Cell| matches!(cell, Cell::Text(text) if text.starts_with(&format!("2026-05-{day}")));
            assert!(rows.len() == 8 && rows.iter().all(|row| of_day(&row[4])), "{day}: {rows:?}");
            let keys: Vec<_> = rows.iter().map(|row| [0, 1, 3, 4].map(|at| sortable(&row[at]))).collect();
            assert!(keys.is_sorted(), "{day}: {keys:?}");
            all.extend(rows);
        }
        all.sort_by_key(|row| [0, 1, 3, 4].map(|at| sortable(&row[at])));
        assert_same(&all, &stored_prices(db));
        check_manifest(&out);
        // Again, after a day is gone and another came.
        let (day, new) = ("2026-05-12", price(100, "usd", "2026-06-01T00:00:00Z", &[(Column::Price, Some(1.0))]));
        db.execute(&format!(
            "DELETE FROM prices WHERE observed_at >= '{day} 00:00:00' AND observed_at < '2026-05-13 00:00:00'"
        ));
        let mut session = run(db, "coingecko");
        store(&mut session, &[new]);
        end(session);
        export(db, format, &["prices", "--format", format, "--partition-by", "day"]);
        assert!(!out.join(format!("day={day}")).exists() && out.join("day=2026-06-01").exists());
        check_manifest(&out);
        // Whoever reads all days of a folder finds one kind of rows in it.
        let output = db.coinetl(&["export", "candles", "--format", format, "--out", format]).run().expect(2);
        assert!(output.stderr.contains("a folder of its own"), "{output}");
        db.execute("DELETE FROM prices");
        db.execute("DELETE FROM assets");
        odd_prices(db);
    }
}

/// Source, coin, currency and time, as they sort.
type Key = [(Vec<u8>, i64); 4];

/// The rows of all parts, and how often each key is in them; of two with one key the later part counts.
fn folded(out: &Path) -> (BTreeMap<Key, Vec<Cell>>, usize) {
    let manifest = check_manifest(out);
    let (mut rows, mut count) = (BTreeMap::new(), 0);
    for file in manifest["files"].as_array().unwrap() {
        for row in rows_of(&out.join(file["path"].as_str().unwrap())) {
            rows.insert([0, 1, 3, 4].map(|at| sortable(&row[at])), row);
            count += 1;
        }
    }
    (rows, count)
}

fn since_last_neither_loses_nor_doubles_whenever_runs_end(db: &TestDb) {
    for id in 1..=4 {
        asset(db, id, "coingecko", &format!("coin-{id}"), "c");
    }
    let row = |id: i64, hour: i64, figure: f64| {
        price(id, "usd", &format!("2026-05-19T{hour:02}:00:00Z"), &[(Column::Price, Some(figure))])
    };
    let args = |partitioned: bool| {
        let mut args = vec!["prices", "--format", "parquet", "--since-last"];
        if partitioned {
            args.extend(["--partition-by", "day"]);
        }
        args
    };
    // Every export goes into two folders, once by the day, and the rows must come to the same.
    let export = |expected: i64| {
        for (out, partitioned) in [("whole", false), ("days", true)] {
            let (out, result) = export(db, out, &args(partitioned));
            assert_eq!(number(&result, "rows_written"), expected, "{result}");
            let stored: Vec<Vec<Cell>> = stored_prices(db);
            assert_same(&folded(&out).0.into_values().collect::<Vec<_>>(), &stored);
        }
    };
    // A long run begins first and ends last; others begin and end meanwhile, the later one before the earlier.
    let mut long = run(db, "long");
    store(&mut long, &[row(1, 0, 1.0)]);
    let mut early = run(db, "early");
    let mut late = run(db, "late");
    store(&mut late, &[row(3, 0, 3.0), row(3, 1, 3.5)]);
    end(late);
    export(3);
    export(0);
    // The earlier one ends now: its rows are older by the run's id, and new all the same.
    store(&mut early, &[row(2, 0, 2.0), row(2, 1, 2.5)]);
    end(early);
    // The long one writes on: one row more, and one that it wrote before, restated.
    store(&mut long, &[row(1, 1, 1.5), row(1, 0, 1.25)]);
    export(4);
    // It takes over a row of a run that is over; another takes over one of its own.
    store(&mut long, &[row(3, 0, 33.0)]);
    let mut other = run(db, "other");
    store(&mut other, &[row(1, 1, 15.0)]);
    export(2);
    // There and back again between two exports, and there and back with one between.
    store(&mut long, &[row(1, 1, 1.5)]);
    export(1);
    store(&mut other, &[row(1, 1, 15.0)]);
    store(&mut long, &[row(1, 1, 1.5)]);
    export(0);
    // A process that died leaves its run running, and its rows in the files.
    let mut dead = run(db, "dead");
    store(&mut dead, &[row(4, 0, 4.0)]);
    drop(dead);
    export(1);
    // They end, and nothing of it is new.
    end(long);
    end(other);
    export(0);
    let (rows, count) = folded(&db.workdir().file("whole"));
    assert_eq!((rows.len(), count), (7, 11), "seven rows, and four restatements");
    // The parts are in the order of their making by name, too.
    let names = files(&db.workdir().file("whole"));
    let names: Vec<String> = names.into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(
        names,
        [
            "manifest.json",
            "prices.parquet",
            "prices_000002.parquet",
            "prices_000003.parquet",
            "prices_000004.parquet",
            "prices_000006.parquet"
        ]
    );
    // What is kept of runs does not grow with their number.
    let manifest = manifest(&db.workdir().file("whole"));
    let stretches = manifest["datasets"]["prices.parquet"]["since_last"]["runs"].as_array().unwrap().len();
    assert!(stretches <= 3, "{manifest}");
    // Other options, another database: told, and nothing changed.
    let other =
        db.coinetl(&["export", "prices", "--format", "parquet", "--since-last", "--out", "whole", "--vs", "usd"]);
    assert!(other.run().expect(2).stderr.contains("vs was []"));
    let stranger = TestDb::new(Backend::Sqlite).unwrap();
    stranger.setup();
    let out = db.workdir().file("whole").display().to_string();
    let told =
        stranger.coinetl(&["export", "prices", "--format", "parquet", "--since-last", "--out", &out]).run().expect(2);
    assert!(told.stderr.contains("another database"), "{told}");
    export(0);
}

fn since_last_knows_quotes_that_came_late(db: &TestDb) {
    let args = ["quotes", "--format", "csv", "--since-last"];
    for n in 0..300 {
        quote(db, "BTC-USD", 1_000 + n * 3, "2026-05-19 08:47:57.580123");
    }
    let (out, result) = export(db, "out", &args);
    assert_eq!(number(&result, "rows_written"), 300);
    quote(db, "BTC-USD", 2_000_000, "2026-05-20 08:47:57.580123");
    quote(db, "BTC-USD", 1_001, "2026-05-19 08:47:57.580123");
    quote(db, "AAA-USD", 5, "2026-05-19 08:47:57.580123");
    assert_eq!(number(&export(db, "out", &args).1, "rows_written"), 3);
    assert_eq!(number(&export(db, "out", &args).1, "rows_written"), 0);
    let added = rows_of(&out.join("quotes_000001.csv"));
    let sequences: Vec<&Cell> = added.iter().map(|row| &row[2]).collect();
    assert_eq!(sequences, [&Cell::Int(5), &Cell::Int(1_001), &Cell::Int(2_000_000)]);
    // A late quote changes the window it falls into, which is told again.
    let windows = ["quote-windows", "--format", "csv", "--since-last"];
    for minute in 10..20 {
        db.execute(&format!(
            "INSERT INTO quote_windows VALUES ('coinbase', 'BTC-USD', '1m', '2026-05-19 08:{minute}:00.000000', 10, 1, 2, 0.5, 1.5, 1, 2, 0.25, 0.5)"
        ));
    }
    assert_eq!(number(&export(db, "out", &windows).1, "rows_written"), 10);
    db.execute("UPDATE quote_windows SET quotes = 11 WHERE window_start = '2026-05-19 08:13:00.000000'");
    assert_eq!(number(&export(db, "out", &windows).1, "rows_written"), 1);
    assert_eq!(rows_of(&out.join("quote-windows_000001.csv"))[0][4], Cell::Int(11));
    check_manifest(&out);
}

fn killed_anywhere_the_next_export_is_whole(db: &TestDb) {
    odd_prices(db);
    for partition in [&[][..], &["--partition-by", "day"]] {
        let out = format!("out{}", partition.len());
        let args = [&["prices", "--format", "parquet", "--since-last"], partition].concat();
        let mut expected = stored_prices(db).len() as i64;
        for (n, point) in ["while-writing", "before-commit", "after-commit", "after-rename"].into_iter().enumerate() {
            for first in [true, false] {
                let killed =
                    db.coinetl(&["export"]).args(&args).args(["--out", &out]).env("COINETL_TEST_DIE_AT", point);
                let killed = killed.run();
                let path = db.workdir().file(&out);
                assert!(killed.signal.is_some() || expected == 0, "{point}: {killed}");
                // Whatever has its name is whole.
                for name in files(&path).iter().filter(|name| name.ends_with(".parquet") && !name.contains(".tmp")) {
                    rows_of(&path.join(name));
                }
                db.execute("DELETE FROM leases");
                let written = number(&export(db, &out, &args).1, "rows_written");
                // Behind the commit the killed one counts, and the next finds nothing new.
                let counts = if point.starts_with("after") { 0 } else { expected };
                assert_eq!(written, counts, "{point} {first}");
                let stored: Vec<Vec<Cell>> = stored_prices(db);
                let (rows, count) = folded(&path);
                assert_same(&rows.into_values().collect::<Vec<_>>(), &stored);
                assert_eq!(count, stored.len(), "nothing twice");
                let at = format!("2026-07-{:02}T{:02}:00:00Z", 1 + n, u8::from(first) as usize + partition.len());
                let mut session = run(db, "coingecko");
                store(&mut session, &[price(100, "usd", &at, &[(Column::Price, Some(2.0))])]);
                end(session);
                expected = 1;
            }
        }
    }
}

/// A file can't get its name when all is written down already: it gets it the next time.
#[test]
fn what_is_written_down_to_happen_happens() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    asset(&db, 1, "coingecko", "bitcoin", "btc");
    let price = |hour: u32| {
        db.execute(&format!(
            "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) \
             VALUES (1, 'usd', '2026-05-19 {hour:02}:00:00.000', {hour}, 1)"
        ));
    };
    price(1);
    let export = || db.coinetl(&["export", "prices", "--format", "csv", "--out", "out"]);
    std::fs::create_dir_all(db.workdir().file("out/prices.csv")).unwrap();
    db.workdir().write("out/prices.csv/in_the_way", "");
    export().run().expect(1);
    std::fs::remove_dir_all(db.workdir().file("out/prices.csv")).unwrap();
    // Refused, and brought to its end all the same.
    db.coinetl(&["export", "prices", "--format", "csv", "--out", "out", "--since-last", "--vs", "eur"]).run().expect(2);
    let text = std::fs::read_to_string(db.workdir().file("out/prices.csv")).expect("the file of the first export");
    assert_eq!(text.lines().count(), 2, "{text}");
    price(2);
    export().run().expect(0);
    let text = std::fs::read_to_string(db.workdir().file("out/prices.csv")).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
}

fn what_is_written_meanwhile_is_not_in_it(db: &TestDb) {
    asset(db, 1, "coingecko", "bitcoin", "btc");
    let rows = |from: i64, to: i64| -> Vec<PriceRow> {
        let at = |n: i64| chrono::DateTime::from_timestamp(1_700_000_000 + n, 0).unwrap().to_rfc3339();
        (from..to).map(|n| price(1, "usd", &at(n), &[(Column::Price, Some(n as f64))])).collect()
    };
    let mut session = run(db, "coingecko");
    store(&mut session, &rows(0, 50_000));
    // Waits in the middle, while another one writes and deletes, and is not held up.
    let paused = db.workdir().file("paused");
    let mut running = db
        .coinetl(&["export", "prices", "--format", "csv", "--out", "out", "--output", "json"])
        .env("COINETL_TEST_PAUSE", paused.display().to_string())
        .spawn();
    wait_until(|| paused.exists());
    assert!(running.is_running());
    store(&mut session, &rows(50_000, 50_100));
    end(session);
    db.execute("DELETE FROM prices WHERE price = 3");
    assert!(running.is_running(), "it waits for us, and nobody waited for it");
    std::fs::remove_file(&paused).unwrap();
    let output = running.wait().expect(0);
    assert_eq!(number(&output.json(), "rows_read"), 50_000);
    let exported = rows_of(&db.workdir().file("out/prices.csv"));
    let prices: Vec<Cell> = exported.into_iter().map(|row| row[5].clone()).collect();
    assert_same(&prices, &(0..50_000).map(|n| Cell::Double(f64::from(n))).collect::<Vec<_>>());
}

fn amounts_are_converted_by_the_rate_of_their_time(db: &TestDb) {
    asset(db, 1, "coingecko", "bitcoin", "btc");
    for (currency, at, rate) in [
        ("eur", "2026-05-19 10:00:00.000", 0.5),
        ("eur", "2026-05-19 12:00:00.000", 0.75),
        ("chf", "2026-05-19 11:00:00.000", 0.25),
    ] {
        db.execute(&format!("INSERT INTO fx_rates VALUES ('coingecko', '{currency}', '{at}', {rate})"));
    }
    let mut session = run(db, "coingecko");
    let all = |figure: f64| {
        vec![
            (Column::Price, Some(figure)),
            (Column::MarketCap, Some(figure * 8.0)),
            (Column::CirculatingSupply, Some(8.0)),
        ]
    };
    store(
        &mut session,
        &[
            price(1, "usd", "2026-05-19T09:59:59.999Z", &all(2.0)),
            price(1, "usd", "2026-05-19T10:00:00Z", &all(2.0)),
            price(1, "usd", "2026-05-20T12:00:00Z", &all(4.0)),
            price(1, "usd", "2026-05-20T12:00:00.001Z", &all(4.0)),
            price(1, "chf", "2026-05-19T13:00:00Z", &all(6.0)),
            price(1, "eur", "2026-05-19T00:00:00Z", &all(3.0)),
            price(1, "jpy", "2026-05-19T13:00:00Z", &all(3.0)),
        ],
    );
    end(session);
    for format in ["csv", "parquet"] {
        let (out, _) = export(db, "out", &["prices", "--format", format, "--in", "EUR"]);
        let shown: Vec<String> = rows_of(&out.join(format!("prices.{format}")))
            .iter()
            .map(|row| {
                let text = |at: usize| match &row[at] {
                    Cell::Null => "-".to_owned(),
                    Cell::Text(text) => text.clone(),
                    Cell::Int(number) => number.to_string(),
                    Cell::Double(number) => format!("{number:?}"),
                };
                [3, 5, 8, 9, 16, 17, 18].map(text).join("|")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "chf|18.0|144.0|8.0|eur|3.0|2026-05-19 11:00:00.000000",
                "eur|3.0|24.0|8.0|eur|1.0|-",
                "jpy|-|-|8.0|eur|-|-",
                "usd|-|-|8.0|eur|-|-",
                "usd|1.0|8.0|8.0|eur|0.5|2026-05-19 10:00:00.000000",
                "usd|3.0|24.0|8.0|eur|0.75|2026-05-19 12:00:00.000000",
                "usd|-|-|8.0|eur|-|-",
            ]
        );
        check_manifest(&out);
    }
    let converted =
        |currency: &str| db.coinetl(&["export", "prices", "--format", "csv", "--out", "told", "--in", currency]);
    let told = converted("eur").run().expect(0);
    assert!(told.stderr.contains("3 of 7 rows have no amounts: no rate is stored"), "{told}");
    assert_eq!(converted("eur").json(0)["rows_without_rate"], 3);
    // A price is stored in it, if no rate.
    assert_eq!(converted("jpy").json(0)["rows_without_rate"], 6);
    let refused = converted("zzz").run().expect(2);
    assert!(refused.stderr.contains("--in \"zzz\"") && refused.stderr.contains("rates of chf, eur"), "{refused}");
}

fn only_what_is_asked_for(db: &TestDb) {
    odd_prices(db);
    let count = |args: &[&str]| {
        let (out, result) = export(db, "out", &[&["prices", "--format", "csv"], args].concat());
        check_manifest(&out);
        assert_eq!(number(&result, "rows_read"), rows_of(&out.join("prices.csv")).len() as i64);
        number(&result, "rows_read")
    };
    assert_eq!(count(&["--source", "coingecko"]), 32);
    // Who only reads or deletes what is stored asks no vendor, and takes every name that is stored.
    assert_eq!(count(&["--source", "archive"]), 32);
    let of_archive = |args: &[&str]| db.coinetl(args).args(["--source", "archive"]);
    let stored: [&[&str]; 3] =
        [&["gaps"], &["prune", "--older-than", "9000d"], &["export", "candles", "--format", "csv", "--out", "none"]];
    for args in stored {
        assert_eq!(of_archive(args).json(0)["source"], "archive", "{args:?}");
        let output = db.coinetl(args).args(["--source", "kraken"]).run().expect(2);
        assert!(output.stderr.contains("stored: archive, coingecko"), "{output}");
    }
    let asking: [&[&str]; 4] =
        [&["prices", "insert"], &["gaps", "--repair"], &["plan"], &["prune", "--older-than", "1d", "--sandbox"]];
    for args in asking {
        of_archive(args).run().expect(78);
    }
    assert_eq!(count(&["--vs", "EUR,usd"]), 8 * 6);
    assert_eq!(count(&["--ids", "bitcoin,a'b;c\\d"]), 16);
    assert_eq!(count(&["--from", "2026-05-11", "--to", "2026-05-13T08:47:57.583Z"]), 8 + 8 + 3);
    assert_eq!(count(&["--from", "2027-01-01"]), 0);
    assert_eq!(std::fs::read_to_string(db.workdir().file("out/prices.csv")).unwrap(), PRICES.replace(", ", ",") + "\n");
    db.execute("UPDATE prices SET market_cap_rank = asset_id");
    assert_eq!(count(&["--top", "3", "--source", "coingecko"]), 24);
    let result =
        db.coinetl(&["export", "prices", "--format", "csv", "--out", "out", "--ids", "bitcoin,nobody"]).json(3);
    assert_eq!(
        (number(&result, "rows_read"), number(&result, "rows_absent"), &result["status"]),
        (8, 1, &"partial".into())
    );
}

const CANDLES: &str = "source, source_id, symbol, vs_currency, timeframe, open_time, open, high, low, close, volume, \
                       base_volume, market_cap, samples, origin, final";

pub fn stored_candles(db: &TestDb, timeframe: &str) -> Vec<Vec<Cell>> {
    let from = format!("candles c JOIN assets a ON a.id = c.asset_id WHERE timeframe = '{timeframe}'");
    let mut rows = table(db, CANDLES, &["open_time"], &from, 6);
    rows.sort_by_key(|row| [0, 1, 3, 4, 5].map(|at| sortable(&row[at])));
    rows
}

fn a_stream_that_ends_leaves_files(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    topic.make(2, &[]);
    let candle = |asset: &str, timeframe: &str, at: &str| {
        let event = serde_json::json!({
            "schema": "coinetl.candle.v1", "source": "coingecko", "asset": asset, "symbol": "c", "name": "C",
            "vs_currency": "usd", "timeframe": timeframe, "open_time": at, "open": 1.5, "high": 2.5, "low": 0.5,
            "close": 2, "volume": 1e22, "base_volume": null, "market_cap": null, "samples": null, "final": true,
        });
        (format!("coingecko:{asset}"), event.to_string())
    };
    let quote = |sequence: i64| {
        let event = serde_json::json!({
            "schema": "coinetl.quote.v1", "source": "coinbase", "pair": "BTC-USD", "sequence": sequence,
            "observed_at": format!("2026-05-19T08:{:02}:57.580123Z", sequence % 60), "bid": "10.01", "ask": "10.02",
            "price": "10.01", "base_volume_24h": null, "session": null,
        });
        ("coinbase:BTC-USD".to_owned(), event.to_string())
    };
    let mut messages: Vec<(String, String)> = (0..90).map(quote).collect();
    for day in 10..20 {
        messages.push(candle("bitcoin", "1d", &format!("2026-05-{day}T00:00:00.000Z")));
        messages.push(candle("ether", "1m", &format!("2026-05-19T08:{day}:00.000Z")));
        messages.push(candle("ether", "1h", &format!("2026-05-19T{day}:00:00.000Z")));
    }
    // Prices of two minutes, which nobody has folded yet.
    for second in 0..60 {
        let event = serde_json::json!({
            "schema": "coinetl.price.v1", "source": "coingecko", "asset": "solana", "symbol": "sol", "name": "Solana",
            "vs_currency": "usd", "observed_at": format!("2026-05-19T08:0{}:{second:02}.000Z", second % 2),
            "price": 1.5 + f64::from(second), "volume_24h": null, "base_volume_24h": null, "market_cap": null,
            "circulating_supply": null, "total_supply": null, "market_cap_rank": null, "change_1h": null,
            "change_24h": null, "change_7d": null, "change_30d": null,
        });
        messages.push(("coingecko:solana".to_owned(), event.to_string()));
    }
    topic.send(&messages);
    let consume = |args: &[&str]| {
        let cmd = db.coinetl(&["consume", "--export-on-exit", "data_export", "--output", "json"]).args(args);
        topic.on(cmd.env("KAFKA_GROUP", format!("group-of-{}", topic.name)))
    };
    let out = db.workdir().file("data_export");
    let check = || {
        let manifest = check_manifest(&out);
        let names: Vec<&str> =
            manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert_eq!(names, ["candles-1d.csv", "candles-1m.parquet", "quote-windows-1m.parquet"]);
        assert_same(&rows_of(&out.join(names[0])), &stored_candles(db, "1d"));
        assert_same(&rows_of(&out.join(names[1])), &stored_candles(db, "1m"));
        let windows = "SELECT COUNT(*) FROM quote_windows WHERE timeframe = '1m'";
        assert_eq!(rows_of(&out.join(names[2])).len() as i64, db.number(windows));
    };
    // A folder that can't be written is told before anything is consumed.
    db.workdir().write("a-file", "");
    let refused = db.coinetl(&["consume", "--until-end", "--export-on-exit", "a-file/out"]);
    topic.on(refused.env("KAFKA_GROUP", "g")).run().expect(78);
    let running = consume(&[]).spawn();
    wait_until(|| {
        db.number("SELECT COUNT(*) FROM candles") == 30 && db.number("SELECT COUNT(*) FROM crypto_metrics") == 90
    });
    assert!(!out.join("manifest.json").exists());
    running.signal("TERM");
    let result = running.wait().expect(0).json();
    assert_eq!((number(&result, "rows_written"), result["files"].as_array().unwrap().len()), (180, 3));
    check();
    let of = |name: &str, asset: &str| {
        let rows = rows_of(&out.join(name)).into_iter();
        rows.filter(|row| row[1] == Cell::Text(asset.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!((of("candles-1d.csv", "bitcoin").len(), of("candles-1m.parquet", "ether").len()), (10, 10));
    // Rolled up before it was exported: two minutes of a day, with its first and its last price.
    let minutes = of("candles-1m.parquet", "solana");
    assert_eq!(minutes.iter().map(|row| row[13].clone()).collect::<Vec<_>>(), [Cell::Int(30), Cell::Int(30)]);
    let day = of("candles-1d.csv", "solana");
    assert_eq!(day[0][6..10], [1.5, 60.5, 1.5, 60.5].map(Cell::Double));
    // A second signal while it writes: it ends, and what was there stays as it was.
    topic.send(&[candle("bitcoin", "1d", "2026-05-20T00:00:00.000Z")]);
    let paused = db.workdir().file("paused");
    let running = consume(&[]).env("COINETL_TEST_PAUSE", paused.display().to_string()).spawn();
    wait_until(|| db.number("SELECT COUNT(*) FROM candles WHERE open_time >= '2026-05-20 00:00:00'") == 1);
    running.signal("TERM");
    wait_until(|| paused.exists());
    running.signal("TERM");
    running.wait().expect(1);
    std::fs::remove_file(&paused).unwrap();
    assert_eq!(of("candles-1d.csv", "bitcoin").len(), 10);
    // The next one brings it up to date.
    let result = consume(&["--until-end"]).run().expect(0).json();
    assert_eq!(result["files"].as_array().unwrap().len(), 3);
    assert_eq!(of("candles-1d.csv", "bitcoin").len(), 11);
    check();
}

// ---- the same on any database ----------------------------------------------------------------------------

#[test]
fn a_parquet_file_tells_what_is_in_it() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    asset(&db, 1, "coingecko", "bitcoin", "btc");
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 299999) \
         INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) \
         SELECT 1, 'usd', strftime('%Y-%m-%d %H:%M:%S.000', 1700000000 + n * 60, 'unixepoch'), n * 1.5, 1 FROM n",
    );
    let (out, result) =
        export(&db, "out", &["prices", "--format", "parquet", "--source", "coingecko", "--from", "2023-01-01"]);
    assert_eq!(number(&result, "rows_read"), 300_000);
    let reader = SerializedFileReader::new(std::fs::File::open(out.join("prices.parquet")).unwrap()).unwrap();
    let metadata = reader.metadata();
    assert_eq!((metadata.num_row_groups(), metadata.file_metadata().num_rows()), (3, 300_000));
    let told: BTreeMap<String, String> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    assert_eq!(told["coinetl.source"], "coingecko");
    assert_eq!((&*told["coinetl.from"], &*told["coinetl.to"]), ("2023-01-01T00:00:00.000Z", ""));
    let mut last = i64::MIN;
    for group in metadata.row_groups() {
        let sorted: Vec<i32> = group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
        assert_eq!(sorted, [0, 1, 3, 4]);
        for column in group.columns() {
            assert!(matches!(column.compression(), Compression::ZSTD(_)), "{}", column.column_path());
            assert!(column.statistics().is_some() && column.column_index_offset().is_some());
        }
        let parquet::file::statistics::Statistics::Int64(times) = group.column(4).statistics().unwrap() else {
            panic!()
        };
        assert!(*times.min_opt().unwrap() > last, "groups do not overlap");
        last = *times.max_opt().unwrap();
    }
    let schema = metadata.file_metadata().schema_descr();
    let repetition = |at: usize| schema.column(at).self_type().get_basic_info().repetition();
    assert_eq!((repetition(4), repetition(5)), (Repetition::REQUIRED, Repetition::OPTIONAL));
}

#[test]
fn a_folder_that_can_t_be_written_is_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    db.workdir().write("file", "a file");
    let output = db.coinetl(&["export", "prices", "--format", "csv", "--out", "file/out"]).run().expect(78);
    assert!(output.stderr.contains("file/out") && output.stderr.contains("--out"), "{output}");
    let output = db.coinetl(&["export", "prices", "--format", "csv", "--out", "/proc/nothing"]).run().expect(78);
    assert!(output.stderr.contains("/proc/nothing"), "{output}");
    // Somebody else's manifest is not overwritten.
    std::fs::create_dir(db.workdir().file("theirs")).unwrap();
    db.workdir().write("theirs/manifest.json", "{\"name\": \"an app\"}");
    let output = db.coinetl(&["export", "prices", "--format", "csv", "--out", "theirs"]).run().expect(78);
    assert!(output.stderr.contains("manifest.json"), "{output}");
    assert!(!db.workdir().file("theirs/prices.csv").exists());
}

#[test]
fn a_full_disk_is_told_and_nothing_stays() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    odd_prices(&db);
    // What is written under this name goes to a device that has no space.
    std::fs::create_dir(db.workdir().file("out")).unwrap();
    std::os::unix::fs::symlink(full, db.workdir().file("out/.coinetl-prices.csv.tmp")).unwrap();
    std::fs::create_dir(db.workdir().file("out/.coinetl")).unwrap();
    let output = db.coinetl(&["export", "prices", "--format", "csv", "--out", "out"]).run().expect(75);
    assert!(output.stderr.contains("no space is left") && output.stderr.contains("prices.csv"), "{output}");
    let left: Vec<String> = files(&db.workdir().file("out")).into_iter().collect();
    assert_eq!(left, [".coinetl-prices.csv.tmp", ".coinetl/lock"], "the device, which is not ours, and the lock");
}

#[test]
fn two_at_once_take_turns() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let (paused, dir) = (db.workdir().file("paused"), Workdir::new());
    let running = db
        .coinetl(&["export", "prices", "--format", "csv", "--out", "out"])
        .env("COINETL_TEST_PAUSE", paused.display().to_string())
        .spawn();
    wait_until(|| paused.exists());
    // The folder is taken, also for what is not the same table; the table is, also for another folder.
    let busy = db.coinetl(&["export", "quotes", "--format", "csv", "--out", "out"]).run().expect(75);
    assert!(busy.stderr.contains("another export writes to"), "{busy}");
    let elsewhere = dir.file("elsewhere").display().to_string();
    db.coinetl(&["export", "prices", "--format", "csv", "--out", &elsewhere]).run().expect(75);
    db.coinetl(&["export", "quotes", "--format", "csv", "--out", &elsewhere]).run().expect(0);
    let waiting = db.coinetl(&["export", "quotes", "--format", "csv", "--out", "out", "--wait", "30s"]).spawn();
    std::fs::remove_file(&paused).unwrap();
    running.wait().expect(0);
    waiting.wait().expect(0);
    check_manifest(&db.workdir().file("out"));
}

#[test]
fn a_signal_ends_it_without_a_trace() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    odd_prices(&db);
    let paused = db.workdir().file("paused");
    let running = db
        .coinetl(&["export", "prices", "--format", "csv", "--out", "out"])
        .env("COINETL_TEST_PAUSE", paused.display().to_string())
        .spawn();
    wait_until(|| paused.exists());
    running.signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    std::fs::remove_file(&paused).unwrap();
    let output = running.wait().expect(1);
    assert!(output.stderr.contains("stopped by a signal"), "{output}");
    assert_eq!(files(&db.workdir().file("out")).into_iter().collect::<Vec<_>>(), [".coinetl/lock"]);
    assert_eq!(db.lines("SELECT status FROM runs WHERE command = 'export prices'"), ["failed"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    for (args, word) in [
        (&["prices", "--timeframe", "1d"][..], "--timeframe"),
        (&["quotes", "--in", "eur"], "--in"),
        (&["quotes", "--ids", "x"], "--ids"),
        (&["prices", "--pairs", "BTC-USD"], "--pairs"),
        (&["prices", "--from", "2026-05-19", "--to", "2026-05-19"], "--from"),
        (&["prices", "--from", "yesterday"], "--from"),
        (&["candles", "--timeframe", "2h"], "2h"),
        (&["prices", "--top", "0"], "--top"),
        (&["prices", "--from", "19-05-2026"], "2026-01-31T10:00:00Z"),
    ] {
        let output = db.coinetl(&["export", "--format", "csv", "--out", "out"]).args(args).run().expect(2);
        assert!(output.stderr.contains(word), "{output}");
    }
    assert!(!db.workdir().file("out/manifest.json").exists());
}
