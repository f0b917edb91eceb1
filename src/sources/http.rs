//! The one HTTP client: polite (paced, counted, retried with full jitter), bounded (time, size) and
//! distrustful (nothing of an answer is believed before all of it arrived whole).

use std::error::Error as _;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use log::warn;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use retry_policies::policies::ExponentialBackoff;
use retry_policies::{Jitter, RetryDecision, RetryPolicy};
use secrecy::ExposeSecret;
use tempfile::SpooledTempFile;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::SourceError;
use super::records::{ArrayError, Records};
use super::{Access, Request, Shape, Source, Told};
use crate::domain::Stamp;

/// `name/version (+url)`: the vendors refuse clients that do not say who they are.
pub const USER_AGENT: &str = concat!("coinetl/", env!("CARGO_PKG_VERSION"), " (+", env!("CARGO_PKG_REPOSITORY"), ")");
/// Largest answer taken, after decompression: a list of a million coins is about 80 MB.
const MAX_BODY_BYTES: usize = 96 << 20;
/// Answers beyond this go to an unnamed temporary file, so that memory stays flat.
const IN_MEMORY_BYTES: usize = 4 << 20;
const BUFFER: usize = 64 << 10;
const MAX_ERROR_BYTES: usize = 64 << 10;
/// What is polite towards a vendor.
pub const MAX_RETRIES: u32 = 4;
/// A vendor that asks for more is asked again by the next run.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Backoff doubles from the base up to this many times it.
const BACKOFF_CAP: u32 = 30;
/// A limited call without a usable `Retry-After` waits a minute's window (at the default base).
const LIMITED_PAUSE: u32 = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sandboxes label every answer with it.
const SANDBOX_HEADER: &str = "x-coinetl-sandbox";

/// Lets a call pass when it is its turn, after having counted it.
pub trait Gate: Send + Sync {
    /// Counts a call, and the credits that it may cost.
    fn admit(&self, credits: i64) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>>;

    /// The call that was let pass is not made: a later one of the same price takes its place.
    fn give_back(&self, credits: i64);

    /// What a call cost, where that is not what was counted.
    fn settle(&self, counted: i64, charged: i64)
    -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>>;
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One call, from the connection to the last byte.
    pub timeout: Duration,
    /// Upper end of the first backoff.
    pub backoff: Duration,
    /// After so many failed tries more, a call is given up.
    pub retries: u32,
}

/// The bytes of an answer: in memory, or in a file when there are many.
#[derive(Debug)]
pub struct Body {
    file: SpooledTempFile,
    shape: Shape,
}

impl Body {
    /// The records from the first one on.
    pub fn records(&mut self) -> Result<Records<impl BufRead + '_>, ArrayError> {
        self.file.rewind()?;
        Ok(Records::new(BufReader::with_capacity(BUFFER, &mut self.file), self.shape.clone()))
    }
}

/// What was read from an answer.
#[derive(Debug)]
pub struct Answer<T> {
    pub content: T,
    /// The server says that the data is generated.
    pub sandbox: bool,
    /// From the request to the last byte.
    pub took: Duration,
}

pub struct Client {
    http: reqwest::Client,
    source: &'static dyn Source,
    access: Access,
    gate: Arc<dyn Gate>,
    patience: Patience,
    /// Set by a limited call: nobody calls before.
    hold: Mutex<Instant>,
    /// The server knows the older paths only.
    takes_older: AtomicBool,
    retries: AtomicI64,
    /// By how many milliseconds the server's clock is ahead of ours.
    ahead: AtomicI64,
    /// What time the server had at its last answer, in milliseconds since 1970; 0 = none yet.
    answered: AtomicI64,
}

