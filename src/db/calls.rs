//! When the next call to a vendor may start, for all commands and hosts that share the database.
//!
//! `call_slots` holds the time of the newest slot of each API. A caller takes the slot one interval
//! later by compare-and-swap, at most one interval ahead of now, and sends when it comes: calls
//! are never closer than the interval, and time spent on a slow answer is not lost.

use std::time::{Duration, Instant};

use diesel::sql_types::BigInt;

use super::accounts::Guard;
use super::conn::Connection;
use super::error::DbError;
use super::lease::Lease;
use super::runs;
use super::sql::sql;
use super::transaction::transaction;
use super::url::Backend;
use crate::domain::{Budget, Cost};

/// Slots are this much further apart than the limit says, so that jitter on the way does not make
/// two calls too close for the vendor. The wall time stays within 2 %.
const MARGIN: f64 = 1.01;

/// What to pace and what to count for.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Whom the limit belongs to: the API's host.
    pub api: String,
    /// `None` = no limit.
    pub interval: Option<Duration>,
    pub run_id: i64,
    /// A run that only reads holds none.
    pub lease: Option<Lease>,
    /// What the month allows; `None` = no limit.
    pub guard: Option<Guard>,
}

pub fn interval(calls_per_minute: u32) -> Option<Duration> {
    (calls_per_minute > 0).then(|| Duration::from_secs_f64(60.0 / f64::from(calls_per_minute) * MARGIN))
}

/// The answer to "may I?".
#[derive(Debug)]
pub enum Step {
    /// Counted: send at this moment.
    Go(Instant),
    /// Ask again at this moment, with `seen` in hand.
    Wait { until: Instant, seen: i64 },
    /// Not this month: it stands so.
    Over(Budget),
}

#[derive(diesel::QueryableByName)]
struct Slot {
    #[diesel(sql_type = BigInt)]
    last_call_us: i64,
    #[diesel(sql_type = BigInt)]
    now_us: i64,
}

/// Takes the next slot and counts what it costs, in one transaction. `seen` is the newest slot that was
/// in the way a whole interval ago: if it still is, the clock was set back and it means nothing.
pub fn claim(conn: &mut Connection, turn: &Turn, cost: Cost, seen: Option<i64>) -> Result<Step, DbError> {
    transaction(conn, |conn| {
        // First a write, so that SQLite's lock is taken before anything is read.
        match &turn.lease {
            Some(lease) => lease.confirm(conn)?,
            None => runs::touch(conn, turn.run_id)?,
        }
        if let Some(guard) = &turn.guard {
            let budget = guard.budget(conn)?;
            if !budget.allows(cost.credits) {
                return Ok(Step::Over(budget));
            }
        }
        let start = match turn.interval {
            None => Instant::now(),
            Some(interval) => match take_slot(conn, &turn.api, interval, seen)? {
                Step::Go(start) => start,
                wait => return Ok(wait),
            },
        };
        if !runs::count_calls(conn, turn.run_id, cost)?
            && let Some(lease) = &turn.lease
        {
            return Err(lease.lost());
        }
        Ok(Step::Go(start))
    })
}

fn take_slot(conn: &mut Connection, api: &str, interval: Duration, seen: Option<i64>) -> Result<Step, DbError> {
    let interval_us = interval.as_micros() as i64;
    let (slot, read_at) = newest(conn, api)?;
    let Some(Slot { last_call_us, now_us }) = slot else {
        let taken = first_slot(conn, api)?;
        return Ok(if taken { Step::Go(read_at) } else { Step::Wait { until: read_at, seen: 0 } });
    };
    let due_us = last_call_us + interval_us;
    let ahead_us = due_us - now_us;
    let from_a_later_clock = ahead_us > interval_us && seen == Some(last_call_us);
    if ahead_us > interval_us && !from_a_later_clock {
        // Others are queueing, or the clock was set back: look again in a while.
        let pause = Duration::from_micros((ahead_us - interval_us).min(interval_us) as u64);
        return Ok(Step::Wait { until: read_at + pause, seen: last_call_us });
    }
    let slot_us = if ahead_us <= 0 || from_a_later_clock { now_us } else { due_us };
    let taken = sql("UPDATE call_slots SET last_call_us = ? WHERE api = ? AND last_call_us = ?")
        .bind(slot_us)
        .bind(api)
        .bind(last_call_us)
        .execute(conn, "taking a call slot")?;
    if taken != 1 {
        return Ok(Step::Wait { until: read_at, seen: 0 });
    }
    Ok(Step::Go(read_at + Duration::from_micros((slot_us - now_us).max(0) as u64)))
}

/// False when another process was faster.
fn first_slot(conn: &mut Connection, api: &str) -> Result<bool, DbError> {
    let backend = conn.backend();
    let (verb, tail) = match backend {
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Sqlite | Backend::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
    };
    let insert = format!("{verb} INTO call_slots (api, last_call_us) VALUES (?, {}){tail}", backend.now_us());
    Ok(sql(insert).bind(api).execute(conn, "taking the first call slot")? == 1)
}

fn newest(conn: &mut Connection, api: &str) -> Result<(Option<Slot>, Instant), DbError> {
    let backend = conn.backend();
    let read = format!(
        "SELECT last_call_us, {} AS now_us FROM call_slots WHERE api = ?{}",
        backend.now_us(),
        backend.for_update()
    );
    let slot = sql(read).bind(api).first::<Slot>(conn, "reading the call slots")?;
    Ok((slot, Instant::now()))
}

/// Gives back the slot of a call that turned out to need none (a sandbox has no limit).
pub fn forget(conn: &mut Connection, api: &str) -> Result<(), DbError> {
    sql("DELETE FROM call_slots WHERE api = ?").bind(api).execute(conn, "giving back a call slot").map(|_| ())
}
