//! What the vendors told of the plans behind the keys, and what our own runs used of them.

use diesel::sql_types::{BigInt, Nullable};

use super::clock;
use super::conn::Connection;
use super::error::DbError;
use super::sql::{Value, sql};
use super::url::Backend;
use crate::domain::budget::{month_before, month_of};
use crate::domain::{Account, Budget, Cost, Stamp};

/// What a vendor told, and when, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldAccount {
    pub account: Account,
    pub told_at: Stamp,
    /// What our own runs had used of the month when it was told.
    pub own_used: i64,
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
    #[diesel(sql_type = BigInt)]
    own_used: i64,
}

/// The newest word of a source on its plan.
pub fn find(conn: &mut Connection, source: &str) -> Result<Option<ToldAccount>, DbError> {
    let read = "SELECT credits_per_month, credits_used, calls_per_minute, resets_ms, told_ms, own_used \
                FROM accounts WHERE source = ?";
    let row = sql(read).bind(source).first::<Row>(conn, "reading the plan that the source told")?;
    Ok(row.and_then(|row| {
        let account = Account {
            credits_per_month: row.credits_per_month,
            credits_used: row.credits_used,
            calls_per_minute: row.calls_per_minute,
            resets_at: row.resets_ms.and_then(|ms| Stamp::from_millis(ms).ok()),
        };
        Some(ToldAccount { account, told_at: Stamp::from_millis(row.told_ms).ok()?, own_used: row.own_used })
    }))
}

/// Keeps what a source told, in place of what it told before, and beside it what our own runs have used
/// of the same month by now: the difference is what others use.
pub fn keep(conn: &mut Connection, source: &str, account: &Account) -> Result<(), DbError> {
    let now = clock::now(conn)?;
    let own_used = used_since(conn, &[source], period(account, now).0)?;
    let now = format!("{}/1000", conn.backend().now_us());
    let (now, tail) = match conn.backend() {
        Backend::Mysql => (
            format!("CAST({} DIV 1000 AS SIGNED)", conn.backend().now_us()),
            "ON DUPLICATE KEY UPDATE credits_per_month = VALUES(credits_per_month), credits_used = VALUES(credits_used), \
             calls_per_minute = VALUES(calls_per_minute), resets_ms = VALUES(resets_ms), \
             told_ms = VALUES(told_ms), own_used = VALUES(own_used)",
        ),
        Backend::Sqlite | Backend::Postgres => (
            now,
            "ON CONFLICT (source) DO UPDATE SET credits_per_month = excluded.credits_per_month, \
             credits_used = excluded.credits_used, calls_per_minute = excluded.calls_per_minute, \
             resets_ms = excluded.resets_ms, \
             told_ms = excluded.told_ms, own_used = excluded.own_used",
        ),
    };
    let numbers = [account.credits_per_month, account.credits_used, account.calls_per_minute];
    let resets = account.resets_at.map(Stamp::millis);
    sql(format!(
        "INSERT INTO accounts (source, credits_per_month, credits_used, calls_per_minute, resets_ms, told_ms, own_used) \
         VALUES (?, ?, ?, ?, ?, {now}, ?) {tail}"
    ))
    .bind(source)
    .bind_all(numbers.map(Value::MaybeInt))
    .bind(Value::MaybeInt(resets))
    .bind(own_used)
    .execute(conn, "keeping the plan that the source told")
    .map(|_| ())
}

/// The vendor did not tell anew: what it told before holds for another day.
pub fn renew(conn: &mut Connection, source: &str) -> Result<(), DbError> {
    let now = match conn.backend() {
        Backend::Mysql => format!("CAST({} DIV 1000 AS SIGNED)", conn.backend().now_us()),
        Backend::Sqlite | Backend::Postgres => format!("{}/1000", conn.backend().now_us()),
    };
    sql(format!("UPDATE accounts SET told_ms = {now} WHERE source = ?"))
        .bind(source)
        .execute(conn, "keeping the plan that the source told")
        .map(|_| ())
}

/// The running month of a plan: what the vendor told of its end, else the calendar's.
pub fn period(account: &Account, now: Stamp) -> (Stamp, Stamp) {
    match account.resets_at {
        Some(resets_at) if resets_at > now && month_before(resets_at) <= now => (month_before(resets_at), resets_at),
        _ => month_of(now),
    }
}

/// A month's limit, to hold each call against: what was used is added up anew each time, because other
/// commands and hosts use it, too.
#[derive(Debug, Clone)]
pub struct Guard {
    pub limit: i64,
    /// The names under which our own runs count.
    pub sources: Vec<String>,
    pub began: Stamp,
    pub resets_at: Stamp,
    /// What others used of the same key, as far as the vendor told.
    pub by_others: i64,
}

impl Guard {
    /// The month as it stands now.
    pub fn budget(&self, conn: &mut Connection) -> Result<Budget, DbError> {
        let sources: Vec<&str> = self.sources.iter().map(String::as_str).collect();
        let used = used_since(conn, &sources, self.began)?.saturating_add(self.by_others);
        Ok(Budget { limit: Some(self.limit), used, resets_at: self.resets_at })
    }
}

/// Credits that runs for these sources used since a moment.
pub fn used_since(conn: &mut Connection, sources: &[&str], since: Stamp) -> Result<i64, DbError> {
    let mut used = 0;
    for source in sources {
        used += cost_since(conn, source, since)?.credits;
    }
    Ok(used)
}

/// What runs for a source cost since a moment.
pub fn cost_since(conn: &mut Connection, source: &str, since: Stamp) -> Result<Cost, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Used {
        #[diesel(sql_type = BigInt)]
        calls: i64,
        #[diesel(sql_type = BigInt)]
        credits: i64,
    }
    let number = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let read = format!(
        "SELECT CAST(COALESCE(SUM(calls), 0) AS {number}) AS calls, \
         CAST(COALESCE(SUM(credits), 0) AS {number}) AS credits FROM runs WHERE source = ? AND started_at >= {}",
        conn.backend().stamp()
    );
    let row = sql(read).bind(source).bind(since.text().as_str()).first::<Used>(conn, "adding up used credits")?;
    Ok(row.map_or(Cost::default(), |row| Cost { calls: row.calls, credits: row.credits }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_s_own_month_goes_before_the_calendar_s() {
        let stamp = |text: &str| Stamp::parse(text).unwrap();
        let now = stamp("2026-11-25T12:00:00Z");
        let told = |resets_at| period(&Account { resets_at, ..Account::default() }, now);
        let anchored = stamp("2026-12-10T08:00:00Z");
        assert_eq!(told(Some(anchored)), (stamp("2026-11-10T08:00:00Z"), anchored));
        // Told long ago, or nonsense.
        for resets_at in [None, Some(stamp("2026-11-01T00:00:00Z")), Some(stamp("2030-01-01T00:00:00Z"))] {
            assert_eq!(told(resets_at), (stamp("2026-11-01T00:00:00Z"), stamp("2026-12-01T00:00:00Z")));
        }
    }
}
