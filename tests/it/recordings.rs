//! Recorded answers of the real vendor, served over HTTP, into all three databases: every number
//! bit for bit and every text byte for byte the recording's.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::stub::{Stub, StubResponse};
use crate::support::test_db::{Cell, TestDb, assert_same, bits, loud};

on_every_database!(a_month_of_recordings_is_stored_bit_for_bit);

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

/// The folder of recordings, or a loud word that there is none.
fn recordings() -> Option<PathBuf> {
    let folder = match std::env::var_os("COINETL_RECORDINGS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
    .join("coingecko");
    if folder.is_dir() {
        return Some(folder);
    }
    loud(&format!("SKIPPED recordings: there is no folder {}; COINETL_RECORDINGS names another", folder.display()));
    None
}

/// What is expected of one row of `prices`: a cell for each of `FIGURES`, and the run.
#[derive(Clone, PartialEq)]
struct Expected {
    figures: [Option<f64>; FIGURES.len()],
    run_id: i64,
}

fn a_month_of_recordings_is_stored_bit_for_bit(db: &TestDb) {
    let Some(folder) = recordings() else { return };
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
    check_coins(db, &coins);

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
    check_coins(db, &coins);
    check_prices(db, expected);
}

fn check_coins(db: &TestDb, coins: &BTreeMap<String, (String, String)>) {
    let mut stored = db.query("SELECT source_id, symbol, name FROM assets WHERE source = 'coingecko'");
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
