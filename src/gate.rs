//! Every call to a vendor passes here: paced and counted in the database before it is sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt};

use crate::db::accounts::Guard;
use crate::db::calls::{self, Step, Turn};
use crate::db::lease::{HEARTBEAT, Lease};
use crate::db::session::CONFLICT_PATIENCE;
use crate::db::{Connection, DbError, Shared, runs};
use crate::domain::{Budget, Cost};
use crate::sources::http::Gate;

/// A gate on a database connection of its own, so that a call does not wait for its turn in the
/// queue of batches; at most for the one that is being written.
pub struct DbGate {
    control: Shared<Connection>,
    turn: Mutex<Turn>,
    /// First come, first served within this process.
    queue: tokio::sync::Mutex<()>,
    calls: AtomicI64,
    credits: AtomicI64,
    till: Arc<Till>,
}

/// What was counted in the database beforehand. Shared with the thread that counts, which goes on when
/// nobody waits for it any more.
#[derive(Default)]
struct Till {
    /// Calls counted and not made yet, by the credits counted for each.
    prepaid: Mutex<BTreeMap<i64, i64>>,
    /// Nothing more is counted.
    closed: AtomicBool,
}

impl Till {
    fn holds(&self, credits: i64) -> bool {
        lock(&self.prepaid).get(&credits).is_some_and(|calls| *calls > 0)
    }

    fn add(&self, credits: i64, calls: i64) {
        *lock(&self.prepaid).entry(credits).or_default() += calls;
    }
}

/// Where nothing is paced, calls are counted so many at a time: a transaction for each would take
/// longer than the call. What is left over is taken back at the end; a run that is killed has
/// counted a few calls too many, never too few.
const PREPAY: i64 = 16;

/// A call that the month's budget does not allow.
#[derive(Debug, thiserror::Error)]
#[error(
    "the month's budget is spent: {wanted} more credit(s) are needed and {left} of {limit} are left; it can go on at \
     {until} UTC, or with a larger COINETL_CREDITS_PER_MONTH (0 = no limit) or plan"
)]
pub struct OverBudget {
    pub wanted: i64,
    pub left: i64,
    pub limit: i64,
    /// To the minute.
    pub until: String,
}

impl OverBudget {
    /// Why a budget does not allow a cost; `None` if it does.
    pub fn check(budget: &Budget, credits: i64) -> Option<OverBudget> {
        (!budget.allows(credits)).then(|| OverBudget::new(budget, credits))
    }

