//! The candle sink: which of two bars stays, who changed it, how many, and what is marked for folding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coinetl::db::candles::{CandleRow, upsert};
use coinetl::db::{Session, prices};
use coinetl::domain::{Bar, Candle, Column, Cost, Figures, Origin, Stamp, Timeframe};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::test_db::{TestDb, assert_same, loud};

on_every_database!(batches_come_to_what_their_rows_come_to_one_by_one, what_changed_is_marked_and_nothing_else,);

const DAY: i64 = 1_779_148_800_000; // 2026-05-19T00:00:00Z

fn assets(db: &TestDb, count: i64) {
    let at = "'2026-05-19 00:00:00.000'";
    let rows: Vec<String> = (1..=count).map(|id| format!("({id}, 's', 'c{id}', 'c', 'c', TRUE, {at}, {at})")).collect();
    db.execute(&format!("INSERT INTO assets VALUES {}", rows.join(", ")));
}

fn session(db: &TestDb) -> Session {
    Session::begin(db.open(), "import", "archive", Duration::ZERO).unwrap()
}

fn row(asset_id: i64, vs: &Arc<str>, timeframe: Timeframe, open: i64, origin: Origin, price: f64) -> CandleRow {
    let bar = Bar { volume: (price > 3.0).then_some(price), ..Bar::new(price, price + 1.0, price, price).unwrap() };
    let open_time = Stamp::from_millis(open).unwrap();
    let candle = Candle { timeframe, open_time, bar, origin, is_final: price != 5.0 };
    CandleRow { asset_id, vs_currency: vs.clone(), candle }
}

/// A stored row as a line.
fn line(row: &CandleRow, run_id: i64) -> String {
    let Candle { timeframe, open_time, bar, origin, is_final } = &row.candle;
    let maybe = |number: Option<f64>| number.map_or("NULL".to_owned(), |number| format!("{number:?}"));
    format!(
        "{}|{}|{timeframe}|{open_time}|{:?}|{:?}|{:?}|{:?}|{}|{}|{}|{}|{}|{}|{run_id}",
        row.asset_id,
        row.vs_currency,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        maybe(bar.volume),
        maybe(bar.base_volume),
        maybe(bar.market_cap),
        bar.samples.map_or("NULL".to_owned(), |samples| samples.to_string()),
        origin.name(),
        i64::from(*is_final),
    )
}

/// Whether a row is left alone by one that comes later.
fn stays(row: &CandleRow, later: &CandleRow) -> bool {
    let (row, later) = (&row.candle, &later.candle);
    let is_fold_of_more =
        row.bar.samples.unwrap_or(0) > later.bar.samples.unwrap_or(0) && later.origin == Origin::Rollup;
    match row.origin.cmp(&later.origin) {
        _ if row.is_final && !later.is_final => true,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => is_fold_of_more,
        std::cmp::Ordering::Less => false,
    }
}

fn batches_come_to_what_their_rows_come_to_one_by_one(db: &TestDb) {
    assets(db, 9);
    let seed = rand::rng().random_range(0..1_000_000);
    loud(&format!("{:?}: candles of seed {seed}", db.backend()));
    let mut dice = StdRng::seed_from_u64(seed);
    let currencies: [Arc<str>; 2] = ["usd".into(), "EUR ".into()];
    let mut expected: BTreeMap<(i64, String, &str, Stamp), (CandleRow, i64)> = BTreeMap::new();
    // Sizes for each way a batch may go: few rows, and more than a file is made for; new keys, mixed ones.
    for size in [1, 7, 3_000, 500, 2_500, 1, 4_000] {
        let mut session = session(db);
        let run_id = session.run_id();
        let mut rows: Vec<CandleRow> = (0..size)
            .map(|_| {
                let timeframe = Timeframe::ALL[dice.random_range(0..6)];
                let open = DAY + dice.random_range(0..80) * timeframe.millis();
                let origin = Origin::ALL[dice.random_range(0..3)];
                let vs = &currencies[dice.random_range(0..2)];
                let mut row =
                    row(dice.random_range(1..10), vs, timeframe, open, origin, f64::from(dice.random_range(1..7)));
                row.candle.bar.samples = dice.random_bool(0.5).then_some(7);
                row.candle.bar.market_cap = dice.random_bool(0.5).then_some(1.2e59);
                row
            })
            .collect();
        // The batch by itself first.
        let mut batch: BTreeMap<_, CandleRow> = BTreeMap::new();
        for row in &rows {
            let key = (row.asset_id, row.vs_currency.to_string(), row.candle.timeframe.name(), row.candle.open_time);
            match batch.get(&key) {
                Some(held) if stays(held, row) => {}
                _ => drop(batch.insert(key, row.clone())),
            }
        }
        let (mut new, mut updated, mut unchanged) = (0, 0, 0);
        for (key, row) in batch {
            match expected.get(&key) {
                Some((held, _)) if stays(held, &row) || *held == row => unchanged += 1,
                Some(_) => {
                    updated += 1;
                    expected.insert(key, (row, run_id));
                }
                None => {
                    new += 1;
                    expected.insert(key, (row, run_id));
                }
            }
        }
        let stored = session.batch(|batch| upsert(batch, &mut rows)).unwrap();
        assert_eq!((stored.new, stored.updated, stored.unchanged), (new, updated, unchanged), "{size}");
        // Once more, by another run: nothing is written.
        let again = session.batch(|batch| upsert(batch, &mut rows)).unwrap();
        assert_eq!((again.new, again.updated), (0, 0));
        session.finish(coinetl::db::runs::Status::Ok, None, Cost::default()).unwrap();
    }
    let stored = db.lines(
        "SELECT asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, base_volume, market_cap, \
         samples, origin, final, run_id FROM candles ORDER BY asset_id, vs_currency, timeframe, open_time",
    );
    let expected: Vec<String> = expected.values().map(|(row, run_id)| line(row, *run_id)).collect();
    assert_same(&stored, &expected);
}

