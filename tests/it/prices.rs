//! `prices insert`: every active coin exactly once, in as few calls as that takes.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::gecko::{Gecko, Record, State, answer};
use crate::support::stub::{StubRequest, StubResponse};
use crate::support::test_db::{TestDb, assert_same};
use crate::support::workdir::SandboxServer;

on_every_database!(
    a_coin_that_is_broken_on_one_page_and_good_on_the_next_is_stored,
    a_page_with_too_many_records_is_broken,
    a_page_for_each_250_coins_and_currency,
    coins_that_move_between_pages_are_fetched_by_id,
    the_sandbox_moves_coins_and_none_is_lost,
    a_short_page_in_the_middle_loses_nothing,
    a_coin_that_is_only_on_a_page_is_added,
    a_coin_on_two_pages_counts_once_and_a_broken_one_is_not_asked_for,
    without_a_list_all_pages_are_read,
    the_top_ones_only,
    the_top_ones_while_ranks_move,
    chosen_ids_and_one_that_nobody_knows,
    the_same_observation_again_changes_nothing,
    without_a_time_of_its_own_each_run_is_an_observation,
    absent_coins_are_asked_for_once_a_day,
    a_page_that_fails_costs_itself_and_the_next_run_heals_it,
    three_failed_pages_in_a_row_end_the_asking
);

const INSERT: &[&str] = &["prices", "insert"];

#[track_caller]
fn insert(db: &TestDb, gecko: &Gecko, code: i32, args: &[&str]) -> Value {
    let result = db.ask(INSERT, &gecko.url()).args(args).json(code);
    check_sum(&result);
    result
}

#[track_caller]
fn check_sum(result: &Value) {
    let number = |name: &str| result[name].as_i64().unwrap();
    assert_eq!(
        number("rows_read"),
        number("rows_written") + number("rows_unchanged") + number("rows_rejected"),
        "{result}"
    );
    assert_eq!(number("calls"), number("credits"));
}

fn upsert(db: &TestDb, gecko: &Gecko) {
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    gecko.take_calls();
}

/// Every active coin has exactly one price in each of these currencies.
#[track_caller]
fn assert_each_once(db: &TestDb, coins: i64, currencies: i64) {
    let active = db.number("SELECT COUNT(*) FROM assets WHERE active = TRUE");
    assert_eq!(active, coins);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), coins * currencies);
    let pairs = "SELECT COUNT(*) FROM (SELECT DISTINCT p.asset_id, p.vs_currency FROM prices p \
                 JOIN assets a ON a.id = p.asset_id AND a.active = TRUE) once";
    assert_eq!(db.number(pairs), coins * currencies);
}

/// What was asked of the market since the last time: the one call for exchange rates is looked at elsewhere.
fn take_market_calls(gecko: &Gecko) -> Vec<StubRequest> {
    gecko.take_calls().into_iter().filter(|call| call.path.ends_with("/coins/markets")).collect()
}

fn pages(calls: &[StubRequest]) -> Vec<usize> {
    calls.iter().filter_map(|call| call.number("page")).collect()
}

fn asked_ids(calls: &[StubRequest]) -> Vec<String> {
    let lists = calls.iter().filter_map(|call| call.param("ids"));
    let mut ids: Vec<String> = lists.flat_map(|list| list.split(',').map(str::to_owned)).collect();
    ids.sort();
    ids
}

fn a_page_for_each_250_coins_and_currency(db: &TestDb) {
    for (coins, currencies, vs) in
        [(249, 1, "usd"), (250, 1, "usd"), (251, 1, "eur"), (600, 2, "usd,eur"), (500, 3, " USD,eur,btc,usd")]
    {
        db.execute("DELETE FROM prices; DELETE FROM absences; DELETE FROM assets");
        let gecko = Gecko::usual(coins);
        upsert(db, &gecko);
        let result = insert(db, &gecko, 0, &["--vs", vs]);
        let calls = take_market_calls(&gecko);
        let expected = coins.div_ceil(250) * currencies;
        assert_eq!(calls.len(), expected, "{coins} coins");
        let written = coins * currencies;
        assert_eq!((&result["calls"], &result["rows_written"]), (&(expected + 1).into(), &written.into()));
        assert_each_once(db, coins as i64, currencies as i64);
        for call in &calls {
            assert_eq!(call.path, "/api/v3/coins/markets");
            assert_eq!((call.param("per_page"), call.param("precision")), (Some("250"), Some("full")));
            assert_eq!((call.param("order"), call.param("sparkline")), (Some("id_asc"), Some("false")));
            assert_eq!(call.param("price_change_percentage"), Some("1h,24h,7d,30d"));
            assert!(call.header("user-agent").is_some_and(|agent| agent.starts_with("coinetl/")));
            assert!(call.header("accept-encoding").is_some_and(|kinds| kinds.contains("gzip")));
        }
    }
    assert_eq!(db.lines("SELECT DISTINCT vs_currency FROM prices ORDER BY vs_currency"), ["btc", "eur", "usd"]);
}

