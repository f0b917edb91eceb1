//! Every call to a vendor passes here: paced and counted in the database before it is sent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt};

use crate::db::calls::{self, Step, Turn};
use crate::db::lease::{HEARTBEAT, Lease};
use crate::db::session::CONFLICT_PATIENCE;
use crate::db::{Connection, DbError, Shared};
use crate::sources::http::Gate;

/// A gate on a database connection of its own, so that a call does not wait for its turn in the
/// queue of batches; at most for the one that is being written.
pub struct DbGate {
    control: Shared<Connection>,
    turn: Mutex<Turn>,
    /// First come, first served within this process.
    queue: tokio::sync::Mutex<()>,
    calls: AtomicI64,
    /// Counted in the database and not used yet.
    prepaid: AtomicI64,
}

/// Where nothing is paced, calls are counted so many at a time: a transaction for each would take
/// longer than the call. What is left over is taken back at the end; a run that is killed has
/// counted a few calls too many, never too few.
const PREPAY: i64 = 16;

impl DbGate {
    pub fn new(control: Shared<Connection>, turn: Turn) -> Self {
        DbGate {
            control,
            turn: Mutex::new(turn),
            queue: tokio::sync::Mutex::new(()),
            calls: AtomicI64::new(0),
            prepaid: AtomicI64::new(0),
        }
    }

    /// Calls let through so far.
    pub fn calls(&self) -> i64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls counted in the database that were not made.
    pub fn prepaid(&self) -> i64 {
        self.prepaid.load(Ordering::Relaxed)
    }

    fn turn(&self) -> Turn {
        self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Another lease; and without a limit if the source turned out to have none.
    pub async fn relabel(&self, lease: Lease, unlimited: bool) -> Result<(), DbError> {
        let api = {
            let mut turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            turn.lease = lease;
            let had_limit = turn.interval.is_some();
            if unlimited {
                turn.interval = None;
            }
            (unlimited && had_limit).then(|| turn.api.clone())
        };
        match api {
            Some(api) => self.control.run(move |conn| calls::forget(conn, &api)).await,
            None => Ok(()),
        }
    }

    /// Gives signs of life until it is aborted.
    pub async fn keep_alive(&self) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let lease = self.turn().lease;
            // A lease that is gone may just have been given back for another one, which wants signs
            // of life too. If it is lost, the next call or batch finds out.
            if let Err(err) = self.control.run(move |conn| lease.confirm(conn)).await {
                log::debug!("no sign of life could be given: {err}");
            }
        }
    }

    async fn pass(&self) -> Result<(), DbError> {
        let _first_come = self.queue.lock().await;
        if self.prepaid() > 0 && self.turn().interval.is_none() {
            self.prepaid.fetch_sub(1, Ordering::Relaxed);
            self.calls.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let (mut seen, mut asked) = (None, Instant::now());
        loop {
            let (turn, before) = (self.turn(), seen);
            let count = match turn.interval {
                None => PREPAY,
                // A call that was given back still has to wait for its turn.
                Some(_) => i64::from(self.prepaid() == 0),
            };
            let start = match self.control.run(move |conn| calls::claim(conn, &turn, count, before)).await {
                Ok(Step::Go(start)) => start,
                Ok(Step::Wait { until, seen: slot }) => {
                    seen = Some(slot);
                    tokio::time::sleep_until(until.into()).await;
                    asked = Instant::now();
                    continue;
                }
                // Another host was writing at this moment.
                Err(DbError::Locked(why)) if asked.elapsed() < CONFLICT_PATIENCE => {
                    log::debug!("call slot: {why}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
                Err(err) => return Err(err),
            };
            self.prepaid.fetch_add(count - 1, Ordering::Relaxed);
            self.calls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep_until(start.into()).await;
            return Ok(());
        }
    }
}

impl Gate for DbGate {
    fn admit(&self) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        async move { self.pass().await.map_err(Into::into) }.boxed()
    }

    fn give_back(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.prepaid.fetch_add(1, Ordering::Relaxed);
    }
}
