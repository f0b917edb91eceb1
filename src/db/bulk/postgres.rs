//! PostgreSQL: binary `COPY`, straight into the table where the keys seem to be new, else into a
//! temporary table and from there in one upsert.

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{Cells, Row, Stored, Table, list, some_are_stored};
use crate::db::any::AnyConnection;
use crate::db::error::{DbError, Doing};
use crate::db::pg_copy::CopyBuffer;
use crate::db::session::Batch;
use crate::db::sql::sql;
use crate::domain::Stamp;

/// Sends rows in the binary format into a table, or into its stage.
pub type Copy = fn(conn: &mut PgConnection, staged: bool, rows: &[u8]) -> QueryResult<usize>;

/// Makes a [`Copy`]: diesel wants a type for each table it copies into.
macro_rules! copy {
    ($table:literal, $stage:literal) => {{
        use $crate::db::bulk::postgres::{CopyInto, copy_into};
        struct Straight;
        struct Staged;
        impl CopyInto for Straight {
            const TABLE: &'static str = $table;
        }
        impl CopyInto for Staged {
            const TABLE: &'static str = $stage;
        }
        |conn, staged, rows| match staged {
            true => copy_into::<Staged>(conn, rows),
            false => copy_into::<Straight>(conn, rows),
        }
    }};
}
pub(crate) use copy;

pub trait CopyInto {
    const TABLE: &'static str;
}

diesel::table! {
    // Stands for whichever table is copied: its columns are never named.
    some_table (id) { id -> BigInt, }
}

/// What diesel is to copy into, or out of: a name, or a query in parentheses.
pub struct Target<T>(std::marker::PhantomData<T>);

impl<T: CopyInto> diesel::pg::CopyTarget for Target<T> {
    type Table = some_table::table;
    type SqlType = BigInt;

    fn walk_target(mut pass: diesel::query_builder::AstPass<'_, '_, diesel::pg::Pg>) -> QueryResult<()> {
        pass.push_sql(T::TABLE);
        Ok(())
    }
}

impl<T> Target<T> {
    pub fn new() -> Target<T> {
        Target(std::marker::PhantomData)
    }
}

pub fn copy_into<T: CopyInto>(conn: &mut PgConnection, rows: &[u8]) -> QueryResult<usize> {
    diesel::copy_from(some_table::table)
        .from_raw_data(Target::<T>::new(), |out: &mut dyn std::io::Write| {
            out.write_all(rows).map_err(|err| diesel::result::Error::SerializationError(Box::new(err)))
        })
        .with_format(diesel::pg::CopyFormat::Binary)
        .execute(conn)
}

/// What `COPY … TO STDOUT` sends, in the binary format.
pub fn copy_out<T: CopyInto>(conn: &mut PgConnection, target: Target<T>) -> QueryResult<impl std::io::BufRead + '_> {
    diesel::copy_to(target).with_format(diesel::pg::CopyFormat::Binary).load_raw(conn)
}

pub fn upsert<R: Row>(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: &[&R]) -> Result<Stored, DbError> {
    let encoded = encode(table, rows, batch.run_id);
    if !some_are_stored(batch, table, rows)? && copy_straight(batch, table, &encoded)? {
        return Ok(Stored { new: rows.len(), ..Stored::default() });
    }
    stage(batch, table, &encoded)?;
    merge(batch, table, set, rows.len())
}

/// False when another writer stored one of these rows at the same moment.
fn copy_straight(batch: &mut Batch<'_>, table: &Table, rows: &[u8]) -> Result<bool, DbError> {
    let AnyConnection::Postgres(conn) = &mut *batch.conn else { return Ok(false) };
    match conn.transaction(|conn| (table.copy)(conn, false, rows)) {
        Ok(_) => Ok(true),
        Err(diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(err) => Err(err).doing(table.doing),
    }
}

fn stage(batch: &mut Batch<'_>, table: &Table, rows: &[u8]) -> Result<(), DbError> {
    let AnyConnection::Postgres(conn) = &mut *batch.conn else { return Ok(()) };
    let Table { name, stage, doing, .. } = table;
    conn.batch_execute(&format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {name}) ON COMMIT DELETE ROWS; DELETE FROM {stage}"
    ))
    .doing(doing)?;
    (table.copy)(conn, true, rows).doing(doing).map(|_| ())
}

fn merge(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: usize) -> Result<Stored, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Merged {
        #[diesel(sql_type = BigInt)]
        new: i64,
        #[diesel(sql_type = BigInt)]
        updated: i64,
    }
    let Table { name, stage, .. } = table;
    let action = if set.is_empty() {
        "NOTHING".to_owned()
    } else {
        let guard = |guard: super::Guard| {
            format!(" AND ({})", guard(&|column| format!("{name}.{column}"), &|column| format!("excluded.{column}")))
        };
        format!(
            "UPDATE SET {}, run_id = excluded.run_id WHERE ({}){}",
            list(set, ", ", |of| format!("{of} = excluded.{of}")),
            list(set, " OR ", |of| format!("{name}.{of} IS DISTINCT FROM excluded.{of}")),
            table.guard.map(guard).unwrap_or_default()
        )
    };
    let columns = table.columns().join(", ");
    // xmax is 0 in a row version that replaced no other.
    let merged = sql(format!(
        "WITH merged AS (INSERT INTO {name} ({columns}) SELECT {columns} FROM {stage} \
         ON CONFLICT ({}) DO {action} RETURNING (xmax = 0) AS fresh) \
         SELECT COUNT(*) FILTER (WHERE fresh) AS new, COUNT(*) FILTER (WHERE NOT fresh) AS updated FROM merged",
        table.key.join(", ")
    ))
    .first::<Merged>(batch.conn, table.doing)?;
    let (new, updated) = merged.map_or((0, 0), |merged| (merged.new as usize, merged.updated as usize));
    Ok(Stored { new, updated, unchanged: rows - new - updated })
}

fn encode<R: Row>(table: &Table, rows: &[&R], run_id: i64) -> Vec<u8> {
    let fields = (table.key.len() + table.figures.len() + 1) as i16;
    let mut out = Encoder(CopyBuffer::with_capacity(rows.len() * 190));
    for row in rows {
        out.0.row(fields);
        row.key(&mut out);
        row.figures(&mut out);
        out.int(Some(run_id));
    }
    out.0.end()
}

struct Encoder(CopyBuffer);

impl Encoder {
    fn maybe<const N: usize>(&mut self, bytes: Option<[u8; N]>) {
        match bytes {
            Some(bytes) => self.0.field(&bytes),
            None => self.0.null(),
        }
    }
}

impl Cells for Encoder {
    fn int(&mut self, value: Option<i64>) {
        self.maybe(value.map(i64::to_be_bytes));
    }
    fn small(&mut self, value: Option<i32>) {
        self.maybe(value.map(i32::to_be_bytes));
    }
    fn double(&mut self, value: Option<f64>) {
        self.maybe(value.map(f64::to_be_bytes));
    }
    fn text(&mut self, value: &str) {
        self.0.field(value.as_bytes());
    }
    fn stamp(&mut self, value: Stamp) {
        self.0.micros(value.millis() * 1000);
    }
    fn truth(&mut self, value: bool) {
        self.0.field(&[u8::from(value)]);
    }
}
