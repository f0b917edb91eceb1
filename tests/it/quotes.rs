//! `quotes publish`: what the feed says is in the topic once, and what it left out is told.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use serde_json::Value;
use tokio::time::sleep;

use crate::support::gecko::{Gecko, Record};
use crate::support::kafka::{Sent, Topic};
use crate::support::stub::StubResponse;
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{Cmd, SandboxServer, Workdir, wait_until};
use crate::support::ws::{WsStub, ticker};

const PAIRS: &str = "BTC-USD,ETH-USD";

fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_else(|| panic!("{name} in {event}"))
}

fn publish(dir: &Workdir, topic: &Topic, url: &str, args: &[&str]) -> Cmd {
    topic.on(dir.coinetl(["quotes", "publish"]).args(args).env("COINBASE_WS_URL", url))
}

fn sandbox(args: &[&str]) -> SandboxServer {
    SandboxServer::start([&["--assets", "300", "--quotes-per-second", "40"], args].concat())
}

fn feed(sandbox: &SandboxServer) -> String {
    format!("ws://{}", sandbox.address())
}

/// All events of a topic: quotes with their rules checked, and outages.
fn events(topic: &Topic) -> (Vec<Value>, Vec<Value>) {
    let (mut quotes, mut outages) = (Vec::new(), Vec::new());
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for Sent { key, event, .. } in topic.read() {
        assert_eq!(key, format!("{}:{}", text(&event, "source"), text(&event, "pair")));
        match text(&event, "schema") {
            "coinetl.quote.v1" => {
                let sequence = event["sequence"].as_u64().unwrap();
                let before = last.insert(key, sequence);
                assert!(before.is_none_or(|before| before < sequence), "{before:?} {event}");
                let decimal = |name| text(&event, name).parse::<f64>().unwrap();
                assert!(decimal("bid") <= decimal("ask") && decimal("ask") > 0.0 && decimal("price") > 0.0, "{event}");
                assert_eq!(text(&event, "observed_at").len(), "2026-05-19T08:47:57.580123Z".len());
                assert!(event["base_volume_24h"].is_number(), "{event}");
                quotes.push(event);
            }
            "coinetl.outage.v1" => {
                assert!(text(&event, "from_time") <= text(&event, "to_time"), "{event}");
                outages.push(event);
            }
            other => panic!("{other}"),
        }
    }
    (quotes, outages)
}

#[test]
fn so_many_quotes_of_the_feed_are_in_the_topic() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&[]));
    let result =
        publish(&dir, &topic, &feed(&sandbox), &["--pairs", PAIRS, "--count", "120", "--session", "london"]).json(0);
    let (quotes, outages) = events(&topic);
    assert_eq!((quotes.len(), outages.len()), (120, 0));
    for pair in PAIRS.split(',') {
        assert!(quotes.iter().filter(|quote| quote["pair"] == pair).count() > 20, "{pair}");
    }
    assert!(quotes.iter().all(|quote| quote["session"] == "london" && quote["source"] == "sandbox-coinbase"));
    assert_eq!((number(&result, "rows_read"), number(&result, "rows_written")), (120, 120));
    assert_eq!(
        (number(&result, "rows_rejected"), number(&result, "outages"), number(&result, "reconnects")),
        (0, 0, 0)
    );
    assert_eq!((&result["source"], &result["command"]), (&"sandbox-coinbase".into(), &"quotes publish".into()));
    assert_eq!((&result["topic"], &result["session"]), (&topic.name.as_str().into(), &"london".into()));
    // No database was needed or made.
    assert!(!dir.file("coinetl.db").exists());
}

#[test]
fn the_sandbox_inside_the_process_has_a_feed_too() {
    let Some(topic) = Topic::new() else { return };
    let dir = Workdir::new();
    let output =
        topic.on(dir.coinetl(["--sandbox", "quotes", "publish", "--pairs", "btc-usd,BTC-USD", "--count", "5"]));
    let output = output.run().expect(0);
    assert!(output.stdout.contains("5 quotes of sandbox-coinbase sent") && output.stderr.is_empty(), "{output}");
    let (quotes, _) = events(&topic);
    assert!(quotes.len() == 5 && quotes.iter().all(|quote| quote["session"].is_null()));
}

