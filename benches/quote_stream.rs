//! Drives a stream of quotes for `scripts/bench`: fills a topic, reads it as fast as librdkafka can,
//! stores it without what makes it exactly once, and measures how long a quote takes from its event to
//! its row.
//!
//! Not a benchmark by itself: `coinetl consume` and the peers run in between, and the script holds the
//! clock for all of them.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coinetl::db::stream::{QuoteRow, WindowKey, insert_quotes, merge_windows};
use coinetl::db::{DatabaseUrl, Session, migrate};
use coinetl::domain::quote::{Extremes, Figures};
use coinetl::domain::quote_window::{Fold, TIMEFRAMES};
use coinetl::domain::{Micros, Quote, Ticker};
use coinetl::events::{self, Event, Reader};
use diesel::RunQueryDsl;
use diesel::sql_types::{BigInt, Nullable};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const USAGE: &str = "\
usage: quote_stream fill    SERVERS TOPIC QUOTES             a new topic of three partitions; prints seconds
       quote_stream read    SERVERS TOPIC QUOTES             reads them and does nothing; prints seconds
       quote_stream plain   SERVERS TOPIC QUOTES URL         rows and windows, without offsets and running state
       quote_stream latency SERVERS TOPIC RATE SECONDS URL   sends at a rate and looks for the rows of a
                                                             consumer that runs; prints percentiles
Run it by way of scripts/bench.";

const PARTITIONS: i32 = 3;
const PAIRS: usize = 30;
const SOURCE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(30);
/// As `coinetl consume` writes.
const BATCH: usize = 20_000;
/// Quotes of a filled topic are this far apart: a thousand a second, so that windows are as full as on
/// a busy day.
const STEP_US: i64 = 1_000;
const FIRST_US: i64 = 1_788_000_000_000_000;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["fill", servers, topic, quotes] => fill(servers, topic, quotes.parse()?),
        ["read", servers, topic, quotes] => read(servers, topic, quotes.parse()?),
        ["plain", servers, topic, quotes, url] => plain(servers, topic, quotes.parse()?, url),
        ["latency", servers, topic, rate, seconds, url] => {
            latency(servers, topic, rate.parse()?, seconds.parse()?, url)
        }
        // `cargo bench` comes by with arguments of its own.
        _ => {
            println!("{USAGE}");
            Ok(())
        }
    }
}

/// The n-th quote of a market of thirty pairs, in the form of the events of `quotes publish`.
fn event(n: usize, observed_us: i64) -> Result<(String, i32, Vec<u8>), Box<dyn Error>> {
    let pair = n % PAIRS;
    // Cents that walk about without a pattern.
    let cents = 9_712_345 + (n * 7919 % 20_011) as i64;
    let spread = 1 + (n * 104_729 % 97) as i64;
    let text = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
    let ticker = Ticker {
        pair: format!("P{pair:02}-USD"),
        sequence: n as u64 + 1,
        observed_at: Micros::from_micros(observed_us)?,
        bid: text(cents),
        ask: text(cents + spread),
        price: text(cents),
        base_volume_24h: Some(8123.25 + pair as f64),
    };
    let key = events::pair_key(SOURCE, &ticker.pair);
    Ok((key, pair as i32 % PARTITIONS, events::quote(SOURCE, &ticker, None)))
}

fn make_topic(servers: &str, topic: &str) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", servers).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            made.map_err(|(name, err)| format!("{name}: {err}"))?;
        }
        Ok(())
    })
}

fn producer(servers: &str) -> Result<BaseProducer, Box<dyn Error>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("compression.type", "lz4").set("linger.ms", "5");
    config.set("enable.idempotence", "true").set("queue.buffering.max.messages", "1000000");
    Ok(config.create()?)
}

fn send(producer: &BaseProducer, topic: &str, n: usize, observed_us: i64) -> Outcome {
    let (key, partition, payload) = event(n, observed_us)?;
    let mut record = BaseRecord::to(topic).key(&key).partition(partition).payload(&payload);
    while let Err((err, back)) = producer.send(record) {
        if err.rdkafka_error_code() != Some(rdkafka::error::RDKafkaErrorCode::QueueFull) {
            return Err(err.into());
        }
        producer.poll(Duration::from_millis(10));
        record = back;
    }
    Ok(())
}

fn fill(servers: &str, topic: &str, quotes: usize) -> Outcome {
    make_topic(servers, topic)?;
    let (producer, started) = (producer(servers)?, Instant::now());
    for n in 0..quotes {
        send(&producer, topic, n, FIRST_US + n as i64 * STEP_US)?;
        if n % 10_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    println!("{}", started.elapsed().as_secs_f64());
    Ok(())
}

/// Hands every message of the topic to `take`, until it has seen all.
fn each(servers: &str, topic: &str, quotes: usize, mut take: impl FnMut(&[u8]) -> Outcome) -> Outcome {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "bench-raw").set("enable.auto.commit", "false");
    // As `coinetl consume` asks for.
    config.set("queued.max.messages.kbytes", "8192").set("queued.min.messages", "50000");
    config.set("fetch.message.max.bytes", "262144").set("fetch.queue.backoff.ms", "10");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    for n in 0..quotes {
        match consumer.poll(PATIENCE) {
            Some(message) => take(message?.payload().unwrap_or_default())?,
            None => return Err(format!("only {n} of {quotes} messages came").into()),
        }
    }
    Ok(())
}

