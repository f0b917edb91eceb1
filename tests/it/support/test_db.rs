//! A database of its own for a test, on any of the three, and what is in it.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use coinetl::db::{Absent, DatabaseUrl, Opened, open};
use serde_json::Value;

use super::workdir::{Cmd, Workdir};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Mysql,
    Postgres,
}

/// A test for each database of each behaviour: a function that takes a [`TestDb`] with the schema
/// in it. With `bare:` in front the database is not there yet; with `only_sqlite:` the behaviour is
/// one of HTTP, to which the database makes no difference.
macro_rules! on_every_database {
    (bare: $($behaviour:ident),+ $(,)?) => {
        on_every_database!(@modules TestDb::with_bare; bare_sqlite, bare_mysql, bare_postgres; $($behaviour),+);
    };
    (only_sqlite: $($behaviour:ident),+ $(,)?) => {
        on_every_database!(@module only_sqlite Sqlite TestDb::with; $($behaviour),+);
    };
    (@modules $with:path; $sqlite:ident, $mysql:ident, $postgres:ident; $($behaviour:ident),+) => {
        on_every_database!(@module $sqlite Sqlite $with; $($behaviour),+);
        on_every_database!(@module $mysql Mysql $with; $($behaviour),+);
        on_every_database!(@module $postgres Postgres $with; $($behaviour),+);
    };
    (@module $name:ident $backend:ident $with:path; $($behaviour:ident),+) => {
        mod $name {
            #[allow(unused_imports)]
            use crate::support::test_db::{Backend, TestDb};
            $(
                #[test]
                fn $behaviour() {
                    $with(Backend::$backend, super::$behaviour);
                }
            )+
        }
    };
    ($($behaviour:ident),+ $(,)?) => {
        on_every_database!(@modules TestDb::with; sqlite, mysql, postgres; $($behaviour),+);
    };
}

/// A database that is dropped at the end, and a folder to run the binary in.
pub struct TestDb {
    backend: Backend,
    url: String,
    /// The server's URL without a database, and the database's name.
    server: Option<(String, String)>,
    workdir: Workdir,
}

impl TestDb {
    /// A name for a database that is not there yet; `db-setup` makes it. `None` when the tests
    /// were told of no such server.
    pub fn new(backend: Backend) -> Option<TestDb> {
        let workdir = Workdir::new();
        let (feature, variable, built_in) = match backend {
            Backend::Sqlite => {
                let url = format!("sqlite://{}", workdir.file("it.db").display());
                return Some(TestDb { backend, url, server: None, workdir });
            }
            Backend::Mysql => ("mysql", "COINETL_TEST_MYSQL_URL", cfg!(feature = "mysql")),
            Backend::Postgres => ("postgres", "COINETL_TEST_POSTGRES_URL", cfg!(feature = "postgres")),
        };
        if !built_in {
            loud(&format!("SKIPPED {feature}: the tests were built without the feature {feature}"));
            return None;
        }
        let server = std::env::var(variable).unwrap_or_default();
        if server.is_empty() {
            let why = format!("SKIPPED {feature}: {variable} is not set");
            loud(&why);
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}, and CI must not skip");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("it_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let server = server.trim_end_matches('/').to_owned();
        Some(TestDb { backend, url: format!("{server}/{name}"), server: Some((server, name)), workdir })
    }

    /// A database on this server, which is not there yet.
    pub fn at(backend: Backend, server: &str) -> TestDb {
        let (server, name) = (server.trim_end_matches('/').to_owned(), "it".to_owned());
        TestDb { backend, url: format!("{server}/{name}"), server: Some((server, name)), workdir: Workdir::new() }
    }

    /// Runs a behaviour on a database with the schema in it.
    pub fn with(backend: Backend, behaviour: fn(&TestDb)) {
        if let Some(db) = TestDb::new(backend) {
            db.setup();
            behaviour(&db);
        }
    }

