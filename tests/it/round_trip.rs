//! `export` and `import`: what goes out by the one comes back by the other, bit for bit.

use crate::export::{asset, odd_prices, stored_candles, stored_prices};
use crate::support::test_db::{Cell, TestDb, assert_same};

on_every_database!(prices_come_back, candles_come_back);

fn other(db: &TestDb) -> TestDb {
    let other = TestDb::new(db.backend()).expect("a second database beside the first");
    other.setup();
    other
}

fn prices_come_back(db: &TestDb) {
    odd_prices(db);
    for format in ["csv", "parquet"] {
        let other = other(db);
        let (out, file) = (db.workdir().file(format), format!("prices.{format}"));
        db.coinetl(&["export", "prices", "--format", format, "--out"]).arg(&out).json(0);
        let result = other.coinetl(&["import"]).arg(out.join(&file)).json(0);
        assert_eq!((result["rows_read"].as_i64(), result["rows_written"].as_i64()), (Some(64), Some(64)), "{result}");
        let (left, right) = (bits(stored_prices(db)), bits(stored_prices(&other)));
        assert_same(&left, &right);
        // Once more changes nothing; a whole folder with its manifest and both formats neither.
        db.coinetl(&["export", "prices", "--format", "csv", "--out"]).arg(&out).json(0);
        let again = other.coinetl(&["import"]).arg(&out).json(0);
        assert_eq!(again["rows_written"].as_i64(), Some(0), "{again}");
        assert_same(&left, &bits(stored_prices(&other)));
        // Out of the second one come the same bytes.
        let back = other.workdir().file("back");
        other.coinetl(&["export", "prices", "--format", format, "--out"]).arg(&back).json(0);
        assert!(std::fs::read(out.join(&file)).unwrap() == std::fs::read(back.join(&file)).unwrap(), "{file}");
    }
}

fn candles_come_back(db: &TestDb) {
    let names = [("coingecko", "alpha"), ("archive", "Beta, \"the second\""), ("coinbase", "βήτα\n")];
    for (n, (source, name)) in names.into_iter().enumerate() {
        asset(db, 3 - n as i64, source, name, name);
    }
    let numbers = ["5e-324", "0.1", "17", "123456789.12345679", "1e22"];
    for n in 0..60_usize {
        let (id, timeframe) = (n % 3 + 1, ["1m", "1h", "1d"][n / 3 % 3]);
        let maybe = |every: usize| if n % every == 0 { "NULL" } else { numbers[n % 5] };
        db.execute(&format!(
            "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, base_volume, \
             market_cap, samples, origin, final, run_id) VALUES ({id}, '{}', '{timeframe}', '2026-0{}-{:02} 00:00:00.000', \
             {}, 1e23, 0, {}, {}, {}, {}, {}, '{}', {}, 1)",
            ["usd", "eur"][n / 9 % 2],
            n / 28 + 1,
            n % 28 + 1,
            numbers[n % 5],
            numbers[(n + 1) % 5],
            maybe(2),
            maybe(3),
            maybe(4),
            if n % 2 == 0 { "NULL" } else { "7" },
            ["source", "archive", "rollup"][n % 7 % 3],
            n % 5 != 0
        ));
    }
    for format in ["csv", "parquet"] {
        let other = other(db);
        let out = db.workdir().file(format);
        db.coinetl(&["export", "candles", "--format", format, "--out"]).arg(&out).json(0);
        let result = other.coinetl(&["import"]).arg(out.join(format!("candles.{format}"))).json(0);
        assert_eq!(result["rows_written"].as_i64(), Some(60), "{result}");
        for timeframe in ["1m", "1h", "1d"] {
            let expected = bits(stored_candles(db, timeframe));
            assert!(expected.len() > 10, "{timeframe}");
            assert_same(&expected, &bits(stored_candles(&other, timeframe)));
        }
    }
}

/// Doubles by their bits: `-0.0 == 0.0` would hide a difference.
fn bits(rows: Vec<Vec<Cell>>) -> Vec<Vec<String>> {
    let shown = |cell: Cell| match cell {
        Cell::Double(number) => format!("{:016x}", number.to_bits()),
        cell => format!("{cell:?}"),
    };
    rows.into_iter().map(|row| row.into_iter().map(shown).collect()).collect()
}
