//! The schema: migrations embedded in the binary, one folder for each backend.

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::conn::{Absent, Connection, Opened, open};
use super::error::{DbError, Doing};
use super::sql::sql;
use super::url::{Backend, DatabaseUrl};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "mysql")]
const MYSQL: EmbeddedMigrations = embed_migrations!("migrations/mysql");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Another host may be migrating at this moment.
const ATTEMPTS: u32 = 20;

/// Where a database stands against this binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub applied: Vec<String>,
    pub pending: Vec<String>,
    /// The newest applied migration that this binary does not know.
    pub unknown: Option<String>,
}

fn embedded(backend: Backend) -> EmbeddedMigrations {
    match backend {
        Backend::Sqlite => SQLITE,
        #[cfg(feature = "mysql")]
        Backend::Mysql => MYSQL,
        #[cfg(feature = "postgres")]
        Backend::Postgres => POSTGRES,
        #[allow(unreachable_patterns)]
        _ => SQLITE,
    }
}

pub fn known(backend: Backend) -> Result<Vec<String>, DbError> {
    let mut names = Vec::new();
    let source: Vec<Box<dyn Migration<diesel::sqlite::Sqlite>>> =
        embedded(backend).migrations().map_err(|err| DbError::Migration(err.to_string()))?;
    for migration in source {
        names.push(migration.name().version().to_string());
    }
    names.sort();
    Ok(names)
}

#[derive(diesel::QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Reads the state without changing anything, so that `--check` needs no right to write.
pub fn state(conn: &mut Connection) -> Result<State, DbError> {
    let known = known(conn.backend())?;
    let table = match conn.backend() {
        Backend::Sqlite => "SELECT name AS version FROM sqlite_master WHERE name = '__diesel_schema_migrations'",
        Backend::Mysql => {
            "SELECT table_name AS version FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = '__diesel_schema_migrations'"
        }
        Backend::Postgres => {
            "SELECT CAST(table_name AS TEXT) AS version FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = '__diesel_schema_migrations'"
        }
    };
    let mut applied = Vec::new();
    if sql(table).first::<Version>(conn, "looking for the schema")?.is_some() {
        let rows = sql("SELECT version FROM __diesel_schema_migrations ORDER BY version")
            .load::<Version>(conn, "reading the schema's version")?;
        applied = rows.into_iter().map(|row| row.version).collect();
    }
    let pending = known.iter().filter(|version| !applied.contains(version)).cloned().collect();
    let unknown = applied.iter().rev().find(|version| !known.contains(version)).cloned();
    Ok(State { applied, pending, unknown })
}

/// Opens a database whose schema is exactly this binary's.
pub fn open_current(url: &DatabaseUrl) -> Result<Opened, DbError> {
    let mut opened = open(url, Absent::Fail)?;
    fits(&mut opened.conn)?;
    Ok(opened)
}

/// Whether the schema is exactly this binary's.
pub fn fits(conn: &mut Connection) -> Result<(), DbError> {
    let state = state(conn)?;
    if let Some(version) = state.unknown {
        return Err(DbError::SchemaNewer { version });
    }
    match state.pending.len() {
        0 => Ok(()),
        pending => Err(DbError::SchemaOlder { pending }),
    }
}

/// Applies what is pending and returns its versions; refuses a schema newer than the binary.
pub fn run_pending(conn: &mut Connection) -> Result<Vec<String>, DbError> {
    let before = state(conn)?;
    if let Some(version) = before.unknown {
        return Err(DbError::SchemaNewer { version });
    }
    if before.pending.is_empty() {
        return Ok(Vec::new());
    }
    if conn.backend() == Backend::Sqlite {
        // Readers and the writer do not block each other; the setting stays in the file.
        conn.batch_execute("PRAGMA journal_mode = WAL").doing("preparing the database file")?;
    }
    let mut attempt = 1;
    loop {
        let failed = match conn.run_pending_migrations(embedded(conn.backend())) {
            Ok(_) => None,
            Err(err) => Some(err.to_string()),
        };
        let Some(why) = failed else { return Ok(before.pending) };
        // A second db-setup at the same moment makes one of the two fail; the other one's work
        // is ours too.
        if attempt >= ATTEMPTS {
            return Err(DbError::Migration(why));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        match state(conn) {
            Ok(now) if now.pending.is_empty() => return Ok(Vec::new()),
            Ok(now) if attempt > 3 && now.pending == before.pending => return Err(DbError::Migration(why)),
            _ => attempt += 1,
        }
    }
}

/// Takes back every migration, newest first: only for tests of the `down.sql` files.
pub fn revert_all(conn: &mut Connection) -> Result<Vec<String>, DbError> {
    let reverted: Vec<MigrationVersion<'_>> =
        conn.revert_all_migrations(embedded(conn.backend())).map_err(|err| DbError::Migration(err.to_string()))?;
    Ok(reverted.into_iter().map(|version| version.to_string()).collect())
}
