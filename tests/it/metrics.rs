//! `/metrics` of `serve`: what the database tells of runs and data, what the server knows of its own work, and
//! that the shipped dashboard and alert rules ask for nothing else.

use std::collections::BTreeSet;

use crate::support::server::Server;
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{SandboxServer, wait_until};

on_every_database!(the_figures_are_those_of_the_database_and_of_the_requests);

/// The value of a series that has all these labels; `None` where there is none.
fn value(told: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let line = told.lines().find(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
        rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
    });
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap_or_else(|err| panic!("{line}: {err}")))
}

/// Every metric that the files in docker/ ask for.
pub fn names_in_use() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["docker/grafana-dashboard.json", "docker/prometheus-alerts.yaml"] {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        if file.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).expect(file);
        }
        for (at, _) in text.match_indices("coinetl_") {
            let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - at);
            names.insert(text[at..at + end].to_owned());
        }
    }
    assert!(names.len() > 15, "{names:?}");
    names
}

/// Those that `consume --metrics` tells.
pub fn is_of_a_consumer(name: &str) -> bool {
    name.starts_with("coinetl_stream_") && name != "coinetl_stream_next_offset"
}

fn the_figures_are_those_of_the_database_and_of_the_requests(db: &TestDb) {
    let sandbox = SandboxServer::start(["--assets", "60"]);
    db.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    let stored = db.ask(&["prices", "insert", "--top", "40"], &sandbox.url()).json(0);
    db.execute(
        "INSERT INTO runs (command, source, started_at, finished_at, status, calls, credits, rows_rejected) VALUES \
         ('prices insert', 'coingecko', CURRENT_TIMESTAMP, '2026-01-02 03:04:05.500', 'failed', 7, 40, 3)",
    );
    db.execute(
        "INSERT INTO coverage (asset_id, vs_currency, timeframe, from_time, to_time, state, run_id) VALUES \
         (1, 'usd', '1h', '2026-01-01 00:00:00.000', '2026-01-01 02:00:00.000', 'missing', 1), \
         (1, 'usd', '1h', '2026-01-01 02:00:00.000', '2026-01-01 03:00:00.000', 'full', 1), \
         (2, 'usd', '1h', '2026-01-01 00:00:00.000', '2026-01-01 02:00:00.000', 'missing', 1)",
    );
    db.execute("INSERT INTO dead_letters (source, topic, payload, error, received_at) VALUES ('coingecko', 't', 'p', 'e', '2026-01-01 00:00:00.000')");
    db.execute("INSERT INTO stream_offsets (consumer_group, topic, partition_id, next_offset) VALUES ('g', 'a \"topic\"', 2, 5000000000)");
    db.execute("INSERT INTO quote_sessions (source, pair, session, highest_bid, lowest_ask, max_spread) VALUES ('coinbase', 'BTC-USD', 'a', 1, 2, 1), ('coinbase', 'BTC-USD', 'b', 1, 2, 1)");
    for (sequence, second) in [(1, "01.500000"), (2, "02.250000")] {
        db.execute(&format!("INSERT INTO crypto_metrics (source, pair, sequence, observed_at, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session) \
             VALUES ('coinbase', 'BTC-USD', {sequence}, '2026-01-01 00:00:{second}', 1, 2, 1.5, 1, 1, 2, 1, 'a')"));
    }

    let key = "CG-never-to-be-told";
    let serve = db.coinetl(&["serve", "--bind", "127.0.0.1:0"]);
    let server = Server::run(serve.env("COINETL_CREDITS_PER_MONTH", "100").env("COINGECKO_DEMO_API_KEY", key));
    for _ in 0..3 {
        assert_eq!(server.get("/healthz").status, 200);
    }
    for n in 0..20 {
        assert_eq!(server.get(&format!("/nothing/{n}")).status, 404);
        assert_eq!(server.ask(&format!("METHOD{n}"), "/healthz", &[]).status, 405);
    }
    let reply = server.get("/metrics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let told = reply.text();
    let of = |name: &str, labels: &[(&str, &str)]| value(&told, &format!("coinetl_{name}"), labels);
    let generated = ("source", "sandbox-coingecko");

    let run = [("command", "prices insert"), generated, ("status", "ok")];
    assert_eq!(of("runs_total", &run), Some(1.0), "{told}");
    assert_eq!(of("rows_written_total", &run), stored["rows_written"].as_f64());
    let now = chrono::Utc::now().timestamp_millis() as f64 / 1e3;
    let end = of("last_run_end_timestamp_seconds", &run).unwrap();
    assert!((now - 60.0..=now + 1.0).contains(&end), "{end} at {now}");
    let failed = [("command", "prices insert"), ("source", "coingecko"), ("status", "failed")];
    assert_eq!(of("rows_rejected_total", &failed), Some(3.0));
    assert_eq!(of("last_run_end_timestamp_seconds", &failed), Some(1767323045.5));
    let month = |name: &str| of(&format!("month_{name}"), &[("source", "coingecko")]);
    assert_eq!(["calls", "credits_used", "credits_left"].map(month), [Some(7.0), Some(40.0), Some(60.0)]);

    assert_eq!(of("assets", &[generated, ("active", "true")]), Some(60.0));
    let newest = db.lines("SELECT MAX(observed_at) FROM prices").remove(0);
    let newest = chrono::NaiveDateTime::parse_from_str(&newest, "%Y-%m-%d %H:%M:%S%.f").unwrap().and_utc();
    assert_eq!(of("newest_price_timestamp_seconds", &[generated]), Some(newest.timestamp_millis() as f64 / 1e3));
    assert_eq!(of("newest_quote_timestamp_seconds", &[("pair", "BTC-USD")]), Some(1767225602.25));
    assert_eq!(of("gaps", &[generated, ("timeframe", "1h"), ("state", "missing")]), Some(2.0));
    assert_eq!(of("gaps", &[("state", "full")]), None);
    assert!(of("rollup_pending", &[]).is_some_and(|marks| marks > 0.0), "{told}");
    assert_eq!(of("dead_letters", &[("source", "coingecko")]), Some(1.0));
    let place = [("group", "g"), ("topic", r#"a \"topic\""#), ("partition", "2")];
    assert_eq!(of("stream_next_offset", &place), Some(5e9));
    assert_eq!(of("database_up", &[]), Some(1.0));

    let requests = |method: &str, route: &str, status: &str| {
        of("http_request_duration_seconds_count", &[("method", method), ("route", route), ("status", status)])
    };
    assert_eq!(requests("GET", "/healthz", "200"), Some(3.0));
    assert_eq!(requests("GET", "none", "404"), Some(20.0));
    assert_eq!(requests("other", "/healthz", "405"), Some(20.0));
    let series = told.lines().filter(|line| line.starts_with("coinetl_http_request_duration_seconds_count")).count();
    assert_eq!(series, 3, "what was asked for makes no series of its own:\n{told}");
    assert_eq!(of("http_requests_in_flight", &[]), Some(1.0), "this one");
    assert!(!told.contains(key), "the key is in the figures");
    assert!(told.ends_with("# EOF\n") && told.matches("# EOF").count() == 1);

    db.ask(&["prices", "insert", "--top", "40"], &sandbox.url()).json(0);
    wait_until(|| value(&server.get("/metrics").text(), "coinetl_runs_total", &run) == Some(2.0));

    if db.backend() == Backend::Sqlite {
        // Those that are there only when there is something to tell are there by now.
        let told = server.get("/metrics").text();
        for name in names_in_use().iter().filter(|name| !is_of_a_consumer(name)) {
            assert!(value(&told, name, &[]).is_some(), "docker/ asks for {name}, which is not in\n{told}");
        }
    }
}
