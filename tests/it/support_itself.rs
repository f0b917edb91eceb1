//! The tools of the tests themselves: a tool that lies makes every test above it worthless.

use crate::support::gecko::Gecko;
use crate::support::test_db::{Cell, TestDb, bits};

on_every_database!(values_are_read_as_they_are_stored, the_stub_plays_the_vendor);

fn values_are_read_as_they_are_stored(db: &TestDb) {
    db.execute(
        "INSERT INTO assets VALUES (7, 's', 'a ', 'é', '', TRUE, '2026-01-02 03:04:05.006', '2026-01-02 03:04:05.000')",
    );
    db.execute("INSERT INTO runs (id, command, source, started_at, status) VALUES (3, 'c', 's', '2026-01-02 03:04:05.006', 'ok')");
    db.execute("INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) VALUES (7, 'usd', '2026-01-02 03:04:05.006', 5e-324, 3)");
    assert_eq!(db.lines("SELECT * FROM assets"), ["7|s|a |é||1|2026-01-02 03:04:05.006|2026-01-02 03:04:05.000"]);
    assert_eq!(db.cells("SELECT price FROM prices"), [[Cell::Double(5e-324)]]);
    assert_eq!(db.doubles("SELECT price, market_cap FROM prices"), [[Some(bits(5e-324)), None]]);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 1);
}

fn the_stub_plays_the_vendor(db: &TestDb) {
    let gecko = Gecko::usual(3);
    let result = db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    assert_eq!((&result["rows_read"], &result["rows_written"]), (&3.into(), &3.into()));
    let calls = gecko.take_calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].path, "/api/v3/coins/list");
    assert!(calls[0].header("user-agent").is_some_and(|agent| agent.starts_with("coinetl/")));
}
