//! The cache and the version that several servers share. Whatever Redis does, it costs speed only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client, RedisError, Script};
use secrecy::ExposeSecret;

use super::super::reply::Answer;
use super::super::state::{Options, StartError};
use crate::db::version::Version;

/// A slower Redis is none.
const PATIENCE: Duration = Duration::from_millis(500);
const KEPT_FOR_S: u64 = 20;
/// One that is gone is asked again so often: not by each request, which would wait for it.
const AGAIN: Duration = Duration::from_millis(300);
/// One answer must not push out all others.
const LARGEST: usize = 16 << 20;

pub struct Redis {
    connection: ConnectionManager,
    /// Where the version of this database is.
    version_key: String,
    /// Of this database, and of this program and these settings.
    prefix: String,
    raise: Script,
    /// Whether it was told that Redis is gone.
    gone: AtomicBool,
    /// When it last did not answer.
    failed: Mutex<Option<Instant>>,
}

impl Redis {
    /// Does not need Redis to be there yet.
    pub async fn new(url: &secrecy::SecretString, options: &Options) -> Result<Redis, StartError> {
        let wrong = |err: RedisError| StartError::RedisUrl(err.to_string());
        let client = Client::open(url.expose_secret()).map_err(wrong)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(wrong)?;
        let hash = |text: &str| xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let database = hash(&options.database_id);
        // Whatever makes another answer of the same question and data.
        let program = env!("CARGO_PKG_VERSION");
        let of = hash(&format!("{:?}", (program, &options.sources, options.stale_after, &options.shown_settings)));
        Ok(Redis {
            connection,
            version_key: format!("coinetl:1:{database:016x}:version"),
            prefix: format!("coinetl:1:{database:016x}:{of:016x}"),
            raise: Script::new(
                "local known = tonumber(redis.call('GET', KEYS[1]) or '0') \
                 if tonumber(ARGV[1]) > known then redis.call('SET', KEYS[1], ARGV[1]) end",
            ),
            gone: AtomicBool::new(false),
            failed: Mutex::default(),
        })
    }

    /// The newest version that any server told; `None` when Redis does not answer, or lost it: it may be new,
    /// or have thrown it out for room.
    pub async fn version(&self) -> Option<Version> {
        if self.is_resting() {
            return None;
        }
        let read: Result<Option<Version>, _> = self.connection.clone().get(&self.version_key).await;
        self.told(read).flatten()
    }

    pub async fn raise(&self, version: Version) {
        if self.is_resting() {
            return;
        }
        let raised: Result<(), _> =
            self.raise.key(&self.version_key).arg(version).invoke_async(&mut self.connection.clone()).await;
        self.told(raised);
    }

    /// The database holds less than before: goes on from there.
    pub async fn restore(&self, version: Version) {
        let set: Result<(), _> = self.connection.clone().set(&self.version_key, version).await;
        self.told(set);
    }

    pub async fn get(&self, version: Version, key: &str) -> Option<Answer> {
        if self.is_resting() {
            return None;
        }
        let read: Result<Option<Vec<u8>>, _> = self.connection.clone().get(self.place(version, key)).await;
        self.told(read).flatten().and_then(|bytes| Answer::from_bytes(&bytes)).filter(|a| a.version == version)
    }

    pub async fn put(&self, version: Version, key: &str, answer: &Answer) {
        if self.is_resting() {
            return;
        }
        let bytes = answer.to_bytes();
        if bytes.len() <= LARGEST {
            let place = self.place(version, key);
            let put: Result<(), _> = self.connection.clone().set_ex(place, bytes, KEPT_FOR_S).await;
            self.told(put);
        }
    }

    fn is_resting(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.gone.load(Ordering::Relaxed) && failed.is_some_and(|at| at.elapsed() < AGAIN)
    }

    fn place(&self, version: Version, key: &str) -> String {
        format!("{}:{version}:{key}", self.prefix)
    }

    /// Tells once that Redis is gone, and once that it is back.
    fn told<T>(&self, ended: Result<T, RedisError>) -> Option<T> {
        match ended {
            Ok(value) => {
                if self.gone.swap(false, Ordering::Relaxed) {
                    log::info!("the shared cache (REDIS_URL) is back");
                }
                Some(value)
            }
            Err(err) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                if !self.gone.swap(true, Ordering::Relaxed) {
                    log::warn!("the shared cache (REDIS_URL) does not answer ({err}); going on without it, slower");
                }
                None
            }
        }
    }
}
