//! The database's clock: one for all hosts.

use diesel::sql_types::Timestamp;

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use crate::domain::Stamp;

/// What the database takes for now, cut to the millisecond.
pub fn now(conn: &mut Connection) -> Result<Stamp, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Now {
        #[diesel(sql_type = Timestamp)]
        now: chrono::NaiveDateTime,
    }
    let doing = "reading the database's clock";
    let row = sql(format!("SELECT {} AS now", conn.backend().now())).first::<Now>(conn, doing)?;
    let now = row.and_then(|row| Stamp::from_datetime(row.now.and_utc()).ok());
    now.ok_or(DbError::Query { doing, why: "it gave no time".to_owned() })
}
