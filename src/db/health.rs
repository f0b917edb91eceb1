//! What `doctor` wants to know of a database: does it answer, may we write, how large is what.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use super::transaction::transaction;
use super::url::Backend;

#[derive(diesel::QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

/// Name and version of the server, or of the SQLite inside the binary.
pub fn version(conn: &mut Connection) -> Result<String, DbError> {
    let (name, read) = match conn.backend() {
        Backend::Sqlite => ("SQLite", "SELECT sqlite_version() AS word"),
        Backend::Mysql => ("", "SELECT VERSION() AS word"),
        Backend::Postgres => ("PostgreSQL", "SELECT current_setting('server_version') AS word"),
    };
    let row = sql(read).first::<Word>(conn, "asking for the database's version")?;
    let version = row.map(|row| row.word).unwrap_or_default();
    let name = match name {
        "" if version.contains("MariaDB") => "MariaDB",
        "" => "MySQL",
        name => name,
    };
    Ok(format!("{name} {version}"))
}

/// Whether rows may be written: takes the locks and rights of a write and changes nothing.
pub fn check_write(conn: &mut Connection) -> Result<(), DbError> {
    transaction(conn, |conn| {
        for table in ["runs", "assets", "prices"] {
            sql(format!("DELETE FROM {table} WHERE 1 = 0")).execute(conn, "trying to write")?;
        }
        Ok(())
    })
}

/// A table's size on disk, its indexes with it.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub struct TableSize {
    #[diesel(sql_type = Text)]
    pub name: String,
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// Largest first. On SQLite this reads through the whole file.
pub fn table_sizes(conn: &mut Connection) -> Result<Vec<TableSize>, DbError> {
    let read = match conn.backend() {
        Backend::Sqlite => {
            "SELECT m.tbl_name AS name, CAST(SUM(s.pgsize) AS INTEGER) AS bytes FROM dbstat s \
             JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name ORDER BY bytes DESC"
        }
        Backend::Mysql => {
            "SELECT table_name AS name, CAST(COALESCE(data_length + index_length, 0) AS SIGNED) AS bytes \
             FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' \
             ORDER BY bytes DESC"
        }
        Backend::Postgres => {
            "SELECT CAST(c.relname AS TEXT) AS name, pg_total_relation_size(c.oid) AS bytes FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') ORDER BY bytes DESC"
        }
    };
    sql(read).load(conn, "asking for the sizes of the tables")
}

/// The newest run of a command and source.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub struct LastRun {
    #[diesel(sql_type = Text)]
    pub command: String,
    #[diesel(sql_type = Text)]
    pub source: String,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = BigInt)]
    pub rows_written: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
    /// Seconds since it began.
    #[diesel(sql_type = BigInt)]
    pub age: i64,
    /// Its owner gave a sign of life lately.
    #[diesel(sql_type = Bool)]
    pub alive: bool,
}

/// The newest run of each command and source that stores something.
pub fn last_runs(conn: &mut Connection) -> Result<Vec<LastRun>, DbError> {
    let age = match conn.backend() {
        Backend::Sqlite => "CAST(unixepoch('now') - unixepoch(r.started_at) AS INTEGER)",
        Backend::Mysql => "CAST(TIMESTAMPDIFF(SECOND, r.started_at, UTC_TIMESTAMP(3)) AS SIGNED)",
        Backend::Postgres => {
            "CAST(EXTRACT(EPOCH FROM (clock_timestamp() AT TIME ZONE 'UTC') - r.started_at) AS BIGINT)"
        }
    };
    sql(format!(
        "SELECT r.command, r.source, r.status, r.rows_written, r.error, {age} AS age, \
         EXISTS (SELECT 1 FROM leases l WHERE l.run_id = r.id AND l.heartbeat_us > {} - 15000000) AS alive FROM runs r \
         JOIN (SELECT MAX(id) AS id FROM runs WHERE command NOT IN ('plan', 'doctor') GROUP BY command, source) n \
         ON n.id = r.id ORDER BY r.command, r.source",
        conn.backend().now_us()
    ))
    .load(conn, "reading the last runs")
}
