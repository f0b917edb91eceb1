//! Recorded answers of the real vendor, served over HTTP, into all three databases: every number
//! bit for bit and every text byte for byte the recording's.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::cmc::{Cmc, LISTINGS, envelope};
use crate::support::exchange::Exchange;
use crate::support::recordings::recordings;
use crate::support::stub::{Stub, StubResponse};
use crate::support::test_db::{Cell, TestDb, assert_same, bits};

on_every_database!(
    a_month_of_recordings_is_stored_bit_for_bit,
    two_recorded_listings_of_coinmarketcap_are_stored_bit_for_bit,
    five_thousand_recorded_coins_of_coinmarketcap_are_stored_bit_for_bit,
    the_recorded_products_of_coinbase_are_its_coins,
    recorded_charts_and_bars_of_coingecko_are_stored_bit_for_bit,
    recorded_candles_of_coinbase_are_stored_bit_for_bit,
);

/// Columns of `prices` and the members they come from; the first member that is there counts.
const FIGURES: [(&str, &[&str]); 11] = [
    ("price", &["current_price"]),
    ("volume_24h", &["total_volume"]),
    ("base_volume_24h", &[]),
    ("market_cap", &["market_cap"]),
    ("circulating_supply", &["circulating_supply"]),
    ("total_supply", &["total_supply"]),
    ("market_cap_rank", &["market_cap_rank"]),
    ("change_1h", &["price_change_percentage_1h_in_currency"]),
    ("change_24h", &["price_change_percentage_24h_in_currency", "price_change_percentage_24h"]),
    ("change_7d", &["price_change_percentage_7d_in_currency"]),
    ("change_30d", &["price_change_percentage_30d_in_currency"]),
];

/// The same of CoinMarketCap: members of the coin, or of its quote.
const CMC_FIGURES: [(&str, bool); FIGURES.len()] = [
    ("price", true),
    ("volume_24h", true),
    ("", true),
    ("market_cap", true),
    ("circulating_supply", false),
    ("total_supply", false),
    ("cmc_rank", false),
    ("percent_change_1h", true),
    ("percent_change_24h", true),
    ("percent_change_7d", true),
    ("percent_change_30d", true),
];

/// What is expected of one row of `prices`: a cell for each of `FIGURES`, and the run.
#[derive(Clone, PartialEq)]
struct Expected {
    figures: [Option<f64>; FIGURES.len()],
    run_id: i64,
}

fn a_month_of_recordings_is_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings("coingecko") else { return };
    let list = std::fs::read(folder.join("coins_list/coins_list_2025-08-24.json")).unwrap();
    let listed: Value = serde_json::from_slice(&list).unwrap();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("coins_markets")).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Their names end with the time at which they were made.
    files.sort_by_key(|path| path.to_str().and_then(|name| name.rfind("_20").map(|at| name[at..].to_owned())));
    assert!(!files.is_empty(), "no recordings of /coins/markets in {}", folder.display());

    let page: Arc<Mutex<Vec<u8>>> = Arc::default();
    let stub = Stub::start({
        let page = page.clone();
        move |request| match (request.path.as_str(), request.param("ids")) {
            ("/api/v3/coins/list", _) => StubResponse::json(list.clone()),
            ("/api/v3/coins/markets", None) => StubResponse::json(page.lock().unwrap().clone()),
            _ => StubResponse::json("[]"),
        }
    });
    let mut coins: BTreeMap<String, (String, String)> = BTreeMap::new();
    let text = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    for coin in listed.as_array().unwrap() {
        coins.insert(text(coin, "id"), (text(coin, "symbol"), text(coin, "name")));
    }
    let result = db.ask(&["assets", "upsert"], &stub.url()).json(0);
    assert_eq!((&result["rows_written"], &result["rows_rejected"]), (&coins.len().into(), &0.into()));
    check_coins(db, "coingecko", &coins);

    let mut expected: HashMap<(String, String), Expected> = HashMap::new();
    for file in &files {
        let body = std::fs::read(file).unwrap();
        let records: Value = serde_json::from_slice(&body).unwrap();
        *page.lock().unwrap() = body;
        let count = records.as_array().unwrap().len().to_string();
        let result = db.ask(&["prices", "insert", "--top", &count], &stub.url()).json(0);
        let run_id = result["run_id"].as_i64().unwrap();
        let (mut new, mut updated, mut unchanged) = (0, 0, 0);
        for record in records.as_array().unwrap() {
            let labels = || (text(record, "symbol"), text(record, "name"));
            coins.entry(text(record, "id")).or_insert_with(labels);
            let key = (text(record, "id"), stamp(&text(record, "last_updated")));
            let before = expected.get(&key).cloned();
            let fresh = Expected { figures: [None; FIGURES.len()], run_id };
            let mut row = before.clone().unwrap_or(fresh);
            for (figure, (_, members)) in row.figures.iter_mut().zip(FIGURES) {
                if let Some(value) = members.iter().find_map(|member| record.get(member)) {
                    *figure = value.as_f64();
                }
            }
            match before {
                None => new += 1,
                Some(before) if before.figures == row.figures => unchanged += 1,
                Some(_) => {
                    row.run_id = run_id;
                    updated += 1;
                }
            }
            expected.insert(key, row);
        }
        let name = file.display();
        assert_eq!(
            (&result["rows_read"], &result["calls"]),
            (&(new + updated + unchanged).into(), &1.into()),
            "{name}"
        );
        assert_eq!(result["rows_written"], new + updated, "{name}");
        assert_eq!(
            (&result["rows_updated"], &result["rows_unchanged"]),
            (&updated.into(), &unchanged.into()),
            "{name}"
        );
    }
    check_coins(db, "coingecko", &coins);
    check_prices(db, expected);
}

