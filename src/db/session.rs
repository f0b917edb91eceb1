//! A run's writing connection: every batch is one transaction of lease, rows and the run's counts.

use std::time::{Duration, Instant};

use super::conn::{Connection, Opened};
use super::error::DbError;
use super::lease::{self, HEARTBEAT, Lease};
use super::runs::{self, Status, Tally};
use super::sqlite_raw::RawSqlite;
use super::transaction::transaction;
use crate::domain::Cost;

/// What met another writer is tried again this often, and no longer than this.
const MAX_CONFLICTS: u32 = 5;
pub const CONFLICT_PATIENCE: Duration = Duration::from_secs(25);

pub struct Session {
    // Before `conn`: see `RawSqlite`.
    raw: Option<RawSqlite>,
    conn: Connection,
    lease: Lease,
    run_id: i64,
    tally: Tally,
}

/// What a batch works with.
pub struct Batch<'a> {
    pub conn: &'a mut Connection,
    pub raw: Option<&'a RawSqlite>,
    pub run_id: i64,
    pub tally: &'a mut Tally,
}

impl Session {
    /// Takes the lease and begins a run.
    pub fn begin(opened: Opened, command: &str, source: &str, wait: Duration) -> Result<Self, DbError> {
        let Opened { raw, mut conn } = opened;
        let lease = patiently(|| lease::acquire(&mut conn, command, source, wait))?;
        let begun = patiently(|| {
            transaction(&mut conn, |conn| {
                let run_id = runs::begin(conn, command, source)?;
                runs::bury_dead(conn, command, source, run_id)?;
                lease.set_run(conn, run_id)?;
                Ok(run_id)
            })
        });
        match begun {
            Ok(run_id) => Ok(Session { raw, conn, lease, run_id, tally: Tally::default() }),
            Err(err) => {
                // Nobody should wait 15 s for a run that never was.
                let _ = lease.release(&mut conn);
                Err(err)
            }
        }
    }

    pub fn run_id(&self) -> i64 {
        self.run_id
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    pub fn source(&self) -> &str {
        &self.lease.source
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// For reads between batches.
    pub fn conn(&mut self) -> &mut Connection {
        &mut self.conn
    }

    /// The source turned out to be another (a sandbox behind a configured address): its lease is
    /// taken, ours given back, and the run renamed.
    pub fn relabel(&mut self, source: &str, wait: Duration) -> Result<(), DbError> {
        if source == self.lease.source {
            return Ok(());
        }
        let lease = patiently(|| lease::acquire(&mut self.conn, &self.lease.command, source, wait))?;
        let (run_id, old) = (self.run_id, self.lease.clone());
        patiently(|| {
            transaction(&mut self.conn, |conn| {
                old.confirm(conn)?;
                runs::relabel(conn, run_id, source)?;
                runs::bury_dead(conn, &lease.command, source, run_id)?;
                lease.set_run(conn, run_id)?;
                old.release(conn)
            })
        })?;
        self.lease = lease;
        Ok(())
    }

    /// Writes one batch: `work`'s rows and the counts it adds, or nothing at all.
    pub fn batch<R>(&mut self, mut work: impl FnMut(&mut Batch<'_>) -> Result<R, DbError>) -> Result<R, DbError> {
        let (raw, lease, run_id, before) = (self.raw.as_ref(), &self.lease, self.run_id, self.tally);
        let (tally, result) = patiently(|| {
            let (mut tally, begun) = (before, Instant::now());
            transaction(&mut self.conn, |conn| {
                lease.confirm(conn)?;
                let result = work(&mut Batch { conn, raw, run_id, tally: &mut tally })?;
                runs::save_tally(conn, run_id, &tally)?;
                if begun.elapsed() > HEARTBEAT {
                    // The row was locked all the while, for our own signs of life too.
                    lease.confirm(conn)?;
                }
                Ok(result)
            })
            .map(|result| (tally, result))
        })?;
        self.tally = tally;
        Ok(result)
    }

    /// Goes on with another connection, in place of one that was lost.
    pub fn reopen(&mut self, opened: Opened) {
        let Opened { raw, conn } = opened;
        // The prepared statements of the old one first.
        self.raw = None;
        self.conn = conn;
        self.raw = raw;
    }

    /// Ends the run, takes back calls that were counted and not made, and gives back the lease.
    /// Calls and credits of the whole run.
    pub fn finish(&mut self, status: Status, error: Option<&str>, unmade: Cost) -> Result<Cost, DbError> {
        let (lease, run_id) = (&self.lease, self.run_id);
        patiently(|| {
            transaction(&mut self.conn, |conn| {
                lease.confirm(conn)?;
                runs::count_calls(conn, run_id, unmade * -1)?;
                runs::finish(conn, run_id, status, error)?;
                lease.release(conn)?;
                runs::spent(conn, run_id)
            })
        })
    }
}

/// Tries again what met another writer, and left nothing behind.
fn patiently<R>(mut attempt: impl FnMut() -> Result<R, DbError>) -> Result<R, DbError> {
    let (mut conflicts, started) = (0, Instant::now());
    loop {
        match attempt() {
            Err(err) if err.is_conflict() && conflicts < MAX_CONFLICTS && started.elapsed() < CONFLICT_PATIENCE => {
                conflicts += 1;
                log::debug!("another writer was in the way ({err}), trying again");
                std::thread::sleep(Duration::from_millis(50 << conflicts));
            }
            done => return done,
        }
    }
}
