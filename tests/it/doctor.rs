//! `doctor`: every tick is a real try, every cross comes with what to do.

use serde_json::Value;

use crate::support::gecko::Gecko;
use crate::support::stub::{Stub, StubRequest, StubResponse};
use crate::support::test_db::{Backend, TestDb, loud};
use crate::support::workdir::{SandboxServer, Workdir};

on_every_database!(all_is_well);

/// The check of this name: whether it is a tick, its text and its remedy.
#[track_caller]
fn check(result: &Value, name: &str) -> (Option<bool>, String, String) {
    let checks = result["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {result}"));
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
    (check["ok"].as_bool(), text("text"), text("remedy"))
}

fn all_is_well(db: &TestDb) {
    let sandbox = SandboxServer::start(["--assets", "300"]);
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    db.ask(&["prices", "insert"], &sandbox.url()).json(0);
    let result = db.ask(&["doctor"], &sandbox.url()).json(0);
    for name in ["settings", "database", "schema", "writing", "clock", "source", "budget", "disk", "runs"] {
        assert_eq!(check(&result, name).0, Some(true), "{name}: {result}");
    }
    assert_eq!(check(&result, "broker").0, None, "nothing to try");
    assert!(check(&result, "source").1.contains("a sandbox with made-up data"), "{result}");
    assert!(check(&result, "disk").1.contains("prices "), "{result}");
    assert!(check(&result, "runs").1.contains("assets upsert of sandbox-coingecko: ok"), "{result}");
    // The look at the vendor is a call like any other.
    assert_eq!((&result["calls"], &result["status"]), (&1.into(), &"ok".into()));
    let rows = db.lines("SELECT command, source, status, calls FROM runs WHERE command = 'doctor'");
    assert_eq!(rows, ["doctor|sandbox-coingecko|ok|1"]);
    let text = db.ask(&["doctor"], &sandbox.url()).run().expect(0);
    assert!(text.stdout.contains("✓ database") && text.stdout.contains("– broker"), "{text}");
    assert_eq!(text.stderr, "");
    // Two at once do not stand in each other's way.
    let other = db.ask(&["doctor"], &sandbox.url()).spawn();
    db.ask(&["doctor"], &sandbox.url()).run().expect(0);
    other.wait().expect(0);
}

#[test]
fn a_database_that_is_not_ready_is_told() {
    let gecko = Gecko::usual(1);
    let ask = |db: &TestDb, code: i32| db.ask(&["doctor"], &gecko.url()).json(code);
    let db = TestDb::new(Backend::Sqlite).unwrap();
    let result = ask(&db, 78);
    let (ok, text, remedy) = check(&result, "database");
    assert!(ok == Some(false) && text.contains("does not exist") && remedy.contains("coinetl db-setup"), "{result}");
    db.setup();
    db.execute(
        "DELETE FROM __diesel_schema_migrations WHERE version = (SELECT MAX(version) FROM __diesel_schema_migrations)",
    );
    let (ok, _, remedy) = check(&ask(&db, 78), "schema");
    assert!(ok == Some(false) && remedy.contains("coinetl db-setup"), "{remedy}");
    db.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')");
    let (ok, text, remedy) = check(&ask(&db, 78), "schema");
    assert!(ok == Some(false) && text.contains("newer") && remedy.contains("update coinetl"), "{text} {remedy}");
    assert_eq!(db.number("SELECT COUNT(*) FROM runs"), 0);
    let broken = Workdir::new();
    broken.write("coinetl.db", &"not a database ".repeat(100));
    let result = broken.coinetl(["doctor"]).env("COINGECKO_API_URL", gecko.url()).json(78);
    assert_eq!(check(&result, "database").0, Some(false), "{result}");
}

#[test]
fn servers_that_do_not_answer_are_told_apart() {
    let dir = Workdir::new();
    let gecko = Gecko::usual(1);
    for (url, built_in) in [
        ("mysql://u:hush@127.0.0.1:9/d", cfg!(feature = "mysql")),
        ("postgres://u:hush@127.0.0.1:9/d", cfg!(feature = "postgres")),
    ] {
        let code = if built_in { 75 } else { 78 };
        let result = dir.coinetl(["doctor", "--database-url", url]).env("COINGECKO_API_URL", gecko.url()).json(code);
        let (ok, text, remedy) = check(&result, "database");
        assert!(ok == Some(false) && !remedy.is_empty() && !text.contains("hush"), "{result}");
        assert_eq!(check(&result, "source").0, Some(true), "the rest is looked at all the same");
    }
    if !cfg!(feature = "full") {
        loud("doctor: not all servers are built in");
    }
}

