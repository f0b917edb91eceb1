//! All of a batch or nothing.

use diesel::Connection as _;

use super::conn::Connection;
use super::error::{DbError, Doing};

/// Runs `work` in a transaction and keeps the typed error of whatever failed in it.
///
/// On SQLite `work` should begin with a write: a transaction that reads first and wants to write
/// later is refused instead of made to wait when another one wrote in between.
pub fn transaction<R>(
    conn: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<R, DbError>,
) -> Result<R, DbError> {
    let mut result = None;
    let inner = |conn: &mut Connection| match work(conn) {
        Ok(value) => {
            result = Some(Ok(value));
            Ok(())
        }
        Err(err) => {
            result = Some(Err(err));
            Err(diesel::result::Error::RollbackTransaction)
        }
    };
    let ended = conn.transaction::<(), diesel::result::Error, _>(inner);
    match (result, ended) {
        // The work went well and the commit did not, or the other way round: the first word counts.
        (Some(Err(err)), _) => Err(err),
        (_, Err(err)) => Err(err).doing("committing"),
        (Some(Ok(value)), Ok(())) => Ok(value),
        (None, Ok(())) => Err(DbError::Query { doing: "committing", why: "nothing was done".to_owned() }),
    }
}
