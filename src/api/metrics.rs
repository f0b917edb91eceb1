//! `/metrics`: figures for Prometheus. Those of requests and of the cache are of this process; those of runs and data
//! are of the database, which is asked every few seconds at most, however many ask us.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{self, MatchedPath, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::State;
use super::cache::Cache;
use super::error::ApiError;
use crate::db::accounts;
use crate::db::figures::{Data, Few};
use crate::db::version::Version;
use crate::domain::budget::month_before;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "coinetl";

/// Runs and budgets are not asked for more often.
const FEW_FOR: Duration = Duration::from_secs(3);
/// Nor, where they could not be read, than this.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// What needs a walk through the data, neither, and only when a run changed something.
const DATA_FOR: Duration = Duration::from_secs(15);

/// From a cached answer to the longest read, in seconds.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

type Labels = Vec<(&'static str, String)>;
type Number = Family<Labels, Gauge<i64, AtomicI64>>;
type Time = Family<Labels, Gauge<f64, AtomicU64>>;

/// The figures of this process, and what was last read of the database.
pub struct Figures {
    requests: Registry,
    durations: Family<RequestLabels, Histogram>,
    in_flight: Gauge<i64, AtomicI64>,
    read: tokio::sync::Mutex<Read>,
}

/// What was read, ready to be sent.
#[derive(Default)]
struct Read {
    few: Option<(Instant, String)>,
    data: Option<(Instant, Version, String)>,
    failed: Option<(Instant, ApiError)>,
}

impl Figures {
    pub fn new() -> Figures {
        let mut requests = Registry::with_prefix(PREFIX);
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let in_flight = Gauge::default();
        requests.register(
            "http_request_duration_seconds",
            "Time from a request to the head of its answer",
            durations.clone(),
        );
        requests.register("http_requests_in_flight", "Requests that are being answered", in_flight.clone());
        let version = Family::<Labels, Gauge<i64, AtomicI64>>::default();
        requests.register("build", "The version that is running; always 1", version.clone());
        version.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        Figures { requests, durations, in_flight, read: tokio::sync::Mutex::default() }
    }

    /// A request that was answered without going through the layers.
    pub fn answered(&self, route: MatchedPath, status: StatusCode, took: Duration) {
        let labels = RequestLabels { method: "GET", route: Some(route), status };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The database's part, and whether it could be read now. What is older than it should be is left out.
    async fn of_database(&self, state: &State) -> (String, Result<(), ApiError>) {
        // One look for all who ask at this moment.
        let mut read = self.read.lock().await;
        // They need not wait for the same failure one after the other.
        if let Some((at, err)) = &read.failed
            && at.elapsed() < FAILED_FOR
        {
            return (String::new(), Err(err.clone()));
        }
        if read.few.as_ref().is_none_or(|(at, _)| at.elapsed() >= FEW_FOR) {
            read.few = None;
            let budgets = state.options().budgets.clone();
            let seen = state.reader().read(move |conn| {
                let few = Few::read(conn)?;
                let mut months = Vec::new();
                let mut sources: Vec<&str> = few.runs.iter().map(|runs| runs.source.as_str()).collect();
                sources.sort_unstable();
                sources.dedup();
                for source in sources {
                    if let Some(budget) = budgets.of(conn, source)? {
                        let cost = accounts::cost_since(conn, source, month_before(budget.resets_at))?;
                        months.push((source.to_owned(), budget.used, budget.left(), cost.calls));
                    }
                }
                Ok((few, months))
            });
            let seen = match seen.await {
                Ok(seen) => seen,
                Err(err) => {
                    read.failed = Some((Instant::now(), err.clone()));
                    return (String::new(), Err(err));
                }
            };
            let (few, months) = seen.value;
            read.few = Some((Instant::now(), text(|registry| tell_few(registry, &few, &months))));
            let is_old =
                |(at, version, _): &(Instant, Version, String)| *version != seen.version && at.elapsed() >= DATA_FOR;
            if read.data.as_ref().is_none_or(is_old) {
                read.data = None;
                match state.reader().read(|conn| Ok(Data::read(conn)?)).await {
                    Ok(data) => {
                        let told = text(|registry| tell_data(registry, &data.value));
                        read.data = Some((Instant::now(), data.version, told));
                    }
                    // A very large database, say: the others are worth having.
                    Err(err) => log::warn!("/metrics goes without figures of the data: {err}"),
                }
            }
        }
        let few = read.few.as_ref().map_or("", |(_, text)| text);
        let data = read.data.as_ref().map_or("", |(_, _, text)| text);
        (format!("{few}{data}"), Ok(()))
    }
}

impl Default for Figures {
    fn default() -> Self {
        Figures::new()
    }
}

/// Figures for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "service", responses(
    (status = 200, description = "runs, credits, freshness, gaps, offsets, cache and requests, as OpenMetrics text", body = String,
     content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
))]
pub async fn metrics(extract::State(state): extract::State<State>) -> Response {
    let figures = state.figures();
    let (of_database, read) = figures.of_database(&state).await;
    if let Err(err) = &read {
        log::debug!("/metrics goes without the database: {err}");
    }
    let mut body = text(|registry| {
        let up = Gauge::<i64, AtomicI64>::default();
        up.set(i64::from(read.is_ok()));
        registry.register("database_up", "Whether the database could be read", up);
        tell_cache(registry, state.cache());
    });
    body.push_str(&of_database);
    // Writing into a string does not fail.
    let _ = encode_registry(&mut body, &figures.requests);
    let _ = encode_eof(&mut body);
    ([(header::CONTENT_TYPE, OPEN_METRICS), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Measures a request, whatever becomes of it.
pub async fn measured(extract::State(state): extract::State<State>, request: Request, next: Next) -> Response {
    let figures = state.figures();
    let began = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let guard = InFlight::new(figures.in_flight.clone());
    let mut response = next.run(request).await;
    drop(guard);
    if let Some(route) = &route {
        response.extensions_mut().insert(route.clone());
    }
    let labels = RequestLabels { method, route, status: response.status() };
    figures.durations.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
    response
}

/// Counts down also when the client goes away and the request is dropped.
struct InFlight(Gauge<i64, AtomicI64>);

impl InFlight {
    fn new(gauge: Gauge<i64, AtomicI64>) -> InFlight {
        gauge.inc();
        InFlight(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A client may send any word as a method: there must not be a series for each.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// The pattern of the path and not the path, of which there may be any number. Made without a copy of a text.
#[derive(Debug, Clone)]
struct RequestLabels {
    method: &'static str,
    /// `None` where nothing is served.
    route: Option<MatchedPath>,
    status: StatusCode,
}

impl RequestLabels {
    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }
}

impl PartialEq for RequestLabels {
    fn eq(&self, other: &Self) -> bool {
        (self.method, self.status, self.route()) == (other.method, other.status, other.route())
    }
}

impl Eq for RequestLabels {}

impl Hash for RequestLabels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.method, self.status, self.route()).hash(state);
    }
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> Result<(), std::fmt::Error> {
        [("method", self.method), ("route", self.route()), ("status", self.status.as_str())].encode(encoder)
    }
}

fn text(tell: impl FnOnce(&mut Registry)) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    tell(&mut registry);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode_registry(&mut text, &registry);
    text
}

fn tell_cache(registry: &mut Registry, cache: &Cache) {
    let figures = cache.figures();
    let hits = Family::<Labels, Counter>::default();
    for (place, count) in [("process", &figures.hits), ("redis", &figures.shared_hits)] {
        hits.get_or_create(&vec![("place", place.to_owned())]).inc_by(count.load(Ordering::Relaxed));
    }
    let misses = Counter::<u64>::default();
    misses.inc_by(figures.misses.load(Ordering::Relaxed));
    let (bytes, answers) = cache.size();
    let (size, entries) = (Gauge::<i64, AtomicI64>::default(), Gauge::<i64, AtomicI64>::default());
    size.set(bytes as i64);
    entries.set(answers as i64);
    registry.register("cache_hits", "Answers that were found, by where", hits);
    registry.register("cache_misses", "Answers that had to be made", misses);
    registry.register("cache_size_bytes", "What the answers in this process take, about", size);
    registry.register("cache_answers", "Answers in this process", entries);
}

/// `months`: source, credits used, credits left, calls used.
fn tell_few(registry: &mut Registry, few: &Few, months: &[(String, i64, Option<i64>, i64)]) {
    let (runs, written, rejected) = (
        Family::<Labels, Counter>::default(),
        Family::<Labels, Counter>::default(),
        Family::<Labels, Counter>::default(),
    );
    let ends = Time::default();
    for of in &few.runs {
        let by = vec![("command", of.command.clone()), ("source", of.source.clone()), ("status", of.status.clone())];
        runs.get_or_create(&by).inc_by(of.runs.max(0) as u64);
        written.get_or_create(&by).inc_by(of.written.max(0) as u64);
        rejected.get_or_create(&by).inc_by(of.rejected.max(0) as u64);
        if let Some(end) = of.last_end {
            ends.get_or_create(&by).set(seconds(end));
        }
    }
    registry.register("runs", "Runs in the database", runs);
    registry.register("rows_written", "Rows that were new or changed", written);
    registry.register("rows_rejected", "Records that could not be used", rejected);
    registry.register("last_run_end_timestamp_seconds", "When the newest of these runs ended", ends);

    let (used, left, calls) = (Number::default(), Number::default(), Number::default());
    for (source, credits, remaining, called) in months {
        let by = vec![("source", source.clone())];
        used.get_or_create(&by).set(*credits);
        calls.get_or_create(&by).set(*called);
        if let Some(remaining) = remaining {
            left.get_or_create(&by).set(*remaining);
        }
    }
    registry.register("month_calls", "Calls of this month", calls);
    registry.register("month_credits_used", "Credits used of this month", used);
    registry.register("month_credits_left", "Credits left of this month; absent where there is no limit", left);

    let (offsets, letters) = (Number::default(), Number::default());
    for of in &few.offsets {
        let partition = of.part.to_string();
        let by = vec![("group", of.consumer_group.clone()), ("topic", of.topic.clone()), ("partition", partition)];
        offsets.get_or_create(&by).set(of.next_offset);
    }
    for of in &few.dead_letters {
        letters.get_or_create(&vec![("source", of.source.clone())]).set(of.letters);
    }
    let help = "Offset up to which a consumer stored a partition; `consume --metrics` tells its lag";
    registry.register("stream_next_offset", help, offsets);
    registry.register("dead_letters", "Records that are kept because they could not be used", letters);
}

fn tell_data(registry: &mut Registry, data: &Data) {
    let (assets, gaps, pending) = (Number::default(), Number::default(), Gauge::<i64, AtomicI64>::default());
    let (prices, quotes) = (Time::default(), Time::default());
    for of in &data.assets {
        let by = vec![("source", of.source.clone()), ("active", of.active.to_string())];
        assets.get_or_create(&by).set(of.assets);
    }
    for of in &data.prices {
        prices.get_or_create(&vec![("source", of.source.clone())]).set(seconds(of.observed_at));
    }
    for of in &data.quotes {
        if let Some(at) = of.observed_at {
            quotes.get_or_create(&vec![("source", of.source.clone()), ("pair", of.pair.clone())]).set(seconds(at));
        }
    }
    for of in &data.gaps {
        let by = vec![("source", of.source.clone()), ("timeframe", of.timeframe.clone()), ("state", of.state.clone())];
        gaps.get_or_create(&by).set(of.intervals);
    }
    pending.set(data.pending);
    registry.register("assets", "Coins that are known", assets);
    registry.register("newest_price_timestamp_seconds", "When the newest price was observed", prices);
    registry.register("newest_quote_timestamp_seconds", "When the newest quote of a pair was observed", quotes);
    registry.register("gaps", "Intervals that were asked for and are not stored", gaps);
    registry.register("rollup_pending", "Marks of what awaits `candles rollup`", pending);
}

fn seconds(moment: chrono::NaiveDateTime) -> f64 {
    moment.and_utc().timestamp_micros() as f64 / 1e6
}
