//! `consume`: what is in the topic is in the tables, once, whatever dies on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use coinetl::db::stream::{WindowKey, merge_windows};
use coinetl::db::{DbError, Session};
use coinetl::domain::quote::Figures;
use coinetl::domain::quote_window::Fold;
use coinetl::events::{Event, Reader};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::kafka::Topic;
use crate::support::own_server::OwnServer;
use crate::support::test_db::{Backend, TestDb, assert_same, loud};
use crate::support::workdir::{Cmd, SandboxServer, wait_until};

on_every_database!(
    what_was_published_is_in_the_consumer_s_database,
    quotes_become_metrics_and_windows,
    what_a_live_feed_told_is_stored,
    killed_consumers_lose_nothing_and_double_nothing,
    dying_at_every_named_point_changes_nothing,
    two_members_share_the_work,
    two_who_fold_the_same_windows_lose_nothing,
    a_window_that_two_add_is_nobody_s_alone,
    broken_messages_are_kept_and_the_stream_goes_on,
);

pub fn consume(db: &TestDb, topic: &Topic, args: &[&str]) -> Cmd {
    let cmd = db.coinetl(&["consume"]).args(args).env("KAFKA_GROUP", format!("group-of-{}", topic.name));
    topic.on(cmd).env("KAFKA_SESSION_TIMEOUT_MS", "6000").env("KAFKA_HEARTBEAT_INTERVAL_MS", "500")
}

pub fn number(result: &Value, name: &str) -> i64 {
    result[name].as_i64().unwrap_or_else(|| panic!("{name} in {result}"))
}

// ---- quotes, and what they must come to ----

#[derive(Debug, Clone)]
pub struct Sent {
    pub pair: &'static str,
    pub sequence: i64,
    /// Microseconds since 1970.
    pub at: i64,
    /// In hundredths.
    pub bid: i64,
    pub ask: i64,
}

const FIRST: i64 = 1_779_180_477_000_000;

/// Quotes of three pairs over a quarter of an hour, some of them late.
pub fn quotes(count: i64) -> Vec<Sent> {
    let mut quotes = Vec::new();
    for n in 0..count {
        let pair = ["BTC-USD", "ETH-USD", "SKL-BTC"][(n % 3) as usize];
        // Every 17th comes after those that follow it.
        let late = if n % 17 == 0 { 400_000_000 } else { 0 };
        let at = FIRST + n * (900_000_000 / count.max(1)) - late;
        let bid = 9_712_345 + (n * 7_919) % 1_000;
        quotes.push(Sent { pair, sequence: 1_000 + n * 3 - late / 1_000_000, at, bid, ask: bid + 1 + n % 5 });
    }
    quotes
}

pub fn cents(number: i64) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}

pub fn moment(at: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at).unwrap();
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

pub fn messages(quotes: &[Sent]) -> Vec<(String, String)> {
    let message = |quote: &Sent| {
        let event = json!({
            "schema": "coinetl.quote.v1", "source": "coinbase", "pair": quote.pair, "sequence": quote.sequence,
            "observed_at": format!("{}Z", moment(quote.at).replace(' ', "T")), "bid": cents(quote.bid), "ask": cents(quote.ask),
            "price": cents(quote.bid), "base_volume_24h": null, "session": null,
        });
        (format!("coinbase:{}", quote.pair), event.to_string())
    };
    quotes.iter().map(message).collect()
}

/// A hundredth, or half of one, as the double that its decimal text reads as.
fn double(hundredths: i64, halves: bool) -> f64 {
    let text = if halves { format!("{}.{:03}", hundredths / 200, hundredths % 200 * 5) } else { cents(hundredths) };
    text.parse().unwrap()
}

