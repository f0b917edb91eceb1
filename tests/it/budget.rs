//! The month's budget: a run that would break it stops before its first call and says when it can go
//! on; what the vendor tells of its plan is believed, asked for again, and kept.

use serde_json::Value;

use crate::support::gecko::Gecko;
use crate::support::stub::{Stub, StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::Cmd;

const PRICES: &[&str] = &["prices", "insert"];

on_every_database!(
    a_run_that_would_break_the_month_stops_before_its_first_call,
    a_plan_that_grew_is_asked_for_before_refusing,
    a_plan_that_shrank_is_noticed_within_a_day,
);

fn a_run_that_would_break_the_month_stops_before_its_first_call(db: &TestDb) {
    let gecko = Gecko::usual(600);
    let with = |budget: &str, args: &[&str]| db.ask(args, &gecko.url()).env("COINETL_CREDITS_PER_MONTH", budget);
    with("4", &["assets", "upsert"]).json(0);
    gecko.take_calls();
    // Three pages and the exchange rates, and three credits are left.
    let refused = with("4", PRICES).json(75);
    assert_eq!(gecko.take_calls().len(), 0);
    assert_eq!(
        (&refused["calls"], &refused["status"], &refused["rows_read"]),
        (&0.into(), &"failed".into(), &0.into())
    );
    let error = refused["error"].as_str().unwrap();
    for words in ["4 more credit(s) are needed and 3 of 4 are left", "-01 00:00 UTC", "COINETL_CREDITS_PER_MONTH"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(db.lines("SELECT status, calls FROM runs ORDER BY id"), ["ok|1", "failed|0"]);
    // Without the rates it fits, and then nothing does.
    with("4", &["prices", "insert", "--no-fx"]).json(0);
    with("4", &["prices", "insert", "--top", "1"]).json(75);
    // 0 is no limit; and what was used in another month does not count.
    with("0", PRICES).json(0);
    with("4", PRICES).json(75);
    db.execute("UPDATE runs SET started_at = '2020-01-31 23:59:59.999'");
    with("4", PRICES).json(0);
}

/// Retries are calls, too: each is held against what is left.
#[test]
fn no_retry_breaks_the_month() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::with(Vec::new(), |_, _| Some(StubResponse::error(500)));
    let result = db.ask(PRICES, &gecko.url()).env("COINETL_CREDITS_PER_MONTH", "74").json(75);
    // 72 are expected of a market of unknown size, and were allowed; three pages in vain take five tries each.
    assert_eq!(result["calls"], 15);
    let result = db.ask(&["prices", "insert", "--top", "250"], &gecko.url()).env("COINETL_CREDITS_PER_MONTH", "17");
    let result = result.json(75);
    assert_eq!((gecko.take_calls().len(), &result["calls"]), (17, &2.into()));
    assert!(result["error"].as_str().unwrap().contains("budget is spent"), "{result}");
}

#[test]
fn made_up_data_has_no_budget_unless_one_is_chosen() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let sandbox = crate::support::workdir::SandboxServer::start(["--assets", "600"]);
    let run = |budget: Option<&str>| {
        let cmd = db.ask(PRICES, &sandbox.url()).env("COINGECKO_DEMO_API_KEY", "CG-x");
        if let Some(budget) = budget { cmd.env("COINETL_CREDITS_PER_MONTH", budget) } else { cmd }
    };
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    db.execute("UPDATE runs SET credits = 10000");
    run(None).json(0);
    let used = db.number("SELECT SUM(credits) FROM runs");
    // Counted under whichever name the data is stored.
    run(Some(&(used + 3).to_string())).json(75);
    run(Some(&(used + 4).to_string())).json(0);
}

// ---- a vendor that tells its plan ----

