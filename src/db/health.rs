//! What `doctor` wants to know of a database: does it answer, may we write, how large is what.

use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::conn::Connection;
use super::error::DbError;
use super::sql::sql;
use super::transaction::transaction;
use super::url::{Backend, DatabaseUrl};
use crate::domain::Stamp;

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

/// What tells a database from all others, whatever address it is asked by: where it is, and when it was made.
/// Files of one name lie in many places, and `localhost` is another host everywhere.
pub fn identity(conn: &mut Connection, url: &DatabaseUrl) -> Result<String, DbError> {
    let place = match url.path() {
        Some(path) => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            format!("{}:{}", host.trim(), path.display())
        }
        None => {
            let read = match conn.backend() {
                Backend::Postgres => {
                    "SELECT CAST(current_database() || '.' || current_schema() AS TEXT) || '@' || \
                     CAST((SELECT oid FROM pg_database WHERE datname = current_database()) AS TEXT) AS word"
                }
                Backend::Mysql | Backend::Sqlite => "SELECT CONCAT(@@hostname, ':', @@port, '/', DATABASE()) AS word",
            };
            sql(read).first::<Word>(conn, "asking which database this is")?.map(|row| row.word).unwrap_or_default()
        }
    };
    let text = if conn.backend() == Backend::Mysql { "CHAR" } else { "TEXT" };
    let made = sql(format!("SELECT CAST(MIN(run_on) AS {text}) AS word FROM __diesel_schema_migrations"));
    let made = made.first::<Word>(conn, "asking when the schema was made")?.map(|row| row.word).unwrap_or_default();
    Ok(format!("{place} {made}"))
}

/// When the newest price of all was observed.
pub fn newest_price(conn: &mut Connection) -> Result<Option<Stamp>, DbError> {
    #[derive(diesel::QueryableByName)]
    struct Newest {
        #[diesel(sql_type = diesel::sql_types::Timestamp)]
        observed_at: chrono::NaiveDateTime,
    }
    let read = "SELECT observed_at FROM prices ORDER BY observed_at DESC LIMIT 1";
    let row = sql(read).first::<Newest>(conn, "looking for the newest price")?;
    Ok(row.and_then(|row| Stamp::from_datetime(row.observed_at.and_utc()).ok()))
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
