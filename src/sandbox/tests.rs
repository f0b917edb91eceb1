//! The server as clients meet it, over TCP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use flate2::read::GzDecoder;

use super::*;

/// The folder of a vendor's recorded answers, or a loud word that the sandbox is not compared with them.
pub(super) fn recordings_of(vendor: &str) -> Option<PathBuf> {
    let root = std::env::var_os("COINETL_RECORDINGS");
    if root.is_none() {
        eprintln!("SKIPPED: COINETL_RECORDINGS names no folder; the sandbox was NOT compared with {vendor}");
    }
    Some(PathBuf::from(root?).join(vendor))
}

async fn sandbox(options: Options) -> Sandbox {
    let bind = "127.0.0.1:0".parse().unwrap();
    start(Options { bind, ..options }).await.unwrap()
}

fn with_fault(fault: &str) -> Options {
    Options {
        assets: 2_000,
        faults: vec![fault.parse().unwrap()],
        at: DateTime::from_timestamp(1_795_348_837, 0),
        speed: 0.0,
        ..Options::default()
    }
}

struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len() + 1..].trim())
    }

    fn length(&self) -> usize {
        self.header("content-length").unwrap().parse().unwrap()
    }
}

/// Sends one request by hand: HTTP/1.0, so that bodies come without chunks.
fn connect(addr: SocketAddr, target: &str, headers: &str) -> TcpStream {
    let mut connection = TcpStream::connect(addr).unwrap();
    let request = format!("GET {target} HTTP/1.0\r\nHost: sandbox\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    connection
}

async fn request(sandbox: &Sandbox, target: &str, headers: &str) -> Got {
    let (addr, target, headers) = (sandbox.addr(), target.to_owned(), headers.to_owned());
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        // A dropped connection may end in an error after what did arrive.
        let _ = connect(addr, &target, &headers).read_to_end(&mut answer);
        answer
    });
    let mut answer = answer.await.unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = answer.split_off(head + 4);
    let head = String::from_utf8(answer).unwrap();
    Got { head, body }
}

async fn get(sandbox: &Sandbox, target: &str) -> Got {
    let got = request(sandbox, target, "User-Agent: test/1\r\n").await;
    assert_eq!(got.header(HEADER), Some("1"), "{}", got.head);
    got
}

const PAGE: &str = "/api/v3/coins/markets?vs_currency=usd&per_page=250";

#[tokio::test]
async fn answers_are_labelled_also_those_that_refuse() {
    let sandbox = sandbox(Options::default()).await;
    let ping = get(&sandbox, "/api/v3/ping").await;
    assert_eq!(ping.status(), 200);
    assert_eq!(ping.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(get(&sandbox, "/api/v3/nothing").await.status(), 404);
    assert_eq!(get(&sandbox, "/nothing").await.status(), 404);
    assert_eq!(get(&sandbox, "/").await.status(), 404);
    let halfway = request(&sandbox, "/", "Upgrade: websocket\r\n").await;
    assert_eq!((halfway.status(), halfway.header(HEADER)), (400, Some("1")));
    let nobody = request(&sandbox, "/api/v3/ping", "").await;
    assert_eq!((nobody.status(), nobody.header(HEADER)), (403, Some("1")));
    sandbox.stop().await;
}

#[tokio::test]
async fn gzip_holds_the_same_bytes() {
    let options = Options { faults: Vec::new(), ..with_fault("500=0") };
    let sandbox = sandbox(options).await;
    let plain = get(&sandbox, PAGE).await;
    let headers = "User-Agent: test/1\r\nAccept-Encoding: gzip\r\n";
    let packed = request(&sandbox, PAGE, headers).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() * 2 < plain.body.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let ping = request(&sandbox, "/api/v3/ping", headers).await;
    assert_eq!(ping.header("content-encoding"), None);
    sandbox.stop().await;
}

#[tokio::test]
async fn calls_are_limited_by_key() {
    let options = Options { calls_per_minute: 2, assets: 10, ..Options::default() };
    let sandbox = sandbox(options).await;
    for _ in 0..2 {
        assert_eq!(get(&sandbox, "/api/v3/ping").await.status(), 200);
    }
    let limited = get(&sandbox, "/api/v3/ping").await;
    assert_eq!(limited.status(), 429);
    let seconds: u32 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&seconds));
    let key = "User-Agent: test/1\r\nx-cg-demo-api-key: CG-x\r\n";
    assert_eq!(request(&sandbox, "/api/v3/ping", key).await.status(), 200);
    sandbox.stop().await;
}

#[tokio::test]
async fn faults_are_what_they_are_called() {
    for (fault, status, retry_after, start) in [
        ("429=1", 429, Some("1"), "{\"status\":{\"error_code\":429"),
        ("429-bare=1", 429, None, "{\"status\":{\"error_code\":429"),
        ("500=1", 500, None, "{\"status\":500"),
        ("html=1", 200, None, "<!DOCTYPE html>"),
        ("empty=1", 200, None, "[]"),
        ("200-error=1", 200, None, "{\"status\":{\"error_code\":429"),
        ("spent=1", 429, None, "{\"status\":{\"error_code\":429"),
        ("gone=1", 200, None, "[{\"id\":\"bitcoin\""),
    ] {
        let sandbox = sandbox(with_fault(fault)).await;
        let got = get(&sandbox, PAGE).await;
        assert_eq!((got.status(), got.header("retry-after")), (status, retry_after));
        assert!(got.body.starts_with(start.as_bytes()), "{fault}");
        assert_eq!(got.length(), got.body.len());
        sandbox.stop().await;
    }
}

