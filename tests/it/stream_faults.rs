//! What happens to a stream, on a real Kafka: an oracle keeps what was produced, and in the end the sets are
//! compared. Lost none, invented none, doubled none, every value equal, metrics and windows those that the
//! quotes come to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::consume::{Sent, check, consume, messages, number, quotes, setting};
use crate::support::kafka::Topic;
use crate::support::test_db::{TestDb, assert_same, loud};
use crate::support::workdir::{Output, Running, wait_until};

on_every_database!(
    poison_costs_itself_wherever_it_stands_in_a_batch,
    a_topic_made_anew_while_nobody_reads_is_told_and_read_whole_on_request,
    a_topic_made_anew_under_a_running_consumer_is_told_and_read_whole_on_request,
    members_come_and_go_under_load,
);

// ---- messages that can't be used ----

/// A message of each kind that can't be used; made from this quote.
fn poison(quote: &Sent) -> Vec<Option<Vec<u8>>> {
    let good: Value = serde_json::from_str(&messages(std::slice::from_ref(quote))[0].1).unwrap();
    let price = price(9_999);
    let candle = json!({
        "schema": "coinetl.candle.v1", "source": "coinbase", "asset": "BTC", "symbol": "BTC", "name": "B", "vs_currency": "usd",
        "timeframe": "1h", "open_time": "2026-05-19T08:00:00.000Z", "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5,
        "volume": null, "base_volume": null, "market_cap": null, "samples": 3, "final": true,
    });
    let outage = json!({
        "schema": "coinetl.outage.v1", "source": "coinbase", "pair": "BTC-USD", "from_time": "2026-05-19T08:00:00Z",
        "to_time": "2026-05-19T08:00:01Z", "reason": "r",
    });
    let mut all: Vec<Option<Vec<u8>>> = vec![None];
    let texts: [&[u8]; 10] = [
        b"",
        b" ",
        b"not json",
        b"\xff\xfe{}",
        b"\0",
        b"[]",
        b"17",
        b"null",
        b"{}",
        b"{\"schema\":\"coinetl.quote.v1\"",
    ];
    all.extend(texts.map(|bytes| Some(bytes.to_vec())));
    all.push(Some(format!("{good}{good}").into_bytes()));
    all.push(Some(format!("{good}{}", " ".repeat(1 << 20)).into_bytes()));
    let mut add = |event: &Value, name: &str, value: Option<Value>| {
        let mut event = event.clone();
        match value {
            Some(value) => event[name] = value,
            None => drop(event.as_object_mut().unwrap().remove(name)),
        }
        all.push(Some(event.to_string().into_bytes()));
    };
    for (event, names) in [
        (&good, &["schema", "source", "pair", "sequence", "observed_at", "bid", "ask"][..]),
        (&price, &["schema", "source", "asset", "vs_currency", "observed_at", "price"]),
        (&candle, &["source", "asset", "timeframe", "open_time", "open", "high", "low", "close", "final"]),
        (&outage, &["source", "pair", "from_time", "to_time", "reason"]),
    ] {
        for name in names {
            add(event, name, None);
            add(event, name, Some(json!({})));
        }
        add(event, "schema", Some(json!("coinetl.quote.v9")));
        add(event, "source", Some(json!("s".repeat(65))));
        add(event, "source", Some(json!("")));
    }
    for (event, name, value) in [
        (&good, "bid", json!("99999999")),
        (&good, "bid", json!("-1")),
        (&good, "bid", json!("NaN")),
        (&good, "ask", json!("0")),
        (&good, "ask", json!("1e400")),
        (&good, "pair", json!("B\0")),
        (&good, "sequence", json!(1.5)),
        (&good, "sequence", json!(1e300)),
        (&good, "observed_at", json!("soon")),
        (&good, "observed_at", json!("2999-05-19T08:00:00Z")),
        (&good, "session", json!(7)),
        (&price, "price", json!("NaN")),
        (&price, "market_cap_rank", json!(-1)),
        (&price, "observed_at", json!("2999-05-19T08:00:00Z")),
        (&candle, "final", json!(false)),
        (&candle, "high", json!(0.5)),
        (&candle, "timeframe", json!("2h")),
        (&candle, "open_time", json!("2999-05-19T08:00:00Z")),
        (&outage, "to_time", json!("2026-05-19T07:00:00Z")),
        (&outage, "to_time", json!("2999-05-19T07:00:00Z")),
    ] {
        add(event, name, Some(value));
    }
    all
}

/// A price that can be used, of a coin of its own.
fn price(n: usize) -> Value {
    json!({
        "schema": "coinetl.price.v1", "source": "coingecko", "asset": format!("coin-{n:05}"), "symbol": "C", "name": "C",
        "vs_currency": "usd", "observed_at": "2026-05-19T08:47:57.580Z", "price": n as f64 + 0.1,
    })
}

