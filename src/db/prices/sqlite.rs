//! SQLite: one prepared statement, a row at a time, on the handle below diesel's connection.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::{PriceRow, Stored, carried_list};
use crate::db::error::DbError;
use crate::db::session::Batch;
use crate::db::sqlite_raw;
use crate::domain::{Carried, Column};

pub fn upsert(batch: &mut Batch<'_>, carried: Carried, rows: &[&PriceRow]) -> Result<Stored, DbError> {
    let Some(raw) = batch.raw else {
        return Err(DbError::Query { doing: "storing prices", why: "no handle below the connection".to_owned() });
    };
    let conn = raw.connection();
    let columns: Vec<Column> = carried.columns().collect();
    let names = carried_list(carried, "", |name| format!(", {name}"));
    let places = ",?".repeat(columns.len());
    let insert = format!(
        "INSERT INTO prices (asset_id, vs_currency, observed_at, run_id{names}) VALUES (?,?,?,?{places}) \
         ON CONFLICT DO NOTHING"
    );
    let mut insert = conn.prepare_cached(&insert).map_err(failed)?;
    let mut update = match columns.is_empty() {
        true => None,
        false => {
            let mut place = 4;
            let mut numbered = |name: &str, operator: &str| {
                place += 1;
                format!("{name} {operator} ?{place}")
            };
            let set: Vec<String> = columns.iter().map(|column| numbered(column.name(), "=")).collect();
            let mut place = 4;
            let mut differs = |name: &str| {
                place += 1;
                format!("{name} IS NOT ?{place}")
            };
            let differ: Vec<String> = columns.iter().map(|column| differs(column.name())).collect();
            let update = format!(
                "UPDATE prices SET run_id = ?4, {} WHERE asset_id = ?1 AND vs_currency = ?2 AND observed_at = ?3 AND ({})",
                set.join(", "),
                differ.join(" OR ")
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
            Some(update) => write(update, row, &columns, batch.run_id),
            None => Ok(false),
        };
        if known && replace()? {
            stored.updated += 1;
        } else if write(&mut insert, row, &columns, batch.run_id)? {
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
fn write(
    statement: &mut rusqlite::CachedStatement<'_>,
    row: &PriceRow,
    columns: &[Column],
    run_id: i64,
) -> Result<bool, DbError> {
    let stamp = row.observed_at.text();
    let mut bind =
        |place: usize, value: &dyn rusqlite::ToSql| statement.raw_bind_parameter(place, value).map_err(failed);
    bind(1, &row.asset_id)?;
    bind(2, &&*row.vs_currency)?;
    bind(3, &stamp.as_str())?;
    bind(4, &run_id)?;
    for (at, column) in columns.iter().enumerate() {
        bind(5 + at, &Figure(*column, row.figures.get(*column)))?;
    }
    Ok(statement.raw_execute().map_err(failed)? > 0)
}

/// A rank is a whole number, the rest are doubles.
struct Figure(Column, Option<f64>);

impl rusqlite::ToSql for Figure {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match (self.0, self.1) {
            (_, None) => ToSqlOutput::Borrowed(ValueRef::Null),
            (Column::MarketCapRank, Some(rank)) => ToSqlOutput::Owned(Value::Integer(rank as i64)),
            (_, Some(number)) => ToSqlOutput::Owned(Value::Real(number)),
        })
    }
}

fn failed(err: rusqlite::Error) -> DbError {
    sqlite_raw::failed("storing prices", &err)
}
