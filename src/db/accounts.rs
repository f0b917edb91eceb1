//! What the vendors told of the plans behind the keys, and what our own runs used of them.

use diesel::sql_types::{BigInt, Nullable};

use super::conn::Connection;
use super::error::DbError;
use super::sql::{Value, sql};
use super::url::Backend;
use crate::domain::{Account, Stamp};

/// What a vendor told, and when, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldAccount {
    pub account: Account,
    pub told_at: Stamp,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<BigInt>)]
    credits_per_month: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    credits_used: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    calls_per_minute: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    resets_ms: Option<i64>,
    #[diesel(sql_type = BigInt)]
    told_ms: i64,
}

/// The newest word of a source on its plan.
pub fn find(conn: &mut Connection, source: &str) -> Result<Option<ToldAccount>, DbError> {
    let read = "SELECT credits_per_month, credits_used, calls_per_minute, resets_ms, told_ms \
                FROM accounts WHERE source = ?";
    let row = sql(read).bind(source).first::<Row>(conn, "reading the plan that the source told")?;
    Ok(row.and_then(|row| {
        let account = Account {
            credits_per_month: row.credits_per_month,
            credits_used: row.credits_used,
            calls_per_minute: row.calls_per_minute,
            resets_at: row.resets_ms.and_then(|ms| Stamp::from_millis(ms).ok()),
        };
        Some(ToldAccount { account, told_at: Stamp::from_millis(row.told_ms).ok()? })
    }))
}

/// Keeps what a source told, in place of what it told before.
pub fn keep(conn: &mut Connection, source: &str, account: &Account) -> Result<(), DbError> {
    let now = format!("{}/1000", conn.backend().now_us());
    let (now, tail) = match conn.backend() {
        Backend::Mysql => (
            format!("CAST({} DIV 1000 AS SIGNED)", conn.backend().now_us()),
            "ON DUPLICATE KEY UPDATE credits_per_month = VALUES(credits_per_month), credits_used = VALUES(credits_used), \
             calls_per_minute = VALUES(calls_per_minute), resets_ms = VALUES(resets_ms), told_ms = VALUES(told_ms)",
        ),
        Backend::Sqlite | Backend::Postgres => (
            now,
            "ON CONFLICT (source) DO UPDATE SET credits_per_month = excluded.credits_per_month, \
             credits_used = excluded.credits_used, calls_per_minute = excluded.calls_per_minute, \
             resets_ms = excluded.resets_ms, told_ms = excluded.told_ms",
        ),
    };
    let numbers = [account.credits_per_month, account.credits_used, account.calls_per_minute];
    let resets = account.resets_at.map(Stamp::millis);
    sql(format!(
        "INSERT INTO accounts (source, credits_per_month, credits_used, calls_per_minute, resets_ms, told_ms) \
         VALUES (?, ?, ?, ?, ?, {now}) {tail}"
    ))
    .bind(source)
    .bind_all(numbers.map(Value::MaybeInt))
    .bind(Value::MaybeInt(resets))
    .execute(conn, "keeping the plan that the source told")
    .map(|_| ())
}

/// Credits that runs for these sources used since a moment.
pub fn used_since(conn: &mut Connection, sources: &[&str], since: Stamp) -> Result<i64, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Used {
        #[diesel(sql_type = BigInt)]
        credits: i64,
    }
    let number = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let since_text = if conn.backend() == Backend::Postgres { "CAST(? AS timestamp(3))" } else { "?" };
    let mut used = 0;
    for source in sources {
        let read = format!(
            "SELECT CAST(COALESCE(SUM(credits), 0) AS {number}) AS credits FROM runs \
             WHERE source = ? AND started_at >= {since_text}"
        );
        let row = sql(read).bind(*source).bind(since.text().as_str()).first::<Used>(conn, "adding up used credits")?;
        used += row.map_or(0, |row| row.credits);
    }
    Ok(used)
}
