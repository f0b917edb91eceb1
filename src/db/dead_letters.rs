//! Records that could not be used, with the reason. The same record and reason is kept once, so a
//! coin that stays broken does not fill the table hour by hour.

use diesel::sql_types::BigInt;

use super::error::DbError;
use super::session::Batch;
use super::sql::sql;
use crate::domain::Reject;

/// Longest payload kept, in bytes. Records are cut at 1 MiB before they get here.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Keeps rejected records of a batch answer; `topic` is the endpoint they came from.
pub fn record(batch: &mut Batch<'_>, source: &str, topic: &str, rejects: &[Reject]) -> Result<(), DbError> {
    let now = batch.conn.backend().now();
    for reject in rejects {
        // PostgreSQL keeps no U+0000 in a text.
        let mut payload = reject.payload.replace('\0', "\u{fffd}");
        if payload.len() > MAX_PAYLOAD_BYTES {
            payload.truncate(payload.floor_char_boundary(MAX_PAYLOAD_BYTES));
        }
        let error = reject.reason.replace('\0', "\u{fffd}");
        let known =
            sql("SELECT COUNT(*) AS n FROM dead_letters WHERE source = ? AND topic = ? AND error = ? AND payload = ?")
                .bind(source)
                .bind(topic)
                .bind(error.as_str())
                .bind(payload.as_str())
                .first::<Count>(batch.conn, "looking for a dead letter")?;
        if known.is_some_and(|count| count.n > 0) {
            continue;
        }
        sql(format!(
            "INSERT INTO dead_letters (run_id, source, topic, payload, error, received_at) VALUES (?, ?, ?, ?, ?, {now})"
        ))
        .bind(batch.run_id)
        .bind(source)
        .bind(topic)
        .bind(payload)
        .bind(error)
        .execute(batch.conn, "keeping a dead letter")?;
    }
    Ok(())
}
