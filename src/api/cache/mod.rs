//! Answers kept for all who ask, each under the version of the data it was made of.
//!
//! It promises that nobody gets older data than somebody got before, and nobody data that a run replaced
//! more than a second ago. So an answer is looked up under the newest version that anybody has seen, and
//! that version is raised before an answer made of newer data leaves. Several servers share the version
//! through Redis; when Redis is gone each asks the database itself.
//!
//! ```text
//! version (shared) → this process → Redis → one read on a snapshot, which tells its own version
//! ```

mod newest;
mod redis;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use moka::future;
use tokio::sync::watch;

use self::newest::Newest;
use self::redis::Redis;
use super::error::ApiError;
use super::reply::{Answer, Draft};
use super::state::{Options, Reader};
use crate::db::Connection;
use crate::db::version::Version;

/// Somebody's own SQL has no run that would tell of it. With what an answer is made of, and Redis, which keep
/// theirs as long, no answer is older than a minute.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// A few of these fill the cache.
const LARGE: usize = 1 << 20;

/// How often the database was restored, the version, the question.
type Key = (u64, Version, Arc<str>);

pub struct Cache {
    reader: Reader,
    local: future::Cache<Key, Arc<Answer>>,
    redis: Option<Redis>,
    newest: Arc<Newest>,
    /// Restores that the other servers were told of.
    told_restores: AtomicU64,
    figures: Figures,
}

/// How well the cache does.
#[derive(Debug, Default)]
pub struct Figures {
    pub hits: AtomicU64,
    pub shared_hits: AtomicU64,
    pub misses: AtomicU64,
}

impl Cache {
    pub async fn new(options: &Options, reader: Reader, urgent: Reader) -> Result<Cache, super::state::StartError> {
        let local = future::Cache::builder()
            .max_capacity(options.cache_bytes)
            .weigher(|(_, _, key): &Key, answer: &Arc<Answer>| answer.weight().saturating_add(key.len() as u32))
            .time_to_live(KEPT_FOR)
            .build();
        let redis = match &options.redis_url {
            Some(url) => Some(Redis::new(url, options).await?),
            None => None,
        };
        let newest = Newest::new(urgent);
        tokio::spawn(newest::keep_looking(Arc::downgrade(&newest)));
        Ok(Cache { reader, local, redis, newest, told_restores: AtomicU64::new(0), figures: Figures::default() })
    }

    /// Tells each version that is seen from now on.
    pub fn changes(&self) -> watch::Receiver<Version> {
        self.newest.changes()
    }

    /// How often the database turned out to be another, older state of itself.
    pub fn restores(&self) -> u64 {
        self.newest.restores()
    }

    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Bytes and answers held in this process, about.
    pub fn size(&self) -> (u64, u64) {
        (self.local.weighted_size(), self.local.entry_count())
    }

    pub async fn answer<F>(&self, key: String, work: F) -> Result<Arc<Answer>, ApiError>
    where
        F: Fn(&mut Connection, Version) -> Result<Draft, ApiError> + Send + Sync + 'static,
    {
        let key: Arc<str> = key.into();
        let version = self.version().await?;
        let mut missed = false;
        let make = async {
            missed = true;
            self.make(version, key.clone(), work).await
        };
        let answer = self
            .local
            .try_get_with((self.newest.restores(), version, key.clone()), make)
            .await
            .map_err(|err| (*err).clone())?;
        if !missed {
            self.figures.hits.fetch_add(1, Relaxed);
        } else if answer.size() > LARGE {
            // What is beyond the limit goes at once, and not when somebody has the time for it.
            self.local.run_pending_tasks().await;
        }
        Ok(answer)
    }

    async fn make<F>(&self, version: Version, key: Arc<str>, work: F) -> Result<Arc<Answer>, ApiError>
    where
        F: Fn(&mut Connection, Version) -> Result<Draft, ApiError> + Send + Sync + 'static,
    {
        if let Some(redis) = &self.redis
            && let Some(answer) = redis.get(version, &key).await
        {
            self.figures.shared_hits.fetch_add(1, Relaxed);
            return Ok(Arc::new(answer));
        }
        self.figures.misses.fetch_add(1, Relaxed);
        let seen = self.reader.read_at(work).await?;
        let answer = Arc::new(Answer::new(seen.value, seen.version));
        if seen.version > version {
            // Before anybody gets it: from here on nobody may get less.
            self.newest.raise(seen.version);
            if let Some(redis) = &self.redis {
                redis.raise(seen.version).await;
            }
            self.local.insert((self.newest.restores(), seen.version, key.clone()), answer.clone()).await;
        }
        if let Some(redis) = &self.redis {
            redis.put(seen.version, &key, &answer).await;
        }
        Ok(answer)
    }

    /// The newest version that anybody may have seen, no older than a second.
    pub async fn version(&self) -> Result<Version, ApiError> {
        let Some(redis) = &self.redis else { return self.newest.get().await };
        match redis.version().await {
            Some(shared) => {
                let own = self.newest.get().await?;
                let restores = self.newest.restores();
                if self.told_restores.swap(restores, Relaxed) < restores {
                    redis.restore(own).await;
                    return Ok(own);
                }
                if own > shared {
                    redis.raise(own).await;
                }
                self.newest.raise(shared);
                Ok(own.max(shared))
            }
            // Another server may have seen what this one has not looked for yet.
            None => {
                let own = self.newest.look().await?;
                redis.raise(own).await;
                Ok(own)
            }
        }
    }
}

#[cfg(test)]
mod tests;
