//! `consume --metrics`: how far a consumer is, for Prometheus.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::kafka::Topic;
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{Cmd, wait_until};

fn quote(n: i64) -> (String, String) {
    let event = format!(
        r#"{{"schema":"coinetl.quote.v1","source":"coinbase","pair":"BTC-USD","sequence":{n},"observed_at":"2026-05-19T08:47:57.{n:06}Z","bid":"97123.45","ask":"97123.46","price":"97123.45"}}"#
    );
    ("coinbase:BTC-USD".to_owned(), event)
}

fn consume(db: &TestDb, topic: &Topic, address: &str) -> Cmd {
    let cmd = db.coinetl(&["consume", "--metrics", address]).env("KAFKA_GROUP", format!("group-of-{}", topic.name));
    topic.on(cmd)
}

/// The figures, by name and labels; none while nobody answers.
fn figures(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    Some(answer)
}

#[test]
fn a_consumer_tells_its_figures() {
    let Some(topic) = Topic::new() else { return };
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    db.setup();
    topic.make(1, &[]);
    let mut messages: Vec<_> = (1..=50).map(quote).collect();
    messages.push(quote(7));
    messages.push(("coinbase:BTC-USD".to_owned(), "rubbish".to_owned()));
    topic.send(&messages);

    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let running = consume(&db, &topic, &address).spawn();
    let has = |told: &str, name: &str, labels: &[&str], value: &str| {
        told.lines().any(|line| {
            line.starts_with(&format!("coinetl_stream_{name}{{"))
                && labels.iter().all(|label| line.contains(label))
                && line.ends_with(&format!("}} {value}"))
        })
    };
    let topic_label = format!("topic=\"{}\"", topic.name);
    wait_until(|| {
        figures(&address).is_some_and(|told| {
            has(&told, "events_total", &["result=\"stored\"", &topic_label], "50")
                && has(&told, "events_total", &["result=\"known\""], "1")
                && has(&told, "events_total", &["result=\"dead_letter\""], "1")
                && has(&told, "lag", &["partition=\"0\""], "0")
        })
    });
    let told = figures(&address).unwrap();
    assert!(told.contains("coinetl_stream_newest_event_timestamp_seconds{"), "{told}");
    assert!(told.contains("coinetl_stream_batches_total{"), "{told}");

    for name in crate::metrics::names_in_use().iter().filter(|name| crate::metrics::is_of_a_consumer(name)) {
        assert!(told.contains(&format!("{name}{{")), "docker/ asks for {name}, which is not in\n{told}");
    }

    // The address is taken.
    let refused = consume(&db, &topic, &address).run().expect(2);
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("--metrics"), "{}", refused.stderr);
    running.signal("TERM");
    running.wait().expect(0);
}

#[test]
fn the_progress_line_tells_how_far_behind_it_is() {
    let Some(topic) = Topic::new() else { return };
    let Some(db) = TestDb::new(Backend::Sqlite) else { return };
    db.setup();
    topic.make(1, &[]);
    topic.send(&(1..=30).map(quote).collect::<Vec<_>>());
    let running = topic.on(db.coinetl(&["consume"])).env("KAFKA_GROUP", format!("group-of-{}", topic.name)).spawn();
    std::thread::sleep(std::time::Duration::from_secs(13));
    running.signal("TERM");
    let told = running.wait().expect(0).stderr;
    let line = told.lines().find(|line| line.contains("events/s")).unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains(" 0 behind, ") && line.contains("30 stored so far"), "{line}");
}
