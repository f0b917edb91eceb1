//! Marks: the hours in which prices or candles changed since they were folded. Who stores rows writes
//! them in the same transaction; who folds takes them away with the candles.
//!
//! # Nothing is lost between a writer and a rollup
//!
//! A writer W stores rows and then marks their hours, in one transaction. A rollup R takes marks away
//! first, then reads the rows and writes candles, in one transaction. Suppose that R reads without
//! W's rows. Then W commits after R read, and a mark of W's must be there when both are done.
//!
//! - The mark was not there when W wrote it: W's own row, which R can't see before W commits, and so
//!   can't take away. It stays.
//! - The mark was there, of an earlier writer. Then W *locks* it, though there is nothing to change:
//!   PostgreSQL by an upsert that sets the hour to itself, MySQL by `INSERT IGNORE`, which takes a
//!   shared lock of the row that is in its way. If W comes first, R's `DELETE` waits until W is done,
//!   and R, which reads afterwards, reads with W's rows. If R comes first, W waits for R, finds no mark
//!   any more, and adds it.
//! - SQLite has one writer at a time, and R begins by a write: either W is done before R reads, or W
//!   begins after R.
//!
//! "Afterwards" is meant literally: R reads through another connection, where each statement sees what
//! is committed when it begins, and never what a longer transaction saw first (MySQL's REPEATABLE READ).
//! R is the only one who takes marks away, for it holds the lease.
//!
//! Two writers that mark the same hours in another order may wait for each other: the database ends
//! one of them, whose batch is then tried again like any that met another writer.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::{BigInt, Text, Timestamp};

use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::session::Batch;
use crate::db::sql::{Value, places, sql};
use crate::db::url::Backend;
use crate::domain::{Stamp, Timeframe};

/// Coins of an hour that are marked one by one; more are marked as one range, which says that some
/// between may have changed. Folding those again changes nothing.
const MARKED_ALONE: usize = 16;
const ROWS_A_STATEMENT: usize = 500;
const DOING: &str = "marking what is to be folded";

/// Coins of which something changed in an hour: ids from `first` to `last`, both included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub hour: Stamp,
    pub vs_currency: String,
    pub first: i64,
    pub last: i64,
}

/// Marks the hours of rows that changed: currency, coin and moment of each.
pub fn mark<'a>(
    batch: &mut Batch<'_>,
    changed: impl IntoIterator<Item = (&'a str, i64, Stamp)>,
) -> Result<(), DbError> {
    let mut hours: BTreeMap<(Stamp, &str), Coins> = BTreeMap::new();
    for (vs_currency, asset_id, moment) in changed {
        hours.entry((Timeframe::H1.floor(moment), vs_currency)).or_default().add(asset_id);
    }
    let mut marks = Vec::new();
    for ((hour, vs_currency), coins) in hours {
        let mark = |first, last| Mark { hour, vs_currency: vs_currency.to_owned(), first, last };
        match coins {
            Coins::Each(ids) => marks.extend(ids.into_iter().map(|id| mark(id, id))),
            Coins::Range(first, last) => marks.push(mark(first, last)),
        }
    }
    add(batch, &marks)
}

enum Coins {
    Each(BTreeSet<i64>),
    Range(i64, i64),
}

impl Default for Coins {
    fn default() -> Self {
        Coins::Each(BTreeSet::new())
    }
}

impl Coins {
    fn add(&mut self, id: i64) {
        match self {
            Coins::Range(first, last) => (*first, *last) = (id.min(*first), id.max(*last)),
            Coins::Each(ids) => {
                ids.insert(id);
                if ids.len() > MARKED_ALONE
                    && let (Some(first), Some(last)) = (ids.first(), ids.last())
                {
                    *self = Coins::Range(*first, *last);
                }
            }
        }
    }
}

/// Writes marks, and locks those that are there: see above.
pub fn add(batch: &mut Batch<'_>, marks: &[Mark]) -> Result<(), DbError> {
    let backend = batch.conn.backend();
    let (verb, tail) = match backend {
        Backend::Sqlite => ("INSERT OR IGNORE", ""),
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Postgres => {
            ("INSERT", " ON CONFLICT (hour, vs_currency, first_asset, last_asset) DO UPDATE SET hour = excluded.hour")
        }
    };
    for marks in marks.chunks(ROWS_A_STATEMENT) {
        let places = match backend {
            Backend::Postgres => vec!["(CAST(? AS timestamp(3)), ?, ?, ?)"; marks.len()].join(","),
            Backend::Sqlite | Backend::Mysql => places(marks.len(), 4),
        };
        let insert =
            format!("{verb} INTO rollup_pending (hour, vs_currency, first_asset, last_asset) VALUES {places}{tail}");
        sql(insert).bind_all(marks.iter().flat_map(values)).execute(batch.conn, DOING)?;
    }
    Ok(())
}

