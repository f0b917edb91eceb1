//! `publish`: every row that earlier runs stored is in the topic, whatever happened on the way there.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;

use crate::support::gecko::{Gecko, Record, answer};
use crate::support::kafka::{Sent, Topic};
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{SandboxServer, Workdir, wait_until};

on_every_database!(
    every_stored_price_is_sent_once,
    a_restated_price_is_sent_again,
    runs_that_ended_badly_are_sent_too,
    a_sleeper_whose_run_was_sent_is_refused,
    killed_publishing_loses_nothing,
    only_final_candles_are_sent,
);

const PUBLISH: &[&str] = &["publish"];

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

/// A price as `source|asset|currency|moment|price|volume|cap|rank`, from an event.
fn of_event(sent: &Sent) -> String {
    let event = &sent.event;
    assert_eq!(event["schema"], "coinetl.price.v1");
    let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{name} in {event}")).to_owned();
    assert_eq!(sent.key, format!("{}:{}", text("source"), text("asset")));
    let moment = text("observed_at").replace('T', " ").trim_end_matches('Z').to_owned();
    let figure = |name: &str| event[name].as_f64().map_or("NULL".to_owned(), |number| format!("{number:?}"));
    let rank = event["market_cap_rank"].as_i64().map_or("NULL".to_owned(), |rank| rank.to_string());
    let figures = ["price", "volume_24h", "market_cap"].map(figure).join("|");
    format!("{}|{}|{}|{moment}|{figures}|{rank}", text("source"), text("asset"), text("vs_currency"))
}

fn in_topic(topic: &Topic) -> Vec<String> {
    topic.read().iter().filter(|sent| sent.event["schema"] != "coinetl.candle.v1").map(of_event).collect()
}

/// The same of every stored row.
fn stored(db: &TestDb) -> BTreeSet<String> {
    db.lines(
        "SELECT a.source, a.source_id, p.vs_currency, p.observed_at, p.price, p.volume_24h, p.market_cap, p.market_cap_rank \
         FROM prices p JOIN assets a ON a.id = p.asset_id",
    )
    .into_iter()
    .collect()
}

fn every_stored_price_is_sent_once(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let sandbox = SandboxServer::start(["--assets", "1200"]);
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    db.ask(&["prices", "insert", "--vs", "usd,eur"], &sandbox.url()).json(0);
    let publish = |code| topic.on(db.ask(PUBLISH, "http://127.0.0.1:9/api/v3")).json(code);
    let due = topic.on(db.coinetl(&["publish", "--dry-run"])).json(0);
    assert_eq!((number(&due, "rows_due"), topic.partitions()), (stored(db).len() as i64, 0));
    // No call to a vendor: the rows are there.
    let result = publish(0);
    let rows = stored(db);
    assert_eq!((number(&result, "rows_written"), number(&result, "calls")), (rows.len() as i64, 0));
    let events = in_topic(&topic);
    assert_eq!((events.len(), &events.iter().cloned().collect::<BTreeSet<_>>()), (rows.len(), &rows));
    // One coin's events lie in one partition.
    let places: BTreeSet<(String, i32)> = topic.read().into_iter().map(|sent| (sent.key, sent.partition)).collect();
    assert_eq!(places.len() as i64, db.number("SELECT COUNT(DISTINCT asset_id) FROM prices"));
    assert_eq!(topic.partitions(), 3, "the broker's default");
    // Nothing is due, and nothing is sent.
    assert_eq!(number(&publish(0), "rows_written"), 0);
    assert_eq!(in_topic(&topic).len(), rows.len());
    // Another topic has had none of it.
    let other = Topic::new().unwrap();
    let result = other.on(db.coinetl(&["publish", "--partitions", "2", "--replication", "1"])).json(0);
    assert_eq!((number(&result, "rows_written"), other.partitions()), (rows.len() as i64, 2));
    // What came out of a topic does not go into one.
    db.execute("UPDATE runs SET command = 'consume' WHERE command = 'prices insert'");
    db.execute("DELETE FROM publications");
    assert_eq!(number(&publish(0), "rows_written"), 0);
}

