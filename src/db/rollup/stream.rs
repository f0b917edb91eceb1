//! PostgreSQL sends all observations in one breath: in the order in which its rows lie, which is the one
//! they came in, or in that of the key, for which it sorts them. The former takes a quarter of the time.

use std::io::BufRead;

use diesel::connection::SimpleConnection;

use super::records::Names;
use super::{Feed, Point};
use crate::db::any::AnyConnection;
use crate::db::bulk::postgres::{CopyInto, Target, copy_out};
use crate::db::conn::{Absent, open};
use crate::db::error::{DbError, Doing, classify};
use crate::db::pg_copy::{EPOCH_2000_US, HEADER};
use crate::db::url::DatabaseUrl;
use crate::domain::Stamp;

const DOING: &str = "reading prices";

/// A statement of this kind takes no values. The sub-select is worked out once, a bare setting for each row.
macro_rules! behind {
    ($order:literal) => {
        concat!(
            "(SELECT asset_id, vs_currency, observed_at, price, market_cap FROM prices WHERE price IS NOT NULL ",
            "AND asset_id > (SELECT CAST(current_setting('coinetl.after') AS bigint))",
            $order,
            ")"
        )
    };
}

/// Without conditions, which take a tenth of the time. As a query: a `COPY` of the table itself would leave
/// out what somebody has moved into partitions.
struct All;
struct AsTheyLie;
struct ByKey;

impl CopyInto for All {
    const TABLE: &'static str = "(SELECT asset_id, vs_currency, observed_at, price, market_cap FROM prices)";
}

impl CopyInto for AsTheyLie {
    const TABLE: &'static str = behind!("");
}

impl CopyInto for ByKey {
    const TABLE: &'static str = behind!(" ORDER BY asset_id, vs_currency, observed_at");
}

/// Hands the observations of all coins behind one to `work`, in the order of coin, currency and time.
/// They are those of one moment, however long it takes.
pub fn by_key<R>(
    url: &DatabaseUrl,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    with_points::<ByKey, R>(url, after_asset, work)
}

/// The same in whatever order they lie.
pub fn as_they_lie<R>(
    url: &DatabaseUrl,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    match after_asset {
        0 => with_points::<All, R>(url, after_asset, work),
        _ => with_points::<AsTheyLie, R>(url, after_asset, work),
    }
}

fn with_points<T: CopyInto, R>(
    url: &DatabaseUrl,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    // A connection that does nothing else as long as it takes, and can be left in the middle of it.
    let mut opened = open(url, Absent::Fail)?;
    let AnyConnection::Postgres(conn) = &mut opened.conn else {
        return Err(DbError::Query { doing: DOING, why: "the database is another".to_owned() });
    };
    conn.batch_execute(&format!("SET coinetl.after = '{after_asset}'; SET work_mem = '64MB'")).doing(DOING)?;
    let input = copy_out(conn, Target::<T>::new()).doing(DOING)?;
    work(&mut Copied { input, names: Names::default(), began: false })
}

/// Rows in the binary format of `COPY`.
struct Copied<R> {
    input: R,
    names: Names,
    began: bool,
}

impl<R: BufRead> Feed<Point> for Copied<R> {
    fn next(&mut self) -> Result<Option<Point>, DbError> {
        loop {
            // The server sends each row as a message of its own, the first one behind the header.
            let sent = self.input.fill_buf().map_err(failed)?;
            let mut row = Row(sent);
            if !self.began {
                if row.take::<{ HEADER.len() }>()? != *HEADER {
                    return Err(odd("an unknown form of COPY".to_owned()));
                }
                self.began = true;
            }
            match i16::from_be_bytes(row.take()?) {
                5 => {}
                -1 => return Ok(None),
                fields => return Err(odd(format!("a row of {fields} fields"))),
            }
            let missing = || odd("a value is missing".to_owned());
            let asset_id = i64::from_be_bytes(row.field()?.ok_or_else(missing)?);
            let vs_currency = self.names.get(row.text()?);
            let micros = i64::from_be_bytes(row.field()?.ok_or_else(missing)?) + EPOCH_2000_US;
            let price = row.field()?.map(f64::from_be_bytes);
            let market_cap = row.field()?.map(f64::from_be_bytes);
            let used = sent.len() - row.0.len();
            self.input.consume(used);
            if let Some(price) = price {
                let at = Stamp::from_millis(micros.div_euclid(1000)).map_err(|err| odd(err.to_string()))?;
                return Ok(Some(Point { asset_id, vs_currency, at, price, market_cap }));
            }
        }
    }
}

/// What is left of a row's bytes.
struct Row<'a>(&'a [u8]);

impl<'a> Row<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DbError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(|| odd("a row was cut off".to_owned()))?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// A field of eight bytes.
    fn field(&mut self) -> Result<Option<[u8; 8]>, DbError> {
        match i32::from_be_bytes(self.take()?) {
            8 => Ok(Some(self.take()?)),
            -1 => Ok(None),
            length => Err(odd(format!("a field of {length} bytes"))),
        }
    }

    fn text(&mut self) -> Result<&'a str, DbError> {
        let length = usize::try_from(i32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX);
        let (text, rest) =
            self.0.split_at_checked(length).ok_or_else(|| odd("a currency is missing or cut off".to_owned()))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|err| odd(err.to_string()))
    }
}

/// The server's own words come as an error of reading.
fn failed(err: std::io::Error) -> DbError {
    let kind = diesel::result::DatabaseErrorKind::Unknown;
    classify(DOING, &diesel::result::Error::DatabaseError(kind, Box::new(err.to_string())))
}

fn odd(why: String) -> DbError {
    DbError::Query { doing: DOING, why }
}