fn read(servers: &str, topic: &str, quotes: usize) -> Outcome {
    let (started, mut bytes) = (Instant::now(), 0);
    each(servers, topic, quotes, |payload| {
        bytes += payload.len();
        Ok(())
    })?;
    println!("{}", started.elapsed().as_secs_f64());
    eprintln!("{bytes} bytes");
    Ok(())
}

/// What `coinetl consume` does, in two threads like it, without a group, a fence and offsets in the
/// database, and with extremes that a restart forgets.
fn plain(servers: &str, topic: &str, quotes: usize, url: &str) -> Outcome {
    let url = DatabaseUrl::parse(url)?;
    let started = Instant::now();
    let (to_writer, batches) = mpsc::sync_channel::<Vec<Quote>>(1);
    let writing = std::thread::spawn(move || -> Result<(), String> {
        let opened = migrate::open_current(&url).map_err(|err| err.to_string())?;
        let mut session = Session::begin(opened, "bench", SOURCE, Duration::ZERO).map_err(|err| err.to_string())?;
        let mut extremes = HashMap::new();
        batches.iter().try_for_each(|batch| store(&mut session, &batch, &mut extremes).map_err(|err| err.to_string()))
    });
    let (mut reader, mut batch) = (Reader::default(), Vec::with_capacity(BATCH));
    each(servers, topic, quotes, |payload| {
        if let Ok(Event::Quote(quote)) = reader.read(payload, None) {
            batch.push(quote);
        }
        if batch.len() == BATCH {
            to_writer.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
        }
        Ok(())
    })?;
    to_writer.send(batch)?;
    drop(to_writer);
    writing.join().map_err(|_| "the writing thread failed")??;
    println!("{}", started.elapsed().as_secs_f64());
    Ok(())
}

fn store(session: &mut Session, quotes: &[Quote], running: &mut HashMap<Arc<str>, Extremes>) -> Outcome {
    let (mut rows, mut minutes) = (Vec::with_capacity(quotes.len()), HashMap::new());
    for quote in quotes {
        let figures = Figures::of(quote);
        let extremes = running.entry(quote.pair.clone()).or_insert(Extremes::of(&figures));
        extremes.take(&figures);
        let fold = Fold::of(quote, &figures);
        let minute = minutes.entry((quote.pair.clone(), quote.observed_at.floor(60)));
        minute.and_modify(|window: &mut Fold| window.merge(&fold)).or_insert(fold);
        rows.push(QuoteRow { quote, figures, extremes: *extremes });
    }
    rows.sort_by(|one, other| one.quote.pair.cmp(&other.quote.pair));
    let mut windows: HashMap<WindowKey, Fold> = HashMap::new();
    for ((pair, minute), fold) in &minutes {
        for (timeframe, seconds) in TIMEFRAMES {
            let (source, pair, timeframe) = (SOURCE.to_owned(), pair.to_string(), timeframe.to_owned());
            let window = windows.entry(WindowKey { source, pair, timeframe, start: minute.floor(seconds) });
            window.and_modify(|window| window.merge(fold)).or_insert_with(|| fold.clone());
        }
    }
    let mut windows: Vec<_> = windows.into_iter().collect();
    session.batch(|batch| {
        insert_quotes(batch, &rows)?;
        merge_windows(batch, &mut windows)
    })?;
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct Newest {
    #[diesel(sql_type = Nullable<BigInt>)]
    newest: Option<i64>,
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_micros() as i64)
}

/// Sends at a rate for a while. Meanwhile the newest row of every pair is looked at again and again: a
/// quote whose row was not there a moment ago is as old as that look.
fn latency(servers: &str, topic: &str, rate: usize, seconds: usize, url: &str) -> Outcome {
    let url = DatabaseUrl::parse(url)?;
    let producer = producer(servers)?;
    let (quotes, begun) = (rate * seconds, now_us());
    let sent_at = move |n: usize| begun + (n as i64 * 1_000_000) / rate as i64;
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    let looking = std::thread::spawn(move || -> Result<Vec<i64>, String> {
        let mut conn = migrate::open_current(&url).map_err(|err| err.to_string())?.conn;
        let (mut seen, mut ages, mut deadline) = ([0_usize; PAIRS], Vec::with_capacity(quotes), None);
        while ages.len() < quotes {
            for (pair, seen) in seen.iter_mut().enumerate() {
                let text = format!(
                    "SELECT MAX(sequence) AS newest FROM crypto_metrics WHERE source = '{SOURCE}' AND pair = 'P{pair:02}-USD'"
                );
                let row = diesel::sql_query(text).get_result::<Newest>(&mut conn).map_err(|err| err.to_string())?;
                let now = now_us();
                // Sequences of a pair: pair + 1, and every thirtieth from there on.
                let stored = row.newest.map_or(0, |newest| (newest as usize - 1 - pair) / PAIRS + 1);
                ages.extend((*seen..stored).map(|at| now - sent_at(pair + at * PAIRS)));
                *seen = stored;
            }
            if flag.load(Ordering::Relaxed) && *deadline.get_or_insert(Instant::now() + PATIENCE) < Instant::now() {
                return Err(format!("only {} of {quotes} rows came", ages.len()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(ages)
    });
    for n in 0..quotes {
        let due = sent_at(n);
        while now_us() < due {
            producer.poll(Duration::from_millis(1));
        }
        send(&producer, topic, n, due)?;
    }
    producer.flush(PATIENCE)?;
    ended.store(true, Ordering::Relaxed);
    let mut ages = looking.join().map_err(|_| "the looking thread failed")??;
    ages.sort_unstable();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!("{{\"p50\": {}, \"p99\": {}, \"max\": {}}}", at(0.5), at(0.99), at(1.0));
    Ok(())
}
