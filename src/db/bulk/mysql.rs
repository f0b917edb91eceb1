//! MySQL and MariaDB: `LOAD DATA LOCAL` where the server allows it, else multi-row `INSERT`s;
//! straight into the table where the keys seem to be new, else by way of a temporary table.

use std::io::Write;

use diesel::connection::SimpleConnection;

use super::{Cells, Number, Row, Stored, Table, list, some_are_stored};
use crate::db::error::{DbError, Doing};
use crate::db::session::Batch;
use crate::db::sql::{Value, places, sql};
use crate::domain::Stamp;

/// Below this many rows a statement with values is as fast as a file.
pub const LOAD_FROM: usize = 2_000;
/// Some 15 values each: far below 65,535 values and 16 MiB a statement.
const ROWS_A_STATEMENT: usize = 1_000;

pub fn upsert<R: Row>(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: &[&R]) -> Result<Stored, DbError> {
    if !some_are_stored(batch, table, rows)? {
        let new = fill(batch, table, table.name, rows)?;
        if new == rows.len() {
            return Ok(Stored { new, ..Stored::default() });
        }
        // Another writer was here at the same moment: go on below, the new ones count already.
        let mut stored = merge(batch, table, set, rows)?;
        stored.unchanged = stored.unchanged.saturating_sub(new);
        stored.new += new;
        return Ok(stored);
    }
    merge(batch, table, set, rows)
}

fn merge<R: Row>(batch: &mut Batch<'_>, table: &Table, set: &[&str], rows: &[&R]) -> Result<Stored, DbError> {
    let Table { name, stage, doing, .. } = table;
    batch
        .conn
        .batch_execute(&format!(
            // Neither statement commits the transaction, as TRUNCATE would; and rows deleted one by
            // one would lie in the way of the next batch's.
            "DROP TEMPORARY TABLE IF EXISTS {stage}; \
             CREATE TEMPORARY TABLE {stage} (PRIMARY KEY ({})) SELECT * FROM {name} LIMIT 0",
            table.key.join(", ")
        ))
        .doing(doing)?;
    let staged = fill(batch, table, stage, rows)?;
    if staged != rows.len() {
        let why = format!("{staged} of {} rows reached the temporary table", rows.len());
        return Err(DbError::Query { doing, why });
    }
    let on = list(table.key, " AND ", |column| format!("p.{column} = s.{column}"));
    let mut updated = 0;
    if !set.is_empty() {
        let guard = |guard: super::Guard| {
            format!(" AND ({})", guard(&|column| format!("p.{column}"), &|column| format!("s.{column}")))
        };
        // Rows whose numbers differ, found and changed in one pass.
        updated = sql(format!(
            "UPDATE {stage} s STRAIGHT_JOIN {name} p ON {on} SET {}, p.run_id = s.run_id WHERE NOT ({}){}",
            list(set, ", ", |column| format!("p.{column} = s.{column}")),
            list(set, " AND ", |column| format!("p.{column} <=> s.{column}")),
            table.guard.map(guard).unwrap_or_default()
        ))
        .execute(batch.conn, doing)?;
    }
    if updated == rows.len() {
        return Ok(Stored { updated, ..Stored::default() });
    }
    let columns = table.columns();
    let new = sql(format!(
        "INSERT INTO {name} ({}) SELECT {} FROM {stage} s LEFT JOIN {name} p ON {on} WHERE p.{} IS NULL",
        columns.join(", "),
        list(&columns, ", ", |column| format!("s.{column}")),
        table.key[0]
    ))
    .execute(batch.conn, doing)?;
    Ok(Stored { new, updated, unchanged: rows.len() - new - updated })
}

