//! What the pages of the dashboard read. Every read is bounded, however long the history is.

pub mod coin;
pub mod market;
pub mod pairs;
pub mod pipeline;
pub mod rates;

use super::error::DbError;
use crate::domain::Stamp;

/// A time of a row.
fn stamp(doing: &'static str, time: chrono::NaiveDateTime) -> Result<Stamp, DbError> {
    Stamp::from_datetime(time.and_utc()).map_err(|err| DbError::Query { doing, why: err.to_string() })
}

/// A place for a time, bound as text.
fn at(conn: &super::Connection) -> &'static str {
    conn.backend().stamp()
}