/// What was produced, partition by partition, in order: an offset is a place in it.
#[derive(Default)]
struct Log {
    partitions: [Vec<Option<Vec<u8>>>; 3],
    poison: BTreeSet<(i32, i64)>,
    batch: Vec<(i32, Option<Vec<u8>>)>,
}

impl Log {
    fn good(&mut self, partition: i32, payload: String) {
        self.add(partition, Some(payload.into_bytes()));
    }

    fn bad(&mut self, partition: i32, payload: Option<Vec<u8>>) {
        self.poison.insert((partition, self.partitions[partition as usize].len() as i64));
        self.add(partition, payload);
    }

    fn add(&mut self, partition: i32, payload: Option<Vec<u8>>) {
        self.partitions[partition as usize].push(payload.clone());
        self.batch.push((partition, payload));
    }

    fn send(&mut self, topic: &Topic) -> i64 {
        topic.send_raw(&self.batch);
        std::mem::take(&mut self.batch).len() as i64
    }

    /// As they are kept: in UTF-8, without U+0000, no longer than 1 MiB.
    fn letters(&self) -> Vec<(i64, i64, String)> {
        let letter = |(partition, offset): &(i32, i64)| {
            let payload = self.partitions[*partition as usize][*offset as usize].clone().unwrap_or_default();
            let mut text = String::from_utf8_lossy(&payload).replace('\0', "\u{fffd}");
            text.truncate(text.floor_char_boundary(1 << 20));
            (i64::from(*partition), *offset, text)
        };
        self.poison.iter().map(letter).collect()
    }
}

fn kept_letters(db: &TestDb) -> Vec<(i64, i64, String)> {
    let rows = db.query("SELECT partition_id, offset_id, payload FROM dead_letters ORDER BY partition_id, offset_id");
    let number = |cell: &Option<String>| cell.as_deref().unwrap_or("-1").parse().unwrap();
    rows.iter().map(|row| (number(&row[0]), number(&row[1]), row[2].clone().unwrap_or_default())).collect()
}

