//! The consumer's figures for Prometheus, served over HTTP on request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::db::runs::Tally;
use crate::exit::UsageError;

type Labels = Vec<(&'static str, String)>;

pub struct Figures {
    registry: Registry,
    events: Family<Labels, Counter>,
    batches: Counter,
    batch_size: Gauge<i64, AtomicI64>,
    newest: Gauge<f64, AtomicU64>,
    lag: Family<Labels, Gauge<i64, AtomicI64>>,
    /// Counted into `events` so far.
    told: Mutex<Tally>,
}

impl Figures {
    pub fn new(topic: &str, group: &str) -> Arc<Figures> {
        let labels = [("topic", topic), ("group", group)].map(|(name, value)| (name.into(), value.to_owned().into()));
        let mut registry = Registry::with_labels(labels.into_iter());
        let (events, batches, batch_size) = (Family::default(), Counter::default(), Gauge::default());
        let (newest, lag) = (Gauge::default(), Family::default());
        let stream = registry.sub_registry_with_prefix("coinetl_stream");
        stream.register("events", "Events by what became of them", events.clone());
        stream.register("batches", "Transactions", batches.clone());
        stream.register("batch_size", "Events of the newest transaction", batch_size.clone());
        stream.register("newest_event_timestamp_seconds", "Time of the newest record stored", newest.clone());
        stream.register("lag", "Records of a partition that are not stored yet", lag.clone());
        Arc::new(Figures { registry, events, batches, batch_size, newest, lag, told: Mutex::default() })
    }

    /// A batch is stored; `tally` is that of the whole run.
    pub fn stored(&self, size: usize, tally: &Tally, newest_ms: Option<i64>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (result, now, before) in [
            ("stored", tally.written, told.written),
            ("known", tally.unchanged, told.unchanged),
            ("dead_letter", tally.rejected, told.rejected),
        ] {
            self.events.get_or_create(&vec![("result", result.to_owned())]).inc_by((now - before).max(0) as u64);
        }
        *told = *tally;
        self.batches.inc();
        self.batch_size.set(size as i64);
        if let Some(newest) = newest_ms {
            self.newest.set(newest as f64 / 1000.0);
        }
    }

    /// Partitions that are ours, and how far behind their ends we are.
    pub fn behind(&self, lags: &[(i32, i64)]) {
        self.lag.clear();
        for (partition, lag) in lags {
            self.lag.get_or_create(&vec![("partition", partition.to_string())]).set(*lag);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Serves `GET /metrics` for as long as the runtime runs.
pub async fn serve(figures: Arc<Figures>, address: SocketAddr) -> Result<(), UsageError> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|err| {
        UsageError(format!("figures can't be served on {address} ({err}); choose another address with --metrics"))
    })?;
    if let Ok(bound) = listener.local_addr() {
        log::info!("figures for Prometheus: http://{bound}/metrics");
    }
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let answer =
        move |State(figures): State<Arc<Figures>>| async move { ([(CONTENT_TYPE, open_metrics)], figures.text()) };
    let router = Router::new().route("/metrics", get(answer)).with_state(figures);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}