/// 1,250 coins, five full pages; on each page from the second, `moved` places are taken by coins of
/// the first page, because what belonged there moved to a page that was read before.
fn moving(moved: usize) -> Gecko {
    let records: Vec<Record> = (0..1_250).map(Record::usual).collect();
    Gecko::with(records, move |request, state| {
        let page = request.number("page").filter(|page| *page > 1)?;
        let own = state.records[(page - 1) * 250..].iter().take(250 - moved);
        let page: Vec<&str> = own.chain(&state.records[..moved]).map(|record| record.json.as_str()).collect();
        Some(StubResponse::json(format!("[{}]", page.join(","))))
    })
}

fn coins_that_move_between_pages_are_fetched_by_id(db: &TestDb) {
    for (moved, extra) in [(1, 1), (62, 1), (63, 2)] {
        db.execute("DELETE FROM prices; DELETE FROM assets");
        let gecko = moving(moved);
        upsert(db, &gecko);
        let result = insert(db, &gecko, 0, &[]);
        let calls = take_market_calls(&gecko);
        assert_eq!(calls.len(), 5 + extra, "{moved} moved from each page");
        assert_eq!((&result["rows_read"], &result["rows_written"]), (&1_250.into(), &1_250.into()));
        assert_eq!(result["rows_absent"], 0);
        assert_each_once(db, 1_250, 1);
        let expected: Vec<String> =
            (2..=5).flat_map(|page| (page * 250 - moved..page * 250).map(|n| format!("coin-{n:05}"))).collect();
        assert_eq!(asked_ids(&calls), expected);
        let calls_by_id = calls.iter().filter(|call| call.param("ids").is_some());
        assert!(calls_by_id.into_iter().all(|call| call.param("per_page") == Some("250")));
    }
}

fn a_short_page_in_the_middle_loses_nothing(db: &TestDb) {
    let gecko = Gecko::with((0..1_500).map(Record::usual).collect(), |request, state| {
        let mut shorter = state.clone();
        if request.number("page") == Some(2) {
            shorter.records.truncate(499);
        }
        Some(answer(request, &shorter))
    });
    upsert(db, &gecko);
    assert_eq!(insert(db, &gecko, 0, &[])["rows_absent"], 0);
    assert_each_once(db, 1_500, 1);
    let calls = take_market_calls(&gecko).len();
    assert!(calls <= 6 + 4, "{calls} calls for one coin that was not where it was looked for");
}

fn the_sandbox_moves_coins_and_none_is_lost(db: &TestDb) {
    const STILL: [&str; 6] = ["--assets", "1100", "--at", "2026-09-16T09:14:20Z", "--speed", "0"];
    // What a market that holds still has to offer.
    let still = SandboxServer::start(STILL);
    db.ask(&["assets", "upsert"], &still.url()).json(0);
    let undisturbed = db.ask(INSERT, &still.url()).json(0);
    let written = undisturbed["rows_written"].as_i64().unwrap();
    // Not the times: a coin without one gets the run's.
    let all = || db.lines("SELECT asset_id, price, volume_24h, market_cap, total_supply FROM prices ORDER BY asset_id");
    let expected = all();
    // Coins that have no price are known from now on: calls by id are for those that moved.
    db.execute("DELETE FROM prices");

    let shifting = SandboxServer::start(STILL.iter().chain(&["--fault", "shift=1"]));
    let result = db.ask(INSERT, &shifting.url()).json(0);
    check_sum(&result);
    assert_eq!((&result["rows_written"], &result["rows_absent"]), (&written.into(), &undisturbed["rows_absent"]));
    assert_same(&all(), &expected);
    assert_eq!(result["calls"], 5 + 1 + 1);
}

