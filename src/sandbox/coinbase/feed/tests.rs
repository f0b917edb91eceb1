//! The feed as a client meets it, over TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as Sent};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::super::super::{HEADER, Options, Sandbox, start};
use super::super::catalogue::{Product, Standing};
use super::super::figures::Figures;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn sandbox(quotes_per_second: f64, faults: &[&str]) -> Sandbox {
    sandbox_at(Options { quotes_per_second, ..options(faults) }).await
}

fn options(faults: &[&str]) -> Options {
    Options {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        assets: 300,
        faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        ..Options::default()
    }
}

async fn sandbox_at(options: Options) -> Sandbox {
    start(options).await.unwrap()
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Closed(u16),
    Broken,
}

async fn connect(sandbox: &Sandbox) -> Client {
    let (socket, answer) = connect_async(format!("ws://{}/", sandbox.addr())).await.unwrap();
    assert_eq!(answer.headers().get(HEADER).unwrap(), "1");
    Client { socket }
}

impl Client {
    async fn say(&mut self, text: impl Into<String>) {
        self.socket.send(Sent::text(text.into())).await.unwrap();
    }

    async fn subscribe(&mut self, products: &[&str], channels: &[&str]) {
        self.say(json!({"type": "subscribe", "product_ids": products, "channels": channels}).to_string()).await;
    }

    /// The next message, or how the connection ended.
    async fn text(&mut self) -> Result<String, Ended> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("silence") {
                Some(Ok(Sent::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Sent::Close(frame))) => return Err(Ended::Closed(frame.map_or(0, |frame| frame.code.into()))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Ended::Broken),
            }
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.text().await.unwrap()).unwrap()
    }

    async fn tickers(&mut self, count: usize) -> Vec<Value> {
        let mut tickers = Vec::new();
        while tickers.len() < count {
            let message = self.next().await;
            if message["type"] == "ticker" {
                tickers.push(message);
            }
        }
        tickers
    }

    /// Reads to the end.
    async fn end(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.text().await {
                return ended;
            }
        }
    }
}

fn decimal(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).parse().unwrap()
}

fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap();
    assert_eq!(text.len(), "2026-11-25T16:43:30.244075Z".len(), "{text}");
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
}

