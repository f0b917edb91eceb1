//! `assets upsert`: the source's list into the table `assets`.

use serde_json::{Value, json};

use crate::support::gecko::Gecko;
use crate::support::stub::StubResponse;
use crate::support::test_db::{Backend, TestDb, assert_same};
use crate::support::workdir::wait_until;

on_every_database!(
    new_renamed_vanished_and_returned_coins,
    a_list_that_shrank_too_much_deactivates_nothing,
    a_coin_listed_twice_is_one_coin,
    a_broken_record_does_not_deactivate_its_coin,
    the_second_run_changes_nothing,
    history_of_a_vanished_coin_stays,
    an_empty_list_is_no_answer,
    a_list_of_other_coins_deactivates_nothing
);

const UPSERT: &[&str] = &["assets", "upsert"];

fn list<const N: usize>(coins: [(&str, &str, &str); N]) -> String {
    Value::from_iter(coins.map(|(id, symbol, name)| json!({"id": id, "symbol": symbol, "name": name}))).to_string()
}

/// `n` coins without the last `gone` of them.
fn many(n: usize, gone: usize) -> String {
    let ids: Vec<String> = (0..n - gone).map(|n| format!("coin-{n:04}")).collect();
    Value::from_iter(ids.iter().map(|id| json!({"id": id, "symbol": "c", "name": "C"}))).to_string()
}

/// Whatever a run reports, its parts make up the whole.
#[track_caller]
fn upsert(db: &TestDb, gecko: &Gecko, code: i32, args: &[&str]) -> Value {
    let result = db.ask(UPSERT, &gecko.url()).args(args).json(code);
    let number = |name: &str| result[name].as_i64().unwrap();
    assert_eq!(
        number("rows_read"),
        number("rows_written") + number("rows_unchanged") + number("rows_rejected"),
        "{result}"
    );
    result
}

fn counts(result: &Value) -> [i64; 5] {
    ["rows_read", "rows_written", "rows_updated", "rows_unchanged", "deactivated"]
        .map(|name| result[name].as_i64().unwrap())
}

fn new_renamed_vanished_and_returned_coins(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    let stored = || db.lines("SELECT id, source, source_id, symbol, name, active FROM assets ORDER BY id");
    // Ten that stay, so that one that goes is less than a tenth.
    let ids: Vec<String> = (0..10).map(|n| format!("z{n}")).collect();
    let with_ten = |coins: &[(&str, &str, &str)]| {
        let ten = ids.iter().map(|id| (id.as_str(), "z", "Z"));
        let all = coins.iter().copied().chain(ten);
        Value::from_iter(all.map(|(id, symbol, name)| json!({"id": id, "symbol": symbol, "name": name}))).to_string()
    };
    gecko.set_list(with_ten(&[("akropolis", "akro", "Akropolis"), ("b", "b", "B")]));
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [12, 12, 0, 0, 0]);
    assert_eq!(stored()[..2], ["1|coingecko|akropolis|akro|Akropolis|1", "2|coingecko|b|b|B|1"]);

    // Renamed under the same id, and a new one; the order of the list means nothing.
    gecko.set_list(with_ten(&[("c", "c", "C"), ("b", "b", "B"), ("akropolis", "kaon", "Kaon")]));
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [13, 2, 1, 11, 0]);
    assert_eq!(stored()[0], "1|coingecko|akropolis|kaon|Kaon|1");
    assert_eq!(stored()[12], "13|coingecko|c|c|C|1");

    // Vanished: inactive, still there.
    gecko.set_list(with_ten(&[("akropolis", "kaon", "Kaon"), ("c", "c", "C")]));
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [12, 0, 0, 12, 1]);
    assert_eq!(stored()[1], "2|coingecko|b|b|B|0");
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [12, 0, 0, 12, 0]);

    // Returned under its old id of ours, with a new name.
    gecko.set_list(with_ten(&[("akropolis", "kaon", "Kaon"), ("b", "b2", "B2"), ("c", "c", "C")]));
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [13, 1, 1, 12, 0]);
    assert_eq!(stored()[1], "2|coingecko|b|b2|B2|1");
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE first_seen_at > updated_at"), 0);
    assert_eq!(
        db.lines("SELECT source_id FROM assets WHERE updated_at > first_seen_at ORDER BY id"),
        ["akropolis", "b"]
    );
    assert_eq!(gecko.take_calls().len(), 5);
}

fn a_list_that_shrank_too_much_deactivates_nothing(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(many(200, 0));
    upsert(db, &gecko, 0, &[]);
    let active = || db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE");
    // A tenth exactly may go.
    gecko.set_list(many(200, 20));
    assert_eq!(upsert(db, &gecko, 0, &[])["deactivated"], 20);
    assert_eq!(active(), 180);
    // Of 180 one more than a tenth may not; what else the list tells is stored.
    let mut broken: Value = serde_json::from_str(&many(200, 39)).unwrap();
    broken[0]["name"] = "Renamed".into();
    gecko.set_list(broken.to_string());
    let result = upsert(db, &gecko, 3, &[]);
    assert_eq!(counts(&result), [161, 1, 1, 160, 0]);
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("161") && error.contains("180") && error.contains("--allow-shrink"), "{error}");
    assert_eq!(active(), 180);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE name = 'Renamed'"), 1);
    // The person says that it is true.
    assert_eq!(upsert(db, &gecko, 0, &["--allow-shrink"])["deactivated"], 19);
    assert_eq!(active(), 161);
}