    /// Runs a behaviour on a database that is not there yet.
    pub fn with_bare(backend: Backend, behaviour: fn(&TestDb)) {
        if let Some(db) = TestDb::new(backend) {
            behaviour(&db);
        }
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// `coinetl ARGS…` on this database.
    pub fn coinetl(&self, args: &[&str]) -> Cmd {
        self.workdir.coinetl(args).env("DATABASE_URL", &self.url)
    }

    /// `coinetl ARGS…` on this database, with a vendor at this address.
    pub fn ask(&self, args: &[&str], api_url: &str) -> Cmd {
        self.coinetl(args).env("COINGECKO_API_URL", api_url)
    }

    pub fn setup(&self) -> Value {
        self.coinetl(&["db-setup"]).json(0)
    }

    /// The library's connection, for what only the library can do.
    pub fn open(&self) -> Opened {
        let url = DatabaseUrl::parse(&self.url).expect("a database URL");
        open(&url, Absent::Fail).unwrap_or_else(|err| panic!("{err}"))
    }

    /// The rows of a query: numbers in their shortest exact form, booleans as 0 and 1, times as
    /// `YYYY-MM-DD HH:MM:SS.fff`.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.cells(sql).into_iter().map(|row| row.into_iter().map(Cell::text).collect()).collect()
    }

    /// One row a line, its values separated by `|`, NULL as `NULL`: for comparing at a glance.
    #[track_caller]
    pub fn lines(&self, sql: &str) -> Vec<String> {
        let shown = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
        self.query(sql).into_iter().map(|row| row.into_iter().map(shown).collect::<Vec<_>>().join("|")).collect()
    }

    /// The only value of a query.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        match self.cells(sql).first().and_then(|row| row.first()) {
            Some(Cell::Int(number)) => *number,
            Some(Cell::Text(number)) => number.parse().unwrap_or_else(|_| panic!("{sql}: {number}")),
            other => panic!("{sql}: {other:?} is no whole number"),
        }
    }

    /// Doubles, bit for bit: each as the 16 hexadecimal digits of its IEEE form.
    #[track_caller]
    pub fn doubles(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let hex = |cell| match cell {
            Cell::Null => None,
            Cell::Double(number) => Some(bits(number)),
            other => panic!("{sql}: {other:?} is not stored as a double"),
        };
        self.cells(sql).into_iter().map(|row| row.into_iter().map(hex).collect()).collect()
    }

    #[track_caller]
    pub fn cells(&self, sql: &str) -> Vec<Vec<Cell>> {
        match self.backend {
            Backend::Sqlite => sqlite::cells(self.path(), sql),
            #[cfg(feature = "mysql")]
            Backend::Mysql => mysql::cells(&self.url, sql),
            #[cfg(feature = "postgres")]
            Backend::Postgres => postgres::cells(&self.url, sql),
            #[allow(unreachable_patterns)]
            backend => panic!("{backend:?} is not built in"),
        }
    }

    /// Runs statements whose results do not matter.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.try_execute(sql).unwrap_or_else(|err| panic!("{sql}: {err}"));
    }

    /// The same, where a refusal is what the test is about.
    pub fn try_execute(&self, sql: &str) -> Result<(), String> {
        match self.backend {
            Backend::Sqlite => sqlite::execute(self.path(), sql),
            #[cfg(feature = "mysql")]
            Backend::Mysql => mysql::execute(&self.url, sql),
            #[cfg(feature = "postgres")]
            Backend::Postgres => postgres::execute(&self.url, sql),
            #[allow(unreachable_patterns)]
            backend => panic!("{backend:?} is not built in"),
        }
    }

    fn path(&self) -> &str {
        self.url.trim_start_matches("sqlite://")
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some((_server, _name)) = &self.server else { return };
        let dropped: Result<(), String> = match self.backend {
            #[cfg(feature = "mysql")]
            Backend::Mysql => mysql::execute(&format!("{_server}/"), &format!("DROP DATABASE IF EXISTS {_name}")),
            #[cfg(feature = "postgres")]
            Backend::Postgres => {
                let drop = format!("DROP DATABASE IF EXISTS {_name} WITH (FORCE)");
                postgres::execute(&format!("{_server}/postgres"), &drop)
            }
            _ => Ok(()),
        };
        if let Err(err) = dropped {
            loud(&format!("the database {_name} could not be dropped: {err}"));
        }
    }
}

/// A value as the database's own client library gives it.
#[derive(Debug, Clone)]
pub enum Cell {
    Null,
    Int(i64),
    Double(f64),
    Text(String),
}

