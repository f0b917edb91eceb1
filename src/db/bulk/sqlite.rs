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
    let mut stored_already = match set.is_empty() {
        true => None,
        false => {
            let guard = table.guard.map(|guard| {
                format!(" AND ({})", guard(&|column| column.to_owned(), &|column| format!("?{}", place(column))))
            });
            let key = list(table.key, " AND ", |name| format!("{name} = ?{}", place(name)));
            let differs = format!(
                "({}){}",
                list(set, " OR ", |name| format!("{name} IS NOT ?{}", place(name))),
                guard.unwrap_or_default()
            );
            let update = format!(
                "UPDATE {} SET {}, run_id = ?{} WHERE {key} AND {differs}",
                table.name,
                list(set, ", ", |name| format!("{name} = ?{}", place(name))),
                names.len(),
            );
            let compare = format!("SELECT {differs} FROM {} WHERE {key}", table.name);
            let prepared = |statement: &str| conn.prepare_cached(statement).map(Bound::new).map_err(failed);
            Some((prepared(&update)?, prepared(&compare)?))
        }
    };
    let mut stored = Stored::default();
    // Rows of a batch are mostly of one kind: what the last one was is tried first, which saves a
    // search of the table for each row.
    let mut last = Fate::New;
    for row in rows {
        let mut insert = || write(&mut insert, *row, batch.run_id);
        let fate = match (&mut stored_already, last) {
            (None, _) => insert().map(Fate::of_insert),
            (Some((update, _)), Fate::New) => match insert().map_err(failed)? {
                true => Ok(Fate::New),
                false => write(update, *row, batch.run_id).map(Fate::of_update),
            },
            (Some((update, _)), Fate::Updated) => match write(update, *row, batch.run_id).map_err(failed)? {
                true => Ok(Fate::Updated),
                false => insert().map(Fate::of_insert),
            },
            (Some((update, compare)), Fate::Unchanged) => match differs(compare, *row).map_err(failed)? {
                None => insert().map(Fate::of_insert),
                Some(true) => write(update, *row, batch.run_id).map(Fate::of_update),
                Some(false) => Ok(Fate::Unchanged),
            },
        };
        last = fate.map_err(failed)?;
        match last {
            Fate::New => stored.new += 1,
            Fate::Updated => stored.updated += 1,
            Fate::Unchanged => stored.unchanged += 1,
        }
    }
    Ok(stored)
}

/// What became of a row.
#[derive(Debug, Clone, Copy)]
enum Fate {
    New,
    Updated,
    Unchanged,
}

impl Fate {
    fn of_insert(is_new: bool) -> Fate {
        if is_new { Fate::New } else { Fate::Unchanged }
    }

    fn of_update(changed: bool) -> Fate {
        if changed { Fate::Updated } else { Fate::Unchanged }
    }
}

/// Binds a row and runs the statement; whether it changed anything.
fn write<R: Row>(bound: &mut Bound<'_>, row: &R, run_id: i64) -> rusqlite::Result<bool> {
    bound.row(row);
    bound.int(Some(run_id));
    std::mem::replace(&mut bound.result, Ok(()))?;
    Ok(bound.statement.raw_execute()? > 0)
}

/// Whether a row would replace the stored one; `None` where none is stored.
fn differs<R: Row>(bound: &mut Bound<'_>, row: &R) -> rusqlite::Result<Option<bool>> {
    bound.row(row);
    std::mem::replace(&mut bound.result, Ok(()))?;
    bound.statement.raw_query().next()?.map(|found| found.get(0)).transpose()
}

/// A statement, and what is bound to it: most of a row is as in the row before, and stays.
struct Bound<'conn> {
    statement: rusqlite::CachedStatement<'conn>,
    held: Vec<Held>,
    /// Values that it takes: the first ones of a row.
    takes: usize,
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
        let takes = statement.parameter_count();
        Bound { statement, held: Vec::new(), takes, place: 0, result: Ok(()) }
    }

    /// Binds all of a row but the run.
    fn row<R: Row>(&mut self, row: &R) {
        (self.place, self.result) = (0, Ok(()));
        row.key(self);
        row.figures(self);
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
        if self.result.is_ok() && self.place <= self.takes {
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
