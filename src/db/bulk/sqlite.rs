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
    let mut insert = conn.prepare_cached(&insert).map_err(failed)?;
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
            Some(conn.prepare_cached(&update).map_err(failed)?)
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
fn write<R: Row>(statement: &mut rusqlite::CachedStatement<'_>, row: &R, run_id: i64) -> rusqlite::Result<bool> {
    let mut binder = Binder { statement, place: 0, result: Ok(()) };
    row.key(&mut binder);
    row.figures(&mut binder);
    binder.int(Some(run_id));
    binder.result?;
    Ok(statement.raw_execute()? > 0)
}

struct Binder<'a, 'conn> {
    statement: &'a mut rusqlite::CachedStatement<'conn>,
    place: usize,
    result: rusqlite::Result<()>,
}

impl Binder<'_, '_> {
    fn bind(&mut self, value: impl rusqlite::ToSql) {
        self.place += 1;
        if self.result.is_ok() {
            self.result = self.statement.raw_bind_parameter(self.place, value);
        }
    }
}

impl Cells for Binder<'_, '_> {
    fn int(&mut self, value: Option<i64>) {
        self.bind(value);
    }
    fn small(&mut self, value: Option<i32>) {
        self.bind(value);
    }
    fn double(&mut self, value: Option<f64>) {
        self.bind(value);
    }
    fn text(&mut self, value: &str) {
        self.bind(value);
    }
    fn stamp(&mut self, value: Stamp) {
        self.bind(value.text().as_str());
    }
    fn truth(&mut self, value: bool) {
        self.bind(value);
    }
}