#[test]
fn dropped_connections_lose_nothing_and_leave_outages() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&["--fault", "drop=1"]));
    let output =
        publish(&dir, &topic, &feed(&sandbox), &["--pairs", PAIRS, "--count", "600", "--output", "json"]).run();
    let (output, (quotes, outages)) = (output.expect(0), events(&topic));
    let result = output.json();
    assert!(number(&result, "reconnects") >= 2, "{output}");
    assert_eq!((quotes.len(), number(&result, "rows_written")), (600, 600));
    assert_eq!(outages.len() as i64, number(&result, "outages"));
    assert!(!outages.is_empty() && outages.iter().all(|outage| outage["reason"] == "connection lost"));
    // An outage lies between two quotes, or is the last that is known of its pair.
    for outage in &outages {
        let times: Vec<&str> =
            quotes.iter().filter(|quote| quote["pair"] == outage["pair"]).map(|q| text(q, "observed_at")).collect();
        let (from, to) = (text(outage, "from_time"), text(outage, "to_time"));
        assert!(times.contains(&from), "{outage}");
        assert!(!times.iter().any(|time| *time > from && *time < to), "{outage}");
    }
}

#[test]
fn what_the_heartbeats_know_and_no_ticker_told_is_an_outage() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&["--fault", "gap=0.02"]));
    let result = publish(&dir, &topic, &feed(&sandbox), &["--pairs", PAIRS, "--duration", "16s"]).json(0);
    let (quotes, outages) = events(&topic);
    assert!(!outages.is_empty() && !quotes.is_empty(), "{result}");
    assert_eq!(outages.len() as i64, number(&result, "outages"));
    assert!(outages.iter().all(|outage| outage["reason"] == "missed updates"), "{outages:?}");
    assert_eq!(number(&result, "reconnects"), 0);
}

#[test]
fn stale_and_broken_messages_are_left_out() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&["--fault", "stale=0.2", "--fault", "garbage=0.2"]));
    let output =
        publish(&dir, &topic, &feed(&sandbox), &["--pairs", PAIRS, "--count", "400", "--output", "json"]).run();
    let output = output.expect(0);
    let result = output.json();
    assert_eq!(events(&topic).0.len(), 400);
    let rejected = number(&result, "rows_rejected");
    assert!(rejected > 20 && number(&result, "stale") > 20, "{result}");
    assert_eq!(number(&result, "rows_read"), 400 + rejected);
    // Each reason once.
    assert!(output.stderr.lines().count() < 12, "{output}");
    for reason in ["best_bid is missing", "best_bid is above best_ask", "it is no JSON object"] {
        assert_eq!(output.stderr.matches(reason).count(), 1, "{output}");
    }
}

#[test]
fn a_relay_that_passes_on_tickers_only_will_do() {
    let Some(topic) = Topic::new() else { return };
    let dir = Workdir::new();
    let stub = WsStub::start(|mut peer| async move {
        peer.hear().await;
        let channels = [serde_json::json!({ "name": "level2", "product_ids": ["BTC-USD"] })];
        peer.say(serde_json::json!({ "type": "subscriptions", "channels": channels }).to_string()).await;
        for sequence in 1..=3 {
            peer.ticker("BTC-USD", sequence, Utc::now() + Duration::from_secs(sequence)).await;
        }
        peer.stay().await;
    });
    let result = publish(&dir, &topic, &stub.url(), &["--pairs", "BTC-USD", "--count", "3"]).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "reconnects")), (3, 0));
    assert_eq!((result["source"].as_str(), events(&topic).0.len()), (Some("coinbase"), 3));
}

