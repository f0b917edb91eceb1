//! Rows of results as what they stand for, by diesel or by SQLite's own handle.

use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamp};

use super::Point;
#[cfg(feature = "mysql")]
use crate::db::any::AnyConnection;
use crate::db::candles::{CandleRow, StoredBar};
use crate::db::conn::{ConnectionBackend, Opened};
use crate::db::error::DbError;
use crate::db::sql::{Sql, Value};
use crate::db::sqlite_raw;
use crate::db::url::Backend;
use crate::domain::{Bar, Candle, Origin, Stamp, Timeframe};

const DOING: &str = "reading what is to be folded";

/// A coin, a currency and a timeframe.
pub struct Group(pub i64, pub Arc<str>, pub Timeframe);

/// One text for each currency, however often it is read.
#[derive(Default)]
pub struct Names(Vec<Arc<str>>);

impl Names {
    pub fn of(name: &Arc<str>) -> Names {
        Names(vec![name.clone()])
    }

    pub fn get(&mut self, name: &str) -> Arc<str> {
        // The same as last time, mostly.
        if let Some(at) = self.0.iter().rposition(|known| **known == *name) {
            let last = self.0.len() - 1;
            self.0.swap(at, last);
            return self.0[last].clone();
        }
        let name: Arc<str> = name.into();
        self.0.push(name.clone());
        name
    }
}

/// What a row of a result is read as.
pub trait Record: Sized {
    /// The row as diesel reads it.
    type Row: diesel::QueryableByName<ConnectionBackend> + 'static;
    /// The columns by their places, where it is worth the trouble.
    #[cfg(feature = "mysql")]
    const OF_MYSQL: Option<fn(&mysql::Row, &mut Names) -> Option<Self>> = None;
    fn of_row(row: Self::Row, names: &mut Names) -> Option<Self>;
    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Self>>;
}

/// Reads what a statement selects, the columns by their names; on SQLite by their places, on the raw
/// handle, and so the observations on MySQL.
pub fn load<T: Record>(opened: &mut Opened, select: Sql, names: &mut Names) -> Result<Vec<T>, DbError> {
    let broken = || DbError::Query { doing: DOING, why: "a row of it can't be read".to_owned() };
    if opened.conn.backend() != Backend::Sqlite {
        #[cfg(feature = "mysql")]
        if let AnyConnection::Mysql(conn) = &mut opened.conn
            && let Some(of_mysql) = T::OF_MYSQL
        {
            return mysql::load(conn, select, |row| of_mysql(row, names).ok_or_else(broken));
        }
        let rows = select.load::<T::Row>(&mut opened.conn, DOING)?;
        return rows.into_iter().map(|row| T::of_row(row, names).ok_or_else(broken)).collect();
    }
    load_below(sqlite_raw::below(opened.raw.as_ref(), DOING)?, select, names)
}

/// The same on SQLite's own handle.
pub fn load_below<T: Record>(conn: &rusqlite::Connection, select: Sql, names: &mut Names) -> Result<Vec<T>, DbError> {
    let broken = || DbError::Query { doing: DOING, why: "a row of it can't be read".to_owned() };
    let failed = |err: rusqlite::Error| sqlite_raw::failed(DOING, &err);
    let (text, values) = select.into_parts();
    let mut statement = conn.prepare_cached(&text).map_err(failed)?;
    for (place, value) in values.iter().enumerate() {
        let bound = match value {
            Value::Int(value) => statement.raw_bind_parameter(place + 1, value),
            Value::MaybeInt(value) => statement.raw_bind_parameter(place + 1, value),
            Value::Double(value) => statement.raw_bind_parameter(place + 1, value),
            Value::Text(value) => statement.raw_bind_parameter(place + 1, value),
            Value::MaybeText(value) => statement.raw_bind_parameter(place + 1, value),
        };
        bound.map_err(failed)?;
    }
    let (mut rows, mut records) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        records.push(T::of_sqlite(row, names).map_err(failed)?.ok_or_else(broken)?);
    }
    Ok(records)
}

/// MySQL's own rows: to look for each column's name takes as long as to send it.
#[cfg(feature = "mysql")]
mod mysql {
    use diesel::connection::{DefaultLoadingMode, LoadConnection};
    use diesel::deserialize::FromSql;
    use diesel::mysql::{Mysql, MysqlConnection, MysqlValue};
    use diesel::row::{Field, Row as _};
    use diesel::sql_types::{BigInt, Double, Nullable, Text, Timestamp};

    use super::{DOING, Names, Point};
    use crate::db::error::{DbError, Doing};
    use crate::db::sql::{Sql, Value};
    use crate::domain::Stamp;

    pub type Row = <MysqlConnection as LoadConnection>::Row<'static, 'static>;

    pub fn load<T>(
        conn: &mut MysqlConnection,
        select: Sql,
        mut read: impl FnMut(&Row) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let (text, values) = select.into_parts();
        let mut query = diesel::sql_query(text).into_boxed::<Mysql>();
        for value in values {
            query = match value {
                Value::Int(value) => query.bind::<BigInt, _>(value),
                Value::MaybeInt(value) => query.bind::<Nullable<BigInt>, _>(value),
                Value::Double(value) => query.bind::<Nullable<Double>, _>(value),
                Value::Text(value) => query.bind::<Text, _>(value),
                Value::MaybeText(value) => query.bind::<Nullable<Text>, _>(value),
            };
        }
        let rows = LoadConnection::<DefaultLoadingMode>::load(conn, query).doing(DOING)?;
        rows.map(|row| read(&row.doing(DOING)?)).collect()
    }

