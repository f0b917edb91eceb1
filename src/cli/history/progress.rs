//! How much is left: on a terminal as a bar, else in the log, and in the end in the result.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::cli::{Context, progress};
use crate::domain::Cost;

/// A line of the log, at most so often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shared between the one who counts and the one who works.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<Counts>>);

struct Counts {
    bar: ProgressBar,
    planned: Cost,
    done: Cost,
    /// Tried in vain: another run's to do.
    failed: Cost,
    /// Between two calls, as the pace demands.
    interval: Option<Duration>,
    began: Instant,
    told: Instant,
}

impl Progress {
    pub fn new(context: &Context) -> Self {
        let bar = progress::bar(context);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} calls, {msg}") {
            bar.set_style(style);
        }
        let (began, told) = (Instant::now(), Instant::now());
        let (planned, done, failed) = (Cost::default(), Cost::default(), Cost::default());
        Progress(Arc::new(Mutex::new(Counts { bar, planned, done, failed, interval: None, began, told })))
    }

    fn with<R>(&self, work: impl FnOnce(&mut Counts) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is going to be asked for.
    pub fn plan(&self, planned: Cost) {
        self.with(|counts| {
            counts.planned = planned;
            counts.bar.set_length(planned.calls.unsigned_abs());
        });
    }

    pub fn start(&self, interval: Option<Duration>) {
        self.with(|counts| (counts.interval, counts.began) = (interval, Instant::now()));
    }

    pub fn failed(&self, cost: Cost) {
        self.with(|counts| counts.failed += cost);
    }

    /// Everything was looked at: what is left is what failed, whatever was planned.
    pub fn complete(&self) {
        self.with(|counts| counts.planned = counts.done + counts.failed);
    }

    /// An answer was stored.
    pub fn done(&self, cost: Cost) {
        self.with(|counts| {
            counts.done += cost;
            counts.bar.set_position(counts.done.calls.unsigned_abs());
            let words = counts.words();
            counts.bar.set_message(words.clone());
            if counts.told.elapsed() >= LOG_EVERY || counts.done.calls == 1 {
                counts.told = Instant::now();
                log::info!("{} of {} calls; {words}", counts.done.calls, counts.planned.calls);
            }
        });
    }

    /// A call that was planned is not needed.
    pub fn not_needed(&self, cost: Cost) {
        self.with(|counts| counts.planned += cost * -1);
    }

    pub fn finish(&self) {
        self.with(|counts| counts.bar.finish_and_clear());
    }

    /// Members of the result.
    pub fn result(&self) -> Map<String, Value> {
        self.with(|counts| {
            let left = counts.left();
            let mut map = Map::new();
            map.insert("calls_planned".into(), json!(counts.planned.calls));
            map.insert("calls_left".into(), json!(left.calls));
            map.insert("credits_left".into(), json!(left.credits));
            map.insert("seconds_left".into(), json!(counts.time_left().as_secs()));
            map
        })
    }
}

impl Counts {
    fn left(&self) -> Cost {
        let left = |planned: i64, done: i64| (planned - done).max(0);
        Cost {
            calls: left(self.planned.calls, self.done.calls),
            credits: left(self.planned.credits, self.done.credits),
        }
    }

    /// By the pace, or where there is none by what it took so far.
    fn time_left(&self) -> Duration {
        let a_call = match (self.interval, u32::try_from(self.done.calls)) {
            (Some(interval), _) => interval,
            (None, Ok(done)) if done > 0 => self.began.elapsed() / done,
            (None, _) => Duration::ZERO,
        };
        a_call.saturating_mul(u32::try_from(self.left().calls).unwrap_or(u32::MAX))
    }

    fn words(&self) -> String {
        let left = self.left();
        let time = humantime::format_duration(Duration::from_secs(self.time_left().as_secs()));
        format!("{} calls, {} credits and about {time} left", left.calls, left.credits)
    }
}
