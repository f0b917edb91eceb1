//! Records that could not be used, with the reason. The same record and reason is kept once, so a
//! coin that stays broken does not fill the table hour by hour.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use sha2::{Digest, Sha256};

use super::conn::Connection;
use super::error::DbError;
use super::session::Batch;
use super::sql::{places, sql};
use super::url::Backend;
use crate::domain::Reject;

/// Longest payload kept, in bytes. Records are cut at 1 MiB before they get here.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest reason kept: it may repeat what it complains about.
const MAX_ERROR_BYTES: usize = 1_000;

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Letters looked for in one query.
const CHUNK: usize = 500;

/// Keeps rejected records of a batch answer; `topic` is the endpoint they came from.
pub fn record(batch: &mut Batch<'_>, source: &str, topic: &str, rejects: &[Reject]) -> Result<(), DbError> {
    keep(batch, source, topic, rejects).map(|_| ())
}

/// Keeps letters without a place, each once. How many are new.
fn keep(batch: &mut Batch<'_>, source: &str, topic: &str, rejects: &[Reject]) -> Result<usize, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Known {
        #[diesel(sql_type = Text)]
        digest: String,
    }
    let now = batch.conn.backend().now();
    let mut new = 0;
    for chunk in rejects.chunks(CHUNK) {
        let letters: Vec<(String, String, String)> = chunk
            .iter()
            .map(|reject| {
                let (payload, error) =
                    (text(&reject.payload, MAX_PAYLOAD_BYTES), text(&reject.reason, MAX_ERROR_BYTES));
                (digest(&[source, topic, &error, &payload]), payload, error)
            })
            .collect();
        let read = format!("SELECT digest FROM dead_letters WHERE digest IN {}", places(1, letters.len()));
        let known = sql(read)
            .bind_all(letters.iter().map(|(digest, ..)| digest.as_str()))
            .load::<Known>(batch.conn, "looking for a dead letter")?;
        let mut known: HashSet<String> = known.into_iter().map(|known| known.digest).collect();
        for (digest, payload, error) in letters {
            if !known.insert(digest.clone()) {
                continue;
            }
            sql(format!(
                "INSERT INTO dead_letters (run_id, source, topic, payload, error, digest, received_at) \
                 VALUES (?, ?, ?, ?, ?, ?, {now})"
            ))
            .bind(batch.run_id)
            .bind(source)
            .bind(topic)
            .bind(payload)
            .bind(error)
            .bind(digest)
            .execute(batch.conn, "keeping a dead letter")?;
            new += 1;
        }
    }
    Ok(new)
}

/// What messages of a stream are kept under: no vendor has this name.
pub const STREAM: &str = "kafka";

/// A message of a stream that could not be used.
pub struct Letter<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub payload: &'a [u8],
    pub error: &'a str,
}

/// Keeps a message of a stream, once. True when it is new. Where another message is kept from that place,
/// of an earlier topic of that name, it is kept without a place of its own, and the reason names it.
pub fn record_message(batch: &mut Batch<'_>, letter: &Letter<'_>) -> Result<bool, DbError> {
    let backend = batch.conn.backend();
    let (verb, tail) = match backend {
        Backend::Mysql => ("INSERT IGNORE", ""),
        Backend::Sqlite | Backend::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
    };
    let now = backend.now();
    let payload = text(&String::from_utf8_lossy(letter.payload), MAX_PAYLOAD_BYTES);
    let error = text(letter.error, MAX_ERROR_BYTES);
    let inserted = sql(format!(
        "{verb} INTO dead_letters (run_id, source, topic, partition_id, offset_id, payload, error, received_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, {now}){tail}"
    ))
    .bind(batch.run_id)
    .bind(STREAM)
    .bind(letter.topic)
    .bind(i64::from(letter.partition))
    .bind(letter.offset)
    .bind(payload.as_str())
    .bind(error.as_str())
    .execute(batch.conn, "keeping a dead letter")?;
    if inserted == 1 {
        return Ok(true);
    }
    // The same message again may have another reason by now, and what has no payload only has a reason.
    let same = "SELECT COUNT(*) AS n FROM dead_letters WHERE topic = ? AND partition_id = ? AND offset_id = ? \
                AND payload = ? AND (payload <> '' OR error = ?)";
    let same = sql(same)
        .bind(letter.topic)
        .bind(i64::from(letter.partition))
        .bind(letter.offset)
        .bind(payload.as_str())
        .bind(error.as_str())
        .first::<Count>(batch.conn, "looking for a dead letter")?;
    if same.is_some_and(|count| count.n > 0) {
        return Ok(false);
    }
    let (partition, offset) = (letter.partition, letter.offset);
    let reason = format!(
        "at offset {offset} of partition {partition}, where an earlier topic of that name had another: {error}"
    );
    Ok(keep(batch, STREAM, letter.topic, &[Reject { source_id: None, payload, reason }])? > 0)
}

