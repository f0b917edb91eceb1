//! Runs, newest first.

use diesel::sql_types::{BigInt, Nullable, Text, Timestamp};

use super::stamp;
use crate::db::conn::Connection;
use crate::db::error::DbError;
use crate::db::sql::sql;
use crate::domain::Stamp;

/// A row of `runs`.
#[derive(Debug, Clone, PartialEq, diesel::QueryableByName)]
pub struct Run {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Text)]
    pub command: String,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Timestamp)]
    started_at: chrono::NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<chrono::NaiveDateTime>,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = BigInt)]
    pub calls: i64,
    #[diesel(sql_type = BigInt)]
    pub credits: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_read: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_written: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_updated: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_unchanged: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_rejected: i64,
    #[diesel(sql_type = BigInt)]
    pub rows_absent: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
}

impl Run {
    pub fn started_at(&self) -> Stamp {
        stamp(self.started_at)
    }

    pub fn finished_at(&self) -> Option<Stamp> {
        self.finished_at.map(stamp)
    }
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub command: Option<String>,
    pub source: Option<String>,
    pub status: Option<&'static str>,
}

/// Runs behind an id, in the order of ids. There are a few for every hour, so that they are walked along
/// whatever the filter.
pub fn runs(
    conn: &mut Connection,
    filter: &Filter,
    after: Option<i64>,
    descending: bool,
    limit: i64,
) -> Result<Vec<Run>, DbError> {
    let (beyond, order) = if descending { ("<", "DESC") } else { (">", "ASC") };
    let mut which = String::from("1 = 1");
    let texts =
        [("command", filter.command.as_deref()), ("source", filter.source.as_deref()), ("status", filter.status)];
    let texts = texts.into_iter().filter_map(|(column, value)| Some((column, value?)));
    let mut values = Vec::new();
    for (column, value) in texts {
        which += &format!(" AND {column} = ?");
        values.push(value);
    }
    if after.is_some() {
        which += &format!(" AND id {beyond} ?");
    }
    sql(format!(
        "SELECT id, command, source, started_at, finished_at, status, calls, credits, rows_read, rows_written, \
         rows_updated, rows_unchanged, rows_rejected, rows_absent, error FROM runs WHERE {which} ORDER BY id {order} LIMIT ?"
    ))
    .bind_all(values)
    .bind_all(after)
    .bind(limit)
    .load(conn, "reading runs")
}
