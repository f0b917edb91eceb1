//! A local stand-in for the vendors' HTTP and WebSocket APIs, over generated data.
//!
//! It promises the vendor's shapes and rules, a market that is a pure function of the seed and
//! the time, and faults when asked for. Tests, demos and benchmarks talk to it, so an answer
//! that a real client could not get from the vendor is a bug here, except that every answer
//! carries [`HEADER`], by which nobody can take the data for real.
//!
//! ```text
//! request → vendor (rules) → faults → vendor (shape) → market (figures) → wire → response
//! ```
//!
//! CoinGecko is served below `/api/v3`; CoinMarketCap's paths begin with their own versions and
//! Coinbase's with `/products`, so that the three share one address. Coinbase's feed is for those
//! who ask for a WebSocket at `/`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State};
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse;
use axum::serve::ListenerExt;
use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod vendor;

mod coinbase;
mod coingecko;
mod coinmarketcap;

mod market;

mod answer;
mod clock;
mod faults;
mod json;
mod limits;
mod wire;

pub use faults::{Fault, FaultError, FaultKind};

use answer::Answer;
use clock::Clock;
use coinbase::Coinbase;
use coinbase::feed::{self, Feed};
use coingecko::CoinGecko;
use coinmarketcap::CoinMarketCap;
use faults::Dice;
use market::Market;
use market::ticks::{FASTEST, SLOWEST};
use vendor::{Call, Endless, Vendor};
use wire::Damage;

/// Marks every response; its value is `1`.
pub const HEADER: &str = "x-coinetl-sandbox";

/// The largest market there can be.
pub const MAX_ASSETS: u32 = 1_000_000;

/// How long a stalled request stalls: longer than any client waits.
const STALL: Duration = Duration::from_secs(600);
/// How long answers may still be sent, and feeds closed, after the order to stop.
const GRACE: Duration = Duration::from_secs(2);

/// What to serve and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes a free one.
    pub bind: SocketAddr,
    pub assets: u32,
    pub seed: u64,
    pub faults: Vec<Fault>,
    /// Calls a minute for each key, or address without a key; 0 is no limit.
    pub calls_per_minute: u32,
    /// Credits a month of the market's time for each CoinMarketCap key; 0 is no limit.
    pub credits_per_month: u32,
    /// Where the clock begins; by default now.
    pub at: Option<DateTime<Utc>>,
    /// 1 is real time, 0 stands still.
    pub speed: f64,
    /// Ticker messages for each product of Coinbase's feed in a second of the market's time.
    pub quotes_per_second: f64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bind: SocketAddr::from(([127, 0, 0, 1], 8001)),
            assets: 17_600,
            seed: 1,
            faults: Vec::new(),
            calls_per_minute: 0,
            credits_per_month: 15_000,
            at: None,
            speed: 1.0,
            quotes_per_second: 5.0,
        }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, Error)]
pub enum SandboxError {
    #[error("a sandbox of {0} assets is not possible: 1 to {MAX_ASSETS}")]
    Assets(u32),
    #[error("the sandbox's clock can't run at speed {0}: 0 (frozen) or more")]
    Speed(f64),
    #[error("the sandbox can't send {0} quotes a second: {SLOWEST} to {FASTEST}")]
    Quotes(f64),
    #[error("the sandbox can't listen on {bind}: {source}; choose another address or port")]
    Bind { bind: SocketAddr, source: std::io::Error },
}

/// A running server. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// Binds, and serves on the current tokio runtime.
pub async fn start(options: Options) -> Result<Sandbox, SandboxError> {
    if !(1..=MAX_ASSETS).contains(&options.assets) {
        return Err(SandboxError::Assets(options.assets));
    }
    if !(0.0..=1e9).contains(&options.speed) {
        return Err(SandboxError::Speed(options.speed));
    }
    if !(SLOWEST..=FASTEST).contains(&options.quotes_per_second) {
        return Err(SandboxError::Quotes(options.quotes_per_second));
    }
    let failed = |source| SandboxError::Bind { bind: options.bind, source };
    let listener = TcpListener::bind(options.bind).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;

    let (stop, stopped) = watch::channel(false);
    let market = Arc::new(Market::new(options.seed, options.assets));
    let clock = Arc::new(Clock::new(options.at, options.speed));
    let (rate, speed) = (options.quotes_per_second, options.speed);
    let service = Service {
        feed: Feed::new(&market, &clock, rate, speed, options.faults.clone(), options.seed),
        market,
        clock,
        coingecko: CoinGecko::new(options.calls_per_minute),
        coinmarketcap: CoinMarketCap::new(options.calls_per_minute, options.credits_per_month),
        coinbase: Coinbase::new(options.calls_per_minute),
        dice: Dice::new(options.faults, options.seed),
        stopped: stopped.clone(),
    };
    let app =
        Router::new().fallback(serve).with_state(Arc::new(service)).into_make_service_with_connect_info::<SocketAddr>();
    // Small answers would wait for the client's delayed acknowledgement otherwise.
    let listener = listener.tap_io(|connection| {
        if let Err(err) = connection.set_nodelay(true) {
            log::debug!("sandbox: no TCP_NODELAY: {err}");
        }
    });
    let server = tokio::spawn(async move {
        let serving = axum::serve(listener, app).with_graceful_shutdown(wait_for_stop(stopped));
        if let Err(err) = serving.await {
            log::error!("sandbox: stopped serving: {err}");
        }
    });
    Ok(Sandbox { addr, stop, server })
}

