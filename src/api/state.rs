//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;

use super::cache::Cache;
use super::error::ApiError;
use super::front::Front;
use super::metrics::Figures;
use super::reply::{Answer, Draft};
use crate::db::coins::{Catalogues, Coins};
use crate::db::dashboard::market::{self, Market};
use crate::db::version::Version;
use crate::db::{Connection, DatabaseUrl, DbError, Pool, assets};
use crate::domain::Budget;

/// How the API is served.
#[derive(Debug)]
pub struct Options {
    pub database_url: DatabaseUrl,
    /// The sources that are meant where a request names none: the first that has coins.
    pub sources: Vec<String>,
    /// Of one cache shared by several servers; `None` = in the process alone.
    pub redis_url: Option<secrecy::SecretString>,
    /// What tells this database from all others, wherever it is asked from.
    pub database_id: String,
    /// Settings that pages show, besides those here: servers with others do not share pages.
    pub shown_settings: String,
    /// Reading connections.
    pub connections: u32,
    /// How long a read may take.
    pub longest_read: Duration,
    /// What the cache may hold, in bytes.
    pub cache_bytes: u64,
    /// Requests a second of one client; 0 = any number.
    pub rate_limit: u32,
    /// Data older than this is shown as stale.
    pub stale_after: Duration,
    pub budgets: Budgets,
}

type BudgetOf = dyn Fn(&mut Connection, &str) -> Result<Option<Budget>, DbError> + Send + Sync;

/// What the month allows a source, by the name its data is stored under; `None` where no vendor is behind it.
/// The settings know the limits, the database what was used.
#[derive(Clone)]
pub struct Budgets(Arc<BudgetOf>);

impl Budgets {
    pub fn new(
        of: impl Fn(&mut Connection, &str) -> Result<Option<Budget>, DbError> + Send + Sync + 'static,
    ) -> Budgets {
        Budgets(Arc::new(of))
    }

    pub fn of(&self, conn: &mut Connection, source: &str) -> Result<Option<Budget>, DbError> {
        (self.0)(conn, source)
    }
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Budgets")
    }
}

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("REDIS_URL is not usable ({0}); use redis://host:6379, or leave it out for a cache in the process")]
    RedisUrl(String),
}

/// Connections for what must not wait.
const URGENT: u32 = 2;

/// Cheap to clone: all of it is shared.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    options: Options,
    reader: Reader,
    urgent: Reader,
    front: Front,
    cache: Cache,
    figures: Figures,
    catalogues: Catalogues,
    market: market::Shared,
    stopping: tokio::sync::watch::Sender<bool>,
}

impl State {
    pub async fn new(options: Options) -> Result<State, StartError> {
        let reader = Reader::new(&options, options.connections);
        // A look at the version must not stand in line behind slow reads: cached answers wait for it.
        let urgent = Reader::new(&options, URGENT);
        let cache = Cache::new(&options, reader.clone(), urgent.clone()).await?;
        let (stopping, _) = tokio::sync::watch::channel(false);
        let (figures, catalogues, market) = (Figures::new(), Catalogues::default(), market::Shared::default());
        Ok(State(Arc::new(Inner {
            options,
            reader,
            urgent,
            front: Front::default(),
            cache,
            figures,
            catalogues,
            market,
            stopping,
        })))
    }

    /// Ends what would go on for ever, such as streams of events.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Turns true when the server stops.
    pub fn stopping(&self) -> tokio::sync::watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The source that a request is about: the one it names, or the one that is meant.
    pub fn source(&self, conn: &mut Connection, named: Option<&str>) -> Result<String, ApiError> {
        match named {
            Some(named) => Ok(named.to_owned()),
            None => Ok(assets::meant_source(conn, &self.0.options.sources)?),
        }
    }

    /// The same, asked of the database once for a version of the data.
    pub fn source_at(&self, conn: &mut Connection, version: Version, named: Option<&str>) -> Result<String, ApiError> {
        match named {
            Some(named) => Ok(named.to_owned()),
            None => Ok(self.0.catalogues.meant_source(conn, version, &self.0.options.sources)?),
        }
    }

    /// All coins with their newest prices, as of the version that a connection sees: read once for all.
    pub fn market(&self, conn: &mut Connection, version: Version) -> Result<Arc<Market>, ApiError> {
        Ok(self.0.market.get(conn, version)?)
    }

    pub fn reader(&self) -> &Reader {
        &self.0.reader
    }

    pub(super) fn front(&self) -> &Front {
        &self.0.front
    }

    /// For what takes no time and must not wait: the version, the health.
    pub fn urgent(&self) -> &Reader {
        &self.0.urgent
    }

    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// An answer by its key: from the cache where it is that of the newest data, else by `work`. The key
    /// names the path and every parameter in one spelling; asked for by many at once, `work` runs once.
    pub async fn answer<F>(&self, key: String, work: F) -> Result<Arc<Answer>, ApiError>
    where
        F: Fn(&mut Connection) -> Result<Draft, ApiError> + Send + Sync + 'static,
    {
        self.answer_at(key, move |conn, _| work(conn)).await
    }

    /// The same for a read that uses what is kept under the version of the data.
    pub async fn answer_at<F>(&self, key: String, work: F) -> Result<Arc<Answer>, ApiError>
    where
        F: Fn(&mut Connection, Version) -> Result<Draft, ApiError> + Send + Sync + 'static,
    {
        self.0.cache.answer(key, work).await
    }

    /// The same as the HTTP answer to a request with these headers.
    pub async fn reply<F>(&self, headers: &HeaderMap, key: String, work: F) -> Result<Response, ApiError>
    where
        F: Fn(&mut Connection, Version) -> Result<Draft, ApiError> + Send + Sync + 'static,
    {
        Ok(self.answer_at(key, work).await?.response(headers).await)
    }

    /// The coins of a source, as of this version of the data: read once for all who ask.
    pub fn coins(&self, conn: &mut Connection, version: Version, source: &str) -> Result<Arc<Coins>, ApiError> {
        Ok(self.0.catalogues.get(conn, version, source)?)
    }
}

/// Reads the database off the async threads.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
    /// Waited for without a thread.
    turns: Arc<tokio::sync::Semaphore>,
}

impl Reader {
    fn new(options: &Options, connections: u32) -> Reader {
        Reader {
            pool: Pool::new(&options.database_url, connections, options.longest_read),
            turns: Arc::new(tokio::sync::Semaphore::new(connections as usize)),
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs a read on a snapshot, on a thread that may block.
    pub async fn read<T, F>(&self, work: F) -> Result<crate::db::pool::Seen<T>, ApiError>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> Result<T, ApiError> + Send + 'static,
    {
        self.read_at(move |conn, _| work(conn)).await
    }

    /// The same for a read that uses what is kept under the version of the data.
    pub async fn read_at<T, F>(&self, work: F) -> Result<crate::db::pool::Seen<T>, ApiError>
    where
        T: Send + 'static,
        F: Fn(&mut Connection, Version) -> Result<T, ApiError> + Send + 'static,
    {
        const PATIENCE: Duration = Duration::from_secs(5);
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(turn)) = turn else { return Err(ApiError::Busy) };
        let pool = self.pool.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            pool.read_at(work)
        });
        // A panic was logged where it happened.
        read.await.unwrap_or(Err(ApiError::Broken))
    }
}
