//! Load over HTTP for `scripts/bench`, the same for every server: `load` asks for paths in turn over some
//! connections, as fast as answers come or at a steady rate; `constant` is the least that an axum server can do.
//!
//! At a rate the time of an answer counts from when its request was due, not from when it was sent: a server
//! that stalls pays for those who had to wait.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["constant", bytes] => constant(bytes.parse()?).await,
        ["load", address, connections, seconds, rate, paths] => {
            let paths = std::fs::read_to_string(paths)?;
            let paths: Vec<String> = paths.lines().map(str::to_owned).collect();
            load(address, connections.parse()?, Duration::from_secs_f64(seconds.parse()?), rate.parse()?, paths).await
        }
        // `cargo test` and `cargo bench` call every bench without arguments.
        [] => Ok(()),
        _ => Err("usage: http_load constant BYTES | load ADDRESS CONNECTIONS SECONDS RATE FILE-OF-PATHS".into()),
    }
}

/// Serves the same bytes for every request until its stdin ends.
async fn constant(bytes: usize) -> Result<(), Failure> {
    let body = axum::body::Bytes::from("x".repeat(bytes));
    let headers = [("content-type", "application/json"), ("cache-control", "no-cache"), ("etag", "W/\"0\"")];
    let answer = move || std::future::ready((headers, body.clone()));
    let router = axum::Router::new().route("/", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

struct Tally {
    took: Vec<Duration>,
    bytes: u64,
    failed: u64,
}

async fn load(
    address: &str,
    connections: usize,
    lasting: Duration,
    rate: f64,
    paths: Vec<String>,
) -> Result<(), Failure> {
    let requests: std::sync::Arc<Vec<Vec<u8>>> = std::sync::Arc::new(
        paths
            .iter()
            .map(|path| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\r\n").into_bytes())
            .collect(),
    );
    let began = Instant::now();
    let every = (rate > 0.0).then(|| Duration::from_secs_f64(connections as f64 / rate));
    let mut tasks = Vec::new();
    for number in 0..connections {
        let (requests, address) = (requests.clone(), address.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let mut tally = Tally { took: Vec::new(), bytes: 0, failed: 0 };
            let mut buffer = Vec::with_capacity(1 << 16);
            let mut turn = number;
            // Not all connections at the same moment.
            let mut due =
                began + every.map_or(Duration::ZERO, |every| every.mul_f64(number as f64 / connections as f64));
            while began.elapsed() < lasting {
                match every {
                    Some(every) => {
                        tokio::time::sleep_until(due.into()).await;
                        ask(&mut stream, &requests[turn % requests.len()], &mut buffer, &mut tally).await?;
                        tally.took.push(due.elapsed());
                        due += every;
                    }
                    None => {
                        let sent = Instant::now();
                        ask(&mut stream, &requests[turn % requests.len()], &mut buffer, &mut tally).await?;
                        tally.took.push(sent.elapsed());
                    }
                }
                turn += connections;
            }
            Ok::<_, Failure>(tally)
        }));
    }
    let (mut took, mut bytes, mut failed) = (Vec::new(), 0, 0);
    for task in tasks {
        let tally = task.await??;
        took.extend(tally.took);
        bytes += tally.bytes;
        failed += tally.failed;
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1)));
    let ms = |share: f64| at(share).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    println!(
        "{}",
        serde_json::json!({
            "requests": took.len(), "failed": failed, "bytes": bytes, "seconds": seconds,
            "per_second": took.len() as f64 / seconds,
            "p50_ms": ms(0.50), "p99_ms": ms(0.99), "max_ms": ms(1.0),
        })
    );
    Ok(())
}

/// One request and the whole of its answer. Every server here sends lengths or chunks, and keeps the connection.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>, tally: &mut Tally) -> Result<(), Failure> {
    stream.write_all(request).await?;
    buffer.clear();
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer).await?;
    };
    let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        tally.failed += 1;
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    // 204 has neither.
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
    if buffer.capacity() < head + length {
        buffer.reserve(head + length - buffer.len());
    }
    while buffer.len() < head + length {
        more(stream, buffer).await?;
    }
    tally.bytes += length as u64;
    Ok(())
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    match stream.read_buf(buffer).await? {
        0 => Err("the server closed the connection".into()),
        _ => Ok(()),
    }
}