/// CoinMarketCap with two coins and this plan.
fn vendor(limit: i64, used: i64) -> Stub {
    Stub::start(move |request: &StubRequest| {
        let charged = i32::from(request.path != KEY_INFO);
        let status = format!(r#""status":{{"error_code":0,"error_message":null,"credit_count":{charged}}}"#);
        let data = match request.path.as_str() {
            "/v1/key/info" => format!(
                r#"{{"plan":{{"credit_limit_monthly":{limit},"credit_limit_monthly_reset_timestamp":null,"rate_limit_minute":30}},"usage":{{"current_month":{{"credits_used":{used},"credits_left":{}}}}}}}"#,
                limit - used
            ),
            "/v3/cryptocurrency/listings/latest" => {
                let coin = |id: i64| {
                    format!(r#"{{"id":{id},"name":"c","symbol":"C","quote":[{{"symbol":"USD","price":{id}.5}}]}}"#)
                };
                format!("[{},{}]", coin(1), coin(2))
            }
            _ => return StubResponse::new(404, "application/json", r#"{"status":{"error_code":404}}"#),
        };
        StubResponse::json(format!(r#"{{{status},"data":{data}}}"#))
    })
}

fn ask(db: &TestDb, vendor: &Stub, args: &[&str]) -> Cmd {
    db.coinetl(args)
        .args(["--source", "coinmarketcap"])
        .env("COINMARKETCAP_API_URL", format!("http://{}", vendor.address()))
        .env("COINMARKETCAP_API_KEY", "cmc-test-key")
}

fn paths(vendor: &Stub) -> Vec<String> {
    vendor.take().into_iter().map(|request| request.path).collect()
}

/// So many credits were used this month.
fn used(db: &TestDb, credits: i64) {
    let now = match db.backend() {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f','now')",
        Backend::Mysql => "UTC_TIMESTAMP(3)",
        Backend::Postgres => "clock_timestamp() AT TIME ZONE 'UTC'",
    };
    db.execute(&format!(
        "INSERT INTO runs (command, source, started_at, status, calls, credits) \
         VALUES ('prices insert', 'coinmarketcap', {now}, 'ok', 1, {credits})"
    ));
}

const KEY_INFO: &str = "/v1/key/info";
const LISTINGS: &str = "/v3/cryptocurrency/listings/latest";

fn a_plan_that_grew_is_asked_for_before_refusing(db: &TestDb) {
    // The free plan has 15,000; nobody told of another one yet.
    used(db, 14_999);
    let small = vendor(15_000, 14_999);
    let top = &["prices", "insert", "--top", "201"];
    let refused = ask(db, &small, top).json(75);
    assert_eq!(
        (paths(&small), &refused["calls"], &refused["credits"]),
        (vec![KEY_INFO.to_owned()], &1.into(), &0.into())
    );
    assert!(refused["error"].as_str().unwrap().contains("1 of 15000 are left"), "{refused}");
    let large = vendor(450_000, 20_000);
    // Told just now: asking again is no use for a while.
    let refused = ask(db, &large, top).json(75);
    assert_eq!((paths(&large).len(), &refused["calls"]), (0, &0.into()));
    db.execute("UPDATE accounts SET told_ms = told_ms - 3600000");
    let result = ask(db, &large, top).json(0);
    assert_eq!(paths(&large), [KEY_INFO, LISTINGS]);
    // One credit is what the vendor charged, two were counted beforehand.
    assert_eq!((&result["calls"], &result["credits"], &result["rows_written"]), (&2.into(), &1.into(), &2.into()));
    // From now on it is known.
    ask(db, &large, top).json(0);
    assert_eq!(paths(&large), [LISTINGS]);
    // A setting goes before what the vendor tells, and nothing is asked then.
    let chosen = ask(db, &large, top).env("COINETL_CREDITS_PER_MONTH", "15000").json(75);
    assert_eq!((paths(&large).len(), &chosen["calls"]), (0, &0.into()));
}

fn a_plan_that_shrank_is_noticed_within_a_day(db: &TestDb) {
    let insert = |age_ms: i64| {
        let now = match db.backend() {
            Backend::Sqlite => "CAST(unixepoch('now','subsec')*1000 AS INTEGER)",
            Backend::Mysql => "CAST(UNIX_TIMESTAMP(NOW(3))*1000 AS SIGNED)",
            Backend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp())*1000 AS BIGINT)",
        };
        db.execute("DELETE FROM accounts");
        db.execute(&format!(
            "INSERT INTO accounts (source, credits_per_month, credits_used, told_ms, own_used) \
             VALUES ('coinmarketcap', 450000, 50, {now} - {age_ms}, 50)"
        ));
    };
    let shrunk = vendor(100, 100);
    insert(3_600_000);
    ask(db, &shrunk, PRICES).json(0);
    assert_eq!(paths(&shrunk), [LISTINGS]);
    insert(25 * 3_600_000);
    let refused = ask(db, &shrunk, PRICES).json(75);
    assert_eq!((paths(&shrunk), &refused["calls"]), (vec![KEY_INFO.to_owned()], &1.into()));
    assert!(refused["error"].as_str().unwrap().contains("0 of 100 are left"), "{refused}");
    assert_eq!(db.lines("SELECT credits_per_month, credits_used FROM accounts"), ["100|100"]);
}

/// The vendor counts what everybody uses; ours goes on from there, run by run, also that of the run
/// which asked.
#[test]
fn what_others_use_of_the_key_counts() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    used(&db, 15_000);
    // 985 of the 1,000 are the others', or 15,985 of 16,000.
    let shared = vendor(16_000, 15_996);
    for _ in 0..4 {
        // One credit each, and for a hundred coins at most one.
        ask(&db, &shared, &["prices", "insert", "--top", "100"]).json(0);
    }
    assert_eq!(paths(&shared).iter().filter(|path| *path == KEY_INFO).count(), 1);
    let refused = ask(&db, &shared, &["prices", "insert", "--top", "100"]).json(75);
    assert!(refused["error"].as_str().unwrap().contains("0 of 16000 are left"), "{refused}");
}

/// Two commands at once share what is left.
#[test]
fn two_commands_at_once_break_no_month() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::with((0..2_000).map(crate::support::gecko::Record::usual).collect(), |request, state| {
        let answer = crate::support::gecko::answer(request, state);
        Some(answer.delay(std::time::Duration::from_millis(40)))
    });
    let with = |args: &[&str]| db.ask(args, &gecko.url()).env("COINETL_CREDITS_PER_MONTH", "9");
    with(&["assets", "upsert"]).json(0);
    let prices = with(PRICES).spawn();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let assets = with(&["assets", "upsert"]).run();
    let prices = prices.wait();
    assert!(prices.code == Some(0) || assets.code == Some(0), "{prices}\n{assets}");
    assert!(gecko.take_calls().len() <= 9);
    assert!(db.number("SELECT SUM(calls) FROM runs") <= 9);
}

#[test]
fn a_plan_that_cant_be_asked_for_is_told_and_the_old_one_holds() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    used(&db, 15_000);
    let broken = Stub::start(|_: &StubRequest| StubResponse::error(500));
    let output = ask(&db, &broken, PRICES).run().expect(75);
    assert!(output.stderr.contains("the plan can't be asked for"), "{output}");
    assert!(output.stderr.contains("0 of 15000 are left"), "{output}");
    let refusing = Stub::start(|_: &StubRequest| {
        StubResponse::new(401, "application/json", r#"{"status":{"error_code":1001,"error_message":"invalid"}}"#)
    });
    let result: Value = ask(&db, &refusing, PRICES).json(78);
    assert!(result["error"].as_str().unwrap().contains("COINMARKETCAP_API_KEY"), "{result}");
}

/// A vendor that has no such endpoint, or not for this plan, costs one look a day and no run.
#[test]
fn an_account_that_is_not_told_any_more_stops_no_run() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    db.execute(
        "INSERT INTO accounts (source, credits_per_month, credits_used, told_ms, own_used) \
         VALUES ('coinmarketcap', 1000, 5, (unixepoch('now') - 90000) * 1000, 0)",
    );
    let vendor = Stub::start(|request: &StubRequest| match request.path.as_str() {
        LISTINGS => StubResponse::json(
            r#"{"status":{"error_code":0},"data":[{"id":1,"quote":[{"symbol":"USD","price":1.5}]}]}"#,
        ),
        _ => StubResponse::new(403, "application/json", r#"{"status":{"error_code":1006,"error_message":"no"}}"#),
    });
    let output = ask(&db, &vendor, &["prices", "insert", "--top", "1"]).run().expect(0);
    assert!(output.stderr.contains("the plan can't be asked for"), "{output}");
    ask(&db, &vendor, &["prices", "insert", "--top", "1"]).run().expect(0);
    assert_eq!(paths(&vendor), [KEY_INFO, LISTINGS, LISTINGS]);
}