/// A vendor whose first page is this body, whatever it is.
fn playing(body: &Arc<Mutex<Vec<u8>>>) -> Cmc {
    let body = body.clone();
    Cmc::with(Vec::new(), move |request, _| {
        (request.path == LISTINGS).then(|| StubResponse::json(body.lock().unwrap().clone()))
    })
}

/// Bodies of version 1, served by the path of version 3.
fn two_recorded_listings_of_coinmarketcap_are_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings("coinmarketcap") else { return };
    let read =
        |day: &str| std::fs::read(folder.join(format!("listings_latest_v1_usd_100_2025-02-{day}.json"))).unwrap();
    let (first, second) = (read("08"), read("21"));
    // The smallest step that a number can make.
    let moved = String::from_utf8(second.clone()).unwrap();
    let price = moved.split("\"price\": ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().to_owned();
    let next = f64::from_bits(price.parse::<f64>().unwrap().to_bits() + 1);
    let moved = moved.replacen(&price, &format!("{next:?}"), 1).into_bytes();

    let body = Arc::default();
    let cmc = playing(&body);
    let mut coins: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut expected: HashMap<(String, String), Expected> = HashMap::new();
    for (recording, counts) in [
        (&first, [100, 100, 0, 0]),
        (&first, [100, 0, 0, 100]),
        (&second, [100, 100, 0, 0]),
        (&first, [100, 0, 0, 100]),
        (&moved, [100, 1, 1, 99]),
        (&second, [100, 1, 1, 99]),
    ] {
        *body.lock().unwrap() = recording.clone();
        let result = cmc.ask(db, &["prices", "insert", "--top", "100"]).json(0);
        let told = ["rows_read", "rows_written", "rows_updated", "rows_unchanged"].map(|name| result[name].clone());
        assert_eq!(told, counts.map(Value::from), "{result}");
        assert_eq!((&result["calls"], &result["credits"]), (&1.into(), &1.into()));
        let run_id = result["run_id"].as_i64().unwrap();
        let records: Value = serde_json::from_slice(recording).unwrap();
        for record in records["data"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (id, quote) = (record["id"].to_string(), &record["quote"]["USD"]);
            coins.insert(id.clone(), (text(&record["symbol"]), text(&record["name"])));
            let member = |(name, of_quote)| if of_quote { &quote[name] } else { &record[name] };
            let figures = CMC_FIGURES.map(|figure| member(figure).as_f64());
            let row =
                expected.entry((id, stamp(&text(&quote["last_updated"])))).or_insert(Expected { figures, run_id });
            if row.figures != figures {
                *row = Expected { figures, run_id };
            }
        }
    }
    assert_eq!(expected.len(), 200);
    check_coins(db, "coinmarketcap", &coins);
    check_prices(db, expected);
}

