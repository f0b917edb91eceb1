//! Opening a connection to whichever database the URL names.

use std::path::Path;

use diesel::Connection as _;
use diesel::connection::SimpleConnection;

use super::any::AnyConnection;
use super::error::{DbError, Doing};
use super::sqlite_raw::{self, RawSqlite};
use super::url::{Backend, DatabaseUrl, without_password};

pub type Connection = AnyConnection;
pub type ConnectionBackend = <AnyConnection as diesel::Connection>::Backend;

/// How long a statement waits for another writer, on PostgreSQL.
pub const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";

/// Whether a database that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    Create,
    Fail,
}

impl AnyConnection {
    pub fn backend(&self) -> Backend {
        match self {
            AnyConnection::Sqlite(_) => Backend::Sqlite,
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(_) => Backend::Mysql,
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(_) => Backend::Postgres,
        }
    }
}

/// An open connection, and for SQLite the handle below it that bulk writes go through.
pub struct Opened {
    // Before `conn`: its prepared statements must be gone when the connection closes.
    pub raw: Option<RawSqlite>,
    pub conn: AnyConnection,
}

pub fn open(url: &DatabaseUrl, absent: Absent) -> Result<Opened, DbError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite(url, path, absent),
        DatabaseUrl::Server { backend, url: server } => {
            let conn = match server_connection(*backend, server) {
                Err(why) => Err(refusal(url, server, absent, why)?),
                Ok(conn) => Ok(conn),
            };
            let conn = match conn {
                Ok(conn) => conn,
                // The database had to be made first.
                Err(Created) => server_connection(*backend, server).map_err(|why| DbError::Refused {
                    url: url.to_string(),
                    why: without_password(server, &why.to_string()),
                })?,
            };
            Ok(Opened { conn, raw: None })
        }
    }
}

fn sqlite(url: &DatabaseUrl, path: &Path, absent: Absent) -> Result<Opened, DbError> {
    let file = |why: String| DbError::File { url: url.to_string(), why };
    if absent == Absent::Fail && !path.exists() {
        return Err(DbError::Missing { url: url.to_string() });
    }
    let text = path.to_str().ok_or_else(|| file("its name is not UTF-8".to_owned()))?;
    let mode = if absent == Absent::Create { "rwc" } else { "rw" };
    // A URI names the mode; these three characters mean something in it.
    let text = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let (conn, raw) = sqlite_raw::capture(|| diesel::SqliteConnection::establish(&format!("file:{text}?mode={mode}")))
        .map_err(|err| file(err.to_string()))?;
    let mut conn = AnyConnection::Sqlite(conn);
    // A second process is normal here: wait for it. 16 MiB of pages hold what a run works on.
    let prepared = conn.batch_execute(
        "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000;",
    );
    match prepared {
        Err(err) if err.to_string().contains("not a database") => return Err(file(err.to_string())),
        prepared => prepared.doing("preparing the connection")?,
    }
    if let Err(err) = conn.batch_execute("SELECT count(*) FROM sqlite_master") {
        return Err(file(err.to_string()));
    }
    Ok(Opened { conn, raw })
}

/// A server's refusal in the driver's words.
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.trim())
    }
}

/// The database was not there and has been made.
struct Created;

#[allow(unused_variables, unreachable_code)]
fn server_connection(backend: Backend, url: &url::Url) -> Result<AnyConnection, Refusal> {
    match backend {
        #[cfg(feature = "mysql")]
        Backend::Mysql => {
            let conn = diesel::MysqlConnection::establish(url.as_str()).map_err(|err| Refusal(err.to_string()))?;
            let mut conn = AnyConnection::Mysql(conn);
            // UTC whatever the server thinks; strict, so that nothing is cut to fit.
            let settings = "SET time_zone = '+00:00', innodb_lock_wait_timeout = 10, \
                            sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ENGINE_SUBSTITUTION'";
            conn.batch_execute(settings).map_err(|err| Refusal(err.to_string()))?;
            // MariaDB alone can end a transaction whose owner sleeps; without it the row lock waits.
            let _ = conn.batch_execute("SET idle_transaction_timeout = 15");
            Ok(conn)
        }
        #[cfg(feature = "postgres")]
        Backend::Postgres => {
            let mut url = url.clone();
            if !url.query_pairs().any(|(name, _)| name == "connect_timeout") {
                url.query_pairs_mut().append_pair("connect_timeout", "10");
            }
            let conn = diesel::PgConnection::establish(url.as_str()).map_err(|err| Refusal(err.to_string()))?;
            let mut conn = AnyConnection::Postgres(conn);
            // A stopped owner must not hold its row locks longer than its lease.
            let settings = format!(
                "SET TIME ZONE 'UTC'; {LOCK_TIMEOUT}; SET client_min_messages = warning; \
                 SET idle_in_transaction_session_timeout = '15s'"
            );
            conn.batch_execute(&settings).map_err(|err| Refusal(err.to_string()))?;
            Ok(conn)
        }
        _ => Err(Refusal(String::new())),
    }
}

/// What a refused connection means; `Ok` when the database was merely absent and now is there.
fn refusal(url: &DatabaseUrl, server: &url::Url, absent: Absent, refusal: Refusal) -> Result<Created, DbError> {
    let backend = url.backend();
    let built_in = match backend {
        Backend::Sqlite => true,
        Backend::Mysql => cfg!(feature = "mysql"),
        Backend::Postgres => cfg!(feature = "postgres"),
    };
    if !built_in {
        return Err(DbError::NotBuiltIn { backend });
    }
    // Drivers repeat what they can't read.
    let why = without_password(server, &refusal.to_string());
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let target = || url.to_string();
    if has(&[
        "Access denied",
        "authentication failed",
        "no password supplied",
        "no pg_hba.conf entry",
        "permission denied",
    ]) || has(&["role \"", "is not permitted"]) && has(&["does not exist", "is not permitted"])
    {
        return Err(DbError::Refused { url: target(), why });
    }
    if has(&["Unknown database"]) || has(&["database \""]) && has(&["does not exist"]) {
        return match absent {
            Absent::Fail => Err(DbError::Missing { url: target() }),
            Absent::Create => create_database(url, server),
        };
    }
    Err(DbError::Unreachable { url: target(), why })
}

fn create_database(url: &DatabaseUrl, server: &url::Url) -> Result<Created, DbError> {
    let name = url.database().unwrap_or_default();
    let mut maintenance = server.clone();
    let statement = match url.backend() {
        Backend::Mysql => {
            maintenance.set_path("/");
            format!("CREATE DATABASE IF NOT EXISTS `{}` CHARACTER SET utf8mb4", name.replace('`', "``"))
        }
        Backend::Postgres | Backend::Sqlite => {
            maintenance.set_path("/postgres");
            format!("CREATE DATABASE \"{}\" ENCODING 'UTF8' TEMPLATE template0", name.replace('"', "\"\""))
        }
    };
    let refused = |why: String| DbError::Refused {
        url: url.to_string(),
        why: format!("the database does not exist and could not be created: {}", without_password(server, why.trim())),
    };
    let mut conn = server_connection(url.backend(), &maintenance).map_err(|why| refused(why.to_string()))?;
    match conn.batch_execute(&statement) {
        Ok(()) => Ok(Created),
        // Another host was faster; at the very same moment PostgreSQL tells it by the key of its catalog.
        Err(err) if ["already exists", "pg_database_datname_index"].iter().any(|w| err.to_string().contains(w)) => {
            Ok(Created)
        }
        Err(err) => Err(refused(err.to_string())),
    }
}
