//! One way to write a statement for three databases: `?` for a value, and a few words that differ.

use diesel::prelude::*;
use diesel::query_builder::BoxedSqlQuery;
use diesel::sql_types::{BigInt, Double, Nullable, Text};

use super::conn::{Connection, ConnectionBackend};
use super::error::{DbError, Doing};
use super::url::Backend;
use crate::domain::Stamp;

/// A statement with its values.
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

#[derive(Debug, Clone)]
pub enum Value {
    Int(i64),
    MaybeInt(Option<i64>),
    Double(Option<f64>),
    Text(String),
    MaybeText(Option<String>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Double(Some(value))
    }
}
impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Self {
        Value::Double(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}
impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Value::MaybeText(value)
    }
}

/// Starts a statement; every `?` in it stands for a value to bind.
pub fn sql(text: impl Into<String>) -> Sql {
    Sql { text: text.into(), values: Vec::new() }
}

impl Sql {
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// The text and its values, for a driver of its own.
    pub fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }

    /// Runs it; the number of rows it says it touched.
    pub fn execute(self, conn: &mut Connection, doing: &'static str) -> Result<usize, DbError> {
        self.query(conn.backend()).execute(conn).doing(doing)
    }

    pub fn load<T>(self, conn: &mut Connection, doing: &'static str) -> Result<Vec<T>, DbError>
    where
        T: QueryableByName<ConnectionBackend> + 'static,
    {
        self.query(conn.backend()).load(conn).doing(doing)
    }

    pub fn first<T>(self, conn: &mut Connection, doing: &'static str) -> Result<Option<T>, DbError>
    where
        T: QueryableByName<ConnectionBackend> + 'static,
    {
        Ok(self.load(conn, doing)?.into_iter().next())
    }

    fn query(self, backend: Backend) -> BoxedSqlQuery<'static, ConnectionBackend, diesel::query_builder::SqlQuery> {
        let text = match backend {
            Backend::Postgres => numbered(&self.text),
            Backend::Sqlite | Backend::Mysql => self.text,
        };
        let mut query = diesel::sql_query(text).into_boxed::<ConnectionBackend>();
        for value in self.values {
            query = match value {
                Value::Int(value) => query.bind::<BigInt, _>(value),
                Value::MaybeInt(value) => query.bind::<Nullable<BigInt>, _>(value),
                Value::Double(value) => query.bind::<Nullable<Double>, _>(value),
                Value::Text(value) => query.bind::<Text, _>(value),
                Value::MaybeText(value) => query.bind::<Nullable<Text>, _>(value),
            };
        }
        query
    }
}

/// A time as it was stored: it was checked then.
pub(super) fn stored(time: chrono::NaiveDateTime) -> Stamp {
    Stamp::from_datetime(time.and_utc()).unwrap_or_default()
}

/// `?` to `$1`, `$2` … No statement of ours holds a question mark in a text.
pub(super) fn numbered(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut n = 0;
    for part in text.split_inclusive('?') {
        match part.strip_suffix('?') {
            Some(before) => {
                n += 1;
                out.push_str(before);
                out.push('$');
                out.push_str(&n.to_string());
            }
            None => out.push_str(part),
        }
    }
    out
}

/// `(?,?,?),(?,?,?)`: `rows` groups of `columns` places.
pub fn places(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    vec![row; rows].join(",")
}

impl Backend {
    /// The database's own clock in UTC, cut to the millisecond: one clock for all hosts.
    pub fn now(self) -> &'static str {
        match self {
            Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f','now')",
            Backend::Mysql => "UTC_TIMESTAMP(3)",
            Backend::Postgres => {
                "CAST(date_trunc('milliseconds', clock_timestamp() AT TIME ZONE 'UTC') AS timestamp(3))"
            }
        }
    }

    /// The same clock in microseconds since 1970.
    pub fn now_us(self) -> &'static str {
        match self {
            Backend::Sqlite => "CAST(ROUND(unixepoch('now','subsec')*1000) AS INTEGER)*1000",
            Backend::Mysql => "CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS SIGNED)",
            Backend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp())*1000000 AS BIGINT)",
        }
    }

    /// A place for a time to the millisecond, bound as text.
    pub fn stamp(self) -> &'static str {
        match self {
            Backend::Sqlite | Backend::Mysql => "?",
            Backend::Postgres => "CAST(? AS timestamp(3))",
        }
    }

    /// Locks the rows that a read returns until the transaction ends. SQLite has one writer anyway.
    pub fn for_update(self) -> &'static str {
        match self {
            Backend::Sqlite => "",
            Backend::Mysql | Backend::Postgres => " FOR UPDATE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_for_postgresql() {
        assert_eq!(numbered("a=? AND b IN (?,?)"), "a=$1 AND b IN ($2,$3)");
        assert_eq!(numbered("nothing"), "nothing");
        assert_eq!(places(2, 3), "(?,?,?),(?,?,?)");
    }
}
