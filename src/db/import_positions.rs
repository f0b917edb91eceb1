//! How far files that are being imported were read: moved with their rows, taken away at their end.

use std::collections::HashMap;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::sql;

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Position {
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
    /// Of a text in bytes, of Parquet in rows.
    #[diesel(sql_type = BigInt)]
    pub position: i64,
    #[diesel(sql_type = BigInt)]
    pub line: i64,
}

/// All files that were not read to their end.
pub fn all(conn: &mut Connection) -> Result<HashMap<String, Position>, DbError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        file: String,
        #[diesel(embed)]
        position: Position,
    }
    let rows = sql("SELECT file, fingerprint, position, line FROM import_positions")
        .load::<Row>(conn, "reading how far files were imported")?;
    Ok(rows.into_iter().map(|row| (row.file, row.position)).collect())
}

pub fn set(batch: &mut Batch<'_>, file: &str, at: &Position) -> Result<(), DbError> {
    const DOING: &str = "keeping how far a file was imported";
    let now = batch.conn.backend().now();
    let moved = sql(format!(
        "UPDATE import_positions SET fingerprint = ?, position = ?, line = ?, updated_at = {now} WHERE file = ?"
    ))
    .bind(at.fingerprint.as_str())
    .bind(at.position)
    .bind(at.line)
    .bind(file)
    .execute(batch.conn, DOING)?;
    if moved > 0 {
        return Ok(());
    }
    sql(format!(
        "INSERT INTO import_positions (file, fingerprint, position, line, updated_at) VALUES (?, ?, ?, ?, {now})"
    ))
    .bind(file)
    .bind(at.fingerprint.as_str())
    .bind(at.position)
    .bind(at.line)
    .execute(batch.conn, DOING)
    .map(|_| ())
}

pub fn clear(batch: &mut Batch<'_>, file: &str) -> Result<(), DbError> {
    sql("DELETE FROM import_positions WHERE file = ?")
        .bind(file)
        .execute(batch.conn, "forgetting how far a file was imported")
        .map(|_| ())
}