    fn new(budget: &Budget, wanted: i64) -> OverBudget {
        let (limit, left) = (budget.limit.unwrap_or_default(), budget.left().unwrap_or_default());
        OverBudget { wanted, left, limit, until: budget.resets_at.to_string()[..16].to_owned() }
    }
}

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// What a source turned out to be free of.
#[derive(Debug, Clone, Copy)]
pub struct Free {
    pub of_pace: bool,
    pub of_budget: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DbGate {
    pub fn new(control: Shared<Connection>, turn: Turn) -> Self {
        DbGate {
            control,
            turn: Mutex::new(turn),
            queue: tokio::sync::Mutex::new(()),
            calls: AtomicI64::new(0),
            credits: AtomicI64::new(0),
            till: Arc::default(),
        }
    }

    /// Calls let through so far, and what they cost.
    pub fn spent(&self) -> Cost {
        Cost { calls: self.calls.load(Ordering::Relaxed), credits: self.credits.load(Ordering::Relaxed) }
    }

    /// Ends the counting: what was counted in the database for calls that were not made.
    pub async fn close(&self) -> Cost {
        self.till.closed.store(true, Ordering::SeqCst);
        // Whoever is counting at this moment comes to an end first.
        self.control.run(|_| ()).await;
        let prepaid = lock(&self.till.prepaid);
        prepaid
            .iter()
            .fold(Cost::default(), |sum, (credits, calls)| sum + Cost { calls: 1, credits: *credits } * *calls)
    }

    /// No call may go beyond this month's limit.
    pub fn keep_within(&self, guard: Option<Guard>) {
        lock(&self.turn).guard = guard;
    }

    fn turn(&self) -> Turn {
        lock(&self.turn).clone()
    }

    /// Another lease; and without the limits that the source turned out not to have.
    pub async fn relabel(&self, lease: Lease, free: Free) -> Result<(), DbError> {
        let api = {
            let mut turn = lock(&self.turn);
            turn.lease = Some(lease);
            let had_limit = turn.interval.is_some();
            if free.of_budget {
                turn.guard = None;
            }
            if free.of_pace {
                turn.interval = None;
            }
            (free.of_pace && had_limit).then(|| turn.api.clone())
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
            let Some(lease) = self.turn().lease else { continue };
            // A lease that is gone may just have been given back for another one, which wants signs
            // of life too. If it is lost, the next call or batch finds out.
            if let Err(err) = self.control.run(move |conn| lease.confirm(conn)).await {
                log::debug!("no sign of life could be given: {err}");
            }
        }
    }

    async fn pass(&self, credits: i64) -> Result<(), BoxedError> {
        let _first_come = self.queue.lock().await;
        if self.till.holds(credits) && self.turn().interval.is_none() {
            self.take_prepaid(credits);
            return Ok(());
        }
        let (mut seen, mut asked) = (None, Instant::now());
        loop {
            let (turn, before) = (self.turn(), seen);
            let count = match turn.interval {
                // A dear call is counted alone, so that what a killed run counted too much stays small; and
                // so is each where the month has a limit.
                None if credits > 1 || turn.guard.is_some() => 1,
                None => PREPAY,
                // A call that was given back still has to wait for its turn.
                Some(_) => i64::from(!self.till.holds(credits)),
            };
            let cost = Cost { calls: 1, credits } * count;
            let till = self.till.clone();
            let claimed = self.control.run(move |conn| {
                if till.closed.load(Ordering::SeqCst) {
                    let why = "the run is over".to_owned();
                    return Err(DbError::Query { doing: "counting a call", why });
                }
                let step = calls::claim(conn, &turn, cost, before)?;
                if matches!(step, Step::Go(_)) {
                    till.add(credits, count);
                }
                Ok(step)
            });
            let start = match claimed.await {
                Ok(Step::Go(start)) => start,
                Ok(Step::Wait { until, seen: slot }) => {
                    seen = Some(slot);
                    tokio::time::sleep_until(until.into()).await;
                    asked = Instant::now();
                    continue;
                }
                Ok(Step::Over(budget)) => return Err(OverBudget::new(&budget, credits).into()),
                // Another host was writing at this moment.
                Err(DbError::Locked(why)) if asked.elapsed() < CONFLICT_PATIENCE => {
                    log::debug!("call slot: {why}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
                Err(err) => return Err(err.into()),
            };
            self.take_prepaid(credits);
            tokio::time::sleep_until(start.into()).await;
            return Ok(());
        }
    }

    fn take_prepaid(&self, credits: i64) {
        self.till.add(credits, -1);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.credits.fetch_add(credits, Ordering::Relaxed);
    }

    /// Puts right what was counted for a call before it was sent.
    async fn correct(&self, credits: i64) -> Result<(), DbError> {
        self.credits.fetch_add(credits, Ordering::Relaxed);
        let asked = Instant::now();
        loop {
            let run_id = self.turn().run_id;
            match self.control.run(move |conn| runs::count_calls(conn, run_id, Cost { calls: 0, credits })).await {
                Err(DbError::Locked(why)) if asked.elapsed() < CONFLICT_PATIENCE => {
                    log::debug!("credits of a call: {why}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                other => return other.map(|_| ()),
            }
        }
    }
}

impl Gate for DbGate {
    fn admit(&self, credits: i64) -> BoxFuture<'_, Result<(), BoxedError>> {
        self.pass(credits).boxed()
    }

    fn give_back(&self, credits: i64) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.credits.fetch_sub(credits, Ordering::Relaxed);
        self.till.add(credits, 1);
    }

    fn settle(&self, counted: i64, charged: i64) -> BoxFuture<'_, Result<(), BoxedError>> {
        async move { self.correct(charged - counted).await.map_err(Into::into) }.boxed()
    }
}
