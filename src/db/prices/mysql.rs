//! MySQL and MariaDB: `LOAD DATA LOCAL` where the server allows it, else multi-row `INSERT`s;
//! straight into the table where the keys seem to be new, else by way of a temporary table.

use std::io::Write;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;

use super::{PriceRow, Stored, all_columns, carried_list, some_are_stored};
use crate::db::error::{DbError, Doing};
use crate::db::session::Batch;
use crate::db::sql::{Value, places, sql};
use crate::domain::{Carried, Column};

const DOING: &str = "storing prices";
/// Below this many rows a statement with values is as fast as a file.
const LOAD_FROM: usize = 2_000;
/// 15 values each: far below 65,535 values and 16 MiB a statement.
const ROWS_A_STATEMENT: usize = 1_000;

#[derive(diesel::QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

pub fn upsert(batch: &mut Batch<'_>, carried: Carried, rows: &[&PriceRow]) -> Result<Stored, DbError> {
    if !some_are_stored(batch, rows)? {
        let new = fill(batch, "prices", rows)?;
        if new == rows.len() {
            return Ok(Stored { new, ..Stored::default() });
        }
        // Another writer was here at the same moment: go on below, the new ones count already.
        let mut stored = merge(batch, carried, rows)?;
        stored.unchanged = stored.unchanged.saturating_sub(new);
        stored.new += new;
        return Ok(stored);
    }
    merge(batch, carried, rows)
}

fn merge(batch: &mut Batch<'_>, carried: Carried, rows: &[&PriceRow]) -> Result<Stored, DbError> {
    batch
        .conn
        .batch_execute(
            // Neither statement commits the transaction, as TRUNCATE would; and rows deleted one by
            // one would lie in the way of the next batch's.
            "DROP TEMPORARY TABLE IF EXISTS price_stage; \
             CREATE TEMPORARY TABLE price_stage (PRIMARY KEY (asset_id, vs_currency, observed_at)) \
             SELECT * FROM prices LIMIT 0",
        )
        .doing(DOING)?;
    let staged = fill(batch, "price_stage", rows)?;
    if staged != rows.len() {
        let why = format!("{staged} of {} rows reached the temporary table", rows.len());
        return Err(DbError::Query { doing: DOING, why });
    }
    const ON: &str = "p.asset_id = s.asset_id AND p.vs_currency = s.vs_currency AND p.observed_at = s.observed_at";
    let mut updated = 0;
    if carried != Carried::default() {
        // Rows whose numbers differ, found and changed in one pass.
        updated = sql(format!(
            "UPDATE price_stage s STRAIGHT_JOIN prices p ON {ON} SET {}, p.run_id = s.run_id WHERE NOT ({})",
            carried_list(carried, ", ", |name| format!("p.{name} = s.{name}")),
            carried_list(carried, " AND ", |name| format!("p.{name} <=> s.{name}"))
        ))
        .execute(batch.conn, DOING)?;
    }
    if updated == rows.len() {
        return Ok(Stored { updated, ..Stored::default() });
    }
    let columns = all_columns();
    let picked = columns.split(", ").map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", ");
    let new = sql(format!(
        "INSERT INTO prices ({columns}) SELECT {picked} FROM price_stage s LEFT JOIN prices p ON {ON} \
         WHERE p.asset_id IS NULL"
    ))
    .execute(batch.conn, DOING)?;
    Ok(Stored { new, updated, unchanged: rows.len() - new - updated })
}

/// Adds rows to a table; how many went in, which is not all when another writer took a key.
fn fill(batch: &mut Batch<'_>, table: &str, rows: &[&PriceRow]) -> Result<usize, DbError> {
    if rows.len() >= LOAD_FROM
        && let Some(filled) = load(batch, table, rows)?
    {
        return Ok(filled);
    }
    let columns = all_columns();
    let mut filled = 0;
    for rows in rows.chunks(ROWS_A_STATEMENT) {
        let mut insert =
            sql(format!("INSERT INTO {table} ({columns}) VALUES {}", places(rows.len(), 4 + Column::COUNT)));
        for row in rows {
            insert = insert
                .bind(row.asset_id)
                .bind(&*row.vs_currency)
                .bind(row.observed_at.text().as_str())
                .bind_all(Column::ALL.map(|column| Value::Double(row.figures.get(column))))
                .bind(batch.run_id);
        }
        match insert.execute(batch.conn, DOING) {
            Ok(_) => filled += rows.len(),
            // A key is taken: this statement did nothing, and the caller merges what is left.
            Err(DbError::Duplicate(_)) => break,
            Err(err) => return Err(err),
        }
    }
    Ok(filled)
}

