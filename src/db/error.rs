//! Database failures by what a person can do about them.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::url::Backend;

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error(
        "the database {url} can't be reached ({why}); check that it runs and that host and port in DATABASE_URL are right"
    )]
    Unreachable { url: String, why: String },
    #[error("the database {url} refuses us ({why}); check user, password and rights in DATABASE_URL")]
    Refused { url: String, why: String },
    #[error("the database {url} does not exist; run `coinetl db-setup`")]
    Missing { url: String },
    #[error("the database file {url} can't be opened ({why}); check that its folder exists and can be written")]
    File { url: String, why: String },
    #[error("{backend} is not built into this binary; rebuild with `cargo build --release --features {}`", .backend.feature())]
    NotBuiltIn { backend: Backend },
    #[error("the schema is older than this binary ({pending} migrations pending); run `coinetl db-setup`")]
    SchemaOlder { pending: usize },
    #[error("the schema is newer than this binary (it has migration {version}); update coinetl")]
    SchemaNewer { version: String },
    #[error("a migration failed: {0}; restore a backup or look at the message, then run `coinetl db-setup` again")]
    Migration(String),
    #[error(
        "{command} is already running for {source_name} (last sign of life {age} s ago); try again later or use --wait 5m"
    )]
    LeaseHeld { command: String, source_name: String, age: i64 },
    #[error(
        "another process took over {command} for {source_name} because this one gave no sign of life for 15 s; nothing more was written"
    )]
    LeaseLost { command: String, source_name: String },
    #[error("the disk of the database is full ({0}); free some space and run again")]
    Full(String),
    #[error(
        "the database can't be written ({0}); check the permissions of the file and its folder, or the user's rights"
    )]
    ReadOnly(String),
    #[error("the database stayed locked by another process ({0}); run again when it is done")]
    Locked(String),
    #[error("the database went away ({0}); check that it runs, then run again")]
    Gone(String),
    #[error("another member of the group went on with partition {partition}")]
    Overtaken { partition: i32 },
    #[error("a row with this key is there already ({0})")]
    Duplicate(String),
    #[error("{doing}: {why}")]
    Query { doing: &'static str, why: String },
}

impl DbError {
    /// Whether the same transaction may work when it is tried again at once.
    pub fn is_conflict(&self) -> bool {
        // A key that is taken: another command stored the same coin after this one looked for it.
        matches!(self, DbError::Locked(_) | DbError::Duplicate(_))
    }
}

/// Sorts a failed query. Drivers tell most of it only in words.
pub fn classify(doing: &'static str, err: &DieselError) -> DbError {
    let why = err.to_string();
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if let DieselError::DatabaseError(kind, _) = err {
        match kind {
            DatabaseErrorKind::ClosedConnection => return DbError::Gone(why),
            DatabaseErrorKind::UniqueViolation => return DbError::Duplicate(why),
            DatabaseErrorKind::SerializationFailure => return DbError::Locked(why),
            DatabaseErrorKind::ReadOnlyTransaction => return DbError::ReadOnly(why),
            _ => {}
        }
    }
    if has(&["disk is full", "Disk full", "No space left", "is full", "disk I/O error", "could not extend file"]) {
        DbError::Full(why)
    } else if has(&[
        "readonly database",
        "unable to open database file",
        "read-only",
        "permission denied",
        "command denied",
    ]) {
        DbError::ReadOnly(why)
    } else if has(&["database is locked", "Lock wait timeout", "Deadlock found", "deadlock detected", "lock timeout"]) {
        DbError::Locked(why)
    } else if has(&[
        "server has gone away",
        "Lost connection",
        "server closed the connection",
        "terminating connection",
        "connection to server",
        "no connection to the server",
        "could not receive data",
        "could not send data",
        "Connection was killed",
        "shutting down",
        "SSL SYSCALL",
        "Server has gone away",
        "idle-in-transaction timeout",
    ]) {
        DbError::Gone(why)
    } else {
        DbError::Query { doing, why }
    }
}

/// Puts words to a failed query where it happens.
pub trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, DbError>;
}

impl<T> Doing<T> for Result<T, DieselError> {
    fn doing(self, what: &'static str) -> Result<T, DbError> {
        self.map_err(|err| classify(what, &err))
    }
}
