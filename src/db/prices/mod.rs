//! The price sink: observations into the table `prices`, each backend by its fastest safe path.
//!
//! Same key and other numbers: the new ones stay and `run_id` tells the run that changed them. Same
//! numbers: nothing is written. A column that the answer did not carry is left alone.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use std::sync::Arc;

use diesel::sql_types::BigInt;

use super::error::DbError;
use super::session::Batch;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use super::sql::sql;
use super::url::Backend;
#[cfg(any(feature = "mysql", feature = "postgres", test))]
use crate::domain::Column;
use crate::domain::{Carried, Figures, Stamp};

/// An observation of a stored coin.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceRow {
    pub asset_id: i64,
    pub vs_currency: Arc<str>,
    pub observed_at: Stamp,
    pub figures: Figures,
}

impl PriceRow {
    fn key(&self) -> (i64, &str, Stamp) {
        (self.asset_id, &self.vs_currency, self.observed_at)
    }
}

/// What became of a batch's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub new: usize,
    pub updated: usize,
    pub unchanged: usize,
}

impl Stored {
    fn add(&mut self, other: Stored) {
        self.new += other.new;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }
}

/// Stores a batch. Rows may come in any order; of two with the same key the later one counts.
pub fn upsert(batch: &mut Batch<'_>, rows: &mut Vec<PriceRow>) -> Result<Stored, DbError> {
    // Key order within a batch lets each backend append to a page instead of jumping about.
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    keep_last_of_each_key(rows);
    let mut stored = Stored::default();
    let mut kinds: Vec<Carried> = rows.iter().map(|row| row.figures.carried()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for carried in kinds {
        let part: Vec<&PriceRow> = rows.iter().filter(|row| row.figures.carried() == carried).collect();
        stored.add(match batch.conn.backend() {
            Backend::Sqlite => sqlite::upsert(batch, carried, &part)?,
            #[cfg(feature = "mysql")]
            Backend::Mysql => mysql::upsert(batch, carried, &part)?,
            #[cfg(feature = "postgres")]
            Backend::Postgres => postgres::upsert(batch, carried, &part)?,
            #[allow(unreachable_patterns)]
            backend => return Err(DbError::NotBuiltIn { backend }),
        });
    }
    Ok(stored)
}

fn keep_last_of_each_key(rows: &mut Vec<PriceRow>) {
    // The sort is stable, so the last of equal keys is the newest.
    rows.reverse();
    rows.dedup_by(|a, b| a.key() == b.key());
    rows.reverse();
}

/// The names of the columns that an answer carried, each with `with` applied.
fn carried_list(carried: Carried, separator: &str, with: impl Fn(&str) -> String) -> String {
    carried.columns().map(|column| with(column.name())).collect::<Vec<_>>().join(separator)
}

/// All columns of the table, in its order.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn all_columns() -> String {
    let figures: Vec<&str> = Column::ALL.iter().map(|column| column.name()).collect();
    format!("asset_id, vs_currency, observed_at, {}, run_id", figures.join(", "))
}

/// Whether some of a batch's keys are stored, judged by a few of them spread over the batch. If
/// not, all are probably new, and going straight into the table is worth a try: the shorter way,
/// and one that finds out by itself when it was the wrong one.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn some_are_stored(batch: &mut Batch<'_>, rows: &[&PriceRow]) -> Result<bool, DbError> {
    const PROBES: usize = 64;
    let probes: Vec<&&PriceRow> = rows.iter().step_by(rows.len().div_ceil(PROBES).max(1)).collect();
    if probes.is_empty() {
        return Ok(false);
    }
    let (number, stamp) = match batch.conn.backend() {
        Backend::Postgres => ("BIGINT", "CAST(? AS timestamp(3))"),
        Backend::Mysql | Backend::Sqlite => ("SIGNED", "?"),
    };
    let keys = vec![format!("(?, ?, {stamp})"); probes.len()].join(", ");
    let mut read = sql(format!(
        "SELECT CAST(1 AS {number}) AS n FROM prices WHERE (asset_id, vs_currency, observed_at) IN ({keys}) LIMIT 1"
    ));
    for row in probes {
        read = read.bind(row.asset_id).bind(&*row.vs_currency).bind(row.observed_at.text().as_str());
    }
    Ok(read.first::<Number>(batch.conn, "looking for stored prices")?.is_some())
}

#[derive(diesel::QueryableByName)]
#[allow(dead_code)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(asset_id: i64, millis: i64, price: f64) -> PriceRow {
        let mut figures = Figures::default();
        figures.set(Column::Price, Some(price)).unwrap();
        PriceRow { asset_id, vs_currency: "usd".into(), observed_at: Stamp::from_millis(millis).unwrap(), figures }
    }

    #[test]
    fn the_later_of_two_equal_keys_counts() {
        let mut rows = vec![row(2, 5, 1.0), row(1, 5, 2.0), row(2, 5, 3.0), row(2, 4, 4.0)];
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        keep_last_of_each_key(&mut rows);
        assert_eq!(rows, [row(1, 5, 2.0), row(2, 4, 4.0), row(2, 5, 3.0)]);
    }
}
