//! How a stream goes: a line now and then, and figures for whoever looks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::figures::Figures;
use crate::kafka::consumer::Member;
use crate::sinks::stream::{Message, StreamSink};

const INTERVAL: Duration = Duration::from_secs(10);
const LAG_INTERVAL: Duration = Duration::from_secs(1);

pub struct Progress {
    figures: Arc<Figures>,
    since: Instant,
    messages: usize,
    batches: usize,
    newest_ms: Option<i64>,
    lag: Option<i64>,
    lag_since: Instant,
}

impl Progress {
    pub fn new(figures: Arc<Figures>) -> Self {
        let since = Instant::now();
        Progress { figures, since, messages: 0, batches: 0, newest_ms: None, lag: None, lag_since: since }
    }

    /// A batch is stored.
    pub fn count(&mut self, batch: &[Message], sink: &StreamSink) {
        self.messages += batch.len();
        self.batches += 1;
        self.newest_ms = self.newest_ms.max(batch.iter().filter_map(|message| message.time_ms).max());
        self.figures.stored(batch.len(), &sink.session.tally(), self.newest_ms);
    }

    pub fn show(&mut self, member: &Member, sink: &StreamSink) {
        if self.lag_since.elapsed() >= LAG_INTERVAL {
            self.lag_since = Instant::now();
            let behind = |partition| Some((member.known_end(partition)? - sink.next_offset(partition)?).max(0));
            let lags: Vec<(i32, i64)> =
                member.assigned().into_iter().filter_map(|partition| Some((partition, behind(partition)?))).collect();
            self.lag = (!lags.is_empty()).then(|| lags.iter().map(|(_, lag)| lag).sum());
            self.figures.behind(&lags);
        }
        let passed = self.since.elapsed();
        if passed < INTERVAL {
            return;
        }
        let rate = self.messages as f64 / passed.as_secs_f64();
        let size = self.messages / self.batches.max(1);
        let age = self.newest_ms.map_or("-".to_owned(), |at| {
            format!("{:.1} s", (chrono::Utc::now().timestamp_millis() - at).max(0) as f64 / 1000.0)
        });
        let lag = self.lag.map_or("an unknown number".to_owned(), |lag| lag.to_string());
        let stored = sink.session.tally().written;
        log::info!("{rate:.0} events/s, {size} a batch, {lag} behind, newest {age} old, {stored} stored so far");
        (self.since, self.messages, self.batches) = (Instant::now(), 0, 0);
    }
}