/// A line of a CSV file.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

/// A file that its publisher flattened, in the vendor's shape again: each number as it is written there.
fn five_thousand_recorded_coins_of_coinmarketcap_are_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings("coinmarketcap") else { return };
    let csv = std::fs::read_to_string(folder.join("listings_latest_flattened_5000_2025-02-18.csv")).unwrap();
    let mut lines = csv.lines();
    let header = cells(lines.next().unwrap());
    let place = |name: &str| header.iter().position(|cell| cell == name).unwrap_or_else(|| panic!("no {name}"));
    let [id, name, symbol, updated] = ["id", "name", "symbol", "quote_USD_last_updated"].map(place);
    let figures = CMC_FIGURES.map(|(name, of_quote)| match name {
        "" => None,
        name if of_quote => Some(place(&format!("quote_USD_{name}"))),
        name => Some(place(name)),
    });
    let mut coins: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut expected: HashMap<(String, String), Expected> = HashMap::new();
    let mut records = Vec::new();
    for line in lines {
        let cells = cells(line);
        let mut members = [String::new(), String::new()];
        for ((name, of_quote), place) in CMC_FIGURES.into_iter().zip(figures) {
            let Some(place) = place else { continue };
            let number = if cells[place].is_empty() { "null" } else { &cells[place] };
            members[usize::from(of_quote)].push_str(&format!("\"{name}\":{number},"));
        }
        let text = |at: usize| Value::from(cells[at].as_str());
        records.push(format!(
            r#"{{"id":{},"name":{},"symbol":{},{}"tags":[],"quote":[{{"id":2781,"symbol":"USD",{}"last_updated":{}}}]}}"#,
            cells[id], text(name), text(symbol), members[0], members[1], text(updated)
        ));
        coins.insert(cells[id].clone(), (cells[symbol].clone(), cells[name].clone()));
        let figures = figures.map(|place| cells[place?].parse().ok());
        expected.insert((cells[id].clone(), stamp(&cells[updated])), Expected { figures, run_id: 1 });
    }
    assert_eq!((records.len(), coins.len(), expected.len()), (5_000, 5_000, 5_000));
    let body = Arc::new(Mutex::new(envelope("0", 25, &format!("[{}]", records.join(","))).body));
    let cmc = playing(&body);
    for (written, unchanged) in [(5_000, 0), (0, 5_000)] {
        let result = cmc.ask(db, &["prices", "insert", "--top", "5000"]).json(0);
        assert_eq!((&result["rows_written"], &result["rows_unchanged"]), (&written.into(), &unchanged.into()));
        assert_eq!((&result["calls"], &result["credits"]), (&1.into(), &25.into()));
    }
    check_coins(db, "coinmarketcap", &coins);
    check_prices(db, expected);
    // What it is worth looking at twice: the smallest price, and unknown market caps, told as 0.
    assert_eq!(db.lines("SELECT MIN(price) FROM prices WHERE price > 0"), ["2.8461682e-17"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices WHERE market_cap = 0"), 1_872);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE symbol = 'TRUMP'"), 10);
}

fn the_recorded_products_of_coinbase_are_its_coins(db: &TestDb) {
    let Some(folder) = recordings("coinbase") else { return };
    let body = std::fs::read(folder.join("products_2021-04-17.json")).unwrap();
    let products: Value = serde_json::from_slice(&body).unwrap();
    let online = |product: &&Value| product["status"] == "online" && product["trading_disabled"] != true;
    let text = |product: &Value| product["base_currency"].as_str().unwrap().to_owned();
    let bases = products.as_array().unwrap().iter().filter(online).map(text);
    let coins: BTreeMap<String, (String, String)> = bases.map(|base| (base.clone(), (base.clone(), base))).collect();
    assert_eq!(coins.len(), 54);
    let exchange = Exchange::with(Vec::new(), move |request, _| {
        (request.path == "/products").then(|| StubResponse::json(body.clone()))
    });
    for (written, unchanged) in [(54, 0), (0, 54)] {
        let result = exchange.ask(db, &["assets", "upsert"]).json(0);
        assert_eq!((&result["rows_written"], &result["rows_unchanged"]), (&written.into(), &unchanged.into()));
        assert_eq!((&result["calls"], &result["rows_rejected"]), (&1.into(), &0.into()));
    }
    check_coins(db, "coinbase", &coins);
}