/// A kept letter.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct Kept {
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub run_id: Option<i64>,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Nullable<Integer>)]
    pub partition_id: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub offset_id: Option<i64>,
    #[diesel(sql_type = Text)]
    pub payload: String,
    #[diesel(sql_type = Text)]
    pub error: String,
    #[diesel(sql_type = Timestamp)]
    pub received_at: chrono::NaiveDateTime,
}

const DOING: &str = "reading dead letters";
/// Letters, and bytes of their payloads, read at a time.
const PAGE: i64 = 1_000;
const PAGE_BYTES: i64 = 8 << 20;

fn select(payload: &str) -> String {
    format!(
        "SELECT id, run_id, source, topic, partition_id, offset_id, {payload}, error, received_at FROM dead_letters"
    )
}

/// The newest letters, with so many characters of their payloads, or all.
pub fn newest(conn: &mut Connection, limit: i64, chars: Option<u32>) -> Result<Vec<Kept>, DbError> {
    let payload = chars.map_or("payload".to_owned(), |chars| format!("SUBSTR(payload, 1, {chars}) AS payload"));
    sql(format!("{} ORDER BY id DESC LIMIT ?", select(&payload))).bind(limit).load(conn, DOING)
}

/// The next messages of streams with ids behind `after`, the oldest first: a page that fits into memory.
pub fn of_streams(conn: &mut Connection, after: i64) -> Result<Vec<Kept>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Size {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let sizes = "SELECT id, CAST(OCTET_LENGTH(payload) AS {int}) AS bytes FROM dead_letters \
                 WHERE id > ? AND source = ? ORDER BY id LIMIT ?";
    let int = if conn.backend() == Backend::Mysql { "SIGNED" } else { "BIGINT" };
    let sizes: Vec<Size> = sql(sizes.replace("{int}", int)).bind(after).bind(STREAM).bind(PAGE).load(conn, DOING)?;
    let mut bytes = 0;
    let fits = |size: &&Size| {
        bytes += size.bytes;
        bytes <= PAGE_BYTES
    };
    // One fits always: no payload is longer than a page.
    let Some(last) = sizes.iter().take_while(fits).last().or(sizes.first()) else { return Ok(Vec::new()) };
    sql(format!("{} WHERE id > ? AND id <= ? AND source = ? ORDER BY id", select("payload")))
        .bind(after)
        .bind(last.id)
        .bind(STREAM)
        .load(conn, DOING)
}

pub fn count(conn: &mut Connection) -> Result<i64, DbError> {
    let row = sql("SELECT COUNT(*) AS n FROM dead_letters").first::<Count>(conn, "counting dead letters")?;
    Ok(row.map_or(0, |row| row.n))
}

pub fn delete(batch: &mut Batch<'_>, ids: &[i64]) -> Result<(), DbError> {
    for chunk in ids.chunks(1_000) {
        sql(format!("DELETE FROM dead_letters WHERE id IN {}", places(1, chunk.len())))
            .bind_all(chunk.iter().copied())
            .execute(batch.conn, "deleting dead letters")?;
    }
    Ok(())
}

/// Text that every backend keeps (PostgreSQL has no U+0000), cut to a length.
fn text(text: &str, limit: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// Tells a letter from all others by an index, however long it is.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