#[test]
fn a_feed_that_falls_silent_is_connected_again() {
    let Some(topic) = Topic::new() else { return };
    let (dir, begun) = (Workdir::new(), Utc::now());
    let stub = WsStub::start(move |mut peer| async move {
        peer.subscribe(&["BTC-USD"]).await;
        let first = 10 * peer.number as u64;
        // What the last connection said comes again, and then something new.
        if peer.number > 0 {
            peer.ticker("BTC-USD", first, begun + Duration::from_secs(1 + first)).await;
        }
        for sequence in first + 1..=first + 10 {
            peer.ticker("BTC-USD", sequence, begun + Duration::from_secs(1 + sequence)).await;
        }
        peer.stay().await;
    });
    let args = ["--pairs", "BTC-USD", "--count", "20"];
    let result = publish(&dir, &topic, &stub.url(), &args).env("COINETL_TIMEOUT", "1s").json(0);
    let (quotes, outages) = events(&topic);
    assert_eq!((quotes.len(), outages.len(), stub.clients()), (20, 1, 2), "{result}");
    assert_eq!((&outages[0]["reason"], number(&result, "reconnects")), (&"connection lost".into(), 1));
    assert!(stub.agents().iter().all(|agent| agent.starts_with("coinetl/")), "{:?}", stub.agents());
    // As they were written.
    assert_eq!((&quotes[0]["bid"], &quotes[0]["base_volume_24h"]), (&"97123.45000".into(), &8123.1.into()));
    assert_eq!((&quotes[0]["source"], &quotes[0]["sequence"]), (&"coinbase".into(), &1.into()));
}

#[test]
fn the_stale_first_ticker_is_not_sent() {
    let Some(topic) = Topic::new() else { return };
    let dir = Workdir::new();
    let stub = WsStub::start(|mut peer| async move {
        peer.subscribe(&["BTC-USD"]).await;
        peer.ticker("BTC-USD", 5, Utc::now() - Duration::from_secs(3600)).await;
        peer.heartbeat("BTC-USD", 5).await;
        for sequence in [6, 6, 4, 7] {
            peer.ticker("BTC-USD", sequence, Utc::now() + Duration::from_secs(1)).await;
        }
        peer.stay().await;
    });
    let result = publish(&dir, &topic, &stub.url(), &["--pairs", "BTC-USD", "--count", "2"]).json(0);
    let sequences: Vec<u64> = events(&topic).0.iter().map(|quote| quote["sequence"].as_u64().unwrap()).collect();
    assert_eq!((sequences, number(&result, "stale")), (vec![6, 7], 3));
}

#[test]
fn a_signal_ends_it_with_everything_sent() {
    let Some(topic) = Topic::new() else { return };
    for signal in ["TERM", "INT"] {
        let (dir, sandbox) = (Workdir::new(), sandbox(&[]));
        let running = publish(&dir, &topic, &feed(&sandbox), &["--pairs", PAIRS, "--output", "json"]).spawn();
        let before = topic.read().len();
        wait_until(|| topic.read().len() > before + 50);
        running.signal(signal);
        let output = running.wait().expect(0);
        let written = number(&output.json(), "rows_written");
        assert_eq!(topic.read().len() - before, written as usize, "{output}");
    }
}

#[test]
fn the_time_that_was_given_is_kept() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&[]));
    let output = publish(&dir, &topic, &feed(&sandbox), &["--pairs", "BTC-USD", "--duration", "2s"]).run().expect(0);
    assert!((2.0..12.0).contains(&output.seconds), "{output}");
    assert!(!events(&topic).0.is_empty());
}