fn check_coins(db: &TestDb, source: &str, coins: &BTreeMap<String, (String, String)>) {
    let mut stored = db.query(&format!("SELECT source_id, symbol, name FROM assets WHERE source = '{source}'"));
    // By us, not by the database, whose order is another.
    stored.sort();
    let expected: Vec<Vec<Option<String>>> =
        coins.iter().map(|(id, (symbol, name))| [id, symbol, name].map(|text| Some(text.clone())).to_vec()).collect();
    assert_same(&stored, &expected);
}

fn check_prices(db: &TestDb, expected: HashMap<(String, String), Expected>) {
    let columns = FIGURES.map(|(column, _)| format!("p.{column}")).join(", ");
    let stored = db.cells(&format!(
        "SELECT a.source_id, p.observed_at, {columns}, p.run_id FROM prices p JOIN assets a ON a.id = p.asset_id"
    ));
    let shown = |cell: &Cell| match cell {
        Cell::Double(number) => bits(*number),
        other => format!("{other:?}"),
    };
    let mut stored: Vec<String> =
        stored.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join(" ")).collect();
    let mut expected: Vec<String> = expected
        .into_iter()
        .map(|((id, at), row)| {
            let mut cells = vec![Cell::Text(id), Cell::Text(at)];
            for (figure, (column, _)) in row.figures.into_iter().zip(FIGURES) {
                cells.push(match figure {
                    None => Cell::Null,
                    Some(rank) if column == "market_cap_rank" => Cell::Int(rank as i64),
                    Some(number) => Cell::Double(number),
                });
            }
            cells.push(Cell::Int(row.run_id));
            cells.iter().map(shown).collect::<Vec<_>>().join(" ")
        })
        .collect();
    stored.sort();
    expected.sort();
    assert_same(&stored, &expected);
}

/// `2026-04-25T13:10:51.5809Z` as the tables write it.
fn stamp(text: &str) -> String {
    let text = text.trim_end_matches('Z').replace('T', " ");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{:0<3}", fraction.get(..3).unwrap_or(fraction))
}

