//! The only user of diesel: everything that is kept, in whichever of the three databases.
//!
//! Rows and the record of how far a run got are written in one transaction, which begins by
//! proving that the run still holds its lease (`session`).

pub mod absences;
pub mod accounts;
mod any;
pub mod assets;
mod bulk;
pub mod calls;
pub mod candles;
pub mod clock;
pub mod coins;
mod conn;
pub mod coverage;
pub mod dashboard;
pub mod days;
pub mod dead_letters;
pub mod durability;
mod error;
pub mod export;
pub mod figures;
pub mod filling;
pub mod fx;
pub mod gaps;
pub mod health;
pub mod import_positions;
pub mod lease;
pub mod migrate;
pub mod pages;
#[cfg(feature = "postgres")]
mod pg_copy;
pub mod pool;
pub mod prices;
pub mod prune;
pub mod publications;
pub mod rollup;
pub mod runs;
pub mod series;
pub mod session;
pub mod shared;
mod sql;
mod sqlite_raw;
pub mod stream;
mod transaction;
mod url;
pub mod version;
pub mod views;

pub use any::AnyConnection;
pub use conn::{Absent, Connection, Opened, open};
pub use error::DbError;
pub use pool::Pool;
pub use session::Session;
pub use shared::Shared;
pub use sqlite_raw::RawSqlite;
pub use url::{Backend, DatabaseUrl, DatabaseUrlError};