/// Names and products of a `subscriptions` answer.
fn channels(answer: &Value) -> Vec<(String, Vec<String>)> {
    assert_eq!((&answer["type"], &answer["sandbox"]), (&json!("subscriptions"), &json!(true)), "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let products = |channel: &Value| channel["product_ids"].as_array().unwrap().iter().map(text).collect();
    answer["channels"].as_array().unwrap().iter().map(|channel| (text(&channel["name"]), products(channel))).collect()
}

fn owned(channels: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    channels.iter().map(|(name, products)| ((*name).to_owned(), ids(products))).collect()
}

#[tokio::test]
async fn every_form_of_subscription_is_answered_with_all_there_is() {
    let sandbox = sandbox_at(Options { speed: 0.0, ..options(&[]) }).await;
    let mut client = connect(&sandbox).await;
    let ask = async |client: &mut Client, message: Value| {
        client.say(message.to_string()).await;
        loop {
            let answer = client.next().await;
            if answer["type"] == "subscriptions" {
                return channels(&answer);
            }
        }
    };
    let message = json!({"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["ticker"]});
    assert_eq!(ask(&mut client, message).await, owned(&[("ticker", &["BTC-USD", "ETH-USD"])]));
    let message = json!({"type": "subscribe", "channels": [
        {"name": "heartbeat", "product_ids": ["SOL-USD"]}, {"name": "ticker", "product_ids": ["SOL-USD", "BTC-USD"]}]});
    let both: [(&str, &[&str]); 2] = [("ticker", &["BTC-USD", "ETH-USD", "SOL-USD"]), ("heartbeat", &["SOL-USD"])];
    assert_eq!(ask(&mut client, message).await, owned(&both));
    let message = json!({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": [
        "heartbeat", {"name": "ticker_batch", "product_ids": ["XRP-USD"]}]});
    let all: [(&str, &[&str]); 3] = [
        ("ticker", &["BTC-USD", "ETH-USD", "SOL-USD"]),
        ("ticker_1000", &["BTC-USD", "XRP-USD"]),
        ("heartbeat", &["SOL-USD", "BTC-USD"]),
    ];
    assert_eq!(ask(&mut client, message).await, owned(&all));

    let message = json!({"type": "unsubscribe", "product_ids": ["BTC-USD"], "channels": ["ticker", "ticker_batch"]});
    let some: [(&str, &[&str]); 3] =
        [("ticker", &["ETH-USD", "SOL-USD"]), ("ticker_1000", &["XRP-USD"]), ("heartbeat", &["SOL-USD", "BTC-USD"])];
    assert_eq!(ask(&mut client, message).await, owned(&some));
    let message =
        json!({"type": "unsubscribe", "channels": ["heartbeat", {"name": "ticker", "product_ids": ["SOL-USD"]}]});
    let few: [(&str, &[&str]); 2] = [("ticker", &["ETH-USD"]), ("ticker_1000", &["XRP-USD"])];
    assert_eq!(ask(&mut client, message).await, owned(&few));
    let message = json!({"type": "unsubscribe", "product_ids": ["ETH-USD", "XRP-USD"]});
    assert_eq!(ask(&mut client, message).await, []);
    sandbox.stop().await;
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_as_a_whole() {
    let sandbox = sandbox(5.0, &[]).await;
    let mut client = connect(&sandbox).await;
    for (message, reason) in [
        (
            r#"{"type":"subscribe","product_ids":["BTC-USD","NO-USD"],"channels":["ticker"]}"#,
            "NO-USD is not a valid product",
        ),
        (r#"{"type":"subscribe","product_ids":["BTC-USDC"],"channels":["ticker"]}"#, "BTC-USDC is delisted"),
        (
            r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker","tickers"]}"#,
            "tickers is not a valid channel",
        ),
        (r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["level2"]}"#, "now require authentication"),
        (r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["matches"]}"#, "does not serve matches"),
        (r#"{"type":"subscribe","product_ids":["BTC-USD"]}"#, "have to be given"),
        (r#"{"type":"subscribe","channels":["ticker"]}"#, "have to be given"),
        (r#"{"type":"subscribe","product_ids":"BTC-USD","channels":["ticker"]}"#, "malformed message"),
        (r#"{"type":"hello"}"#, "either subscribe or unsubscribe"),
        (r#"{"type":"unsubscribe","channels":["nothing"]}"#, "nothing is not a valid channel"),
        (r#"{"type":"subscribe","#, "Malformed JSON"),
        ("7", "malformed message"),
    ] {
        client.say(message).await;
        let answer = client.next().await;
        assert_eq!((&answer["type"], &answer["message"]), (&json!("error"), &json!("Failed to subscribe")), "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{message}: {answer}");
    }
    client.subscribe(&["ETH-USD"], &["heartbeat"]).await;
    assert_eq!(channels(&client.next().await), owned(&[("heartbeat", &["ETH-USD"])]));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_turned_away() {
    let sandbox = sandbox(5.0, &[]).await;
    let began = Instant::now();
    let mut mute = connect(&sandbox).await;
    assert_eq!(mute.end().await, Ended::Closed(1008));
    let waited = began.elapsed();
    assert!(waited >= SUBSCRIBE_WITHIN && waited < SUBSCRIBE_WITHIN * 4, "{waited:?}");

    // Talking is not enough, and having been subscribed is.
    let mut wrong = connect(&sandbox).await;
    wrong.say("{}").await;
    assert_eq!(wrong.end().await, Ended::Closed(1008));
    let mut left = connect(&sandbox).await;
    left.subscribe(&["BTC-USD"], &["ticker"]).await;
    left.say(r#"{"type":"unsubscribe","channels":["ticker"]}"#).await;
    tokio::time::sleep(SUBSCRIBE_WITHIN * 3 / 2).await;
    left.subscribe(&["ETH-USD"], &["ticker"]).await;
    while left.next().await["product_id"] != "ETH-USD" {}
    sandbox.stop().await;
}

#[tokio::test]
async fn the_first_ticker_is_old_and_the_next_ones_are_new() {
    let sandbox = sandbox(4.0, &[]).await;
    let mut client = connect(&sandbox).await;
    let before = chrono::Utc::now().timestamp_micros();
    client.subscribe(&["BTC-USD", "ETH-USD"], &["ticker"]).await;
    channels(&client.next().await);
    let tickers = client.tickers(8).await;
    let after = chrono::Utc::now().timestamp_micros();
    for id in ["BTC-USD", "ETH-USD"] {
        let times: Vec<i64> =
            tickers.iter().filter(|ticker| ticker["product_id"] == id).map(|ticker| time(&ticker["time"])).collect();
        assert!(times[0] < before + 300_000 && times[0] > before - 108_000_000, "{times:?}");
        assert!(times[1] > before && times.is_sorted() && times.iter().all(|at| *at <= after), "{times:?}");
    }
    sandbox.stop().await;

    // An hour may pass between two ticks, and nothing at all while the clock stands still.
    let at = chrono::DateTime::from_timestamp(1_795_348_837, 0);
    for quotes_per_second in [0.01, 5.0] {
        let sandbox = sandbox_at(Options { at, speed: 0.0, quotes_per_second, ..options(&[]) }).await;
        let mut client = connect(&sandbox).await;
        client.subscribe(&["BTC-USD"], &["ticker", "ticker_batch", "heartbeat"]).await;
        channels(&client.next().await);
        let (first, batch) = (client.next().await, client.next().await);
        assert_eq!(first, batch);
        assert!(time(&first["time"]) > 1_795_348_437_000_000 && time(&first["time"]) < 1_795_348_837_000_000);
        let beats = [client.next().await, client.next().await];
        assert!(beats.iter().all(|beat| beat["last_trade_id"] == first["trade_id"]), "{beats:?}");
        sandbox.stop().await;
    }
}

#[tokio::test]
async fn tickers_are_whole_and_agree_with_rest() {
    let sandbox = sandbox(200.0, &[]).await;
    let catalogue = Catalogue::new(&Market::new(1, 300));
    let online = |product: &&Product| product.standing(chrono::Utc::now().timestamp_millis()) == Standing::Online;
    let products: BTreeMap<&str, _> =
        catalogue.products.iter().filter(online).map(|product| (product.id.as_str(), product)).collect();
    let ids: Vec<&str> = products.keys().copied().collect();
    let mut client = connect(&sandbox).await;
    client.subscribe(&ids, &["ticker"]).await;
    channels(&client.next().await);
    let market = Market::new(1, 300);
    let mut seen = BTreeSet::new();
    let mut same_time = 0;
    let mut before: BTreeMap<String, Value> = BTreeMap::new();
    for ticker in client.tickers(20_000).await {
        let fields: Vec<&str> = ticker.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "best_ask",
            "best_ask_size",
            "best_bid",
            "best_bid_size",
            "high_24h",
            "last_size",
            "low_24h",
            "open_24h",
            "price",
            "product_id",
            "sequence",
            "side",
            "time",
            "trade_id",
            "type",
            "volume_24h",
            "volume_30d",
        ];
        assert_eq!(fields.into_iter().collect::<BTreeSet<_>>(), expected.into());
        let id = ticker["product_id"].as_str().unwrap();
        let product = products[id];
        seen.insert(id.to_owned());
        let figure = |field: &str| decimal(&ticker[field]);
        let (bid, ask, price) = (figure("best_bid"), figure("best_ask"), figure("price"));
        assert!(0.0 < bid && bid < ask && bid <= price && price <= ask, "{ticker}");
        let rest = Figures::new(&market, product, time(&ticker["time"]).div_euclid(1_000)).unwrap();
        let increment = 10f64.powi(-(product.price_places as i32));
        let tolerance = rest.last * 0.002_5 + 2.0 * increment;
        assert!((bid - rest.last).abs() < tolerance && (ask - rest.last).abs() < tolerance, "{ticker} {rest:?}");
        assert!(figure("low_24h") <= price && price <= figure("high_24h"), "{ticker}");
        assert!((figure("volume_24h") - rest.volume).abs() < 1e-7 * (1.0 + rest.volume));
        assert!(figure("open_24h") > 0.0 && figure("volume_30d") > figure("volume_24h"));
        if matches!(id, "BTC-USD" | "ETH-USD") {
            assert!((ask - bid - 0.01).abs() < 1e-6, "{ticker}");
        }
        for field in ["price", "best_bid", "best_ask", "open_24h", "low_24h", "high_24h"] {
            let text = ticker[field].as_str().unwrap();
            let places = text.split_once('.').map_or(0, |(_, places)| places.len());
            assert!(places <= product.price_places, "{field} {ticker}");
            assert!(!field.starts_with("best") || places == product.price_places, "{field} {ticker}");
        }
        for field in ["last_size", "best_bid_size", "best_ask_size"] {
            let units = figure(field) * 10f64.powi(product.size_places as i32);
            assert!(units >= 0.99 && (units - units.round()).abs() < 1e-3, "{field} {ticker}");
        }
        assert!(matches!(ticker["side"].as_str(), Some("buy" | "sell")));
        if let Some(old) = before.insert(id.to_owned(), ticker.clone()) {
            assert!(ticker["sequence"].as_u64() > old["sequence"].as_u64());
            let step = ticker["trade_id"].as_u64().unwrap() - old["trade_id"].as_u64().unwrap();
            assert!(matches!(step, 1 | 4), "{old} {ticker}");
            same_time += usize::from(ticker["time"] == old["time"]);
        }
    }
    assert!(same_time > 500, "{same_time}");
    assert!(seen.len() > ids.len() / 2, "{} of {}", seen.len(), ids.len());
    sandbox.stop().await;
}

#[tokio::test]
async fn heartbeats_come_every_second_and_know_the_last_trade() {
    let sandbox = sandbox(20.0, &[]).await;
    let mut client = connect(&sandbox).await;
    let began = Instant::now();
    client.subscribe(&["BTC-USD", "ETH-USD"], &["ticker", "heartbeat"]).await;
    channels(&client.next().await);
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    let mut beats = 0;
    while beats < 6 {
        let message = client.next().await;
        let id = message["product_id"].as_str().unwrap().to_owned();
        if message["type"] == "ticker" {
            last.insert(id, message);
            continue;
        }
        beats += 1;
        assert_eq!(message["type"], "heartbeat");
        assert_eq!(message.as_object().unwrap().len(), 5);
        assert_eq!(message["last_trade_id"], last[&id]["trade_id"]);
        assert_eq!(message["sequence"], last[&id]["sequence"]);
        assert!(time(&message["time"]) >= time(&last[&id]["time"]));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2_900) && took < Duration::from_secs(6), "{took:?}");
    sandbox.stop().await;
}

#[tokio::test]
async fn batches_come_every_five_seconds_with_the_last_tick() {
    let sandbox = sandbox_at(Options { speed: 20.0, ..options(&[]) }).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD"], &["ticker_batch"]).await;
    assert_eq!(channels(&client.next().await), owned(&[("ticker_1000", &["BTC-USD"])]));
    let tickers = client.tickers(5).await;
    for pair in tickers.windows(2).skip(1) {
        let step = time(&pair[1]["time"]) - time(&pair[0]["time"]);
        assert!((3_000_000..60_000_000).contains(&step), "{step}");
        assert!(pair[0]["sequence"].as_u64() < pair[1]["sequence"].as_u64());
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn two_connections_and_two_servers_see_the_same_ticks() {
    let at = chrono::DateTime::from_timestamp(1_795_348_837, 0);
    let options = || Options { at, speed: 1.0, quotes_per_second: 300.0, ..options(&[]) };
    let follow = async |sandbox: &Sandbox| -> BTreeMap<u64, Value> {
        let mut client = connect(sandbox).await;
        client.subscribe(&["BTC-USD", "ETH-USD"], &["ticker"]).await;
        let tickers = client.tickers(1_200).await.into_iter().filter(|ticker| ticker["product_id"] == "BTC-USD");
        tickers.map(|ticker| (ticker["sequence"].as_u64().unwrap(), ticker)).collect()
    };
    let one = sandbox_at(options()).await;
    let (first, second) = tokio::join!(follow(&one), follow(&one));
    one.stop().await;
    let other = sandbox_at(options()).await;
    let third = follow(&other).await;
    other.stop().await;
    for same in [&second, &third] {
        let shared: Vec<&u64> = first.keys().filter(|sequence| same.contains_key(sequence)).collect();
        assert!(shared.len() > 100, "{}", shared.len());
        assert!(shared.iter().all(|sequence| first[sequence] == same[sequence]));
        // No tick that only one of them saw, as long as both looked.
        let (from, to) = (first.keys().min().max(same.keys().min()), first.keys().max().min(same.keys().max()));
        let within = |ticks: &BTreeMap<u64, Value>| ticks.range(from.unwrap()..=to.unwrap()).count();
        assert_eq!(within(&first), within(same));
    }
    let another = sandbox_at(Options { seed: 2, ..options() }).await;
    let fourth = follow(&another).await;
    another.stop().await;
    assert!(first.keys().all(|sequence| !fourth.contains_key(sequence)));
}

#[tokio::test]
async fn numbers_go_on_growing_over_a_restart() {
    let mut last: Option<Value> = None;
    for _ in 0..3 {
        let sandbox = sandbox(50.0, &[]).await;
        let mut client = connect(&sandbox).await;
        client.subscribe(&["SOL-USD"], &["ticker"]).await;
        for ticker in client.tickers(20).await {
            if let Some(last) = &last {
                for number in ["sequence", "trade_id"] {
                    assert!(ticker[number].as_u64() > last[number].as_u64(), "{last} {ticker}");
                }
            }
            last = Some(ticker);
        }
        sandbox.stop().await;
        // Long enough that the first, old one is new to us too.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn what_was_left_is_silent() {
    let sandbox = sandbox(100.0, &[]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD", "ETH-USD"], &["ticker"]).await;
    client.tickers(20).await;
    client.say(r#"{"type":"unsubscribe","product_ids":["BTC-USD"],"channels":["ticker"]}"#).await;
    while client.next().await["type"] != "subscriptions" {}
    assert!(client.tickers(50).await.iter().all(|ticker| ticker["product_id"] == "ETH-USD"));
    sandbox.stop().await;
}

#[tokio::test]
async fn stopping_closes_feeds_at_once() {
    let sandbox = sandbox(50_000.0, &[]).await;
    let mut clients = Vec::new();
    for channels in [["ticker"], ["heartbeat"], ["ticker"]] {
        let mut client = connect(&sandbox).await;
        client.subscribe(&["BTC-USD"], &channels).await;
        clients.push(client);
    }
    // The last one does not read: its feed is stuck.
    let _stuck = clients.pop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let (_, ends) =
        tokio::join!(sandbox.stop(), async { futures::future::join_all(clients.iter_mut().map(Client::end)).await });
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(ends[1], Ended::Closed(1001));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_turned_away() {
    let sandbox = sandbox(100_000.0, &[]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD", "ETH-USD", "SOL-USD"], &["ticker"]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (mut messages, began) = (0, Instant::now());
    let ended = loop {
        match client.text().await {
            Ok(_) => messages += 1,
            Err(ended) => break ended,
        }
        assert!(began.elapsed() < PATIENCE);
    };
    assert_eq!(ended, Ended::Broken);
    assert!(messages > 100, "{messages}");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_turned_away_too() {
    let sandbox = sandbox(100_000.0, &[]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD", "ETH-USD", "SOL-USD"], &["ticker"]).await;
    let began = Instant::now();
    for messages in 0u64.. {
        if messages.is_multiple_of(500) {
            sleep(Duration::from_millis(50)).await;
        }
        if let Err(ended) = client.text().await {
            assert_eq!(ended, Ended::Broken);
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    sandbox.stop().await;
}

#[tokio::test]
async fn dropped_connections_end_without_a_word() {
    let sandbox = sandbox(20.0, &["drop=1"]).await;
    for _ in 0..2 {
        let mut client = connect(&sandbox).await;
        client.subscribe(&["BTC-USD"], &["ticker"]).await;
        client.tickers(2).await;
        assert_eq!(client.end().await, Ended::Broken);
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn slow_feeds_fall_silent_and_stay_open() {
    let sandbox = sandbox(20.0, &["slow=1"]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD"], &["ticker", "heartbeat"]).await;
    let mut messages = 0;
    while let Ok(text) = timeout(Duration::from_secs(2), client.text()).await {
        text.unwrap();
        messages += 1;
    }
    assert!(messages > 3, "{messages}");
    client.socket.send(Sent::Ping("alive".into())).await.unwrap();
    let pong = timeout(PATIENCE, client.socket.next()).await.unwrap();
    assert!(matches!(pong, Some(Ok(Sent::Pong(_)))), "{pong:?}");
    sandbox.stop().await;
}

#[tokio::test]
async fn garbage_is_of_every_kind_and_the_rest_is_whole() {
    let sandbox = sandbox(2_000.0, &["garbage=0.2"]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["SOL-USD"], &["ticker"]).await;
    channels(&client.next().await);
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..2_000 {
        let text = client.text().await.unwrap();
        let kind = match serde_json::from_str::<Value>(&text) {
            Err(_) => "not JSON",
            Ok(message) if message["type"] != "ticker" => "type",
            Ok(message) if message.get("best_bid").is_none() => "no bid",
            Ok(message) if message.get("sequence").is_none() => "no sequence",
            Ok(message) if message.get("product_id").is_none() => "no product",
            Ok(message) if message["price"].as_str().unwrap().parse::<f64>().is_err() => "price",
            Ok(message) if decimal(&message["best_bid"]) < 0.0 => "negative bid",
            Ok(message) if decimal(&message["best_ask"]) == 0.0 => "ask 0",
            Ok(message) if decimal(&message["best_bid"]) > decimal(&message["best_ask"]) => "crossed",
            Ok(_) => "whole",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    assert!((1_500..1_700).contains(&kinds["whole"]), "{kinds:?}");
    sandbox.stop().await;
}

#[tokio::test]
async fn gaps_are_known_to_the_heartbeats_alone() {
    let sandbox = sandbox(10.0, &["gap=0.2"]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD"], &["ticker", "heartbeat"]).await;
    channels(&client.next().await);
    let (mut last, mut behind) = (0, 0);
    while behind < 3 {
        let message = client.next().await;
        match message["type"].as_str() {
            Some("ticker") => (last, behind) = (message["trade_id"].as_u64().unwrap(), 0),
            _ => behind += u32::from(message["last_trade_id"].as_u64().unwrap() > last),
        }
    }
    // And afterwards it goes on.
    assert!(client.tickers(1).await[0]["trade_id"].as_u64().unwrap() > last + 20);
    sandbox.stop().await;
}

#[tokio::test]
async fn stale_messages_come_again_as_they_were() {
    let sandbox = sandbox(1_000.0, &["stale=0.1"]).await;
    let mut client = connect(&sandbox).await;
    client.subscribe(&["BTC-USD"], &["ticker"]).await;
    let mut seen: BTreeMap<u64, Value> = BTreeMap::new();
    let (mut highest, mut stale, mut known) = (0, 0, 0);
    for ticker in client.tickers(2_000).await {
        let sequence = ticker["sequence"].as_u64().unwrap();
        if sequence < highest {
            stale += 1;
            known += u32::from(seen.get(&sequence) == Some(&ticker));
        }
        highest = highest.max(sequence);
        seen.insert(sequence, ticker);
    }
    // Some are older than the subscription.
    assert!((120..250).contains(&stale) && known > stale - 20, "{known} of {stale}");
    sandbox.stop().await;
}

#[tokio::test]
async fn the_feed_is_at_two_paths_and_is_nobodys_answer() {
    let sandbox = sandbox(5.0, &["500=1"]).await;
    for path in ["", "/", "/ws"] {
        assert!(connect_async(format!("ws://{}{path}", sandbox.addr())).await.is_ok(), "{path}");
    }
    for path in ["/feed", "/products"] {
        let refused = connect_async(format!("ws://{}{path}", sandbox.addr())).await;
        assert!(matches!(refused, Err(tungstenite::Error::Http(_))), "{path}");
    }
    sandbox.stop().await;
}

/// `cargo test --release -- --ignored --nocapture tickers_a_second`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture sandbox"]
async fn tickers_a_second() {
    for rate in [40_000.0, 100_000.0] {
        let sandbox = sandbox(rate, &[]).await;
        let mut client = connect(&sandbox).await;
        client.subscribe(&["BTC-USD", "ETH-USD", "SOL-USD"], &["ticker", "heartbeat"]).await;
        let (mut messages, mut bytes) = (0u64, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            for _ in 0..1_000 {
                bytes += client.text().await.unwrap().len();
                messages += 1;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "asked {:.0}/s: {:.0} messages/s, {:.0} MB/s",
            3.0 * rate,
            messages as f64 / seconds,
            bytes as f64 / seconds / 1e6
        );
        sandbox.stop().await;
    }
}