/// The tables that the quotes must come to, worked out in whole hundredths.
fn expected(quotes: &[Sent]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut metrics, mut extremes, mut seen) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut windows: BTreeMap<(String, String, String), Vec<Sent>> = BTreeMap::new();
    for quote in quotes {
        if !seen.insert((quote.pair, quote.sequence)) {
            continue;
        }
        let day = moment(quote.at)[..10].to_owned();
        let of_session = extremes.entry((quote.pair, day.clone())).or_insert((i64::MIN, i64::MAX, i64::MIN));
        *of_session =
            (of_session.0.max(quote.bid), of_session.1.min(quote.ask), of_session.2.max(quote.ask - quote.bid));
        let (bid, ask) = (double(quote.bid, false), double(quote.ask, false));
        let (mid, spread) = (double(quote.bid + quote.ask, true), double(quote.ask - quote.bid, false));
        let (high, low, most) = (double(of_session.0, false), double(of_session.1, false), double(of_session.2, false));
        metrics.insert(format!(
            "coinbase|{}|{}|{}|{bid:?}|{ask:?}|{mid:?}|{spread:?}|{high:?}|{low:?}|{most:?}|{day}",
            quote.pair,
            quote.sequence,
            moment(quote.at)
        ));
        for (name, seconds) in [("1m", 60), ("5m", 300), ("1h", 3_600)] {
            let start = moment(quote.at - quote.at % (seconds * 1_000_000));
            windows.entry((quote.pair.to_owned(), name.to_owned(), start)).or_default().push(quote.clone());
        }
    }
    let window = |((pair, name, start), mut quotes): ((String, String, String), Vec<Sent>)| {
        quotes.sort_by_key(|quote| (quote.at, quote.sequence));
        let mids: Vec<i64> = quotes.iter().map(|quote| quote.bid + quote.ask).collect();
        let (open, close) = (double(mids[0], true), double(mids[mids.len() - 1], true));
        let (high, low) = (double(*mids.iter().max().unwrap(), true), double(*mids.iter().min().unwrap(), true));
        let bid = double(quotes.iter().map(|quote| quote.bid).max().unwrap(), false);
        let ask = double(quotes.iter().map(|quote| quote.ask).min().unwrap(), false);
        let spread = double(quotes.iter().map(|quote| quote.ask - quote.bid).max().unwrap(), false);
        format!(
            "coinbase|{pair}|{name}|{start}|{}|{open:?}|{high:?}|{low:?}|{close:?}|{bid:?}|{ask:?}|{spread:?}",
            quotes.len()
        )
    };
    (metrics, windows.into_iter().map(window).collect())
}

fn micros(db: &TestDb, column: &str) -> String {
    match db.backend() {
        Backend::Sqlite => column.to_owned(),
        Backend::Mysql => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
        Backend::Postgres => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US')"),
    }
}

#[track_caller]
pub fn check(db: &TestDb, quotes: &[Sent]) {
    let (metrics, windows) = expected(quotes);
    let stored = db.lines(&format!(
        "SELECT source, pair, sequence, {}, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session FROM crypto_metrics",
        micros(db, "observed_at")
    ));
    assert_eq!(stored.len(), metrics.len(), "quotes");
    let stored: Vec<String> = stored.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_same(&stored, &metrics.into_iter().collect::<Vec<_>>());
    let stored: BTreeSet<String> = db
        .lines(&format!(
            "SELECT source, pair, timeframe, {}, quotes, open_mid, high_mid, low_mid, close_mid, highest_bid, lowest_ask, max_spread FROM quote_windows",
            micros(db, "window_start")
        ))
        .into_iter()
        .collect();
    assert_same(&stored.into_iter().collect::<Vec<_>>(), &windows.into_iter().collect::<Vec<_>>());
    // The mean of a window's spreads, to the last digits that a sum of decimals leaves.
    for row in db.query("SELECT pair, quotes, mean_spread FROM quote_windows WHERE timeframe = '1h'") {
        let (pair, count): (String, i64) = (row[0].clone().unwrap(), row[1].clone().unwrap().parse().unwrap());
        assert!(count > 0 && !pair.is_empty() && row[2].clone().unwrap().parse::<f64>().unwrap() >= 0.01);
    }
    let ends = db.query("SELECT next_offset FROM stream_offsets");
    let read: i64 = ends.iter().map(|row| row[0].as_deref().unwrap().parse::<i64>().unwrap()).sum();
    assert!(read >= quotes.len() as i64, "{read}");
}