fn a_restated_price_is_sent_again(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let gecko = Gecko::usual(5);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let publish = || number(&topic.on(db.coinetl(PUBLISH)).json(0), "rows_written");
    assert_eq!(publish(), 5);
    let mut records: Vec<Record> = (0..5).map(Record::usual).collect();
    records[3].json = records[3].json.replace("3.25", "3.75");
    gecko.set_records(records);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!(publish(), 1);
    let of_coin: Vec<String> = in_topic(&topic).into_iter().filter(|event| event.contains("coin-00003")).collect();
    assert!(of_coin.len() == 2 && of_coin[0].contains("|3.25|") && of_coin[1].contains("|3.75|"), "{of_coin:?}");
}

fn runs_that_ended_badly_are_sent_too(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let gecko = Gecko::usual(10);
    db.ask(&["prices", "insert", "--ids", "coin-00001,nobody"], &gecko.url()).json(3);
    db.ask(&["prices", "insert", "--ids", "coin-00002"], &gecko.url()).json(0);
    // Its process died: the row says it is running, and no owner gives a sign of life.
    db.execute("UPDATE runs SET status = 'running', finished_at = NULL WHERE id = 2");
    let publish = || number(&topic.on(db.coinetl(PUBLISH)).json(0), "rows_written");
    assert_eq!(publish(), 2);
    // One that is alive is not over yet.
    db.ask(&["prices", "insert", "--ids", "coin-00003"], &gecko.url()).json(0);
    let run = db.number("SELECT MAX(id) FROM runs WHERE command = 'prices insert'");
    db.execute(&format!("UPDATE runs SET status = 'running' WHERE id = {run}"));
    let now = match db.backend() {
        Backend::Sqlite => "CAST(unixepoch('now','subsec')*1000000 AS INTEGER)",
        Backend::Mysql => "CAST(UNIX_TIMESTAMP(NOW(6))*1000000 AS SIGNED)",
        Backend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp())*1000000 AS BIGINT)",
    };
    db.execute(&format!(
        "INSERT INTO leases (command, source, token, run_id, heartbeat_us) VALUES ('prices insert', 'coingecko', 't', {run}, {now})"
    ));
    assert_eq!(publish(), 0);
    db.execute("UPDATE leases SET heartbeat_us = heartbeat_us - 16000000 WHERE token = 't'");
    assert_eq!(publish(), 1);
    assert_eq!(in_topic(&topic).len(), 3);
}

/// An owner that only slept while its run was taken as ended stores nothing more under it: its rows are
/// the next run's, and reach the topic.
fn a_sleeper_whose_run_was_sent_is_refused(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    const COINS: usize = 2_000;
    let gecko = Gecko::with((0..COINS).map(Record::usual).collect(), |request, state| {
        let pages = request.path.ends_with("/coins/markets");
        pages.then(|| answer(request, state).delay(Duration::from_millis(300)))
    });
    let prices = "SELECT COUNT(*) FROM prices";
    let mut owner = db.ask(&["prices", "insert"], &gecko.url()).spawn();
    wait_until(|| !owner.is_running() || db.number(prices) > 0);
    // Not in the middle of a transaction.
    std::thread::sleep(Duration::from_millis(60));
    owner.signal("STOP");
    let stored_before = db.number(prices);
    assert!(stored_before < COINS as i64, "over already");
    db.execute("UPDATE leases SET heartbeat_us = heartbeat_us - 16000000");
    let publish = || number(&topic.on(db.coinetl(PUBLISH)).json(0), "rows_written");
    assert_eq!(publish(), stored_before);
    owner.signal("CONT");
    let output = owner.wait().expect(75);
    assert!(output.stderr.contains("no sign of life"), "{output}");
    assert_eq!(db.number(prices), stored_before, "{output}");
    let runs = db.lines("SELECT status, error FROM runs WHERE command = 'prices insert'");
    assert_eq!(runs, ["failed|the process gave no sign of life"]);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    assert_eq!(publish(), COINS as i64 - stored_before);
    assert_eq!(in_topic(&topic).into_iter().collect::<BTreeSet<_>>(), stored(db));
}