/// Takes marks away, waiting for writers that have just marked the same.
pub fn take(batch: &mut Batch<'_>, marks: &[Mark]) -> Result<(), DbError> {
    let delete = format!(
        "DELETE FROM rollup_pending WHERE hour = {} AND vs_currency = ? AND first_asset = ? AND last_asset = ?",
        batch.conn.backend().stamp()
    );
    // One by one: not every planner finds its way from a list of keys to the index, and a DELETE that
    // looks at every mark would wait for every writer.
    for mark in marks {
        sql(delete.as_str()).bind_all(values(mark)).execute(batch.conn, DOING)?;
    }
    Ok(())
}

/// Takes all marks away that are there.
pub fn take_all(batch: &mut Batch<'_>) -> Result<(), DbError> {
    sql("DELETE FROM rollup_pending").execute(batch.conn, DOING).map(|_| ())
}

fn values(mark: &Mark) -> [Value; 4] {
    [mark.hour.text().as_str().into(), mark.vs_currency.as_str().into(), mark.first.into(), mark.last.into()]
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = Timestamp)]
    hour: chrono::NaiveDateTime,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = BigInt)]
    first_asset: i64,
    #[diesel(sql_type = BigInt)]
    last_asset: i64,
}

const COLUMNS: &str = "hour, vs_currency, first_asset, last_asset";

/// Marks of a day in one currency, the first ones.
pub fn of_day(conn: &mut Connection, day: Stamp, vs_currency: &str, limit: i64) -> Result<Vec<Mark>, DbError> {
    let at = conn.backend().stamp();
    let read = format!(
        "SELECT {COLUMNS} FROM rollup_pending WHERE hour >= {at} AND hour < {at} AND vs_currency = ? \
         ORDER BY hour, first_asset, last_asset LIMIT ?"
    );
    let found = sql(read)
        .bind(day.text().as_str())
        .bind(Timeframe::D1.end(day).text().as_str())
        .bind(vs_currency)
        .bind(limit)
        .load::<Found>(conn, "reading what is to be folded")?;
    Ok(found.into_iter().filter_map(Found::mark).collect())
}

impl Found {
    fn mark(self) -> Option<Mark> {
        let hour = Stamp::from_datetime(self.hour.and_utc()).ok()?;
        Some(Mark { hour, vs_currency: self.vs_currency, first: self.first_asset, last: self.last_asset })
    }
}

/// The next day and currency with marks, in this order, behind one.
pub fn next_day(conn: &mut Connection, after: Option<(Stamp, &str)>) -> Result<Option<(Stamp, String)>, DbError> {
    let at = conn.backend().stamp();
    let doing = "looking for what is to be folded";
    if let Some((day, vs_currency)) = after {
        let read = format!(
            "SELECT {COLUMNS} FROM rollup_pending WHERE hour >= {at} AND hour < {at} AND vs_currency > ? \
             ORDER BY vs_currency LIMIT 1"
        );
        let found = sql(read)
            .bind(day.text().as_str())
            .bind(Timeframe::D1.end(day).text().as_str())
            .bind(vs_currency)
            .first::<Found>(conn, doing)?;
        if let Some(found) = found {
            return Ok(Some((day, found.vs_currency)));
        }
    }
    let from = after.map(|(day, _)| Timeframe::D1.end(day).to_string());
    let read = format!("SELECT {COLUMNS} FROM rollup_pending WHERE hour >= {at} ORDER BY hour LIMIT 1");
    let Some(first) = sql(read)
        .bind(from.unwrap_or_else(|| "1970-01-01 00:00:00.000".to_owned()))
        .first::<Found>(conn, doing)?
        .and_then(Found::mark)
    else {
        return Ok(None);
    };
    let day = Timeframe::D1.floor(first.hour);
    let read =
        format!("SELECT {COLUMNS} FROM rollup_pending WHERE hour >= {at} AND hour < {at} ORDER BY vs_currency LIMIT 1");
    let least =
        sql(read).bind(day.text().as_str()).bind(Timeframe::D1.end(day).text().as_str()).first::<Found>(conn, doing)?;
    Ok(Some((day, least.map_or(first.vs_currency, |least| least.vs_currency))))
}