/// Adds rows to a table; how many went in, which is not all when another writer took a key.
fn fill<R: Row>(batch: &mut Batch<'_>, table: &Table, into: &str, rows: &[&R]) -> Result<usize, DbError> {
    if rows.len() >= LOAD_FROM
        && let Some(filled) = load(batch, table, into, rows)?
    {
        return Ok(filled);
    }
    let columns = table.columns();
    let mut filled = 0;
    for rows in rows.chunks(ROWS_A_STATEMENT) {
        let mut values: Vec<Value> = Vec::with_capacity(rows.len() * columns.len());
        for row in rows {
            row.key(&mut values);
            row.figures(&mut values);
            values.push(batch.run_id.into());
        }
        let insert =
            format!("INSERT INTO {into} ({}) VALUES {}", columns.join(", "), places(rows.len(), columns.len()));
        match sql(insert).bind_all(values).execute(batch.conn, table.doing) {
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
fn load<R: Row>(batch: &mut Batch<'_>, table: &Table, into: &str, rows: &[&R]) -> Result<Option<usize>, DbError> {
    let run_id = batch.run_id;
    let lines = || {
        let mut lines = Lines::for_rows(rows.len());
        for row in rows {
            row.key(&mut lines);
            row.figures(&mut lines);
            lines.int(Some(run_id));
            lines.end_line();
        }
        lines
    };
    load_lines(batch, into, &table.columns().join(", "), lines, table.doing)
}

/// The same for lines that somebody else makes, with these columns.
pub fn load_lines(
    batch: &mut Batch<'_>,
    into: &str,
    columns: &str,
    lines: impl FnOnce() -> Lines,
    doing: &'static str,
) -> Result<Option<usize>, DbError> {
    if !client_sends_files() {
        return Ok(None);
    }
    let allowed = sql("SELECT CAST(@@local_infile AS SIGNED) AS n").first::<Number>(batch.conn, doing)?;
    if allowed.is_none_or(|allowed| allowed.n == 0) {
        return Ok(None);
    }
    // A file that cannot be written is no reason to fail: there is the other way.
    let Ok(file) = lines().write() else { return Ok(None) };
    let path = file.path().to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
    // The count is gone as soon as the driver sends anything else: it is kept in the same breath.
    let statement = format!(
        "LOAD DATA LOCAL INFILE '{path}' INTO TABLE {into} CHARACTER SET utf8mb4 ({columns}); SET @coinetl_loaded = ROW_COUNT()"
    );
    match batch.conn.batch_execute(&statement) {
        Ok(()) => {}
        Err(err) if is_forbidden(&err.to_string()) => return Ok(None),
        Err(err) => return Err(err).doing(doing),
    }
    let filled = sql("SELECT CAST(@coinetl_loaded AS SIGNED) AS n").first::<Number>(batch.conn, doing)?;
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
pub struct Lines(Vec<u8>);

impl Lines {
    pub fn for_rows(rows: usize) -> Lines {
        Lines(Vec::with_capacity(rows * 200))
    }

    /// A text without anything that has a meaning in such a file.
    pub fn cell(&mut self, text: Option<&[u8]>) {
        self.0.extend_from_slice(text.unwrap_or(b"\\N"));
        self.0.push(b'\t');
    }

    pub fn end_line(&mut self) {
        if let Some(tab) = self.0.last_mut() {
            *tab = b'\n';
        }
    }

    fn write(&self) -> std::io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&self.0)?;
        Ok(file)
    }
}

impl Cells for Lines {
    fn int(&mut self, value: Option<i64>) {
        let mut buffer = itoa::Buffer::new();
        self.cell(value.map(|value| buffer.format(value).as_bytes()));
    }
    fn small(&mut self, value: Option<i32>) {
        self.int(value.map(i64::from));
    }
    fn double(&mut self, value: Option<f64>) {
        let mut buffer = ryu::Buffer::new();
        self.cell(value.map(|value| buffer.format_finite(value).as_bytes()));
    }
    fn text(&mut self, value: &str) {
        for byte in value.bytes() {
            match byte {
                b'\t' => self.0.extend_from_slice(b"\\t"),
                b'\n' => self.0.extend_from_slice(b"\\n"),
                b'\r' => self.0.extend_from_slice(b"\\r"),
                b'\\' => self.0.extend_from_slice(b"\\\\"),
                byte => self.0.push(byte),
            }
        }
        self.0.push(b'\t');
    }
    fn stamp(&mut self, value: Stamp) {
        self.cell(Some(value.text().as_str().as_bytes()));
    }
    fn truth(&mut self, value: bool) {
        self.int(Some(i64::from(value)));
    }
}
