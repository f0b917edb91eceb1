//! Bulk upserts: many rows into one table, each backend by its fastest safe path.
//!
//! Same key and other numbers: the new ones stay and `run_id` tells the run that changed them. Same
//! numbers: nothing is written. Rows of one call must have different keys, and be sorted by them: key
//! order within a batch lets each backend append to a page instead of jumping about.

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod sqlite;

#[cfg(any(feature = "mysql", feature = "postgres"))]
use diesel::sql_types::BigInt;

use super::error::DbError;
use super::session::Batch;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use super::sql::{Value, sql};
use super::url::Backend;
use crate::domain::Stamp;

/// A table that rows are stored in.
pub struct Table {
    pub name: &'static str,
    /// A name for a temporary table of the same shape.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub stage: &'static str,
    /// The columns of its key; the last of them is a time.
    pub key: &'static [&'static str],
    /// The others in the table's order, `run_id` left out, which is the last.
    pub figures: &'static [&'static str],
    /// The condition in SQL for a row to replace another one.
    pub guard: Option<Guard>,
    /// For messages.
    pub doing: &'static str,
    /// `COPY … FROM STDIN` into the table, or into the temporary one.
    #[cfg(feature = "postgres")]
    pub copy: postgres::Copy,
}

/// Made of how a statement names what is stored in a column, and what is new.
pub type Guard = fn(stored: &dyn Fn(&str) -> String, new: &dyn Fn(&str) -> String) -> String;

/// A row that can tell its values in the order of the table's columns.
pub trait Row {
    fn key(&self, out: &mut impl Cells);
    fn figures(&self, out: &mut impl Cells);
}

/// Takes the values of a row, one after the other.
pub trait Cells {
    fn int(&mut self, value: Option<i64>);
    /// A column of 32 bits.
    fn small(&mut self, value: Option<i32>);
    fn double(&mut self, value: Option<f64>);
    fn text(&mut self, value: &str);
    fn stamp(&mut self, value: Stamp);
    fn truth(&mut self, value: bool);
}

/// What became of a batch's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub new: usize,
    pub updated: usize,
    pub unchanged: usize,
}

impl Stored {
    pub fn add(&mut self, other: Stored) {
        self.new += other.new;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }

    pub fn changed(&self) -> bool {
        self.new + self.updated > 0
    }
}

/// Stores rows; of those that are stored already, the columns `set` are replaced where they differ.
pub fn upsert<R: Row>(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: &[&R]) -> Result<Stored, DbError> {
    if rows.is_empty() {
        return Ok(Stored::default());
    }
    match batch.conn.backend() {
        Backend::Sqlite => sqlite::upsert(batch, table, set, rows),
        #[cfg(feature = "mysql")]
        Backend::Mysql => mysql::upsert(batch, table, set, rows),
        #[cfg(feature = "postgres")]
        Backend::Postgres => postgres::upsert(batch, table, set, rows),
        #[allow(unreachable_patterns)]
        backend => Err(DbError::NotBuiltIn { backend }),
    }
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
impl Table {
    /// All columns, in the table's order.
    fn columns(&self) -> Vec<&'static str> {
        self.key.iter().chain(self.figures).copied().chain(["run_id"]).collect()
    }
}

/// Each of some names, with `with` applied.
fn list(names: &[&str], separator: &str, with: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| with(name)).collect::<Vec<_>>().join(separator)
}

/// Whether some of a batch's keys are stored, judged by a few of them spread over the batch. If
/// not, all are probably new, and going straight into the table is worth a try: the shorter way,
/// and one that finds out by itself when it was the wrong one.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn some_are_stored<R: Row>(batch: &mut Batch<'_>, table: &Table, rows: &[&R]) -> Result<bool, DbError> {
    const PROBES: usize = 64;
    let probes: Vec<&&R> = rows.iter().step_by(rows.len().div_ceil(PROBES).max(1)).collect();
    let (number, stamp) = match batch.conn.backend() {
        Backend::Postgres => ("BIGINT", "CAST(? AS timestamp(3))"),
        Backend::Mysql | Backend::Sqlite => ("SIGNED", "?"),
    };
    let key = format!("({}{stamp})", "?, ".repeat(table.key.len() - 1));
    let read = format!(
        "SELECT CAST(1 AS {number}) AS n FROM {} WHERE ({}) IN ({}) LIMIT 1",
        table.name,
        table.key.join(", "),
        vec![key; probes.len()].join(", ")
    );
    let mut values = Vec::new();
    for row in probes {
        row.key(&mut values);
    }
    Ok(sql(read).bind_all(values).first::<Number>(batch.conn, table.doing)?.is_some())
}

#[cfg(any(feature = "mysql", feature = "postgres"))]
#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    #[allow(dead_code)]
    n: i64,
}

/// Values of a statement.
#[cfg(any(feature = "mysql", feature = "postgres"))]
impl Cells for Vec<Value> {
    fn int(&mut self, value: Option<i64>) {
        self.push(Value::MaybeInt(value));
    }
    fn small(&mut self, value: Option<i32>) {
        self.push(Value::MaybeInt(value.map(i64::from)));
    }
    fn double(&mut self, value: Option<f64>) {
        self.push(Value::Double(value));
    }
    fn text(&mut self, value: &str) {
        self.push(value.into());
    }
    fn stamp(&mut self, value: Stamp) {
        self.push(value.text().as_str().into());
    }
    fn truth(&mut self, value: bool) {
        self.push(Value::Int(i64::from(value)));
    }
}
