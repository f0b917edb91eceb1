//! `quotes publish` with a broker that freezes under load: memory stays what it was, and every quote of the
//! market is in the topic, in an outage that was told, or counted as lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::consume::{consume, number};
use crate::support::kafka::Topic;
use crate::support::own_server::OwnServer;
use crate::support::test_db::{Backend, TestDb, loud};
use crate::support::workdir::{Cmd, Workdir, wait_until};
use crate::support::ws::{WsStub, ticker};

const PAIRS: [&str; 2] = ["BTC-USD", "ETH-USD"];
/// Kilobytes by which a process may grow while its queue is full: the queue, and what librdkafka holds.
const ROOM_KB: u64 = 96 * 1024;

/// Each tick of each pair: its sequence, and when it was.
type Market = Arc<Mutex<BTreeMap<(String, u64), DateTime<Utc>>>>;

/// A market that goes on whether anybody listens or not, so many ticks a second; an exchange that ends the
/// connection of whoever does not keep up for so long.
fn exchange(market: Market, per_second: f64, patience: Duration) -> WsStub {
    let began = Instant::now();
    let first = Utc::now();
    WsStub::start(move |mut peer| {
        let market = market.clone();
        async move {
            peer.subscribe(&PAIRS).await;
            let tick_now = || (began.elapsed().as_secs_f64() * per_second) as u64 + 1;
            let mut next = tick_now();
            loop {
                let now = tick_now();
                if next > now {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                for tick in next..=now {
                    let at = first + Duration::from_micros((tick as f64 / per_second * 1e6) as u64);
                    for pair in PAIRS {
                        market.lock().unwrap().insert((pair.to_owned(), tick), at);
                        if timeout(patience, peer.say(ticker(pair, tick, tick, at))).await.is_err() {
                            // What it did not take by now, it will never hear of. The market goes on.
                            let mut market = market.lock().unwrap();
                            for tick in tick..=tick_now() {
                                let at = first + Duration::from_micros((tick as f64 / per_second * 1e6) as u64);
                                market.extend(PAIRS.map(|pair| ((pair.to_owned(), tick), at)));
                            }
                            return;
                        }
                    }
                }
                next = now + 1;
            }
        }
    })
}

fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How often each quote is there, by pair and sequence.
type Quotes = BTreeMap<(String, u64), usize>;
/// Pair, from, to.
type Outage = (String, DateTime<Utc>, DateTime<Utc>);

/// What the topic holds.
fn told(topic: &Topic) -> (Quotes, Vec<Outage>) {
    let (mut quotes, mut outages) = (Quotes::new(), Vec::new());
    for event in topic.read().into_iter().map(|sent| sent.event) {
        let pair = event["pair"].as_str().unwrap().to_owned();
        if event["schema"] == "coinetl.quote.v1" {
            *quotes.entry((pair, event["sequence"].as_u64().unwrap())).or_default() += 1;
        } else {
            let time = |name: &str| event[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
            outages.push((pair, time("from_time"), time("to_time")));
        }
    }
    (quotes, outages)
}

fn publish(dir: &Workdir, topic: &Topic, feed: &WsStub, args: &[&str]) -> Cmd {
    let cmd = dir.coinetl(["quotes", "publish", "--pairs", &PAIRS.join(","), "--output", "json"]).args(args);
    topic.on(cmd.env("COINBASE_WS_URL", feed.url()))
}

#[test]
fn a_broker_that_freezes_holds_the_quotes_up_and_what_is_missed_is_told() {
    if Topic::new().is_none() {
        return;
    }
    let Some((server, servers)) = OwnServer::up("kafka") else {
        return loud("SKIPPED live quotes and a frozen broker: scripts/services can't start one here");
    };
    let topic = Topic::at(servers, "frozen".to_owned());
    topic.make(2, &[]);
    let (dir, market) = (Workdir::new(), Market::default());
    let feed = exchange(market.clone(), 2_000.0, Duration::from_secs(1));
    let running = publish(&dir, &topic, &feed, &[]).spawn();
    wait_until(|| topic.read_raw().len() > 4_000);
    let before = memory_kb(running.pid());
    server.signal("STOP");
    let frozen = std::time::Instant::now();
    let mut most = before;
    while frozen.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(100));
        most = most.max(memory_kb(running.pid()));
    }
    server.signal("CONT");
    // It was let go meanwhile, and comes back.
    wait_until(|| feed.clients() >= 2);
    std::thread::sleep(Duration::from_secs(3));
    running.signal("TERM");
    let output = running.wait().expect(0);
    let result = output.json();
    assert!(most < before + ROOM_KB, "{before} kB before, {most} kB while the broker was frozen");
    let (quotes, outages) = told(&topic);
    assert_eq!((number(&result, "rows_written"), number(&result, "unsent")), (quotes.len() as i64, 0), "{output}");
    assert_eq!(number(&result, "outages"), outages.len() as i64);
    assert!(number(&result, "reconnects") >= 1 && outages.len() >= 2, "{output}");
    // Nothing invented, nothing doubled; what is not there is in an outage, but for what came after the end.
    let market = market.lock().unwrap();
    assert!(quotes.iter().all(|(key, count)| *count == 1 && market.contains_key(key)));
    let mut missed = 0;
    for pair in PAIRS {
        let last = quotes.keys().filter(|(of, _)| of == pair).map(|(_, tick)| *tick).max().unwrap();
        let first = quotes.keys().filter(|(of, _)| of == pair).map(|(_, tick)| *tick).min().unwrap();
        for ((of, tick), at) in market.iter().filter(|((of, tick), _)| of == pair && (first..last).contains(tick)) {
            if !quotes.contains_key(&(of.clone(), *tick)) {
                missed += 1;
                let in_one = outages.iter().any(|(of, from, to)| of == pair && (from..=to).contains(&at));
                assert!(in_one, "tick {tick} of {pair} at {at} is lost without a word: {outages:?}");
            }
        }
    }
    assert!(missed > 0, "nothing was missed");
    loud(&format!(
        "{} quotes sent, {missed} missed in {} outages; {before} kB before, {most} kB at most while the broker was frozen",
        quotes.len(),
        outages.len()
    ));
    // What the topic holds is what each database gets.
    for backend in [Backend::Sqlite, Backend::Mysql, Backend::Postgres] {
        let Some(db) = TestDb::new(backend) else { continue };
        db.setup();
        consume(&db, &topic, &["--until-end"]).json(0);
        let stored = db.lines("SELECT pair, sequence FROM crypto_metrics");
        let stored: std::collections::BTreeSet<String> = stored.into_iter().collect();
        assert_eq!(stored, quotes.keys().map(|(pair, tick)| format!("{pair}|{tick}")).collect());
        assert_eq!(db.number("SELECT COUNT(*) FROM crypto_metrics"), quotes.len() as i64);
        let distinct: std::collections::BTreeSet<_> = outages.iter().collect();
        assert_eq!(db.number("SELECT COUNT(*) FROM quote_outages"), distinct.len() as i64);
    }
}

