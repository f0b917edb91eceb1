//! A tiny HTTP/1.1 server that answers by a closure and remembers what it was asked: for exact
//! vendor shapes, recordings, and faults that a well-behaved server cannot produce.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct StubRequest {
    pub method: String,
    /// Path and query, still encoded.
    pub target: String,
    /// Without the query.
    pub path: String,
    /// Decoded, in their order.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub at: Instant,
}

impl StubRequest {
    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.param(name).and_then(|text| text.parse().ok())
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What to answer.
#[derive(Debug, Clone)]
pub struct StubResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Time before the first byte.
    pub delay: Duration,
    /// Closes the connection after so many bytes of the body, whose full length was announced.
    pub cut_after: Option<usize>,
}

impl StubResponse {
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        StubResponse::new(200, "application/json; charset=utf-8", body)
    }

    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        StubResponse {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
            delay: Duration::ZERO,
            cut_after: None,
        }
    }

    /// The vendor's internal error, in its shape.
    pub fn error(status: u16) -> Self {
        let body = format!(r#"{{"status":{status},"error":"Internal Server Error"}}"#);
        StubResponse::new(status, "application/json; charset=utf-8", body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }
}

type Answering = dyn Fn(&StubRequest) -> StubResponse + Send + Sync;

/// The server; it stops listening when dropped.
pub struct Stub {
    address: String,
    requests: Arc<Mutex<Vec<StubRequest>>>,
    stopped: Arc<AtomicBool>,
}

impl Stub {
    pub fn start(answer: impl Fn(&StubRequest) -> StubResponse + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("the port").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let answer: Arc<Answering> = Arc::new(answer);
        std::thread::spawn({
            let (requests, stopped) = (requests.clone(), stopped.clone());
            move || {
                for connection in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(connection) = connection else { continue };
                    let (requests, answer) = (requests.clone(), answer.clone());
                    // A client that goes away in the middle is its own business.
                    std::thread::spawn(move || drop(serve(connection, &requests, &*answer)));
                }
            }
        });
        Stub { address, requests, stopped }
    }

    /// What `COINGECKO_API_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v3", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<StubRequest> {
        self.requests.lock().expect("the requests").clone()
    }

    /// Forgets what was asked so far and returns it.
    pub fn take(&self) -> Vec<StubRequest> {
        std::mem::take(&mut *self.requests.lock().expect("the requests"))
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(connection: TcpStream, requests: &Mutex<Vec<StubRequest>>, answer: &Answering) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    while let Some(request) = read(&mut reader)? {
        requests.lock().expect("the requests").push(request.clone());
        let response = answer(&request);
        std::thread::sleep(response.delay);
        let mut head = format!("HTTP/1.1 {} Stub\r\ncontent-length: {}\r\n", response.status, response.body.len());
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        writer.write_all(head.as_bytes())?;
        if let Some(bytes) = response.cut_after {
            writer.write_all(&response.body[..bytes.min(response.body.len())])?;
            return Ok(());
        }
        writer.write_all(&response.body)?;
    }
    Ok(())
}

/// The next request of a connection; `None` at its end.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<StubRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let (method, path, target) = (method.to_owned(), path.to_owned(), target.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    Ok(Some(StubRequest { method, target, path, query, headers, at: Instant::now() }))
}
