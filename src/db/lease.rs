//! One run of a command and source at a time, on any number of hosts.
//!
//! The owner writes a sign of life every 3 s, by the database's clock. 15 s without one, and the
//! next comer takes over with a new token; each batch of the old owner proves its token inside its
//! own transaction, so what a sleeper had in hand is refused, not doubled.

use std::time::{Duration, Instant};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use diesel::sql_types::{BigInt, Text};

pub const HEARTBEAT: Duration = Duration::from_secs(3);
const DEAD_AFTER_US: i64 = 15_000_000;
/// A sign of life this far in the future was written before the clock was set back.
const CLOCK_SLACK_US: i64 = 1_000_000;
const POLL: Duration = Duration::from_millis(500);

/// A held lease: who we are to the batches of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub command: String,
    pub source: String,
    token: String,
}

#[derive(diesel::QueryableByName)]
struct Held {
    #[diesel(sql_type = Text)]
    token: String,
    #[diesel(sql_type = BigInt)]
    heartbeat_us: i64,
    #[diesel(sql_type = BigInt)]
    now_us: i64,
}

enum Attempt {
    Got(Lease),
    /// Held; microseconds since the last sign of life, negative when that lies in the future.
    Busy {
        token: String,
        heartbeat_us: i64,
        age_us: i64,
    },
}

/// Takes the lease of (command, source), waiting up to `wait` for another owner to finish.
pub fn acquire(conn: &mut Connection, command: &str, source: &str, wait: Duration) -> Result<Lease, DbError> {
    let token = format!("{:032x}", rand::random::<u128>());
    let started = Instant::now();
    // A heartbeat in the future says nothing by its age: whether it moves tells a live owner.
    let mut future: Option<(String, i64, Instant)> = None;
    loop {
        let seen_dead = future
            .as_ref()
            .filter(|(_, _, since)| since.elapsed() > HEARTBEAT + Duration::from_secs(1))
            .map(|(token, heartbeat_us, _)| (token.clone(), *heartbeat_us));
        let (held_token, heartbeat_us, age_us) = match attempt(conn, command, source, &token, seen_dead)? {
            Attempt::Got(lease) => return Ok(lease),
            Attempt::Busy { token, heartbeat_us, age_us } => (token, heartbeat_us, age_us),
        };
        if age_us < -CLOCK_SLACK_US {
            match &future {
                Some((token, us, _)) if *token == held_token && *us == heartbeat_us => {}
                Some(_) if started.elapsed() >= wait => return Err(held(command, source, age_us)),
                _ => future = Some((held_token, heartbeat_us, Instant::now())),
            }
        } else {
            future = None;
            if started.elapsed() >= wait {
                return Err(held(command, source, age_us));
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Whether a run of this command is at it, for whatever source.
pub fn is_at_work(conn: &mut Connection, command: &str) -> Result<bool, DbError> {
    is_at_work_but(conn, command, "")
}

/// The same but for who holds this lease.
pub fn is_another_at_work(conn: &mut Connection, lease: &Lease) -> Result<bool, DbError> {
    is_at_work_but(conn, &lease.command, &lease.token)
}

fn is_at_work_but(conn: &mut Connection, command: &str, token: &str) -> Result<bool, DbError> {
    let read = format!(
        "SELECT token, heartbeat_us, {} AS now_us FROM leases WHERE command = ? AND token <> ?",
        conn.backend().now_us()
    );
    let held = sql(read).bind(command).bind(token).load::<Held>(conn, "looking for a run")?;
    Ok(held.iter().any(|held| held.now_us - held.heartbeat_us < DEAD_AFTER_US))
}

fn held(command: &str, source: &str, age_us: i64) -> DbError {
    DbError::LeaseHeld { command: command.into(), source_name: source.into(), age: (age_us / 1_000_000).max(0) }
}

fn attempt(
    conn: &mut Connection,
    command: &str,
    source: &str,
    token: &str,
    seen_dead: Option<(String, i64)>,
) -> Result<Attempt, DbError> {
    let backend = conn.backend();
    let mine = || Lease { command: command.to_owned(), source: source.to_owned(), token: token.to_owned() };
    let read = format!(
        "SELECT token, heartbeat_us, {} AS now_us FROM leases WHERE command = ? AND source = ?",
        backend.now_us()
    );
    let Some(held) = sql(read).bind(command).bind(source).first::<Held>(conn, "reading the lease")? else {
        let insert =
            format!("INSERT INTO leases (command, source, token, heartbeat_us) VALUES (?, ?, ?, {})", backend.now_us());
        return match sql(insert).bind(command).bind(source).bind(token).execute(conn, "taking the lease") {
            Ok(_) => Ok(Attempt::Got(mine())),
            // Another process was faster: it is alive.
            Err(DbError::Duplicate(_)) => Ok(Attempt::Busy { token: String::new(), heartbeat_us: 0, age_us: 0 }),
            Err(err) => Err(err),
        };
    };
    let age_us = held.now_us - held.heartbeat_us;
    let dead = age_us >= DEAD_AFTER_US
        || seen_dead.is_some_and(|(token, heartbeat_us)| token == held.token && heartbeat_us == held.heartbeat_us);
    if dead {
        // Only if nobody else was faster and the owner did not come back to life.
        let take = format!(
            "UPDATE leases SET token = ?, run_id = NULL, heartbeat_us = {} \
             WHERE command = ? AND source = ? AND token = ? AND heartbeat_us = ?",
            backend.now_us()
        );
        let taken = sql(take)
            .bind(token)
            .bind(command)
            .bind(source)
            .bind(held.token.as_str())
            .bind(held.heartbeat_us)
            .execute(conn, "taking over the lease");
        match taken {
            Ok(1) => return Ok(Attempt::Got(mine())),
            // A stopped owner may still hold the row inside a transaction.
            Ok(_) | Err(DbError::Locked(_)) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(Attempt::Busy { token: held.token, heartbeat_us: held.heartbeat_us, age_us })
}

impl Lease {
    /// A sign of life; `LeaseLost` when another process took over. Inside a batch's transaction
    /// this is the fence: the row stays locked until that transaction ends.
    pub fn confirm(&self, conn: &mut Connection) -> Result<(), DbError> {
        let update = format!(
            "UPDATE leases SET heartbeat_us = {} WHERE command = ? AND source = ? AND token = ?",
            conn.backend().now_us()
        );
        let touched = sql(update)
            .bind(self.command.as_str())
            .bind(self.source.as_str())
            .bind(self.token.as_str())
            .execute(conn, "confirming the lease")?;
        if touched == 1 { Ok(()) } else { Err(self.lost()) }
    }

    pub fn set_run(&self, conn: &mut Connection, run_id: i64) -> Result<(), DbError> {
        sql("UPDATE leases SET run_id = ? WHERE command = ? AND source = ? AND token = ?")
            .bind(run_id)
            .bind(self.command.as_str())
            .bind(self.source.as_str())
            .bind(self.token.as_str())
            .execute(conn, "naming the run in the lease")
            .map(|_| ())
    }

    pub fn release(&self, conn: &mut Connection) -> Result<(), DbError> {
        sql("DELETE FROM leases WHERE command = ? AND source = ? AND token = ?")
            .bind(self.command.as_str())
            .bind(self.source.as_str())
            .bind(self.token.as_str())
            .execute(conn, "giving back the lease")
            .map(|_| ())
    }

    pub fn lost(&self) -> DbError {
        DbError::LeaseLost { command: self.command.clone(), source_name: self.source.clone() }
    }
}
