//! The version of the data: a number that grows whenever a run changed something.
//!
//! Every change is made by a run and counted in its row of `runs` in the same transaction, and those
//! counts only grow. So their sum tells two states of the data apart, and which is newer, by a look at
//! a few rows: finished runs don't change any more and are summed up once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::sql_types::{BigInt, Bool};

use super::conn::Connection;
use super::error::DbError;
use super::pool::{MaybeDb, Reading, Seen};
use super::sql::{places, sql};

/// Grows with the data. The same on every host that reads the same database.
pub type Version = u64;

/// Ids may become visible in another order than they were given out; no run is late by so many others.
const LATE_BY: i64 = 64;

/// Sums what can't change any more once.
#[derive(Default)]
pub struct Reader(Mutex<Arc<Settled>>);

/// Finished runs with ids below `floor`, summed up.
#[derive(Debug, Clone, Default)]
struct Settled {
    floor: i64,
    /// The highest id that was seen.
    newest: i64,
    sum: u64,
    /// Ids below the floor that are not in the sum yet: they still ran.
    running: BTreeSet<i64>,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Bool)]
    finished: bool,
    #[diesel(sql_type = BigInt)]
    counted: i64,
}

impl Row {
    fn weight(&self) -> u64 {
        1 + u64::from(self.finished) + u64::try_from(self.counted).unwrap_or_default()
    }
}

impl Reader {
    /// Reads the version and does `work`, both on one snapshot.
    pub(super) fn read<T, E: From<DbError> + MaybeDb>(
        &self,
        reading: &mut Reading,
        work: &impl Fn(&mut Connection, Version) -> Result<T, E>,
    ) -> Result<Seen<T>, E> {
        // Before the snapshot: what is settled here is settled in it too.
        let mut settled = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reading.begin()?;
        let mut restored = false;
        let mut read = |reading: &mut Reading| {
            let mut rows = rows(&mut reading.conn, &settled)?;
            if rows.last().map_or(0, |row| row.id) < settled.newest {
                // Ids are given out once: this is another state of the database, restored from somewhere. What was
                // summed up is of the old one.
                (settled, restored) = (Arc::default(), true);
                rows = self::rows(&mut reading.conn, &settled)?;
            }
            let version = settled.sum + rows.iter().map(Row::weight).sum::<u64>();
            let value = work(&mut reading.conn, version)?;
            Ok::<_, E>((rows, Seen { value, version }))
        };
        let ended = read(reading);
        reading.end();
        let (rows, seen) = ended?;
        let next = settled.after(&rows);
        if restored || next.newest > settled.newest || next.running.len() < settled.running.len() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Another read may have settled more.
            if restored || next.newest >= kept.newest {
                *kept = Arc::new(next);
            }
        }
        Ok(seen)
    }
}

impl Settled {
    fn after(&self, rows: &[Row]) -> Settled {
        let newest = rows.last().map_or(self.newest, |row| row.id);
        let floor = self.floor.max(newest - LATE_BY);
        let mut next = Settled { floor, newest, ..self.clone() };
        for row in rows.iter().filter(|row| row.id < floor) {
            match row.finished {
                true => {
                    next.sum += row.weight();
                    next.running.remove(&row.id);
                }
                false => {
                    next.running.insert(row.id);
                }
            }
        }
        next
    }
}

fn rows(conn: &mut Connection, settled: &Settled) -> Result<Vec<Row>, DbError> {
    let still = match settled.running.len() {
        0 => String::new(),
        many => format!(" OR id IN {}", places(1, many)),
    };
    sql(format!(
        "SELECT id, finished_at IS NOT NULL AS finished, rows_read + rows_written + rows_rejected AS counted \
         FROM runs WHERE id >= ?{still} ORDER BY id"
    ))
    .bind(settled.floor)
    .bind_all(settled.running.iter().copied())
    .load(conn, "reading how far the runs are")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, finished: bool, counted: i64) -> Row {
        Row { id, finished, counted }
    }

    fn version(settled: &Settled, rows: &[Row]) -> u64 {
        let seen = rows.iter().filter(|row| row.id >= settled.floor || settled.running.contains(&row.id));
        settled.sum + seen.map(Row::weight).sum::<u64>()
    }

    #[test]
    fn settling_changes_no_version() {
        let mut rows: Vec<Row> = (1..=200).map(|id| row(id, id % 50 != 0, id)).collect();
        let fresh = Settled::default();
        let settled = fresh.after(&rows);
        assert_eq!(settled.floor, 200 - LATE_BY);
        assert_eq!(settled.running, BTreeSet::from([50, 100]));
        assert_eq!(version(&settled, &rows), version(&fresh, &rows));
        // An old one goes on, ends, and is settled.
        rows[49] = row(50, false, 70);
        assert_eq!(version(&settled, &rows), version(&fresh, &rows));
        rows[49] = row(50, true, 70);
        let seen: Vec<Row> = rows
            .iter()
            .filter(|row| row.id >= settled.floor || settled.running.contains(&row.id))
            .map(|r| row(r.id, r.finished, r.counted))
            .collect();
        let later = settled.after(&seen);
        assert_eq!(later.running, BTreeSet::from([100]));
        assert_eq!(version(&later, &rows), version(&fresh, &rows));
    }
}