fn quotes_become_metrics_and_windows(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    topic.make(3, &[]);
    let quotes = quotes(3_000);
    // The first half twice: an event seen before changes nothing. The rest in another run, with the
    // state and the windows read back.
    topic.send(&messages(&quotes[..1_500]));
    topic.send(&messages(&quotes[..700]));
    let result = consume(db, &topic, &["--until-end"]).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_unchanged")), (1_500, 700));
    assert_eq!(topic.committed(&format!("group-of-{}", topic.name)), 2_200);
    topic.send(&messages(&quotes[1_500..]));
    assert_eq!(number(&consume(db, &topic, &["--until-end"]).json(0), "rows_written"), 1_500);
    check(db, &quotes);
    // The end was reached before.
    assert_eq!(number(&consume(db, &topic, &["--until-end"]).json(0), "rows_read"), 0);
}

fn what_was_published_is_in_the_consumer_s_database(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let batch = TestDb::new(Backend::Sqlite).unwrap();
    batch.setup();
    let sandbox = SandboxServer::start(["--assets", "700"]);
    batch.ask(&["assets", "upsert"], &sandbox.url()).json(0);
    batch.ask(&["prices", "insert", "--vs", "usd,eur"], &sandbox.url()).json(0);
    let sent = number(&topic.on(batch.coinetl(&["publish"])).json(0), "rows_written");
    let result = consume(db, &topic, &["--until-end"]).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_rejected")), (sent, 0));
    let rows = |db: &TestDb| {
        let mut rows = db.lines(
            "SELECT a.source, a.source_id, a.symbol, a.name, p.vs_currency, p.observed_at, p.price, p.volume_24h, p.base_volume_24h, \
             p.market_cap, p.circulating_supply, p.total_supply, p.market_cap_rank, p.change_1h, p.change_24h, p.change_7d, \
             p.change_30d FROM prices p JOIN assets a ON a.id = p.asset_id",
        );
        rows.sort();
        rows
    };
    assert_same(&rows(db), &rows(&batch));
    // They are not sent a second time, nor is what is stored of a letter.
    let mut event = topic.read().remove(0).event;
    event["price"] = json!(1.5);
    db.execute(&format!(
        "INSERT INTO dead_letters (source, topic, partition_id, offset_id, payload, error, received_at) \
         VALUES ('kafka', 't', 0, 9999, '{}', 'why', '2999-01-01 00:00:00.000')",
        event.to_string().replace('\'', "''")
    ));
    assert_eq!(number(&db.coinetl(&["dead-letters", "replay"]).json(0), "rows_written"), 1);
    assert_eq!(number(&topic.on(db.coinetl(&["publish"])).json(0), "rows_written"), 0);
    assert_eq!(db.lines("SELECT command, source, status FROM runs WHERE command = 'consume'"), ["consume|kafka|ok"]);
}