impl Cell {
    fn text(self) -> Option<String> {
        match self {
            Cell::Null => None,
            Cell::Int(number) => Some(number.to_string()),
            Cell::Double(number) => Some(format!("{number:?}")),
            Cell::Text(text) => Some(text),
        }
    }
}

/// Zeros of both signs differ, and so do numbers that print alike.
impl PartialEq for Cell {
    fn eq(&self, other: &Cell) -> bool {
        match (self, other) {
            (Cell::Null, Cell::Null) => true,
            (Cell::Int(a), Cell::Int(b)) => a == b,
            (Cell::Double(a), Cell::Double(b)) => a.to_bits() == b.to_bits(),
            (Cell::Text(a), Cell::Text(b)) => a == b,
            _ => false,
        }
    }
}

/// Two tables row by row; tells the first rows that differ instead of all of both.
#[track_caller]
pub fn assert_same<T: PartialEq + std::fmt::Debug>(left: &[T], right: &[T]) {
    let differing = left.iter().zip(right).enumerate().filter(|(_, (left, right))| left != right);
    let shown: Vec<String> =
        differing.take(5).map(|(at, (left, right))| format!("row {at}:\n  {left:?}\n  {right:?}")).collect();
    assert!(shown.is_empty(), "{} and {} rows that differ:\n{}", left.len(), right.len(), shown.join("\n"));
    assert_eq!(left.len(), right.len(), "rows");
}

pub fn bits(number: f64) -> String {
    format!("{:016x}", number.to_bits())
}

