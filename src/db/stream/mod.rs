//! What a stream leaves behind: quotes and their windows, outages, and how far each partition was read.

mod quotes;
mod windows;

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Integer};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::sql;
use super::url::Backend;
use crate::events::Outage;

pub use quotes::{QuoteRow, extremes, insert_quotes, last_sequence, save_extremes, stored_sequences};
pub use windows::{WindowKey, merge_windows};

/// Where a group goes on in each partition of a topic.
pub fn offsets(conn: &mut Connection, group: &str, topic: &str) -> Result<HashMap<i32, i64>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        partition_id: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let read = "SELECT partition_id, next_offset FROM stream_offsets WHERE consumer_group = ? AND topic = ?";
    let rows = sql(read).bind(group).bind(topic).load::<Row>(conn, "reading the stream's offsets")?;
    Ok(rows.into_iter().map(|row| (row.partition_id, row.next_offset)).collect())
}

/// Moves a partition's offset from where we left it: the fence of every batch. False when it stands
/// elsewhere, because another member of the group went on.
pub fn advance(
    conn: &mut Connection,
    group: &str,
    topic: &str,
    partition: i32,
    from: Option<i64>,
    next: i64,
) -> Result<bool, DbError> {
    let doing = "moving the stream's offset";
    let Some(from) = from else {
        let insert =
            "INSERT INTO stream_offsets (consumer_group, topic, partition_id, next_offset) VALUES (?, ?, ?, ?)";
        let inserted = sql(insert).bind(group).bind(topic).bind(i64::from(partition)).bind(next).execute(conn, doing);
        return match inserted {
            Ok(_) => Ok(true),
            Err(DbError::Duplicate(_)) => Ok(false),
            Err(err) => Err(err),
        };
    };
    let update = "UPDATE stream_offsets SET next_offset = ? \
                  WHERE consumer_group = ? AND topic = ? AND partition_id = ? AND next_offset = ?";
    let moved =
        sql(update).bind(next).bind(group).bind(topic).bind(i64::from(partition)).bind(from).execute(conn, doing)?;
    // A database that counts changed rows only would say 0 for a move to the same place; there is none.
    Ok(moved == 1)
}

/// A moment to the microsecond, as a value of a statement.
fn moment(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "CAST(? AS timestamp(6))" } else { "?" }
}

/// Keeps an outage once. True when it is new.
pub fn insert_outage(batch: &mut Batch<'_>, outage: &Outage) -> Result<bool, DbError> {
    let backend = batch.conn.backend();
    let (verb, tail) = match backend {
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Sqlite | Backend::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
    };
    let at = moment(backend);
    let insert = format!(
        "{verb} INTO quote_outages (source, pair, from_time, to_time, reason) VALUES (?, ?, {at}, {at}, ?){tail}"
    );
    let inserted = sql(insert)
        .bind(outage.source.as_str())
        .bind(outage.pair.as_str())
        .bind(outage.from_time.to_string())
        .bind(outage.to_time.to_string())
        .bind(outage.reason.as_str())
        .execute(batch.conn, "keeping an outage")?;
    Ok(inserted == 1)
}