fn what_a_live_feed_told_is_stored(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    let sandbox = SandboxServer::start(["--assets", "50", "--quotes-per-second", "100", "--fault", "drop=1"]);
    let feed = format!("ws://{}", sandbox.address());
    let publish = ["quotes", "publish", "--pairs", "BTC-USD,ETH-USD", "--count", "300", "--session", "london"];
    let told = topic.on(db.coinetl(&publish)).env("COINBASE_WS_URL", &feed).json(0);
    let outages = number(&told, "outages");
    assert!(outages > 0, "{told}");
    let result = consume(db, &topic, &["--until-end"]).json(0);
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_rejected")), (300 + outages, 0));
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    let plain = |time: String| time.replace('T', " ").replace('Z', "");
    let double = |event: &Value, name: &str| format!("{:?}", text(event, name).parse::<f64>().unwrap());
    let (mut quotes, mut missing) = (Vec::new(), Vec::new());
    for event in topic.read().into_iter().map(|sent| sent.event) {
        if event["schema"] == "coinetl.quote.v1" {
            let at = plain(text(&event, "observed_at"));
            let (bid, ask) = (double(&event, "bid"), double(&event, "ask"));
            quotes.push(format!("{}|{}|{at}|{bid}|{ask}|london", text(&event, "pair"), event["sequence"]));
        } else {
            let [from, to] = ["from_time", "to_time"].map(|name| plain(text(&event, name)));
            missing.push(format!("{}|{from}|{to}|{}", text(&event, "pair"), text(&event, "reason")));
        }
    }
    let same = |select: String, mut told: Vec<String>| {
        let mut stored = db.lines(&select);
        stored.sort();
        told.sort();
        assert_same(&stored, &told);
    };
    let at = micros(db, "observed_at");
    same(format!("SELECT pair, sequence, {at}, bid, ask, session FROM crypto_metrics"), quotes);
    let (from, to) = (micros(db, "from_time"), micros(db, "to_time"));
    same(format!("SELECT pair, {from}, {to}, reason FROM quote_outages"), missing);
}