impl Sandbox {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening, closes feeds, ends stalled requests, and lets the others finish for a
    /// moment.
    pub async fn stop(self) {
        let Sandbox { stop, server, .. } = self;
        stop.send_replace(true);
        let abort = server.abort_handle();
        let ended = async {
            let _ = server.await;
            // A feed outlives the server's own connection: it is over when nobody waits for the
            // order to stop any more.
            stop.closed().await;
        };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            abort.abort();
        }
    }
}

/// Also returns when the [`Sandbox`] was dropped.
async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct Service {
    market: Arc<Market>,
    clock: Arc<Clock>,
    coingecko: CoinGecko,
    coinmarketcap: CoinMarketCap,
    coinbase: Coinbase,
    feed: Feed,
    dice: Dice,
    stopped: watch::Receiver<bool>,
}

async fn serve(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let now = service.clock.now();
    let mut response = match feed::serves(&path, request.headers()) {
        true => service.follow(request).await,
        false => service.respond(peer, request, now).await,
    };
    let headers = response.headers_mut();
    headers.insert(HEADER, HeaderValue::from_static("1"));
    // The market's time and not the world's: what has no time of its own is stamped with this.
    if let Ok(date) = HeaderValue::from_str(&clock::http_date(now)) {
        headers.insert(header::DATE, date);
    }
    // The path alone: a query may carry a key.
    log::debug!("sandbox: {} {path}", response.status());
    response
}

impl Service {
    async fn respond(self: Arc<Service>, peer: SocketAddr, request: Request, now: i64) -> Response<Body> {
        let whole = |answer| wire::response(answer, false, Damage::None);
        let gzip = wire::accepts_gzip(request.headers());
        let Ok(Query(query)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()) else {
            return whole(Answer::error(400, r#"{"error":"invalid query"}"#));
        };
        let (head, _) = request.into_parts();
        let call = Arc::new(Call {
            market: Arc::clone(&self.market),
            at: now,
            method: head.method,
            path: head.uri.path().to_owned(),
            query,
            headers: head.headers,
            peer: peer.ip(),
        });
        let vendor = self.vendor(&call.path);
        if let Err(refused) = vendor.admit(&call) {
            return whole(refused);
        }

        let struck = self.dice.roll(|kind| vendor.meets(kind, &call));
        let kind = struck.map(|struck| struck.kind);
        if let Some(kind) = kind {
            log::info!("sandbox: fault {kind} on {}", call.path);
        }
        match kind {
            Some(FaultKind::Slow) => {
                let stalled = tokio::time::sleep(STALL);
                tokio::select! {
                    () = stalled => {}
                    () = wait_for_stop(self.stopped.clone()) => {}
                }
            }
            Some(FaultKind::Endless) => {
                let (service, asked) = (Arc::clone(&self), Arc::clone(&call));
                let records = blocking(move || service.vendor(&asked.path).endless(&asked)).await;
                return wire::endless(records, self.stopped.clone());
            }
            _ => {
                if let Some(answer) = struck.and_then(|struck| vendor.canned(struck, &call)) {
                    return whole(answer);
                }
            }
        }

        let damage = match kind {
            Some(FaultKind::Truncated) => Damage::Truncated,
            Some(FaultKind::Drop) => Damage::Dropped,
            _ => Damage::None,
        };
        // Building and compressing a page takes a millisecond or more; sorting a million coins
        // takes a second.
        let service = Arc::clone(&self);
        blocking(move || {
            let answer = service.vendor(&call.path).answer(&call, struck);
            wire::response(answer, gzip, damage)
        })
        .await
    }

    /// Turns a request into a feed.
    async fn follow(self: Arc<Service>, request: Request) -> Response<Body> {
        let (mut head, _) = request.into_parts();
        let upgrade = match WebSocketUpgrade::from_request_parts(&mut head, &()).await {
            Ok(upgrade) => upgrade.max_message_size(feed::LARGEST_COMMAND).read_buffer_size(4 << 10),
            Err(refused) => return refused.into_response(),
        };
        upgrade.on_upgrade(async move |socket| {
            let service = Arc::clone(&self);
            let listed = move || Arc::clone(service.coinbase.catalogue(&service.market));
            match tokio::task::spawn_blocking(listed).await {
                Ok(catalogue) => self.feed.serve(socket, catalogue, self.stopped.clone()).await,
                Err(err) => log::error!("sandbox: {err}"),
            }
        })
    }

    /// Whose path it is. CoinGecko's stand-in also turns away what is nobody's.
    fn vendor(&self, path: &str) -> &dyn Vendor {
        if coinmarketcap::serves(path) {
            &self.coinmarketcap
        } else if coinbase::serves(path) {
            &self.coinbase
        } else {
            &self.coingecko
        }
    }
}

/// Runs work on a thread of its own. Only a panic could lose its result.
async fn blocking<T: Reply>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => {
            log::error!("sandbox: {err}");
            T::failed()
        }
    }
}

/// What can stand for a result that was lost.
trait Reply: Send + 'static {
    fn failed() -> Self;
}

impl Reply for Endless {
    fn failed() -> Endless {
        Endless { first: b"[null".to_vec(), again: b",null".to_vec() }
    }
}

impl Reply for Response<Body> {
    fn failed() -> Response<Body> {
        let mut response = Response::new(Body::from(r#"{"status":500,"error":"Internal Server Error"}"#));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        response
    }
}

#[cfg(test)]
mod tests;