fn a_coin_that_is_only_on_a_page_is_added(db: &TestDb) {
    let gecko = Gecko::usual(20);
    upsert(db, &gecko);
    let mut records: Vec<Record> = (0..20).map(Record::usual).collect();
    records.push(Record {
        id: "new".into(),
        json: r#"{"id":"new","symbol":"NEW","name":"A new one","current_price":3}"#.into(),
    });
    gecko.set_records(records);
    assert_eq!(insert(db, &gecko, 0, &[])["rows_written"], 21);
    assert_eq!(
        db.lines("SELECT source, symbol, name, active FROM assets WHERE source_id = 'new'"),
        ["coingecko|NEW|A new one|1"]
    );
    assert_each_once(db, 21, 1);
}

fn a_coin_on_two_pages_counts_once_and_a_broken_one_is_not_asked_for(db: &TestDb) {
    let mut records: Vec<Record> = (0..4).map(Record::usual).collect();
    let twice = |record: &mut Record| record.json = format!("{0},{0}", record.json);
    twice(&mut records[1]);
    records[2].json = records[2].json.replace("2.25", "\"NaN\"");
    twice(&mut records[2]);
    let gecko = Gecko::new(records);
    upsert(db, &gecko);
    let result = insert(db, &gecko, 3, &[]);
    assert_eq!((&result["rows_read"], &result["rows_written"]), (&4.into(), &3.into()));
    assert_eq!((&result["rows_rejected"], &result["rows_absent"], &result["calls"]), (&1.into(), &0.into(), &2.into()));
}

fn without_a_list_all_pages_are_read(db: &TestDb) {
    for (coins, calls) in [(510, 3), (500, 3), (3, 1)] {
        db.execute("DELETE FROM prices; DELETE FROM absences; DELETE FROM assets");
        let gecko = Gecko::usual(coins);
        assert_eq!(insert(db, &gecko, 0, &[])["rows_written"], coins);
        // Only a page that is not full tells that it was the last one, where there is no list.
        assert!(take_market_calls(&gecko).len() <= calls, "{coins} coins");
        assert_each_once(db, coins as i64, 1);
    }
}

fn the_top_ones_only(db: &TestDb) {
    let gecko = Gecko::usual(600);
    upsert(db, &gecko);
    for (top, calls, per_page) in [(10, 1, "10"), (250, 1, "250"), (300, 2, "250"), (600, 3, "250")] {
        db.execute("DELETE FROM prices");
        let result = insert(db, &gecko, 0, &["--top", &top.to_string()]);
        let asked = gecko.take_calls();
        assert_eq!(asked.len(), calls, "--top {top}: {:?}", pages(&asked));
        assert_eq!((asked[0].param("order"), asked[0].param("per_page")), (Some("market_cap_desc"), Some(per_page)));
        assert_eq!((&result["rows_read"], &result["rows_absent"]), (&top.into(), &0.into()), "--top {top}");
        // The stub's first records are its largest coins.
        let last = db.lines("SELECT MAX(a.source_id) FROM prices p JOIN assets a ON a.id = p.asset_id");
        assert_eq!(last, [format!("coin-{:05}", top - 1)]);
        assert_eq!(db.number("SELECT COUNT(*) FROM prices"), top as i64);
    }
    // More than there are is all there are.
    assert_eq!(insert(db, &gecko, 0, &["--top", "5000"])["rows_unchanged"], 600);
}

fn the_top_ones_while_ranks_move(db: &TestDb) {
    // What an earlier run stored says which coins are among the largest.
    let gecko = moving(5);
    upsert(db, &gecko);
    insert(db, &gecko, 0, &[]);
    gecko.take_calls();
    let result = insert(db, &gecko, 0, &["--top", "500"]);
    let calls = gecko.take_calls();
    assert_eq!((calls.len(), &result["rows_read"]), (3, &500.into()));
    assert_eq!(asked_ids(&calls), (495..500).map(|n| format!("coin-{n:05}")).collect::<Vec<_>>());
}