#[test]
fn a_broker_that_stays_frozen_ends_it_and_what_is_lost_is_counted() {
    if Topic::new().is_none() {
        return;
    }
    let Some((server, servers)) = OwnServer::up("kafka") else {
        return loud("SKIPPED live quotes and a broker that stays frozen: scripts/services can't start one here");
    };
    let topic = Topic::at(servers, "frozen".to_owned());
    topic.make(2, &[]);
    let (dir, market) = (Workdir::new(), Market::default());
    // An exchange with all the patience in the world: the queue stays full to the end.
    let feed = exchange(market.clone(), 20_000.0, Duration::from_secs(600));
    let running = publish(&dir, &topic, &feed, &[]).env("KAFKA_MESSAGE_TIMEOUT_MS", "8000").spawn();
    wait_until(|| topic.read_raw().len() > 4_000);
    let before = memory_kb(running.pid());
    server.signal("STOP");
    let (mut running, mut most) = (running, before);
    while running.is_running() {
        std::thread::sleep(Duration::from_millis(50));
        if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/statm", running.pid())) {
            let pages: u64 = status.split_whitespace().nth(1).map_or(0, |pages| pages.parse().unwrap());
            most = most.max(pages * 4);
        }
    }
    let output = running.wait().expect(3);
    server.signal("CONT");
    let result: Value = output.json();
    let (sent, unsent) = (number(&result, "rows_written"), number(&result, "unsent"));
    assert!(most < before + ROOM_KB, "{before} kB before, {most} kB while the broker was frozen");
    // All that came is in the topic or counted; the queue alone holds ten thousand.
    assert!(sent > 0 && unsent >= 10_000, "{output}");
    let error = result["error"].as_str().unwrap();
    assert!(error.contains(&format!("{unsent} quote(s) that came could not be sent and are lost")), "{output}");
    let (quotes, _) = told(&topic);
    let there = quotes.len() as i64;
    // What the broker had taken in when it froze may be there, though nobody heard of it.
    assert!((sent..=sent + unsent).contains(&there), "{there} in the topic: {output}");
    let market = market.lock().unwrap();
    assert!(quotes.keys().all(|key| market.contains_key(key)));
    for pair in PAIRS {
        let ticks: Vec<u64> = quotes.keys().filter(|(of, _)| of == pair).map(|(_, tick)| *tick).collect();
        let whole = ticks.windows(2).all(|two| two[1] == two[0] + 1);
        assert!(whole, "there is a hole in {pair} before the end");
    }
    loud(&format!("{sent} sent, {unsent} lost and told, {there} there; {before} kB before, {most} kB at most"));
    assert_eq!(json!(output.stderr.matches("can't be reached").count()), json!(1), "{output}");
}
