//! PostgreSQL sends all observations in one breath: its rows lie in the order they came in, not in that
//! of the key, and sorting them once is faster than looking up one after the other.

use std::io::BufRead;
use std::sync::Arc;

use diesel::connection::SimpleConnection;

use super::records::Names;
use super::{Feed, Point};
use crate::db::any::AnyConnection;
use crate::db::bulk::postgres::{CopyInto, Target, copy_out};
use crate::db::conn::Opened;
use crate::db::error::{DbError, Doing, classify};
use crate::db::pg_copy::{EPOCH_2000_US, HEADER};
use crate::domain::Stamp;

const DOING: &str = "reading prices";

struct Prices;

impl CopyInto for Prices {
    // A statement of this kind takes no values.
    const TABLE: &'static str = "(SELECT asset_id, vs_currency, observed_at, price, market_cap FROM prices \
                                 WHERE price IS NOT NULL AND asset_id > CAST(current_setting('coinetl.after') AS bigint) \
                                 ORDER BY asset_id, vs_currency, observed_at)";
}

/// Hands the observations of all coins behind one to `work`, in the order of coin, currency and time.
/// They are those of one moment, however long it takes.
pub fn with_points<R>(
    opened: &mut Opened,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    let AnyConnection::Postgres(conn) = &mut opened.conn else {
        return Err(DbError::Query { doing: DOING, why: "the database is another".to_owned() });
    };
    conn.batch_execute(&format!("SET coinetl.after = '{after_asset}'; SET work_mem = '64MB'")).doing(DOING)?;
    let input = copy_out(conn, Target::<Prices>::new()).doing(DOING)?;
    let mut points = Copied { input, names: Names::default(), began: false, text: Vec::new() };
    work(&mut points)
}

/// Rows in the binary format of `COPY`.
struct Copied<R> {
    input: R,
    names: Names,
    began: bool,
    text: Vec<u8>,
}

impl<R: BufRead> Copied<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DbError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// A field of eight bytes.
    fn field(&mut self) -> Result<Option<[u8; 8]>, DbError> {
        match i32::from_be_bytes(self.bytes()?) {
            8 => Ok(Some(self.bytes()?)),
            -1 => Ok(None),
            length => Err(odd(format!("a field of {length} bytes"))),
        }
    }

    fn text(&mut self) -> Result<Arc<str>, DbError> {
        let length = i32::from_be_bytes(self.bytes()?);
        self.text.resize(usize::try_from(length).map_err(|_| odd("a currency is missing".to_owned()))?, 0);
        self.input.read_exact(&mut self.text).map_err(failed)?;
        let text = std::str::from_utf8(&self.text).map_err(|err| odd(err.to_string()))?;
        Ok(self.names.get(text))
    }
}

impl<R: BufRead> Feed<Point> for Copied<R> {
    fn next(&mut self) -> Result<Option<Point>, DbError> {
        if !self.began {
            let header: [u8; HEADER.len()] = self.bytes()?;
            if header != *HEADER {
                return Err(odd("an unknown form of COPY".to_owned()));
            }
            self.began = true;
        }
        match i16::from_be_bytes(self.bytes()?) {
            5 => {}
            -1 => return Ok(None),
            fields => return Err(odd(format!("a row of {fields} fields"))),
        }
        let missing = || odd("a value is missing".to_owned());
        let asset_id = i64::from_be_bytes(self.field()?.ok_or_else(missing)?);
        let vs_currency = self.text()?;
        let micros = i64::from_be_bytes(self.field()?.ok_or_else(missing)?) + EPOCH_2000_US;
        let price = f64::from_be_bytes(self.field()?.ok_or_else(missing)?);
        let market_cap = self.field()?.map(f64::from_be_bytes);
        let at = Stamp::from_millis(micros.div_euclid(1000)).map_err(|err| odd(err.to_string()))?;
        Ok(Some(Point { asset_id, vs_currency, at, price, market_cap }))
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