#[test]
fn what_can_t_be_asked_for_is_told() {
    let Some(topic) = Topic::new() else { return };
    let (dir, sandbox) = (Workdir::new(), sandbox(&[]));
    let output = publish(&dir, &topic, &feed(&sandbox), &["--pairs", "BTC-USD,NO-PE"]).run().expect(2);
    assert!(output.stderr.contains("NO-PE is not a valid product") && output.stderr.lines().count() == 1, "{output}");
    for wrong in [
        &["--pairs", "BITCOIN"][..],
        &[],
        &["--pairs", "BTC-USD", "--ids", "bitcoin"],
        &["--pairs", "BTC-USD", "--source", "coingecko"],
        &["--ids", "BTC", "--source", "coinbase"],
        &["--ids", "bitcoin", "--session", "x"],
        &["--pairs", "BTC-USD", "--session", " "],
    ] {
        publish(&dir, &topic, &feed(&sandbox), wrong).run().expect(2);
    }
    assert_eq!(topic.read().len(), 0);
    // Nobody is there, or somebody else.
    let output = publish(&dir, &topic, "ws://127.0.0.1:9", &["--pairs", "BTC-USD"]).run().expect(75);
    assert!(output.stderr.contains("COINBASE_WS_URL"), "{output}");
    let output = publish(&dir, &topic, &format!("{}/no/feed", feed(&sandbox)), &["--pairs", "BTC-USD"]).run();
    assert!(output.expect(78).stderr.contains("COINBASE_WS_URL"));
}

#[test]
fn without_a_broker_nothing_begins() {
    let dir = Workdir::new();
    let output = dir.coinetl(["quotes", "publish", "--pairs", "BTC-USD"]).run().expect(78);
    assert!(output.stderr.contains("KAFKA_BOOTSTRAP_SERVERS"), "{output}");
    let cmd = dir.coinetl(["quotes", "publish", "--pairs", "BTC-USD", "--output", "json"]);
    let output = cmd.env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9").run().expect(75);
    let result = output.json();
    assert!(text(&result, "error").contains("127.0.0.1:9 can't be reached"), "{output}");
    assert_eq!((&result["source"], output.stderr.lines().count()), (&"coinbase".into(), 1), "{output}");
}