impl Client {
    pub fn new(
        source: &'static dyn Source,
        access: Access,
        gate: Arc<dyn Gate>,
        patience: Patience,
    ) -> Result<Self, SourceError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some((name, key)) = &access.key {
            let mut value = HeaderValue::from_str(key.expose_secret())
                .map_err(|_| SourceError::Client("the API key holds a character that no header can".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let http = builder(&access.base_url, patience.timeout)
            .default_headers(headers)
            .build()
            .map_err(|err| SourceError::Client(chain(&err)))?;
        Ok(Client {
            http,
            source,
            access,
            gate,
            patience,
            hold: Mutex::new(Instant::now()),
            takes_older: AtomicBool::new(false),
            retries: AtomicI64::new(0),
            ahead: AtomicI64::new(0),
            answered: AtomicI64::new(0),
        })
    }

    pub fn source(&self) -> &'static dyn Source {
        self.source
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Calls that were made again because an earlier one failed.
    pub fn retries(&self) -> i64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// What time it is at the server, as far as its answers told; ours until then.
    pub fn server_now(&self) -> Stamp {
        let ours = Stamp::from_datetime(chrono::Utc::now()).unwrap_or(Stamp::FIRST);
        ours.plus(self.ahead.load(Ordering::Relaxed))
    }

    /// What time it was at the server when it gave its last answer.
    pub fn answered_at(&self) -> Stamp {
        match self.answered.load(Ordering::Relaxed) {
            0 => self.server_now(),
            millis => Stamp::FIRST.plus(millis),
        }
    }

    /// Sends a request until it is answered or hopeless. Each try is a counted, paced call. An
    /// answer counts when `read` took it to its end without an error.
    pub async fn fetch<T>(
        &self,
        request: &Request,
        read: impl Fn(Body) -> Result<T, ArrayError>,
    ) -> Result<Answer<T>, SourceError> {
        let started = SystemTime::now();
        let policy = ExponentialBackoff::builder()
            .retry_bounds(self.patience.backoff, self.patience.backoff * BACKOFF_CAP)
            .jitter(Jitter::Full)
            .build_with_max_retries(self.patience.retries);
        let mut retries = 0;
        loop {
            self.wait_for_hold().await;
            self.gate.admit(request.credits).await.map_err(SourceError::Gate)?;
            if *self.hold.lock().await > Instant::now() {
                // Another call was limited while this one waited for its turn.
                self.gate.give_back(request.credits);
                continue;
            }
            if retries > 0 {
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            let err = match self.once(request, &read).await {
                Ok(answer) => return Ok(answer),
                Err(err) => err,
            };
            if matches!(err, SourceError::NotFound { .. })
                && request.older.is_some()
                && !self.takes_older.swap(true, Ordering::Relaxed)
            {
                warn!("{err}; asking by the older path instead");
                self.retries.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let RetryDecision::Retry { execute_after } = policy.should_retry(started, retries) else {
                return Err(err);
            };
            if !err.is_transient() {
                return Err(err);
            }
            let mut pause = execute_after.duration_since(SystemTime::now()).unwrap_or_default();
            if let SourceError::Limited { retry_after, .. } = &err {
                let asked = retry_after.filter(|wait| !wait.is_zero()).map(|wait| wait.min(MAX_RETRY_AFTER));
                pause = asked.unwrap_or(self.patience.backoff * LIMITED_PAUSE);
                let mut hold = self.hold.lock().await;
                *hold = (*hold).max(Instant::now() + pause);
            }
            retries += 1;
            warn!("{err}; retry {retries} of {} in {:.1} s", self.patience.retries, pause.as_secs_f64());
            tokio::time::sleep(pause).await;
        }
    }

    async fn wait_for_hold(&self) {
        loop {
            let until = *self.hold.lock().await;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn once<T>(
        &self,
        request: &Request,
        read: impl Fn(Body) -> Result<T, ArrayError>,
    ) -> Result<Answer<T>, SourceError> {
        let endpoint = request.endpoint;
        let older = request.older.as_ref().filter(|_| self.takes_older.load(Ordering::Relaxed));
        let url = format!("{}{}", self.access.base_url, older.unwrap_or(&request.target));
        let sent = Instant::now();
        let mut response = self.http.get(url).send().await.map_err(|err| self.unreachable(err))?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        if let Some(date) = date(response.headers()) {
            self.answered.store(date, Ordering::Relaxed);
            self.ahead.store(date - chrono::Utc::now().timestamp_millis(), Ordering::Relaxed);
        }
        if status != StatusCode::OK {
            let mut body = Vec::new();
            while body.len() < MAX_ERROR_BYTES {
                match response.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    // The status alone has to do.
                    Ok(None) | Err(_) => break,
                }
            }
            let body = &self.without_key(&body);
            let err = self.source.explain(&Told { endpoint, status: status.as_u16(), retry_after, body });
            if self.source.errors_are_free() {
                self.settle(request.credits, 0).await?;
            }
            return Err(err);
        }
        let malformed = |why: String| SourceError::Malformed { endpoint: endpoint.to_owned(), why };
        if let Some(kind) = response.headers().get(CONTENT_TYPE) {
            let kind = kind.to_str().unwrap_or("unreadable").to_ascii_lowercase();
            let essence = kind.split(';').next().unwrap_or_default().trim();
            if essence != "application/json" && essence != "text/json" && !essence.ends_with("+json") {
                return Err(malformed(format!("it is {essence}, not JSON")));
            }
        }
        let sandbox = response.headers().contains_key(SANDBOX_HEADER);
        let mut body = SpooledTempFile::new(IN_MEMORY_BYTES);
        let mut size = 0;
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(err) => return Err(self.unreachable(err)),
            };
            size += chunk.len();
            if size > MAX_BODY_BYTES {
                let (endpoint, setting) = (endpoint.to_owned(), self.access.url_setting);
                return Err(SourceError::TooLarge { endpoint, limit: MAX_BODY_BYTES, setting });
            }
            body.write_all(&chunk).map_err(|err| SourceError::malformed(endpoint, err.into()))?;
        }
        let took = sent.elapsed();
        let mut body = Body { file: body, shape: request.shape.clone() };
        let said = said_of_itself(&mut body).map_err(|why| SourceError::malformed(endpoint, why))?;
        let body_start = &self.without_key(&said);
        let told = Told { endpoint, status: status.as_u16(), retry_after, body: body_start };
        // Errors have been seen with HTTP 200.
        let charged = match request.shape {
            Shape::Array if said.is_empty() => Ok(None),
            Shape::Array => Err(self.source.explain(&told)),
            _ => self.source.accept(&told),
        };
        match charged {
            Ok(None) => {}
            Ok(Some(credits)) => self.settle(request.credits, credits).await?,
            Err(err) => {
                if self.source.errors_are_free() {
                    self.settle(request.credits, 0).await?;
                }
                return Err(err);
            }
        }
        let content = read(body).map_err(|why| SourceError::malformed(endpoint, why))?;
        Ok(Answer { content, sandbox, took })
    }

    async fn settle(&self, counted: i64, charged: i64) -> Result<(), SourceError> {
        if counted == charged { Ok(()) } else { self.gate.settle(counted, charged).await.map_err(SourceError::Gate) }
    }

    /// Some servers say back what they were sent: the key must not get into a message that way.
    fn without_key(&self, body: &[u8]) -> Vec<u8> {
        match &self.access.key {
            Some((_, key)) => String::from_utf8_lossy(body).replace(key.expose_secret(), "[the key]").into_bytes(),
            None => body.to_vec(),
        }
    }

    fn unreachable(&self, err: reqwest::Error) -> SourceError {
        let why = if err.is_timeout() && !err.is_connect() {
            format!("no whole answer within {}", humantime::format_duration(self.patience.timeout))
        } else {
            chain(&err.without_url())
        };
        SourceError::Unreachable { url: self.access.base_url.clone(), why, setting: self.access.url_setting }
    }
}

/// For calls that are no vendor's: says who we are, follows nobody, and gives up in time.
pub fn plain_client(url: &str, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(url, timeout).build()
}

/// Before the first connection with TLS, whoever makes it.
pub fn choose_cryptography() {
    // Fails when it was done before, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn builder(url: &str, timeout: Duration) -> reqwest::ClientBuilder {
    choose_cryptography();
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        // A redirect would take the key to another host.
        .redirect(reqwest::redirect::Policy::none());
    if url.starts_with("http://") {
        // Reading the system's certificates takes time and memory that plain HTTP does not need.
        builder = builder.tls_certs_only([]);
    }
    if is_on_this_machine(url) {
        // A sandbox here is none of a proxy's business, which could not reach it.
        builder = builder.no_proxy();
    }
    builder
}

/// What an answer says of itself beside its records: an envelope without its data, the start of an
/// object; nothing where an array is what was asked for and what came.
fn said_of_itself(body: &mut Body) -> Result<Vec<u8>, ArrayError> {
    if body.shape == Shape::Envelope {
        let mut records = body.records()?;
        let mut record = Vec::new();
        while records.next_into(&mut record)? {}
        return Ok(records.around());
    }
    body.file.rewind()?;
    let mut start = Vec::new();
    Read::by_ref(&mut body.file).take(MAX_ERROR_BYTES as u64).read_to_end(&mut start)?;
    let is_object = start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    Ok(if is_object { start } else { Vec::new() })
}

fn is_on_this_machine(base_url: &str) -> bool {
    match url::Url::parse(base_url).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(addr)) => addr.is_loopback(),
        Some(url::Host::Ipv6(addr)) => addr.is_loopback(),
        None => false,
    }
}

/// The server's clock, in milliseconds since 1970; whole seconds are told.
fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp_millis())
}

/// Whole seconds; the date form is not sent by any vendor of ours.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// An error with its causes, in one line.
fn chain(err: &reqwest::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
