//! What a program reads: one JSON object on stdout, the exit code, and the row in `runs`.

use serde_json::Value;

use crate::support::gecko::{Gecko, Record};
use crate::support::test_db::TestDb;
use crate::support::workdir::Workdir;

on_every_database!(the_result_agrees_with_the_row_in_runs, every_exit_code_comes_with_a_whole_result);

type Fits = fn(&Value) -> bool;

/// What every result holds, with the kind of its value.
const FIELDS: [(&str, Fits); 14] = [
    ("run_id", |value| value.is_i64() || value.is_null()),
    ("command", Value::is_string),
    ("source", Value::is_string),
    ("status", |value| ["ok", "partial", "failed"].contains(&value.as_str().unwrap_or_default())),
    ("calls", Value::is_u64),
    ("credits", Value::is_u64),
    ("rows_read", Value::is_u64),
    ("rows_written", Value::is_u64),
    ("rows_updated", Value::is_u64),
    ("rows_unchanged", Value::is_u64),
    ("rows_rejected", Value::is_u64),
    ("rows_absent", Value::is_u64),
    ("seconds", Value::is_f64),
    ("error", |value| value.is_string() || value.is_null()),
];

#[track_caller]
fn whole(result: &Value) {
    for (name, fits) in FIELDS {
        assert!(result.get(name).is_some_and(fits), "{name} in {result}");
    }
    assert_eq!(result["status"] == "ok", result["error"].is_null(), "{result}");
}

fn the_result_agrees_with_the_row_in_runs(db: &TestDb) {
    let gecko = Gecko::new((0..5).map(Record::usual).collect());
    let mut results = vec![
        db.ask(&["assets", "upsert"], &gecko.url()).json(0),
        db.ask(&["prices", "insert"], &gecko.url()).json(0),
        db.ask(&["prices", "insert", "--ids", "coin-00001,nobody"], &gecko.url()).json(3),
    ];
    let mut records: Vec<Record> = (1..6).map(Record::usual).collect();
    records.push(Record::new("bad", &[("current_price", "{}")]));
    records[0].json = records[0].json.replace("1.25", "9.75");
    gecko.set_records(records);
    results.push(db.ask(&["prices", "insert"], &gecko.url()).json(3));
    results.push(db.ask(&["prices", "insert"], "http://127.0.0.1:9/api/v3").json(75));
    let names = "id, command, source, status, calls, credits, rows_read, rows_written, rows_updated, rows_unchanged, \
                 rows_rejected, rows_absent, error";
    let rows = db.query(&format!("SELECT {names} FROM runs ORDER BY id"));
    assert_eq!(rows.len(), results.len());
    for (row, result) in rows.iter().zip(&results) {
        whole(result);
        for (stored, name) in row.iter().zip(names.split(", ")) {
            let told = &result[if name == "id" { "run_id" } else { name }];
            let told = told.as_str().map(str::to_owned).or_else(|| (!told.is_null()).then(|| told.to_string()));
            assert_eq!(stored, &told, "{name} in {result}");
        }
    }
    let last = &results[3];
    let number = |name: &str| last[name].as_i64().unwrap();
    assert_eq!([number("rows_read"), number("rows_written"), number("rows_updated")], [6, 2, 1]);
    assert_eq!([number("rows_unchanged"), number("rows_rejected"), number("rows_absent")], [3, 1, 1]);
    assert_eq!(results[4]["status"], "failed");
    let unfinished =
        "SELECT COUNT(*) FROM runs WHERE finished_at IS NULL OR finished_at < started_at OR status = 'running'";
    assert_eq!(db.number(unfinished), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM leases"), 0);
}

fn every_exit_code_comes_with_a_whole_result(db: &TestDb) {
    let gecko = Gecko::usual(1);
    whole(&db.setup());
    whole(&db.ask(&["assets", "upsert"], &gecko.url()).json(0));
    whole(&db.ask(&["prices", "insert", "--ids", "nobody"], &gecko.url()).json(3));
    let unreachable = db.ask(&["assets", "upsert"], "http://127.0.0.1:9/api/v3").json(75);
    whole(&unreachable);
    assert!(unreachable["error"].as_str().unwrap().contains("127.0.0.1:9"));
    assert!(unreachable["run_id"].is_i64());
    let scheme = db.coinetl(&["assets", "upsert", "--database-url", "oracle://h/d"]).json(78);
    whole(&scheme);
    assert!(scheme["error"].as_str().unwrap().contains("oracle") && scheme["run_id"].is_null());
    db.execute("DELETE FROM __diesel_schema_migrations");
    whole(&db.coinetl(&["db-setup", "--check"]).json(1));
    whole(&db.coinetl(&["prices", "insert"]).json(78));
}

#[test]
fn the_error_is_told_once_to_people_and_once_to_programs() {
    let workdir = Workdir::new();
    let text = workdir.coinetl(["assets", "upsert"]).run().expect(78);
    assert_eq!(text.stdout, "");
    assert_eq!(text.stderr.lines().count(), 1, "{text}");
    let both = workdir.coinetl(["assets", "upsert", "--output", "json"]).run().expect(78);
    assert_eq!(both.stdout.lines().count(), 1);
    let error = both.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(both.stderr, format!("coinetl: {error}\n"));
}

#[test]
fn help_and_version_are_answers() {
    let workdir = Workdir::new();
    let version = workdir.coinetl(["--version"]).run().expect(0);
    assert!(version.stdout.starts_with(&format!("coinetl {} (", env!("CARGO_PKG_VERSION"))), "{version}");
    let help = workdir.coinetl(["--help"]).run().expect(0);
    for command in ["db-setup", "assets", "prices", "sandbox", "--database-url", "--sandbox", "--output", "--wait"] {
        assert!(help.stdout.contains(command), "{command} in {help}");
    }
    for command in [&["db-setup"][..], &["assets", "upsert"], &["prices", "insert"], &["sandbox"]] {
        let help = workdir.coinetl(command).arg("--help").run().expect(0);
        assert!(help.stdout.contains("Usage:") && help.stderr.is_empty(), "{help}");
    }
    // Nothing was made on the way.
    assert_eq!(std::fs::read_dir(workdir.path()).unwrap().count(), 0);
}

#[test]
fn wrong_arguments_are_told_on_stderr_and_change_nothing() {
    let workdir = Workdir::new();
    for line in [
        "",
        "frobnicate",
        "assets",
        "assets insert",
        "prices insert --top 0",
        "prices insert --top many",
        "prices insert --top 5 --ids bitcoin",
        "prices insert --ids bitcoin,,ethereum",
        "prices insert --vs us/d",
        "prices insert --output yaml",
        "prices insert --wait soon",
        "db-setup --force",
        "-v -q db-setup",
        "sandbox --assets 0",
        "sandbox --assets 1000001",
        "sandbox --fault often",
        "sandbox --fault 429=2",
        "sandbox --bind nowhere",
        "sandbox --at yesterday",
    ] {
        let output = workdir.coinetl(line.split_whitespace()).run().expect(2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output}");
    }
    assert_eq!(std::fs::read_dir(workdir.path()).unwrap().count(), 0);
}
