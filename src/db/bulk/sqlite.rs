//! SQLite: prepared statements, a row at a time, on the handle below diesel's connection.

use super::{Cells, Row, Stored, Table, list};
use crate::db::error::DbError;
use crate::db::session::Batch;
use crate::db::sqlite_raw;
use crate::domain::Stamp;

pub fn upsert<R: Row>(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: &[&R]) -> Result<Stored, DbError> {
    let failed = |err: rusqlite::Error| sqlite_raw::failed(table.doing, &err);
    let conn = sqlite_raw::below(batch.raw, table.doing)?;
    let names: Vec<&str> = table.key.iter().chain(table.figures).copied().chain(["run_id"]).collect();
    let place = |name: &str| names.iter().position(|of| *of == name).map_or(0, |at| at + 1);
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
        table.name,
        names.join(", "),
        vec!["?"; names.len()].join(",")
    );
    let mut insert = Bound::new(conn.prepare_cached(&insert).map_err(failed)?);
    let mut update = match set.is_empty() {
        true => None,
        false => {
            let guard =
                table.guard.map(|(column, guard)| format!(" AND {}", guard(column, &format!("?{}", place(column)))));
            let update = format!(
                "UPDATE {} SET {}, run_id = ?{} WHERE {} AND ({}){}",
                table.name,
                list(set, ", ", |name| format!("{name} = ?{}", place(name))),
                names.len(),
                list(table.key, " AND ", |name| format!("{name} = ?{}", place(name))),
                list(set, " OR ", |name| format!("{name} IS NOT ?{}", place(name))),
                guard.unwrap_or_default()
            );
            Some(Bound::new(conn.prepare_cached(&update).map_err(failed)?))
        }
    };
    let mut stored = Stored::default();
    // Rows of a batch are mostly of one kind: what the last one was is tried first, which saves a
    // search of the table for each row.
    let mut known = false;
    for row in rows {
        let mut replace = || match &mut update {
            Some(update) => write(update, *row, batch.run_id).map_err(failed),
            None => Ok(false),
        };
        if known && replace()? {
            stored.updated += 1;
        } else if write(&mut insert, *row, batch.run_id).map_err(failed)? {
            stored.new += 1;
            known = false;
        } else if !known && replace()? {
            stored.updated += 1;
            known = true;
        } else {
            stored.unchanged += 1;
            known = true;
        }
    }
    Ok(stored)
}

/// Binds a row and runs the statement; whether it changed anything.
fn write<R: Row>(bound: &mut Bound<'_>, row: &R, run_id: i64) -> rusqlite::Result<bool> {
    (bound.place, bound.result) = (0, Ok(()));
    row.key(bound);
    row.figures(bound);
    bound.int(Some(run_id));
    std::mem::replace(&mut bound.result, Ok(()))?;
    Ok(bound.statement.raw_execute()? > 0)
}

/// A statement, and what is bound to it: most of a row is as in the row before, and stays.
struct Bound<'conn> {
    statement: rusqlite::CachedStatement<'conn>,
    held: Vec<Held>,
    place: usize,
    result: rusqlite::Result<()>,
}

/// A value that may be the next row's, too.
#[derive(PartialEq)]
enum Held {
    Other,
    Null,
    Int(i64),
    Text(String),
}

impl<'conn> Bound<'conn> {
    fn new(statement: rusqlite::CachedStatement<'conn>) -> Bound<'conn> {
        Bound { statement, held: Vec::new(), place: 0, result: Ok(()) }
    }

    /// What is held at the next place.
    fn next(&mut self) -> &mut Held {
        self.place += 1;
        while self.held.len() < self.place {
            self.held.push(Held::Other);
        }
        &mut self.held[self.place - 1]
    }

    fn bind(&mut self, value: impl rusqlite::ToSql) {
        if self.result.is_ok() {
            self.result = self.statement.raw_bind_parameter(self.place, value);
        }
    }

    fn null(&mut self) {
        if std::mem::replace(self.next(), Held::Null) != Held::Null {
            self.bind(rusqlite::types::Null);
        }
    }
}

impl Cells for Bound<'_> {
    fn int(&mut self, value: Option<i64>) {
        let Some(value) = value else { return self.null() };
        if std::mem::replace(self.next(), Held::Int(value)) != Held::Int(value) {
            self.bind(value);
        }
    }
    fn small(&mut self, value: Option<i32>) {
        self.int(value.map(i64::from));
    }
    fn double(&mut self, value: Option<f64>) {
        let Some(value) = value else { return self.null() };
        *self.next() = Held::Other;
        self.bind(value);
    }
    fn text(&mut self, value: &str) {
        match self.next() {
            Held::Text(held) if held == value => return,
            Held::Text(held) => {
                held.clear();
                held.push_str(value);
            }
            held => *held = Held::Text(value.to_owned()),
        }
        self.bind(value);
    }
    fn stamp(&mut self, value: Stamp) {
        *self.next() = Held::Other;
        self.bind(value.text().as_str());
    }
    fn truth(&mut self, value: bool) {
        self.int(Some(i64::from(value)));
    }
}