fn a_coin_listed_twice_is_one_coin(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(list([("a", "a", "A"), ("b", "b", "B"), ("a", "a2", "A2"), ("a", "a", "A")]));
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [2, 2, 0, 0, 0]);
    assert_eq!(counts(&upsert(db, &gecko, 0, &[])), [2, 0, 0, 2, 0]);
    assert_eq!(db.lines("SELECT source_id, name FROM assets ORDER BY id"), ["a|A", "b|B"]);
}

fn a_broken_record_does_not_deactivate_its_coin(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(many(20, 0));
    upsert(db, &gecko, 0, &[]);
    gecko.set_list(many(20, 0).replacen(r#""symbol":"c""#, r#""symbol":{}"#, 1).replacen(r#""symbol":"c","#, "", 1));
    let result = upsert(db, &gecko, 3, &[]);
    assert_eq!(counts(&result), [20, 0, 0, 19, 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE AND symbol = 'c'"), 20);
}

fn the_second_run_changes_nothing(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(many(300, 0));
    upsert(db, &gecko, 0, &[]);
    let all = || db.lines("SELECT * FROM assets ORDER BY id");
    let before = all();
    let again = upsert(db, &gecko, 0, &[]);
    assert_eq!(counts(&again), [300, 0, 0, 300, 0]);
    assert_eq!((&again["calls"], &again["credits"]), (&1.into(), &1.into()));
    assert_same(&all(), &before);
    let text = db.ask(UPSERT, &gecko.url()).run().expect(0);
    assert!(text.stdout.contains("300 unchanged") && text.stderr.is_empty(), "{text}");
}

fn history_of_a_vanished_coin_stays(db: &TestDb) {
    let gecko = Gecko::usual(30);
    upsert(db, &gecko, 0, &[]);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let mut records = gecko.state.lock().unwrap().records.clone();
    let gone = records.remove(7);
    gecko.set_records(records);
    upsert(db, &gecko, 0, &[]);
    gecko.take_calls();
    // It costs no call any more, and is not missed.
    let result = db.ask(&["prices", "insert", "--no-fx"], &gecko.url()).json(0);
    assert_eq!((&result["calls"], &result["rows_absent"], &result["rows_read"]), (&1.into(), &0.into(), &29.into()));
    assert_eq!(gecko.take_calls().len(), 1);
    let history =
        format!("SELECT COUNT(*) FROM prices p JOIN assets a ON a.id = p.asset_id WHERE a.source_id = '{}'", gone.id);
    assert_eq!(db.number(&history), 1);
}

fn an_empty_list_is_no_answer(db: &TestDb) {
    let gecko = Gecko::with(Vec::new(), |_, _| Some(StubResponse::json("[]")));
    assert_eq!(db.ask(UPSERT, &gecko.url()).json(75)["status"], "failed");
    db.execute("INSERT INTO assets VALUES (1, 'coingecko', 'a', 'a', 'a', TRUE, '2026-01-02 03:04:05.006', '2026-01-02 03:04:05.006')");
    let result = db.ask(UPSERT, &gecko.url()).json(3);
    assert_eq!((&result["rows_read"], &result["deactivated"]), (&0.into(), &0.into()));
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 1);
}

/// As long as the right one, and yet not it.
fn a_list_of_other_coins_deactivates_nothing(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(many(100, 0));
    upsert(db, &gecko, 0, &[]);
    gecko.set_list(many(100, 0).replace("coin-", "other-"));
    let result = upsert(db, &gecko, 3, &[]);
    assert_eq!(counts(&result), [100, 100, 0, 0, 0]);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 200);
    // An empty one is never believed, whoever says so.
    gecko.set_list("[]");
    assert_eq!(upsert(db, &gecko, 3, &["--allow-shrink"])["deactivated"], 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE"), 200);
}

/// PostgreSQL knows nothing of a new table, and took a source for a handful of coins: to find a few it walked over all of them.
#[test]
fn a_coin_is_looked_up_without_walking_over_all_of_its_source() {
    let Some(db) = TestDb::new(Backend::Postgres) else { return };
    db.setup();
    let upsert = || db.coinetl(&["assets", "upsert", "--sandbox"]).json(0);
    let coins = upsert()["rows_written"].as_i64().unwrap();
    assert_eq!(upsert()["rows_unchanged"], coins);
    let walked = || {
        db.number(
            "SELECT COALESCE(SUM(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname = 'assets_by_source_id'",
        )
    };
    // A server tells it a little later.
    wait_until(|| walked() > 0);
    assert!(walked() < 6 * coins, "{} entries for {coins} coins", walked());
}