/// How often it is killed, and the seed of the moments: `scripts/kill-test` sets both.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn killed_consumers_lose_nothing_and_double_nothing(db: &TestDb) {
    const QUOTES_A_KILL: i64 = 3_000;
    let Some(topic) = Topic::new() else { return };
    topic.make(3, &[]);
    let kills = setting("COINETL_KILLS").unwrap_or(10) as i64;
    let seed = setting("COINETL_KILL_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let mut moments = StdRng::seed_from_u64(seed);
    let quotes = quotes(kills * QUOTES_A_KILL);
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    // A dead member is given up after a second, so that the next one has something to do before it dies.
    let consume = |args: &[&str]| {
        let cmd = consume(db, &topic, args).env("KAFKA_SESSION_TIMEOUT_MS", "1000");
        cmd.env("KAFKA_HEARTBEAT_INTERVAL_MS", "300")
    };
    let (mut before, mut at_work) = (0, 0);
    for (number, part) in quotes.chunks(QUOTES_A_KILL as usize).enumerate() {
        let so_far = stored();
        let mut running = consume(&[]).spawn();
        // While it lives, they keep coming.
        let pause = Duration::from_millis(moments.random_range(100..2_500));
        let pieces = part.chunks(300);
        let breath = pause / pieces.len() as u32;
        let begun = Instant::now();
        for (n, piece) in pieces.enumerate() {
            topic.send(&messages(piece));
            std::thread::sleep((breath * (n as u32 + 1)).saturating_sub(begun.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(moments.random_range(0..300)));
        assert!(running.is_running(), "seed {seed}, kill {number}");
        running.kill();
        let output = running.wait();
        assert!(!output.stderr.contains("panicked"), "seed {seed}, kill {number}\n{output}");
        if stored() > so_far { at_work += 1 } else { before += 1 }
    }
    loud(&format!(
        "{:?}: seed {seed}: {kills} kills, {at_work} of them in the midst of storing, {before} before it began",
        db.backend()
    ));
    consume(&["--until-end"]).json(0);
    assert!(at_work > 0, "none of the blows came in the midst of storing");
    check(db, &quotes);
}

fn dying_at_every_named_point_changes_nothing(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    topic.make(3, &[]);
    let quotes = quotes(1_800);
    // The rows and the place in the topic appear together, or not at all.
    let points = [
        ("after-poll", false),
        ("after-poll:150", false),
        ("before-transaction", false),
        ("inside-transaction", false),
        ("after-transaction", true),
        ("after-kafka-commit", true),
    ];
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    let places = || db.lines("SELECT partition_id, next_offset FROM stream_offsets ORDER BY partition_id");
    for (part, (point, keeps)) in quotes.chunks(300).zip(points) {
        topic.send(&messages(part));
        let (rows, at) = (stored(), places());
        // A dead member is given up soon.
        let cmd = consume(db, &topic, &["--until-end"]).env("KAFKA_SESSION_TIMEOUT_MS", "1000");
        let cmd = cmd.env("KAFKA_HEARTBEAT_INTERVAL_MS", "300");
        let output = cmd.env("COINETL_TEST_DIE_AT", point).run();
        assert!(output.signal.is_some(), "it did not die {point}\n{output}");
        assert_eq!((stored() > rows, places() != at), (keeps, keeps), "{point}");
    }
    consume(db, &topic, &["--until-end"]).json(0);
    check(db, &quotes);
}

fn two_members_share_the_work(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    topic.make(3, &[]);
    let quotes = quotes(24_000);
    topic.send(&messages(&quotes[..8_000]));
    let first = consume(db, &topic, &[]).spawn();
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    wait_until(|| stored() > 0);
    let second = consume(db, &topic, &[]).spawn();
    topic.send(&messages(&quotes[8_000..16_000]));
    std::thread::sleep(Duration::from_secs(2));
    // One is frozen while the other takes over, and wakes up afterwards.
    first.signal("STOP");
    topic.send(&messages(&quotes[16_000..]));
    wait_until(|| stored() == 24_000);
    first.signal("CONT");
    std::thread::sleep(Duration::from_secs(1));
    for member in [first, second] {
        member.signal("TERM");
        member.wait().expect(0);
    }
    check(db, &quotes);
}

fn two_who_fold_the_same_windows_lose_nothing(db: &TestDb) {
    let (Some(one), Some(other)) = (Topic::new(), Topic::new()) else { return };
    one.make(1, &[]);
    other.make(1, &[]);
    // Every pair's quotes go to both, turn by turn.
    let quotes = quotes(3_000);
    let running = [&one, &other].map(|topic| consume(db, topic, &["-vv"]).spawn());
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    for (n, part) in quotes.chunks(300).enumerate() {
        one.send(&messages(&part[..150]));
        other.send(&messages(&part[150..]));
        let (wanted, started) = ((n as i64 + 1) * 300, Instant::now());
        while stored() != wanted {
            if started.elapsed() > Duration::from_secs(60) {
                running.iter().for_each(|member| member.signal("TERM"));
                let told = running.map(|member| member.wait().to_string()).join("\n");
                panic!("{} of {wanted} rows after part {n}; the two said:\n{told}", stored());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for member in running {
        member.signal("TERM");
        member.wait().expect(0);
    }
    let (_, windows) = expected(&quotes);
    let folded = db.lines(&format!(
        "SELECT source, pair, timeframe, {}, quotes, open_mid, high_mid, low_mid, close_mid, highest_bid, lowest_ask, max_spread FROM quote_windows",
        micros(db, "window_start")
    ));
    let folded: BTreeSet<String> = folded.into_iter().collect();
    assert_same(&folded.into_iter().collect::<Vec<_>>(), &windows.into_iter().collect::<Vec<_>>());
    let mut extremes = db.lines("SELECT pair, highest_bid, lowest_ask, max_spread FROM quote_sessions");
    let mut most: Vec<String> = ["BTC-USD", "ETH-USD", "SKL-BTC"]
        .map(|pair| {
            let of = || quotes.iter().filter(|quote| quote.pair == pair);
            let bid = double(of().map(|quote| quote.bid).max().unwrap(), false);
            let ask = double(of().map(|quote| quote.ask).min().unwrap(), false);
            let spread = double(of().map(|quote| quote.ask - quote.bid).max().unwrap(), false);
            format!("{pair}|{bid:?}|{ask:?}|{spread:?}")
        })
        .into();
    extremes.sort();
    most.sort();
    assert_same(&extremes, &most);
}

/// The second comes while the first has not ended: it must not take what it adds for all there is.
fn a_window_that_two_add_is_nobody_s_alone(db: &TestDb) {
    let window = |at: i64| {
        let text = &messages(&[Sent { at: FIRST + at, sequence: at, ..quotes(1)[0].clone() }])[0].1;
        let Ok(Event::Quote(quote)) = Reader::default().read(text.as_bytes(), None) else { panic!("{text}") };
        let start = quote.observed_at.floor(3_600);
        let (source, pair) = (quote.source.to_string(), quote.pair.to_string());
        (WindowKey { source, pair, timeframe: "1h".to_owned(), start }, Fold::of(&quote, &Figures::of(&quote)))
    };
    let session = |name: &str| Session::begin(db.open(), name, "kafka", Duration::ZERO).unwrap();
    let (mut one, mut other) = (session("one"), session("other"));
    let begin = std::sync::Barrier::new(2);
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            begin.wait();
            other.batch(|batch| merge_windows(batch, &mut [window(2)]))
        });
        let first = one.batch(|batch| {
            merge_windows(batch, &mut [window(1)])?;
            begin.wait();
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        });
        first.unwrap();
        second.join().unwrap()
    });
    let quotes = db.number("SELECT quotes FROM quote_windows");
    match second {
        Ok(()) => assert_eq!(quotes, 2),
        // It is told, and tried again with what is stored.
        Err(err) => {
            assert!(matches!(err, DbError::Duplicate(_) | DbError::Locked(_)) && quotes == 1, "{err}: {quotes}")
        }
    }
}

fn broken_messages_are_kept_and_the_stream_goes_on(db: &TestDb) {
    let Some(topic) = Topic::new() else { return };
    topic.make(1, &[("max.message.bytes", "4000000")]);
    let quotes = quotes(60);
    let good = messages(&quotes);
    let broken = [
        "not json".to_owned(),
        String::new(),
        r#"{"schema":"coinetl.quote.v9"}"#.to_owned(),
        good[0].1.replace("\"pair\"", "\"bear\""),
        good[1].1.replace("\"bid\":\"9", "\"bid\":\"99"),
        good[2].1.replace("2026-", "soon-"),
        format!("{}{}", good[3].1, " ".repeat(2 << 20)),
        good[4].1.replace("2026-05-19", "2999-05-19"),
    ];
    let mut all = Vec::new();
    // In front, between and behind.
    for (n, message) in good.iter().enumerate() {
        if n % 8 == 0 {
            all.push(("coinbase:BTC-USD".to_owned(), broken[n / 8 % broken.len()].clone()));
        }
        all.push(message.clone());
    }
    all.push(("x".to_owned(), "\u{0}".to_owned()));
    topic.send(&all);
    let result = consume(db, &topic, &["--until-end"]).json(0);
    let letters = db.number("SELECT COUNT(*) FROM dead_letters");
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_rejected")), (60, letters));
    assert_eq!(letters, 9);
    check(db, &quotes);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error = '' OR partition_id IS NULL"), 0);
    let listed = db.coinetl(&["dead-letters", "list", "--limit", "5"]).json(0);
    assert_eq!((listed["letters"].as_array().unwrap().len(), &listed["total"]), (5, &letters.into()));
    // Some of them are put right by hand: those go, and only those.
    let event = messages(&[Sent { sequence: 9_000_000, ..quotes[0].clone() }]).remove(0).1;
    db.execute(&format!("UPDATE dead_letters SET payload = '{event}' WHERE payload = 'not json'"));
    // What was from the future when it came does not become true by waiting.
    db.execute("UPDATE dead_letters SET received_at = '3000-01-01 00:00:00.000' WHERE payload LIKE '%2999-05-19%'");
    let result = db.coinetl(&["dead-letters", "replay"]).json(0);
    let mended = number(&result, "rows_read") - number(&result, "rows_rejected");
    assert_eq!((number(&result, "rows_written"), number(&result, "rows_unchanged")), (1, mended - 1));
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters"), letters - mended);
    assert_eq!(db.number("SELECT COUNT(*) FROM crypto_metrics WHERE sequence = 9000000"), 1);
    assert_eq!(number(&db.coinetl(&["dead-letters", "replay"]).json(0), "rows_written"), 0);
}

#[test]
fn offsets_that_are_gone_are_told_and_skipped_on_request() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    topic.make(1, &[]);
    let quotes = quotes(90);
    topic.send(&messages(&quotes));
    consume(&db, &topic, &["--until-end"]).json(0);
    // A new topic of that name, with less in it.
    topic.delete();
    topic.make(1, &[]);
    topic.send(&messages(&quotes[..30]));
    // Not even who asks for it gets it in silence.
    let cmd = consume(&db, &topic, &["--until-end"]).env("KAFKA_AUTO_OFFSET_RESET", "earliest");
    let cmd = cmd.env("KAFKA_GROUP_ID", "other").env("KAFKA_PARTITION_ASSIGNMENT_STRATEGY", "cooperative-sticky");
    let output = cmd.env("KAFKA_ENABLE_AUTO_COMMIT", "true").run().expect(78);
    for setting in ["AUTO_OFFSET_RESET", "GROUP_ID", "PARTITION_ASSIGNMENT_STRATEGY", "ENABLE_AUTO_COMMIT"] {
        let told = format!("KAFKA_{setting} is left out");
        assert_eq!(output.stderr.matches(&told).count(), 1, "{told}\n{output}");
    }
    assert!(
        output.stderr.contains("offsets 30 to 89 of partition 0") && output.stderr.contains("--skip-lost"),
        "{output}"
    );
    let result = consume(&db, &topic, &["--until-end", "--skip-lost"]).json(0);
    assert_eq!((number(&result, "rows_unchanged"), number(&result, "rows_written")), (30, 0));
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error LIKE '%are lost%'"), 1);
    assert_eq!(db.number("SELECT COUNT(*) FROM crypto_metrics"), 90);
}

