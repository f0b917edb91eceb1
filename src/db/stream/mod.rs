//! What a stream leaves behind: quotes and their windows, outages, and how far each partition was read.

mod quotes;
mod windows;

use std::collections::HashMap;

use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::sql;
use super::url::Backend;
use crate::domain::Outage;

pub use quotes::{QuoteRow, extremes, insert_quotes, last_sequence, save_extremes, stored_sequences};
pub use windows::{WindowKey, merge_windows};

/// Whose offsets they are.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    pub group: &'a str,
    pub topic: &'a str,
}

/// Where a group stands in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub next_offset: i64,
    /// The id of the topic that it stands in; `None` where none was told.
    pub topic_id: Option<String>,
}

/// Where a group goes on in each partition of a topic.
pub fn offsets(conn: &mut Connection, stream: Stream<'_>) -> Result<HashMap<i32, Place>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        partition_id: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
        #[diesel(sql_type = Nullable<Text>)]
        topic_id: Option<String>,
    }
    let read = "SELECT partition_id, next_offset, topic_id FROM stream_offsets WHERE consumer_group = ? AND topic = ?";
    let rows = sql(read).bind(stream.group).bind(stream.topic).load::<Row>(conn, "reading the stream's offsets")?;
    let place = |row: Row| (row.partition_id, Place { next_offset: row.next_offset, topic_id: row.topic_id });
    Ok(rows.into_iter().map(place).collect())
}

/// Moves a partition's offset from where we left it: the fence of every batch. False when it stands
/// elsewhere, or in another topic of that name, because another member of the group went on.
pub fn advance(
    conn: &mut Connection,
    stream: Stream<'_>,
    partition: i32,
    from: Option<&Place>,
    to: &Place,
) -> Result<bool, DbError> {
    let doing = "moving the stream's offset";
    let Some(from) = from else {
        let inserted = sql("INSERT INTO stream_offsets (consumer_group, topic, partition_id, next_offset, topic_id) \
             VALUES (?, ?, ?, ?, ?)")
        .bind(stream.group)
        .bind(stream.topic)
        .bind(i64::from(partition))
        .bind(to.next_offset)
        .bind(to.topic_id.clone())
        .execute(conn, doing);
        return match inserted {
            Ok(_) => Ok(true),
            Err(DbError::Duplicate(_)) => Ok(false),
            Err(err) => Err(err),
        };
    };
    let moved = sql("UPDATE stream_offsets SET next_offset = ?, topic_id = ? \
         WHERE consumer_group = ? AND topic = ? AND partition_id = ? AND next_offset = ? AND COALESCE(topic_id, '') = ?")
    .bind(to.next_offset)
    .bind(to.topic_id.clone())
    .bind(stream.group)
    .bind(stream.topic)
    .bind(i64::from(partition))
    .bind(from.next_offset)
    .bind(from.topic_id.clone().unwrap_or_default())
    .execute(conn, doing)?;
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
