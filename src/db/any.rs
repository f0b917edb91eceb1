//! One type for the three databases. In a file of its own because the derive looks names up here.

/// A connection to one of the three; diesel tells them apart inside.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    Sqlite(diesel::SqliteConnection),
    #[cfg(feature = "mysql")]
    Mysql(diesel::MysqlConnection),
    #[cfg(feature = "postgres")]
    Postgres(diesel::PgConnection),
}