#[test]
fn a_transaction_s_marks_are_no_messages_to_wait_for() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    topic.make(2, &[]);
    let quotes = quotes(90);
    topic.send_in_transaction(&messages(&quotes[..60]), true);
    topic.send_in_transaction(&messages(&quotes[60..]), false);
    let until_end = || number(&consume(&db, &topic, &["--until-end"]).json(0), "rows_written");
    assert_eq!((until_end(), until_end()), (60, 0));
    topic.send_in_transaction(&messages(&quotes[60..]), true);
    assert_eq!(until_end(), 30);
    check(&db, &quotes);
}

#[test]
fn what_fails_after_something_was_stored_ends_it_as_partly_done() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    topic.make(1, &[]);
    let quotes = quotes(60);
    topic.send(&messages(&quotes[..30]));
    let running = consume(&db, &topic, &[]).spawn();
    wait_until(|| db.number("SELECT COUNT(*) FROM crypto_metrics") == 30);
    db.execute("DROP TABLE quote_window_edges");
    topic.send(&messages(&quotes[30..]));
    running.wait().expect(3);
    assert_eq!(db.lines("SELECT status FROM runs"), ["partial"]);
}

#[test]
fn a_signal_ends_it_in_order() {
    let Some(topic) = Topic::new() else { return };
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    topic.make(3, &[]);
    let quotes = quotes(600);
    topic.send(&messages(&quotes));
    for signal in ["TERM", "INT"] {
        let mut running = consume(&db, &topic, &[]).spawn();
        wait_until(|| db.number("SELECT COUNT(*) FROM crypto_metrics") == 600);
        std::thread::sleep(Duration::from_millis(200));
        assert!(running.is_running(), "it waits for more");
        running.signal(signal);
        running.wait().expect(0);
    }
    assert_eq!(topic.committed(&format!("group-of-{}", topic.name)), 600);
    assert_eq!(db.lines("SELECT DISTINCT status FROM runs"), ["ok"]);
    check(&db, &quotes);
}

