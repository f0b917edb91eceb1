//! The newest version of the data that this process knows of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::super::error::ApiError;
use super::super::state::Reader;
use crate::db::version::Version;

/// How often the database is asked while somebody listens or asks.
const EVERY: Duration = Duration::from_millis(250);
/// What was not confirmed for so long is asked for before an answer: a run must be seen within a second.
const CONFIRMED_FOR: Duration = Duration::from_millis(700);
/// With nobody there for so long the database is left in peace.
const IDLE: Duration = Duration::from_secs(10);
/// A version that falls tells of a restored database, once it was seen so often.
const BELIEVED_AFTER: u32 = 3;

pub struct Newest {
    reader: Reader,
    version: AtomicU64,
    /// How often the version fell: answers of before may bear the number of one that comes.
    restores: AtomicU64,
    told: watch::Sender<Version>,
    seen: Mutex<Seen>,
    /// One look for all who wait for one.
    looking: tokio::sync::Mutex<()>,
}

struct Seen {
    confirmed: Option<Instant>,
    asked: Option<Instant>,
    lower: u32,
}

impl Newest {
    pub fn new(reader: Reader) -> Arc<Newest> {
        let seen = Mutex::new(Seen { confirmed: None, asked: None, lower: 0 });
        let (told, _) = watch::channel(0);
        Arc::new(Newest {
            reader,
            version: AtomicU64::new(0),
            restores: AtomicU64::new(0),
            told,
            seen,
            looking: tokio::sync::Mutex::default(),
        })
    }

    pub fn changes(&self) -> watch::Receiver<Version> {
        self.told.subscribe()
    }

    /// What is known, where that was confirmed just now; else what a look tells.
    pub async fn get(&self) -> Result<Version, ApiError> {
        let now = Instant::now();
        let confirmed = {
            let mut seen = self.seen();
            seen.asked = Some(now);
            seen.confirmed
        };
        if confirmed.is_some_and(|at| now.duration_since(at) < CONFIRMED_FOR) {
            return Ok(self.version.load(Ordering::Acquire));
        }
        self.look().await
    }

    /// Asks the database, together with all who want to know at this moment.
    pub async fn look(&self) -> Result<Version, ApiError> {
        let asked = Instant::now();
        let _turn = self.looking.lock().await;
        // Somebody looked while we waited, and began after we had asked.
        if self.seen().confirmed.is_some_and(|at| at > asked) {
            return Ok(self.version.load(Ordering::Acquire));
        }
        let began = Instant::now();
        let version = self.reader.read(|_| Ok(())).await?.version;
        let known = self.version.load(Ordering::Acquire);
        let fallen = {
            let mut seen = self.seen();
            seen.confirmed = Some(began);
            seen.lower = if version < known { seen.lower + 1 } else { 0 };
            seen.lower >= BELIEVED_AFTER
        };
        if fallen {
            log::warn!("the database holds less than before (was it restored?); going on with what is there");
            self.seen().lower = 0;
            self.restores.fetch_add(1, Ordering::AcqRel);
            self.version.store(version, Ordering::Release);
            self.told.send_replace(version);
            return Ok(version);
        }
        self.raise(version);
        Ok(version.max(known))
    }

    pub fn restores(&self) -> u64 {
        self.restores.load(Ordering::Acquire)
    }

    pub fn raise(&self, version: Version) {
        if self.version.fetch_max(version, Ordering::AcqRel) < version {
            self.told.send_replace(version);
        }
    }

    fn is_wanted(&self) -> bool {
        self.told.receiver_count() > 0 || self.seen().asked.is_some_and(|at| at.elapsed() < IDLE)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again, for as long as somebody holds it.
pub async fn keep_looking(newest: Weak<Newest>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(newest) = newest.upgrade() else { return };
        // A failure is told to those who ask.
        if newest.is_wanted()
            && let Err(err) = newest.look().await
        {
            log::debug!("the newest version is not known: {err}");
        }
    }
}