    pub fn point(row: &Row, names: &mut Names) -> Option<Point> {
        fn cell<T, ST>(row: &Row, at: usize) -> Option<T>
        where
            T: FromSql<ST, Mysql>,
        {
            T::from_sql(row.get(at)?.value()?).ok()
        }
        let vs_currency = row.get(1)?;
        let vs_currency = names.get(std::str::from_utf8(vs_currency.value().as_ref().map(MysqlValue::as_bytes)?).ok()?);
        let moment: chrono::NaiveDateTime = cell::<_, Timestamp>(row, 2)?;
        Some(Point {
            asset_id: cell::<_, BigInt>(row, 0)?,
            vs_currency,
            at: Stamp::from_datetime(moment.and_utc()).ok()?,
            price: cell::<_, Double>(row, 3)?,
            market_cap: cell::<_, Double>(row, 4),
        })
    }
}

#[derive(diesel::QueryableByName)]
pub struct PointRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(sql_type = Double)]
    price: f64,
    #[diesel(sql_type = Nullable<Double>)]
    market_cap: Option<f64>,
}

impl Record for Point {
    type Row = PointRow;
    #[cfg(feature = "mysql")]
    const OF_MYSQL: Option<fn(&mysql::Row, &mut Names) -> Option<Point>> = Some(mysql::point);

    fn of_row(row: PointRow, names: &mut Names) -> Option<Point> {
        let PointRow { asset_id, vs_currency, moment, price, market_cap } = row;
        let at = Stamp::from_datetime(moment.and_utc()).ok()?;
        Some(Point { asset_id, vs_currency: names.get(&vs_currency), at, price, market_cap })
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Point>> {
        let Some(at) = Stamp::of_text(row.get_ref(2)?.as_bytes()?) else { return Ok(None) };
        Ok(Some(Point {
            asset_id: row.get(0)?,
            vs_currency: names.get(row.get_ref(1)?.as_str()?),
            at,
            price: row.get(3)?,
            market_cap: row.get(4)?,
        }))
    }
}

#[derive(diesel::QueryableByName)]
pub struct StoredRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Text)]
    timeframe: String,
    #[diesel(sql_type = Timestamp)]
    moment: chrono::NaiveDateTime,
    #[diesel(embed)]
    bar: StoredBar,
    #[diesel(sql_type = Text)]
    origin: String,
    #[diesel(sql_type = Bool)]
    is_final: bool,
}

impl Record for CandleRow {
    type Row = StoredRow;

    fn of_row(row: StoredRow, names: &mut Names) -> Option<CandleRow> {
        let bar = row.bar.bar();
        let candle = Candle {
            timeframe: row.timeframe.parse().ok()?,
            open_time: Stamp::from_datetime(row.moment.and_utc()).ok()?,
            bar,
            origin: Origin::of_name(&row.origin)?,
            is_final: row.is_final,
        };
        Some(CandleRow { asset_id: row.asset_id, vs_currency: names.get(&row.vs_currency), candle })
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<CandleRow>> {
        let bar = Bar {
            open: row.get(4)?,
            high: row.get(5)?,
            low: row.get(6)?,
            close: row.get(7)?,
            volume: row.get(8)?,
            base_volume: row.get(9)?,
            market_cap: row.get(10)?,
            samples: row.get(11)?,
        };
        let timeframe = row.get_ref(2)?.as_str()?.parse();
        let open_time = Stamp::of_text(row.get_ref(3)?.as_bytes()?);
        let origin = Origin::of_name(row.get_ref(12)?.as_str()?);
        let (Ok(timeframe), Some(open_time), Some(origin)) = (timeframe, open_time, origin) else { return Ok(None) };
        let candle = Candle { timeframe, open_time, bar, origin, is_final: row.get(13)? };
        Ok(Some(CandleRow { asset_id: row.get(0)?, vs_currency: names.get(row.get_ref(1)?.as_str()?), candle }))
    }
}

#[derive(diesel::QueryableByName)]
pub struct GroupRow {
    #[diesel(sql_type = BigInt)]
    asset_id: i64,
    #[diesel(sql_type = Text)]
    vs_currency: String,
    #[diesel(sql_type = Text)]
    timeframe: String,
}

impl Record for Group {
    type Row = GroupRow;

    fn of_row(row: GroupRow, names: &mut Names) -> Option<Group> {
        Some(Group(row.asset_id, names.get(&row.vs_currency), row.timeframe.parse().ok()?))
    }

    fn of_sqlite(row: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Option<Group>> {
        let timeframe = row.get_ref(2)?.as_str()?.parse().ok();
        let (asset_id, vs_currency) = (row.get(0)?, names.get(row.get_ref(1)?.as_str()?));
        Ok(timeframe.map(|timeframe| Group(asset_id, vs_currency, timeframe)))
    }
}