/// Something is killed with the stream under way, and comes back; the consumer goes on by itself.
fn survives(db: &TestDb, topic: &Topic, server: &OwnServer, send_in_between: bool) {
    topic.make(3, &[]);
    let quotes = quotes(9_000);
    let member = consume(db, topic, &[]).timeout(Duration::from_secs(170)).spawn();
    let stored = || db.number("SELECT COUNT(*) FROM crypto_metrics");
    topic.send(&messages(&quotes[..3_000]));
    wait_until(|| stored() > 0);
    assert!(server.services("kill"));
    if send_in_between {
        topic.send(&messages(&quotes[3_000..6_000]));
    }
    std::thread::sleep(Duration::from_secs(4));
    assert!(server.services("start"));
    let rest = if send_in_between { 6_000 } else { 3_000 };
    topic.send(&messages(&quotes[rest..]));
    wait_until(|| stored() == 9_000);
    member.signal("TERM");
    let output = member.wait().expect(0);
    // Told once, not with every try.
    assert!(output.stderr.lines().filter(|line| line.contains("WARN")).count() <= 4, "{output}");
    check(db, &quotes);
}

fn survives_its_database(service: &'static str, backend: Backend, built_in: bool) {
    let Some(topic) = Topic::new() else { return };
    if !built_in {
        return loud(&format!("SKIPPED the stream and a dying {service}: not built in"));
    }
    let Some((server, address)) = OwnServer::up(service) else {
        return loud(&format!("SKIPPED the stream and a dying {service}: scripts/services can't start it here"));
    };
    let db = TestDb::at(backend, &address);
    db.setup();
    survives(&db, &topic, &server, true);
}

