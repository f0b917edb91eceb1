//! A session of the exchange's feed as it was recorded, from a WebSocket through Kafka into the tables: what it
//! must come to is worked out here in whole hundred-millionths.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::kafka::Topic;
use crate::support::recordings::recordings;
use crate::support::test_db::{Backend, TestDb, assert_same};
use crate::support::ws::WsStub;

on_every_database!(the_recorded_feed_of_coinbase_becomes_its_metrics);

const SCALE: f64 = 1e8;

#[derive(Debug, Clone)]
struct Ticker {
    pair: String,
    sequence: i64,
    /// `2021-04-17 16:43:30.244075`
    at: String,
    bid: i64,
    ask: i64,
}

impl Ticker {
    fn of(message: &Value) -> Ticker {
        let text = |name: &str| message[name].as_str().unwrap();
        Ticker {
            pair: text("product_id").to_owned(),
            sequence: message["sequence"].as_i64().unwrap(),
            at: text("time").replace('T', " ").replace('Z', ""),
            bid: scaled(text("best_bid")),
            ask: scaled(text("best_ask")),
        }
    }

    /// The beginning of the window of so many minutes.
    fn window(&self, minutes: u32) -> String {
        let minute: u32 = self.at[14..16].parse().unwrap();
        format!("{}:{:02}:00.000000", &self.at[..13], minute / minutes * minutes)
    }
}

/// A decimal in hundred-millionths; what is finer would be lost.
fn scaled(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 8, "{text}");
    format!("{whole}{fraction:0<8}").parse().unwrap()
}

/// Both sides are exact doubles, so the quotient is the one that the decimal reads as.
fn double(number: i64) -> f64 {
    number as f64 / SCALE
}

fn mid(ticker: &Ticker) -> f64 {
    (ticker.bid + ticker.ask) as f64 / (2.0 * SCALE)
}

fn the_recorded_feed_of_coinbase_becomes_its_metrics(db: &TestDb) {
    let (Some(folder), Some(topic)) = (recordings("coinbase"), Topic::new()) else { return };
    let capture = std::fs::read_to_string(folder.join("ws_feed_2021-04-17.part1of2.capture.txt")).unwrap();
    // A line of what was received is its time and the message.
    let messages: Vec<(String, Value)> = capture
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(time, _)| time.parse::<f64>().is_ok())
        .map(|(_, text)| (text.to_owned(), serde_json::from_str(text).unwrap()))
        .collect();
    let mut tickers: Vec<Ticker> =
        messages.iter().filter(|(_, message)| message["type"] == "ticker").map(|(_, m)| Ticker::of(m)).collect();
    let pairs: BTreeSet<String> = tickers.iter().map(|ticker| ticker.pair.clone()).collect();
    assert_eq!((tickers.len(), pairs.len()), (70, 10));
    // The first one of each pair tells of the last trade before the subscription.
    let mut known = BTreeSet::new();
    tickers.retain(|ticker| !known.insert(ticker.pair.clone()));

    let texts: Vec<String> = messages.into_iter().map(|(text, _)| text).collect();
    let stub = WsStub::start(move |mut peer| {
        let texts = texts.clone();
        async move {
            peer.hear().await;
            for text in texts {
                peer.say(text).await;
            }
            peer.stay().await;
        }
    });
    let (list, count) = (pairs.iter().cloned().collect::<Vec<_>>().join(","), tickers.len().to_string());
    let publish = ["quotes", "publish", "--pairs", &list, "--count", &count];
    let told = topic.on(db.coinetl(&publish)).env("COINBASE_WS_URL", stub.url()).json(0);
    assert_eq!(
        ["rows_written", "rows_rejected", "outages", "stale"].map(|name| told[name].as_i64().unwrap()),
        [60, 0, 0, 10],
        "{told}"
    );
    let consume = topic.on(db.coinetl(&["consume", "--until-end"])).env("KAFKA_GROUP", &topic.name).json(0);
    assert_eq!((&consume["rows_written"], &consume["rows_rejected"]), (&60.into(), &0.into()));

    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let micros = |column: &str| match db.backend() {
        Backend::Sqlite => column.to_owned(),
        Backend::Mysql => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
        Backend::Postgres => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US')"),
    };
    let metrics = db.lines(&format!(
        "SELECT source, pair, sequence, {}, bid, ask, mid_price, spread, highest_bid, lowest_ask, max_spread, session FROM crypto_metrics",
        micros("observed_at")
    ));
    assert_same(&sorted(metrics), &sorted(expected_metrics(&tickers)));
    let windows = db.lines(&format!(
        "SELECT source, pair, timeframe, {}, quotes, open_mid, high_mid, low_mid, close_mid, highest_bid, lowest_ask, max_spread FROM quote_windows",
        micros("window_start")
    ));
    assert_same(&sorted(windows), &sorted(expected_windows(&tickers)));
}

/// Rows of `crypto_metrics`, with the extremes of the UTC day so far.
fn expected_metrics(tickers: &[Ticker]) -> Vec<String> {
    let mut extremes: BTreeMap<(&str, &str), (i64, i64, i64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for ticker in tickers {
        let Ticker { pair, sequence, at, bid, ask } = ticker;
        let (day, spread) = (&at[..10], ask - bid);
        let so_far = extremes.entry((pair, day)).or_insert((*bid, *ask, spread));
        *so_far = (so_far.0.max(*bid), so_far.1.min(*ask), so_far.2.max(spread));
        let [highest, lowest, widest] = [so_far.0, so_far.1, so_far.2].map(double);
        let (bid, ask, spread, mid) = (double(*bid), double(*ask), double(spread), mid(ticker));
        rows.push(format!(
            "coinbase|{pair}|{sequence}|{at}|{bid:?}|{ask:?}|{mid:?}|{spread:?}|{highest:?}|{lowest:?}|{widest:?}|{day}"
        ));
    }
    rows
}

/// Rows of `quote_windows`.
fn expected_windows(tickers: &[Ticker]) -> Vec<String> {
    let mut windows: BTreeMap<(&str, &str, String), Vec<&Ticker>> = BTreeMap::new();
    for ticker in tickers {
        for (name, minutes) in [("1m", 1), ("5m", 5), ("1h", 60)] {
            windows.entry((&ticker.pair, name, ticker.window(minutes))).or_default().push(ticker);
        }
    }
    let row = |((pair, name, start), mut tickers): ((&str, &str, String), Vec<&Ticker>)| {
        tickers.sort_by_key(|ticker| (&ticker.at, ticker.sequence));
        let mids: Vec<f64> = tickers.iter().map(|ticker| mid(ticker)).collect();
        let (open, close) = (mids[0], mids[mids.len() - 1]);
        let (high, low) = (mids.iter().copied().fold(open, f64::max), mids.iter().copied().fold(open, f64::min));
        let bid = double(tickers.iter().map(|ticker| ticker.bid).max().unwrap());
        let ask = double(tickers.iter().map(|ticker| ticker.ask).min().unwrap());
        let spread = double(tickers.iter().map(|ticker| ticker.ask - ticker.bid).max().unwrap());
        let quotes = tickers.len();
        format!(
            "coinbase|{pair}|{name}|{start}|{quotes}|{open:?}|{high:?}|{low:?}|{close:?}|{bid:?}|{ask:?}|{spread:?}"
        )
    };
    windows.into_iter().map(row).collect()
}