fn killed_publishing_loses_nothing(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let sandbox = SandboxServer::start(["--assets", "6000"]);
    // Three runs of some thousand rows, in chunks of their own.
    for vs in ["usd", "eur", "gbp,jpy"] {
        db.ask(&["prices", "insert", "--vs", vs], &sandbox.url()).json(0);
    }
    let mut hits = 0;
    for _ in 0..6 {
        let mut running = topic.on(db.coinetl(PUBLISH)).spawn();
        std::thread::sleep(Duration::from_secs_f64(rand::rng().random_range(0.02..0.6)));
        hits += usize::from(running.is_running());
        running.kill();
        let output = running.wait();
        assert!(!output.stderr.contains("panicked"), "{output}");
        db.execute("DELETE FROM leases");
    }
    topic.on(db.coinetl(PUBLISH)).json(0);
    assert!(hits >= 2, "only {hits} of 6 came in time");
    // Lost none, invented none; what was in the broker's hands when it died may be there twice.
    let events: BTreeSet<String> = in_topic(&topic).into_iter().collect();
    assert_eq!(events, stored(db));
    assert_eq!(db.number("SELECT COUNT(*) FROM publications WHERE done = FALSE"), 0);
}

fn only_final_candles_are_sent(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let gecko = Gecko::usual(1);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let asset = db.number("SELECT MIN(id) FROM assets");
    for (timeframe, open_time, last) in [
        ("1h", "2026-01-05 04:00:00.000", true),
        ("1d", "2026-01-05 00:00:00.000", true),
        ("1h", "2026-01-05 05:00:00.000", false),
    ] {
        db.execute(&format!(
            "INSERT INTO candles (asset_id, vs_currency, timeframe, open_time, open, high, low, close, volume, samples, origin, final, run_id) \
             VALUES ({asset}, 'usd', '{timeframe}', '{open_time}', 1.5, 2.5, 0.5, 2, 1e22, 7, 'rollup', {last}, 1)"
        ));
    }
    let result = topic.on(db.coinetl(&["publish", "--what", "candles"])).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "runs_published")), (2, 1));
    let candles = topic.read();
    let times: BTreeSet<&str> = candles.iter().map(|sent| sent.event["open_time"].as_str().unwrap()).collect();
    assert_eq!(times, ["2026-01-05T00:00:00.000Z", "2026-01-05T04:00:00.000Z"].into());
    let candle = &candles[0].event;
    assert_eq!(
        (&candle["schema"], &candle["final"], &candle["samples"]),
        (&"coinetl.candle.v1".into(), &true.into(), &7.into())
    );
    assert_eq!((candle["high"].as_f64(), candle["volume"].as_f64()), (Some(2.5), Some(1e22)));
    assert!(candle.get("origin").is_none() && candle.get("run_id").is_none());
    // Both kinds by default.
    assert_eq!(number(&topic.on(db.coinetl(PUBLISH)).json(0), "rows_written"), 1);
}

#[test]
fn a_broker_that_is_down_is_told_and_the_next_run_sends_it() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::usual(5);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let cmd = db.coinetl(PUBLISH).env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9").env("KAFKA_TOPIC", &topic.name);
    let output = cmd.run().expect(75);
    assert!(output.stderr.contains("127.0.0.1:9 can't be reached") && output.stderr.contains("stays due"), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "told once\n{output}");
    assert_eq!(number(&topic.on(db.coinetl(PUBLISH)).json(0), "rows_written"), 5);
}