/// `YYYY-MM-DD HH:MM:SS.fff`
fn moment(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Charts by a plan that may look as far back as they were recorded.
fn recorded_charts_and_bars_of_coingecko_are_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings("coingecko") else { return };
    let body: Arc<Mutex<Vec<u8>>> = Arc::default();
    let stub = Stub::start({
        let body = body.clone();
        move |_| StubResponse::json(body.lock().unwrap().clone())
    });
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("market_chart")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let ask = |timeframe: &str, coin: &str, from: i64, to: i64| {
        let day = |millis: i64| moment(millis)[..10].to_owned();
        let args = ["candles", "backfill", "--timeframe", timeframe, "--ids", coin, "--from"].map(str::to_owned);
        let span = [day(from), "--to".to_owned(), day(to + 86_400_000)];
        let cmd = db.coinetl(&[]).args(args).args(span).env("COINGECKO_API_URL", stub.url());
        cmd.env("COINGECKO_PRO_API_KEY", "CG-x").env("COINETL_CREDITS_PER_MONTH", "0")
    };
    for file in &files {
        db.execute("DELETE FROM prices; DELETE FROM coverage");
        let recording = std::fs::read(file).unwrap();
        let chart: Value = serde_json::from_slice(&recording).unwrap();
        *body.lock().unwrap() = recording;
        let mut expected: BTreeMap<i64, [String; 3]> = BTreeMap::new();
        for (n, name) in ["prices", "market_caps", "total_volumes"].into_iter().enumerate() {
            for pair in chart[name].as_array().unwrap() {
                expected.entry(pair[0].as_i64().unwrap()).or_default()[n] = bits(pair[1].as_f64().unwrap());
            }
        }
        let (first, last) = (*expected.keys().next().unwrap(), *expected.keys().last().unwrap());
        let result = ask("6h", "bitcoin", first, last).json(0);
        let name = file.display();
        // A chart of 90 days ends on the 91st, which the next window begins with.
        assert!(matches!(result["calls"].as_i64(), Some(1 | 2)), "{name}: {result}");
        let stored: Vec<String> = db
            .lines("SELECT observed_at FROM prices ORDER BY observed_at")
            .into_iter()
            .zip(db.doubles("SELECT price, market_cap, volume_24h FROM prices ORDER BY observed_at"))
            .map(|(at, row)| format!("{at} {}", row.into_iter().map(Option::unwrap).collect::<Vec<_>>().join(" ")))
            .collect();
        let expected: Vec<String> =
            expected.into_iter().map(|(at, figures)| format!("{} {}", moment(at), figures.join(" "))).collect();
        assert_same(&stored, &expected);
    }
    // Bars are stamped when they close; of four hours they are the last of them here.
    let recording = std::fs::read(folder.join("ohlc/ohlc_bitcoin_usd_7d_2021-05-15.json")).unwrap();
    let bars: Value = serde_json::from_slice(&recording).unwrap();
    *body.lock().unwrap() = recording;
    let rows = bars.as_array().unwrap();
    let (first, last) = (rows[0][0].as_i64().unwrap(), rows[rows.len() - 1][0].as_i64().unwrap());
    let result = ask("1h", "bitcoin", first - 86_400_000, last).json(0);
    assert_eq!((&result["calls"], &result["rows_written"]), (&1.into(), &rows.len().into()));
    let expected: Vec<String> = rows
        .iter()
        .map(|row| {
            let prices: Vec<String> = (1..5).map(|at| bits(row[at].as_f64().unwrap())).collect();
            format!("{} {}", moment(row[0].as_i64().unwrap() - 3_600_000), prices.join(" "))
        })
        .collect();
    assert_same(&stored_bars(db, "open, high, low, close"), &expected);
    assert_eq!(db.lines("SELECT DISTINCT origin, final, volume, base_volume FROM candles"), ["source|1|NULL|NULL"]);
}

fn stored_bars(db: &TestDb, columns: &str) -> Vec<String> {
    db.lines("SELECT open_time FROM candles ORDER BY open_time")
        .into_iter()
        .zip(db.doubles(&format!("SELECT {columns} FROM candles ORDER BY open_time")))
        .map(|(at, row)| format!("{at} {}", row.into_iter().map(Option::unwrap).collect::<Vec<_>>().join(" ")))
        .collect()
}

fn recorded_candles_of_coinbase_are_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings("coinbase") else { return };
    for (file, timeframe, vs, from, to) in [
        ("candles_btcusd_60s_2018-02-01.json", "1m", "usd", "2018-02-01T00:00:00Z", "2018-02-01T00:10:00Z"),
        ("candles_btceur_86400s_2021-01-01_2021-01-07.json", "1d", "eur", "2021-01-01", "2021-01-08"),
    ] {
        db.execute("DELETE FROM candles");
        let body = std::fs::read(folder.join(file)).unwrap();
        let rows: Value = serde_json::from_slice(&body).unwrap();
        let exchange = Exchange::with(Vec::new(), move |_, _| Some(StubResponse::json(body.clone())));
        let args =
            ["candles", "backfill", "--timeframe", timeframe, "--ids", "BTC", "--vs", vs, "--from", from, "--to", to];
        let result = exchange.ask(db, &args).json(0);
        let mut rows = rows.as_array().unwrap().clone();
        assert_eq!((&result["rows_written"], &result["rows_absent"]), (&rows.len().into(), &0.into()), "{file}");
        rows.sort_by_key(|row| row[0].as_i64());
        let line = |row: &Value| {
            // Open, high, low, close, volume: another order than theirs.
            let figures: Vec<String> = [3, 2, 1, 4, 5].map(|at| bits(row[at].as_f64().unwrap())).to_vec();
            format!("{} {}", moment(row[0].as_i64().unwrap() * 1000), figures.join(" "))
        };
        assert_same(
            &stored_bars(db, "open, high, low, close, base_volume"),
            &rows.iter().map(line).collect::<Vec<_>>(),
        );
        assert_eq!(db.lines("SELECT DISTINCT state FROM coverage"), ["full"]);
    }
}