#[test]
fn a_vendor_that_is_not_well_is_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let result = db.ask(&["doctor"], "http://127.0.0.1:9/api/v3").json(75);
    let (ok, text, remedy) = check(&result, "source");
    assert!(ok == Some(false) && text.contains("can't be reached") && remedy.contains("COINGECKO_API_URL"), "{result}");
    let refusing = Stub::start(|_: &StubRequest| {
        let body = r#"{"status":{"error_code":1001,"error_message":"This API Key is invalid."}}"#;
        StubResponse::new(401, "application/json", body)
    });
    let result = db
        .coinetl(&["doctor", "--source", "coinmarketcap"])
        .env("COINMARKETCAP_API_URL", format!("http://{}", refusing.address()))
        .env("COINMARKETCAP_API_KEY", "cmc-hush-key")
        .json(78);
    let (ok, _, remedy) = check(&result, "source");
    assert!(ok == Some(false) && remedy.contains("COINMARKETCAP_API_KEY"), "{result}");
    assert!(!result.to_string().contains("hush"), "{result}");
    assert_eq!(refusing.take().len(), 1, "a key does not get better by asking again");
    let coinbase = Stub::start(|request: &StubRequest| match request.path.as_str() {
        "/time" => StubResponse::json(r#"{"iso":"2026-11-25T15:00:00.000Z","epoch":1795618800.0}"#),
        _ => StubResponse::new(404, "application/json", r#"{"message":"NotFound"}"#),
    });
    let cmd = db.coinetl(&["doctor", "--source", "coinbase"]);
    let result = cmd.env("COINBASE_API_URL", format!("http://{}", coinbase.address())).json(0);
    assert_eq!((check(&result, "source").0, &result["credits"]), (Some(true), &0.into()));
}

#[test]
fn a_month_that_is_spent_and_runs_that_went_wrong_are_told() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::usual(3);
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    db.ask(&["prices", "insert"], "http://127.0.0.1:9/api/v3").json(75);
    let result = db.ask(&["doctor"], &gecko.url()).env("COINETL_CREDITS_PER_MONTH", "7").json(1);
    let budget = check(&result, "budget");
    assert!(budget.0 == Some(true) && budget.2.contains("COINETL_CREDITS_PER_MONTH"), "{result}");
    let told = result["checks"].to_string();
    assert!(told.contains("prices insert of coingecko: failed") && told.contains("check the network"), "{told}");
    // With nothing left the vendor is not even looked at.
    gecko.take_calls();
    let result = db.ask(&["doctor"], &gecko.url()).env("COINETL_CREDITS_PER_MONTH", "7").json(1);
    assert!(check(&result, "source").1.contains("not asked: the month's budget is spent"), "{result}");
    assert_eq!(gecko.take_calls().len(), 0);
    // A run that nobody is at any more.
    db.execute("UPDATE runs SET status = 'running', error = NULL WHERE command = 'prices insert'");
    let result = db.ask(&["doctor"], &gecko.url()).json(1);
    assert!(result["checks"].to_string().contains("nobody is at it any more"), "{result}");
    db.execute("UPDATE runs SET status = 'ok' WHERE command = 'prices insert'");
    db.ask(&["doctor"], &gecko.url()).json(0);
}

#[test]
fn settings_that_cant_be_read_are_its_first_cross() {
    let dir = Workdir::new();
    dir.write(".env", "COINGECKO_PRO_API_KEY=CG-hush\nnonsense hush\n");
    let output = dir.coinetl(["doctor"]).run().expect(78);
    assert!(output.stdout.contains("✗ settings") && output.stdout.contains(".env line 2"), "{output}");
    assert!(output.stdout.contains("→") && !format!("{output}").contains("hush"), "{output}");
    // One that others can read holds keys.
    let gecko = Gecko::usual(1);
    let env = dir.write(".env", "COINGECKO_DEMO_API_KEY=CG-hush\n");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&env, std::fs::Permissions::from_mode(0o644)).unwrap();
    dir.coinetl(["db-setup"]).run().expect(0);
    let ask = || dir.coinetl(["doctor"]).env("COINGECKO_API_URL", gecko.url()).json(0);
    assert!(check(&ask(), "settings").2.contains("chmod 600"), "{}", ask());
    std::fs::set_permissions(&env, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check(&ask(), "settings").2, "");
}

/// The wait for a call's turn is not the vendor's.
#[test]
fn the_vendor_s_time_is_its_own() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::usual(3);
    let paced = |args: &[&str]| db.ask(args, &gecko.url()).env("COINETL_CALLS_PER_MINUTE", "40");
    paced(&["assets", "upsert"]).json(0);
    let result = paced(&["doctor"]).json(0);
    assert!(result["seconds"].as_f64().unwrap() > 1.0, "{result}");
    let text = check(&result, "source").1;
    let ms: u64 = text.split_whitespace().rev().nth(1).unwrap().parse().unwrap();
    assert!(ms < 1_000, "{text}");
}

#[test]
fn a_broker_is_tried() {
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let sandbox = SandboxServer::start(["--assets", "10"]);
    let ask = |servers: &str, code: i32| {
        db.ask(&["doctor"], &sandbox.url()).env("KAFKA_BOOTSTRAP_SERVERS", servers).json(code)
    };
    let (ok, text, remedy) = check(&ask("127.0.0.1:9", 75), "broker");
    assert!(ok == Some(false) && text.contains("127.0.0.1:9") && remedy.contains("KAFKA_BOOTSTRAP_SERVERS"), "{text}");
    // An HTTP server is no broker.
    let (ok, text, _) = check(&ask(sandbox.address(), 75), "broker");
    assert!(ok == Some(false) && text.contains("can't be reached"), "{text}");
}

#[test]
fn the_command_line_tells_of_itself() {
    let dir = Workdir::new();
    // Broken settings are none of a packager's business.
    dir.write(".env", "nonsense\n");
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef coinetl"), ("fish", "complete -c coinetl")] {
        let output = dir.coinetl(["completions", shell]).run().expect(0);
        assert!(output.stdout.contains(words) && output.stdout.contains("prices"), "{shell}");
    }
    let page = dir.coinetl(["man", "-q"]).run().expect(0).stdout;
    assert!(page.contains(".TH coinetl 1") && page.contains("doctor"), "{page}");
    dir.coinetl(["man", "--dir", "pages"]).run().expect(0);
    let page = std::fs::read_to_string(dir.file("pages/coinetl-prices-insert.1")).unwrap();
    assert!(page.contains("\\-\\-top"), "{page}");
    dir.coinetl(["completions", "tcsh"]).run().expect(2);
}
