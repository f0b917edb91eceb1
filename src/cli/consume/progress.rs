//! How a stream goes: a line now and then.

use std::time::{Duration, Instant};

use crate::sinks::stream::Message;

const INTERVAL: Duration = Duration::from_secs(10);

pub struct Progress {
    since: Instant,
    messages: usize,
    batches: usize,
    newest_ms: Option<i64>,
}

impl Progress {
    pub fn new() -> Self {
        Progress { since: Instant::now(), messages: 0, batches: 0, newest_ms: None }
    }

    pub fn count(&mut self, batch: &[Message]) {
        self.messages += batch.len();
        self.batches += 1;
        self.newest_ms = self.newest_ms.max(batch.iter().filter_map(|message| message.time_ms).max());
    }

    pub fn show(&mut self, stored: i64) {
        let passed = self.since.elapsed();
        if passed < INTERVAL {
            return;
        }
        let rate = self.messages as f64 / passed.as_secs_f64();
        let size = self.messages / self.batches.max(1);
        let age = self.newest_ms.map_or("-".to_owned(), |at| {
            format!("{:.1} s", (chrono::Utc::now().timestamp_millis() - at).max(0) as f64 / 1000.0)
        });
        log::info!("{rate:.0} events/s, {size} a batch, newest {age} old, {stored} stored so far");
        *self = Progress::new();
    }
}