#[test]
fn a_broker_that_goes_away_is_told_once_with_what_was_sent() {
    let (dir, sandbox) = (Workdir::new(), sandbox(&[]));
    let cluster = rdkafka::mocking::MockCluster::new(1).expect("a broker inside this process");
    let cmd = dir.coinetl(["quotes", "publish", "--pairs", PAIRS, "--output", "json"]);
    let cmd = cmd.env("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers()).env("COINBASE_WS_URL", feed(&sandbox));
    let running = cmd.env("KAFKA_MESSAGE_TIMEOUT_MS", "2000").spawn();
    std::thread::sleep(Duration::from_secs(3));
    drop(cluster);
    let output = running.wait().expect(3);
    let result = output.json();
    assert!(number(&result, "rows_written") > 0 && number(&result, "unsent") > 0, "{output}");
    assert_eq!(output.stderr.matches("can't be reached").count(), 1, "{output}");
    assert!(text(&result, "error").contains("could not be sent and are lost"), "{output}");
}

#[test]
fn another_feed_behind_the_address_ends_it() {
    let Some(topic) = Topic::new() else { return };
    let dir = Workdir::new();
    let stub = WsStub::start(|mut peer| async move {
        let sandbox = if peer.number == 0 { "" } else { r#","sandbox":true"# };
        peer.hear().await;
        let channels = r#"[{"name":"ticker","product_ids":["BTC-USD"]}]"#;
        peer.say(format!(r#"{{"type":"subscriptions","channels":{channels}{sandbox}}}"#)).await;
        peer.say(ticker("BTC-USD", 1, 1, Utc::now() + Duration::from_secs(5))).await;
        sleep(Duration::from_millis(300)).await;
    });
    let output = publish(&dir, &topic, &stub.url(), &["--pairs", "BTC-USD"]).run().expect(3);
    assert!(output.stderr.contains("comes from sandbox-coinbase, but this run stores coinbase"), "{output}");
    let (quotes, outages) = events(&topic);
    assert_eq!((quotes.len(), outages.len()), (1, 1));
}

fn poll(cmd: Cmd, topic: &Topic, gecko: &Gecko, args: &[&str]) -> Cmd {
    topic.on(cmd.args(args).env("COINGECKO_API_URL", gecko.url()))
}

#[test]
fn prices_are_polled_where_there_are_no_quotes() {
    let Some(topic) = Topic::new() else { return };
    let (dir, gecko) = (Workdir::new(), Gecko::usual(5));
    let args = ["--ids", "coin-00001,coin-00003", "--interval", "200ms", "--count", "5"];
    let result = poll(dir.coinetl(["quotes", "publish"]), &topic, &gecko, &args).json(0);
    let sent = topic.read();
    assert_eq!((sent.len(), number(&result, "rows_written"), number(&result, "polls")), (5, 5, 3));
    assert_eq!((number(&result, "calls"), gecko.take_calls().len()), (3, 3));
    assert!(sent.iter().all(|sent| sent.event["schema"] == "coinetl.price.v1" && sent.event["vs_currency"] == "usd"));
    let first = sent.iter().find(|sent| sent.key == "coingecko:coin-00003").unwrap();
    assert_eq!(
        (first.event["price"].as_f64(), text(&first.event, "observed_at")),
        (Some(3.25), "2026-09-16T09:14:20.000Z")
    );
    assert!(!dir.file("coinetl.db").exists());
}

#[test]
fn polls_are_counted_and_paced_where_there_is_a_database() {
    let Some(topic) = Topic::new() else { return };
    for backend in [Backend::Sqlite, Backend::Mysql, Backend::Postgres] {
        let Some(db) = TestDb::new(backend) else { continue };
        db.setup();
        let gecko = Gecko::usual(5);
        let polling = |args: &[&str]| poll(db.ask(&["quotes", "publish"], &gecko.url()), &topic, &gecko, args);
        let args = ["--ids", "coin-00001,nobody", "--interval", "100ms", "--duration", "1500ms"];
        let result = polling(&args).json(3);
        let polls = number(&result, "polls");
        assert!((2..=15).contains(&polls) && text(&result, "error").contains("usd for: nobody"), "{result}");
        assert_eq!(
            db.lines("SELECT command, source, status, calls, rows_written, rows_absent FROM runs"),
            [format!("quotes publish|coingecko|partial|{polls}|{polls}|1")]
        );
        // A second one at the same time would be one too many; a signal ends the first one well.
        let running = polling(&["--ids", "coin-00001", "--interval", "100ms", "--output", "json"]).spawn();
        wait_until(|| db.number("SELECT COALESCE(MAX(rows_written), 0) FROM runs WHERE id = 2") > 3);
        polling(&["--ids", "coin-00002"]).run().expect(75);
        running.signal("TERM");
        let result = running.wait().expect(0).json();
        assert!(number(&result, "rows_written") > 3, "{result}");
        assert_eq!(db.lines("SELECT status FROM runs WHERE id = 2"), ["ok"]);
    }
}

#[test]
fn a_poll_that_fails_is_told_and_the_next_one_goes_on() {
    let Some(topic) = Topic::new() else { return };
    let dir = Workdir::new();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let gecko = Gecko::with(vec![Record::usual(1)], move |_, _| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // The second poll, with all its retries.
        (1..=5).contains(&n).then(|| StubResponse::error(500))
    });
    let args = ["--ids", "coin-00001", "--interval", "100ms", "--count", "3"];
    let result = poll(dir.coinetl(["quotes", "publish"]), &topic, &gecko, &args).json(3);
    assert_eq!((number(&result, "rows_written"), number(&result, "failed_polls")), (3, 1));
    assert!(text(&result, "error").contains("1 of 4 polls failed"), "{result}");
    // One that fails at once has nothing to go on with.
    let gecko = Gecko::with(Vec::new(), |_, _| Some(StubResponse::error(500)));
    poll(dir.coinetl(["quotes", "publish"]), &topic, &gecko, &args).json(75);
}
