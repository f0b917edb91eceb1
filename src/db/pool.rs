//! Read-only connections, kept open and shared by those who ask at the same time.
//!
//! Each read sees one snapshot of the database, and the version of the data in it (`version`), so
//! that answers of different moments can be told apart. A connection that the server dropped is
//! replaced, and the read tried again: reading twice changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::r2d2::{self, ManageConnection};

use super::conn::{Absent, Connection, Opened, open};
use super::error::{DbError, Doing};
use super::sqlite_raw::RawSqlite;
use super::url::{Backend, DatabaseUrl};
use super::version::{self, Version};

/// How long a read may wait for a connection, and for the server to take a new one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often somebody who waits for a connection looks whether one can come at all.
const LOOK: Duration = Duration::from_millis(50);

/// A pool of reading connections. Clones share it.
#[derive(Clone)]
pub struct Pool {
    url: DatabaseUrl,
    refused: Refused,
    connections: r2d2::Pool<Manager>,
    version: Arc<version::Reader>,
}

/// What a read returned, and the version of the data it saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen<T> {
    pub value: T,
    pub version: Version,
}

impl Pool {
    /// Up to `size` connections, each read of which may take `longest`. Opens none yet.
    pub fn new(url: &DatabaseUrl, size: u32, longest: Duration) -> Pool {
        let refused = Refused::default();
        let manager = Manager { url: url.clone(), longest, refused: refused.clone() };
        let connections = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .connection_timeout(PATIENCE)
            // A broken one shows itself by the read, which is tried again.
            .test_on_check_out(false)
            .error_handler(Box::new(Quiet))
            .build_unchecked(manager);
        Pool { url: url.clone(), refused, connections, version: Arc::default() }
    }

    pub fn backend(&self) -> Backend {
        self.url.backend()
    }

    /// Runs a read on a snapshot. Blocks: call it from a thread that may.
    pub fn read<T, E: From<DbError> + MaybeDb>(
        &self,
        work: impl Fn(&mut Connection) -> Result<T, E>,
    ) -> Result<Seen<T>, E> {
        self.read_at(|conn, _| work(conn))
    }

    /// The same for a read that keeps something under the version of the data.
    pub fn read_at<T, E: From<DbError> + MaybeDb>(
        &self,
        work: impl Fn(&mut Connection, Version) -> Result<T, E>,
    ) -> Result<Seen<T>, E> {
        // After a restart of the server every connection of the pool may be broken.
        let mut tries = self.connections.max_size() + 1;
        loop {
            tries -= 1;
            let mut reading = self.connection()?;
            match self.version.read(&mut reading, &work) {
                Err(err) if err.is_gone() => {
                    reading.broken = true;
                    if tries == 0 {
                        return Err(err);
                    }
                }
                ended => return ended,
            }
        }
    }

    /// The version of the data now.
    pub fn version(&self) -> Result<Version, DbError> {
        self.read(|_| Ok::<_, DbError>(())).map(|seen| seen.version)
    }

    /// An idle connection or a new one. The pool itself would wait for as long as it may, also for a server that refuses
    /// every connection: under load all who ask would stand in line for an answer that is known.
    fn connection(&self) -> Result<r2d2::PooledConnection<Manager>, DbError> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(reading) = self.connections.get_timeout(LOOK) {
                return Ok(reading);
            }
            let refused = self.refused.newest();
            // While others hold a connection, theirs may be given back.
            let is_hopeless = refused.is_some() && self.connections.state().connections == 0;
            if is_hopeless || Instant::now() >= until {
                let why = refused.unwrap_or_else(|| "no connection became free in time".to_owned());
                return Err(DbError::Unreachable { url: self.url.to_string(), why });
            }
        }
    }
}

/// Errors that may be those of a lost connection.
pub trait MaybeDb {
    fn is_gone(&self) -> bool;
}

impl MaybeDb for DbError {
    fn is_gone(&self) -> bool {
        matches!(self, DbError::Gone(_))
    }
}

/// Why the newest try to connect failed, until one succeeds. The pool goes on trying by itself.
#[derive(Debug, Clone, Default)]
struct Refused(Arc<Mutex<Option<String>>>);

impl Refused {
    fn newest(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Opens connections for the pool.
#[derive(Clone)]
struct Manager {
    url: DatabaseUrl,
    longest: Duration,
    refused: Refused,
}

impl Manager {
    fn open(&self) -> Result<Reading, DbError> {
        let Opened { raw, mut conn } = open(&self.url, Absent::Fail)?;
        let (ms, seconds) = (self.longest.as_millis(), self.longest.as_secs_f64());
        let doing = "preparing the connection";
        match conn.backend() {
            Backend::Sqlite => conn.batch_execute("PRAGMA query_only = ON").doing(doing)?,
            Backend::Mysql => {
                conn.batch_execute("SET SESSION TRANSACTION READ ONLY").doing(doing)?;
                // MariaDB's name of it, and MySQL's.
                if conn.batch_execute(&format!("SET max_statement_time = {seconds}")).is_err() {
                    let _ = conn.batch_execute(&format!("SET max_execution_time = {ms}"));
                }
            }
            Backend::Postgres => conn
                .batch_execute(&format!("SET default_transaction_read_only = on; SET statement_timeout = {ms}"))
                .doing(doing)?,
        }
        Ok(Reading { raw, conn, longest: self.longest, broken: false })
    }
}

/// An open connection that can't write.
pub struct Reading {
    // Before `conn`: see `RawSqlite`.
    raw: Option<RawSqlite>,
    pub(super) conn: Connection,
    longest: Duration,
    broken: bool,
}

impl Reading {
    /// Begins a snapshot. Until it is ended the connection counts as broken: one that a panic gives back in the
    /// midst of a transaction would show its old snapshot for ever.
    pub(super) fn begin(&mut self) -> Result<(), DbError> {
        self.broken = true;
        if let Some(raw) = &self.raw {
            let end = Instant::now() + self.longest;
            // Every some thousand steps of SQLite's machine: not to be seen in the time of a read.
            let _ = raw.connection().progress_handler(10_000, Some(move || Instant::now() > end));
        }
        self.conn
            .batch_execute(match self.conn.backend() {
                Backend::Sqlite => "BEGIN",
                Backend::Mysql => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
                Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            })
            .doing("beginning to read")
    }

    /// Ends it. One that can't be ended is not used again.
    pub(super) fn end(&mut self) {
        self.broken = self.conn.batch_execute("ROLLBACK").is_err();
    }
}

impl ManageConnection for Manager {
    type Connection = Reading;
    type Error = DbError;

    fn connect(&self) -> Result<Reading, DbError> {
        let opened = self.open();
        self.refused.set(opened.as_ref().err().map(|err| match err {
            DbError::Unreachable { why, .. } => why.clone(),
            other => other.to_string(),
        }));
        opened
    }

    fn is_valid(&self, reading: &mut Reading) -> Result<(), DbError> {
        reading.conn.batch_execute("SELECT 1").doing("trying the connection")
    }

    fn has_broken(&self, reading: &mut Reading) -> bool {
        reading.broken
    }
}

/// The pool's own log repeats what the failed read tells.
#[derive(Debug)]
struct Quiet;

impl r2d2::HandleError<DbError> for Quiet {
    fn handle_error(&self, err: DbError) {
        log::debug!("a reading connection failed: {err}");
    }
}