/// Whether something that goes into a candle of this coin awaits folding.
pub fn awaits(
    conn: &mut Connection,
    vs_currency: &str,
    asset_id: i64,
    timeframe: Timeframe,
    open_time: Stamp,
) -> Result<bool, DbError> {
    let at = conn.backend().stamp();
    let read = format!(
        "SELECT {COLUMNS} FROM rollup_pending WHERE hour >= {at} AND hour < {at} AND vs_currency = ? \
         AND first_asset <= ? AND last_asset >= ? LIMIT 1"
    );
    let found = sql(read)
        .bind(Timeframe::H1.floor(open_time).text().as_str())
        .bind(timeframe.end(open_time).text().as_str())
        .bind(vs_currency)
        .bind(asset_id)
        .bind(asset_id)
        .first::<Found>(conn, "looking for what is to be folded")?;
    Ok(found.is_some())
}

/// Coins with ids from `first` to `last` of which something changed in these hours of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub first: i64,
    pub last: i64,
    /// A bit for each hour, the first of the day the lowest.
    pub hours: u32,
}

/// The coins of a day's marks, each once, in ascending order.
pub fn segments(marks: &[Mark]) -> Vec<Segment> {
    let hour = |mark: &Mark| (mark.hour.millis() / Timeframe::H1.millis()).rem_euclid(24) as usize;
    // How many marks of each hour begin or end at an id.
    let mut edges: BTreeMap<i64, [i32; 24]> = BTreeMap::new();
    for mark in marks {
        edges.entry(mark.first).or_default()[hour(mark)] += 1;
        edges.entry(mark.last + 1).or_default()[hour(mark)] -= 1;
    }
    let (mut segments, mut open, mut since) = (Vec::<Segment>::new(), [0; 24], 0);
    for (id, change) in edges {
        let hours = (0..24).filter(|hour| open[*hour] > 0).fold(0, |hours, hour| hours | 1 << hour);
        if hours != 0 {
            match segments.last_mut() {
                Some(before) if before.last + 1 == since && before.hours == hours => before.last = id - 1,
                _ => segments.push(Segment { first: since, last: id - 1, hours }),
            }
        }
        (0..24).for_each(|hour| open[hour] += change[hour]);
        since = id;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(hour: i64, first: i64, last: i64) -> Mark {
        let hour = Stamp::from_millis((24 * 20_000 + hour) * 3_600_000).unwrap();
        Mark { hour, vs_currency: "usd".to_owned(), first, last }
    }

    #[test]
    fn a_day_s_marks_become_coins_that_are_there_once() {
        let shown = |marks: &[Mark]| segments(marks).iter().map(|s| (s.first, s.last, s.hours)).collect::<Vec<_>>();
        assert_eq!(shown(&[]), []);
        assert_eq!(shown(&[mark(0, 1, 5), mark(0, 4, 9)]), [(1, 9, 1)]);
        assert_eq!(shown(&[mark(0, 1, 5), mark(2, 5, 5), mark(1, 7, 8)]), [(1, 4, 1), (5, 5, 5), (7, 8, 2)]);
        // Against each coin by itself.
        let marks: Vec<Mark> = (0..60).map(|n| mark(n % 24, (n * 37) % 50, (n * 37) % 50 + (n * n) % 13)).collect();
        for id in -1..70 {
            let expected = marks
                .iter()
                .filter(|mark| (mark.first..=mark.last).contains(&id))
                .fold(0, |hours, mark| hours | 1 << (mark.hour.millis() / 3_600_000 % 24));
            let found: Vec<u32> = segments(&marks)
                .iter()
                .filter(|segment| (segment.first..=segment.last).contains(&id))
                .map(|segment| segment.hours)
                .collect();
            assert_eq!(found, if expected == 0 { vec![] } else { vec![expected] }, "{id}");
        }
    }

    #[test]
    fn many_coins_are_one_range() {
        let mut coins = Coins::default();
        (0..MARKED_ALONE as i64).for_each(|id| coins.add(100 - id));
        assert!(matches!(&coins, Coins::Each(ids) if ids.len() == MARKED_ALONE));
        coins.add(7);
        coins.add(500);
        assert!(matches!(coins, Coins::Range(7, 500)));
    }
}
