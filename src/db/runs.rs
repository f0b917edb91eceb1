//! The table `runs`: one row for each execution of a command that writes.

use diesel::sql_types::{BigInt, Timestamp};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use super::url::Backend;
use crate::domain::{Cost, Stamp};

/// What a run did so far. `read = written + unchanged + rejected`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub read: i64,
    /// New and updated together.
    pub written: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub rejected: i64,
    /// Asked for, and the source sent nothing.
    pub absent: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Partial,
    Failed,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Partial => "partial",
            Status::Failed => "failed",
        }
    }
}

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Adds a running row and returns its id.
pub fn begin(conn: &mut Connection, command: &str, source: &str) -> Result<i64, DbError> {
    let backend = conn.backend();
    let insert =
        format!("INSERT INTO runs (command, source, started_at, status) VALUES (?, ?, {}, 'running')", backend.now());
    let doing = "recording the run";
    let number = match backend {
        // MySQL has no RETURNING.
        Backend::Mysql => {
            sql(insert).bind(command).bind(source).execute(conn, doing)?;
            sql("SELECT CAST(LAST_INSERT_ID() AS SIGNED) AS n").first::<Number>(conn, doing)?
        }
        Backend::Sqlite | Backend::Postgres => {
            sql(insert + " RETURNING id AS n").bind(command).bind(source).first::<Number>(conn, doing)?
        }
    };
    number.map(|row| row.n).ok_or(DbError::Query { doing, why: "no id came back".to_owned() })
}

/// When a run began, by the database's clock.
pub fn started_at(conn: &mut Connection, run_id: i64) -> Result<Stamp, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Started {
        #[diesel(sql_type = Timestamp)]
        started_at: chrono::NaiveDateTime,
    }
    let doing = "reading the run's time";
    let row = sql("SELECT started_at FROM runs WHERE id = ?").bind(run_id).first::<Started>(conn, doing)?;
    let started_at = row.and_then(|row| Stamp::from_datetime(row.started_at.and_utc()).ok());
    started_at.ok_or(DbError::Query { doing, why: "the run's row is gone".to_owned() })
}

/// Marks the runs of dead owners; only the holder of their lease may say so.
pub fn bury_dead(conn: &mut Connection, command: &str, source: &str, except: i64) -> Result<usize, DbError> {
    let update = format!(
        "UPDATE runs SET status = 'failed', finished_at = {}, \
         error = 'the process died; a later run went on' \
         WHERE command = ? AND source = ? AND status = 'running' AND id <> ?",
        conn.backend().now()
    );
    sql(update).bind(command).bind(source).bind(except).execute(conn, "marking dead runs")
}

/// Whether a run of a command ever ended with all it was asked for.
pub fn ended_well(conn: &mut Connection, command: &str, source: &str) -> Result<bool, DbError> {
    let read = "SELECT COUNT(*) AS n FROM runs WHERE command = ? AND source = ? AND status = 'ok'";
    let count = sql(read).bind(command).bind(source).first::<Number>(conn, "looking for earlier runs")?;
    Ok(count.is_some_and(|count| count.n > 0))
}

/// Counts calls before they are sent, or takes back what was counted and not sent. False when the
/// run is no longer ours to count for.
pub fn count_calls(conn: &mut Connection, run_id: i64, cost: Cost) -> Result<bool, DbError> {
    let touched = sql("UPDATE runs SET calls = calls + ?, credits = credits + ? WHERE id = ? AND status = 'running'")
        .bind(cost.calls)
        .bind(cost.credits)
        .bind(run_id)
        .execute(conn, "counting a call")?;
    Ok(touched == 1)
}

/// A write that changes nothing: it takes SQLite's lock before anything is read.
pub fn touch(conn: &mut Connection, run_id: i64) -> Result<(), DbError> {
    sql("UPDATE runs SET calls = calls WHERE id = ?").bind(run_id).execute(conn, "counting a call").map(|_| ())
}

/// Marks runs that hold no lease and did not end: their process died. Only those of an hour ago and
/// more, since no such run takes that long.
pub fn bury_old(conn: &mut Connection, command: &str) -> Result<usize, DbError> {
    let backend = conn.backend();
    let an_hour_ago = match backend {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f','now','-1 hour')".to_owned(),
        Backend::Mysql | Backend::Postgres => {
            format!("{} - INTERVAL {}", backend.now(), if backend == Backend::Mysql { "1 HOUR" } else { "'1 hour'" })
        }
    };
    let update = format!(
        "UPDATE runs SET status = 'failed', finished_at = {}, error = 'the process died' \
         WHERE command = ? AND status = 'running' AND started_at < {an_hour_ago}",
        backend.now()
    );
    sql(update).bind(command).execute(conn, "marking dead runs")
}

pub fn save_tally(conn: &mut Connection, run_id: i64, tally: &Tally) -> Result<(), DbError> {
    sql("UPDATE runs SET rows_read = ?, rows_written = ?, rows_updated = ?, rows_unchanged = ?, \
         rows_rejected = ?, rows_absent = ? WHERE id = ?")
    .bind_all([tally.read, tally.written, tally.updated, tally.unchanged, tally.rejected, tally.absent, run_id])
    .execute(conn, "saving the run's counts")
    .map(|_| ())
}

pub fn relabel(conn: &mut Connection, run_id: i64, source: &str) -> Result<(), DbError> {
    sql("UPDATE runs SET source = ? WHERE id = ?")
        .bind(source)
        .bind(run_id)
        .execute(conn, "renaming the run's source")
        .map(|_| ())
}

pub fn finish(conn: &mut Connection, run_id: i64, status: Status, error: Option<&str>) -> Result<(), DbError> {
    let update = format!(
        "UPDATE runs SET status = ?, finished_at = {}, error = ? WHERE id = ? AND status = 'running'",
        conn.backend().now()
    );
    sql(update)
        .bind(status.name())
        // MySQL's TEXT holds 65,535 bytes, and a long list of failures tells no more than its start.
        .bind(error.map(|error| error[..error.floor_char_boundary(8_000)].to_owned()))
        .bind(run_id)
        .execute(conn, "finishing the run")
        .map(|_| ())
}

/// Marks running runs of a command that no owner gives a sign of life for.
pub fn bury_unowned(conn: &mut Connection, command: &str) -> Result<usize, DbError> {
    let update = format!(
        "UPDATE runs SET status = 'failed', finished_at = {}, error = 'the process died; the others go on' \
         WHERE command = ? AND status = 'running' AND NOT EXISTS (\
         SELECT 1 FROM leases l WHERE l.run_id = runs.id AND l.heartbeat_us > {} - 15000000)",
        conn.backend().now(),
        conn.backend().now_us()
    );
    sql(update).bind(command).execute(conn, "marking dead runs")
}

/// Calls and credits counted for a run.
pub fn spent(conn: &mut Connection, run_id: i64) -> Result<Cost, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Spent {
        #[diesel(sql_type = BigInt)]
        calls: i64,
        #[diesel(sql_type = BigInt)]
        credits: i64,
    }
    let spent = sql("SELECT calls, credits FROM runs WHERE id = ?")
        .bind(run_id)
        .first::<Spent>(conn, "reading the run's calls")?;
    Ok(spent.map_or(Cost::default(), |spent| Cost { calls: spent.calls, credits: spent.credits }))
}