#[tokio::test]
async fn every_vendor_answers_at_one_address_with_the_markets_time() {
    let sandbox = sandbox(with_fault("gone=1")).await;
    let key = "User-Agent: test/1\r\nX-CMC_PRO_API_KEY: cmc-test-key\r\n";
    for (target, headers, status) in [
        (PAGE, "User-Agent: test/1\r\n", 200),
        ("/v1/cryptocurrency/listings/latest", key, 200),
        ("/v3/cryptocurrency/listings/latest", key, 404),
        ("/v1/cryptocurrency/map", "", 401),
        ("/public-api/v1/cryptocurrency/map", "", 200),
        ("/products", "User-Agent: test/1\r\n", 200),
        ("/products/BTC-USD/stats", "User-Agent: test/1\r\n", 200),
        ("/products/stats", "User-Agent: test/1\r\n", 404),
        ("/time", "", 400),
    ] {
        let got = request(&sandbox, target, headers).await;
        assert_eq!((got.status(), got.header(HEADER)), (status, Some("1")), "{target}");
        assert_eq!(got.header("date"), Some("Sun, 22 Nov 2026 12:00:37 GMT"), "{target}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn truncated_is_framed_well_and_dropped_is_not() {
    let whole = {
        let sandbox = sandbox(with_fault("500=0")).await;
        let got = get(&sandbox, PAGE).await;
        sandbox.stop().await;
        got.body
    };
    let truncating = sandbox(with_fault("truncated=1")).await;
    let got = get(&truncating, PAGE).await;
    assert_eq!(got.length(), got.body.len());
    assert_eq!(got.body, whole[..whole.len() / 2]);
    truncating.stop().await;

    let dropping = sandbox(with_fault("drop=1")).await;
    let got = get(&dropping, PAGE).await;
    assert_eq!(got.length(), whole.len());
    assert_eq!(got.body, whole[..whole.len() / 2]);
    dropping.stop().await;
}

#[tokio::test]
async fn long_lists_break_too() {
    for fault in ["truncated=1", "drop=1", "500=0"] {
        let options = Options { assets: 102_000, ..with_fault(fault) };
        let sandbox = sandbox(options).await;
        let got = get(&sandbox, "/api/v3/coins/list").await;
        assert_eq!(got.header("content-length"), None);
        let whole = got.body.ends_with(b"}]");
        assert_eq!(whole, fault == "500=0", "{fault}");
        assert!(got.body.len() > 2_000_000);
        sandbox.stop().await;
    }
}

#[tokio::test]
async fn endless_bodies_end_with_the_client_or_the_server() {
    let sandbox = sandbox(with_fault("endless=1")).await;
    let addr = sandbox.addr();
    let (much, has_much) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut connection = connect(addr, PAGE, "User-Agent: test/1\r\n");
        let mut received = vec![0; 30_000_000];
        connection.read_exact(&mut received).unwrap();
        much.send(()).unwrap();
        let _ = connection.read_to_end(&mut received);
        received
    });
    has_much.await.unwrap();
    let started = Instant::now();
    sandbox.stop().await;
    let received = String::from_utf8(reader.await.unwrap()).unwrap();
    assert!(started.elapsed() < GRACE * 2);
    let (_, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("[{\"id\":\"bitcoin\"") && body.contains("},{\"id\":\"bitcoin\""));
}

#[tokio::test]
async fn stopping_does_not_wait_for_stalled_requests() {
    let sandbox = sandbox(with_fault("slow=1")).await;
    let addr = sandbox.addr();
    let early = tokio::task::spawn_blocking(move || {
        let mut connection = connect(addr, "/api/v3/ping", "User-Agent: test/1\r\n");
        let patience = Some(Duration::from_millis(200));
        connection.set_read_timeout(patience).unwrap();
        (connection.read(&mut [0]).is_ok(), connection)
    });
    let (answered, connection) = early.await.unwrap();
    assert!(!answered, "an answer in spite of the stall");
    let started = Instant::now();
    sandbox.stop().await;
    assert!(started.elapsed() < GRACE);
    assert!(TcpStream::connect(addr).is_err());
    drop(connection);
}

#[tokio::test]
async fn impossible_options_are_refused() {
    let refusal = async |options: Options| {
        let bind = "127.0.0.1:0".parse().unwrap();
        match start(Options { bind, ..options }).await {
            Ok(_) => panic!("started"),
            Err(err) => err.to_string(),
        }
    };
    let assets = |assets| Options { assets, ..Options::default() };
    assert!(refusal(assets(0)).await.contains("1 to 1000000"));
    assert!(refusal(assets(1_000_001)).await.contains("1000001"));
    let speed = |speed| Options { speed, ..Options::default() };
    assert!(refusal(speed(-1.0)).await.contains("-1"));
    assert!(refusal(speed(f64::NAN)).await.contains("NaN"));
    let quotes = |quotes_per_second| Options { quotes_per_second, ..Options::default() };
    assert!(refusal(quotes(0.0)).await.contains("0.0001 to 100000"));
    assert!(refusal(quotes(1e6)).await.contains("1000000"));
    let running = sandbox(assets(10)).await;
    let taken = Options { bind: running.addr(), ..Options::default() };
    assert!(matches!(start(taken).await, Err(SandboxError::Bind { .. })));
    running.stop().await;
}