/// Past the test harness, which hides what a passing test prints.
pub fn loud(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

mod sqlite {
    use rusqlite::Connection;
    use rusqlite::types::ValueRef;

    use super::Cell;

    #[track_caller]
    fn connect(path: &str) -> Connection {
        let conn = Connection::open(path).expect("the database file");
        conn.busy_timeout(std::time::Duration::from_secs(20)).expect("a busy timeout");
        conn
    }

    pub fn execute(path: &str, sql: &str) -> Result<(), String> {
        connect(path).execute_batch(sql).map_err(|err| err.to_string())
    }

    #[track_caller]
    pub fn cells(path: &str, sql: &str) -> Vec<Vec<Cell>> {
        let conn = connect(path);
        let mut statement = conn.prepare(sql).unwrap_or_else(|err| panic!("{sql}: {err}"));
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("a query");
        let mut cells = Vec::new();
        while let Some(row) = rows.next().unwrap_or_else(|err| panic!("{sql}: {err}")) {
            let value = |at| match row.get_ref(at).expect("a column") {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Int(number),
                ValueRef::Real(number) => Cell::Double(number),
                ValueRef::Text(text) => Cell::Text(String::from_utf8(text.to_vec()).expect("UTF-8")),
                ValueRef::Blob(bytes) => panic!("{sql}: a blob of {} bytes", bytes.len()),
            };
            cells.push((0..columns).map(value).collect());
        }
        cells
    }
}

/// Rows of any shape through diesel: the type of each value decides how it is read.
#[cfg(any(feature = "mysql", feature = "postgres"))]
macro_rules! server {
    ($connection:ty, $backend:ty, $decode:ident) => {
        use diesel::Connection as _;
        use diesel::connection::{DefaultLoadingMode, LoadConnection, SimpleConnection};
        use diesel::deserialize::FromSql;
        use diesel::row::{Field, Row};
        use diesel::sql_types;

        use super::Cell;

        fn connect(url: &str) -> Result<$connection, String> {
            let mut conn = <$connection>::establish(url).map_err(|err| err.to_string())?;
            conn.batch_execute(PREPARE).map_err(|err| err.to_string())?;
            Ok(conn)
        }

        pub fn execute(url: &str, sql: &str) -> Result<(), String> {
            connect(url)?.batch_execute(sql).map_err(|err| err.to_string())
        }

        #[track_caller]
        pub fn cells(url: &str, sql: &str) -> Vec<Vec<Cell>> {
            let mut conn = connect(url).unwrap_or_else(|err| panic!("{err}"));
            let rows = LoadConnection::<DefaultLoadingMode>::load(&mut conn, diesel::sql_query(sql));
            let rows = rows.unwrap_or_else(|err| panic!("{sql}: {err}"));
            let mut cells = Vec::new();
            for row in rows {
                let row = row.unwrap_or_else(|err| panic!("{sql}: {err}"));
                let mut values = Vec::new();
                for at in 0..row.field_count() {
                    let field = Row::get(&row, at).expect("a column");
                    let decoded = field.value().map_or(Ok(Cell::Null), $decode);
                    values.push(decoded.unwrap_or_else(|err| panic!("{sql}, column {at}: {err}")));
                }
                cells.push(values);
            }
            cells
        }

        fn stamp(moment: chrono::NaiveDateTime) -> Cell {
            Cell::Text(moment.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
        }
    };
}

#[cfg(feature = "mysql")]
mod mysql {
    use diesel::mysql::{Mysql, MysqlType, MysqlValue};

    const PREPARE: &str = "SET time_zone = '+00:00'";
    server!(diesel::MysqlConnection, Mysql, decode);

    fn decode(value: MysqlValue<'_>) -> diesel::deserialize::Result<Cell> {
        use sql_types::{BigInt, Double, Integer, SmallInt, Text, TinyInt, Unsigned};
        Ok(match value.value_type() {
            MysqlType::Tiny => Cell::Int(<i8 as FromSql<TinyInt, Mysql>>::from_sql(value)?.into()),
            MysqlType::Short => Cell::Int(<i16 as FromSql<SmallInt, Mysql>>::from_sql(value)?.into()),
            MysqlType::Long => Cell::Int(<i32 as FromSql<Integer, Mysql>>::from_sql(value)?.into()),
            MysqlType::LongLong => Cell::Int(<i64 as FromSql<BigInt, Mysql>>::from_sql(value)?),
            MysqlType::UnsignedLong => Cell::Int(<u32 as FromSql<Unsigned<Integer>, Mysql>>::from_sql(value)?.into()),
            MysqlType::UnsignedLongLong => {
                Cell::Int(<u64 as FromSql<Unsigned<BigInt>, Mysql>>::from_sql(value)?.try_into()?)
            }
            MysqlType::Double => Cell::Double(<f64 as FromSql<Double, Mysql>>::from_sql(value)?),
            MysqlType::DateTime | MysqlType::Timestamp => {
                stamp(<chrono::NaiveDateTime as FromSql<sql_types::Datetime, Mysql>>::from_sql(value)?)
            }
            MysqlType::String | MysqlType::Blob | MysqlType::Enum | MysqlType::Set | MysqlType::Numeric => {
                Cell::Text(<String as FromSql<Text, Mysql>>::from_sql(value)?)
            }
            other => return Err(format!("the type {other:?} has no reader here").into()),
        })
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use diesel::pg::{Pg, PgValue};

    const PREPARE: &str = "SET TIME ZONE 'UTC'; SET client_min_messages = warning";
    server!(diesel::PgConnection, Pg, decode);

    fn decode(value: PgValue<'_>) -> diesel::deserialize::Result<Cell> {
        use sql_types::{BigInt, Bool, Double, Integer, SmallInt, Text};
        Ok(match value.get_oid().get() {
            16 => Cell::Int(<bool as FromSql<Bool, Pg>>::from_sql(value)?.into()),
            20 => Cell::Int(<i64 as FromSql<BigInt, Pg>>::from_sql(value)?),
            21 => Cell::Int(<i16 as FromSql<SmallInt, Pg>>::from_sql(value)?.into()),
            23 => Cell::Int(<i32 as FromSql<Integer, Pg>>::from_sql(value)?.into()),
            701 => Cell::Double(<f64 as FromSql<Double, Pg>>::from_sql(value)?),
            1114 => stamp(<chrono::NaiveDateTime as FromSql<sql_types::Timestamp, Pg>>::from_sql(value)?),
            // char, name, text, bpchar, varchar: the text itself is what is sent.
            18 | 19 | 25 | 1042 | 1043 => Cell::Text(<String as FromSql<Text, Pg>>::from_sql(value)?),
            oid => return Err(format!("the type with oid {oid} has no reader here").into()),
        })
    }
}