/// `scripts/pipeline.sh` sends what it stored where a broker is set, and what an earlier run could not.
#[test]
fn the_pipeline_ends_with_it() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    let gecko = Gecko::usual(20);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/pipeline.sh");
    let pipeline = |servers: &str| {
        let run = std::process::Command::new(script)
            .args(["--wait", "0s"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("COINETL_BIN", env!("CARGO_BIN_EXE_coinetl"))
            .env("COINETL_DIR", db.workdir().path())
            .env("DATABASE_URL", db.url())
            .env("COINGECKO_API_URL", gecko.url())
            .env("COINETL_CALLS_PER_MINUTE", "0")
            .env("KAFKA_BOOTSTRAP_SERVERS", servers)
            .env("KAFKA_TOPIC", &topic.name)
            .output()
            .unwrap();
        let story = String::from_utf8(run.stdout).unwrap() + &String::from_utf8(run.stderr).unwrap();
        (run.status.code(), story)
    };
    let (code, story) = pipeline("");
    assert!(code == Some(0) && !story.contains("step=publish"), "{story}");
    let (code, story) = pipeline("127.0.0.1:9");
    assert!(code == Some(75) && story.contains("step=publish exit=75"), "{story}");
    let (code, story) = pipeline(&topic.servers);
    assert!(code == Some(0) && story.contains("step=publish exit=0"), "{story}");
    // A rollup that can't be run, because another one is, keeps nothing from being sent.
    let now = "CAST(unixepoch('now','subsec')*1000000 AS INTEGER)";
    db.execute(&format!(
        "DELETE FROM publications; INSERT INTO leases (command, source, token, heartbeat_us) VALUES ('candles rollup', 'all', 't', {now})"
    ));
    let (code, story) = pipeline(&topic.servers);
    let told = ["step=candles-rollup exit=75", "step=publish exit=0"];
    assert!(code == Some(3) && told.iter().all(|words| story.contains(words)), "{story}");
    db.execute("DELETE FROM leases");
    let (code, story) = pipeline(&topic.servers);
    assert!(code == Some(0) && story.contains("step=candles-rollup exit=0"), "{story}");
    // In .env it counts as well.
    db.workdir().write(".env", &format!("KAFKA_BOOTSTRAP_SERVERS='{}'\n", topic.servers));
    let (code, story) = pipeline("");
    assert!(code == Some(0) && story.contains("step=publish exit=0"), "{story}");
    let events: BTreeSet<String> = in_topic(&topic).into_iter().collect();
    assert!(events.len() == 20 && events == stored(&db), "{} events", events.len());
}

#[test]
fn what_is_not_set_right_is_told() {
    let dir = Workdir::new();
    dir.coinetl(["db-setup"]).run().expect(0);
    let output = dir.coinetl(PUBLISH).run().expect(78);
    assert!(output.stderr.contains("KAFKA_BOOTSTRAP_SERVERS"), "{output}");
    let output = dir.coinetl(PUBLISH).env("KAFKA_BOOTSTRAP_SERVERS", "h:1").env("KAFKA_ACKS", "hush").run().expect(78);
    assert!(output.stderr.contains("KAFKA_ACKS") && !output.stderr.contains("hush"), "{output}");
    dir.coinetl(["publish", "--what", "quotes"]).run().expect(2);
}

#[test]
fn doctor_looks_at_the_broker_and_its_topic() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let gecko = Gecko::usual(1);
    let broker = || {
        let result = topic.on(db.ask(&["doctor"], &gecko.url())).json(0);
        let checks = result["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == "broker").unwrap();
        assert_eq!(check["ok"], true, "{check}");
        check["text"].as_str().unwrap().to_owned()
    };
    assert!(broker().contains("not there yet"), "{}", broker());
    topic.on(db.coinetl(PUBLISH)).json(0);
    assert!(broker().contains("3 partition(s)"), "{}", broker());
}