fn poison_costs_itself_wherever_it_stands_in_a_batch(db: &TestDb) {
    const QUOTES: usize = 36;
    let Some(topic) = Topic::new() else { return };
    topic.make(3, &[("max.message.bytes", "4000000")]);
    let layouts = ["first", "middle", "last", "all", "alone", "between", "killed"];
    let all = quotes((layouts.len() * QUOTES) as i64);
    let kinds = poison(&all[0]);
    let (mut log, mut used, mut prices) = (Log::default(), Vec::new(), 0);
    for (round, layout) in layouts.into_iter().enumerate() {
        let part = &all[round * QUOTES..(round + 1) * QUOTES];
        let good = messages(part);
        let (half, mut bad) = (QUOTES / 2, kinds.iter().cloned());
        let mut goods = |log: &mut Log, good: &[(String, String)], partition: Option<i32>| {
            for (n, (_, payload)) in good.iter().enumerate() {
                // A pair's quotes stay in their order.
                log.good(partition.unwrap_or(n as i32 % 3), payload.clone());
                if n % 6 == 0 {
                    log.good(partition.unwrap_or(n as i32 / 6 % 3), price(prices).to_string());
                    prices += 1;
                }
            }
        };
        match layout {
            "first" | "middle" | "last" => {
                let front = if layout == "first" { 0 } else { half };
                let front = if layout == "last" { QUOTES } else { front };
                goods(&mut log, &good[..front], Some(0));
                bad.for_each(|payload| log.bad(0, payload));
                goods(&mut log, &good[front..], Some(0));
                used.extend_from_slice(part);
            }
            "all" => bad.enumerate().for_each(|(n, payload)| log.bad(n as i32 % 3, payload)),
            "alone" => log.bad(1, bad.nth(2).unwrap()),
            // One between any two messages, on all partitions.
            _ => {
                for pieces in good.chunks(3) {
                    goods(&mut log, pieces, None);
                    for (partition, payload) in (0..3).zip(bad.by_ref()) {
                        log.bad(partition, payload);
                    }
                }
                bad.for_each(|payload| log.bad(2, payload));
                used.extend_from_slice(part);
            }
        }
        let before = log.poison.len() as i64 - kept_letters(db).len() as i64;
        let sent = log.send(&topic);
        if layout == "killed" {
            for point in ["inside-transaction", "after-transaction"] {
                let output = consume(db, &topic, &["--until-end"]).env("COINETL_TEST_DIE_AT", point).run();
                assert!(output.signal.is_some() || point == "after-transaction", "{output}");
            }
            consume(db, &topic, &["--until-end"]).json(0);
        } else {
            let result = consume(db, &topic, &["--until-end"]).json(0);
            assert_eq!((number(&result, "rows_read"), number(&result, "rows_rejected")), (sent, before), "{layout}");
            assert_eq!(number(&result, "rows_written"), sent - before, "{layout}");
        }
        assert_same(&kept_letters(db), &log.letters());
        let stored =
            db.lines("SELECT a.source_id, p.price FROM prices p JOIN assets a ON a.id = p.asset_id ORDER BY 1");
        let expected: Vec<String> = (0..prices).map(|n| format!("coin-{n:05}|{:?}", n as f64 + 0.1)).collect();
        assert_same(&stored, &expected);
        check(db, &used);
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error = '' OR source <> 'kafka'"), 0);
    for table in ["candles", "quote_outages"] {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM {table}")), 0);
    }
    // Another group reads it all again: nothing changes, and no letter comes twice.
    let result = consume(db, &topic, &["--until-end"]).env("KAFKA_GROUP", format!("other-{}", topic.name)).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_rejected")), (0, log.poison.len() as i64));
    assert_same(&kept_letters(db), &log.letters());
    check(db, &used);
}

// ---- a topic that is deleted and made again ----

fn lost(db: &TestDb) -> i64 {
    db.number("SELECT COUNT(*) FROM dead_letters WHERE error LIKE '%are lost%'")
}

fn places(db: &TestDb) -> Vec<i64> {
    let lines = db.lines("SELECT next_offset FROM stream_offsets ORDER BY partition_id");
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

fn a_topic_made_anew_while_nobody_reads_is_told_and_read_whole_on_request(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let all = quotes(451);
    let run = |args: &[&str]| consume(db, &topic, args).arg("--until-end");
    topic.make(1, &[]);
    topic.send_raw(&[(0, Some(b"the old one's".to_vec()))]);
    topic.send(&messages(&all[..100]));
    run(&[]).json(0);
    let mut sent = 100;
    // Shorter than where the old one stood, as long, longer; and again, from where it stood before.
    for (round, count) in [50, 50, 100, 150].into_iter().enumerate() {
        let (before, stored) = (places(db)[0], sent as i64);
        topic.delete();
        topic.make(1, &[]);
        // One that can't be used, where the old one had another.
        topic.send_raw(&[(0, Some(format!("that of round {round}").into_bytes()))]);
        topic.send(&messages(&all[sent..sent + count]));
        sent += count;
        let held = count as i64 + 1;
        let output = run(&[]).run().expect(78);
        let range = match held < before {
            true => format!("offsets {held} to {} of partition 0", before - 1),
            false => {
                format!("offsets {before} and up of the old one's partition 0 are lost, and offsets 0 to {}", held - 1)
            }
        };
        assert!(output.stderr.contains(&range) && output.stderr.contains("--skip-lost"), "{range}: {output}");
        // Nothing was read past it, however often it is tried.
        run(&[]).json(78);
        assert_eq!((db.number("SELECT COUNT(*) FROM crypto_metrics"), places(db)[0]), (stored, before));
        let result = run(&["--skip-lost"]).json(0);
        assert_eq!((number(&result, "rows_written"), number(&result, "rows_rejected")), (count as i64, 1), "{result}");
        assert_eq!((lost(db), places(db)[0]), (round as i64 + 1, held));
        assert_eq!(number(&run(&[]).json(0), "rows_read"), 0);
    }
    let expected: Vec<String> = (0..4).map(|round| format!("that of round {round}")).collect();
    assert_eq!(db.lines("SELECT payload FROM dead_letters WHERE payload LIKE 'that%' ORDER BY payload"), expected);
    // Those without a place of their own can be tried again, too.
    let event = messages(&[Sent { sequence: 9_000_000, ..all[0].clone() }]).remove(0).1;
    db.execute(&format!("UPDATE dead_letters SET payload = '{event}' WHERE payload = 'that of round 3'"));
    assert_eq!(number(&db.coinetl(&["dead-letters", "replay"]).json(0), "rows_written"), 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE payload LIKE '%9000000%'"), 0);
    db.execute("DELETE FROM crypto_metrics WHERE sequence = 9000000");
    assert_eq!(db.number("SELECT COUNT(*) FROM crypto_metrics"), 450);
}

fn a_topic_made_anew_under_a_running_consumer_is_told_and_read_whole_on_request(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let all = quotes(1_600);
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    topic.make(3, &[]);
    let mut sent = 300;
    topic.send(&messages(&all[..sent]));
    let running = consume(db, &topic, &[]).spawn();
    wait_until(|| stored() == sent as i64);
    // Longer than where the old one stood, and at once: between two looks of the member at the topic.
    topic.delete();
    topic.make(3, &[]);
    topic.send(&messages(&all[sent..sent + 600]));
    sent += 600;
    let output = running.wait().expect(78);
    assert!(output.stderr.contains("was deleted and made anew, so that offsets"), "{output}");
    assert_eq!(stored(), 300, "nothing of the new one is stored before it is asked for");
    // Told to go on, it reads the new one whole; and does so again, when that happens under its eyes.
    let running = consume(db, &topic, &["--skip-lost"]).spawn();
    wait_until(|| stored() == sent as i64);
    for (n, count) in [200, 300].into_iter().enumerate() {
        let before = lost(db);
        topic.delete();
        if n == 1 {
            // Long enough to notice that there is none.
            std::thread::sleep(Duration::from_secs(2));
        }
        topic.make(3, &[]);
        topic.send(&messages(&all[sent..sent + count]));
        sent += count;
        wait_until(|| stored() == sent as i64);
        assert!(lost(db) > before, "it is recorded");
    }
    topic.send(&messages(&all[sent..]));
    wait_until(|| stored() == 1_600);
    running.signal("TERM");
    running.wait().expect(0);
    check_all(db, &topic, &all);
}

/// The tables are what the quotes come to; the places are those of the topic that is there now.
fn check_all(db: &TestDb, topic: &Topic, all: &[Sent]) {
    let read: i64 = places(db).iter().sum();
    assert_eq!(read, topic.read_raw().len() as i64);
    // `check` takes the offsets of one topic for all that was ever sent.
    let first = "SELECT MIN(partition_id) FROM stream_offsets";
    let first = db.number(first);
    db.execute(&format!("UPDATE stream_offsets SET next_offset = next_offset + 100000 WHERE partition_id = {first}"));
    check(db, all);
}

// ---- members that come and go ----

/// A member ends well when it is asked to; one that had not begun to listen yet just dies, and has done nothing.
fn gone_when_asked(output: Output) -> Output {
    let had_not_begun = output.signal == Some(15) && output.stdout.is_empty() && output.stderr.is_empty();
    if had_not_begun { output } else { output.expect(0) }
}

fn members_come_and_go_under_load(db: &TestDb) {
    const PIECE: usize = 200;
    let Some(topic) = Topic::new() else { return };
    topic.make(6, &[]);
    let seed = setting("COINETL_KILL_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let mut dice = StdRng::seed_from_u64(seed);
    let all = quotes(24_000);
    let join = || {
        let cmd = consume(db, &topic, &[]).env("KAFKA_SESSION_TIMEOUT_MS", "1500");
        cmd.env("KAFKA_HEARTBEAT_INTERVAL_MS", "300").spawn()
    };
    let (mut members, mut joined, mut asked, mut killed): (Vec<Running>, _, _, _) = (vec![join()], 1, 0, 0);
    let (begun, mut next) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let at_work = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    let mut in_between = Vec::new();
    for (n, piece) in all.chunks(PIECE).enumerate() {
        topic.send(&messages(piece));
        // Steadily, for twenty-four seconds.
        std::thread::sleep((Duration::from_millis(200) * (n as u32 + 1)).saturating_sub(begun.elapsed()));
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + Duration::from_millis(dice.random_range(500..2_500));
        in_between.push(at_work());
        match dice.random_range(0..4) {
            _ if members.is_empty() => {
                members.push(join());
                joined += 1;
            }
            0 | 1 if members.len() < 3 => {
                members.push(join());
                joined += 1;
            }
            2 => {
                let member = members.swap_remove(dice.random_range(0..members.len()));
                member.signal("TERM");
                asked += 1;
                let output = gone_when_asked(member.wait());
                assert!(!output.stderr.contains("ERROR"), "seed {seed}: {output}");
            }
            _ => {
                let mut member = members.swap_remove(dice.random_range(0..members.len()));
                member.kill();
                killed += 1;
                let output = member.wait();
                assert!(!output.stderr.contains("panicked"), "seed {seed}: {output}");
            }
        }
    }
    for member in members {
        member.signal("TERM");
        gone_when_asked(member.wait());
        asked += 1;
    }
    let moved = in_between.windows(2).filter(|pair| pair[0] < pair[1]).count();
    loud(&format!(
        "{:?}: seed {seed}: {joined} members came, {asked} were asked to go and {killed} killed; between {moved} of {} of \
         these something was stored",
        db.backend(),
        in_between.len()
    ));
    consume(db, &topic, &["--until-end"]).json(0);
    assert!(moved > 0 && killed > 0 && joined > 2);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), 0);
    check(db, &all);
}
