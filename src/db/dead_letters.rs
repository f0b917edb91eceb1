//! Records that could not be used, with the reason. The same record and reason is kept once, so a
//! coin that stays broken does not fill the table hour by hour.

use diesel::sql_types::BigInt;
use sha2::{Digest, Sha256};

use super::error::DbError;
use super::session::Batch;
use super::sql::sql;
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

/// Keeps rejected records of a batch answer; `topic` is the endpoint they came from.
pub fn record(batch: &mut Batch<'_>, source: &str, topic: &str, rejects: &[Reject]) -> Result<(), DbError> {
    let now = batch.conn.backend().now();
    for reject in rejects {
        let payload = text(&reject.payload, MAX_PAYLOAD_BYTES);
        let error = text(&reject.reason, MAX_ERROR_BYTES);
        let digest = digest(&[source, topic, &error, &payload]);
        let known = sql("SELECT COUNT(*) AS n FROM dead_letters WHERE digest = ?")
            .bind(digest.as_str())
            .first::<Count>(batch.conn, "looking for a dead letter")?;
        if known.is_some_and(|count| count.n > 0) {
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