fn chosen_ids_and_one_that_nobody_knows(db: &TestDb) {
    let gecko = Gecko::usual(700);
    upsert(db, &gecko);
    let result = insert(db, &gecko, 0, &["--ids", "coin-00005,coin-00003,coin-00005"]);
    assert_eq!((&result["rows_written"], &result["calls"]), (&2.into(), &1.into()));
    let result = insert(db, &gecko, 3, &["--ids", "coin-00003,bitcion,coin-00004", "--vs", "usd,eur"]);
    assert_eq!((&result["rows_read"], &result["rows_absent"], &result["calls"]), (&4.into(), &2.into(), &2.into()));
    assert_eq!(result["rows_written"], 3);
    assert!(result["error"].as_str().unwrap().contains("bitcion"), "{result}");
    let nothing = insert(db, &gecko, 3, &["--ids", "bitcion"]);
    assert_eq!((&nothing["rows_read"], &nothing["rows_absent"]), (&0.into(), &1.into()));
    gecko.take_calls();
    let ids: Vec<String> = (0..600).map(|n| format!("coin-{n:05}")).collect();
    let result = insert(db, &gecko, 0, &["--ids", &ids.join(",")]);
    assert_eq!(result["rows_read"], 600);
    let calls = gecko.take_calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(asked_ids(&calls), ids);
    assert_eq!(db.number("SELECT COUNT(*) FROM assets"), 700);
}

fn the_same_observation_again_changes_nothing(db: &TestDb) {
    let gecko = Gecko::usual(300);
    upsert(db, &gecko);
    let all = || db.lines("SELECT * FROM prices ORDER BY asset_id");
    insert(db, &gecko, 0, &[]);
    let before = all();
    let again = insert(db, &gecko, 0, &[]);
    assert_eq!(
        (&again["rows_unchanged"], &again["rows_written"], &again["rows_updated"]),
        (&300.into(), &0.into(), &0.into())
    );
    assert_same(&all(), &before);
    let text = db.ask(INSERT, &gecko.url()).run().expect(0);
    assert!(text.stdout.contains("300 unchanged") && text.stdout.contains("COIN-00000"), "{text}");
    assert_eq!(text.stderr, "");
}

fn without_a_time_of_its_own_each_run_is_an_observation(db: &TestDb) {
    let gecko = Gecko::new(vec![
        Record::new("a", &[("current_price", "1"), ("last_updated", "null")]),
        Record::new("b", &[("current_price", "2")]),
        Record::new("c", &[("current_price", "3"), ("last_updated", "\"2020-01-02T03:04:05.678Z\"")]),
    ]);
    insert(db, &gecko, 0, &[]);
    let untimed = "SELECT COUNT(*) FROM prices p JOIN runs r ON r.id = p.run_id WHERE p.observed_at = r.started_at";
    assert_eq!(db.number(untimed), 2);
    assert_eq!(db.lines("SELECT observed_at FROM prices WHERE price = 3"), ["2020-01-02 03:04:05.678"]);
    assert_eq!(insert(db, &gecko, 0, &[])["rows_written"], 2);
    assert_eq!(db.number(untimed), 4);
    assert_eq!(db.number("SELECT COUNT(*) FROM prices"), 5);
}

fn absent_coins_are_asked_for_once_a_day(db: &TestDb) {
    let gecko = Gecko::usual(260);
    upsert(db, &gecko);
    let everything: Vec<Record> = (0..260).map(Record::usual).collect();
    // Two coins are listed, and no page has them.
    gecko.set_records(everything[..258].to_vec());
    let counts = |result: &Value| [result["rows_read"].as_i64().unwrap(), result["rows_absent"].as_i64().unwrap()];
    assert_eq!(counts(&insert(db, &gecko, 0, &[])), [258, 2]);
    let calls = take_market_calls(&gecko);
    assert_eq!((calls.len(), asked_ids(&calls)), (3, vec!["coin-00258".to_owned(), "coin-00259".to_owned()]));
    // Known to be absent: still counted, but no call is spent on them.
    assert_eq!(counts(&insert(db, &gecko, 0, &[])), [258, 2]);
    assert_eq!(take_market_calls(&gecko).len(), 2);
    // In another currency they may well have a price.
    assert_eq!(counts(&insert(db, &gecko, 0, &["--vs", "eur"])), [258, 2]);
    assert_eq!(take_market_calls(&gecko).len(), 3);
    // A day later.
    db.execute("UPDATE absences SET asked_us = asked_us - 86400000001");
    assert_eq!(counts(&insert(db, &gecko, 0, &[])), [258, 2]);
    assert_eq!(take_market_calls(&gecko).len(), 3);
    // One is back, and nothing is left of its absence.
    gecko.set_records(everything[..259].to_vec());
    assert_eq!(counts(&insert(db, &gecko, 0, &[])), [259, 1]);
    assert_eq!(take_market_calls(&gecko).len(), 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM absences WHERE vs_currency = 'usd'"), 1);
}

/// The market, but these pages (in every try) answer 500.
fn with_failing(coins: usize, failing: &'static [usize]) -> Gecko {
    Gecko::with((0..coins).map(Record::usual).collect(), move |request, _| {
        request.number("page").filter(|page| failing.contains(page)).map(|_| StubResponse::error(500))
    })
}

fn a_page_that_fails_costs_itself_and_the_next_run_heals_it(db: &TestDb) {
    let gecko = with_failing(1_000, &[2]);
    upsert(db, &gecko);
    let result = insert(db, &gecko, 3, &[]);
    assert_eq!((&result["status"], &result["rows_written"]), (&"partial".into(), &750.into()));
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("page 2 of usd") && error.contains("500"), "{error}");
    // At most five tries, and none is spent on asking for 250 coins by id that the next run gets.
    let calls = take_market_calls(&gecko);
    assert_eq!(pages(&calls).iter().filter(|page| **page == 2).count(), 5);
    assert_eq!((calls.len(), &result["calls"]), (8, &9.into()));
    assert_eq!(result["rows_absent"], 0);

    let healthy = Gecko::usual(1_000);
    let healed = insert(db, &healthy, 0, &[]);
    assert_eq!((&healed["rows_written"], &healed["rows_unchanged"]), (&250.into(), &750.into()));
    assert_each_once(db, 1_000, 1);
}