fn what_changed_is_marked_and_nothing_else(db: &TestDb) {
    assets(db, 100);
    let usd: Arc<str> = "usd".into();
    let mut session = session(db);
    let mut store = |mut rows: Vec<CandleRow>| session.batch(|batch| upsert(batch, &mut rows)).unwrap();
    let marks = || {
        let marks = db.lines("SELECT * FROM rollup_pending ORDER BY hour, vs_currency, first_asset, last_asset");
        db.execute("DELETE FROM rollup_pending");
        marks.into_iter().map(|mark| mark.replace("2026-05-19 ", "").replace(":00:00.000", "")).collect::<Vec<_>>()
    };
    let hour = 3_600_000;
    // Days, and what was rolled up, are folded into nothing.
    store(vec![
        row(1, &usd, Timeframe::D1, DAY, Origin::Source, 1.0),
        row(1, &usd, Timeframe::H1, DAY, Origin::Rollup, 1.0),
    ]);
    assert_eq!(marks(), [""; 0]);
    let bars = || {
        vec![
            row(7, &usd, Timeframe::M1, DAY + 3 * hour + 60_000, Origin::Source, 1.0),
            row(7, &usd, Timeframe::M1, DAY + 3 * hour + 120_000, Origin::Archive, 1.0),
            row(9, &usd, Timeframe::H6, DAY + 6 * hour, Origin::Source, 1.0),
        ]
    };
    store(bars());
    assert_eq!(marks(), ["03|usd|7|7", "06|usd|9|9"]);
    assert!(!store(bars()).changed());
    assert_eq!(marks(), [""; 0]);
    // Many coins of an hour are one range.
    store((20..60).map(|id| row(id, &usd, Timeframe::M1, DAY, Origin::Source, 1.0)).collect());
    store((20..60).map(|id| row(id, &usd, Timeframe::M1, DAY, Origin::Source, 2.0)).collect());
    assert_eq!(marks(), ["00|usd|20|59"]);
    // Prices: the same, where price or market cap are told.
    let price = |id: i64, column: Column, value: f64| {
        let mut figures = Figures::default();
        figures.set(column, Some(value)).unwrap();
        let observed_at = Stamp::from_millis(DAY + 5 * hour + id).unwrap();
        prices::PriceRow { asset_id: id, vs_currency: usd.clone(), observed_at, figures }
    };
    let mut store = |mut rows: Vec<prices::PriceRow>| session.batch(|batch| prices::upsert(batch, &mut rows)).unwrap();
    store((1..=90).map(|id| price(id, Column::Price, 1.0)).collect());
    store((3..=5).map(|id| price(id, Column::Price, 2.0)).collect());
    assert_eq!(marks(), ["05|usd|1|90", "05|usd|3|3", "05|usd|4|4", "05|usd|5|5"]);
    assert!(!store((1..=2).map(|id| price(id, Column::Price, 1.0)).collect()).changed());
    assert!(store((1..=2).map(|id| price(id, Column::Volume24h, 1.0)).collect()).changed());
    assert_eq!(marks(), [""; 0]);
}
