//! `export … --out -`: one stream, which is what the file would be.

use std::fs::File;
use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::export::{asset, odd_prices, parquet_rows, stored_prices};
use crate::support::test_db::{Backend, TestDb, assert_same};
use crate::support::workdir::signal;

on_every_database!(the_stream_is_what_the_file_would_be);

fn the_stream_is_what_the_file_would_be(db: &TestDb) {
    odd_prices(db);
    let csv = ["export", "prices", "--format", "csv", "--vs", "usd,eur"];
    db.coinetl(&csv).args(["--out", "out"]).run().expect(0);
    let output = db.coinetl(&csv).args(["--out", "-", "--output", "json"]).run().expect(0);
    assert_eq!(output.stdout, std::fs::read_to_string(db.workdir().file("out/prices.csv")).unwrap());
    // What is told of it stands beside it.
    let told: Value = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!((told["status"].as_str(), told["out"].as_str()), (Some("ok"), Some("-")), "{told}");
    assert_eq!(told["bytes"].as_u64(), Some(output.stdout.len() as u64));
    let manifest = std::fs::read_to_string(db.workdir().file("out/manifest.json")).unwrap();
    assert!(manifest.contains(told["sha256"].as_str().unwrap()), "{told}");
    assert!(!db.workdir().file("-").exists());
    let quiet = db.coinetl(&csv).args(["--out", "-", "--quiet"]).run().expect(0);
    assert_eq!((quiet.stdout, quiet.stderr), (output.stdout, String::new()));

    let path = db.workdir().file("through.parquet");
    let file = Stdio::from(File::create(&path).unwrap());
    let mut running = db.coinetl(&["export", "prices", "--format", "parquet", "--out", "-"]).start(file, Stdio::null());
    assert!(running.wait().unwrap().success());
    assert_same(&parquet_rows(&path).1, &stored_prices(db));
    assert_eq!(
        db.lines("SELECT status, rows_written FROM runs WHERE command = 'export prices' ORDER BY id").len(),
        4,
        "each is a run"
    );
}

/// So much that no pipe takes it all.
fn many(db: &TestDb) {
    asset(db, 1, "coingecko", "bitcoin", "btc");
    db.execute(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         SELECT 1, 'usd', strftime('%Y-%m-%d %H:%M:%S.000', 1700000000 + i, 'unixepoch'), i, 1 FROM n",
    );
}

/// An export of which somebody read the first word.
fn begun(db: &TestDb) -> (Child, ChildStdout) {
    let mut running =
        db.coinetl(&["export", "prices", "--format", "csv", "--out", "-"]).start(Stdio::piped(), Stdio::piped());
    let mut stdout = running.stdout.take().unwrap();
    let mut head = [0; 6];
    stdout.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"source");
    (running, stdout)
}

#[test]
fn a_reader_that_goes_away_is_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    many(&db);
    let (running, stdout) = begun(&db);
    drop(stdout);
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("whoever read the standard output went away"), "{said}");
    assert_eq!(db.lines("SELECT status FROM runs WHERE command = 'export prices'"), ["failed"]);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
}

#[test]
fn a_reader_that_takes_nothing_can_t_keep_it_from_stopping() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    many(&db);
    let (running, stdout) = begun(&db);
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    signal(running.id(), "TERM");
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(30), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped by a signal; what came through is not the whole export"), "{said}");
    drop(stdout);
}

#[test]
fn a_full_disk_behind_it_is_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    odd_prices(&db);
    let export = || db.coinetl(&["export", "prices", "--format", "csv", "--out", "-"]);
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        let output = export().start(Stdio::from(full), Stdio::piped()).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("no space is left behind the standard output; what is there is not the whole"), "{said}");
    }
    // Nowhere is a place, too.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    assert!(export().start(Stdio::from(null), Stdio::null()).wait().unwrap().success());
}

#[test]
fn what_needs_a_folder_is_refused() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    for option in [&["--since-last"][..], &["--partition-by", "day"]] {
        let output = db.coinetl(&["export", "prices", "--format", "csv", "--out", "-"]).args(option).run().expect(2);
        assert!(output.stderr.contains(option[0]) && output.stderr.contains("needs a folder"), "{output}");
        assert_eq!(output.stdout, "");
    }
    // A failure is told beside the stream as well.
    let output = db
        .coinetl(&["export", "prices", "--format", "csv", "--out", "-", "--source", "nobody", "--output", "json"])
        .run()
        .expect(2);
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("\"status\":\"failed\""), "{output}");
}