fn three_failed_pages_in_a_row_end_the_asking(db: &TestDb) {
    let gecko = with_failing(2_500, &[3, 4, 5, 6, 7, 8, 9, 10]);
    upsert(db, &gecko);
    let result = insert(db, &gecko, 3, &[]);
    assert_eq!(result["rows_written"], 500);
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("page 3") && error.contains("page 5") && error.contains("not asked for"), "{error}");
    let asked = pages(&gecko.take_calls());
    assert!(!asked.contains(&10), "{asked:?}");
    let nothing = insert(db, &with_failing(2_500, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 75, &[]);
    assert_eq!((&nothing["status"], &nothing["rows_read"]), (&"failed".into(), &0.into()));
}

/// An answer that comes and goes: the first try of each page fails, the second works.
#[test]
fn a_fault_that_passes_costs_one_call_and_nothing_else() {
    let db = TestDb::new(crate::support::test_db::Backend::Sqlite).unwrap();
    db.setup();
    let tried: Mutex<HashMap<String, usize>> = Mutex::default();
    let gecko = Gecko::with((0..500).map(Record::usual).collect(), move |request: &StubRequest, state: &mut State| {
        let mut tried = tried.lock().unwrap();
        let tries = tried.entry(request.target.clone()).or_default();
        *tries += 1;
        Some(if *tries == 1 { StubResponse::error(503) } else { answer(request, state) })
    });
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    let result = insert(&db, &gecko, 0, &[]);
    assert_eq!((&result["calls"], &result["rows_written"]), (&6.into(), &500.into()));
}

fn a_coin_that_is_broken_on_one_page_and_good_on_the_next_is_stored(db: &TestDb) {
    let mut records: Vec<Record> = (0..300).map(Record::usual).collect();
    upsert(db, &Gecko::new(records.clone()));
    // The first page repeats a coin of the second one, with a price that is none.
    records[7].json = records[270].json.replace("270.25", "NaN");
    // And an id that belongs to something else inside a broken record is nobody's.
    records[8].json = format!(r#"{{"roi":{{"id":"{}"}},"current_price":NaN}}"#, records[280].id);
    let result = insert(db, &Gecko::new(records), 3, &[]);
    assert_eq!((&result["rows_written"], &result["rows_rejected"]), (&298.into(), &2.into()), "{result}");
    let stored = "SELECT COUNT(*) FROM prices p JOIN assets a ON a.id = p.asset_id WHERE a.source_id IN ";
    assert_eq!(db.number(&format!("{stored} ('coin-00270', 'coin-00280')")), 2);
}

fn a_page_with_too_many_records_is_broken(db: &TestDb) {
    let body = format!("[{}]", vec![Record::usual(1).json; 251].join(","));
    let gecko = Gecko::with(Vec::new(), move |request, _| {
        request.path.ends_with("markets").then(|| StubResponse::json(body.as_str()))
    });
    let error = db.ask(&["prices", "insert"], &gecko.url()).json(75)["error"].to_string();
    assert!(error.contains("more than 250 records"), "{error}");
}
