//! How safe a commit is when the power goes. When a process dies, every one is, always.

use diesel::connection::SimpleConnection;

use super::conn::Connection;
use super::error::{DbError, Doing};
use super::url::Backend;

const DOING: &str = "preparing the connection";

/// The last commits may be lost, all from some moment on: right for what only counts, or is done again, and it saves
/// a flush of the disk for each. MySQL can't be asked for that.
pub fn relax(conn: &mut Connection) -> Result<(), DbError> {
    match conn.backend() {
        Backend::Sqlite => conn.batch_execute("PRAGMA synchronous = NORMAL").doing(DOING),
        Backend::Postgres => conn.batch_execute("SET synchronous_commit = off").doing(DOING),
        Backend::Mysql => Ok(()),
    }
}

/// What is committed from now on is safe, and with the first such commit all before.
pub fn restore(conn: &mut Connection) -> Result<(), DbError> {
    match conn.backend() {
        Backend::Sqlite => conn.batch_execute("PRAGMA synchronous = FULL").doing(DOING),
        Backend::Postgres => conn.batch_execute("RESET synchronous_commit").doing(DOING),
        Backend::Mysql => Ok(()),
    }
}