#[test]
fn a_dying_mysql_holds_the_stream_up_and_no_more() {
    survives_its_database("mysql", Backend::Mysql, cfg!(feature = "mysql"));
}

#[test]
fn a_dying_postgres_holds_the_stream_up_and_no_more() {
    survives_its_database("postgres", Backend::Postgres, cfg!(feature = "postgres"));
}

#[test]
fn a_broker_that_is_away_when_its_topic_is_to_be_read_anew_is_waited_for() {
    if Topic::new().is_none() {
        return;
    }
    let Some((server, servers)) = OwnServer::up("kafka") else {
        return loud("SKIPPED the stream and a broker that is away: scripts/services can't start one here");
    };
    let topic = Topic::at(servers, "away".to_owned());
    topic.make(1, &[]);
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    let quotes = quotes(60);
    topic.send(&messages(&quotes[..30]));
    let member = consume(&db, &topic, &[]).timeout(Duration::from_secs(170)).spawn();
    wait_until(|| db.number("SELECT COUNT(*) FROM crypto_metrics") == 30);
    // While a batch waits for the database, the broker goes, and somebody else moves the offsets.
    let other = rusqlite::Connection::open(db.workdir().file("it.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE; UPDATE stream_offsets SET next_offset = next_offset - 1").expect("the lock");
    topic.send(&messages(&quotes[30..]));
    std::thread::sleep(Duration::from_secs(1));
    assert!(server.services("kill"));
    other.execute_batch("COMMIT").expect("the end of the lock");
    // Longer than any single question takes.
    std::thread::sleep(Duration::from_secs(24));
    assert!(server.services("start"));
    wait_until(|| db.number("SELECT COUNT(*) FROM crypto_metrics") == 60);
    member.signal("TERM");
    let output = member.wait().expect(0);
    assert_eq!(output.stderr.matches("can't be read from").count(), 1, "{output}");
    check(&db, &quotes);
}

#[test]
fn a_dying_broker_holds_the_stream_up_and_no_more() {
    if Topic::new().is_none() {
        return;
    }
    let Some((server, servers)) = OwnServer::up("kafka") else {
        return loud("SKIPPED the stream and a dying broker: scripts/services can't start one here");
    };
    let topic = Topic::at(servers, "dying".to_owned());
    let db = TestDb::new(Backend::Sqlite).unwrap();
    db.setup();
    survives(&db, &topic, &server, false);
}
