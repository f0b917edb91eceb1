//! PostgreSQL: binary `COPY`, straight into the table where the keys seem to be new, else into a
//! temporary table and from there in one upsert.

use diesel::connection::SimpleConnection;
use diesel::pg::CopyFormat;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::{PriceRow, Stored, all_columns, carried_list, some_are_stored};
use crate::db::any::AnyConnection;
use crate::db::error::{DbError, Doing};
use crate::db::pg_copy::{CopyBuffer, send};
use crate::db::session::Batch;
use crate::db::sql::sql;
use crate::domain::{Carried, Column};

const DOING: &str = "storing prices";

macro_rules! price_table {
    ($name:ident) => {
        diesel::table! {
            $name (asset_id, vs_currency, observed_at) {
                asset_id -> BigInt,
                vs_currency -> Text,
                observed_at -> Timestamp,
                price -> Nullable<Double>,
                volume_24h -> Nullable<Double>,
                base_volume_24h -> Nullable<Double>,
                market_cap -> Nullable<Double>,
                circulating_supply -> Nullable<Double>,
                total_supply -> Nullable<Double>,
                market_cap_rank -> Nullable<Integer>,
                change_1h -> Nullable<Double>,
                change_24h -> Nullable<Double>,
                change_7d -> Nullable<Double>,
                change_30d -> Nullable<Double>,
                run_id -> BigInt,
            }
        }
    };
}

price_table!(prices);
price_table!(price_stage);

pub fn upsert(batch: &mut Batch<'_>, carried: Carried, rows: &[&PriceRow]) -> Result<Stored, DbError> {
    if !some_are_stored(batch, rows)? && copy_straight(batch, rows)? {
        return Ok(Stored { new: rows.len(), ..Stored::default() });
    }
    stage(batch, rows)?;
    merge(batch, carried, rows.len())
}

/// False when another writer stored one of these rows at the same moment.
fn copy_straight(batch: &mut Batch<'_>, rows: &[&PriceRow]) -> Result<bool, DbError> {
    let buffer = encode(rows, batch.run_id);
    let AnyConnection::Postgres(conn) = &mut *batch.conn else { return Ok(false) };
    let copied = conn.transaction(|conn| {
        diesel::copy_from(prices::table)
            .from_raw_data(prices::table, |out| send(out, &buffer))
            .with_format(CopyFormat::Binary)
            .execute(conn)
    });
    match copied {
        Ok(_) => Ok(true),
        Err(diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(err) => Err(err).doing(DOING),
    }
}

fn stage(batch: &mut Batch<'_>, rows: &[&PriceRow]) -> Result<(), DbError> {
    let buffer = encode(rows, batch.run_id);
    let AnyConnection::Postgres(conn) = &mut *batch.conn else { return Ok(()) };
    conn.batch_execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS price_stage (LIKE prices) ON COMMIT DELETE ROWS; \
         DELETE FROM price_stage",
    )
    .doing(DOING)?;
    diesel::copy_from(price_stage::table)
        .from_raw_data(price_stage::table, |out| send(out, &buffer))
        .with_format(CopyFormat::Binary)
        .execute(conn)
        .doing(DOING)?;
    Ok(())
}

fn merge(batch: &mut Batch<'_>, carried: Carried, rows: usize) -> Result<Stored, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Merged {
        #[diesel(sql_type = BigInt)]
        new: i64,
        #[diesel(sql_type = BigInt)]
        updated: i64,
    }
    let action = if carried == Carried::default() {
        "NOTHING".to_owned()
    } else {
        format!(
            "UPDATE SET {}, run_id = excluded.run_id WHERE {}",
            carried_list(carried, ", ", |name| format!("{name} = excluded.{name}")),
            carried_list(carried, " OR ", |name| format!("prices.{name} IS DISTINCT FROM excluded.{name}"))
        )
    };
    let columns = all_columns();
    // xmax is 0 in a row version that replaced no other.
    let merged = sql(format!(
        "WITH merged AS (INSERT INTO prices ({columns}) SELECT {columns} FROM price_stage \
         ON CONFLICT (asset_id, vs_currency, observed_at) DO {action} RETURNING (xmax = 0) AS fresh) \
         SELECT COUNT(*) FILTER (WHERE fresh) AS new, COUNT(*) FILTER (WHERE NOT fresh) AS updated FROM merged"
    ))
    .first::<Merged>(batch.conn, DOING)?;
    let (new, updated) = merged.map_or((0, 0), |merged| (merged.new as usize, merged.updated as usize));
    Ok(Stored { new, updated, unchanged: rows - new - updated })
}

/// Rows as `COPY` takes them.
fn encode(rows: &[&PriceRow], run_id: i64) -> Vec<u8> {
    let mut out = CopyBuffer::with_capacity(rows.len() * 190);
    for row in rows {
        out.row(3 + Column::COUNT as i16 + 1);
        out.field(&row.asset_id.to_be_bytes());
        out.field(row.vs_currency.as_bytes());
        out.micros(row.observed_at.millis() * 1000);
        for column in Column::ALL {
            match row.figures.get(column) {
                None => out.null(),
                Some(rank) if column == Column::MarketCapRank => out.field(&(rank as i32).to_be_bytes()),
                Some(number) => out.field(&number.to_be_bytes()),
            }
        }
        out.field(&run_id.to_be_bytes());
    }
    out.end()
}