/// By `LOAD DATA LOCAL`; `None` where server or client do not allow it. `LOCAL` leaves out rows
/// whose key is taken.
fn load(batch: &mut Batch<'_>, table: &str, rows: &[&PriceRow]) -> Result<Option<usize>, DbError> {
    if !client_sends_files() {
        return Ok(None);
    }
    let allowed = sql("SELECT CAST(@@local_infile AS SIGNED) AS n").first::<Number>(batch.conn, DOING)?;
    if allowed.is_none_or(|allowed| allowed.n == 0) {
        return Ok(None);
    }
    // A file that cannot be written is no reason to fail: there is the other way.
    let Ok(file) = write_file(rows, batch.run_id) else { return Ok(None) };
    let path = file.path().to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
    // The count is gone as soon as the driver sends anything else: it is kept in the same breath.
    let statement = format!(
        "LOAD DATA LOCAL INFILE '{path}' INTO TABLE {table} CHARACTER SET utf8mb4 ({}); SET @coinetl_loaded = ROW_COUNT()",
        all_columns()
    );
    match batch.conn.batch_execute(&statement) {
        Ok(()) => {}
        Err(err) if is_forbidden(&err.to_string()) => return Ok(None),
        Err(err) => return Err(err).doing(DOING),
    }
    let filled = sql("SELECT CAST(@coinetl_loaded AS SIGNED) AS n").first::<Number>(batch.conn, DOING)?;
    Ok(filled.map(|filled| filled.n.max(0) as usize))
}

/// MySQL's own client library refuses to send a file unless the program allowed it before connecting,
/// which diesel does not; the server then takes the refusal for a lost connection. MariaDB's sends it.
fn client_sends_files() -> bool {
    // SAFETY: it takes nothing and returns a number that was compiled in.
    let version = unsafe { mysqlclient_sys::mysql_get_client_version() };
    // 80036 is MySQL's 8.0.36; 30320 and 101119 are MariaDB's 3.3.20 and 10.11.19.
    !(50_000..100_000).contains(&version)
}

fn is_forbidden(why: &str) -> bool {
    ["local data is disabled", "not allowed", "LOAD DATA LOCAL", "rejected due to restrictions"]
        .iter()
        .any(|words| why.contains(words))
}

/// Tab-separated, `\N` for unknown. Doubles as their shortest text, which the server reads back
/// to the same bits.
fn write_file(rows: &[&PriceRow], run_id: i64) -> std::io::Result<tempfile::NamedTempFile> {
    let mut text = Vec::with_capacity(rows.len() * 200);
    let mut number = ryu::Buffer::new();
    let mut whole = itoa::Buffer::new();
    for row in rows {
        text.extend_from_slice(whole.format(row.asset_id).as_bytes());
        text.push(b'\t');
        text.extend_from_slice(row.vs_currency.as_bytes());
        text.push(b'\t');
        text.extend_from_slice(row.observed_at.text().as_str().as_bytes());
        for column in Column::ALL {
            text.push(b'\t');
            match row.figures.get(column) {
                None => text.extend_from_slice(b"\\N"),
                Some(rank) if column == Column::MarketCapRank => {
                    text.extend_from_slice(whole.format(rank as i64).as_bytes());
                }
                Some(value) => text.extend_from_slice(number.format_finite(value).as_bytes()),
            }
        }
        text.push(b'\t');
        text.extend_from_slice(whole.format(run_id).as_bytes());
        text.push(b'\n');
    }
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&text)?;
    Ok(file)
}
